//! The processes of the test's world, as /proc shows them.

use std::fs;
use std::path::PathBuf;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number in the world.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its short name.
    pub name: String,
    /// Its arguments, separated by spaces.
    pub line: String,
    /// The id of its real user.
    pub uid: u32,
    /// The letter of its state: `T` is stopped.
    pub state: char,
}

/// All processes that have not ended.
#[must_use]
pub fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| read(e.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: i32) -> Option<Process> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(":\t").map(str::to_owned));
    let state = field("State")?.chars().next()?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let line = fs::read(folder.join("cmdline")).ok()?;
    Some(Process {
        pid,
        parent: field("PPid")?.parse().ok()?,
        name: field("Name")?,
        line: String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned(),
        uid: field("Uid")?.split('\t').next()?.parse().ok()?,
        state,
    })
}
