//! Stopping a whole container for a moment, and letting it go on: by signals to every process in it, since a cgroup to
//! freeze is not always there.

use std::fs;

/// Rounds until a container that forks while it is being stopped is given up on; the caller then ends it instead.
const ROUNDS: usize = 50;

/// Stops every process below, and including, the container's first. Whether all stand still.
#[must_use]
pub fn stop(init: i32) -> bool {
    for _ in 0..ROUNDS {
        let moving: Vec<i32> = family(init).into_iter().filter(|pid| !still(*pid)).collect();
        if moving.is_empty() {
            return true;
        }
        for pid in moving {
            send(pid, libc::SIGSTOP);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    false
}

/// Lets every process go on.
pub fn resume(init: i32) {
    for pid in family(init) {
        send(pid, libc::SIGCONT);
    }
}

/// Whether the agent itself, the first child of the container's init, was stopped: it wants to give the terminal back,
/// as an editor does at Ctrl-Z.
#[must_use]
pub fn agent_stopped(init: i32) -> bool {
    children(init).first().is_some_and(|agent| state(*agent) == Some('T'))
}

/// All processes of a pid namespace descend from its first; orphans become its children.
fn family(init: i32) -> Vec<i32> {
    let mut all = vec![init];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children(pid));
        next += 1;
    }
    all
}

/// `/proc/PID/task/TID/children` of each thread (proc(5)).
fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect()
}

/// One that has ended, or can't be stopped in the middle of a system call, counts as standing still.
fn still(pid: i32) -> bool {
    !matches!(state(pid), Some('R' | 'S'))
}

/// The state letter of `/proc/PID/stat` (`proc_pid_stat(5)`); the name before it may hold anything.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn send(pid: i32, signal: i32) {
    // SAFETY: kill with numbers; a process that has ended is no error that matters here.
    unsafe { libc::kill(pid, signal) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_family_is_stopped_and_goes_on() {
        let mut shell = Command::new("/bin/sh").args(["-c", "while :; do sleep 0.01; done"]).spawn().unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        assert!(stop(pid));
        assert_eq!(state(pid), Some('T'));
        resume(pid);
        assert_ne!(state(pid), Some('T'));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
