//! The supervisor: accepts launchers, asks the policy who may open a session, starts a worker for each, appends the
//! workers' log lines. One thread, one poll loop.
//!
//! Invariant: it parses nothing that an agent or a launcher sent. What it takes from a worker is a bounded line of
//! flat JSON; the envelope (time, session, uid) is its own.

mod forwarders;
pub(crate) mod journal;
mod people;
mod resolv_conf;
pub(crate) mod socket;

use crate::policy;
use crate::rate::Bucket;
use crate::system;
use forwarders::{Admission, Forwarders};
use journal::{Budgets, Journal, Lines};
use nix::poll::{PollFd, PollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rcc_proto::{FromGateway, encode};
use rcc_report::{Code, Problem};
use resolv_conf::ResolvConf;
use socket::Sockets;
use std::collections::HashMap;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A worker, as the supervisor knows it.
struct Worker {
    pid: Pid,
    uid: u32,
    session: String,
    log: OwnedFd,
    lines: Lines,
    /// How forwarders get in, where they can come.
    admission: Option<Admission>,
}

/// A process that reads the log to a person. Its end shows by the closing of `end`.
struct Reader {
    pid: Pid,
    uid: u32,
    end: OwnedFd,
}

/// People who read the log at once: of one user, and of all.
const MOST_READERS: (usize, usize) = (4, 64);

/// Sessions that all users together can have.
const MOST_WORKERS: usize = 1024;

/// Set by SIGHUP: an update is installed, and this process ends once it has no session.
static RETIRING: AtomicBool = AtomicBool::new(false);

extern "C" fn retire(_: libc::c_int) {
    RETIRING.store(true, Ordering::Relaxed);
}

/// Serves until it is killed, and its workers end with it; or until it is told to end, and has none.
pub fn serve() -> Result<Infallible, Problem> {
    let here = Problem::new;
    confine().map_err(|what| {
        here(Code::GATEWAY_ABSENT, "rcc-gateway", what, "start it as the system user rcc, without capabilities")
    })?;
    let mut sockets = socket::listen()?;
    let mut journal = Journal::open().map_err(|e| {
        here(
            Code::GATEWAY_ABSENT,
            journal::LOG,
            format!("the log can't be opened: {e}"),
            "make its folder writable for the user rcc",
        )
    })?;
    let resolv_conf = ResolvConf::read()
        .map_err(|e| here(Code::GATEWAY_ABSENT, "memfd", e.to_string(), "mount /proc, and see the kernel's log"))?;
    journal.own("start", None, &[("version", env!("CARGO_PKG_VERSION").into())]);
    eprintln!("rcc-gateway: listening");
    let mut supervisor = Supervisor {
        journal,
        resolv_conf,
        workers: Vec::new(),
        readers: Vec::new(),
        forwarders: Forwarders::new(std::mem::take(&mut sockets.forwarders)),
        openings: HashMap::new(),
        budgets: Budgets::default(),
        start: Instant::now(),
    };
    // systemd holds the sockets, and starts what is installed then when somebody calls. Made here, they would be gone.
    if sockets.are_systemds {
        let action = SigAction::new(SigHandler::Handler(retire), SaFlags::empty(), SigSet::empty());
        let mut hup = SigSet::empty();
        hup.add(Signal::SIGHUP);
        hup.thread_block().map_err(|e| failed(&e))?;
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(Signal::SIGHUP, &action) }.map_err(|e| failed(&e))?;
    }
    loop {
        if RETIRING.load(Ordering::Relaxed) && supervisor.workers.is_empty() {
            supervisor.journal.own("retire", None, &[("version", env!("CARGO_PKG_VERSION").into())]);
            std::process::exit(0);
        }
        supervisor.turn(&sockets);
    }
}

struct Supervisor {
    journal: Journal,
    resolv_conf: ResolvConf,
    workers: Vec<Worker>,
    readers: Vec<Reader>,
    forwarders: Forwarders,
    openings: HashMap<u32, Bucket>,
    budgets: Budgets,
    start: Instant,
}

impl Supervisor {
    fn turn(&mut self, sockets: &Sockets) {
        // Workers are heard only while the log can be written: they wait for that, with their connections.
        let works = self.journal.works();
        let now = self.start.elapsed();
        let listeners = [&sockets.sessions, &sockets.log];
        let mut fds: Vec<PollFd> =
            listeners.into_iter().chain(self.readers.iter().map(|r| &r.end)).map(waiting).collect();
        let readers = 2..fds.len();
        fds.extend(self.forwarders.interest().map(waiting));
        let fixed = fds.len();
        let mut heard = Vec::new();
        // Woken at least each second while something is held back or not yet counted, or there are resolvers to follow.
        let mut waits = !works || !self.workers.is_empty() || self.forwarders.waits();
        for (i, worker) in self.workers.iter_mut().enumerate() {
            let interest = if works { worker.lines.interest(now) } else { None };
            waits |= interest.is_none() || worker.lines.suppressed();
            if let Some(interest) = interest {
                fds.push(PollFd::new(worker.log.as_fd(), interest));
                heard.push(i);
            }
        }
        let timeout = waits.then_some(Duration::from_secs(1));
        // SIGHUP comes in here or not at all: elsewhere it would be noticed only with the next event.
        if system::wait(&mut fds, timeout).is_err() {
            return;
        }
        self.resolv_conf.follow();
        let ready: Vec<bool> = fds.iter().map(|f| f.revents().is_none_or(|r| !r.is_empty())).collect();
        drop(fds);
        let now = self.start.elapsed();
        let mut ended = Vec::new();
        for i in heard.into_iter().zip(&ready[fixed..]).filter_map(|(i, ready)| ready.then_some(i)) {
            let worker = &mut self.workers[i];
            if !worker.lines.read(&worker.log, &mut self.journal, &worker.session, worker.uid, now) {
                ended.push(i);
            }
        }
        for worker in &mut self.workers {
            worker.lines.tell(&worker.log, &self.journal);
            worker.lines.report(&mut self.journal, &worker.session, worker.uid, now);
        }
        for i in ended.into_iter().rev() {
            let worker = self.workers.swap_remove(i);
            self.reap(worker);
        }
        if self.forwarders.waits() || ready[readers.end..fixed].contains(&true) {
            self.let_in(now);
        }
        for i in readers.rev().filter(|i| ready[*i]) {
            let reader = self.readers.swap_remove(i - 2);
            let _ = kill(reader.pid, Signal::SIGKILL);
            let _ = waitpid(reader.pid, None);
        }
        if ready[0] {
            self.accept(&sockets.sessions, now);
        }
        if ready[1] {
            self.accept_readers(&sockets.log, now);
        }
    }

    /// Hands forwarders' streams to the workers that they are for.
    fn let_in(&mut self, now: Duration) {
        let workers = &mut self.workers;
        let admits = |header: &_, stream: &_| {
            workers.iter_mut().filter_map(|w| w.admission.as_mut()).any(|a| a.admits(header, stream))
        };
        if let Some(strangers) = self.forwarders.turn(now, admits) {
            self.journal.own("strangers", None, &[("streams", strangers.into())]);
        }
    }

    /// Starts a reader for each person who asks; whoever has too many is hung up on.
    fn accept_readers(&mut self, listener: &OwnedFd, now: Duration) {
        for _ in 0..16 {
            let Some(caller) = socket::accept(listener) else { return };
            let Ok(uid) = rcc_host::packets::peer(&caller) else { continue };
            let own = self.readers.iter().filter(|r| r.uid == uid).count();
            self.openings.retain(|_, b| !b.is_full(now));
            if own >= MOST_READERS.0 || self.readers.len() >= MOST_READERS.1 || !self.in_turn(uid, now) {
                continue;
            }
            // Who may not open sessions has no lines; and ids below a user's own are users, too, to the kernel.
            if !asker(uid, &caller).is_ok_and(|asker| asker.named) {
                continue;
            }
            if let Ok(reader) = start_reader(&caller, uid) {
                self.readers.push(reader);
            }
        }
    }

    /// Whether this user may have one more process started now.
    fn in_turn(&mut self, uid: u32, now: Duration) -> bool {
        self.openings.entry(uid).or_insert_with(|| Bucket::new(64, 8)).take(now)
    }

    /// The worker closed its log: it is dead, or it should be.
    fn reap(&mut self, mut worker: Worker) {
        let _ = kill(worker.pid, Signal::SIGKILL);
        let how = match waitpid(worker.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => format!("exit {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => signal.to_string(),
            other => format!("{other:?}"),
        };
        worker.lines.finish(&mut self.journal, &worker.session, worker.uid);
        self.journal.own("end", Some((&worker.session, worker.uid)), &[("how", how.into())]);
    }

    fn accept(&mut self, listener: &OwnedFd, now: Duration) {
        for _ in 0..16 {
            let Some(launcher) = socket::accept(listener) else { return };
            if let Err(problem) = self.open(&launcher, now)
                && let Ok(packet) = encode(&FromGateway::Refused { problem })
            {
                let _ = rcc_host::packets::send_now(&launcher, &packet);
            }
        }
    }

    fn open(&mut self, launcher: &OwnedFd, now: Duration) -> Result<(), Problem> {
        let uid = rcc_host::packets::peer(launcher).map_err(|e| failed(&e))?;
        self.openings.retain(|_, b| !b.is_full(now));
        if !self.in_turn(uid, now) {
            return Err(busy("sessions are opened too fast"));
        }
        let Asker { person, resolved, named } = asker(uid, launcher)?;
        let may_be_told_of = self.budgets.may_be_told_of(uid, now);
        if !named {
            if may_be_told_of {
                self.journal.own("refused", Some(("", uid)), &[("reason", "not in the policy's users".into())]);
            }
            return Err(Problem::new(
                Code::GATEWAY_REFUSED_USER,
                person.name.clone(),
                "the policy's `users` does not name this user",
                format!("add \"{}\" to `users` in {}", person.name, policy::POLICY),
            ));
        }
        if !may_be_told_of {
            return Err(Problem::new(
                Code::GATEWAY_BUSY,
                journal::LOG,
                "this user's sessions have used up their log",
                "wait some minutes; what filled it: rcc log",
            ));
        }
        let own = self.workers.iter().filter(|w| w.uid == uid).count();
        if own >= resolved.limits.sessions as usize || self.workers.len() >= MOST_WORKERS {
            return Err(busy("this user has as many sessions as the policy allows"));
        }
        if !self.journal.works() {
            return Err(Problem::new(
                Code::GATEWAY_BUSY,
                journal::LOG,
                "the log can't be written",
                "make space on its disk",
            ));
        }
        self.resolv_conf.look();
        let lines = self.budgets.lines_of(uid);
        let worker =
            start(launcher, uid, &self.resolv_conf, lines, self.forwarders.can_come()).map_err(|e| failed(&e))?;
        self.workers.push(worker);
        Ok(())
    }
}

pub(crate) fn waiting(fd: &OwnedFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}

/// Starts a reader: its caller is its stdin; nothing else is open in it but the end by which it is missed.
fn start_reader(caller: &OwnedFd, uid: u32) -> std::io::Result<Reader> {
    let (end, readers_end) = socket::log_pair()?;
    let child = Command::new(system::own_program()?)
        .args(["log", &std::process::id().to_string(), &uid.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(caller.try_clone()?))
        .stdout(Stdio::from(readers_end))
        .stderr(Stdio::null())
        .spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
    Ok(Reader { pid, uid, end })
}

/// Who asks, by the policy as it is now.
struct Asker {
    person: people::Person,
    resolved: rcc_policy::Resolved,
    /// Whether the policy's `users` name them.
    named: bool,
}

fn asker(uid: u32, connection: &OwnedFd) -> Result<Asker, Problem> {
    let resolved = policy::load()?.resolve(&[]).map_err(policy::first)?;
    let (person, named) = people::Person::of(uid, connection, &resolved);
    Ok(Asker { person, resolved, named })
}

fn busy(what: &str) -> Problem {
    Problem::new(Code::GATEWAY_BUSY, "gateway", what, "end another session, or raise `limits.sessions`")
}

fn failed(e: &dyn std::error::Error) -> Problem {
    Problem::new(
        Code::GATEWAY_BUSY,
        "gateway",
        format!("it could not start a session: {e}"),
        "try again; see the gateway's log",
    )
}

/// Starts a worker: its connection is its stdin, its log its stdout, the machine's resolv.conf its stderr; nothing else is
/// open in it. What forwarders bring comes by a socket that waits for it in its log's.
fn start(
    launcher: &OwnedFd,
    uid: u32,
    resolv_conf: &ResolvConf,
    lines: Lines,
    forwarded: bool,
) -> std::io::Result<Worker> {
    let (log, workers_end) = socket::log_pair()?;
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(std::io::Error::other)?;
    let number = u64::from_be_bytes(number);
    let session = format!("{number:016x}");
    let admission = forwarders::admission(number, &log, forwarded)?;
    let child = Command::new(system::own_program()?)
        .args(["worker", &std::process::id().to_string(), &session, &uid.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(launcher.try_clone()?))
        .stdout(Stdio::from(workers_end))
        .stderr(Stdio::from(resolv_conf.readable()?))
        .spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
    Ok(Worker { pid, uid, session, log, lines, admission })
}

/// Not root, no capabilities, and no way to get any.
pub(crate) fn confine() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() || nix::unistd::getuid().is_root() {
        return Err("it does not run as root".into());
    }
    system::confine()?;
    more_files(system::most_files).map_err(|e| format!("its limit of descriptors can't be raised: {e}"))
}

/// As many descriptors as there may be: of each worker the supervisor holds two or three.
fn more_files(most: impl FnOnce(u64) -> u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = most(hard);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_refused_is_an_error() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // Above what the kernel gives to anybody, root or not.
        assert!(more_files(|_| u64::MAX - 1).is_err());
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (soft, hard));
        more_files(system::most_files).unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, system::most_files(hard));
    }
}
