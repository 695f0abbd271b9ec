//! Files in the project that programs outside act on: copied before the session and mounted read-only from the copy, so
//! that neither a write nor a swapped link changes them; and the names among them that are absent, which are watched.

use crate::beneath;
use crate::gitlinks::{Ground, Links, Side};
use crate::grown::Grown;
use crate::project::Project;
use crate::worktree::{self, Worktree};
use rcc_proto::{Cover, Protected};
use rcc_report::{Code, Problem, quoted};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Bytes that a protected file may have; a longer one is no configuration.
const FILE_LIMIT: u64 = 4 << 20;
/// Files and folders that a protected folder may hold.
const ENTRY_LIMIT: usize = 2000;
/// Bytes that all copies of a session may have: they lie in the person's runtime folder, which is memory.
const COPIES_LIMIT: u64 = 64 << 20;
/// Files and folders that git's own folder may hold beside objects.
const GIT_LIMIT: usize = 200_000;
/// How deep git's folder of modules is searched.
const DEPTH: usize = 8;
/// Files and folders that it may hold beside what is in its repositories: it is looked at again and again.
const MODULES_LIMIT: usize = 10_000;

/// What the hook covers and what the launcher watches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// In covering order: a folder before what lies in it.
    pub covered: Vec<Protected>,
    /// Names that are not there, and must not appear unseen.
    pub absent: Vec<PathBuf>,
    /// What was covered, by device and inode. When a program outside replaces such a file by a rename, as git does, the
    /// kernel takes the cover away with it (`mount_namespaces(7)`, "rename or unlink of a mount point").
    pub present: Vec<(PathBuf, Identity)>,
}

/// Device and inode.
pub type Identity = (u64, u64);

/// What protects a session's project.
#[derive(Debug)]
pub struct Prepared {
    /// In the project.
    pub project: Protection,
    /// In its repository, where that lies elsewhere.
    pub common: Option<Protection>,
    /// The repositories that git goes into.
    pub links: Links,
    /// What may come up in the repository.
    pub grown: Option<Grown>,
}

/// Takes the copies: of the project, and of its repository where that lies elsewhere. `read_only` are the policy's paths,
/// relative to the project.
pub fn prepare(
    project: &Project,
    worktree: Option<&Worktree>,
    read_only: &[String],
    copies: &Path,
) -> Result<Prepared, Problem> {
    let wrong = |path: &Path| {
        let path = project.path.join(path);
        move |e: io::Error| refusal(&path, &e)
    };
    let git = Path::new(".git");
    let mut of_project = Wanted { paths: read_only.iter().map(PathBuf::from).collect(), closed: Vec::new() };
    // With these three a folder is a repository by itself, and its configuration is taken (gitrepository-layout(5)).
    of_project.paths.push("HEAD".into());
    let mut links = Links::default();
    let (mut more, mut grown) = (Vec::new(), None);
    if is_folder(&project.folder, git).map_err(wrong(git))? {
        grown = Some(of_project.repository(project, git, &project.path, "*")?);
        for config in ["config", "config.worktree"].map(|name| git.join(name)) {
            of_project.paths.extend(named_by_config(project, &config, project).map_err(wrong(&config))?);
        }
        (links, more) = Links::prepare(Ground { project, worktree: None }).map_err(|(path, e)| refusal(&path, &e))?;
    } else {
        // A worktree's `.git` is a file that says where the repository is; git follows it without a question.
        of_project.paths.push(git.into());
    }
    let mut of_common = None;
    if let Some(worktree) = worktree {
        let common = &worktree.common;
        let named = read_only.iter().filter_map(|path| Path::new(path).strip_prefix(git).ok().map(Path::to_owned));
        let acted_on = crate::gitlinks::ACTED_ON.iter().map(PathBuf::from);
        let mut wanted = Wanted { paths: named.chain(acted_on).collect(), closed: Vec::new() };
        let own = worktree.own.file_name().and_then(OsStr::to_str).unwrap_or_default();
        grown = Some(wanted.repository(common, Path::new(""), &project.path, own)?);
        for config in ["config".into(), "config.worktree".into(), worktree.own.join("config.worktree")] {
            let config: &Path = &config;
            let unread = |e: io::Error| refusal(&common.path.join(config), &e);
            of_project.paths.extend(named_by_config(common, config, project).map_err(unread)?);
            wanted.paths.extend(named_by_config(common, config, common).map_err(unread)?);
        }
        (links, more) =
            Links::prepare(Ground { project, worktree: Some(worktree) }).map_err(|(path, e)| refusal(&path, &e))?;
        of_common = Some(wanted);
    }
    for git in links.embedded() {
        no_links(&project.folder, git).map_err(wrong(git))?;
    }
    for (side, path) in more {
        match (side, &mut of_common) {
            (Side::Common, Some(common)) => common.paths.push(path),
            _ => of_project.paths.push(path),
        }
    }
    let mut room = COPIES_LIMIT;
    let protection = of_project.cover(project, copies, &mut room)?;
    let common = of_common.zip(worktree).map(|(w, tree)| w.cover(&tree.common, &copies.join("common"), &mut room));
    Ok(Prepared { project: protection, common: common.transpose()?, links, grown })
}

/// What is to be covered in a folder, if it is there.
struct Wanted {
    paths: Vec<PathBuf>,
    /// Folders that become read-only as they are.
    closed: Vec<PathBuf>,
}

impl Wanted {
    /// What git acts on in a repository's folder `git` below `folder`. Its submodules' repositories are closed in a linked
    /// worktree (`own`), which has others; of other worktrees only those within the project are written.
    fn repository(&mut self, folder: &Project, git: &Path, project: &Path, own: &str) -> Result<Grown, Problem> {
        let wrong = |path: PathBuf| {
            let path = folder.path.join(path);
            move |e: io::Error| refusal(&path, &e)
        };
        let start = if git.as_os_str().is_empty() { Path::new(".") } else { git };
        no_links(&folder.folder, start).map_err(wrong(git.to_owned()))?;
        // A `commondir` file would make git read another folder's configuration.
        self.paths.push(git.join("commondir"));
        let (all, modules_place) = (git.join("worktrees"), git.join("modules"));
        let mut open = Vec::new();
        for name in names(&folder.folder, &all).map_err(wrong(all.clone()))? {
            let place = all.join(&name);
            if name == Path::new(own) || worktree::lies_in(folder, &place, project) {
                self.paths.extend(["config.worktree", "commondir", "gitdir"].map(|file| place.join(file)));
                modules(&folder.folder, &place.join("modules"), &mut self.paths)
                    .map_err(wrong(place.join("modules")))?;
                open.push(place);
            } else if is_folder(&folder.folder, &place).map_err(wrong(place.clone()))? {
                // `git gc` inside would take it for gone, and remove what it has not committed.
                self.closed.push(place);
            }
        }
        let main = git.as_os_str().is_empty();
        let mut writable = true;
        if !main {
            modules(&folder.folder, &modules_place, &mut self.paths).map_err(wrong(modules_place))?;
        } else if is_folder(&folder.folder, &modules_place).map_err(wrong(modules_place.clone()))? {
            self.closed.push(modules_place);
            writable = false;
        }
        Grown::at_start(folder, git, &open, writable, main).map_err(wrong(git.to_owned()))
    }

    /// Takes the copies.
    fn cover(mut self, folder: &Project, copies: &Path, room: &mut u64) -> Result<Protection, Problem> {
        self.paths.sort();
        self.paths.dedup();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(copies);
        made.map_err(|e| crate::home::disk_problem(copies, &e))?;
        let mut protection = Protection::default();
        let protected = |path: &Path, cover| Protected { under: folder.path.clone(), path: path.to_owned(), cover };
        let pin = |path: &Path, protection: &mut Protection| -> Result<(), Problem> {
            // Each folder above is bound on itself: otherwise `mv .git .g; mkdir .git` undoes all that is covered in it.
            for above in above(path) {
                let known = protection.covered.iter().any(|c| c.path == above);
                let is_folder =
                    |path| is_folder(&folder.folder, path).map_err(|e| refusal(&folder.path.join(path), &e));
                if !known && is_folder(above)? {
                    protection.covered.push(protected(above, Cover::Pin));
                }
            }
            Ok(())
        };
        for path in self.closed {
            pin(&path, &mut protection)?;
            protection.covered.push(protected(&path, Cover::Close));
        }
        for path in self.paths {
            pin(&path, &mut protection)?;
            let copy = copies.join(protection.covered.len().to_string());
            match take(&folder.folder, &path, &copy, room) {
                Ok((copy, identity)) => {
                    protection.covered.push(protected(&path, Cover::Copy(copy)));
                    protection.present.push((path, identity));
                }
                Err(e) if is_absent(&e) => protection.absent.push(path),
                Err(e) => return Err(refusal(&folder.path.join(&path), &e)),
            }
        }
        Ok(protection)
    }
}

/// Of a folder that comes along writable, the names that programs outside act on. One that has any of them is refused:
/// only a project's are covered.
pub fn beside(folder: &Project, read_only: &[String]) -> Result<Vec<PathBuf>, Problem> {
    let names = read_only.iter().map(String::as_str).filter(|path| !path.starts_with(".git/")).chain([".git", "HEAD"]);
    let names: Vec<PathBuf> = names.map(PathBuf::from).collect();
    match appeared(folder, &names) {
        None => Ok(names),
        Some(name) => Err(Problem::new(
            Code::FOLDER_REFUSED,
            folder.path.display().to_string(),
            format!("it has {}, on which programs outside act, and which is covered only in a project", name.display()),
            format!(
                "let the agent read it: --ro '{0}'
or work there: --project '{0}'",
                folder.path.display()
            ),
        )),
    }
}

/// The folders between the project and `path`, outermost first.
fn above(path: &Path) -> Vec<&Path> {
    let mut all: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    all.reverse();
    all
}

/// Whether an error says that there is nothing.
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// Only what is not there is no folder; a link, or what can't be looked at, is an error.
pub fn is_folder(project: &OwnedFd, path: &Path) -> io::Result<bool> {
    match beneath::open(project, path, libc::O_PATH | libc::O_DIRECTORY) {
        Ok(_) => Ok(true),
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn refusal(place: &Path, error: &io::Error) -> Problem {
    let what = match error.raw_os_error() {
        Some(libc::ELOOP) => "it is a link, or lies behind one; a protected file must be a plain one".to_owned(),
        _ => error.to_string(),
    };
    let remedy =
        format!("look at it, and put a plain file or folder of yours in its place: ls -l {}", quoted(place.display()));
    Problem::new(Code::SESSION_PROTECTED, place.display().to_string(), what, remedy)
}

/// Copies a file or a folder of files; gives the copy's path, and what was copied.
fn take(project: &OwnedFd, path: &Path, copy: &Path, room: &mut u64) -> io::Result<(PathBuf, Identity)> {
    let opened = beneath::open(project, path, libc::O_PATH)?;
    let about = nix::sys::stat::fstat(&opened)?;
    let mode = about.st_mode;
    match mode & libc::S_IFMT {
        libc::S_IFREG => copy_file(project, path, copy, mode, room)?,
        libc::S_IFDIR => copy_folder(project, path, copy, &mut 0, room)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder")),
    }
    Ok((copy.to_owned(), (about.st_dev, about.st_ino)))
}

fn copy_file(folder: impl AsFd, path: &Path, copy: &Path, mode: u32, room: &mut u64) -> io::Result<()> {
    let bytes = beneath::read(&folder, path, FILE_LIMIT)?;
    let rest = room.checked_sub(bytes.len() as u64);
    *room = rest.ok_or_else(|| io::Error::other(format!("all that is protected is more than {COPIES_LIMIT} bytes")))?;
    // Through another name of the same file, the agent could write what is covered here.
    if nix::sys::stat::fstat(beneath::open(&folder, path, libc::O_PATH)?)?.st_nlink > 1 {
        return Err(io::Error::other("it is a hard link: the same file has another name"));
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(mode & 0o755).open(copy)?;
    io::Write::write_all(&mut out, &bytes)
}

fn copy_folder(project: &OwnedFd, path: &Path, copy: &Path, seen: &mut usize, room: &mut u64) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(copy)?;
    for name in names(project, path)? {
        *seen += 1;
        if *seen > ENTRY_LIMIT {
            return Err(io::Error::other(format!("more than {ENTRY_LIMIT} entries")));
        }
        let (inner, into) = (path.join(&name), copy.join(&name));
        // What has gone by now is not there.
        let Ok(opened) = beneath::open(project, &inner, libc::O_PATH | libc::O_NOFOLLOW) else { continue };
        let mode = nix::sys::stat::fstat(&opened)?.st_mode;
        match mode & libc::S_IFMT {
            libc::S_IFREG => copy_file(project, &inner, &into, mode, room)?,
            libc::S_IFDIR => copy_folder(project, &inner, &into, seen, room)?,
            // A link within (a hook that points to a script): kept as a link, it is read-only and leads where it led.
            libc::S_IFLNK => std::os::unix::fs::symlink(nix::fcntl::readlinkat(&opened, "")?, into)?,
            // A socket, FIFO or device in a protected folder is not carried over.
            _ => {}
        }
    }
    Ok(())
}

/// The names in a folder, in order; none if there is no such folder.
pub fn names(project: &OwnedFd, path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = match beneath::open(project, path, libc::O_RDONLY | libc::O_DIRECTORY) {
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(folder)?.iter() {
        let name = PathBuf::from(OsStr::from_bytes(entry?.file_name().to_bytes()));
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

/// Keys of git's configuration whose value names a program, a folder of programs or more configuration (git-config(1)),
/// in lower case and without their section.
const ACTED_ON: &[&str] = &[
    "attributesfile",
    "clean",
    "cmd",
    "driver",
    "editor",
    "external",
    "fsmonitor",
    "helper",
    "hookspath",
    "pager",
    "path",
    "process",
    "program",
    "smudge",
    "sshcommand",
    "textconv",
];

/// Files and folders `within` a folder that a git configuration names to be run or read: the configuration is covered, so
/// what it leads to has to be as well. Relative names count from the project and from `.git`, as git has both.
fn named_by_config(of: &Project, config: &Path, within: &Project) -> io::Result<Vec<PathBuf>> {
    let (project, place) = (&within.folder, &within.path);
    let bytes = match beneath::read(&of.folder, config, FILE_LIMIT) {
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        other => other?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let acted_on = |line: &str| {
        let (key, value) = line.split_once('=')?;
        ACTED_ON.contains(&key.trim().to_lowercase().as_str()).then(|| value.to_owned())
    };
    let mut paths = Vec::new();
    for value in text.lines().filter_map(acted_on) {
        for word in value.split_whitespace() {
            let word = Path::new(word.trim_matches(|c| matches!(c, '"' | '\'' | '!' | ';')));
            for base in ["", ".git"] {
                let named = word
                    .strip_prefix(place)
                    .map_or_else(|_| normal(&Path::new(base).join(word)), |w| Some(w.to_owned()));
                let there = |path: &PathBuf| beneath::open(project, path, libc::O_PATH).is_ok();
                paths.extend(named.filter(|path| !path.as_os_str().is_empty() && there(path)));
            }
        }
    }
    Ok(paths)
}

/// A relative path with its `.` and `..` worked out; None if it leads out of the project.
#[must_use]
pub fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir if normal.pop() => {}
            _ => return None,
        }
    }
    Some(normal)
}

/// What git acts on in the repositories of submodules.
fn modules(project: &OwnedFd, folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut found = Vec::new();
    repositories(project, folder, &mut found)?;
    paths.extend(found.iter().flat_map(|git| crate::gitlinks::ACTED_ON.iter().map(|file| git.join(file))));
    Ok(())
}

/// Repositories of submodules lie in `.git/modules`, nested by name; each has a configuration and hooks.
pub fn repositories(project: &OwnedFd, folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let (mut open, mut seen) = (vec![(folder.to_owned(), DEPTH)], 0);
    while let Some((folder, depth)) = open.pop() {
        let names = names(project, &folder)?;
        seen += names.len();
        if depth == 0 && !names.is_empty() {
            return Err(io::Error::other("nested too deeply"));
        }
        if seen > MODULES_LIMIT {
            return Err(io::Error::other(format!("more than {MODULES_LIMIT} entries")));
        }
        for name in names {
            let inner = folder.join(name);
            if !is_folder(project, &inner)? {
                continue;
            }
            match beneath::open(project, &inner.join("HEAD"), libc::O_PATH) {
                Ok(_) => {
                    open.push((inner.join("modules"), depth - 1));
                    found.push(inner);
                }
                Err(e) if is_absent(&e) => open.push((inner, depth - 1)),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Whether a folder is one of those that the repository's objects lie in, by two digits of their names.
fn is_fan_out(folder: &Path, objects: &Path) -> bool {
    let digits = |name: &OsStr| name.len() == 2 && name.as_bytes().iter().all(u8::is_ascii_hexdigit);
    folder.parent() == Some(objects) && folder.file_name().is_some_and(digits)
}

/// Git writes through links in its folder (logs, `FETCH_HEAD`, `objects/info/commit-graph`), so none may lead from there
/// into the person's files. What lies by two digits in `objects` is left out: git never writes an object that is there.
fn no_links(project: &OwnedFd, folder: &Path) -> io::Result<()> {
    let (mut open, objects) = (vec![folder.to_owned()], folder.join("objects"));
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        let descriptor = match beneath::open(project, &folder, libc::O_RDONLY | libc::O_DIRECTORY) {
            Err(e) if is_absent(&e) => continue,
            other => other?,
        };
        for entry in nix::dir::Dir::from_fd(descriptor)?.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            seen += 1;
            if seen > GIT_LIMIT {
                return Err(io::Error::other(format!("more than {GIT_LIMIT} entries; try: git gc")));
            }
            match entry.file_type() {
                _ if name == "." || name == ".." => {}
                Some(nix::dir::Type::Symlink) => {
                    return Err(io::Error::other(format!("{} is a link", folder.join(name).display())));
                }
                Some(nix::dir::Type::Directory) if is_fan_out(&folder.join(name), &objects) => {}
                Some(nix::dir::Type::Directory) => open.push(folder.join(name)),
                Some(_) => {}
                // A file system that does not tell.
                None => {
                    if is_folder(project, &folder.join(name))? && !is_fan_out(&folder.join(name), &objects) {
                        open.push(folder.join(name));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether git's folder has no link that leads somewhere, for the look at a session's end.
#[must_use]
pub fn links_in_git(folder: &Project, git: &Path) -> Option<String> {
    no_links(&folder.folder, git).err().map(|e| e.to_string())
}

/// The first covered place that is another file now.
#[must_use]
pub fn replaced<'a>(project: &Project, present: &'a [(PathBuf, Identity)]) -> Option<&'a PathBuf> {
    let same = |path: &Path, identity: Identity| {
        let now = beneath::open(&project.folder, path, libc::O_PATH).ok();
        now.and_then(|fd| nix::sys::stat::fstat(fd).ok()).is_some_and(|about| (about.st_dev, about.st_ino) == identity)
    };
    present.iter().find(|(path, identity)| !same(path, *identity)).map(|(path, _)| path)
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

    fn prepared(project: &Project, read_only: &[String], copies: &Path) -> Result<Protection, Problem> {
        prepare(project, None, read_only, copies).map(|prepared| prepared.project)
    }

    fn copy(protected: &Protected) -> &Path {
        match &protected.cover {
            Cover::Copy(path) => path,
            other => panic!("{other:?}"),
        }
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
        let protection = prepared(&project(&at("p")), &list(), &at("copies")).unwrap();
        let covered: Vec<_> = protection.covered.iter().map(|c| c.path.to_str().unwrap()).collect();
        let modules = [".git/modules", ".git/modules/lib", ".git/modules/lib/x", ".git/modules/lib/x/config"];
        assert_eq!(covered[..3], [".git", ".git/config", ".git/hooks"]);
        assert_eq!(covered[3..], modules);
        assert!(protection.covered[0].cover == Cover::Pin);
        assert_eq!(
            fs::read_to_string(copy(&protection.covered[2]).join("pre-commit")).unwrap(),
            "p/.git/hooks/pre-commit"
        );
        assert!(protection.absent.contains(&".envrc".into()) && protection.absent.contains(&".git/commondir".into()));
    }

    #[test]
    fn a_link_in_a_covered_folder_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        fs::create_dir_all(at("p/.envrc")).unwrap();
        std::os::unix::fs::symlink("../../tools/check", at("p/.envrc/check")).unwrap();
        let protection = prepared(&project(&at("p")), &list(), &at("copies")).unwrap();
        let copy = copy(&protection.covered[0]);
        assert_eq!(fs::read_link(copy.join("check")).unwrap(), Path::new("../../tools/check"));
    }

    #[test]
    fn a_protected_name_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("p/.git")).unwrap();
        fs::create_dir_all(dir.path().join("keys")).unwrap();
        std::os::unix::fs::symlink("../../keys", dir.path().join("p/.git/hooks")).unwrap();
        let problem = prepared(&project(&dir.path().join("p")), &list(), &dir.path().join("copies")).unwrap_err();
        assert_eq!(problem.code, Code::SESSION_PROTECTED);
    }

    #[test]
    fn what_can_not_be_looked_at_is_refused_rather_than_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        let refused = |name: &str| {
            let problem = prepared(&project(&at("p")), &list(), &at(name)).unwrap_err();
            assert_eq!(problem.code, Code::SESSION_PROTECTED, "{name}");
        };
        fs::create_dir_all(at("p/.git/modules/lib")).unwrap();
        std::os::unix::fs::symlink("refs/heads/main", at("p/.git/modules/lib/HEAD")).unwrap();
        refused("a link as a module's HEAD");
        fs::remove_dir_all(at("p/.git/modules")).unwrap();
        std::os::unix::fs::symlink("elsewhere", at("p/.git/modules")).unwrap();
        refused("a link as the folder of modules");
        fs::remove_file(at("p/.git/modules")).unwrap();
        fs::create_dir(at("p/.git/logs")).unwrap();
        std::os::unix::fs::symlink("../../../outside", at("p/.git/logs/HEAD")).unwrap();
        refused("a log that is a link");
        fs::remove_dir_all(at("p/.git/logs")).unwrap();
        for place in ["p/.git/objects/info", "p/.git/modules/objects/ab/logs", "p/.git/modules/lib/objects/pack"] {
            fs::create_dir_all(at(place)).unwrap();
            std::os::unix::fs::symlink("/outside", at(place).join("commit-graph")).unwrap();
            refused("a link below objects");
            fs::remove_dir_all(at(place)).unwrap();
        }
        fs::write(at("p/plain"), "").unwrap();
        fs::hard_link(at("p/plain"), at("p/.envrc")).unwrap();
        refused("a second name of a protected file");
    }

    #[test]
    fn what_git_is_told_to_run_or_read_is_covered() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        fs::create_dir_all(at("p/.git")).unwrap();
        fs::create_dir_all(at("p/my-hooks")).unwrap();
        for file in ["p/.gitconfig", "p/tool", "p/main"] {
            fs::write(at(file), "").unwrap();
        }
        let config = "[core]\n\thooksPath = my-hooks\n\tfsmonitor = \"./tool --watch\"\n[include]\n\tpath = ../.gitconfig\n[branch \"main\"]\n\tmerge = main\n";
        fs::write(at("p/.git/config"), config).unwrap();
        fs::write(at("p/other"), "").unwrap();
        fs::write(at("p/.git/config.worktree"), "[core]\n\tfsmonitor = ./other\n").unwrap();
        let protection = prepared(&project(&at("p")), &list(), &at("copies")).unwrap();
        let covered: Vec<_> = protection.present.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(covered, [".git/config", ".gitconfig", "my-hooks", "other", "tool"]);
    }

    #[test]
    fn a_link_in_an_embedded_repository_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        let made = "git init -q p; cd p; git init -q own; git -C own -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1; git add own 2>/dev/null";
        let shell = std::process::Command::new("/bin/sh").args(["-euc", made]).current_dir(dir.path()).status();
        assert!(shell.unwrap().success());
        prepared(&project(&at("p")), &list(), &at("copies")).unwrap();
        fs::remove_file(at("p/own/.git/logs/HEAD")).unwrap();
        std::os::unix::fs::symlink("/outside", at("p/own/.git/logs/HEAD")).unwrap();
        let problem = prepared(&project(&at("p")), &list(), &at("again")).unwrap_err();
        assert_eq!(problem.subject, at("p/own/.git").display().to_string());
    }

    #[test]
    fn a_file_replaced_outside_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("p/.git")).unwrap();
        fs::write(dir.path().join("p/.git/config"), "a").unwrap();
        let project = project(&dir.path().join("p"));
        let protection = prepared(&project, &list(), &dir.path().join("copies")).unwrap();
        assert_eq!(replaced(&project, &protection.present), None);
        fs::write(dir.path().join("p/.git/config.lock"), "b").unwrap();
        fs::rename(dir.path().join("p/.git/config.lock"), dir.path().join("p/.git/config")).unwrap();
        assert_eq!(replaced(&project, &protection.present), Some(&".git/config".into()));
    }

    #[test]
    fn what_appears_is_seen_even_as_a_dangling_link() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path());
        let protection = prepared(&project, &list(), &dir.path().join("copies")).unwrap();
        assert_eq!(appeared(&project, &protection.absent), None);
        std::os::unix::fs::symlink("/nowhere", dir.path().join(".envrc")).unwrap();
        assert_eq!(appeared(&project, &protection.absent), Some(&".envrc".into()));
        fs::remove_file(dir.path().join(".envrc")).unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert!(appeared(&project, &protection.absent).is_some());
    }
}
