//! The world's cgroup: one below the root of the unified hierarchy, which the world sees as its root.
//!
//! Invariant: the machine's own cgroup mounts aren't touched; the hierarchy is reached by a mount that has no place in
//! any tree (fsmount). A cgroup's name holds its runner's pid namespace, pid and start time, so what a killed pair of runner
//! and janitor left is known and removed by the next runner there; other namespaces' are not judged.

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;

const PREFIX: &str = "rcc-world-";

/// A cgroup of this runner's.
pub struct Cgroup {
    hierarchy: OwnedFd,
    name: String,
}

fn checked(result: libc::c_long, what: &str) -> Result<OwnedFd> {
    let fd = Errno::result(result).with_context(|| what.to_owned())?;
    // SAFETY: a new descriptor, owned from here on.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// The unified hierarchy, mounted nowhere.
fn hierarchy() -> Result<OwnedFd> {
    const CREATE: libc::c_long = 6; // FSCONFIG_CMD_CREATE
    let kind: &CStr = c"cgroup2";
    // SAFETY: a terminated string and flags.
    let context =
        checked(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) }, "cgroup2 isn't in this kernel")?;
    // SAFETY: this command takes no key and no value.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, 0, 0, 0) };
    Errno::result(done).context("cgroup2 can't be opened")?;
    // SAFETY: descriptors and flags only.
    checked(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0) }, "cgroup2 can't be mounted")
}

/// The start time of a process, in clock ticks since boot: with the pid, it is unique.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// What the names begin with that belong to runners of this pid namespace.
fn prefix() -> Result<String> {
    let namespace = fs::metadata("/proc/self/ns/pid").context("/proc isn't there")?;
    Ok(format!("{PREFIX}{}-", namespace.ino()))
}

impl Cgroup {
    /// Makes this runner's, and removes those of runners that are no more.
    pub fn create() -> Result<Self> {
        let me = std::process::id();
        let name = format!("{}{me}-{}", prefix()?, started(me).context("/proc isn't there")?);
        let this = Self { hierarchy: hierarchy()?, name };
        for name in this.stale()? {
            remove_tree(&this.at(&name));
        }
        fs::create_dir(this.at(&this.name)).context("a cgroup for the world")?;
        Ok(this)
    }

    /// The cgroups of worlds whose runner is no more.
    fn stale(&self) -> Result<Vec<String>> {
        let (mut names, prefix) = (Vec::new(), prefix()?);
        for entry in fs::read_dir(self.at(""))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((pid, time)) = name.strip_prefix(&prefix).and_then(|n| n.split_once('-')) else { continue };
            if pid.parse().ok().and_then(started) != time.parse().ok() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn at(&self, name: &str) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.hierarchy.as_raw_fd())).join(name)
    }

    /// Moves this process into it, makes it the root that the process sees, and then moves on into a leaf: controllers
    /// can be enabled only where no process is.
    pub fn enter(&self) -> Result<()> {
        let root = self.at(&self.name);
        fs::write(root.join("cgroup.procs"), "0").context("entering the world's cgroup")?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?;
        fs::create_dir(root.join("init"))?;
        fs::write(root.join("init/cgroup.procs"), "0")?;
        for controller in fs::read_to_string(root.join("cgroup.controllers"))?.split_whitespace() {
            let control = fs::OpenOptions::new().write(true).open(root.join("cgroup.subtree_control"));
            // one that the machine can't give is the same in the world as outside
            let _unavailable = control.and_then(|mut c| c.write_all(format!("+{controller}").as_bytes()));
        }
        Ok(())
    }

    /// Removes it, once nothing runs in it. Does nothing if it is gone.
    pub fn remove(&self) {
        remove_tree(&self.at(&self.name));
    }
}

/// What dead worlds have left, by name; the next runner removes it.
pub fn left_over() -> Result<Vec<String>> {
    Cgroup { hierarchy: hierarchy()?, name: String::new() }.stale()
}

fn remove_tree(path: &Path) {
    for _try in 0..100 {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                remove_tree(&entry.path());
            }
        }
        match fs::remove_dir(path) {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => std::thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
}
