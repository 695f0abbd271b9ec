//! The container's mounts, compared with what the launcher opened, and made read-only to the last submount.
//!
//! Invariant: after [`check_and_cover`] every mount that comes from the host is one that the launcher opened, by device
//! and inode; the agent can swap a folder for a link before Podman mounts it, but not unnoticed.

use super::{Failure, Step};
use crate::mountinfo::{self, Mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::stat;
use rcc_proto::{HookSpec, MountCheck, Protected};
use rcc_report::Code;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Kinds of file systems that hold nothing of the host, and so may be mounted beside the launcher's list.
const VIRTUAL: &[&str] = &["proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup2", "cgroup"];
/// Files that Podman binds from its own folder of the container; they hold a host name and a marker.
const PODMANS_OWN: &[&str] = &["/run/.containerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm"];
/// Places where the kernel's own file systems go. A tmpfs of the host's bound elsewhere would look just as virtual.
const VIRTUAL_PLACES: &[&str] = &["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"];

/// Checks each mount of the container, makes the read-only ones so, and covers the protected places. Runs in a child:
/// it stays in the container's mount namespace.
pub(super) fn check_and_cover(pid: i32, root: &Path, spec: &HookSpec) -> Result<(), Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).step("reading the container's mounts")?;
    let mounts = mountinfo::parse(&text).step("the container's mounts")?;
    let namespace = File::open(format!("/proc/{pid}/ns/mnt")).step("opening the mount namespace")?;
    setns(&namespace, CloneFlags::CLONE_NEWNS).step("entering the mount namespace")?;
    for mount in mounts.iter().filter_map(|m| inside(root, m)) {
        known(&mount, spec)?;
    }
    for mount in &spec.mounts {
        same_file(root, mount)?;
    }
    for mount in &spec.mounts {
        restrict(&under(root, &mount.target), mount.writable)?;
    }
    cover(root, spec)
}

/// A mount below the container's root, with its place as the agent will see it; the root itself is not one.
fn inside(root: &Path, mount: &Mount) -> Option<Mount> {
    let below = mount.point.strip_prefix(root).ok()?;
    if below.as_os_str().is_empty() {
        return None;
    }
    Some(Mount { point: Path::new("/").join(below), ..mount.clone() })
}

fn under(root: &Path, target: &Path) -> PathBuf {
    root.join(target.strip_prefix("/").unwrap_or(target))
}

fn known(mount: &Mount, spec: &HookSpec) -> Result<(), Failure> {
    let point = mount.point.as_path();
    let asked = spec.mounts.iter().any(|m| m.target == point) || spec.submounts.iter().any(|p| p == point);
    let own = PODMANS_OWN.iter().any(|p| Path::new(p) == point);
    let kind_is_virtual = VIRTUAL.contains(&mount.kind.as_str());
    let place_is_virtual = VIRTUAL_PLACES.iter().any(|p| point.starts_with(p));
    if asked || own || (kind_is_virtual && place_is_virtual) {
        return Ok(());
    }
    Err(Failure::new(
        Code::PROJECT_FOREIGN_MOUNT,
        point.display().to_string(),
        format!("a mount of kind {} that was not asked for", mount.kind),
    ))
}

fn same_file(root: &Path, mount: &MountCheck) -> Result<(), Failure> {
    let subject = mount.target.display().to_string();
    let found = stat(&under(root, &mount.target)).step(&subject)?;
    if (found.st_dev, found.st_ino) == (mount.device, mount.inode) {
        return Ok(());
    }
    Err(Failure::new(
        Code::SESSION_MOUNTS,
        subject,
        "another file or folder than the one that rcc opened was mounted here; it was swapped in between",
    ))
}

/// Nothing mounted from the host runs setuid programs or opens devices; what is read-only is so with all below it.
fn restrict(path: &Path, writable: bool) -> Result<(), Failure> {
    let read_only = if writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
    let set = read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(libc::AT_FDCWD, path, libc::AT_RECURSIVE, set).step(&path.display().to_string())
}

fn cover(root: &Path, spec: &HookSpec) -> Result<(), Failure> {
    if spec.protected.is_empty() {
        return Ok(());
    }
    let project = open_folder(&under(root, &spec.project)).step("opening the project")?;
    for protected in &spec.protected {
        cover_one(&project, protected).step(&protected.path.display().to_string())?;
    }
    Ok(())
}

fn cover_one(project: &OwnedFd, protected: &Protected) -> io::Result<()> {
    let target = crate::beneath::open(project, &protected.path, libc::O_PATH)?;
    let tree = match &protected.copy {
        Some(copy) => {
            let tree = open_tree(libc::AT_FDCWD, copy, libc::AT_SYMLINK_NOFOLLOW)?;
            let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            set_attributes(tree.as_raw_fd(), Path::new(""), libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, set)?;
            tree
        }
        None => open_tree(target.as_raw_fd(), Path::new(""), libc::AT_EMPTY_PATH)?,
    };
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both descriptors are open and both paths are empty strings.
    let done = unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    Ok(fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}

fn open_tree(folder: RawFd, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags.unsigned_abs();
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, folder, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

/// `mount_setattr(2)`, Linux 5.12.
fn set_attributes(folder: RawFd, path: &Path, flags: i32, set: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path is a C string and the structure has the size that is given with it.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, folder, path.as_ptr(), flags, &raw const attributes, size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
