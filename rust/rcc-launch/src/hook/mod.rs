//! The OCI createRuntime hook: builds a session's walls before the agent's first instruction.
//!
//! It runs as root of Podman's user namespace, in the host's network namespace, with the container's state on standard
//! input (OCI runtime specification, "POSIX-platform Hooks"). Invariant: it exits with 0 only when every wall stands
//! and the gateway has the sockets; any other exit keeps the container from starting.
//!
//! It is single-threaded throughout, since `setns` to a mount or user namespace demands that.

mod mounts;
mod netlink;
mod userns;
pub mod walls;
mod watchdog;

use crate::packet;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rcc_proto::{FromHook, HookSpec, ToHook};
use rcc_report::{Code, Problem};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the runtime says of the container (OCI runtime specification, "State").
#[derive(Deserialize)]
struct State {
    id: String,
    pid: i32,
    bundle: PathBuf,
}

/// The part of the bundle's `config.json` that the hook needs.
#[derive(Deserialize)]
struct Config {
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

/// A step that failed, and at what.
pub(crate) struct Failure {
    code: Code,
    subject: String,
    what: String,
}

impl Failure {
    pub(crate) fn new(code: Code, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { code, subject: subject.into(), what: what.into() }
    }

    fn problem(self) -> Problem {
        let remedy = "nothing was started; `rcc plan` shows what was asked for";
        Problem::new(self.code, self.subject, self.what, remedy)
    }
}

/// Names a step in what went wrong.
pub(crate) trait Step<T> {
    /// The error as a failure of `step`.
    fn step(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(Code::SESSION_HOOK, step, e.to_string()))
    }
}

/// Runs the hook. `launcher` is the path of the launcher's socket.
pub fn run(launcher: &Path) -> Result<(), Problem> {
    let connection = connect_to(launcher).map_err(|e| {
        Problem::new(Code::SESSION_HOOK, launcher.display().to_string(), e.to_string(), "start the session again")
    })?;
    match build(&connection) {
        Ok(()) => Ok(()),
        Err(failure) => {
            let problem = failure.problem();
            // The launcher may be gone; then nobody is left to tell, and the exit code alone stops the container.
            let _ = packet::send(&connection, &FromHook::Failed { problem: problem.clone() }, &[]);
            Err(problem)
        }
    }
}

fn build(connection: &OwnedFd) -> Result<(), Failure> {
    let state = state()?;
    let root = root_of(&state)?;
    let pidfd = watchdog::pidfd(state.pid).step("pidfd_open of the container")?;
    packet::send(connection, &FromHook::Hello { pid: state.pid, id: state.id.clone() }, &[])
        .step("telling the launcher")?;
    let spec = spec_from(connection)?;
    in_child(|| userns::limit(state.pid, &spec))?;
    in_child(|| mounts::check_and_cover(state.pid, &root, &spec))?;
    let limits = crate::cgroup::enforced(state.pid);
    let listeners = network(state.pid, &spec)?;
    let fds = [listeners.redirect.as_raw_fd(), listeners.dns_udp.as_raw_fd(), listeners.dns_tcp.as_raw_fd()];
    packet::send(connection, &FromHook::Sockets { limits }, &fds).step("passing the sockets")?;
    drop(listeners);
    match packet::receive::<ToHook>(connection).step("waiting for the gateway")? {
        Some((ToHook::Go, _)) => watchdog::leave(connection, &pidfd).step("leaving the watchdog"),
        _ => Err(Failure::new(Code::SESSION_HOOK, "launcher", "it ended before the gateway took the sockets")),
    }
}

fn connect_to(path: &Path) -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

fn state() -> Result<State, Failure> {
    let mut text = String::new();
    io::stdin().take(1 << 20).read_to_string(&mut text).step("reading the container's state")?;
    serde_json::from_str(&text).step("the container's state")
}

fn root_of(state: &State) -> Result<PathBuf, Failure> {
    let file = File::open(state.bundle.join("config.json")).step("opening the bundle's config.json")?;
    let config: Config = serde_json::from_reader(io::BufReader::new(file)).step("the bundle's config.json")?;
    Ok(state.bundle.join(config.root.path))
}

fn spec_from(connection: &OwnedFd) -> Result<HookSpec, Failure> {
    match packet::receive::<ToHook>(connection).step("asking the launcher")? {
        Some((ToHook::Spec(spec), _)) => Ok(spec),
        _ => Err(Failure::new(Code::SESSION_HOOK, "launcher", "it gave no specification")),
    }
}

/// Enters the container's network namespace for good (the socket of the launcher was made before) and builds there.
fn network(pid: i32, spec: &HookSpec) -> Result<walls::Listeners, Failure> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).step("opening the network namespace")?;
    let own = File::open("/proc/self/ns/net").and_then(|f| f.metadata()).step("own network namespace")?;
    let theirs = namespace.metadata().step("the container's network namespace")?;
    if std::os::unix::fs::MetadataExt::ino(&own) == std::os::unix::fs::MetadataExt::ino(&theirs) {
        return Err(Failure::new(Code::SESSION_HOOK, "network namespace", "the container has the host's"));
    }
    setns(&namespace, CloneFlags::CLONE_NEWNET).step("entering the network namespace")?;
    let ranges = spec.ranges.iter().map(|text| {
        walls::Range::parse(text).ok_or_else(|| Failure::new(Code::SESSION_HOOK, text, "not an address range"))
    });
    walls::build(&ranges.collect::<Result<Vec<_>, _>>()?).step("building the network")
}

/// Runs a step in a child process, since it enters a namespace that the hook itself must not stay in.
fn in_child(step: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let (mut reader, writer) = io::pipe().step("pipe")?;
    // SAFETY: the process has one thread, so the child may do whatever the parent could.
    match unsafe { fork() }.step("fork")? {
        ForkResult::Child => {
            drop(reader);
            let code = match step() {
                Ok(()) => 0,
                Err(f) => {
                    let _ = serde_json::to_writer(&writer, &f.problem());
                    1
                }
            };
            // SAFETY: _exit ends the child without running the parent's destructors a second time.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text).step("waiting for a step")?;
            match waitpid(child, None).step("waiting for a step")? {
                WaitStatus::Exited(_, 0) => Ok(()),
                status => match serde_json::from_str::<Problem>(&text) {
                    Ok(p) => Err(Failure::new(p.code, p.subject, p.what)),
                    Err(_) => Err(Failure::new(Code::SESSION_HOOK, "a step", format!("ended with {status:?}"))),
                },
            }
        }
    }
}
