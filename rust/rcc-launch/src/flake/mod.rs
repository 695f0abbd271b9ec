//! The `nix` root filesystem: what the project's flake has in its devShell, as the person approved it.
//!
//! Evaluating a flake can fetch and build on the host, and the agent can write every file of the project. Invariant: Nix
//! runs only in [`approve`], on a private copy of exactly the files whose content the person approved; a start reads what
//! was kept then, runs no Nix, and has the last approved closure whatever the project's files say by now.

mod difference;
mod evaluate;
mod found;
mod package;
mod root;
mod store;
mod variables;

use evaluate::Closure;
pub use evaluate::Nix;
pub use found::Found;
pub use package::Package;
pub use root::{compose, into_request};
pub use store::{Owner, STORE, owner};

use crate::beneath;
use crate::folder;
use crate::hex::hex;
use crate::home::{data_folder, disk_problem, folder_for};
use crate::homes;
use crate::machine::{Machine, Person};
use crate::project::Project;
use nix::fcntl::{Flock, FlockArg};
use rcc_report::{Code, Problem, quoted};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a flake begins, and where its inputs are locked.
pub const FLAKE: &str = "flake.nix";
/// See [`FLAKE`].
pub const LOCK: &str = "flake.lock";

/// Bytes of one file.
const FILE_LIMIT: u64 = 4 << 20;
/// Bytes of all.
const ALL_LIMIT: usize = 16 << 20;
/// Files.
const MOST_FILES: usize = 1000;
/// Bytes of a record: a closure of 20,000 store paths.
const RECORD_LIMIT: u64 = 4 << 20;
/// The record's form.
const VERSION: u32 = 2;
const RECORD: &str = "approved.json";

/// The files that a flake is evaluated from, as they were when they were read, by their names below the project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Reads `flake.nix`, `flake.lock` and the named ones; none, if there is no `flake.nix`.
    pub fn read(project: &Project, named: &[String]) -> Result<Option<Self>, Problem> {
        Self::below(&project.folder, &project.path, named)
    }

    fn below(folder: &OwnedFd, place: &Path, named: &[String]) -> Result<Option<Self>, Problem> {
        let refuse = |name: &str, what: String| {
            let remedy = "put a plain file in its place, or name another in rcc.toml: [toolchain], files = [\"…\"]";
            Problem::new(Code::TOOLCHAIN_FILES, place.join(name).display().to_string(), what, remedy)
        };
        let mut all = Self::default();
        let mut bytes_left = ALL_LIMIT;
        let wanted: BTreeSet<&str> = [FLAKE, LOCK].into_iter().chain(named.iter().map(String::as_str)).collect();
        if wanted.len() > MOST_FILES {
            return Err(refuse("rcc.toml", format!("it names more than {MOST_FILES} files")));
        }
        for name in wanted {
            let bytes = match beneath::read(folder, Path::new(name), FILE_LIMIT) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && name == FLAKE => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::NotFound && name == LOCK => continue,
                Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
                    return Err(refuse(name, "it is a link, or lies behind one".into()));
                }
                other => other.map_err(|e| refuse(name, e.to_string()))?,
            };
            bytes_left = bytes_left
                .checked_sub(bytes.len())
                .ok_or_else(|| refuse(name, format!("together they have more than {} MiB", ALL_LIMIT >> 20)))?;
            all.0.insert(name.to_owned(), bytes);
        }
        Ok(Some(all))
    }

    /// What tells this content from every other: names and bytes.
    #[must_use]
    pub fn content(&self) -> String {
        let mut digest = Sha256::new();
        for (name, bytes) in &self.0 {
            for part in [name.as_bytes(), bytes] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        hex(&digest.finalize())
    }

    /// The difference from what was approved before, for people, a line each, escaped.
    #[must_use]
    pub fn difference(&self, before: Option<&Self>) -> Vec<String> {
        difference::lines(before.map(|b| &b.0), &self.0)
    }

    /// Writes them into a folder that is not there yet.
    fn write(&self, folder: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder)?;
        for (name, bytes) in &self.0 {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            beneath::write_new(&path, bytes, 0o600)?;
        }
        Ok(())
    }
}

/// What the person approved of a project's flake, and what Nix made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    version: u32,
    /// The project's real path.
    project: PathBuf,
    /// [`Files::content`] of what was approved.
    pub content: String,
    /// The names of those files.
    files: Vec<String>,
    /// The store path that has the devShell's variables.
    built: PathBuf,
    /// Names in /nix/store: everything that the devShell needs.
    pub store: Vec<String>,
    /// What of it the root has links to.
    pub found: Found,
    /// What a shell of the person's own gets besides PATH.
    outside: BTreeMap<String, String>,
    /// The person's folder of it; not written down.
    #[serde(skip)]
    folder: PathBuf,
}

/// What all forms of the record have.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

/// A closure of the store that is the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The project's devShell, as the person approved it.
    Approved(Approved),
    /// A package that the person named.
    Package(Package),
}

impl Toolchain {
    /// Names in /nix/store: everything that it needs.
    #[must_use]
    pub fn store(&self) -> &[String] {
        match self {
            Self::Approved(approved) => &approved.store,
            Self::Package(package) => &package.store,
        }
    }

    /// What of it the root has links to.
    #[must_use]
    pub fn found(&self) -> &Found {
        match self {
            Self::Approved(approved) => &approved.found,
            Self::Package(package) => &package.found,
        }
    }

    /// See `Approved::own_store`; a package has none, as Nix has no books of it there.
    #[must_use]
    pub fn own_store(&self) -> Vec<(PathBuf, PathBuf)> {
        match self {
            Self::Approved(approved) => approved.own_store(),
            Self::Package(_) => Vec::new(),
        }
    }

    /// Makes the folders of the session's own store.
    pub fn make_own_store(&self) -> Result<(), Problem> {
        for (folder, _) in self.own_store() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(|e| disk_problem(&folder, &e))?;
        }
        Ok(())
    }
}

/// The person's folder for a project's approved toolchain.
fn folder_of(person: &Person, project: &Path) -> PathBuf {
    let home = folder_for(person, project);
    data_folder(person).join("toolchains").join(home.file_name().unwrap_or_default())
}

impl Approved {
    /// What is approved for a project, if anything is.
    pub fn read(person: &Person, project: &Path) -> Result<Option<Self>, Problem> {
        let folder = folder_of(person, project);
        let place = folder.join(RECORD);
        let bad = |what: String| gone(&place, what);
        let opened = match File::open(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| bad(e.to_string()))?,
        };
        let bytes = match beneath::read(&opened, Path::new(RECORD), RECORD_LIMIT) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| bad(e.to_string()))?,
        };
        let another = || bad("another version of rcc wrote it".into());
        let mut this: Self =
            serde_json::from_slice(&bytes).map_err(|e| match serde_json::from_slice::<Form>(&bytes) {
                Ok(form) if form.version != VERSION => another(),
                _ => bad(e.to_string()),
            })?;
        if this.version != VERSION {
            return Err(another());
        }
        let content = this.content.len() == 64 && this.content.bytes().all(|b| b.is_ascii_hexdigit());
        let names: BTreeSet<&str> = this.store.iter().map(String::as_str).collect();
        let known = |path: &Path| store::name_of(path).is_some_and(|name| names.contains(name));
        let sound = this.project == project && content;
        if !sound
            || !names.iter().all(|name| store::is_name(name))
            || !this.found.all().all(known)
            || !known(&this.built)
            || !this.outside.keys().all(|name| variables::goes_out(name))
        {
            return Err(bad("it is not what this version of rcc writes".into()));
        }
        this.folder = folder.join(&this.content);
        Ok(Some(this))
    }

    /// The files that were approved.
    pub fn files(&self) -> Result<Files, Problem> {
        let source = self.folder.join("source");
        let failed = |e: io::Error| gone(&source, e.to_string());
        let folder: OwnedFd = File::open(&source).map_err(failed)?.into();
        let mut all = Files::default();
        for name in &self.files {
            all.0.insert(name.clone(), beneath::read(&folder, Path::new(name), FILE_LIMIT).map_err(failed)?);
        }
        if all.content() == self.content { Ok(all) } else { Err(gone(&source, "it was changed".into())) }
    }

    /// The script that gives a shell the devShell's variables and runs its `shellHook`.
    #[must_use]
    pub fn environment(&self) -> PathBuf {
        self.folder.join("environment")
    }

    /// What gives a shell of the person's own the devShell's programs: assignments, and nothing that a shell would run.
    #[must_use]
    pub fn outside(&self) -> String {
        let folders = self.found.path.iter().map(|folder| quoted(folder.display()));
        let path = folders.chain(["\"$PATH\"".to_owned()]).collect::<Vec<_>>().join(":");
        let mut text = format!("export PATH={path}\n");
        for (name, value) in &self.outside {
            let _never_fails = writeln!(text, "export {name}={}", quoted(value));
        }
        text
    }

    /// What Nix has on record of the closure's paths, for a store of the session's own.
    #[must_use]
    pub fn registration(&self) -> PathBuf {
        self.folder.join("registration")
    }

    /// Where the session's own store lies, with Nix's books of it, if the devShell has Nix: sources of mounts outside and
    /// their places inside. The agent's to write; the closure is bound over what is its own.
    fn own_store(&self) -> Vec<(PathBuf, PathBuf)> {
        let places = ["/nix/store", "/nix/var"].map(PathBuf::from);
        let of = |place: PathBuf| (self.folder.join(place.strip_prefix("/").unwrap_or(&place)), place);
        self.found.nix.iter().flat_map(|_| places.clone().map(of)).collect()
    }

    /// Demands that each store path is there, and is of whoever the store is.
    pub fn whole(&self, person: &Person) -> Result<(), Problem> {
        let owner = store::owner(person)?;
        for name in &self.store {
            store::there(name, owner, person)?;
        }
        for file in [self.environment(), self.registration()] {
            match fs::symlink_metadata(&file) {
                Ok(about) if about.is_file() => {}
                Ok(_) => return Err(gone(&file, "it is no file".into())),
                Err(e) => return Err(gone(&file, e.to_string())),
            }
        }
        Ok(())
    }
}

fn gone(place: &Path, what: String) -> Problem {
    Problem::new(Code::TOOLCHAIN_GONE, place.display().to_string(), what, "make it again: rcc toolchain approve")
}

/// Has Nix make the devShell of these files, and keeps it as the person's approved toolchain of this project. Until it is
/// whole, the one before stands. `say` hears Nix's progress.
pub fn approve(
    files: &Files,
    project: &Project,
    machine: &Machine,
    say: &mut dyn FnMut(&str),
) -> Result<Approved, Problem> {
    let person = &machine.person;
    let nix = Nix::find(person)?;
    let all = folder_of(person, &project.path);
    let disk = |e: io::Error| disk_problem(&all, &e);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(disk)?;
    // One at a time.
    let turn = File::open(&all).and_then(|all| Flock::lock(all, FlockArg::LockExclusive).map_err(|(_, e)| e.into()));
    let _turn = turn.map_err(disk)?;
    let content = files.content();
    let folder = all.join(&content);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(disk)?;
    // What a run that was killed left of it may be half.
    let source = folder.join("source");
    match fs::remove_dir_all(&source) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk(e)),
        _ => files.write(&source).map_err(disk)?,
    }
    let missing = |stderr: &str| outside_of_set(stderr, files, project);
    let environment = nix.environment(&source, &folder.join("profile"), &missing, say)?;
    let variables = nix.variables(&folder.join("profile"), say)?;
    let Closure { built, names: store, registration } = nix.closure(&folder.join("profile"), say)?;
    let found = Found::look(&store, variables.path())?;
    let outside = variables.outside(&store);
    put(&folder, "environment", environment.as_bytes()).map_err(disk)?;
    put(&folder, "registration", registration.as_bytes()).map_err(disk)?;
    let names = files.0.keys().cloned().collect();
    let project_path = project.path.clone();
    let version = VERSION;
    let this = Approved { version, project: project_path, content, files: names, built, store, found, outside, folder };
    this.whole(person)?;
    let text = serde_json::to_vec_pretty(&this).map_err(|e| disk(e.into()))?;
    put(&all, RECORD, &text).map_err(disk)?;
    prune(&all, &this.content, project, machine);
    Ok(this)
}

/// Replaces a file by one rename.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder.join(format!(".{name}"));
    let _none_left = fs::remove_file(&fresh);
    beneath::write_new(&fresh, bytes, 0o600)?;
    fs::rename(fresh, folder.join(name))
}

/// Takes away what is approved for a project; whether anything was. Nix may collect it from then on.
pub fn forget(machine: &Machine, project: &Project) -> Result<bool, Problem> {
    let all = folder_of(&machine.person, &project.path);
    match fs::remove_file(all.join(RECORD)) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(disk_problem(&all, &e)),
    }
    prune(&all, "", project, machine);
    Ok(true)
}

/// Removes what was approved before, and so its root against Nix's garbage collection, unless a session may live of it.
fn prune(all: &Path, content: &str, project: &Project, machine: &Machine) {
    if folder::others(machine).live.contains(&project.path) {
        return;
    }
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != *content {
            // What can't be removed costs space, and is tried again at the next approval. Some of it was an agent's.
            let opened = File::open(all).map(OwnedFd::from);
            let _stays = opened.and_then(|all| homes::remove_tree(&all, &entry.file_name()));
        }
    }
}

/// The file of the project that Nix missed in the copy, if that was it: the store path of the copy ends with `-source`.
fn outside_of_set(stderr: &str, files: &Files, project: &Project) -> Option<Problem> {
    let after = |part: &str| part.split(['\'', '"', '«', '»', ' ', '\n', ':']).next().map(str::to_owned);
    let names = stderr.split("source»/").chain(stderr.split("-source/")).filter_map(after);
    let known = |name: &str| files.0.keys().any(|known| known == name || Path::new(known).starts_with(name));
    let there = |name: &str| beneath::open(&project.folder, Path::new(name), libc::O_PATH | libc::O_NOFOLLOW).ok();
    let (name, opened) =
        names.filter(|name| !name.is_empty() && !known(name)).find_map(|n| there(&n).map(|o| (n, o)))?;
    let is_folder = nix::sys::stat::fstat(&opened).is_ok_and(|about| about.st_mode & libc::S_IFMT == libc::S_IFDIR);
    let wanted = if is_folder { format!("{name}/FILE") } else { name.clone() };
    let mut list: Vec<&str> = files.0.keys().map(String::as_str).filter(|n| *n != FLAKE && *n != LOCK).collect();
    list.push(&wanted);
    let list: Vec<String> = list.iter().map(|n| format!("{n:?}")).collect();
    Some(Problem::new(
        Code::TOOLCHAIN_FILES,
        project.path.join(&name).display().to_string(),
        "the flake reads it, and it is not among the files that are evaluated",
        format!("name it in {}, under [toolchain]: files = [{}]", quoted("rcc.toml"), list.join(", ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn read(folder: &Path, named: &[&str]) -> Result<Option<Files>, Problem> {
        let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
        Files::below(&File::open(folder).unwrap().into(), folder, &named)
    }

    #[test]
    fn content_is_names_and_bytes() {
        let of = |files: &[(&str, &str)]| {
            Files(files.iter().map(|(n, b)| ((*n).to_owned(), b.as_bytes().to_vec())).collect()).content()
        };
        let all = [
            of(&[("flake.nix", "ab")]),
            of(&[("flake.nix", "abc")]),
            of(&[("flake.nix", "a"), ("flake.lock", "b")]),
            of(&[("flake.nix", ""), ("x", "")]),
            of(&[("flake.nix", "x")]),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn only_plain_files_of_the_project_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(read(dir.path(), &[]), Ok(None));
        fs::write(at("flake.nix"), "{}").unwrap();
        fs::create_dir(at("nix")).unwrap();
        fs::write(at("nix/shell.nix"), "1").unwrap();
        assert_eq!(read(dir.path(), &["nix/shell.nix"]).unwrap().unwrap().0.len(), 2);
        symlink("/etc", at("out")).unwrap();
        symlink("/etc/passwd", at("flake.lock")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (named, subject) in [
            ("nix/shell.nix", "flake.lock"),
            ("out/passwd", "out/passwd"),
            ("fifo", "fifo"),
            ("nix", "nix"),
            ("no", "no"),
        ] {
            if named != "nix/shell.nix" {
                let _gone = fs::remove_file(at("flake.lock"));
            }
            let problem = read(dir.path(), &[named]).unwrap_err();
            assert!(problem.code == Code::TOOLCHAIN_FILES && problem.subject.ends_with(subject), "{problem}");
        }
        fs::write(at("flake.lock"), vec![b'x'; (4 << 20) + 1]).unwrap();
        assert!(read(dir.path(), &[]).is_err());
    }
}
