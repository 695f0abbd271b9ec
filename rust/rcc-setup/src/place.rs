//! Files and folders where only root can write, by descriptors: no link is followed below a folder that was judged.
//!
//! Invariant: a file is there whole or not at all. It is written under another name, flushed, and renamed.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest file that is read, in bytes.
pub const MAX: u64 = 256 << 20;
/// What a name ends in while its file is being written.
const NEW: &str = ".rcc-new";
/// How long a folder is emptied in which others go on to make files.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who may write a folder besides root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Nobody.
    Root,
    /// A group of the system's (Ubuntu's /var/log is syslog's), not everybody.
    SystemGroup,
}

/// A folder that was judged and is held open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder; `None` if there is none.
    pub fn open(path: &Path, writers: Writers) -> io::Result<Option<Self>> {
        // Links that only root can have made are followed on the way (/usr/local may be one), and none after that.
        let (judged, name) = match (writers, path.parent(), path.file_name()) {
            // That one is the group's to write, and only what is above it root's alone (macOS's /var is a link).
            (Writers::SystemGroup, Some(above), Some(name)) => (above, Some(name)),
            _ => (path, None),
        };
        let above = match rcc_host::trusted::place(judged) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let real = name.map_or_else(|| above.clone(), |name| above.join(name));
        let fd = match open_without_links(&real) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let facts = fstat(&fd)?;
        let forbidden = if writers == Writers::Root { 0o022 } else { 0o002 };
        if facts.st_uid != 0 || bits(facts.st_mode) & forbidden != 0 {
            return Err(foreign(&real));
        }
        Ok(Some(Self { fd, path: real }))
    }

    /// The folder of this name in here, of whatever owner; `None` if there is none.
    pub fn inner(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Self>> {
        let name = name.as_ref();
        match openat(&self.fd, name, FOLDER, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path.join(name) })),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes a folder in here if there is none, root's and with this mode.
    pub fn make(&self, name: &str, mode: u32) -> io::Result<Self> {
        match mkdirat(&self.fd, name, permissions(mode)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let folder = self.inner(name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if fstat(&folder.fd)?.st_uid == 0 {
            fchmod(&folder.fd, permissions(mode))?;
        }
        Ok(folder)
    }

    /// A plain file's bytes, whoever has it and whatever its mode, or those that a link leads to; `None` if there is none.
    pub fn bytes(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match openat(&self.fd, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            other => File::from(other?),
        };
        let mut bytes = Vec::new();
        file.take(MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Owner, group and mode of this folder.
    pub fn owner(&self) -> io::Result<(u32, u32, u32)> {
        let facts = fstat(&self.fd)?;
        Ok((facts.st_uid, facts.st_gid, bits(facts.st_mode) & 0o7777))
    }

    /// Gives this folder to a user; if it is still another's, first the plain files in it that are that one's and have no
    /// second name. What a user who is not root leaves besides those goes: links, sockets and folders of theirs, second
    /// names of others' files. A link in the log's place would keep every later gateway from starting.
    pub fn give(&self, from: u32, to: (u32, u32), mode: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(to.0), Gid::from_raw(to.1));
        let owner = self.owner()?.0;
        if owner != from && owner != to.0 {
            return Err(foreign(&self.path));
        }
        // In one that is the user's already lies what the user has put there: it could be somebody else's.
        let names = if owner == from { self.names()? } else { Vec::new() };
        for name in names {
            let Ok(facts) = fstatat(&self.fd, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let plain = is(&facts, SFlag::S_IFREG);
            if from != 0 && (!plain && facts.st_uid == from || plain && facts.st_uid != from && facts.st_nlink > 1) {
                self.remove(&name)?;
                continue;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let Ok(file) = openat(&self.fd, name.as_os_str(), flags, Mode::empty()) else { continue };
            let facts = fstat(&file)?;
            if is(&facts, SFlag::S_IFREG) && facts.st_nlink == 1 && facts.st_uid == from {
                fchown(&file, Some(uid), Some(gid))?;
            }
        }
        fchown(&self.fd, Some(uid), Some(gid))?;
        fchmod(&self.fd, permissions(mode))?;
        Ok(())
    }

    /// The names in here.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut folder = nix::dir::Dir::from_fd(self.fd.try_clone()?)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A plain file's bytes, if it is root's alone and has this mode; `None` if there is none.
    #[cfg(any(target_os = "linux", test))]
    pub fn read(&self, name: &str, mode: u32) -> io::Result<Option<Vec<u8>>> {
        self.read_of(name, (0, 0), mode)
    }

    /// The same of another owner and group.
    pub fn read_of(&self, name: &str, owner: (u32, u32), mode: u32) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ELOOP) => return Ok(None),
            other => File::from(other?),
        };
        let facts = fstat(&file)?;
        let is_its = (facts.st_uid, facts.st_gid) == owner && bits(facts.st_mode) & 0o7777 == mode;
        if !is(&facts, SFlag::S_IFREG) || !is_its {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Puts a file of root's there, in place of what had its name.
    #[cfg(any(target_os = "linux", test))]
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.write_for(name, bytes, (0, 0), mode)
    }

    /// The same for another owner and group. Its bits come after its owner, who changes them, and before its name.
    pub fn write_for(&self, name: &str, bytes: &[u8], owner: (u32, u32), mode: u32) -> io::Result<()> {
        let new = format!("{name}{NEW}");
        self.remove(&new)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, new.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(bytes)?;
        fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
        fchmod(&file, permissions(mode))?;
        file.sync_all()?;
        drop(file);
        renameat(&self.fd, new.as_str(), &self.fd, name)?;
        self.flush()
    }

    /// Where a link leads; `None` if there is nothing of this name, an error if it is no link.
    pub fn link(&self, name: &str) -> io::Result<Option<String>> {
        match readlinkat(&self.fd, name) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::ENOENT) => Ok(None),
            Err(_) => Err(io::Error::other(format!("{} is not a link", self.path.join(name).display()))),
        }
    }

    /// Makes a link, in place of what had its name.
    pub fn make_link(&self, name: &str, target: &str) -> io::Result<()> {
        let new = format!("{name}{NEW}");
        self.remove(&new)?;
        symlinkat(target, &self.fd, new.as_str())?;
        renameat(&self.fd, new.as_str(), &self.fd, name)?;
        self.flush()
    }

    /// Removes a file, a link or a whole folder, if it is there.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = name.as_ref();
        let until = Instant::now() + PATIENCE;
        while !self.unlink(name)? {
            if let Some(inner) = self.inner(name)? {
                inner.flatten()?;
            }
            if Instant::now() > until {
                let what = format!("others go on to make files in {}", self.path.join(name).display());
                return Err(io::Error::other(what));
            }
        }
        Ok(())
    }

    /// Removes what is here, and of folders what is in them; their own folders are moved up to here, to be removed next
    /// time. So any depth, which is another's to choose, is gone through with three descriptors.
    fn flatten(&self) -> io::Result<()> {
        let mut number = 0;
        for name in self.names()? {
            if self.unlink(&name)? {
                continue;
            }
            let Some(inner) = self.inner(&name)? else { continue };
            for name in inner.names()? {
                while !inner.unlink(&name)? {
                    number += 1;
                    match renameat(&inner.fd, name.as_os_str(), &self.fd, format!("rcc-old-{number}").as_str()) {
                        // Something of this name is here already.
                        Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                        Ok(()) | Err(Errno::ENOENT) => break,
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            self.unlink(&name)?;
        }
        Ok(())
    }

    /// Removes what has this name, or has none; false if it is a folder with something in it.
    fn unlink(&self, name: &OsStr) -> io::Result<bool> {
        let flag = match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(facts) if is(&facts, SFlag::S_IFDIR) => UnlinkatFlags::RemoveDir,
            Ok(_) => UnlinkatFlags::NoRemoveDir,
            Err(Errno::ENOENT) => return Ok(true),
            Err(e) => return Err(e.into()),
        };
        match unlinkat(&self.fd, name, flag) {
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            // Something else has got its name in between.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR | Errno::EISDIR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether there is something of this name.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(self.fd.as_fd())?)
    }
}

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A folder at a path on which no link is followed.
#[cfg(target_os = "linux")]
fn open_without_links(path: &Path) -> nix::Result<OwnedFd> {
    use nix::fcntl::{AT_FDCWD, OpenHow, ResolveFlag, openat2};
    openat2(AT_FDCWD, path, OpenHow::new().flags(FOLDER).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS))
}

#[cfg(target_os = "macos")]
fn open_without_links(path: &Path) -> nix::Result<OwnedFd> {
    // O_NOFOLLOW_ANY of open(2), which O_NOFOLLOW excludes.
    let flags = FOLDER.difference(OFlag::O_NOFOLLOW) | OFlag::from_bits_retain(0x2000_0000);
    nix::fcntl::open(path, flags, Mode::empty())
}

/// A mode as the system has it: 16 bits on macOS, 32 on Linux.
#[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "16 bits on macOS"))]
fn bits(mode: nix::libc::mode_t) -> u32 {
    u32::from(mode)
}

fn permissions(mode: u32) -> Mode {
    // Twelve bits fit into either.
    Mode::from_bits_truncate(nix::libc::mode_t::try_from(mode & 0o7777).unwrap_or_default())
}

fn is(facts: &FileStat, kind: SFlag) -> bool {
    facts.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn foreign(path: &Path) -> io::Error {
    io::Error::other(format!("others than root can write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// The tests run as root, as all system tests do.
    fn folder() -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir_in("/run").unwrap();
        let folder = Folder::open(temporary.path(), Writers::Root).unwrap().unwrap();
        (temporary, folder)
    }

    #[test]
    fn a_folder_of_a_systems_group_is_reached_by_roots_links_and_is_none_itself() {
        let temporary = tempfile::tempdir_in("/run").unwrap();
        let at = temporary.path();
        fs::create_dir_all(at.join("private/var/log")).unwrap();
        fs::set_permissions(at.join("private/var/log"), fs::Permissions::from_mode(0o775)).unwrap();
        symlink("private/var", at.join("var")).unwrap();
        let folder = Folder::open(&at.join("var/log"), Writers::SystemGroup).unwrap().unwrap();
        assert_eq!(folder.path, at.join("private/var/log"));
        symlink("log", at.join("private/var/link")).unwrap();
        assert!(Folder::open(&at.join("var/link"), Writers::SystemGroup).is_err());
        assert!(Folder::open(&at.join("none/log"), Writers::SystemGroup).unwrap().is_none());
        assert!(Folder::open(&at.join("var/none"), Writers::SystemGroup).unwrap().is_none());
        // Above it, nobody's but root's.
        fs::set_permissions(at.join("private/var"), fs::Permissions::from_mode(0o775)).unwrap();
        assert!(Folder::open(&at.join("var/log"), Writers::SystemGroup).is_err());
    }

    #[test]
    fn what_is_written_replaces_a_link_and_not_what_it_leads_to() {
        let (temporary, folder) = folder();
        let secret = temporary.path().join("secret");
        fs::write(&secret, "s").unwrap();
        for name in ["a", "a.rcc-new"] {
            symlink(&secret, temporary.path().join(name)).unwrap();
        }
        assert_eq!(folder.read("a", 0o644).unwrap(), None);
        folder.write("a", b"new", 0o644).unwrap();
        assert_eq!(folder.read("a", 0o644).unwrap().unwrap(), b"new");
        assert_eq!(folder.read("a", 0o755).unwrap(), None, "another mode");
        assert_eq!(fs::read(&secret).unwrap(), b"s");
        assert!(!folder.has("a.rcc-new").unwrap());
    }

    #[test]
    fn a_folder_is_removed_with_links_in_it_and_not_through_them() {
        let (temporary, folder) = folder();
        let (inside, outside) = (temporary.path().join("in"), temporary.path().join("out"));
        for path in [&inside, &outside] {
            fs::create_dir(path).unwrap();
        }
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        folder.remove("in").unwrap();
        folder.remove("in").unwrap();
        assert!(outside.join("kept").exists() && !inside.exists());
        assert!(folder.inner("none").unwrap().is_none());
        symlink(&outside, &inside).unwrap();
        assert!(folder.inner("in").is_err(), "a link is no folder");
    }

    #[test]
    fn a_folder_that_others_write_is_refused() {
        let (temporary, _) = folder();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o775)).unwrap();
        assert!(Folder::open(temporary.path(), Writers::Root).is_err());
        assert!(Folder::open(temporary.path(), Writers::SystemGroup).unwrap().is_some());
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(temporary.path(), Writers::SystemGroup).is_err());
    }

    #[test]
    fn a_second_name_of_another_file_is_not_given_away() {
        let (temporary, folder) = folder();
        let inner = folder.make("log", 0o750).unwrap();
        let (log, shared) = (temporary.path().join("log/gateway.jsonl"), temporary.path().join("shared"));
        fs::write(&log, "").unwrap();
        fs::write(&shared, "").unwrap();
        fs::hard_link(&shared, temporary.path().join("log/second")).unwrap();
        inner.give(0, (4711, 4711), 0o750).unwrap();
        assert_eq!(inner.owner().unwrap(), (4711, 4711, 0o750));
        assert_eq!(fs::metadata(&log).unwrap().uid(), 4711);
        assert_eq!(fs::metadata(&shared).unwrap().uid(), 0);
        // Links and folders of theirs, and one of root's.
        for (name, owner) in [("theirs", 4711), ("roots", 0)] {
            let link = temporary.path().join("log").join(name);
            symlink(&shared, &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(owner), None).unwrap();
        }
        fs::create_dir(temporary.path().join("log/folder")).unwrap();
        std::os::unix::fs::chown(temporary.path().join("log/folder"), Some(4711), None).unwrap();
        inner.give(4711, (0, 0), 0o700).unwrap();
        assert_eq!(inner.names().unwrap(), ["gateway.jsonl", "roots"]);
        assert_eq!(fs::metadata(&log).unwrap().uid(), 0);
        assert!(shared.exists());
        assert!(inner.give(4712, (4713, 4713), 0o700).is_err());
    }
    #[test]
    fn what_an_owner_has_put_into_a_folder_of_theirs_is_not_given_to_them() {
        let (temporary, folder) = folder();
        let inner = folder.make("log", 0o750).unwrap();
        inner.give(0, (4711, 4711), 0o750).unwrap();
        let moved = temporary.path().join("log/moved");
        fs::write(&moved, "root's").unwrap();
        fs::set_permissions(temporary.path().join("log"), fs::Permissions::from_mode(0o777)).unwrap();
        inner.give(0, (4711, 4711), 0o750).unwrap();
        assert_eq!(inner.owner().unwrap(), (4711, 4711, 0o750));
        assert_eq!(fs::metadata(&moved).unwrap().uid(), 0);
    }

    #[test]
    fn a_folder_is_removed_however_deep_and_whatever_its_names() {
        let (temporary, folder) = folder();
        fs::create_dir(temporary.path().join("log")).unwrap();
        fs::create_dir(temporary.path().join("log").join(OsStr::from_bytes(b"\xff"))).unwrap();
        fs::write(temporary.path().join("log").join(OsStr::from_bytes(b"\xff/\xfe")), "").unwrap();
        for n in 1..4 {
            fs::write(temporary.path().join(format!("log/rcc-old-{n}")), "").unwrap();
        }
        // Deeper than there are descriptors, and than a path can say.
        let mut deepest = folder.inner("log").unwrap().unwrap();
        for _ in 0..3000 {
            deepest = deepest.make("d", 0o755).unwrap();
            deepest.path = "/".into();
        }
        drop(deepest);
        folder.remove("log").unwrap();
        assert!(!folder.has("log").unwrap());
    }

    /// Another process swaps files, folders, links and second names for each other as fast as it can.
    #[test]
    fn what_is_swapped_meanwhile_leads_nowhere() {
        let (temporary, folder) = folder();
        let outside = temporary.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "secret").unwrap();
        fs::set_permissions(outside.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        let log = temporary.path().join("log");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (file, inner) = (log.join("gateway.jsonl"), log.join("inner"));
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // Each may fail: what it wants to change is being removed.
                    let _ = fs::create_dir(&log);
                    let _ = std::os::unix::fs::chown(&log, Some(4711), Some(4711));
                    let _ = fs::write(log.join("new"), "x").and_then(|()| fs::rename(log.join("new"), &file));
                    let _ = symlink(outside.join("file"), log.join("new"));
                    let _ = fs::rename(log.join("new"), &file);
                    let _ = fs::remove_file(&file).and_then(|()| fs::hard_link(outside.join("file"), &file));
                    let _ = fs::create_dir(&inner).and_then(|()| fs::write(inner.join("file"), "x"));
                    let _ = fs::rename(&inner, log.join("moved"));
                    let _ = symlink(&outside, &inner);
                    let _ = fs::remove_file(&inner);
                    let _ = fs::rename(&log, temporary.path().join("moved")).and_then(|()| symlink(&outside, &log));
                    let _ = fs::remove_file(&log);
                    let _ = fs::remove_dir_all(temporary.path().join("moved"));
                }
            });
            for _ in 0..300 {
                // What they answer is the racer's doing.
                if let Ok(Some(inner)) = folder.inner("log") {
                    let _ = inner.give(4711, (0, 0), 0o700);
                    let _ = inner.give(0, (4711, 4711), 0o750);
                    let _ = inner.remove("inner");
                }
                let _ = folder.remove("log");
                let _ = folder.make("log", 0o750);
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let facts = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
        assert_eq!(facts(&outside), (0, 0, 0o755));
        assert_eq!(facts(&outside.join("file")), (0, 0, 0o600));
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
