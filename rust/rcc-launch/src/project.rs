//! Which folder is the project, and whether it may be one.
//!
//! Invariant: a project is a real path (no link in it), a folder of the person's, that neither holds nor lies in
//! anything that the agent must not write.

use crate::added::Access;
use crate::beneath;
use crate::machine::{Machine, Person};
use crate::mountinfo;
use crate::spelling;
use rcc_report::{Code, Problem, quoted};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Files and folders below the home folder that the agent must never write or read, or that hold the programs that the
/// person runs. Their real places count: a
/// repository of dotfiles has links into itself.
const SENSITIVE: &[&str] = &[
    #[cfg(target_os = "macos")]
    ".Trash",
    ".asdf",
    ".aws",
    ".azure",
    ".bash_aliases",
    ".bash_login",
    ".bash_logout",
    ".bash_profile",
    ".bashrc",
    ".bin",
    ".bun/bin",
    ".cargo/bin",
    ".cargo/config",
    ".cargo/config.toml",
    ".cargo/credentials.toml",
    ".cargo/registry",
    ".claude",
    ".claude.json",
    ".codex",
    ".config",
    ".config/fish",
    ".config/git",
    ".config/go",
    ".config/go/env",
    ".config/pip",
    ".config/pip/pip.conf",
    ".config/rcc",
    ".config/uv",
    ".config/uv/uv.toml",
    ".deno/bin",
    ".docker",
    ".emacs",
    ".emacs.d",
    ".env",
    ".git-credentials",
    ".gitconfig",
    ".gnupg",
    ".inputrc",
    ".kube",
    ".linuxbrew",
    ".local/bin",
    ".local/go",
    ".local/share/containers",
    ".local/share/fnm",
    ".local/share/keyrings",
    ".local/share/mise",
    ".local/share/rcc",
    ".local/share/systemd",
    ".local/share/uv",
    ".mozilla",
    ".netrc",
    ".npmrc",
    ".nvm",
    ".pam_environment",
    ".password-store",
    ".pgpass",
    ".pip",
    ".profile",
    ".pyenv",
    ".pypirc",
    ".rustup",
    ".sdkman",
    ".ssh",
    ".tmux.conf",
    ".vim",
    ".vimrc",
    ".volta",
    ".xinitrc",
    ".xprofile",
    ".xsession",
    ".zlogin",
    ".zprofile",
    ".zshenv",
    ".zshrc",
    #[cfg(target_os = "macos")]
    "Applications",
    // Keychains, LaunchAgents, what programs keep, and what iCloud brings to other machines.
    #[cfg(target_os = "macos")]
    "Library",
    "bin",
    "go/bin",
];
/// Folders of the system: none of them, nor what lies in them, is a project.
#[cfg(target_os = "linux")]
const SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home/linuxbrew",
    "/lib",
    "/lib64",
    "/nix",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
];
/// Folders of the system: none of them, nor what lies in them, is a project. /etc, /tmp and /var lead into /private.
#[cfg(target_os = "macos")]
const SYSTEM: &[&str] = &[
    "/.vol",
    "/Applications",
    "/Library",
    "/Network",
    "/System",
    "/bin",
    "/cores",
    "/dev",
    "/etc",
    "/nix",
    "/opt/homebrew",
    "/private",
    "/sbin",
    "/usr",
    "/var",
];
/// Folders that hold others' files, but may have a project somewhere in them.
#[cfg(target_os = "linux")]
const SHARED: &[&str] =
    &["/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib", "/var/tmp"];
/// Folders that hold others' files, but may have a project somewhere in them.
#[cfg(target_os = "macos")]
const SHARED: &[&str] = &["/", "/Users", "/Users/Shared", "/Volumes", "/opt"];

/// A folder that may be worked on.
#[derive(Debug, Serialize)]
pub struct Project {
    /// The real path, the same inside and outside.
    pub path: PathBuf,
    /// Its device and inode, by which the hook recognises it.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// Opened once; everything the host side reads of the project is read below it.
    #[serde(skip)]
    pub folder: OwnedFd,
}

impl Project {
    /// Finds the project: `given`, or upwards from the working directory the nearest folder with `rcc.toml` or `.git`
    /// below the home folder, or the working directory itself.
    pub fn find(given: Option<&Path>, person: &Person) -> Result<PathBuf, Problem> {
        let real = |path: &Path| {
            fs::canonicalize(path).map_err(|e| {
                Problem::new(
                    Code::PROJECT_MISSING,
                    path.display().to_string(),
                    e.to_string(),
                    "go to a folder that exists: cd PROJECT",
                )
            })
        };
        if let Some(path) = given {
            return real(path);
        }
        let here = real(Path::new("."))?;
        let there = |folder: &Path, mark: &str| fs::symlink_metadata(folder.join(mark)).is_ok();
        let marked = |folder: &&Path| there(folder, "rcc.toml") || (there(folder, ".git") && !is_submodule(folder));
        let inside_home = |folder: &&Path| folder.starts_with(&person.home) && **folder != person.home;
        let found = here.ancestors().take_while(inside_home).find(marked);
        Ok(found.map_or_else(|| here.clone(), Path::to_owned))
    }

    /// Opens a folder as a project, or says why it can't be one.
    pub fn open(path: &Path, machine: &Machine) -> Result<Self, Problem> {
        Self::open_of(path, machine, &[machine.person.uid])
    }

    /// Opens another folder that comes along (`--ro`, `--rw`): what can't be a project can't be one of these.
    pub fn open_beside(path: &Path, access: Access, project: &Path, machine: &Machine) -> Result<Self, Problem> {
        let refuse = |what: String| {
            let remedy = "name a folder of its own, by its real path, that holds nothing of that";
            Problem::new(Code::FOLDER_REFUSED, path.display().to_string(), what, remedy)
        };
        if path == project || nested(path, project) {
            return Err(refuse(format!("it is the project ({}), lies in it, or holds it", project.display())));
        }
        let person = &machine.person;
        let owners = match access {
            Access::ReadOnly => vec![person.uid, 0],
            Access::Writable => vec![person.uid],
        };
        Self::open_of(path, machine, &owners).map_err(|problem| refuse(problem.what))
    }

    /// Opens a folder as a project whose session runs in a virtual machine. What sessions keep is in there, or in a folder
    /// that no project can be.
    pub fn open_for_machine(path: &Path, person: &Person) -> Result<Self, Problem> {
        Self::judged(path, person, &[person.uid], |_| Ok(()))
    }

    fn open_of(path: &Path, machine: &Machine, owners: &[u32]) -> Result<Self, Problem> {
        Self::judged(path, &machine.person, owners, |path| outside_of_sessions(path, machine))
    }

    /// `apart` says whether it is none of the folders that sessions keep.
    fn judged(
        path: &Path,
        person: &Person,
        owners: &[u32],
        apart: impl FnOnce(&Path) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        name(path)?;
        place(path, person)?;
        apart(path)?;
        let folder = open_folder(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotADirectory => missing(path, "not a folder"),
            _ => missing(path, &e.to_string()),
        })?;
        let folder = File::from(folder);
        let about = folder.metadata().map_err(|e| missing(path, &e.to_string()))?;
        if !owners.contains(&about.uid()) {
            return Err(missing(path, &format!("it belongs to another user (id {})", about.uid())));
        }
        other_names(path, (about.dev(), about.ino()), person)?;
        spelling::judge(path, &folder)?;
        mounts(path)?;
        sockets(path)?;
        Ok(Self { path: path.to_owned(), device: about.dev(), inode: about.ino(), folder: folder.into() })
    }
}

/// Through no link: another session's agent may have put one into the way since the path was resolved.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let root = File::open("/")?;
    beneath::open(&root, path.strip_prefix("/").unwrap_or(path), libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Whether a folder is a submodule of a repository above it, which is the project then: the submodule's own repository
/// lies in there.
fn is_submodule(folder: &Path) -> bool {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(folder);
    let Some(named) = opened.ok().and_then(led_to) else { return false };
    fs::canonicalize(folder.join(named)).is_ok_and(|repository| {
        folder.ancestors().skip(1).any(|above| {
            // In a linked worktree it lies in that one's own folder of the repository.
            let opened = fs::File::open(above).ok();
            let linked = opened.and_then(led_to).and_then(|named| fs::canonicalize(above.join(named)).ok());
            let own = linked.unwrap_or_else(|| above.join(".git"));
            repository.starts_with(own.join("modules"))
        })
    })
}

/// What a `.git` that is a file says: where the repository is.
pub(crate) fn led_to(folder: impl AsFd) -> Option<PathBuf> {
    let text = beneath::read(folder, Path::new(".git"), 4096).ok()?;
    let text = String::from_utf8(text).ok()?;
    Some(text.strip_prefix("gitdir:")?.trim().into())
}

fn missing(path: &Path, what: &str) -> Problem {
    Problem::new(
        Code::PROJECT_MISSING,
        path.display().to_string(),
        what,
        "use a folder of your own: mkdir ~/work && cd ~/work",
    )
}

/// Podman's `--mount` is CSV: it carries spaces, commas, colons and any letter, but no line break.
fn name(path: &Path) -> Result<(), Problem> {
    let bytes = path.as_os_str().as_bytes();
    if path.to_str().is_some() && !bytes.iter().any(u8::is_ascii_control) {
        return Ok(());
    }
    Err(Problem::new(
        Code::PROJECT_PATH,
        path.display().to_string(),
        "the path has a control character or is not UTF-8; Podman can't mount it",
        "rename the folder: mv OLD NEW",
    ))
}

/// Where sessions have their folders and sockets is nearly always below /run, but where the environment had to say it, it
/// may be anywhere.
fn outside_of_sessions(path: &Path, machine: &Machine) -> Result<(), Problem> {
    for runtime in
        [Some(machine.runtime_dir.clone()), fs::canonicalize(&machine.runtime_dir).ok()].into_iter().flatten()
    {
        if path == runtime || nested(path, &runtime) {
            let what = format!("it holds, or lies in, {} (XDG_RUNTIME_DIR)", runtime.display());
            let remedy = "work in a folder of its own: mkdir ~/work && cd ~/work";
            return Err(Problem::new(Code::PROJECT_FORBIDDEN, path.display().to_string(), what, remedy));
        }
    }
    Ok(())
}

/// Whether a path may be a project's, by its name alone.
#[cfg(target_os = "linux")]
pub(crate) fn shared_or_sensitive(path: &Path, person: &Person) -> Result<(), Problem> {
    place(path, person)
}

fn place(path: &Path, person: &Person) -> Result<(), Problem> {
    let refuse = |what: String| {
        Err(Problem::new(
            Code::PROJECT_FORBIDDEN,
            path.display().to_string(),
            what,
            "work in a folder of its own: mkdir ~/work && cd ~/work",
        ))
    };
    if person.home.starts_with(path) {
        return refuse("it is the home folder, or holds it".into());
    }
    #[cfg(target_os = "macos")]
    if let Some(what) = rcc_host::macos::no_project(path, &person.home) {
        return refuse(what.into());
    }
    if SHARED.iter().any(|p| path == Path::new(p)) {
        return refuse("it holds other users' files".into());
    }
    if let Some(system) = SYSTEM.iter().find(|p| path.starts_with(p)) {
        return refuse(format!("it lies in {system}, which belongs to the system"));
    }
    for name in sensitive(person) {
        let named = person.home.join(&name);
        // A link counts where it is and where it leads.
        for place in [Some(named.clone()), fs::canonicalize(&named).ok()].into_iter().flatten() {
            if path.starts_with(&place) {
                return refuse(format!("it lies in {} (~/{name})", place.display()));
            }
            if place.starts_with(path) && fs::symlink_metadata(&place).is_ok() {
                return refuse(format!("it holds {} (~/{name})", place.display()));
            }
        }
    }
    Ok(())
}

/// Names below the home folder. `go install golang.org/dl/…` puts each version of Go into a folder of its own.
fn sensitive(person: &Person) -> Vec<String> {
    let versions = fs::read_dir(person.home.join("sdk")).into_iter().flatten().flatten();
    let versions = versions.filter_map(|entry| entry.file_name().into_string().ok()).filter(|n| n.starts_with("go"));
    SENSITIVE.iter().map(|name| (*name).to_owned()).chain(versions.map(|name| format!("sdk/{name}"))).collect()
}

/// The same folders under another name, as a bind mount gives: what counts is which folder it is.
fn other_names(path: &Path, identity: (u64, u64), person: &Person) -> Result<(), Problem> {
    let sensitive = sensitive(person).into_iter().map(|name| person.home.join(name));
    let shared = SHARED.iter().chain(SYSTEM).map(PathBuf::from);
    let places: Vec<PathBuf> = sensitive.chain(shared).chain([person.home.clone()]).collect();
    let refuse = |place: &Path| {
        let what = format!("it is {} under another name, or lies in it, or holds it", place.display());
        let remedy = "work in a folder of its own: mkdir ~/work && cd ~/work";
        Err(Problem::new(Code::PROJECT_FORBIDDEN, path.display().to_string(), what, remedy))
    };
    // The project is one of them, or an ancestor of one.
    for place in &places {
        if place.ancestors().any(|p| self::identity(p) == Some(identity)) && self::identity(place).is_some() {
            return refuse(place);
        }
    }
    // It lies in a sensitive one. The shared ones, and the home folder, may hold a project.
    let above: Vec<(u64, u64)> = path.ancestors().skip(1).filter_map(self::identity).collect();
    let closed = |place: &&PathBuf| place.starts_with(&person.home) && **place != person.home;
    match places.iter().filter(closed).find(|place| self::identity(place).is_some_and(|i| above.contains(&i))) {
        Some(place) => refuse(place),
        None => Ok(()),
    }
}

fn mounts(path: &Path) -> Result<(), Problem> {
    let unread =
        |what: String| Problem::new(Code::PROJECT_FOREIGN_MOUNT, path.display().to_string(), what, "mount /proc");
    let all = mountinfo::own().map_err(unread)?;
    match all.iter().find(|m| m.point != path && m.point.starts_with(path)) {
        None => Ok(()),
        Some(mount) => Err(Problem::new(
            Code::PROJECT_FOREIGN_MOUNT,
            mount.point.display().to_string(),
            format!("a file system of kind {} is mounted below the project", mount.kind),
            format!("unmount it: umount {}", quoted(mount.point.display())),
        )),
    }
}

/// A daemon that listens below the project would see the agent as the person (its peer credentials are the person's).
///
/// On a Mac that daemon runs under another kernel than the agent, and no connection to it leads out of the virtual machine:
/// none is found there.
fn sockets(path: &Path) -> Result<(), Problem> {
    match listening_below(path).first() {
        None => Ok(()),
        Some(socket) => Err(Problem::new(
            Code::PROJECT_SOCKET,
            socket.display().to_string(),
            "a program outside listens on a Unix socket below the project; it would take the agent for you",
            "stop that program, or have it listen elsewhere (such as $XDG_RUNTIME_DIR); ss -xlp tells which it is",
        )),
    }
}

/// Unix sockets of this network namespace that are bound below `path`. A session's own are in its own namespace, and
/// so never among them.
#[must_use]
pub fn listening_below(path: &Path) -> Vec<PathBuf> {
    listening().into_iter().filter(|socket| socket.starts_with(path)).collect()
}

/// All that have a place in the file system.
#[must_use]
pub fn listening() -> Vec<PathBuf> {
    let text = fs::read("/proc/net/unix").unwrap_or_default();
    let lines = text.split(|b| *b == b'\n').skip(1);
    let mut all: Vec<PathBuf> = lines
        .filter_map(|line| {
            // Num RefCount Protocol Flags Type St Inode Path; the path may hold spaces.
            let named = PathBuf::from(std::ffi::OsStr::from_bytes(after_fields(line, 7)?));
            // An abstract name begins with `@`.
            if !named.is_absolute() {
                return None;
            }
            // A daemon may have bound it through a link.
            let real = named.parent().and_then(|folder| fs::canonicalize(folder).ok());
            Some(real.and_then(|folder| Some(folder.join(named.file_name()?))).unwrap_or(named))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// What stands behind the first `count` fields of a line, which any number of spaces divide.
fn after_fields(mut line: &[u8], count: usize) -> Option<&[u8]> {
    for _ in 0..count {
        line = line.trim_ascii_start();
        line = &line[line.iter().position(|b| *b == b' ')?..];
    }
    line.strip_prefix(b" ")
}

/// Whether two projects may not be live at once: one lies within the other.
#[must_use]
pub fn nested(a: &Path, b: &Path) -> bool {
    a != b && (a.starts_with(b) || b.starts_with(a))
}

/// The folder's mode and owner are re-read where it matters; this is the identity alone.
#[must_use]
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(home: &Path) -> Person {
        Person {
            name: "alice".into(),
            uid: nix::unistd::getuid().as_raw(),
            gid: 0,
            home: fs::canonicalize(home).unwrap(),
        }
    }

    fn code(path: &Path, person: &Person) -> Option<Code> {
        place(path, person).err().map(|p| p.code)
    }

    #[test]
    fn what_can_not_be_a_project() {
        let home = tempfile::tempdir().unwrap();
        let person = person(home.path());
        let home = person.home.as_path();
        fs::create_dir_all(home.join("dotfiles/ssh")).unwrap();
        fs::create_dir_all(home.join("src/app")).unwrap();
        fs::write(home.join("dotfiles/bashrc"), "").unwrap();
        std::os::unix::fs::symlink("dotfiles/ssh", home.join(".ssh")).unwrap();
        std::os::unix::fs::symlink("dotfiles/bashrc", home.join(".bashrc")).unwrap();
        fs::create_dir_all(home.join(".config/nvim")).unwrap();
        for bad in ["", "dotfiles", "dotfiles/ssh", ".config/nvim", ".ssh", ".local/share/rcc/homes/x"] {
            assert_eq!(code(&home.join(bad), &person), Some(Code::PROJECT_FORBIDDEN), "{bad}");
        }
        for bad in ["/", "/home", "/usr/src", "/etc/nixos", "/proc/1", "/tmp"] {
            assert_eq!(code(Path::new(bad), &person), Some(Code::PROJECT_FORBIDDEN), "{bad}");
        }
        assert_eq!(code(&home.join("src/app"), &person), None);
        assert_eq!(code(&home.join("src"), &person), None);
    }

    #[test]
    fn a_submodule_is_part_of_the_repository_above() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for folder in [".git/modules/lib", "lib", "own/.git", "tree", "elsewhere/.git/worktrees/tree"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("lib/.git"), "gitdir: ../.git/modules/lib\n").unwrap();
        fs::write(root.join("tree/.git"), "gitdir: ../elsewhere/.git/worktrees/tree\n").unwrap();
        assert!(is_submodule(&root.join("lib")));
        assert!(!is_submodule(&root.join("own")) && !is_submodule(&root.join("tree")));
    }

    #[test]
    fn names_that_podman_can_not_carry() {
        assert!(name(Path::new("/home/a/with space, comma:colon \"quote\" ünï")).is_ok());
        assert_eq!(name(Path::new("/home/a/line\nbreak")).unwrap_err().code, Code::PROJECT_PATH);
        let raw = std::ffi::OsStr::from_bytes(b"/home/a/\xff");
        assert_eq!(name(Path::new(raw)).unwrap_err().code, Code::PROJECT_PATH);
    }

    #[test]
    fn a_listening_socket_below_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a daemon.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(listening_below(folder.path()), [path]);
        assert_eq!(sockets(folder.path()).unwrap_err().code, Code::PROJECT_SOCKET);
    }

    #[test]
    fn nesting() {
        assert!(nested(Path::new("/a/b"), Path::new("/a")));
        assert!(!nested(Path::new("/a/b"), Path::new("/a/b")));
        assert!(!nested(Path::new("/a/bc"), Path::new("/a/b")));
    }
}
