//! What the kernel really enforces of a process's limits, read back from cgroup v2.

use rcc_proto::WallLimits;
use std::fs;
use std::path::{Path, PathBuf};

/// The limits of the cgroup that `pid` is in. `None` where the controller is not there for it, or says "max".
#[must_use]
pub fn enforced(pid: i32) -> WallLimits {
    let Some(folder) = folder_of(pid) else { return WallLimits::default() };
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
    WallLimits { pids: number("pids.max"), memory: number("memory.max"), cpu: cpu(&folder) }
}

fn folder_of(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A path that begins with `..` lies outside of what this cgroup namespace shows.
    (!path.starts_with("..")).then(|| Path::new("/sys/fs/cgroup").join(path))
}

fn cpu(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota * 1000).checked_div(period)
}
