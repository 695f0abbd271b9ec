//! The gateway's processes: which run, and, where there is no systemd, starting and ending them.
//!
//! No pid files: a process is the gateway's if the kernel says that it is its user's, whatever it runs: one that was taken
//! over may have started something else. (Without that user, one that runs its program.)

use crate::layout::{FOLDER, PROGRAMS};
use crate::user;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, recv, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use rcc_proto::{FromGateway, GATEWAY_SOCKET, MAX_PACKET, decode};
use rcc_report::{Code, Problem};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the gateway may take to start, to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a process does for the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The supervisor.
    Serve,
    /// One session.
    Worker,
    /// The gateway's user's, and neither: nothing that rcc starts.
    Stray,
    /// Anything else that runs from rcc's folder: launchers, hooks, readers of the log.
    Other,
}

/// A process that runs an installed program, or is the gateway's user's.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What it does.
    pub role: Role,
    /// The program, as it was named when it started.
    pub program: PathBuf,
    handle: OwnedFd,
}

/// All processes that run installed programs, of any version, and all of the gateway's user.
pub fn processes() -> Result<Vec<Process>, Problem> {
    let failed = |e: std::io::Error| wrong(format!("processes can't be listed: {e}"), "mount /proc");
    let me = std::process::id();
    // A person may have an account of this name, which setup refuses: nothing of theirs is the gateway's.
    let gateways = user::id().ok().flatten();
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()).filter(|pid| *pid != me) else { continue };
        // The handle first: what is read after it is of this process, or of none if it has ended.
        let Ok(handle) = pidfd(pid) else { continue };
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let its = uids(&status);
        let is_its_users = gateways.map(|id| its.contains(&id));
        // One that is ending has none.
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if is_its_users != Some(true) && !program.starts_with(PROGRAMS) || has_ended(&status) {
            continue;
        }
        // A program that was replaced is shown with this behind its name.
        let program = PathBuf::from(program.to_string_lossy().trim_end_matches(" (deleted)"));
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_gateway = program.starts_with(PROGRAMS) && program.file_name() == Some("rcc-gateway".as_ref());
        let role = match (is_its_users, line.split(|b| *b == 0).nth(1)) {
            // Anybody can run the program; it does nothing then.
            (Some(false), _) => Role::Other,
            (None, _) if !is_gateway => Role::Other,
            (_, Some(b"serve")) if is_gateway => Role::Serve,
            (_, Some(b"worker")) if is_gateway => Role::Worker,
            _ => Role::Stray,
        };
        all.push(Process { pid, role, program, handle });
    }
    Ok(all)
}

/// Real, effective, saved and file system's, of proc(5)'s status.
fn uids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// Whether it only waits to be waited for.
fn has_ended(status: &str) -> bool {
    status.lines().any(|l| l.starts_with("State:\tZ") || l.starts_with("State:\tX"))
}

/// Whether a process runs the installed program as it is now, not one that was replaced.
pub fn is_installed(pid: u32, program: &Path) -> bool {
    match (fs::metadata(format!("/proc/{pid}/exe")), fs::metadata(program)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Starts the gateway as its user, in a session of its own, with nothing of this process's; it listens when this returns.
pub fn start(program: &Path, ids: (u32, u32)) -> Result<(), Problem> {
    let failed = |e: std::io::Error| wrong(format!("it can't be started: {e}"), "run rcc setup again");
    let mut said = memory().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("serve").env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(said.try_clone().map_err(failed)?);
    command.gid(ids.1).uid(ids.0);
    // SAFETY: between fork and exec only system calls with numbers and a buffer on the stack are made.
    unsafe { command.pre_exec(own_session) };
    let mut child = command.spawn().map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    while call().is_err() {
        let ended = child.try_wait().map_err(failed)?;
        if ended.is_some() || Instant::now() > until {
            let how = ended.map_or("it does not listen".into(), |status| status.to_string());
            return Err(wrong(format!("{how}: {}", text(&mut said)), "run rcc setup again"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    forget(child);
    Ok(())
}

/// It goes on without this process; nobody waits for it here.
fn forget(child: Child) {
    drop(child);
}

/// A session without a terminal, and no capability that an exec could hand on.
fn own_session() -> std::io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: setsid takes nothing; capset(2) reads a header and two triples of 32 bits, which both are there.
    let failed = unsafe {
        libc::setsid() < 0
            || libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) != 0
            || libc::umask(0o027) > 0o7777
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A file in memory: what the gateway says while it starts. It may write there as long as it lives.
fn memory() -> std::io::Result<File> {
    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    unsafe {
        let fd = libc::memfd_create(c"rcc-gateway".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.take(2000).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).lines().collect::<Vec<_>>().join(" | ")
}

/// Ends the supervisors among these, and with them their workers; kills strays; waits until all of the gateway's are gone.
pub fn end() -> Result<(), Problem> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left: Vec<_> = processes()?.into_iter().filter(is_gateways).collect();
        if left.is_empty() {
            return Ok(());
        }
        let late = Instant::now() > until;
        for process in &left {
            match process.role {
                Role::Serve | Role::Worker if late => signal(&process.handle, libc::SIGKILL),
                Role::Stray => signal(&process.handle, libc::SIGKILL),
                Role::Serve => signal(&process.handle, libc::SIGTERM),
                _ => {}
            }
        }
        if Instant::now() > until + PATIENCE {
            return Err(wrong(format!("process {} does not end", left[0].pid), "sudo kill -9 it"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether it is the gateway's own, not a launcher of somebody's.
pub fn is_gateways(process: &Process) -> bool {
    process.role != Role::Other
}

/// Asks the gateway: it answers, and what it says to root is that the policy does not name it.
pub fn prove() -> Result<(), Problem> {
    let failed = |what: String| wrong(what, "see why: journalctl -u rcc-gateway; /var/log/rcc/gateway.jsonl");
    let connection = call().map_err(|e| failed(format!("nobody listens: {}", e.desc())))?;
    let patience = TimeVal::new(10, 0);
    setsockopt(&connection, sockopt::ReceiveTimeout, &patience).map_err(|e| failed(e.desc().into()))?;
    let mut packet = vec![0; MAX_PACKET];
    let n = recv(connection.as_raw_fd(), &mut packet, nix::sys::socket::MsgFlags::empty())
        .map_err(|e| failed(format!("it does not answer: {}", e.desc())))?;
    match decode::<FromGateway>(&packet[..n]) {
        Ok(FromGateway::Refused { problem }) if problem.code == Code::GATEWAY_REFUSED_USER => Ok(()),
        Ok(FromGateway::Refused { problem }) => Err(problem),
        _ => Err(failed("its answer is not understood".into())),
    }
}

/// Whether anybody listens where launchers call.
pub fn listens() -> bool {
    call().is_ok()
}

fn call() -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    // As long as its queue is full, connecting waits.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(10, 0))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(GATEWAY_SOCKET)?)?;
    Ok(socket)
}

fn pidfd(pid: u32) -> std::io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes numbers; the descriptor it returns is new.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).map_err(std::io::Error::other)?))
    }
}

fn signal(handle: &OwnedFd, number: i32) {
    // SAFETY: numbers and a null pointer; a process that has ended does not hear it.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, handle.as_raw_fd(), number, std::ptr::null::<u8>(), 0) };
}

fn wrong(what: impl Into<String>, remedy: &str) -> Problem {
    Problem::new(Code::SETUP_GATEWAY, format!("gateway ({FOLDER})"), what, remedy)
}
