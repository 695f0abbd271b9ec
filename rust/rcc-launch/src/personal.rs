//! rcc's own configuration of the person: plain files in `~/.config/rcc`, which no agent can write and in which, or
//! around which, no project can lie.
//!
//! Invariant: a file is read only if it is a plain one of the person's with one name, in a folder of the person's that
//! nobody else can write. It is replaced whole, by one rename, or not at all.

use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rcc_report::{Code, Problem};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The folder, below the home folder. Fixed: the environment has no say.
pub const FOLDER: &str = ".config/rcc";

/// The folder, opened.
pub struct Personal {
    folder: File,
    path: PathBuf,
    /// What is said of a file that can't be trusted.
    code: Code,
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// The person alone.
    Secret,
    /// Anybody; it still is the person's alone to write.
    Open,
}

impl Personal {
    /// The folder, if it is there. Problems with it and with its files will have this code.
    pub fn open(home: &Path, code: Code) -> Result<Option<Self>, Problem> {
        let named = home.join(FOLDER);
        // `.config` may be a link of the person's; what it leads to can't be a project either.
        let path = match fs::canonicalize(home.join(".config")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unsound(code, &named, &e.to_string(), "ls -ld ~/.config")),
            Ok(config) => config.join("rcc"),
        };
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = match fs::OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                let what = "it is a link or a file where a folder must be";
                return Err(unsound(code, &path, what, "move it away: mv ~/.config/rcc ~/.config/rcc.old"));
            }
            Err(e) => return Err(unsound(code, &path, &e.to_string(), "ls -ld ~/.config/rcc")),
            Ok(folder) => folder,
        };
        let this = Self { folder, path, code };
        let about = this.folder.metadata().map_err(|e| this.failed("", &e))?;
        if !mine(&about) || about.mode() & 0o022 != 0 {
            let what = "it belongs to another user, or others can write it";
            return Err(unsound(code, &this.path, what, "chmod 700 ~/.config/rcc, and have it belong to you"));
        }
        Ok(Some(this))
    }

    /// The folder, made if it is not there, and closed to others.
    pub fn create(home: &Path, code: Code) -> Result<Self, Problem> {
        let config = home.join(".config");
        let failed = |e: io::Error| unsound(code, &home.join(FOLDER), &e.to_string(), "ls -ld ~/.config ~/.config/rcc");
        match fs::DirBuilder::new().create(&config) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        let parent = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&config).map_err(failed)?;
        match mkdirat(&parent, "rcc", Mode::S_IRWXU) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(failed(e.into())),
        }
        let this = Self::open(home, code)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        fchmod(&this.folder, Mode::S_IRWXU).map_err(|e| failed(e.into()))?;
        Ok(this)
    }

    /// Where a file of it is, for people.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file of at most `limit` bytes, or `None` if there is none.
    pub fn read(&self, name: &str, limit: u64, privacy: Privacy) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let bad = |what: &str, remedy: &str| unsound(self.code, &self.place(name), what, remedy);
        let file = match openat(&self.folder, name, flags, Mode::empty()) {
            Err(nix::errno::Errno::ENOENT) => return Ok(None),
            Err(nix::errno::Errno::ELOOP) => {
                return Err(bad("it is a link", "put the file itself there; rcc follows no link to it"));
            }
            other => File::from(other.map_err(|e| self.failed(name, &e.into()))?),
        };
        let about = file.metadata().map_err(|e| self.failed(name, &e))?;
        let (others, remedy) = match privacy {
            Privacy::Secret => (0o077, "chmod 600 FILE, and have it belong to you"),
            Privacy::Open => (0o022, "chmod go-w FILE, and have it belong to you"),
        };
        if !about.is_file() || !mine(&about) || about.mode() & others != 0 {
            return Err(bad("others than you can get at it, or it is no plain file", remedy));
        }
        if about.nlink() != 1 {
            return Err(bad("the same file has another name (a hard link)", "write it anew under one name"));
        }
        let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| self.failed(name, &e))?;
        if bytes.len() as u64 > limit {
            return Err(bad(&format!("it has more than {limit} bytes"), "look at it, and shorten it"));
        }
        Ok(Some(bytes))
    }

    /// Writes a file, for the person alone. Until it is written whole, the old one stands.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        self.write(name, bytes).map_err(|e| self.failed(name, &e))
    }

    /// Replaces a file by what `change` makes of it (of none, if there is none), one change at a time.
    pub fn change(
        &self,
        name: &str,
        limit: u64,
        change: impl FnOnce(Option<Zeroizing<Vec<u8>>>) -> Result<Vec<u8>, Problem>,
    ) -> Result<(), Problem> {
        let _turn = self.turn().map_err(|e| self.failed(name, &e))?;
        let bytes = change(self.read(name, limit, Privacy::Open)?)?;
        self.put(name, &bytes).map_err(|e| self.failed(name, &e))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.turn()?;
        self.put(name, bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = fresh(name);
        // One that was killed half-way may have left it.
        let _ = unlinkat(&self.folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.folder, new.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let put = written.and_then(|()| Ok(renameat(&self.folder, new.as_str(), &self.folder, name)?));
        if put.is_err() {
            let _ = unlinkat(&self.folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        put?;
        self.folder.sync_all()
    }

    /// Takes a file away, with what a write that was killed left. Whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool, Problem> {
        let _turn = self.turn().map_err(|e| self.failed(name, &e))?;
        let mut was_there = false;
        for name in [fresh(name).as_str(), name] {
            match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) => was_there = true,
                Err(nix::errno::Errno::ENOENT) => {}
                Err(e) => return Err(self.failed(name, &e.into())),
            }
        }
        self.folder.sync_all().map_err(|e| self.failed(name, &e))?;
        Ok(was_there)
    }

    /// One writer at a time.
    fn turn(&self) -> io::Result<Flock<File>> {
        Flock::lock(self.folder.try_clone()?, FlockArg::LockExclusive).map_err(|(_, e)| e.into())
    }

    fn failed(&self, name: &str, error: &io::Error) -> Problem {
        let remedy = "look at it, and at the space on its disk: ls -la ~/.config/rcc; df -h ~";
        unsound(self.code, &self.place(name), &error.to_string(), remedy)
    }
}

/// Where a file is written before it is put in place.
fn fresh(name: &str) -> String {
    format!(".{name}.new")
}

fn mine(about: &Metadata) -> bool {
    about.uid() == nix::unistd::getuid().as_raw()
}

fn unsound(code: Code, path: &Path, what: &str, remedy: &str) -> Problem {
    Problem::new(code, path.display().to_string(), what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const CODE: Code = Code::KEY_UNREADABLE;

    fn read(home: &Path) -> Result<Option<Vec<u8>>, Problem> {
        let Some(personal) = Personal::open(home, CODE)? else { return Ok(None) };
        Ok(personal.read("file", 5, Privacy::Secret)?.map(|bytes| bytes.to_vec()))
    }

    #[test]
    fn what_is_written_is_read_again_and_others_have_no_part_in_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read(home.path()), Ok(None));
        let personal = Personal::create(home.path(), CODE).unwrap();
        assert_eq!(read(home.path()), Ok(None));
        for text in ["one", "two"] {
            personal.replace("file", text.as_bytes()).unwrap();
            assert_eq!(read(home.path()), Ok(Some(text.as_bytes().to_vec())));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let folder = home.path().join(FOLDER);
        assert_eq!((mode(&folder), mode(&folder.join("file"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!((personal.remove("file"), personal.remove("file")), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_write_that_was_killed_leaves_the_old_and_is_no_hindrance() {
        let home = tempfile::tempdir().unwrap();
        let personal = Personal::create(home.path(), CODE).unwrap();
        personal.replace("file", b"old").unwrap();
        let left = home.path().join(FOLDER).join(fresh("file"));
        symlink("/etc/passwd", &left).unwrap();
        assert_eq!(read(home.path()), Ok(Some(b"old".to_vec())));
        personal.replace("file", b"new").unwrap();
        assert_eq!(read(home.path()), Ok(Some(b"new".to_vec())));
        fs::write(&left, "half").unwrap();
        assert_eq!(personal.remove("file"), Ok(true));
        assert!(!left.exists());
    }

    #[test]
    fn what_others_could_have_made_or_can_read_is_refused() {
        type Spoil = fn(&Path);
        let spoils: [(&str, Spoil); 8] = [
            ("others", |f| fs::set_permissions(f.join("file"), fs::Permissions::from_mode(0o640)).unwrap()),
            ("others", |f| fs::set_permissions(f, fs::Permissions::from_mode(0o770)).unwrap()),
            ("more than", |f| fs::write(f.join("file"), "123456").unwrap()),
            ("a link", |f| {
                fs::rename(f.join("file"), f.join("other")).unwrap();
                symlink("other", f.join("file")).unwrap();
            }),
            ("hard link", |f| fs::hard_link(f.join("file"), f.join("other")).unwrap()),
            ("no plain file", |f| {
                fs::remove_file(f.join("file")).unwrap();
                nix::unistd::mkfifo(&f.join("file"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            }),
            ("no plain file", |f| {
                fs::remove_file(f.join("file")).unwrap();
                fs::create_dir(f.join("file")).unwrap();
                fs::set_permissions(f.join("file"), fs::Permissions::from_mode(0o700)).unwrap();
            }),
            ("a link or a file", |f| {
                fs::rename(f, f.with_extension("x")).unwrap();
                symlink("rcc.x", f).unwrap();
            }),
        ];
        for (why, spoil) in spoils {
            let home = tempfile::tempdir().unwrap();
            Personal::create(home.path(), CODE).unwrap().replace("file", b"text").unwrap();
            spoil(&home.path().join(FOLDER));
            let problem = read(home.path()).unwrap_err();
            assert!(problem.code == CODE && problem.what.contains(why), "{why}: {problem}");
        }
    }
}
