//! The only way in which host code opens what an agent can write: below a folder that is open already, through no
//! link, across no surprise (openat2(2), Linux 5.6).

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens `path` below `folder`. Fails with `ELOOP` on any symbolic link and with `EXDEV` on `..` out of it.
pub fn open(folder: impl AsFd, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(folder, path, how)?)
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
