//! Processes by descriptor: a number can be reused, a pidfd can't.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Opens a pidfd (`pidfd_open(2)`, Linux 5.3); it is closed on exec.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call with numbers; the kernel checks them.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `SIGKILL`. A process that has ended already is as good as killed, so there is nothing to report.
pub fn kill(pidfd: &OwnedFd) {
    signal(pidfd, libc::SIGKILL);
}

/// Sends a signal; a process that has ended does not hear it.
pub fn signal(pidfd: &OwnedFd, number: i32) {
    // SAFETY: a plain system call; siginfo is null, so the kernel fills in kill's own.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, std::ptr::null::<u8>(), 0) };
}

/// No other process of the same user may read this one's memory, and no core dump is written (prctl(2),
/// `PR_SET_DUMPABLE`): it holds a key.
pub fn close_to_others() -> io::Result<()> {
    // SAFETY: prctl with numbers alone.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
