//! The container's mounts, compared with what the launcher opened, and made read-only to the last submount.
//!
//! Invariant: after [`check_and_cover`] every mount that comes from the host is one that the launcher opened, by device
//! and inode; the agent can swap a folder for a link before Podman mounts it, but not unnoticed.

use super::{Failure, Step};
use crate::flake::STORE;
use crate::mountinfo::{self, Mount};
use crate::spec::HOST_STORE;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::symlinkat;
use rcc_proto::{Cover, HookSpec, MountCheck, Protected};
use rcc_report::Code;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// File systems of the kernel's own, whole, and where the runtime puts them. A folder of the host's that lies on a tmpfs
/// has the same kind, but not the whole of it.
const VIRTUAL: &[(&str, &[&str])] = &[
    ("proc", &["/proc"]),
    ("sysfs", &["/sys"]),
    ("cgroup2", &["/sys/fs/cgroup"]),
    ("tmpfs", &["/dev", "/dev/shm", "/tmp", "/var/tmp", "/sys/fs/cgroup"]),
    ("devpts", &["/dev/pts"]),
    ("mqueue", &["/dev/mqueue"]),
];
/// Devices that the runtime binds from the host's /dev, each a node of its own.
const DEVICES: &[&str] = &["null", "zero", "full", "tty", "random", "urandom"];
/// Files that Podman binds from its own folder of the container; they hold a host name and a marker.
const PODMANS_OWN: &[(&str, &str)] = &[("/run/.containerenv", ".containerenv"), ("/etc/hostname", "hostname")];

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
    let root = open_folder(root).step("opening the container's root")?;
    let mut places = Vec::new();
    for mount in &spec.mounts {
        let place = same_file(&root, mount)?;
        restrict(&place, mount)?;
        places.push((&mount.target, place));
    }
    if let Some(list) = &spec.store {
        let own = places.iter().find(|(target, _)| *target == Path::new(STORE)).map(|(_, place)| place);
        store(&root, own, list).step(STORE)?;
    }
    for socket in &spec.masked {
        mask(&root, socket, &spec.empty_file).step(&socket.display().to_string())?;
    }
    // The places are those that were compared: folders above them lie in the agent's home, where another session of the
    // same project can swap them for others at any moment.
    for protected in &spec.protected {
        let place = places.iter().find(|(target, _)| **target == protected.under).map(|(_, place)| place);
        let under = || protected.under.display().to_string();
        let place = place.ok_or_else(|| Failure::new(Code::SESSION_HOOK, under(), "it is not among the mounts"))?;
        cover(place, protected).step(&protected.under.join(&protected.path).display().to_string())?;
    }
    Ok(())
}

/// A mount below the container's root, with its place as the agent will see it; the root itself is not one.
fn inside(root: &Path, mount: &Mount) -> Option<Mount> {
    let below = mount.point.strip_prefix(root).ok()?;
    if below.as_os_str().is_empty() {
        return None;
    }
    Some(Mount { point: Path::new("/").join(below), ..mount.clone() })
}

fn below(target: &Path) -> &Path {
    target.strip_prefix("/").unwrap_or(target)
}

fn known(mount: &Mount, spec: &HookSpec) -> Result<(), Failure> {
    let point = mount.point.as_path();
    let asked = spec.mounts.iter().any(|m| m.target == point) || spec.submounts.iter().any(|p| p == point);
    if asked || is_virtual(mount) || is_device(mount) || is_podmans(mount) {
        return Ok(());
    }
    Err(Failure::new(
        Code::PROJECT_FOREIGN_MOUNT,
        point.display().to_string(),
        format!("a mount of kind {} ({} of it) that was not asked for", mount.kind, mount.root.display()),
    ))
}

fn is_virtual(mount: &Mount) -> bool {
    let place =
        |(kind, places): &(&str, &[&str])| mount.kind == *kind && places.iter().any(|p| mount.point == Path::new(p));
    // What a cgroup namespace shows as its root has another name outside of it.
    let whole = mount.root == Path::new("/") || mount.kind == "cgroup2";
    // crun masks parts of proc with binds of proc's own folders, and with empty file systems.
    let of_proc = mount.kind == "proc" && mount.point.starts_with("/proc");
    let mask = mount.kind == "tmpfs" && ["/proc", "/sys"].iter().any(|p| mount.point.starts_with(p));
    of_proc || (whole && (mask || VIRTUAL.iter().any(place)))
}

fn is_device(mount: &Mount) -> bool {
    let named = |name: &&str| mount.root.ends_with(name) && mount.point == Path::new("/dev").join(name);
    let masked = mount.root.ends_with("null") && mount.point.starts_with("/proc");
    matches!(mount.kind.as_str(), "devtmpfs" | "tmpfs") && (masked || DEVICES.iter().any(named))
}

fn is_podmans(mount: &Mount) -> bool {
    PODMANS_OWN
        .iter()
        .any(|(place, file)| mount.point == Path::new(place) && mount.root.ends_with(Path::new("userdata").join(file)))
}

/// Opens a mount's place in the container's root, through no link, and compares what is there.
fn same_file(root: &OwnedFd, mount: &MountCheck) -> Result<OwnedFd, Failure> {
    let subject = mount.target.display().to_string();
    let place = crate::beneath::open(root, below(&mount.target), libc::O_PATH).step(&subject)?;
    let found = fstat(&place).step(&subject)?;
    if (found.st_dev, found.st_ino) == (mount.device, mount.inode) {
        return Ok(place);
    }
    Err(Failure::new(
        Code::SESSION_MOUNTS,
        subject,
        "another file or folder than the one that rcc opened was mounted here; it was swapped in between",
    ))
}

/// Nothing mounted from the host runs setuid programs or opens devices; what is read-only is so with all below it.
fn restrict(place: &OwnedFd, mount: &MountCheck) -> Result<(), Failure> {
    let read_only = if mount.writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
    let set = read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(place, set).step(&mount.target.display().to_string())
}

/// Puts an empty file over a socket of the host's: connecting needs no right to write, so read-only is no help.
fn mask(root: &OwnedFd, socket: &Path, empty: &Path) -> io::Result<()> {
    let target = match crate::beneath::open(root, below(socket), libc::O_PATH) {
        // It has gone since it was seen.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        other => other?,
    };
    attach(&copy_of(empty)?, &target)
}

/// Binds the named paths of the host's store, read-only: over the session's own store, if it has one, else into a memory
/// file system that is closed afterwards. The session's own is the agent's to write, in another session at this moment,
/// too: what is in its way is met by opened descriptors and through no link.
fn store(root: &OwnedFd, own: Option<&OwnedFd>, list: &Path) -> io::Result<()> {
    let names = fs::read_to_string(list)?;
    let at = |place: &str| crate::beneath::open(root, below(Path::new(place)), libc::O_PATH | libc::O_DIRECTORY);
    let closed = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let memory = if own.is_some() {
        None
    } else {
        let data = format!("mode=0755,size=1m,nr_inodes={}", names.lines().count() + 8);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &itself(&at(STORE)?), Some("tmpfs"), flags, Some(data.as_str()))?;
        Some(at(STORE)?)
    };
    let Some(folder) = own.or(memory.as_ref()) else { return Ok(()) };
    // The host's store within the container's root: from there a bind needs one call, and is read-only from the beginning.
    let whole = open_tree(libc::AT_FDCWD, Path::new(STORE), libc::AT_SYMLINK_NOFOLLOW)?;
    set_attributes(&whole, closed)?;
    attach(&whole, &at(HOST_STORE)?)?;
    let whole = at(HOST_STORE)?;
    for name in names.lines() {
        one_of_store(&whole, folder, name).map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
    }
    umount2(&itself(&whole), MntFlags::MNT_DETACH)?;
    match &memory {
        Some(memory) => set_attributes(memory, closed),
        None => Ok(()),
    }
}

/// A store path is a folder, a file or a link.
fn one_of_store(whole: &OwnedFd, folder: &OwnedFd, name: &str) -> io::Result<()> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let there = |made: nix::Result<()>| match made {
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    };
    let about = fstatat(whole, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match about.st_mode & libc::S_IFMT {
        libc::S_IFDIR => there(mkdirat(folder, name, Mode::from_bits_truncate(0o755)))?,
        libc::S_IFREG => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            there(openat(folder, name, flags, Mode::from_bits_truncate(0o644)).map(drop))?;
        }
        libc::S_IFLNK => {
            let to = readlinkat(whole, name)?;
            there(symlinkat(to.as_os_str(), folder, name))?;
            let same = readlinkat(folder, name)? == to;
            return if same { Ok(()) } else { Err(io::Error::other("another link is in its place")) };
        }
        _ => return Err(io::Error::other("neither a folder, a file nor a link")),
    }
    let to = crate::beneath::open(folder, Path::new(name), libc::O_PATH | libc::O_NOFOLLOW)?;
    let from = itself(whole).join(name);
    Ok(mount(Some(&from), &itself(&to), None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// The descriptor's own name, which leads to just what it is open on.
fn itself(opened: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", opened.as_raw_fd()).into()
}

fn cover(place: &OwnedFd, protected: &Protected) -> io::Result<()> {
    let target = crate::beneath::open(place, &protected.path, libc::O_PATH)?;
    let again = || open_tree(target.as_raw_fd(), Path::new(""), libc::AT_EMPTY_PATH);
    let tree = match &protected.cover {
        Cover::Copy(copy) => copy_of(copy)?,
        Cover::Pin => again()?,
        Cover::Close => {
            let tree = again()?;
            set_attributes(&tree, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
            tree
        }
    };
    attach(&tree, &target)
}

/// A read-only mount, not yet anywhere, of something in the session's own folder.
fn copy_of(path: &Path) -> io::Result<OwnedFd> {
    let tree = open_tree(libc::AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW)?;
    set_attributes(&tree, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
    Ok(tree)
}

/// `move_mount(2)`, Linux 5.2.
fn attach(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
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

/// `mount_setattr(2)`, Linux 5.12: of the mount at this place and all below it.
fn set_attributes(place: &OwnedFd, set: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (size, flags) = (size_of::<libc::mount_attr>(), libc::AT_EMPTY_PATH | libc::AT_RECURSIVE);
    // SAFETY: the path is an empty string and the structure has the size that is given with it.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, place.as_raw_fd(), c"".as_ptr(), flags, &raw const attributes, size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
