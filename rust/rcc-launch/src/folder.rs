//! A session's own folder in the person's runtime folder: where neither the agent nor the project can write. A lock
//! tells whether its launcher lives; what a dead one left is taken away at the next start.

use crate::added::{Access, Added};
use crate::beneath;
use crate::home::disk_problem;
use crate::machine::Machine;
use crate::process;
use crate::spec::{ContainerSpec, Places};
use nix::fcntl::{Flock, FlockArg};
use rcc_report::{Code, Problem};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A live session's folder; removed when dropped.
pub struct Folder {
    /// The places in it.
    pub places: Places,
    lock: Option<Flock<File>>,
}

/// Where all sessions' folders are.
#[must_use]
pub fn sessions(machine: &Machine) -> PathBuf {
    machine.runtime_dir.join("rcc/sessions")
}

impl Folder {
    /// Makes the folder of session `id`, locked, with the paths that the agent can write in it for others to see.
    pub fn create(machine: &Machine, id: &str, project: &Path, added: &[Added]) -> Result<Self, Problem> {
        let all = sessions(machine);
        let failed = |e: io::Error| disk_problem(&all, &e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(failed)?;
        // While this is held no other start looks at the sessions, so none can take this one for dead, or miss it.
        let _turn = turn(&all).map_err(failed)?;
        apart(project, added, &look(&all))?;
        let folder = all.join(id);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let places = Places { folder };
        let lock = locked(&places.folder).map_err(failed)?;
        let Some(mut lock) = lock else {
            return Err(failed(io::Error::other("its lock is held by another process")));
        };
        write!(lock, "{}", std::process::id()).map_err(failed)?;
        let this = Self { places, lock: Some(lock) };
        // A session is seen by its project's record, so that is the last.
        let writable = added.iter().filter(|a| a.access == Access::Writable).map(|a| a.path.as_os_str().as_bytes());
        fs::write(this.places.folder.join("writable"), writable.collect::<Vec<_>>().join(&0)).map_err(failed)?;
        fs::write(this.places.folder.join("project"), project.as_os_str().as_bytes()).map_err(failed)?;
        Ok(this)
    }

    /// Writes a file in the folder, for this user alone.
    pub fn write(&self, path: &Path, text: &[u8]) -> Result<(), Problem> {
        beneath::write_new(path, text, 0o600).map_err(|e| disk_problem(path, &e))
    }

    /// Takes the folder away while its name is still locked.
    fn remove(&mut self) {
        remove_tree(&self.places.folder);
        self.lock = None;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// How long the kernel may take to close the files of a launcher that was killed.
const CLOSING: Duration = Duration::from_secs(5);

/// The lock of a session whose launcher is dead. One that was killed a moment ago is waited for: otherwise what it left would
/// stay until the start after the next.
fn of_the_dead(folder: &Path) -> io::Result<Option<Flock<File>>> {
    let end = Instant::now() + CLOSING;
    loop {
        let lock = locked(folder)?;
        let holder = || fs::read_to_string(folder.join("lock")).ok()?.parse().ok();
        if lock.is_some() || !holder().is_some_and(process::is_ending) || Instant::now() > end {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn locked(folder: &Path) -> io::Result<Option<Flock<File>>> {
    let file = lock_file(&folder.join("lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e.into()),
    }
}

/// The protected copies are read-only folders; they are made writable to be removed.
fn remove_tree(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

/// Projects of the sessions that live, and the ids of those whose launcher died.
pub struct Others {
    /// Real paths.
    pub live: Vec<PathBuf>,
    /// Real paths that they can write besides.
    pub writable: Vec<PathBuf>,
    /// Folder names.
    pub dead: Vec<String>,
}

/// One start at a time looks at the sessions and adds its own.
fn turn(all: &Path) -> io::Result<Flock<File>> {
    Flock::lock(lock_file(&all.with_file_name("sessions.lock"))?, FlockArg::LockExclusive).map_err(|(_, e)| e.into())
}

fn lock_file(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Looks at the other sessions of this person.
#[must_use]
pub fn others(machine: &Machine) -> Others {
    let all = sessions(machine);
    let _turn = turn(&all);
    look(&all)
}

/// Does something while no session of this person starts, knowing those that live.
pub fn while_none_starts<T>(machine: &Machine, then: impl FnOnce(&Others) -> Result<T, Problem>) -> Result<T, Problem> {
    let all = sessions(machine);
    let failed = |e: io::Error| disk_problem(&all, &e);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(failed)?;
    let _turn = turn(&all).map_err(failed)?;
    then(&look(&all))
}

fn look(all: &Path) -> Others {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(bytes.to_owned()));
    let mut others = Others { live: Vec::new(), writable: Vec::new(), dead: Vec::new() };
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if let Ok(Some(_)) = of_the_dead(&entry.path()) {
            others.dead.push(entry.file_name().to_string_lossy().into_owned());
            continue;
        }
        if let Ok(project) = fs::read(entry.path().join("project")) {
            others.live.push(path(&project));
        }
        let writable = fs::read(entry.path().join("writable")).unwrap_or_default();
        others.writable.extend(writable.split(|byte| *byte == 0).filter(|w| !w.is_empty()).map(path));
    }
    others
}

/// A session of this person's that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its number in the log.
    pub id: String,
    /// Its project's real path.
    pub project: PathBuf,
    /// Its folder.
    pub places: Places,
}

/// The sessions of this person that run.
#[must_use]
pub fn running(machine: &Machine) -> Vec<Running> {
    let all = sessions(machine);
    let _turn = turn(&all);
    let mut found = Vec::new();
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        let places = Places { folder: entry.path() };
        let id = entry.file_name().to_string_lossy().into_owned();
        if let (Ok(None), Ok(project)) = (of_the_dead(&places.folder), fs::read(places.folder.join("project"))) {
            found.push(Running { id, project: PathBuf::from(std::ffi::OsString::from_vec(project)), places });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

/// Takes away what a dead session left: its container in Podman's books, and its folder.
pub fn sweep(machine: &Machine, id: &str, storage: &ContainerSpec) {
    let folder = sessions(machine).join(id);
    // Taken while sweeping, so that two starts do not sweep the same.
    let Ok(Some(_lock)) = locked(&folder) else { return };
    let container = crate::podman::container_id(&Places { folder: folder.clone() });
    crate::podman::remove(machine, storage, &format!("rcc-{id}"), container.as_deref());
    remove_tree(&folder);
}

/// Refuses a project, or a folder beside it, that lies within what another live session can write, or around it. Several
/// sessions may have one project; what one has besides is no other's project.
pub fn apart(project: &Path, added: &[Added], others: &Others) -> Result<(), Problem> {
    let free = |place: &Path, taken: &[PathBuf], itself_too: bool| {
        let taken = taken.iter().find(|t| crate::project::nested(place, t) || (itself_too && place == t.as_path()));
        taken.map_or(Ok(()), |taken| {
            Err(Problem::new(
                Code::PROJECT_IN_USE,
                place.display().to_string(),
                format!("a live session can write {}, and one is, or lies within, the other", taken.display()),
                "end that session, or work in the same folder",
            ))
        })
    };
    free(project, &others.live, false)?;
    free(project, &others.writable, true)?;
    added.iter().try_for_each(|a| free(&a.path, &others.live, a.access == Access::Writable))
}
