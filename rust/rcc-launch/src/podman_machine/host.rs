//! Runs what [`super::call`] and [`super::guest`] write, and reads back what came of it.

use super::call::{self, Act, Terminal};
use super::record::{self, Record, State};
use super::{Places, Size, guest};
use crate::hex::hex;
use nix::fcntl::{Flock, FlockArg};
use rcc_report::{Code, Problem, escaped};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// rcc's own program among Podman's helpers.
const SHIM: &str = "gvproxy";
/// By this it only tries a port, with its group.
const PROBE: &str = "rcc-probe";
/// How long a machine may be on its way from one state to another.
const BETWEEN: Duration = Duration::from_secs(60);

/// The machine, and the programs by which it is reached.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where things of it are.
    pub places: Places,
    /// The person's home folder.
    pub home: PathBuf,
    /// Podman's absolute path.
    pub podman: PathBuf,
    /// ssh's.
    pub ssh: PathBuf,
    /// The folder of rcc's programs of this version: `gvproxy`, and Linux's for the machine.
    pub programs: PathBuf,
    /// rcc's version.
    pub version: &'static str,
    /// How large a machine is made.
    pub size: Size,
    /// Reads a program of rcc's: only what root alone can have written.
    pub read: fn(&Path) -> io::Result<Vec<u8>>,
}

/// What a session holds while it runs in the machine: nobody stops it meanwhile.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "held until it is dropped")] Flock<File>);

impl Host {
    /// Brings the machine up with this folder in it, ready for sessions, and tries that it is closed. The folder is added if
    /// no session runs; otherwise that is a problem. The policy's text is root's on the Mac.
    pub fn ready(&self, folder: &Path, policy: &str) -> Result<Held, Problem> {
        self.folders_of_its_own()?;
        // One at a time makes, changes or starts it.
        let alone = self.turn(FlockArg::LockExclusiveNonblock)?;
        let running = self.state()? == Some(State::Running);
        let known = if running { self.record()?.folders()?.iter().any(|f| f == folder) } else { false };
        let held = match (running && known, alone) {
            (true, Some(alone)) => share(alone)?,
            (true, None) => self.turn(FlockArg::LockSharedNonblock)?.ok_or_else(|| busy("being changed"))?,
            (false, Some(alone)) => {
                self.bring_up(folder)?;
                share(alone)?
            }
            (false, None) if running => return Err(not_among(folder)),
            (false, None) => return Err(busy("being started or changed by another rcc")),
        };
        // From here on it can't be stopped by rcc.
        let record = self.record()?;
        self.prepare(&record, policy)?;
        self.try_it(&record)?;
        Ok(Held(held))
    }

    /// Makes the machine if there is none, gives it its folders, and starts it. Nobody uses it meanwhile.
    fn bring_up(&self, folder: &Path) -> Result<(), Problem> {
        if self.state()?.is_none() {
            self.podman(Act::Init(self.size))?;
        }
        if self.settled()? == Some(State::Running) {
            self.podman(Act::Stop)?;
        }
        let mut record = self.record()?;
        let mut folders = record.folders()?;
        // One that is gone keeps the machine from starting.
        folders.retain(|known| known != folder && known.is_dir());
        folders.push(folder.to_owned());
        record.give(&folders)?;
        self.write_record(&record)?;
        self.podman(Act::Start)?;
        let now = self.record()?;
        if self.settled()? != Some(State::Running) || now.folders()? != folders {
            return Err(foreign("it was started, and is not as it was to be"));
        }
        Ok(())
    }

    /// Takes a folder from those that the machine sees. True if it had it.
    pub fn forget(&self, folder: &Path) -> Result<bool, Problem> {
        let _alone = self.turn(FlockArg::LockExclusiveNonblock)?.ok_or_else(|| busy("used by sessions"))?;
        if self.settled()?.is_none() {
            return Ok(false);
        }
        let mut record = self.record()?;
        let folders = record.folders()?;
        let rest: Vec<PathBuf> = folders.iter().filter(|known| *known != folder).cloned().collect();
        if rest == folders {
            return Ok(false);
        }
        if self.settled()? == Some(State::Running) {
            self.podman(Act::Stop)?;
        }
        record.give(&rest)?;
        self.write_record(&record)?;
        Ok(true)
    }

    /// Stops it. False if it did not run.
    pub fn stop(&self) -> Result<bool, Problem> {
        let _alone = self.turn(FlockArg::LockExclusiveNonblock)?.ok_or_else(|| busy("used by sessions"))?;
        if self.settled()? != Some(State::Running) {
            return Ok(false);
        }
        self.podman(Act::Stop)?;
        match self.settled()? {
            Some(State::Running) => Err(foreign("it was stopped, and runs")),
            _ => Ok(true),
        }
    }

    /// Takes it away with all that is in it. False if there was none.
    pub fn remove(&self) -> Result<bool, Problem> {
        let alone = self.turn(FlockArg::LockExclusiveNonblock)?.ok_or_else(|| busy("used by sessions"))?;
        if self.state()?.is_none() {
            return Ok(false);
        }
        self.podman(Act::Remove)?;
        // Its key to ssh is another one when it is made anew.
        let _absent = fs::remove_file(self.places.known_hosts());
        drop(alone);
        match self.state()? {
            None => Ok(true),
            Some(_) => Err(foreign("it was removed, and is there")),
        }
    }

    /// What it is now; nothing where there is none.
    pub fn state(&self) -> Result<Option<State>, Problem> {
        if !self.places.record().exists() {
            return Ok(None);
        }
        let output = self.run(Act::Inspect)?;
        if !output.status.success() {
            return Err(failed(Act::Inspect, &output));
        }
        record::state(&String::from_utf8_lossy(&output.stdout)).map(Some)
    }

    /// The same, when it is not between two states any more.
    fn settled(&self) -> Result<Option<State>, Problem> {
        let until = Instant::now() + BETWEEN;
        loop {
            match self.state()? {
                Some(State::Between) if Instant::now() < until => std::thread::sleep(Duration::from_millis(500)),
                Some(State::Between) => return Err(foreign("it neither starts nor stops")),
                other => return Ok(other),
            }
        }
    }

    /// Podman's record of it.
    pub fn record(&self) -> Result<Record, Problem> {
        let path = self.places.record();
        let text = fs::read_to_string(&path).map_err(|e| foreign(&format!("{}: {e}", path.display())))?;
        Record::parse(&text)
    }

    fn write_record(&self, record: &Record) -> Result<(), Problem> {
        let path = self.places.record();
        let new = path.with_extension("rcc-new");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(record.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| foreign(&format!("{}: {e}", path.display())))?;
        if self.record()? == *record { Ok(()) } else { Err(foreign("its record was written, and reads differently")) }
    }

    /// Puts rcc's programs into the machine if it has others, and makes it ready.
    fn prepare(&self, record: &Record, policy: &str) -> Result<(), Problem> {
        let failed = |what: String| {
            let remedy = "rcc machine remove    (and start again)";
            Problem::new(Code::MACHINE_PREPARE, "the agents' machine", what, remedy)
        };
        let mut programs = Vec::new();
        for (beside, name) in guest::PROGRAMS {
            let path = self.programs.join(beside);
            let bytes = (self.read)(&path).map_err(|e| failed(format!("{}: {e}", path.display())))?;
            programs.push((name, bytes));
        }
        let hashes: Vec<_> = programs.iter().map(|(name, bytes)| (*name, hex(&Sha256::digest(bytes)))).collect();
        let has = guest::has(self.version, &hashes);
        if self.in_machine(record, &has, &[])?.status.success() {
            return self.run_as_root(record, &guest::prepare(self.version, policy, &record.folders()?)).map_err(failed);
        }
        for (name, bytes) in &programs {
            let output = self.in_machine(record, &guest::put(self.version, name), bytes)?;
            if !output.status.success() {
                return Err(failed(format!("{name}: {}", last_words(&output))));
            }
        }
        if !self.in_machine(record, &has, &[])?.status.success() {
            return Err(failed("they were copied there, and are not there".into()));
        }
        self.run_as_root(record, &guest::prepare(self.version, policy, &record.folders()?)).map_err(failed)
    }

    fn run_as_root(&self, record: &Record, script: &str) -> Result<(), String> {
        let output = self.in_machine(record, "sudo /bin/sh", script.as_bytes()).map_err(|problem| problem.what)?;
        if output.status.success() { Ok(()) } else { Err(last_words(&output)) }
    }

    /// Tries a port of this Mac's loopback on which somebody listens: by gvproxy's group, and from within the machine. Both must
    /// be refused, while this process itself is let in.
    fn try_it(&self, record: &Record) -> Result<(), Problem> {
        let open = |what: &str| {
            let remedy = "sudo rcc-firewall apply    (and see: rcc status)";
            Problem::new(Code::MACHINE_OPEN, "the agents' machine", what, remedy)
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| open(&e.to_string()))?;
        let port = listener.local_addr().map_err(|e| open(&e.to_string()))?.port();
        // The control, before each attempt and after the last: somebody does listen there.
        let listens = || {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            connected.map(drop).map_err(|e| open(&format!("the canary's own port: {e}")))
        };
        listens()?;
        let shim = self.programs.join(SHIM);
        let mut probe = Command::new(&shim);
        probe.args([PROBE, &port.to_string()]).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let status = probe.status().map_err(|e| open(&format!("{}: {e}", shim.display())))?;
        match status.code() {
            Some(0) => {}
            Some(1) => return Err(open("pf lets gvproxy's group reach this Mac's loopback")),
            _ => return Err(open(&format!("{} could not try it: {status}", shim.display()))),
        }
        listens()?;
        let output = self.in_machine(record, &guest::canary(port), &[])?;
        listens()?;
        match String::from_utf8_lossy(&output.stdout).trim() {
            "closed" if output.status.success() => Ok(()),
            "open" => Err(open("the machine's root reaches this Mac's loopback")),
            _ => Err(open(&format!("it could not be tried from within: {}", last_words(&output)))),
        }
    }

    /// Puts a session's ticket into the machine; the name of its file there.
    pub fn hand_over(&self, record: &Record, ticket: &str) -> Result<String, Problem> {
        let output = self.in_machine(record, &guest::take_ticket(), ticket.as_bytes())?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let plain = name.starts_with('/') && name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        if output.status.success() && plain {
            return Ok(name);
        }
        let what = format!("the session's ticket could not be put there: {}", last_words(&output));
        Err(Problem::new(Code::MACHINE_PREPARE, "the agents' machine", what, "rcc machine stop    (and start again)"))
    }

    /// ssh with the person's own standard streams, for `rcc` in the machine.
    pub fn for_person(&self, record: &Record, terminal: Terminal, command: &str) -> Result<Command, Problem> {
        let mut ssh = Command::new(&self.ssh);
        ssh.args(call::ssh(&self.places, record.user()?, terminal, command)).env_clear().envs(self.ssh_environment());
        Ok(ssh)
    }

    /// A command in the machine, with these bytes on its standard input.
    fn in_machine(&self, record: &Record, command: &str, input: &[u8]) -> Result<Output, Problem> {
        let mut ssh = self.for_person(record, Terminal::No, command)?;
        output(&mut ssh, input).map_err(|e| absent(&self.ssh, &e))
    }

    fn ssh_environment(&self) -> [(&'static str, OsString); 2] {
        [("HOME", self.home.clone().into()), ("PATH", "/usr/bin:/bin".into())]
    }

    fn podman(&self, act: Act) -> Result<(), Problem> {
        let output = self.run(act)?;
        if output.status.success() { Ok(()) } else { Err(failed(act, &output)) }
    }

    fn run(&self, act: Act) -> Result<Output, Problem> {
        let mut podman = Command::new(&self.podman);
        podman.args(act.arguments()).env_clear();
        podman.envs(call::environment(&self.places, &self.home, &self.programs)).current_dir(self.places.root());
        output(&mut podman, &[]).map_err(|e| absent(&self.podman, &e))
    }

    fn folders_of_its_own(&self) -> Result<(), Problem> {
        let make = || {
            for folder in [self.places.config(), self.places.data(), self.places.run()] {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let conf = self.places.containers_conf();
            let text = call::containers_conf(&self.programs);
            if fs::read_to_string(&conf).ok().as_deref() != Some(text.as_str()) {
                fs::write(&conf, text)?;
            }
            Ok(())
        };
        make().map_err(|e: io::Error| foreign(&format!("{}: {e}", self.places.root().display())))
    }

    /// The lock of the sessions; nothing if others hold it.
    fn turn(&self, how: FlockArg) -> Result<Option<Flock<File>>, Problem> {
        self.folders_of_its_own()?;
        let path = self.places.sessions();
        let failed = |e: &dyn std::fmt::Display| foreign(&format!("{}: {e}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.custom_flags(libc::O_NOFOLLOW).open(&path).map_err(|e| failed(&e))?;
        match Flock::lock(file, how) {
            Ok(held) => Ok(Some(held)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(failed(&e)),
        }
    }
}

fn busy(how: &str) -> Problem {
    let what = format!("it is {how}");
    Problem::new(Code::MACHINE_BUSY, "the agents' machine", what, "end the sessions in it, and try again")
}

fn foreign(what: &str) -> Problem {
    let remedy = "rcc machine remove    (takes it away with all that is in it; the next start makes it anew)";
    Problem::new(Code::MACHINE_FOREIGN, "the agents' machine", what, remedy)
}

fn failed(act: Act, output: &Output) -> Problem {
    let words = act.arguments().join(OsStr::new(" "));
    let subject = format!("podman {}", words.display());
    Problem::new(Code::MACHINE_PODMAN, subject, last_words(output), "rcc check    (and: rcc machine status)")
}

fn absent(program: &Path, error: &io::Error) -> Problem {
    let what = format!("it can't be run: {error}");
    Problem::new(Code::MACHINE_PODMAN, program.display().to_string(), what, "rcc check")
}

/// From a lock that nobody shares to one that sessions do. In between another may take it alone: that one goes first.
fn share(alone: Flock<File>) -> Result<Flock<File>, Problem> {
    match alone.relock(FlockArg::LockSharedNonblock) {
        Ok(()) => Ok(alone),
        Err(e) => {
            let what = format!("it is being changed: {}", e.desc());
            Err(Problem::new(Code::MACHINE_BUSY, "the agents' machine", what, "start the session again"))
        }
    }
}

fn not_among(folder: &Path) -> Problem {
    let what = "the agents' machine runs without it, and sessions are in it";
    let remedy = "end those sessions, and start this one again: the machine is restarted with the folder";
    Problem::new(Code::MACHINE_PROJECT, folder.display().to_string(), what, remedy)
}

/// The end of what a program said, for one line.
fn last_words(output: &Output) -> String {
    let said = [&output.stderr[..], &output.stdout].map(|s| String::from_utf8_lossy(s).trim().to_owned());
    let said = said.iter().find(|s| !s.is_empty()).cloned().unwrap_or_else(|| output.status.to_string());
    let lines: Vec<&str> = said.lines().rev().take(3).collect();
    let text: String = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
    escaped(&text.chars().take(400).collect::<String>())
}

fn output(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // What is not read by a program that ends early is no error here: how it ended tells.
        scope.spawn(|| stdin.map(|mut to| to.write_all(input)));
        child.wait_with_output()
    })
}

/// The memory of this machine, in bytes, and its processors.
#[must_use]
pub fn memory_and_cpus() -> (u64, u64) {
    // SAFETY: numbers alone.
    let [pages, size] = [libc::_SC_PHYS_PAGES, libc::_SC_PAGESIZE].map(|name| unsafe { libc::sysconf(name) });
    let memory = u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(size).unwrap_or(0));
    (memory, std::thread::available_parallelism().map_or(1, |n| n.get() as u64))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
