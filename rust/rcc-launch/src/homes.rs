//! The agents' homes as a person sees them: which there are, what they take, and removing one.
//!
//! Invariant: every byte of a home is its agent's. Nothing in it is read, no link of it is followed, no depth or mode of
//! its folders stops its removal, and nothing is removed while a session of its project lives.

use crate::folder;
use crate::home::{data_folder, folder_for};
use crate::machine::{Machine, Person};
use crate::{beneath, folder::Others};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{FileStat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rcc_report::{Code, Problem};
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Home {
    /// Its folder's name: the project's, and a hash of the project's path.
    pub name: String,
    /// Whether a session lives in it.
    pub live: bool,
}

/// What a home takes on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
    /// Whether something could not be looked at, so that it is more.
    pub more: bool,
}

fn all_homes(person: &Person) -> PathBuf {
    data_folder(person).join("homes")
}

/// All homes, by name.
#[must_use]
pub fn list(machine: &Machine) -> Vec<Home> {
    let live = live_names(machine, &folder::others(machine));
    let entries = fs::read_dir(all_homes(&machine.person)).into_iter().flatten().flatten();
    let mut homes: Vec<Home> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .map(|name| Home { live: live.contains(&name), name })
        .collect();
    homes.sort_by(|a, b| a.name.cmp(&b.name));
    homes
}

fn live_names(machine: &Machine, others: &Others) -> Vec<String> {
    others.live.iter().filter_map(|project| name_of(&machine.person, project)).collect()
}

/// The name of a project's home.
#[must_use]
pub fn name_of(person: &Person, project: &Path) -> Option<String> {
    folder_for(person, project).file_name().and_then(OsStr::to_str).map(str::to_owned)
}

/// What a home takes. A file with two names counts once; what is mounted in it does not count.
#[must_use]
pub fn size(person: &Person, name: &str) -> Size {
    let mut size = Size::default();
    let Ok(home) = open(&all_homes(person).join(name)) else { return Size { bytes: 0, more: true } };
    let Ok(device) = fstat(&home).map(|about| about.st_dev) else { return Size { bytes: 0, more: true } };
    let mut seen = HashSet::new();
    let mut open = vec![PathBuf::from(".")];
    while let Some(folder) = open.pop() {
        let opened = beneath::open(&home, &folder, libc::O_RDONLY | libc::O_DIRECTORY);
        let Ok(names) = opened.and_then(|folder| names(&folder)) else {
            size.more = true;
            continue;
        };
        for name in names {
            let place = folder.join(name);
            let about = beneath::open(&home, &place, libc::O_PATH | libc::O_NOFOLLOW).and_then(|f| Ok(fstat(&f)?));
            let Ok(about) = about else {
                size.more = true;
                continue;
            };
            if about.st_dev != device || !seen.insert(about.st_ino) {
                continue;
            }
            size.bytes = size.bytes.saturating_add(u64::try_from(about.st_blocks).unwrap_or(0).saturating_mul(512));
            if is_folder(&about) {
                open.push(place);
            }
        }
    }
    size
}

/// Removes a home. It goes out of use at once; a kill leaves what a next removal takes away.
pub fn remove(machine: &Machine, name: &str) -> Result<(), Problem> {
    let homes = all_homes(&machine.person);
    let refuse = |what: String, remedy: &str| Problem::new(Code::HOME_REFUSED, name, what, remedy);
    if !list(machine).iter().any(|home| home.name == name) {
        return Err(refuse("there is no such home".into(), "rcc home list"));
    }
    let failed =
        |e: io::Error| refuse(format!("it can't be removed: {e}"), "look at it: ls -la ~/.local/share/rcc/homes");
    let all = open(&homes).map_err(failed)?;
    let gone = format!(".gone-{}-{name}", std::process::id());
    folder::while_none_starts(machine, |others| {
        if live_names(machine, others).iter().any(|live| live == name) {
            return Err(refuse("a session lives in it".into(), "end that session first"));
        }
        renameat(&all, name, &all, gone.as_str()).map_err(|e| failed(e.into()))
    })?;
    // With what an earlier removal that was killed left.
    for name in names(&all).map_err(failed)? {
        if name.as_bytes().starts_with(b".gone-") {
            remove_tree(&all, &name).map_err(failed)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    Ok(fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}

fn is_folder(about: &FileStat) -> bool {
    about.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(folder.try_clone()?)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes a folder in `all` and everything in it. Folders in it are moved up one by one rather than descended into: an
/// agent can nest them deeper than paths, stacks and descriptors go.
pub(crate) fn remove_tree(all: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let device = fstat(all)?.st_dev;
    let mut left = vec![name.to_owned()];
    // No name that a removal that was killed has left.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut count = 0_u64;
    while let Some(name) = left.pop() {
        let folder = writable(all.as_fd(), &name, device)?;
        for inner in names(&folder)? {
            let about = fstatat(&folder, inner.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if is_folder(&about) {
                writable(folder.as_fd(), &inner, device)?;
                count += 1;
                let up = OsString::from(format!(".gone-{}-{}-{count}", std::process::id(), now.as_nanos()));
                renameat(&folder, inner.as_os_str(), all, up.as_os_str())?;
                left.push(up);
            } else {
                unlinkat(&folder, inner.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
        unlinkat(all, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Opens a folder that its agent may have closed to everybody, after opening it to the person. Not one that is mounted.
fn writable(parent: impl AsFd, name: &OsStr, device: u64) -> io::Result<OwnedFd> {
    let place = beneath::open(parent, Path::new(name), libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)?;
    let about = fstat(&place)?;
    if about.st_dev != device {
        return Err(io::Error::other("something is mounted in it"));
    }
    // The descriptor's own name, which leads to just this folder.
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    if about.st_mode & 0o700 != 0o700 {
        fs::set_permissions(&itself, fs::Permissions::from_mode(0o700))?;
    }
    Ok(File::open(itself)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_home_is_removed_whatever_its_agent_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let homes = dir.path().join("homes");
        let home = homes.join("p-1");
        fs::create_dir_all(home.join("a/b/c")).unwrap();
        symlink(&outside, home.join("link")).unwrap();
        symlink(&outside, home.join("a/link")).unwrap();
        fs::hard_link(outside.join("kept"), home.join("hard")).unwrap();
        nix::unistd::mkfifo(&home.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(home.join("a/b/c/file"), vec![1; 9000]).unwrap();
        // Deeper than a path can be.
        let deep = open(&home).unwrap();
        let mut at = deep;
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&at, "deep", nix::sys::stat::Mode::S_IRWXU).unwrap();
            at = beneath::open(&at, Path::new("deep"), libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
        }
        for folder in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(home.join(folder), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&open(&homes).unwrap(), OsStr::new("p-1")).unwrap();
        assert_eq!(fs::read_dir(&homes).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn what_a_home_takes() {
        let dir = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(dir.path()).unwrap();
        let person = Person { name: "a".into(), uid: 0, gid: 0, home };
        let folder = all_homes(&person).join("p-1");
        fs::create_dir_all(folder.join("in")).unwrap();
        let empty = size(&person, "p-1").bytes;
        fs::write(folder.join("in/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(folder.join("in/file"), folder.join("again")).unwrap();
        symlink("/usr", folder.join("link")).unwrap();
        let size = size(&person, "p-1");
        assert!(!size.more && (1 << 20..2 << 20).contains(&(size.bytes - empty)), "{size:?}");
    }
}
