//! Whether a folder's file system takes names that differ in case for one, without the kernel knowing it.
//!
//! A protected file is covered by a mount at its name. Where another machine, or a virtual machine's host, compares names
//! (virtiofs from a Mac, 9p from Windows, a file server), the kernel has a name of its own for each spelling: `.ENVRC` is not
//! covered, and what is written there is `.envrc` outside. File systems of the kernel's own that fold names (exFAT, NTFS,
//! ext4 with casefold) have one name for all spellings, which the mount covers.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rcc_report::{Code, Problem, quoted};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Refuses a folder in which protected files could be written by another spelling.
pub fn judge(path: &Path, folder: &File) -> Result<(), Problem> {
    let failed = |e: io::Error| refused(path, &format!("whether names differ by case there can't be told: {e}"));
    if !folds(folder).map_err(failed)? || kernel_compares(folder).map_err(failed)? {
        return Ok(());
    }
    Err(refused(path, "names that differ in case are one there: a protected file could be written by another spelling"))
}

fn refused(path: &Path, what: &str) -> Problem {
    let remedy = if cfg!(target_os = "macos") {
        "diskutil apfs addVolume \"$(diskutil info / | awk '/APFS Container/ { print $3 }')\" 'Case-sensitive APFS' src, and have projects in /Volumes/src".to_owned()
    } else {
        let path = quoted(path.display());
        format!("have it in a file system of this machine's own: git clone {path} ~/project && cd ~/project")
    };
    Problem::new(Code::CHECK_FILE_SYSTEM, path.display().to_string(), what, remedy)
}

/// Whether another spelling of a name leads to the same file.
fn folds(folder: &File) -> io::Result<bool> {
    let mut listed = nix::dir::Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    let names: io::Result<Vec<OsString>> =
        listed.iter().map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned())).collect();
    if let Some(folds) = told_by(&names?, |name| identity(folder, name))? {
        return Ok(folds);
    }
    // Nothing there tells; an empty file does.
    let name = OsString::from(format!(".rcc-spelling-{}", std::process::id()));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    match openat(folder, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(_) => {}
        // What can't be written needs no protection.
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) => return Ok(false),
        Err(e) => return Err(e.into()),
    }
    let told = told_by(std::slice::from_ref(&name), |name| identity(folder, name));
    unlinkat(folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
    Ok(told? == Some(true))
}

/// What a name that is listed in one spelling alone tells: whether the other leads to the same file. None if none tells.
fn told_by<Id: PartialEq>(
    names: &[OsString],
    identity: impl Fn(&OsStr) -> io::Result<Option<Id>>,
) -> io::Result<Option<bool>> {
    for name in names {
        let Some(other) = other_spelling(name).filter(|other| !names.contains(other)) else { continue };
        // One that is gone meanwhile tells nothing.
        if let Some(one) = identity(name)? {
            return Ok(Some(identity(&other)? == Some(one)));
        }
    }
    Ok(None)
}

fn identity(folder: impl AsFd, name: &OsStr) -> io::Result<Option<(libc::dev_t, libc::ino_t)>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(facts) => Ok(Some((facts.st_dev, facts.st_ino))),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The name with its letters in the other case; none if it has no letters.
fn other_spelling(name: &OsStr) -> Option<OsString> {
    let swapped =
        |byte: &u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    let other: Vec<u8> = name.as_bytes().iter().map(swapped).collect();
    (other != name.as_bytes()).then(|| OsString::from_vec(other))
}

/// Whether it is a file system of the kernel's own, whose names the kernel compares.
#[cfg(target_os = "linux")]
fn kernel_compares(folder: &File) -> io::Result<bool> {
    // vfat, exFAT, NTFS, ext4, F2FS, tmpfs, by their magic numbers (statfs(2)).
    const OWN: [i64; 6] = [0x4d44, 0x2011_bab0, 0x7366_746e, 0xef53, 0xf2f5_2010, 0x0102_1994];
    let kind = nix::sys::statfs::fstatfs(folder)?.filesystem_type().0;
    Ok(OWN.contains(&kind))
}

/// A Mac's own names are folded by the Mac, and the machine's kernel, which mounts there, does not know it.
#[cfg(target_os = "macos")]
fn kernel_compares(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_of_this_machines_own_tells_spellings_apart_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let opened = File::open(folder.path()).unwrap();
        assert!(!folds(&opened).unwrap(), "empty");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        // Two names of one file look like two spellings of one name.
        fs::write(folder.path().join("a"), "").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("A")).unwrap();
        fs::write(folder.path().join("12"), "").unwrap();
        assert!(!folds(&opened).unwrap());
        fs::write(folder.path().join(".git"), "").unwrap();
        assert!(!folds(&opened).unwrap());
        judge(folder.path(), &opened).unwrap();
    }

    /// As a Mac's folder looks from its machine: every spelling finds what is there, and one is listed.
    #[test]
    fn a_folder_that_folds_names_is_known_by_any_that_it_lists() {
        let found = |there: &'static [&'static str], folded: bool| {
            move |name: &OsStr| {
                let name = name.to_str().unwrap();
                let is = |n: &&str| if folded { n.eq_ignore_ascii_case(name) } else { *n == name };
                Ok(there.iter().position(is))
            }
        };
        let told = |listed: &[&str], there, folded| {
            let names: Vec<OsString> = listed.iter().map(OsString::from).collect();
            told_by(&names, found(there, folded)).unwrap()
        };
        assert_eq!(told(&["12", ".git"], &["12", ".git"], true), Some(true));
        assert_eq!(told(&["12", ".git"], &["12", ".git"], false), Some(false));
        assert_eq!(told(&["gone", ".git"], &[".git"], true), Some(true));
        assert_eq!(told(&["12"], &["12"], true), None);
        assert_eq!(told(&["a", "A"], &["a", "A"], false), None);
    }

    #[test]
    fn another_spelling_has_other_letters() {
        let other = |name: &str| other_spelling(name.as_ref()).map(|o| o.into_string().unwrap());
        assert_eq!(other(".Git-1"), Some(".gIT-1".into()));
        assert_eq!(other("12"), None);
    }
}
