//! Landlock: which files a worker can open, from before its threads start to its end. Reading alone, and of a few places:
//! the kernel's tables of this machine's addresses and links, and CA certificates. All else that it needs of files was read
//! before, or comes as a descriptor.
//!
//! Documented in the kernel's userspace-api/landlock.rst. Where the kernel has it not, that is on record
//! (docs/decisions/0020).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What can be read, with what lies below it: the tables of `rcc_host::net`, devices' flags and numbers, and random numbers,
/// which a statically linked program may take from there.
const PLACES: [&str; 4] = ["/proc/self/net", "/sys/devices", "/dev/random", "/dev/urandom"];

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const ACCESS_READ_FILE: u64 = 1 << 2;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1 << 0;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: RawFd,
}

/// What the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// In force, by this version of its interface.
    InForce(u32),
    /// The kernel has it not, or it is off.
    Absent,
}

impl std::fmt::Display for Landlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InForce(version) => write!(f, "confined by Landlock {version}"),
            Self::Absent => f.write_str("not confined: this kernel has no Landlock"),
        }
    }
}

/// Confines this thread, and those that it starts from now on, to reading [`PLACES`] and these files. Those that do
/// not exist are left out.
pub fn confine(readable: &[PathBuf]) -> io::Result<Landlock> {
    // SAFETY: with this flag the call takes no attributes and gives a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, CREATE_RULESET_VERSION)
    };
    let Ok(version @ 1..) = u32::try_from(version) else {
        let e = io::Error::last_os_error();
        let absent = matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP));
        return if absent { Ok(Landlock::Absent) } else { Err(e) };
    };
    // Everything that this version knows: 13 rights at first, then refer, truncate, and a device's ioctl.
    let rights = match version {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    let attributes = RulesetAttributes {
        handled_access_fs: (1 << rights) - 1,
        handled_access_net: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL,
    };
    let size = if version < 6 { size_of::<u64>() } else { size_of::<RulesetAttributes>() };
    // SAFETY: the kernel reads `size` bytes of the struct, which has at least so many.
    let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0) };
    let ruleset = owned(ruleset)?;
    for path in PLACES.iter().map(Path::new).chain(readable.iter().map(PathBuf::as_path)) {
        allow(&ruleset, path)?;
    }
    // SAFETY: a descriptor that is open, and no flags.
    if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Landlock::InForce(version))
}

fn allow(ruleset: &OwnedFd, path: &Path) -> io::Result<()> {
    let place = match std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path) {
        Ok(place) => place,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let rule = PathBeneath { allowed_access: ACCESS_READ_FILE, parent_fd: place.as_raw_fd() };
    // SAFETY: the kernel reads the struct, whose descriptor is open.
    let done = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // A rule goes by inode. Below /proc the kernel makes these anew when nobody uses them: this one is used to the end.
    std::mem::forget(place);
    Ok(())
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just given this descriptor to nobody else.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_the_named_files_are_read_and_none_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (named, other) = (folder.path().join("ca.pem"), folder.path().join("gateway.jsonl"));
        for file in [&named, &other] {
            fs::write(file, "x").unwrap();
        }
        let (n, o) = (named.clone(), other.clone());
        // Landlock is a thread's: this one's.
        let confined = std::thread::spawn(move || {
            // SAFETY: takes integers only.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
            assert!(fs::read(&o).is_ok(), "the control");
            assert!(matches!(confine(&[n.clone(), "/nonexistent/ca.pem".into()]).unwrap(), Landlock::InForce(1..)));
            assert_eq!(fs::read(&n).unwrap(), b"x");
            rcc_host::net().unwrap();
            assert!(fs::read("/sys/class/net/lo/flags").is_ok());
            for denied in [o.as_path(), Path::new("/etc/passwd"), Path::new("/proc/self/status")] {
                assert_eq!(fs::read(denied).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{denied:?}");
            }
            assert!(fs::write(&n, "y").is_err() && fs::remove_file(&n).is_err());
            assert!(fs::write(n.with_extension("new"), "y").is_err());
        });
        confined.join().unwrap();
        assert!(fs::read(&other).is_ok(), "another thread");
    }
}
