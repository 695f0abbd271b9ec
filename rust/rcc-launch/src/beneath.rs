//! The only way in which host code opens what an agent can write: below a folder that is open already, through no
//! link, across no surprise (openat2(2), Linux 5.6; on a Mac `O_NOFOLLOW_ANY`, macOS 11, and no `..` in the path).

use nix::fcntl::OFlag;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The flag that opens a place without its content. macOS has none: there a file is opened to read, and never waited for.
#[cfg(target_os = "linux")]
pub const PLACE: i32 = libc::O_PATH;
/// The same.
#[cfg(target_os = "macos")]
pub const PLACE: i32 = libc::O_RDONLY | libc::O_NONBLOCK;

/// Opens `path` below `folder`. Fails with `ELOOP` on any symbolic link and with `EXDEV` on `..` out of it.
#[cfg(target_os = "linux")]
pub fn open(folder: impl AsFd, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    use nix::fcntl::{OpenHow, ResolveFlag, openat2};
    let how = OpenHow::new()
        .flags(OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(folder, path, how)?)
}

/// Opens `path` below `folder`. Fails with `ELOOP` on any symbolic link and with `EXDEV` on `..`.
#[cfg(target_os = "macos")]
pub fn open(folder: impl AsFd, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    use std::path::Component;
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    let flags = OFlag::from_bits_retain(flags | libc::O_NOFOLLOW_ANY) | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(folder, path, flags, nix::sys::stat::Mode::empty())?)
}

/// Writes a new file.
pub fn write_new(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text)
}

/// Reads a regular file of at most `limit` bytes below `folder`; anything else is an error. Never blocks: a FIFO or a
/// device is refused by its kind.
pub fn read(folder: impl AsFd, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::from(open(folder, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "content").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        symlink("/etc", dir.path().join("sub/out")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fd = File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn reads_a_plain_file() {
        let (_dir, fd) = folder();
        assert_eq!(read(&fd, Path::new("plain"), 7).unwrap(), b"content");
    }

    #[test]
    fn refuses_links_escapes_fifos_and_long_files() {
        let (_dir, fd) = folder();
        for path in ["link", "sub/out/passwd", "../etc/passwd", "/etc/passwd", "fifo", "sub"] {
            assert!(read(&fd, Path::new(path), 100).is_err(), "{path} was read");
        }
        assert!(read(&fd, Path::new("plain"), 6).is_err());
    }
}
