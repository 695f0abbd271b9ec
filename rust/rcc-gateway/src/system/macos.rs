//! macOS. Nothing of it has run on a Mac yet (docs/macos.md).
//!
//! Launchers' packets come over a stream ([`rcc_host::packets`]); the pair by which a worker is heard, and over which
//! descriptors come, is of datagrams. The end of such a pair shows as `ECONNRESET`, which may wake nobody: the supervisor
//! looks each second, and a worker asks each second whether its parent is still there.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, setsockopt, socket, socketpair, sockopt};
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A socket was told when it was made, and the standard library ignores the signal in any case.
pub const NO_SIGNAL: MsgFlags = MsgFlags::empty();
/// There is no such flag; what comes is marked after it came. No program is ever started by who receives descriptors.
pub const CLOSE_ON_EXEC: MsgFlags = MsgFlags::empty();
/// The kind of socket of launchers and people who read the log.
pub const PACKETS: SockType = SockType::Stream;
/// Bytes that fit into the pair: datagrams of 2 KiB alone otherwise.
const ROOM: usize = 256 << 10;

/// This program. It lies in a folder of its version's that is never written again.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// A waiting connection; it does not block.
pub fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let fd = nix::sys::socket::accept(listener.as_raw_fd())?;
    // SAFETY: accept just returned this descriptor; nobody else has it.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    rcc_host::packets::prepare(&connection).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    not_blocking(&connection)?;
    Ok(connection)
}

/// Two ends that carry whole packets, and descriptors; neither blocks.
pub fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::empty())?;
    for end in [&one, &other] {
        fcntl(end, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        not_blocking(end)?;
        setsockopt(end, sockopt::SndBuf, &ROOM)?;
        setsockopt(end, sockopt::RcvBuf, &ROOM)?;
    }
    Ok((one, other))
}

/// A socket for datagrams over IPv4, which does not block.
pub fn datagrams() -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
    fcntl(&socket, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    not_blocking(&socket)?;
    Ok(socket)
}

fn not_blocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

/// The groups of the process that connected, its primary one included: sixteen at most (`LOCAL_PEERCRED`). A policy that
/// names a person by another group of theirs does not let them in.
pub fn peer_groups(connection: &OwnedFd) -> Vec<u32> {
    // SAFETY: all zeroes are an `xucred` of nobody's.
    let mut credentials: libc::xucred = unsafe { std::mem::zeroed() };
    let Ok(mut size) = libc::socklen_t::try_from(size_of_val(&credentials)) else { return Vec::new() };
    // SAFETY: the kernel writes `size` bytes at most to `credentials`.
    let done = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_LOCAL,
            libc::LOCAL_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut size,
        )
    };
    let count = usize::try_from(credentials.cr_ngroups).unwrap_or(0);
    if done != 0 || credentials.cr_version != libc::XUCRED_VERSION {
        return Vec::new();
    }
    credentials.cr_groups.iter().take(count).copied().collect()
}

/// Waits for one of these.
pub fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> nix::Result<()> {
    let timeout = match timeout {
        None => PollTimeout::NONE,
        Some(timeout) => PollTimeout::try_from(timeout).map_err(|_| Errno::EINVAL)?,
    };
    poll(fds, timeout).map(drop)
}

/// A file of no name, and a descriptor that only reads it: made in the log's folder, which is the gateway's alone, and
/// removed before anything is in it.
pub fn nameless(name: &CStr) -> io::Result<(File, OwnedFd)> {
    let folder = Path::new(crate::supervisor::journal::LOG).parent().unwrap_or(Path::new("/"));
    let path = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    // One that was killed may have left it.
    let _ = std::fs::remove_file(&path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    let readable = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
    std::fs::remove_file(&path)?;
    Ok((file, readable?.into()))
}

/// How many descriptors a process may ask for, whose hard limit this is: macOS refuses to set "unlimited", which is what
/// launchd gives (setrlimit(2): `OPEN_MAX`).
pub fn most_files(hard: u64) -> u64 {
    hard.min(10_240)
}

/// Nobody attaches to it, and it leaves no dump.
pub fn confine() -> Result<(), String> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).map_err(|e| e.to_string())?;
    // SAFETY: numbers and null pointers alone.
    if unsafe { libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0) } != 0 {
        return Err("it can't be closed to debuggers".into());
    }
    Ok(())
}
