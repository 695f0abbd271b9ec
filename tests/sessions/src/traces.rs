//! Everything that sessions could leave on a machine, listed; two lists are compared.

use crate::processes;
use anyhow::{Context, Result, bail};
use rcc_rig::Rig;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A list of processes, namespaces, mounts, sockets, cgroups, files of rcc's and Podman's, and containers.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// What there is now.
    pub fn now(rig: &Rig<'_>) -> Result<Self> {
        let mut all = BTreeSet::new();
        let me = i32::try_from(std::process::id())?;
        for process in processes().iter().filter(|p| p.pid != me) {
            all.insert(format!("process {} {} {}", process.pid, process.name, process.line));
        }
        namespaces(&mut all);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        all.extend(mounts.lines().filter_map(|l| Some(format!("mount {}", l.split(' ').nth(4)?))));
        let sockets = fs::read_to_string("/proc/net/unix")?;
        all.extend(sockets.lines().filter_map(|l| Some(format!("socket {}", l.split_once('/')?.1))));
        for folder in ["/sys/fs/cgroup", "/var/tmp"] {
            folders(Path::new(folder), &mut all);
        }
        everything(&rig.user.runtime_dir, &mut all);
        everything(&data(rig).join("podman"), &mut all);
        everything(&data(rig).join("homes"), &mut all);
        for container in containers(rig)? {
            all.insert(format!("container {container}"));
        }
        Ok(Self(all))
    }

    /// What there is after sessions have been here once: Podman's books exist.
    pub fn after_first_session(rig: &Rig<'_>) -> Result<Self> {
        crate::inside(rig, "true").context("the first session")?;
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            // The gateway's worker ends a little later than the session; then the list stays as it is.
            let first = Self::now(rig)?;
            std::thread::sleep(Duration::from_millis(100));
            let second = Self::now(rig)?;
            if first == second && !first.0.iter().any(|line| line.contains("rcc-gateway worker")) {
                return Ok(first);
            }
            if Instant::now() > end {
                bail!("the machine does not come to rest: {}", second.beyond(&first));
            }
        }
    }

    /// Demands that within a few seconds nothing is there that was not there before.
    pub fn nothing_more(&self, rig: &Rig<'_>) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Self::now(rig)?;
            let more = now.beyond(self);
            if more.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("left over:\n{more}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn beyond(&self, before: &Self) -> String {
        self.0.difference(&before.0).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Where rcc keeps the user's data.
fn data(rig: &Rig<'_>) -> PathBuf {
    rig.user.home.join(".local/share/rcc")
}

fn namespaces(all: &mut BTreeSet<String>) {
    for process in processes() {
        for entry in fs::read_dir(format!("/proc/{}/ns", process.pid)).into_iter().flatten().flatten() {
            if let Ok(namespace) = fs::read_link(entry.path()) {
                all.insert(format!("namespace {}", namespace.display()));
            }
        }
    }
}

/// Containers in the books that rcc's calls of Podman keep; asked as rcc asks.
fn containers(rig: &Rig<'_>) -> Result<Vec<String>> {
    let (root, state) = (data(rig).join("podman"), rig.user.runtime_dir.join("rcc/podman"));
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut podman = rig.command("/usr/bin/podman");
    podman.arg(format!("--root={}", root.display())).arg(format!("--runroot={}", state.display()));
    podman.args([
        "--storage-driver=vfs",
        "--events-backend=none",
        "--cgroup-manager=cgroupfs",
        "ps",
        "--all",
        "--external",
    ]);
    podman.args(["--format", "{{.Names}} {{.State}}"]).env("XDG_RUNTIME_DIR", &rig.user.runtime_dir).env("HOME", &root);
    let listed = crate::succeeds(&podman.output()?)?;
    Ok(listed.lines().map(str::to_owned).collect())
}

fn folders(folder: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.insert(format!("folder {}", entry.path().display()));
            folders(&entry.path(), all);
        }
    }
}

fn everything(folder: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // The agent's home is its own; only the homes themselves are counted.
        let is_home = folder.ends_with("rcc/homes");
        all.insert(format!("file {}", entry.path().display()));
        if !is_home && entry.file_type().is_ok_and(|t| t.is_dir()) {
            everything(&entry.path(), all);
        }
    }
}
