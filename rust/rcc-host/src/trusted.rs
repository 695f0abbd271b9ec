//! Reads files that only root can have written: the file and every folder and link on the way to it belong to root, and
//! nobody else may write them (a sticky folder such as /nix/store is fine: what is root's in it stays in place).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// The largest file that is read, in bytes (a bundle of all public CA certificates has 0.3 MB).
const MAX_SIZE: u64 = 8 << 20;

/// The file's bytes, or why they can't be trusted.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let place = place(path)?;
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&place)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.uid() != 0 || facts.mode() & 0o022 != 0 {
        return Err(untrusted(&place));
    }
    contents(file)
}

/// A small file of the kernel's or the system's, of any owner.
pub fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    contents(fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?)
}

fn contents(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE { Err(io::Error::other("the file is too large")) } else { Ok(bytes) }
}

/// Where a path leads, if only root can have made it lead there. Follows links by hand, so that each step is judged.
pub fn place(path: &Path) -> io::Result<PathBuf> {
    let mut todo: VecDeque<OsString> = parts(path);
    let mut done = PathBuf::from("/");
    check(&done)?;
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        let facts = fs::symlink_metadata(&next)?;
        if facts.is_symlink() {
            links += 1;
            if facts.uid() != 0 || links > 40 {
                return Err(untrusted(&next));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        check(&next)?;
        done = next;
    }
    Ok(done)
}

/// An extended attribute's length; its value goes to `value`. Links are followed.
pub fn attribute(path: &Path, name: &std::ffi::CStr, value: &mut [u8]) -> io::Result<usize> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: both strings end with a zero, and the kernel writes `value.len()` bytes at most to `value`.
    #[cfg(target_os = "linux")]
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    // SAFETY: the same; nothing of the value is left out, and no option is set.
    #[cfg(target_os = "macos")]
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len(), 0, 0) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn check(path: &Path) -> io::Result<()> {
    let facts = fs::symlink_metadata(path)?;
    let others_write = facts.mode() & 0o022 != 0;
    let sticky = facts.is_dir() && facts.mode() & 0o1000 != 0;
    if facts.uid() != 0 || (others_write && !sticky) { Err(untrusted(path)) } else { Ok(()) }
}

fn untrusted(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not a file or folder that only root can write", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_below_a_folder_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        fs::write(&file, "x").unwrap();
        let ours = fs::metadata(&file).unwrap().uid();
        let set =
            |mode| fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        set(0o755);
        assert_eq!(read(&file).is_ok(), ours == 0);
        set(0o775);
        assert!(read(&file).is_err());
        set(0o755);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(read(&file).is_err());
        assert!(read(Path::new("/dev/null")).is_err());
        assert!(read(Path::new("/nonexistent/x")).is_err());
    }
}
