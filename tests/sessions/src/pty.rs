//! A person at a terminal: a shell with job control on a pty, driven by keystrokes, seen by what comes to the screen.
//!
//! The shell's prompt shows the last exit code in a form that no keystroke here echoes. Its lines are edited by the
//! kernel, not by readline, so that every byte on the screen is the session's or an echo.

use crate::{Part, Process, agent, part, processes};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rcc_rig::Rig;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything on the screen may take, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with a person's shell in it.
pub struct Pty {
    /// What the terminal's program (the test) holds.
    master: Option<File>,
    shell: Child,
    /// All that came to the screen.
    seen: Vec<u8>,
    /// How much of it was looked at.
    read: usize,
    /// How late the terminal answers questions; None if it never does.
    answers_after: Option<Duration>,
    /// Answers to be given.
    due: VecDeque<(Instant, &'static str)>,
    /// In the arguments of what runs in sessions from here.
    mark: String,
}

/// Questions that terminals answer (xterm's "Control Sequences"): where the cursor is, how it does, what it is.
const ANSWERS: [(&str, &str); 3] = [("\x1b[6n", "\x1b[12;34R"), ("\x1b[5n", "\x1b[0n"), ("\x1b[c", "\x1b[?62;1;6;22c")];

impl Pty {
    /// The user's shell in the rig's project, at its first prompt.
    pub fn start(rig: &Rig<'_>, rows: u16, columns: u16) -> Result<Self> {
        let OpenptyResult { master, slave } = openpty(&size(rows, columns), None)?;
        // Whoever holds the master keeps the terminal from being hung up.
        for fd in [&master, &slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        std::os::unix::fs::fchown(&slave, Some(rig.user.id), None)?;
        let mut command = rig.rcc([] as [&str; 0]);
        let environment: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        command = rig.command("/bin/bash");
        command.args(["--norc", "--noprofile", "--noediting", "-i"]).envs(environment).env("PS1", "\n<$?> ");
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
        with_usual_signals(&mut command);
        // SAFETY: setsid and ioctl are async-signal-safe; 0 is the slave.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
        let shell = command.spawn().context("starting the shell")?;
        let mark = rig.world.token();
        let mut this = Self {
            master: Some(File::from(master)),
            shell,
            seen: Vec::new(),
            read: 0,
            answers_after: Some(Duration::ZERO),
            due: VecDeque::new(),
            mark,
        };
        this.prompt(0)?;
        Ok(this)
    }

    /// Presses keys.
    pub fn keys(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.as_ref().context("the terminal was closed")?.write_all(keys.as_bytes())?)
    }

    /// Types a command.
    pub fn command(&mut self, command: &str) -> Result<()> {
        self.keys(&format!("{command}\n"))
    }

    /// Types a call of rcc that runs a script of bash in a session; its processes are [`Pty::agent`].
    pub fn run(&mut self, rig: &Rig<'_>, script: &str) -> Result<()> {
        self.run_then(rig, script, "")
    }

    /// The same, with something after the call on the command line.
    pub fn run_then(&mut self, rig: &Rig<'_>, script: &str, then: &str) -> Result<()> {
        std::fs::write(rig.project.join("script"), script)?;
        let mark = self.mark.clone();
        self.command(&format!("rcc run -- /bin/bash ./script {mark}{then}"))
    }

    /// Waits until `text` comes to the screen after what was looked at; gives all up to its end.
    pub fn until(&mut self, text: &str) -> Result<String> {
        let found = self.until_bytes(text.as_bytes())?;
        found.with_context(|| format!("no {text:?} on the screen:\n{}\nthere are\n{}", self.screen(), self.family()))
    }

    fn until_bytes(&mut self, text: &[u8]) -> Result<Option<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let new = &self.seen[self.read..];
            if let Some(at) = new.windows(text.len()).position(|w| w == text) {
                let found = String::from_utf8_lossy(&new[..at + text.len()]).into_owned();
                self.read += at + text.len();
                return Ok(Some(found));
            }
            if Instant::now() > end || !self.look(Duration::from_millis(200))? {
                return Ok(None);
            }
        }
    }

    /// Waits for the shell's prompt after a command that ended with `code`; gives what came before it.
    pub fn prompt(&mut self, code: u8) -> Result<String> {
        let before = self.until("\n<")?;
        let shown = self.until("> ")?;
        ensure!(shown == format!("{code}> "), "not {code} but {shown}:\n{}", self.screen());
        Ok(before)
    }

    /// What comes to the screen within `time`.
    pub fn within(&mut self, time: Duration) -> Result<String> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if !self.look(left)? {
                break;
            }
        }
        let new = String::from_utf8_lossy(&self.seen[self.read..]).into_owned();
        self.read = self.seen.len();
        Ok(new)
    }

    /// What a command of the shell prints on one line.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        self.command(&format!("echo \"[[\"$({command})\"]]\""))?;
        // The echo of the keys has a quotation mark there.
        self.until("\n[[")?;
        let answer = self.until("]]")?;
        self.prompt(0)?;
        Ok(answer.trim_end_matches(']').to_owned())
    }

    /// From now on the terminal answers questions as late as over a slow line, or never.
    pub fn answer_after(&mut self, late: Option<Duration>) {
        self.answers_after = late;
    }

    /// Gives the terminal's window another size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let master = self.master.as_ref().context("the terminal was closed")?;
        // SAFETY: the structure lives through the call.
        nix::errno::Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size(rows, columns)) })?;
        Ok(())
    }

    /// Closes the window.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    /// All that came to the screen, readable.
    #[must_use]
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).escape_debug().to_string().replace("\\r\\n", "\n")
    }

    /// The processes of the program inside.
    #[must_use]
    pub fn agent(&self) -> Vec<Process> {
        agent(&self.mark)
    }

    /// The launcher that the shell runs.
    pub fn rcc(&self) -> Result<i32> {
        let found = processes().into_iter().find(|p| p.name == "rcc" && p.line.contains(&self.mark));
        found.map(|p| p.pid).context("rcc does not run")
    }

    /// Waits until nothing is left of a session from here but its records.
    pub fn all_end(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.family().is_empty() {
            ensure!(Instant::now() < end, "there are still\n{}\n{}", self.family(), self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// All processes of a session from here, with what they wait for.
    fn family(&self) -> String {
        let ours = processes().into_iter().filter(|p| p.line.contains(&self.mark));
        let shown = ours.map(|p| {
            let call = std::fs::read_to_string(format!("/proc/{}/syscall", p.pid)).unwrap_or_default();
            format!("{} below {}: {} {}, in system call {call}", p.pid, p.parent, p.state, p.name)
        });
        shown.collect()
    }

    /// Kills one part as `kill -9` does.
    pub fn kill(&self, which: Part) -> Result<()> {
        Ok(kill(Pid::from_raw(part(self.rcc()?, &self.mark, which)?), Signal::SIGKILL)?)
    }

    /// Waits until the processes of the program inside are as they should be.
    pub fn agent_becomes(&self, what: &str, holds: impl Fn(&[Process]) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.agent()) {
            ensure!(Instant::now() < end, "the agent is not {what}: {:#?}\n{}", self.agent(), self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Takes in what is there, after waiting for it. False when the terminal is closed.
    fn look(&mut self, patience: Duration) -> Result<bool> {
        let next = self.due.front().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        // A part of a millisecond more, as poll counts whole ones.
        let timeout = PollTimeout::try_from(next.map_or(patience, |n| n.min(patience)) + Duration::from_millis(1))?;
        let Some(master) = &mut self.master else { bail!("the terminal was closed") };
        while self.due.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let answer = self.due.pop_front().map_or("", |(_, answer)| answer);
            master.write_all(answer.as_bytes())?;
        }
        let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout)? == 0 {
            return Ok(true);
        }
        let mut buffer = [0; 4096];
        match master.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                let before = self.seen.len();
                self.seen.extend_from_slice(&buffer[..n]);
                self.questions(before);
                Ok(true)
            }
            // Nobody has the other side open.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Notes the answers to questions whose last byte came after the first `before` bytes, in their order.
    fn questions(&mut self, before: usize) {
        let Some(late) = self.answers_after else { return };
        for end in before + 1..=self.seen.len() {
            let asked = ANSWERS.iter().find(|(question, _)| self.seen[..end].ends_with(question.as_bytes()));
            self.due.extend(asked.map(|(_, answer)| (Instant::now() + late, *answer)));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // The shell ends as at the end of a terminal, and takes its jobs along.
        self.master = None;
        let end = Instant::now() + PATIENCE;
        while matches!(self.shell.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ended_already = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// What the tests' own caller ignores or blocks, a login's shell does not.
pub fn with_usual_signals(command: &mut Command) {
    // SAFETY: signal and sigprocmask are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE] {
                libc::signal(number, libc::SIG_DFL);
            }
            Ok(SigSet::empty().thread_set_mask()?)
        });
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
