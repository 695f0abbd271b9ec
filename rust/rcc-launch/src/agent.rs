//! Agents: each is one native program of a pinned version and hash, kept outside of every project and mounted
//! read-only.
//!
//! Invariant: `agents/NAME/VERSION` is there whole or not at all. It is made beside itself under a lock, from a
//! tarball whose hash was compared before anything was unpacked, and put in place by one rename. At every start its
//! owner, modes and size are compared again, which costs microseconds; its content is not, since only the person (or
//! root) can have written it since.

pub mod choice;
mod npm;
pub mod pins;
mod unpack;

pub use pins::{CLAUDE, Pin};

use crate::home;
use crate::machine::Person;
use nix::errno::Errno;
use rcc_report::{Code, Problem, quoted};
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// An agent that is installed and looks as it was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name: `claude`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The folder to mount, with no link in its path.
    pub folder: PathBuf,
    /// The program, below the folder.
    pub binary: PathBuf,
    /// The program's size in bytes.
    pub size: u64,
}

/// What an installation is doing. `Display` says it to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another installation holds the lock.
    Waiting,
    /// npm runs.
    Fetching(&'a Pin<'a>),
    /// The tarball's hash is being compared.
    Verifying,
    /// Its files are being written.
    Unpacking,
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("another rcc is installing the agent: waiting for it"),
            Self::Fetching(pin) => write!(f, "fetching {} {} ({} by npm)", pin.agent, pin.version, pin.package),
            Self::Verifying => f.write_str("comparing its hash with the pinned one"),
            Self::Unpacking => f.write_str("unpacking"),
        }
    }
}

impl PartialEq for Pin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.integrity == other.integrity
    }
}
impl Eq for Pin<'_> {}

/// Where this person's agents are.
#[must_use]
pub fn folder(person: &Person) -> PathBuf {
    home::data_folder(person).join("agents")
}

/// An agent in a folder of agents, if it is installed. An error if what is there is not as it was installed.
pub fn installed(folder: &Path, pin: &Pin<'_>) -> Result<Option<Agent>, Problem> {
    check(folder, pin)
}

/// Installs an agent into a folder of agents; if it is there already, that is all. `home` is the person's, for npm's
/// settings; `progress` is told what is being done. It may be called by many at once.
pub fn install(
    pin: &Pin<'_>,
    folder: &Path,
    home: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Agent, Problem> {
    let person = npm::Person::new(home.to_owned(), std::env::vars_os());
    install_pin(pin, folder, &|pin, scratch| npm::fetch(pin, scratch, &person), progress)
}

/// The versions of an agent that are installed, whole or not, in order of their names.
pub fn versions(folder: &Path, agent: &str) -> Result<Vec<String>, Problem> {
    let shelf = folder.join(agent);
    let entries = match fs::read_dir(&shelf) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| io_problem(&shelf, &e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| io_problem(&shelf, &e))?.file_name();
        names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

/// Removes all versions but this one, which has run. What another installation works on stays, and what can't be
/// removed is tried again after the next run.
pub fn keep_only(folder: &Path, agent: &str, version: &str) {
    let shelf = folder.join(agent);
    let older: Vec<String> = versions(folder, agent).unwrap_or_default().into_iter().filter(|v| v != version).collect();
    if older.is_empty() {
        return;
    }
    // Not waited for: whoever holds it installs something.
    let Ok(lock) = lock_file(&shelf.join(".lock")) else { return };
    if lock.try_lock().is_err() {
        return;
    }
    for name in older {
        let old = shelf.join(&name);
        // By a rename first, so that a version is there whole or not at all.
        let away = shelf.join(format!("{}old-{}-{name}", Scratch::PREFIX, std::process::id()));
        if fs::rename(&old, &away).is_ok() {
            let _ = fs::remove_dir_all(&away);
        }
    }
}

/// This machine's pin of Claude Code.
pub fn pin() -> Result<&'static Pin<'static>, Problem> {
    let arch = std::env::consts::ARCH;
    let what = "there is no pinned package of Claude Code for this processor";
    let none = || Problem::new(Code::AGENT_INSTALL, arch, what, "use a machine with x86_64 or aarch64");
    CLAUDE.iter().find(|pin| pin.arch == arch).ok_or_else(none)
}

type Fetch<'a> = dyn Fn(&Pin<'_>, &Path) -> Result<PathBuf, Problem> + 'a;

fn install_pin(
    pin: &Pin<'_>,
    folder: &Path,
    fetch: &Fetch<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Agent, Problem> {
    // What the person has just named by its hash is compared with it, whatever lies there.
    let known = || pin.size.and_then(|_| check(folder, pin).ok().flatten());
    if let Some(agent) = known() {
        return Ok(agent);
    }
    let shelf = folder.join(pin.agent);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755).create(&shelf).map_err(|e| io_problem(&shelf, &e))?;
    let shelf = fs::canonicalize(&shelf).map_err(|e| io_problem(&shelf, &e))?;
    for path in shelf.ancestors().take(2) {
        sound_folder(path, &fs::symlink_metadata(path).map_err(|e| io_problem(path, &e))?)?;
    }
    let _lock = lock(&shelf.join(".lock"), progress)?;
    // Whoever held the lock may have installed it.
    if let Some(agent) = known() {
        return Ok(agent);
    }
    enough_space(&shelf, pin)?;
    let scratch = Scratch::new(&shelf)?;
    progress(Progress::Fetching(pin));
    let tarball = fetch(pin, &scratch.0)?;
    let mut file = File::open(&tarball).map_err(|e| io_problem(&tarball, &e))?;
    progress(Progress::Verifying);
    unpack::verify(&mut file, pin.integrity).map_err(|e| unpack_problem(pin, &shelf, e))?;
    progress(Progress::Unpacking);
    let _ = fs::remove_dir_all(scratch.0.join("cache"));
    let unpacked = scratch.0.join("unpacked");
    unpack::unpack(&mut file, &unpacked, pin.program).map_err(|e| unpack_problem(pin, &shelf, e))?;
    let version = shelf.join(pin.version);
    put_in_place(&unpacked, &version, &scratch).map_err(|e| io_problem(&version, &e))?;
    check(folder, pin)?.ok_or_else(|| unpack_problem(pin, &shelf, io::Error::from(io::ErrorKind::NotFound).into()))
}

/// One rename. What stood there was found to be altered and goes away with the scratch folder.
fn put_in_place(unpacked: &Path, version: &Path, scratch: &Scratch) -> io::Result<()> {
    match fs::rename(version, scratch.0.join("altered")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => fs::rename(unpacked, version)?,
    }
    version.parent().map_or(Ok(()), |shelf| File::open(shelf)?.sync_all())
}

/// The agent as it is installed, `None` if it is not, and a problem if anything about it is not as it was installed.
fn check(folder: &Path, pin: &Pin<'_>) -> Result<Option<Agent>, Problem> {
    // The folder of agents may be reached by a link of the person's; nothing below it is one.
    let folder = match fs::canonicalize(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| io_problem(folder, &e))?,
    };
    let shelf = folder.join(pin.agent);
    let version = shelf.join(pin.version);
    let program = version.join(pin.program);
    for path in [&folder, &shelf, &version] {
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => sound_folder(path, &found.map_err(|e| io_problem(path, &e))?)?,
        }
    }
    let found = fs::symlink_metadata(&program).map_err(|e| altered(&program, &e.to_string()))?;
    only_owner_writes(&program, &found)?;
    if !found.is_file() || found.mode() & 0o7777 != unpack::PROGRAM_MODE {
        return Err(altered(&program, "it is not a plain, read-only program"));
    }
    if pin.size.is_some_and(|size| found.len() != size) {
        return Err(altered(&program, "it has another size than it was installed with"));
    }
    let (name, version_name) = (pin.agent.into(), pin.version.into());
    Ok(Some(Agent { name, version: version_name, folder: version, binary: program, size: found.len() }))
}

fn sound_folder(path: &Path, found: &Metadata) -> Result<(), Problem> {
    only_owner_writes(path, found)?;
    if found.is_dir() { Ok(()) } else { Err(altered(path, "it is not a folder")) }
}

/// Root may own it too: an agent that an administrator installed for everybody.
fn only_owner_writes(path: &Path, found: &Metadata) -> Result<(), Problem> {
    if found.uid() != nix::unistd::geteuid().as_raw() && found.uid() != 0 {
        return Err(altered(path, "it belongs to another user"));
    }
    // A link's own mode says nothing; what may not be one is refused as what it is.
    if !found.is_symlink() && found.mode() & 0o022 != 0 {
        return Err(altered(path, "others can write it"));
    }
    Ok(())
}

fn altered(path: &Path, what: &str) -> Problem {
    let remedy = format!("rm -r {}\nrcc claude   # fetches the agent again", quoted(path.display()));
    Problem::new(Code::AGENT_INTEGRITY, path.display().to_string(), what, remedy)
}

/// The lock that one installation at a time holds. The kernel frees it when its holder ends, however it ends.
fn lock(path: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<File, Problem> {
    let file = lock_file(path).map_err(|e| io_problem(path, &e))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress(Progress::Waiting),
        Err(TryLockError::Error(e)) => return Err(io_problem(path, &e)),
    }
    file.lock().map_err(|e| io_problem(path, &e))?;
    Ok(file)
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Refuses before anything is fetched. Held at once, at most: the tarball, and npm's copy of it or what it unpacks to.
fn enough_space(shelf: &Path, pin: &Pin<'_>) -> Result<(), Problem> {
    let found = nix::sys::statvfs::statvfs(shelf).map_err(|e| io_problem(shelf, &e.into()))?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    let size = pin.size.unwrap_or(USUAL_SIZE);
    let needed = size.saturating_add(size / 2);
    if free >= needed {
        return Ok(());
    }
    let what = format!("it has {} MiB free, and installing the agent takes {} MiB", free >> 20, needed >> 20);
    Err(Problem::new(Code::AGENT_INSTALL, shelf.display().to_string(), what, SPACE))
}

/// Of a version whose size is not known yet.
const USUAL_SIZE: u64 = 400 << 20;
const SPACE: &str = "make room: df -h ~/.local/share; it may be a link to a folder on another disk";

/// Where an installation works, on the same file system as its result. What an earlier one that was killed left is
/// removed first: the lock says that nobody works in it. The name is this process's own, since an npm whose rcc was
/// killed may still be writing to the old one.
struct Scratch(PathBuf);

impl Scratch {
    const PREFIX: &str = ".partial-";

    fn new(shelf: &Path) -> Result<Self, Problem> {
        for entry in fs::read_dir(shelf).map_err(|e| io_problem(shelf, &e))? {
            let entry = entry.map_err(|e| io_problem(shelf, &e))?;
            if entry.file_name().as_encoded_bytes().starts_with(Self::PREFIX.as_bytes()) {
                // If that npm still writes, this fails; a later installation removes it.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // A process that went by this number before may be the one whose folder could not be removed.
        let name = |n| shelf.join(format!("{}{}-{n}", Self::PREFIX, std::process::id()));
        let path = (0..100).map(name).find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| name(100));
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| io_problem(&path, &e))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the next installation does it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unpack_problem(pin: &Pin<'_>, shelf: &Path, error: unpack::Error) -> Problem {
    let subject = format!("{}@{}", pin.package, pin.version);
    match error {
        unpack::Error::Io(e) => io_problem(shelf, &e),
        unpack::Error::Integrity(_) => Problem::new(
            Code::AGENT_INTEGRITY,
            &subject,
            format!("{error}, not {}; nothing of it was unpacked", pin.integrity),
            format!(
                "npm view {subject} dist.integrity   # is that the hash that was named? does a mirror change packages?"
            ),
        ),
        unpack::Error::Refused { .. } => {
            let what = format!("the package holds what no agent's package should: {error}");
            Problem::new(Code::AGENT_INSTALL, subject, what, "report it: the pinned package itself is bad")
        }
    }
}

/// A file or folder that could not be read or written while installing.
fn io_problem(path: &Path, error: &io::Error) -> Problem {
    let full = error.raw_os_error().is_some_and(|e| matches!(Errno::from_raw(e), Errno::ENOSPC | Errno::EDQUOT));
    let remedy = if full { SPACE.to_owned() } else { format!("ls -ld {}", quoted(path.display())) };
    Problem::new(Code::AGENT_INSTALL, path.display().to_string(), error.to_string(), remedy)
}

#[cfg(test)]
mod tests;
