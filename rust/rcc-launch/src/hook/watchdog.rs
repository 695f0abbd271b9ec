//! What stays of the hook for the session's length: it kills the container when the launcher is gone, whatever became
//! of Podman and conmon (a `kill -9` of Podman alone leaves the agent running; tried).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork, setsid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A descriptor for the container's first process, immune to reuse of its number (`pidfd_open(2)`).
pub(super) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    crate::process::pidfd(pid)
}

/// Forks the watchdog off. It keeps the launcher's connection and the pidfd, nothing else.
pub(super) fn leave(connection: &OwnedFd, pidfd: &OwnedFd) -> io::Result<()> {
    // SAFETY: the process has one thread, so the child may do whatever the parent could.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let _ = setsid();
            let _ = nix::sys::prctl::set_name(c"rcc-watchdog");
            let _ = nix::unistd::chdir("/");
            // Podman waits for the end of the hook's output; a descriptor of the bundle would keep it busy.
            if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
                for fd in 0..3 {
                    // SAFETY: standard streams are replaced by /dev/null; no Rust object owns them here.
                    unsafe { libc::dup2(null.as_raw_fd(), fd) };
                }
            }
            close_others(&[connection.as_raw_fd(), pidfd.as_raw_fd()]);
            watch(connection, pidfd);
            // SAFETY: the child ends here; destructors belong to the parent.
            unsafe { libc::_exit(0) }
        }
    }
}

fn watch(connection: &OwnedFd, pidfd: &OwnedFd) {
    loop {
        let mut fds =
            [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => crate::process::kill(pidfd),
            Ok(_) => {
                let ended = |i: usize| fds[i].revents().is_some_and(|r| !r.is_empty());
                if !ended(0) && ended(1) {
                    crate::process::kill(pidfd);
                }
            }
        }
        return;
    }
}

fn close_others(keep: &[i32]) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        // SAFETY: this process does nothing but watch from here on; no object that owns these is used again. The
        // folder's own descriptor is closed already, which is harmless.
        let _ = unsafe { libc::close(fd) };
    }
}
