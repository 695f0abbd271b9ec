//! Stopping a whole container for a moment, and letting it go on: by signals to every process in it, since a cgroup to
//! freeze is not always there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Looks that showed other processes than the one before, until a container that forks while it is being stopped is given
/// up on; the caller then ends it instead.
const CHANGES: usize = 50;
/// How long the same processes may take to stand still: on a loaded machine one may wait for its turn before it sees a
/// signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops every process below, and including, `first`. Whether all stand still: two looks in a row showed the same
/// processes, each of their threads stopped. A thread that still finishes what it asked of the kernel (waiting in `vfork`
/// for a child that was stopped, too) is stopped before it comes back.
#[must_use]
pub fn stop(first: i32) -> bool {
    let (mut before, mut changes, end) = (Vec::new(), 0, Instant::now() + PATIENCE);
    loop {
        let now = family(first);
        if now == before && now.iter().all(|pid| stands_still(*pid)) {
            return true;
        }
        changes += usize::from(now != before);
        if changes > CHANGES || Instant::now() > end {
            return false;
        }
        signal(first, libc::SIGSTOP);
        before = now;
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether no thread of a process runs, or will without being let go on. The first is not enough: until each has seen the
/// signal, it goes on, and reads what is typed.
fn stands_still(pid: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| state_in(&task.path())).all(|state| matches!(state, 'T' | 'Z' | 'X' | 'D'))
}

/// Lets every process go on.
pub fn resume(first: i32) {
    signal(first, libc::SIGCONT);
}

/// Sends a signal to a process and all that descend from it.
pub fn signal(first: i32, number: i32) {
    for pid in family(first) {
        send(pid, number);
    }
}

/// Whether the agent itself, the first child of the container's init, was stopped: it wants to give the terminal back,
/// as an editor does at Ctrl-Z.
#[must_use]
pub fn agent_stopped(init: i32) -> bool {
    children(init).first().is_some_and(|agent| is_stopped(*agent))
}

/// Whether a process was stopped.
#[must_use]
pub fn is_stopped(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// All processes of a pid namespace descend from its first; orphans become its children. Sorted.
fn family(init: i32) -> Vec<i32> {
    let mut all = vec![init];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children(pid));
        next += 1;
    }
    all.sort_unstable();
    all
}

/// `/proc/PID/task/TID/children` of each thread (proc(5)).
fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The process that waits for this one.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The state letter of `/proc/PID/stat` (`proc_pid_stat(5)`); the name before it may hold anything.
fn state(pid: i32) -> Option<char> {
    state_in(&Path::new("/proc").join(pid.to_string()))
}

fn state_in(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn send(pid: i32, signal: i32) {
    // SAFETY: kill with numbers; a process that has ended is no error that matters here.
    unsafe { libc::kill(pid, signal) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;
    use nix::sys::wait::WaitStatus;
    use nix::unistd::Pid;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn a_family_is_stopped_and_goes_on() {
        let mut shell = Command::new("/bin/sh").args(["-c", "while :; do sleep 0.01; done"]).spawn().unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        assert!(stop(pid));
        // Or it waits in `vfork` for a child that was stopped.
        assert!(matches!(state(pid), Some('T' | 'D')), "{:?}", state(pid));
        resume(pid);
        assert_ne!(state(pid), Some('T'));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    /// As on a loaded machine, where a process has no turn: here a tracer keeps it from seeing the signal.
    #[test]
    fn one_that_takes_its_time_is_waited_for() {
        let mut command = Command::new("/bin/sleep");
        // SAFETY: one system call, between fork and exec.
        unsafe { command.arg("1000").pre_exec(|| nix::sys::ptrace::traceme().map_err(Into::into)) };
        let mut sleep = command.spawn().unwrap();
        let pid = i32::try_from(sleep.id()).unwrap();
        let first = nix::sys::wait::waitpid(Pid::from_raw(pid), None).unwrap();
        assert!(matches!(first, WaitStatus::Stopped(_, Signal::SIGTRAP)), "{first:?}");
        let stopped = std::thread::spawn(move || stop(pid));
        std::thread::sleep(Duration::from_millis(400));
        nix::sys::ptrace::detach(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        assert!(stopped.join().unwrap());
        assert_eq!(state(pid), Some('T'));
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    }
}
