//! The agent's home: a folder per project, outside of it, kept between runs. The agent owns every byte of it, so the
//! host side makes it and its mount points, and reads nothing of it.

use crate::beneath;
use crate::machine::Person;
use rcc_report::{Code, Problem, quoted};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Where rcc keeps the person's data: agents' homes, agents, Podman's storage. Fixed below the home folder; the
/// environment has no say.
#[must_use]
pub fn data_folder(person: &Person) -> PathBuf {
    person.home.join(".local/share/rcc")
}

/// The home of the agent for a project: the project's name for people, a hash of its path for uniqueness.
#[must_use]
pub fn folder_for(person: &Person, project: &Path) -> PathBuf {
    let digest = Sha256::digest(project.as_os_str().as_bytes());
    let hash = digest.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let name: String = project
        .file_name()
        .map(|n| {
            n.to_string_lossy()
                .chars()
                .map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '_' })
                .take(40)
                .collect()
        })
        .unwrap_or_default();
    data_folder(person).join("homes").join(format!("{name}-{hash:012x}"))
}

/// A file that a new home begins with.
pub struct FirstFile {
    /// Relative to the home.
    pub path: &'static str,
    /// What it holds.
    pub text: String,
}

/// Makes the home if it is not there, with its first files, and gives it opened.
pub fn prepare(folder: &Path, first: &[FirstFile]) -> Result<OwnedFd, Problem> {
    let failed = |e: io::Error| disk_problem(folder, &e);
    let parent = folder.parent().unwrap_or(folder);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    if fs::symlink_metadata(folder).is_err() {
        // Made beside and renamed, so that a home is either not there or complete.
        let fresh = parent.join(format!(".new-{}", std::process::id()));
        let _ = fs::remove_dir_all(&fresh);
        let made = fill(&fresh, first).and_then(|()| match fs::rename(&fresh, folder) {
            // Another session of this project was quicker.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Ok(()),
            done => done,
        });
        let _ = fs::remove_dir_all(&fresh);
        made.map_err(failed)?;
    }
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(folder)
        .map_err(failed)?;
    let about = opened.metadata().map_err(failed)?;
    if about.uid() != nix::unistd::getuid().as_raw() {
        return Err(disk_problem(folder, &io::Error::other("it belongs to another user")));
    }
    room(folder, &opened)?;
    Ok(opened.into())
}

fn fill(folder: &Path, first: &[FirstFile]) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    for file in first {
        let path = folder.join(file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        out.write_all(file.text.as_bytes())?;
        out.sync_all()?;
    }
    Ok(())
}

/// An agent that can't write its home loses its history half-way; better said before.
fn room(folder: &Path, opened: &File) -> Result<(), Problem> {
    const LEAST: u64 = 16 << 20;
    let about = nix::sys::statvfs::fstatvfs(opened).map_err(|e| disk_problem(folder, &e.into()))?;
    if about.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
        return Err(disk_problem(folder, &io::Error::from_raw_os_error(libc::EROFS)));
    }
    #[expect(clippy::useless_conversion, reason = "the types differ between platforms")]
    let (blocks, size) = (u64::from(about.blocks_available()), u64::from(about.fragment_size()));
    if blocks.saturating_mul(size) < LEAST {
        return Err(disk_problem(folder, &io::Error::from_raw_os_error(libc::ENOSPC)));
    }
    Ok(())
}

/// What can't be written, with what helps.
#[must_use]
pub fn disk_problem(path: &Path, error: &io::Error) -> Problem {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            format!("free some space on that disk (at least 16 MiB): df -h {}", quoted(path.display()))
        }
        _ => format!("look at it: ls -ld {}", quoted(path.display())),
    };
    Problem::new(Code::SESSION_DISK, path.display().to_string(), error.to_string(), remedy)
}

/// Makes the folders in the home that something is mounted on. Follows no link: the agent may have left one.
pub fn mount_point(home: &OwnedFd, relative: &Path, is_folder: bool) -> io::Result<()> {
    let mut at = PathBuf::new();
    let parts: Vec<Component> = relative.components().collect();
    for (i, part) in parts.iter().enumerate() {
        let parent = beneath::open(
            home,
            if at.as_os_str().is_empty() { Path::new(".") } else { &at },
            libc::O_PATH | libc::O_DIRECTORY,
        )?;
        let name: &Path = part.as_ref();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
        let last_is_file = i + 1 == parts.len() && !is_folder;
        let creation = if last_is_file {
            let flags = nix::fcntl::OFlag::O_CREAT
                | nix::fcntl::OFlag::O_EXCL
                | nix::fcntl::OFlag::O_WRONLY
                | nix::fcntl::OFlag::O_CLOEXEC;
            nix::fcntl::openat(&parent, name, flags, mode).map(drop)
        } else {
            nix::sys::stat::mkdirat(&parent, name, mode)
        };
        match creation {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at.push(name);
    }
    let kind = if is_folder { libc::O_DIRECTORY } else { 0 };
    beneath::open(home, relative, libc::O_PATH | kind).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("homes/p-1");
        prepare(&folder, &[FirstFile { path: ".a/b", text: "first".into() }]).unwrap();
        fs::write(folder.join(".a/b"), "agent's").unwrap();
        prepare(&folder, &[FirstFile { path: ".a/b", text: "first".into() }]).unwrap();
        assert_eq!(fs::read_to_string(folder.join(".a/b")).unwrap(), "agent's");
        assert_eq!(fs::read_dir(dir.path().join("homes")).unwrap().count(), 1);
    }

    #[test]
    fn a_link_left_by_the_agent_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let folder = dir.path().join("home");
        let home = prepare(&folder, &[]).unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("src")).unwrap();
        assert!(mount_point(&home, Path::new("src/p"), true).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        mount_point(&home, Path::new("work/p"), true).unwrap();
        assert!(folder.join("work/p").is_dir());
    }

    #[test]
    fn a_home_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("home")).unwrap();
        assert_eq!(prepare(&dir.path().join("home"), &[]).unwrap_err().code, Code::SESSION_DISK);
    }
}
