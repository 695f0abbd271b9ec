//! Processes by descriptor: a number can be reused, a pidfd can't. And this process, closed to the others of its user.

use std::io;

#[cfg(target_os = "linux")]
pub use by_descriptor::{is_ending, kill, pidfd, signal};

#[cfg(target_os = "linux")]
mod by_descriptor {
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

    /// Whether a process was killed and has not closed its files yet: nothing of it runs again, but its locks are held until the
    /// kernel has closed what was opened before them (inotify's watches take it some 20 ms).
    #[must_use]
    pub fn is_ending(pid: i32) -> bool {
        // linux/sched.h; field 9 of proc_pid_stat(5), of which 3 is the first after the name.
        const PF_EXITING: u64 = 4;
        let field = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = field("stat");
        let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
        // A process that was killed, and did not get to it yet (proc_pid_status(5), a bit a signal from the first on).
        let status = field("status");
        let pending = status.lines().filter_map(|l| l.strip_prefix("SigPnd:").or_else(|| l.strip_prefix("ShdPnd:")));
        let killed = pending.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok()).any(|set| set >> 8 & 1 == 1);
        killed || flags.is_some_and(|flags| flags & PF_EXITING != 0)
    }
}

/// No other process of the same user may read this one's memory, and no core dump is written (prctl(2),
/// `PR_SET_DUMPABLE`): it holds a key.
#[cfg(target_os = "linux")]
pub fn close_to_others() -> io::Result<()> {
    // SAFETY: prctl with numbers alone.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// No other process may attach to this one (ptrace(2), `PT_DENY_ATTACH`), and no core dump is written: it holds a key. The
/// memory of a process that is not signed for the hardened runtime is not closed to a debugger that runs as root.
#[cfg(target_os = "macos")]
pub fn close_to_others() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: numbers and null pointers alone; the kernel reads one pair of limits.
    let failed = unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none) != 0
            || libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
