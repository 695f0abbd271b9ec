//! `rcc-world run`: makes a world, runs a command in it, and takes the world away again.
//!
//! Three processes: the *runner*, which the caller sees; *init*, process 1 of the world's own pid namespace, which makes
//! everything else; and a *janitor* beside them, which outlives both.
//!
//! Invariant: whichever of these is killed, and when, nothing is left. All that the world consists of (processes,
//! mounts, links, files on tmpfs) hangs on its namespaces, and those die with init; init dies with the runner (parent
//! death signal, and the janitor); the one thing outside, a cgroup, is removed by the janitor, or else by the next
//! runner.

mod cgroup;
mod mounts;
mod users;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use crate::description::{Description, FOLDER, User, VARIABLE};
use crate::links;
use crate::outside::Namespaces;
use cgroup::Cgroup;
pub use cgroup::left_over;

/// What the runner answers when the world itself has failed, as other runners of commands do.
pub const FAILED: u8 = 125;

/// What is asked of a world.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line, by itself")]
pub struct Options {
    /// Where the world's logs are copied at the end.
    pub keep_log: Option<PathBuf>,
    /// An unprivileged user to make (or to prepare, if the machine has it).
    pub user: Option<String>,
    /// The new user's number.
    pub uid: u32,
    /// The new user's home; on tmpfs if it isn't given.
    pub home: Option<PathBuf>,
    /// Whether the command runs as that user.
    pub as_user: bool,
    /// Folders that stay as they are, though they lie below one that the world replaces.
    pub expose: Vec<PathBuf>,
    /// Whether /tmp is the world's own.
    pub private_tmp: bool,
    /// Whether packets are left unrecorded (benches).
    pub no_wire: bool,
    /// Whether the command stays in the machine's own network, with no internet made for it: everything else of a world
    /// is there. For the demo with a real model.
    pub machine_network: bool,
    /// Whether names that the world does not have are those of the machine's own network.
    pub outside: bool,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

/// Runs `options.command` in a new world; gives its exit code, 128 and the signal's number if it was killed.
pub fn run(options: &Options) -> Result<u8> {
    let start = Instant::now();
    ensure!(nix::unistd::geteuid().is_root(), "a world is made by root\nhint: sudo rcc-world run -- …");
    ensure!(!options.as_user || options.user.is_some(), "--as-user needs --user");
    let signals = heeded();
    signals.thread_block()?;
    let cgroup = Cgroup::create()?;
    let (life_end, life) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;

    let outside = options.outside.then(Namespaces::here).transpose()?;
    let network = if options.machine_network { 0 } else { libc::CLONE_NEWNET };
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | network | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    // SAFETY: this process has one thread; without a stack of its own the child continues here, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if Errno::result(pid).context("namespaces can't be made")? == 0 {
        drop(life);
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // the runner may have died before that call
        let mut gone = [PollFd::new(life_end.as_fd(), PollFlags::empty())];
        if poll(&mut gone, PollTimeout::ZERO)? > 0 {
            std::process::exit(i32::from(FAILED));
        }
        let code = init(options, &cgroup, start, &signals, outside).unwrap_or_else(|e| {
            eprintln!("rcc-world: {e:#}");
            FAILED
        });
        std::process::exit(i32::from(code));
    }
    let init = Pid::from_raw(i32::try_from(pid)?);
    let janitor = janitor(init, &life_end, &life, &cgroup)?;
    let code = loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = ended(waitpid(init, Some(WaitPidFlag::WNOHANG))?) {
                    break code;
                }
            }
            // the terminal gives these to the command itself
            Signal::SIGINT | Signal::SIGQUIT => {}
            other => kill(init, other)?,
        }
    };
    drop(life);
    let _janitor_was_killed = waitpid(janitor, None);
    cgroup.remove();
    Ok(code)
}

fn heeded() -> SigSet {
    SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT])
}

/// The exit code of a process that has ended.
fn ended(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some(u8::try_from(code).unwrap_or(FAILED)),
        WaitStatus::Signaled(_, signal, _) => Some(128 + u8::try_from(signal as i32).unwrap_or(0)),
        _ => None,
    }
}

/// A process in a session of its own, which waits for the runner's end, ends init, and removes the cgroup.
fn janitor(init: Pid, life_end: &OwnedFd, life: &OwnedFd, cgroup: &Cgroup) -> Result<Pid> {
    // SAFETY: pidfd_open has no memory arguments; the descriptor is owned from here on.
    let pidfd = unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, init.as_raw(), 0)).context("pidfd_open")?;
        OwnedFd::from_raw_fd(i32::try_from(fd)?)
    };
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // SAFETY: only this process's copy is closed, and it exits before `life` is dropped.
            unsafe { libc::close(life.as_raw_fd()) };
            let _already_leading = nix::unistd::setsid();
            // the caller may wait for the end of these
            for fd in 0..2 {
                // SAFETY: this process uses neither stdin nor stdout.
                unsafe { libc::close(fd) };
            }
            await_readable(life_end, PollFlags::empty());
            // SAFETY: no memory is passed; a pidfd can't mean another process.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, 0, 0) };
            await_readable(&pidfd, PollFlags::POLLIN);
            cgroup.remove();
            // SAFETY: ends the process without running what the runner has registered.
            unsafe { libc::_exit(0) }
        }
    }
}

fn await_readable(fd: &OwnedFd, flags: PollFlags) {
    loop {
        let mut set = [PollFd::new(fd.as_fd(), flags)];
        if !matches!(poll(&mut set, PollTimeout::NONE), Err(Errno::EINTR) | Ok(0)) {
            return;
        }
    }
}

/// A server process of the world.
struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Server {
    fn start(what: &str, description: &Path) -> Result<Self> {
        Self::start_with(what, description, None)
    }

    /// With the runner's namespaces, which nothing else in the world has.
    fn start_with(what: &str, description: &Path, outside: Option<Namespaces>) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("rcc-world")
            .arg(what)
            .arg("--description")
            .arg(description)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        if let Some(outside) = outside {
            // SAFETY: it makes plain system calls alone.
            unsafe { command.pre_exec(move || outside.hand_over()) };
        }
        let mut child = command.spawn().with_context(|| format!("starting {what}"))?;
        let lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        Ok(Self { child, lines })
    }

    /// Once the internet has its authority, tells it that the link is there.
    fn linked(&mut self) -> Result<()> {
        self.await_word("authority")?;
        Ok(self.child.stdin.take().context("no pipe")?.write_all(b"\n")?)
    }

    fn await_word(&mut self, word: &str) -> Result<()> {
        match self.lines.next() {
            Some(Ok(line)) if line == word => Ok(()),
            other => bail!("a server of the world said {other:?} instead of {word:?}"),
        }
    }
}

/// Process 1 of the world.
fn init(
    options: &Options,
    cgroup: &Cgroup,
    start: Instant,
    signals: &SigSet,
    outside: Option<Namespaces>,
) -> Result<u8> {
    cgroup.enter()?;
    let mut exposed = options.expose.clone();
    exposed.extend(std::env::current_dir());
    exposed.extend(std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_owned)));
    for folder in options.keep_log.iter().chain(&options.home) {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        exposed.push(folder.clone());
    }
    mounts::replace(&exposed, options.private_tmp, options.machine_network)?;
    nix::unistd::sethostname("devbox")?;

    let folder = Path::new(FOLDER);
    let mut world = Description::in_folder(folder);
    world.watch_wire = !options.no_wire && !options.machine_network;
    world.machine_network = options.machine_network;
    world.outside = options.outside;
    let path = furnish(&world, folder)?;

    users::system()?;
    world.user =
        options.user.as_deref().map(|name| users::person(name, options.uid, options.home.as_deref())).transpose()?;
    if let Some(user) = &world.user {
        for folder in world.model_script.parent().iter().chain(&[world.files.as_path()]) {
            std::os::unix::fs::chown(folder, Some(user.id), Some(user.id))?;
        }
    }
    let servers = if options.machine_network { Vec::new() } else { surroundings(&mut world, &path, outside)? };
    world.setup_ms = u64::try_from(start.elapsed().as_millis())?;
    world.write(&path)?;

    let user = world.user.as_ref().filter(|_| options.as_user);
    let code = attend(&mut command(options, &path, user)?, &servers, signals);
    if let Some(to) = &options.keep_log {
        keep(folder, to)?;
    }
    code
}

/// What a new world's folder has in it; gives the place of its description.
fn furnish(world: &Description, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("WORLD.json");
    std::fs::create_dir(world.model_script.parent().context("a script in a folder")?)?;
    std::fs::create_dir(&world.files)?;
    std::fs::write(&world.model_script, r#"[{"text": "(no script was given)"}]"#)?;
    world.write(&path)?;
    Ok(path)
}

/// The word of a kernel's command line by which a machine says that it is a virtual one of the tests', without any other
/// network.
const VIRTUAL: &str = "rcc.machine=virtual";

/// Makes the internet around the whole machine, as a service of it, and goes on until it is killed. Only the tests' virtual
/// machine is one that has nothing to lose by it.
pub fn surround() -> Result<()> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    ensure!(line.split_whitespace().any(|word| word == VIRTUAL), "this is not the tests' virtual machine");
    let folder = Path::new(FOLDER);
    std::fs::create_dir(folder)?;
    let mut world = Description::in_folder(folder);
    world.watch_wire = false;
    let path = furnish(&world, folder)?;
    let mut internet = Server::start("internet", &path)?;
    internet.await_word("namespace")?;
    links::host_side(internet.child.id())?;
    internet.linked()?;
    internet.await_word("serving")?;
    world.internet_pid = internet.child.id();
    world.write(&path)?;
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        std::os::unix::net::UnixDatagram::unbound()?.send_to(b"READY=1", socket).context("telling systemd")?;
    }
    bail!("the internet has ended: {}", internet.child.wait()?)
}

/// The internet and the host's services.
fn surroundings(world: &mut Description, path: &Path, outside: Option<Namespaces>) -> Result<Vec<Server>> {
    let mut internet = Server::start_with("internet", path, outside)?;
    internet.await_word("namespace")?;
    links::host_side(internet.child.id())?;
    let mut hostservices = Server::start("hostservices", path)?;
    internet.linked()?;
    mounts::trust(&world.ca_pem)?;
    hostservices.await_word("serving")?;
    internet.await_word("serving")?;
    world.internet_pid = internet.child.id();
    Ok(vec![internet, hostservices])
}

fn command(options: &Options, description: &Path, user: Option<&User>) -> Result<Command> {
    let (program, arguments) = options.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env(VARIABLE, description);
    if let Some(user) = user {
        command.uid(user.id).gid(user.id);
        command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
        command.env("XDG_RUNTIME_DIR", &user.runtime_dir);
    }
    Ok(command)
}

/// Runs the command to its end, and reaps whatever else ends.
fn attend(command: &mut Command, servers: &[Server], signals: &SigSet) -> Result<u8> {
    let child = command.spawn().with_context(|| format!("running {}", command.get_program().display()))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => loop {
                let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                    other => other?,
                };
                let Some(code) = ended(status) else { continue };
                if status.pid() == Some(pid) {
                    return Ok(code);
                }
                let is_server = |s: &&Server| i32::try_from(s.child.id()).ok() == status.pid().map(Pid::as_raw);
                if servers.iter().find(is_server).is_some() {
                    bail!("a server of the world has ended: {}", ExitStatus::from_raw(i32::from(code) << 8));
                }
            },
            Signal::SIGINT | Signal::SIGQUIT => {}
            other => kill(pid, other)?,
        }
    }
}

/// Copies the logs out.
fn keep(folder: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
