//! Files in the project that programs outside act on: copied before the session and mounted read-only from the copy, so
//! that neither a write nor a swapped link changes them; and the names among them that are absent, which are watched.

use crate::beneath;
use crate::project::Project;
use rcc_proto::Protected;
use rcc_report::{Code, Problem};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes that a protected file may have; a longer one is no configuration.
const FILE_LIMIT: u64 = 4 << 20;
/// Files and folders that a protected folder may hold.
const ENTRY_LIMIT: usize = 2000;
/// How deep git's folder of modules is searched.
const DEPTH: usize = 8;

/// What the hook covers and what the launcher watches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// In covering order: a folder before what lies in it.
    pub covered: Vec<Protected>,
    /// Names that are not there, and must not appear unseen.
    pub absent: Vec<PathBuf>,
}

/// Takes the copies. `read_only` are the policy's paths, relative to the project.
pub fn prepare(project: &Project, read_only: &[String], copies: &Path) -> Result<Protection, Problem> {
    let mut paths: Vec<PathBuf> = read_only.iter().map(PathBuf::from).collect();
    let mut protection = Protection::default();
    let git = Path::new(".git");
    match beneath::open(&project.folder, git, libc::O_PATH | libc::O_DIRECTORY) {
        Ok(_) => {
            // Bound on itself: otherwise `mv .git .g; mkdir .git` undoes all that is covered in it.
            protection.covered.push(Protected { path: git.into(), copy: None });
            // A `commondir` file would make git read another folder's configuration (gitrepository-layout(5)).
            paths.push(git.join("commondir"));
            paths.extend(worktrees(&project.folder));
            modules(&project.folder, &git.join("modules"), DEPTH, &mut paths);
        }
        // A worktree's `.git` is a file that says where the repository is; git follows it without a question.
        Err(_) => paths.push(git.into()),
    }
    paths.sort();
    paths.dedup();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(copies)
        .map_err(|e| crate::home::disk_problem(copies, &e))?;
    for path in paths {
        match take(&project.folder, &path, &copies.join(protection.covered.len().to_string())) {
            Ok(copy) => protection.covered.push(Protected { path, copy: Some(copy) }),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => protection.absent.push(path),
            Err(e) => return Err(refusal(project, &path, &e)),
        }
    }
    Ok(protection)
}

fn refusal(project: &Project, path: &Path, error: &io::Error) -> Problem {
    let place = project.path.join(path);
    let what = match error.raw_os_error() {
        Some(libc::ELOOP) => "it is a link, or lies behind one; a protected file must be a plain one".to_owned(),
        _ => error.to_string(),
    };
    let remedy = format!("look at it, and replace the link by what it leads to: ls -l '{}'", place.display());
    Problem::new(Code::SESSION_PROTECTED, place.display().to_string(), what, remedy)
}

/// Copies a file or a folder of files; gives the copy's path.
fn take(project: &OwnedFd, path: &Path, copy: &Path) -> io::Result<PathBuf> {
    let opened = beneath::open(project, path, libc::O_PATH)?;
    let mode = nix::sys::stat::fstat(&opened)?.st_mode;
    match mode & libc::S_IFMT {
        libc::S_IFREG => copy_file(project, path, copy, mode)?,
        libc::S_IFDIR => copy_folder(project, path, copy, &mut 0)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder")),
    }
    Ok(copy.to_owned())
}

fn copy_file(folder: impl AsFd, path: &Path, copy: &Path, mode: u32) -> io::Result<()> {
    let bytes = beneath::read(folder, path, FILE_LIMIT)?;
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(mode & 0o755).open(copy)?;
    io::Write::write_all(&mut out, &bytes)
}

fn copy_folder(project: &OwnedFd, path: &Path, copy: &Path, seen: &mut usize) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(copy)?;
    for name in names(project, path)? {
        *seen += 1;
        if *seen > ENTRY_LIMIT {
            return Err(io::Error::other(format!("more than {ENTRY_LIMIT} entries")));
        }
        let (inner, into) = (path.join(&name), copy.join(&name));
        let opened = beneath::open(project, &inner, libc::O_PATH | libc::O_NOFOLLOW);
        let Ok(opened) = opened else {
            // A link within (a hook that points to a script): kept as a link, it is read-only and leads where it led.
            let Ok(target) = link_target(project, path, &name) else { continue };
            std::os::unix::fs::symlink(target, into)?;
            continue;
        };
        let mode = nix::sys::stat::fstat(&opened)?.st_mode;
        match mode & libc::S_IFMT {
            libc::S_IFREG => copy_file(project, &inner, &into, mode)?,
            libc::S_IFDIR => copy_folder(project, &inner, &into, seen)?,
            // A socket, FIFO or device in a protected folder is not carried over.
            _ => {}
        }
    }
    Ok(())
}

fn link_target(project: &OwnedFd, folder: &Path, name: &Path) -> io::Result<PathBuf> {
    let folder = beneath::open(project, folder, libc::O_PATH | libc::O_DIRECTORY)?;
    Ok(nix::fcntl::readlinkat(folder, name)?.into())
}

fn names(project: &OwnedFd, path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = beneath::open(project, path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(folder)?.iter() {
        let name = PathBuf::from(std::ffi::OsStr::new(&*entry?.file_name().to_string_lossy()));
        if name != Path::new(".") && name != Path::new("..") {
            names.push(name);
        }
        if names.len() > ENTRY_LIMIT {
            return Err(io::Error::other(format!("more than {ENTRY_LIMIT} entries")));
        }
    }
    names.sort();
    Ok(names)
}

/// Linked worktrees have a configuration of their own, and a file that says where the common one is.
fn worktrees(project: &OwnedFd) -> Vec<PathBuf> {
    let folder = Path::new(".git/worktrees");
    let all = names(project, folder).unwrap_or_default();
    all.iter()
        .flat_map(|name| ["config.worktree", "commondir", "gitdir"].map(|file| folder.join(name).join(file)))
        .collect()
}

/// Repositories of submodules lie in `.git/modules`, nested by name; each has a configuration and hooks.
fn modules(project: &OwnedFd, folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for name in names(project, folder).unwrap_or_default() {
        let inner = folder.join(name);
        if beneath::open(project, &inner, libc::O_PATH | libc::O_DIRECTORY).is_err() {
            continue;
        }
        if beneath::open(project, &inner.join("HEAD"), libc::O_PATH).is_ok() {
            paths.extend(["config", "config.worktree", "hooks", "info", "commondir"].map(|file| inner.join(file)));
            modules(project, &inner.join("modules"), depth, paths);
        } else {
            modules(project, &inner, depth, paths);
        }
    }
}

/// The first of the absent names that is there now.
#[must_use]
pub fn appeared<'a>(project: &Project, absent: &'a [PathBuf]) -> Option<&'a PathBuf> {
    absent.iter().find(|path| {
        // A link counts as well: what it leads to may come later.
        let found = beneath::open(&project.folder, path, libc::O_PATH | libc::O_NOFOLLOW);
        !matches!(found.map_err(|e| e.raw_os_error()), Err(Some(libc::ENOENT | libc::ENOTDIR)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(dir: &Path) -> Project {
        Project { path: dir.to_owned(), device: 0, inode: 0, folder: fs::File::open(dir).unwrap().into() }
    }

    fn list() -> Vec<String> {
        [".git/config", ".git/hooks", ".envrc"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_repository_is_pinned_and_its_files_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        fs::create_dir_all(at("p/.git/hooks")).unwrap();
        fs::create_dir_all(at("p/.git/modules/lib/x")).unwrap();
        for file in
            ["p/.git/config", "p/.git/hooks/pre-commit", "p/.git/modules/lib/x/HEAD", "p/.git/modules/lib/x/config"]
        {
            fs::write(at(file), file).unwrap();
        }
        let protection = prepare(&project(&at("p")), &list(), &at("copies")).unwrap();
        let covered: Vec<_> = protection.covered.iter().map(|c| c.path.to_str().unwrap()).collect();
        assert_eq!(covered, [".git", ".git/config", ".git/hooks", ".git/modules/lib/x/config"]);
        assert!(protection.covered[0].copy.is_none());
        assert_eq!(
            fs::read_to_string(protection.covered[2].copy.as_ref().unwrap().join("pre-commit")).unwrap(),
            "p/.git/hooks/pre-commit"
        );
        assert!(protection.absent.contains(&".envrc".into()) && protection.absent.contains(&".git/commondir".into()));
    }

    #[test]
    fn a_protected_name_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("p/.git")).unwrap();
        fs::create_dir_all(dir.path().join("keys")).unwrap();
        std::os::unix::fs::symlink("../../keys", dir.path().join("p/.git/hooks")).unwrap();
        let problem = prepare(&project(&dir.path().join("p")), &list(), &dir.path().join("copies")).unwrap_err();
        assert_eq!(problem.code, Code::SESSION_PROTECTED);
    }

    #[test]
    fn what_appears_is_seen_even_as_a_dangling_link() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let protection = prepare(&project, &list(), &dir.path().join("copies")).unwrap();
        assert_eq!(appeared(&project, &protection.absent), None);
        std::os::unix::fs::symlink("/nowhere", dir.path().join(".envrc")).unwrap();
        assert_eq!(appeared(&project, &protection.absent), Some(&".envrc".into()));
        fs::remove_file(dir.path().join(".envrc")).unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert!(appeared(&project, &protection.absent).is_some());
    }
}
