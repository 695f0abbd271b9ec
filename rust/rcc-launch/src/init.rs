//! The container's first process: runs the agent, reaps orphans, passes signals on, ends as the agent ended.
//!
//! Without it the agent would be process 1: signals it has no handler for would be ignored, and orphans would stay.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execvp, fork, getpgrp, isatty, setpgid, tcsetpgrp};
use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};

/// How long the terminal's size is waited for.
const SIZE_PATIENCE: Duration = Duration::from_secs(1);

/// Runs `command` with at most `processes` to its end and gives the exit code: the command's own, 128 + N after signal N,
/// 127 when it was not found and 126 when it could not be run.
pub fn run(processes: u32, command: &[CString]) -> io::Result<u8> {
    let name = command.first().ok_or_else(|| io::Error::other("no command"))?;
    limit(processes)?;
    let all = SigSet::all();
    let before = all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the process has one thread, so the child may do whatever the parent could.
    match unsafe { fork() }? {
        ForkResult::Child => {
            foreground();
            before.thread_set_mask()?;
            let error = execvp(name, command).unwrap_err();
            eprintln!("rcc: {}: {error}", name.to_string_lossy());
            // SAFETY: the child ends here without running the parent's destructors.
            unsafe { libc::_exit(if error == Errno::ENOENT { 127 } else { 126 }) }
        }
        ForkResult::Parent { child } => supervise(child, &all),
    }
}

/// Limits the processes and threads of this user namespace; nobody here can raise it again. Not by Podman's `--ulimit`: a
/// limit that is set before a user namespace is made counts in the one above too, where all sessions of the person are
/// (`is_rlimit_overlimit` in the kernel's ucount.c), so that one session would leave none to the others.
fn limit(processes: u32) -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC)?;
    let limit = most.min(processes.into());
    Ok(setrlimit(Resource::RLIMIT_NPROC, limit, limit)?)
}

/// Makes the child a process group of its own, in the foreground of the terminal if there is one, so that Ctrl-C
/// reaches it and not process 1.
fn foreground() {
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    if isatty(io::stdin()).unwrap_or(false) {
        // SIGTTOU is blocked here, so a background group may take the terminal.
        let _ = tcsetpgrp(io::stdin(), getpgrp());
        await_size();
    }
}

/// Podman gives the terminal its size when it attaches to it, which may be after this: a program that asks at its start
/// would be told 0 by 0. One that has no size outside, as some programs' terminals, is not waited for longer.
fn await_size() {
    let end = Instant::now() + SIZE_PATIENCE;
    loop {
        // SAFETY: the structure is plain numbers, and lives through the call.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: as above; 0 is standard input.
        let asked = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) };
        if asked != 0 || size.ws_row != 0 || size.ws_col != 0 || Instant::now() > end {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn supervise(child: Pid, all: &SigSet) -> io::Result<u8> {
    loop {
        match all.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(child)? {
                    return Ok(code);
                }
            }
            // What the terminal's job control sends concerns its foreground group, not this process.
            Signal::SIGTTIN | Signal::SIGTTOU | Signal::SIGTSTP => {}
            signal => {
                let _ = kill(Pid::from_raw(-child.as_raw()), signal).or_else(|_| kill(child, signal));
            }
        }
    }
}

/// Takes in every child that has ended; the agent's end gives the exit code.
fn reap(agent: Pid) -> io::Result<Option<u8>> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == agent => {
                code = Some(u8::try_from(status & 0xff).unwrap_or(255));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == agent => {
                code = Some(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(code),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
