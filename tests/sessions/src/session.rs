//! A session under way, with each of its parts by name.

use crate::{Process, processes};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_rig::Rig;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A part of a session that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `rcc` itself.
    Launcher,
    /// `podman run`.
    Podman,
    /// Podman's monitor of the container.
    Conmon,
    /// The container's first process.
    Init,
    /// The program that runs in the container.
    Agent,
    /// What stays of the hook.
    Watchdog,
    /// The gateway's process of this session.
    Worker,
    /// The gateway's process of all sessions.
    Supervisor,
}

/// A session whose program runs.
pub struct Live {
    /// `rcc`.
    pub child: Child,
    /// What the program inside prints.
    pub stdout: BufReader<ChildStdout>,
    /// What the program inside reads.
    pub stdin: Option<ChildStdin>,
    mark: String,
}

impl Live {
    /// A session in the rig's project, in which `script` runs after the session has said that it lives. The script's
    /// processes are known by a mark in their arguments.
    pub fn start(rig: &Rig<'_>, script: &str) -> Result<Self> {
        Self::start_in(rig, &rig.project, script)
    }

    /// The same in another project.
    pub fn start_in(rig: &Rig<'_>, project: &Path, script: &str) -> Result<Self> {
        Self::command(rig, project, script, |_| {})
    }

    /// The same, with something said to the command first.
    pub fn command(rig: &Rig<'_>, project: &Path, script: &str, adjust: impl FnOnce(&mut Command)) -> Result<Self> {
        let mark = rig.world.token();
        let script = format!("echo live\n{script}");
        let mut command = rig.rcc(["run", "--", "/bin/bash", "-c", &script, &mark]);
        command.current_dir(project).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        adjust(&mut command);
        let mut child = command.spawn().context("starting rcc")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut this = Self { child, stdout, stdin, mark };
        if this.line()? != "live" {
            bail!("the session did not start: {}", this.end()?.1);
        }
        Ok(this)
    }

    /// A session that does nothing until it is ended.
    pub fn idle(rig: &Rig<'_>) -> Result<Self> {
        Self::start(rig, "while :; do sleep 1000; done")
    }

    /// The next line that the program prints, without its end.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end_matches('\n').to_owned())
    }

    /// Waits for `rcc`'s end: its status and what it said on standard error.
    pub fn end(&mut self) -> Result<(ExitStatus, String)> {
        let end = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                self.child.kill()?;
                bail!("rcc did not end within 30 s; these live:\n{:#?}", processes());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait()?;
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Something that was killed half-way may still hold the pipe; what is there by now is enough.
            nix::fcntl::fcntl(&stderr, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
            let mut bytes = Vec::new();
            let _would_block = stderr.read_to_end(&mut bytes);
            said = String::from_utf8_lossy(&bytes).into_owned();
        }
        Ok((status, said))
    }

    /// Sends a signal to `rcc`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// The processes of the program inside.
    #[must_use]
    pub fn agent(&self) -> Vec<Process> {
        agent(&self.mark)
    }

    /// The process that is one part of this session.
    pub fn part(&self, which: Part) -> Result<i32> {
        part(i32::try_from(self.child.id())?, &self.mark, which)
    }

    /// Kills one part as `kill -9` does.
    pub fn kill(&self, part: Part) -> Result<()> {
        Ok(kill(Pid::from_raw(self.part(part)?), Signal::SIGKILL)?)
    }

    /// Demands that no process of the program inside lives after `patience`; gives how long it took.
    pub fn is_dead_within(&self, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let alive = self.agent();
            if alive.is_empty() {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < patience, "the agent lives after {patience:?}: {alive:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The processes of a program in a session, known by a mark in their arguments.
#[must_use]
pub fn agent(mark: &str) -> Vec<Process> {
    let inside = |p: &Process| {
        let is_rcc = p.name == "rcc" || p.name == "podman" || p.name == "conmon" || p.line.starts_with("/run/rcc/init");
        p.line.contains(mark) && !is_rcc
    };
    processes().into_iter().filter(inside).collect()
}

/// The process that is one part of the session of a launcher and a mark.
pub fn part(rcc: i32, mark: &str, which: Part) -> Result<i32> {
    let all = processes();
    let find = |what: &dyn Fn(&Process) -> bool| all.iter().find(|p| what(p)).map(|p| p.pid);
    let init = || find(&|p| p.line.starts_with("/run/rcc/init") && p.line.contains(mark));
    let found = match which {
        Part::Launcher => Some(rcc),
        Part::Podman => find(&|p| p.parent == rcc && p.name == "podman"),
        Part::Conmon => init().and_then(|i| all.iter().find(|p| p.pid == i)).map(|p| p.parent),
        Part::Init => init(),
        Part::Agent => agent(mark).first().map(|p| p.pid),
        // With one session at a time there is one of each.
        Part::Watchdog => find(&|p| p.name == "rcc-watchdog"),
        Part::Worker => find(&|p| p.line.contains("rcc-gateway worker") || p.line.starts_with("/proc/self/exe worker")),
        Part::Supervisor => find(&|p| p.line.ends_with("rcc-gateway serve")),
    };
    found.with_context(|| format!("no {which:?} in {all:#?}"))
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ = self.child.wait();
    }
}
