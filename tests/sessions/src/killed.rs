//! `kill -9` before a system call that changes something: a command and all that it starts are traced, such calls are
//! counted over all of them, and at the one that was asked for the kernel is told to kill.
//!
//! The gateway is let go of as soon as its program runs: it is what the command leaves behind.

use anyhow::{Context, Result, ensure};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where what the command says goes: it is no pipe, which would stay open as long as what it leaves behind.
const SAID: &str = "/run/said";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The process that makes the call; those that wait for it go on.
    Caller,
    /// Everything that the command has started, itself included.
    All,
}

/// A system call that changes something: the number of such in its run, and what it is.
#[derive(Clone, Debug)]
pub struct Call {
    /// How many came before it.
    pub number: usize,
    /// The call's name, and the program that makes it.
    pub what: String,
    /// Whether a process makes it that the command has started.
    pub child: bool,
}

/// All such calls of a command that nothing disturbs, in their order.
pub fn calls(command: Command) -> Result<Vec<Call>> {
    let run = trace(command, None)?;
    ensure!(run.code == Some(0), "{:?}: {}", run.code, fs::read_to_string(SAID)?);
    Ok(run.calls)
}

/// Runs a command that is killed before the call of this number; gives the call, or none if there was none of that number.
pub fn killed(command: Command, number: usize, whom: Whom) -> Result<Option<Call>> {
    Ok(trace(command, Some((number, whom)))?.calls.into_iter().nth(number))
}

struct Run {
    calls: Vec<Call>,
    /// The command's exit code, if it was not killed.
    code: Option<i32>,
}

/// Runs until all that is traced has ended or was let go of.
fn trace(mut command: Command, at: Option<(usize, Whom)>) -> Result<Run> {
    let said = File::create(SAID)?;
    command.stdin(std::process::Stdio::null()).stdout(said.try_clone()?).stderr(said);
    // SAFETY: one system call, between fork and exec.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let first = Pid::from_raw(command.spawn()?.id().cast_signed());
    // This thread's alone: others may wait for their own.
    let how = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    ensure!(matches!(waitpid(first, Some(how))?, WaitStatus::Stopped(_, Signal::SIGTRAP)), "it does not start");
    ptrace::setoptions(
        first,
        Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL,
    )?;
    let mut traced = BTreeSet::from([first]);
    let mut run = Run { calls: Vec::new(), code: None };
    go_on(first, None)?;
    while !traced.is_empty() {
        let status = waitpid(None, Some(how))?;
        let pid = status.pid().context("a process")?;
        match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                traced.remove(&pid);
                if let WaitStatus::Exited(_, code) = status
                    && pid == first
                {
                    run.code = Some(code);
                }
            }
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) if is_gateway(pid) => {
                ptrace::detach(pid, None)?;
                traced.remove(&pid);
            }
            WaitStatus::PtraceSyscall(_) => {
                if let Some(what) = change(pid) {
                    run.calls.push(Call { number: run.calls.len(), what, child: pid != first });
                    if let Some((_, whom)) = at.filter(|(number, _)| run.calls.len() == number + 1) {
                        for other in traced.iter().filter(|p| whom == Whom::All || **p == pid) {
                            // One that has just ended is what was wanted.
                            let _ = kill(*other, Signal::SIGKILL);
                        }
                    }
                }
                go_on(pid, None)?;
            }
            // A new one's first stop is a SIGSTOP that nobody sent.
            WaitStatus::Stopped(_, signal) => {
                let new = traced.insert(pid) && signal == Signal::SIGSTOP;
                go_on(pid, Some(signal).filter(|_| !new))?;
            }
            _ => go_on(pid, None)?,
        }
    }
    Ok(run)
}

/// To the next call's beginning or end; one that was killed is waited for.
fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn program(pid: Pid) -> String {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_gateway(pid: Pid) -> bool {
    program(pid) == "rcc-gateway"
}

/// What the process that has stopped is about to change, if it is at a call that does.
fn change(pid: Pid) -> Option<String> {
    // SAFETY: the structure is plain numbers.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    // SAFETY: ptrace(2): at most so many bytes are written there.
    let read = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid.as_raw(), size_of_val(&info), (&raw mut info).cast::<u8>())
    };
    if read <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: at the beginning of a call it is this one of the union's.
    let entry = unsafe { info.u.entry };
    let number = i64::try_from(entry.nr).ok()?;
    changes(number, &entry.args).map(|name| format!("{name} by {}", program(pid)))
}

/// The name of a call that changes what others see; an `open` counts where it makes or empties a file, a `write` where it
/// is no report to the person. Signals don't: they are repeated for as long as the gateway takes to end, by the clock, and
/// numbers after them would not be the same in each run.
fn changes(number: i64, arguments: &[u64; 6]) -> Option<&'static str> {
    let makes = |flags: u64| flags & u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned()) != 0;
    let reports = matches!(arguments[0], 1 | 2);
    macro_rules! named {
        ($($call:ident)*) => { [$((libc::$call, stringify!($call))),*] };
    }
    let all = named!(
        SYS_pwrite64 SYS_ftruncate SYS_fallocate SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_mkdirat SYS_symlinkat
        SYS_linkat SYS_renameat SYS_renameat2 SYS_unlinkat SYS_fsync SYS_fdatasync SYS_utimensat SYS_fsetxattr SYS_setxattr
        SYS_sendmsg SYS_sendto SYS_setsid SYS_setuid SYS_setgid SYS_setgroups SYS_capset SYS_execve SYS_clone SYS_clone3
        SYS_copy_file_range SYS_sendfile
    );
    #[cfg(not(target_arch = "x86_64"))]
    let older: [(i64, &str); 0] = [];
    #[cfg(target_arch = "x86_64")]
    let older = named!(
        SYS_creat SYS_chmod SYS_chown SYS_lchown SYS_mkdir SYS_symlink SYS_link SYS_rename SYS_unlink SYS_rmdir SYS_utime
        SYS_utimes SYS_vfork SYS_fork
    );
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_open {
        return makes(arguments[1]).then_some("SYS_open");
    }
    match number {
        libc::SYS_openat => makes(arguments[2]).then_some("SYS_openat"),
        libc::SYS_write | libc::SYS_writev => (!reports).then_some("SYS_write"),
        _ => all.into_iter().chain(older).find(|(n, _)| *n == number).map(|(_, name)| name),
    }
}
