//! What a person has chosen to take along: toolchains for every project, and folders for single ones. Kept in one file of
//! the person's, `~/.config/rcc/inside.toml`, which is read and replaced whole.

use crate::added::Access;
use crate::machine::Person;
use crate::personal::{FOLDER, Personal, Privacy};
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use zeroize::Zeroizing;

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
    /// Linked worktrees whose repository comes along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worktrees: Vec<Pair>,
}

/// A linked worktree and its repository, as the person approved them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The worktree's real path.
    pub project: PathBuf,
    /// The real path of what is common to its repository's worktrees.
    pub repository: PathBuf,
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
    match Personal::open(&person.home, Code::INSIDE_FILE)? {
        None => Ok(Inside::default()),
        Some(folder) => parse(person, folder.read(FILE, LIMIT, Privacy::Open)?),
    }
}

/// Changes the choice: reads it, and replaces the file by what `change` makes of it. One change at a time.
pub fn change(person: &Person, change: impl FnOnce(&mut Inside) -> Result<(), Problem>) -> Result<(), Problem> {
    Personal::create(&person.home, Code::INSIDE_FILE)?.change(FILE, LIMIT, |bytes| {
        let mut inside = parse(person, bytes)?;
        change(&mut inside)?;
        toml::to_string(&inside).map(String::into_bytes).map_err(|e| refusal(person, &e.to_string()))
    })
}

fn parse(person: &Person, bytes: Option<Zeroizing<Vec<u8>>>) -> Result<Inside, Problem> {
    let Some(bytes) = bytes else { return Ok(Inside::default()) };
    let text = std::str::from_utf8(&bytes).map_err(|e| refusal(person, &e.to_string()))?;
    toml::from_str(text).map_err(|e| refusal(person, e.message()))
}

fn refusal(person: &Person, what: &str) -> Problem {
    let place = place(person).display().to_string();
    let remedy = format!("correct it; without it nothing but the project comes along: mv '{place}' '{place}.old'");
    Problem::new(Code::INSIDE_FILE, place, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

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
        assert_eq!(inside, Inside { toolchains: vec!["rustup".into()], folders: vec![folder], worktrees: vec![] });
        let about = fs::metadata(place(&person)).unwrap();
        assert_eq!(about.mode() & 0o777, 0o600);
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
