//! Linux.

use nix::poll::{PollFd, ppoll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, accept4, getsockopt, socket, socketpair, sockopt};
use nix::sys::time::TimeSpec;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// No signal when the peer is gone.
pub const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
/// Descriptors that come are closed on exec.
pub const CLOSE_ON_EXEC: MsgFlags = MsgFlags::MSG_CMSG_CLOEXEC;
/// The kind of socket of launchers and people who read the log, and of the pair by which a worker is heard.
pub const PACKETS: SockType = SockType::SeqPacket;

/// This program, as it runs: also when another was installed in its place.
#[expect(clippy::unnecessary_wraps, reason = "macOS has to ask for it")]
pub fn own_program() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

/// A waiting connection; it does not block.
pub fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: accept4 just returned this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two ends that carry whole packets, and descriptors; neither blocks.
pub fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, PACKETS, None, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)
}

/// A socket for datagrams over IPv4, which does not block.
pub fn datagrams() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// All groups of the process that connected, its primary one included.
pub fn peer_groups(connection: &OwnedFd) -> Vec<u32> {
    let mut groups = vec![0u32; 65_536 / 4];
    let mut size = libc::socklen_t::try_from(groups.len() * 4).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to the buffer, which is that long, and sets `size`.
    let failed = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    } != 0;
    groups.truncate(if failed { 0 } else { size as usize / 4 });
    if let Ok(peer) = getsockopt(connection, sockopt::PeerCredentials) {
        groups.push(peer.gid());
    }
    groups
}

/// Waits for one of these, and for signals, which come in here or not at all.
pub fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> nix::Result<()> {
    ppoll(fds, timeout.map(TimeSpec::from_duration), Some(SigSet::empty())).map(drop)
}

/// A file of no name, and a descriptor that only reads it.
pub fn nameless(name: &CStr) -> io::Result<(File, OwnedFd)> {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    let readable = File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))?.into();
    Ok((file, readable))
}

/// How many descriptors a process may ask for, whose hard limit this is.
pub fn most_files(hard: u64) -> u64 {
    hard
}

/// No capabilities, and no way to get any.
pub fn confine() -> Result<(), String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let mut sets = 0;
    for line in status.lines() {
        if let Some((key @ ("CapInh" | "CapPrm" | "CapEff" | "CapAmb"), value)) = line.split_once(":\t") {
            sets += 1;
            if u64::from_str_radix(value, 16) != Ok(0) {
                return Err(format!("it does not run with capabilities ({key} {value})"));
            }
        }
    }
    if sets != 4 {
        return Err("the kernel does not say which capabilities it has".into());
    }
    // SAFETY: prctl with these constants takes integers only.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
    };
    if failed { Err("no_new_privs can't be set".into()) } else { Ok(()) }
}
