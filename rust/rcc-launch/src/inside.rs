//! What a person has chosen to take along: toolchains for every project, and folders for single ones. Kept in one file of
//! the person's, `~/.config/rcc/inside.toml`, which is read and replaced whole.
//!
//! Invariant: the file is a plain one of the person's, in a folder of the person's that nobody else writes; else it is
//! neither read nor written. (`~/.config` itself may be a link, as it is where people keep their dotfiles.)

use crate::added::Access;
use crate::beneath;
use crate::machine::Person;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder, below the home folder.
const FOLDER: &str = ".config/rcc";
const FILE: &str = "inside.toml";
const LIMIT: u64 = 256 << 10;

/// The choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// Names of toolchains, for every project.
    #[serde(default)]
    pub toolchains: Vec<String>,
    /// Folders, each for one project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
}

/// A folder that goes along with a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The project's real path.
    pub project: PathBuf,
    /// The folder's real path.
    pub path: PathBuf,
    /// Whether the agent may write there.
    pub writable: bool,
}

impl Folder {
    /// Whether the agent may write.
    #[must_use]
    pub fn access(&self) -> Access {
        if self.writable { Access::Writable } else { Access::ReadOnly }
    }
}

/// Where the file is, for messages.
#[must_use]
pub fn place(person: &Person) -> PathBuf {
    person.home.join(FOLDER).join(FILE)
}

/// Reads the choice; there is none if there is no file.
pub fn read(person: &Person) -> Result<Inside, Problem> {
    match open_folder(person) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Inside::default()),
        Err(e) => Err(refusal(person, &e)),
        Ok(folder) => read_in(&folder, person),
    }
}

/// Changes the choice: reads it, and replaces the file by what `change` makes of it. One change at a time.
pub fn change(person: &Person, change: impl FnOnce(&mut Inside) -> Result<(), Problem>) -> Result<(), Problem> {
    let wrong = |e: io::Error| refusal(person, &e);
    let path = person.home.join(FOLDER);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(wrong)?;
    let folder = open_folder(person).map_err(wrong)?;
    // Held to the end of the function.
    let _turn =
        Flock::lock(folder.try_clone().map_err(wrong)?, FlockArg::LockExclusive).map_err(|(_, e)| wrong(e.into()))?;
    let mut inside = read_in(&folder, person)?;
    let before = inside.clone();
    change(&mut inside)?;
    if inside == before {
        return Ok(());
    }
    let text = toml::to_string(&inside).map_err(|e| wrong(io::Error::other(e)))?;
    replace(&folder, text.as_bytes()).map_err(wrong)
}

fn open_folder(person: &Person) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    let folder =
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(person.home.join(FOLDER))?;
    private(&folder, person)?;
    Ok(folder)
}

/// The person's own, and nobody else's to write.
fn private(file: &File, person: &Person) -> io::Result<()> {
    let about = file.metadata()?;
    if about.uid() != person.uid || about.mode() & 0o022 != 0 {
        return Err(io::Error::other("it, or its folder, is another user's, or others can write it"));
    }
    Ok(())
}

fn read_in(folder: &File, person: &Person) -> Result<Inside, Problem> {
    let wrong = |e: io::Error| refusal(person, &e);
    let opened = beneath::open(folder, Path::new(FILE), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY);
    let opened = match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Inside::default()),
        other => File::from(other.map_err(wrong)?),
    };
    private(&opened, person).map_err(wrong)?;
    let bytes = beneath::read(folder, Path::new(FILE), LIMIT).map_err(wrong)?;
    let text = String::from_utf8(bytes).map_err(|e| wrong(io::Error::other(e)))?;
    toml::from_str(&text).map_err(|e| wrong(io::Error::other(e.message().to_owned())))
}

/// A new file beside it takes its name, so that it is either the old one or the new one, whatever ends this process.
fn replace(folder: &File, text: &[u8]) -> io::Result<()> {
    let fresh = format!(".{FILE}.new");
    let _left_by_a_kill = nix::unistd::unlinkat(folder, fresh.as_str(), nix::unistd::UnlinkatFlags::NoRemoveDir);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut file = File::from(nix::fcntl::openat(folder, fresh.as_str(), flags, Mode::from_bits_truncate(0o600))?);
    file.write_all(text)?;
    file.sync_all()?;
    nix::fcntl::renameat(folder, fresh.as_str(), folder, FILE)?;
    folder.sync_all()
}

fn refusal(person: &Person, error: &io::Error) -> Problem {
    let place = place(person).display().to_string();
    let what = match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => "it, or its folder, is a link; it must be a plain file".to_owned(),
        _ => error.to_string(),
    };
    let remedy = format!("look at it; without it nothing but the project comes along: ls -ld ~/{FOLDER} '{place}'");
    Problem::new(Code::INSIDE_FILE, place, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn person(home: &Path) -> Person {
        let uid = nix::unistd::getuid().as_raw();
        Person { name: "alice".into(), uid, gid: uid, home: fs::canonicalize(home).unwrap() }
    }

    fn add(person: &Person, name: &str) -> Result<(), Problem> {
        change(person, |inside| {
            inside.toolchains.push(name.to_owned());
            Ok(())
        })
    }

    #[test]
    fn what_is_chosen_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let person = person(dir.path());
        assert_eq!(read(&person).unwrap(), Inside::default());
        add(&person, "rustup").unwrap();
        let folder = Folder { project: "/home/alice/p".into(), path: "/srv/data".into(), writable: true };
        change(&person, |inside| {
            inside.folders.push(folder.clone());
            Ok(())
        })
        .unwrap();
        let inside = read(&person).unwrap();
        assert_eq!(inside, Inside { toolchains: vec!["rustup".into()], folders: vec![folder] });
        let about = fs::metadata(place(&person)).unwrap();
        assert_eq!(about.mode() & 0o777, 0o600);
        // Nothing changed: the file is the same one.
        change(&person, |_| Ok(())).unwrap();
        assert_eq!(fs::metadata(place(&person)).unwrap().ino(), about.ino());
    }

    #[test]
    fn what_is_not_plainly_the_persons_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let person = person(dir.path());
        add(&person, "nvm").unwrap();
        let file = place(&person);
        let folder = file.parent().unwrap().to_owned();
        let refused = |what: &str| {
            assert_eq!(read(&person).unwrap_err().code, Code::INSIDE_FILE, "{what}");
            assert_eq!(add(&person, "uv").unwrap_err().code, Code::INSIDE_FILE, "{what}");
        };
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        refused("others write the file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        refused("others write the folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&file, "toolchain = []").unwrap();
        refused("an unknown key");
        fs::rename(&file, folder.join("other")).unwrap();
        symlink("other", &file).unwrap();
        refused("a link");
        assert_eq!(fs::read_to_string(folder.join("other")).unwrap(), "toolchain = []");
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap();
        refused("a FIFO");
        fs::remove_file(&file).unwrap();
        fs::rename(&folder, dir.path().join("away")).unwrap();
        symlink(dir.path().join("away"), &folder).unwrap();
        refused("a folder that is a link");
        assert!(!dir.path().join("away").join(FILE).exists());
    }
}
