//! Repositories that git goes into from the project's own: those at a gitlink's path. Plain `git status` acts on their
//! configuration, so it is covered as the project's own is; and one that comes up during a session is found in the index.

use crate::beneath;
use crate::git_index::{self, Index};
use crate::project::Project;
use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Bytes that an index may have; that of a million files has about 100 MiB.
const INDEX_LIMIT: u64 = 256 << 20;
/// Repositories that one project may hold, each in another.
const REPOSITORY_LIMIT: usize = 500;
/// Bytes of a `.git` that is a file.
const FILE_LIMIT: u64 = 4096;
/// What git acts on in a repository's folder (gitrepository-layout(5)).
pub const ACTED_ON: &[&str] = &["config", "config.worktree", "hooks", "info", "commondir"];

/// A repository within the project; both places are relative to the project.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Repository {
    git: PathBuf,
    tree: PathBuf,
    /// Bytes of an object's name.
    hash: usize,
}

/// What is known of gitlinks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Links {
    repositories: Vec<Repository>,
    /// Paths of gitlinks whose repository is covered, or absent and watched.
    known: BTreeSet<PathBuf>,
    /// Indexes that the person let pass though they can't be read.
    accepted: BTreeSet<PathBuf>,
}

/// What a look at the indexes found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that git would go into; these names must not appear from now on.
    Names(Vec<PathBuf>),
    /// A repository that git would go into, and that is not covered.
    Repository(PathBuf),
    /// An index that can't be read, or names a place outside.
    Index(PathBuf, String),
}

impl Links {
    /// Looks at the project's index and those of the repositories below it. Gives what must be covered, as far as it is
    /// there, and watched as far as it is not.
    pub fn prepare(project: &Project) -> Result<(Self, Vec<PathBuf>), (PathBuf, io::Error)> {
        let (mut links, mut paths) = (Self::default(), Vec::new());
        let mut next = vec![(PathBuf::from(".git"), PathBuf::new())];
        while let Some((git, tree)) = next.pop() {
            if links.repositories.len() == REPOSITORY_LIMIT {
                let what = format!("more than {REPOSITORY_LIMIT} repositories, each in another");
                return Err((git, io::Error::other(what)));
            }
            let hash = hash_length(project, &git).map_err(|e| (git.join("config"), e))?;
            let repository = Repository { git, tree, hash };
            let index = repository.git.join("index");
            for place in repository.links(project).map_err(|e| (index, e))? {
                if !links.known.insert(place.clone()) {
                    continue;
                }
                let dot_git = place.join(".git");
                let is_folder = beneath::open(&project.folder, &dot_git, libc::O_PATH | libc::O_DIRECTORY).is_ok();
                // A folder, a file that says where it is, or nothing, which is watched. What is neither is refused.
                let git = if is_folder {
                    Some(dot_git.clone())
                } else {
                    led_to(project, &place).map_err(|e| (dot_git.clone(), e))?
                };
                if !is_folder {
                    paths.push(dot_git);
                }
                if let Some(git) = git {
                    paths.extend(ACTED_ON.iter().map(|name| git.join(name)));
                    next.push((git, place));
                }
            }
            links.repositories.push(repository);
        }
        Ok((links, paths))
    }

    /// Looks again.
    pub fn look(&mut self, project: &Project) -> Found {
        let mut names = Vec::new();
        for repository in &self.repositories {
            let index = repository.git.join("index");
            let places = match repository.links(project) {
                Ok(places) => places,
                Err(_) if self.accepted.contains(&index) => continue,
                Err(e) => return Found::Index(index, e.to_string()),
            };
            for place in places {
                if self.known.contains(&place) {
                    continue;
                }
                let dot_git = place.join(".git");
                let there = beneath::open(&project.folder, &dot_git, libc::O_PATH | libc::O_NOFOLLOW);
                match there.map_err(|e| e.raw_os_error()) {
                    Err(Some(libc::ENOENT | libc::ENOTDIR)) => {
                        self.known.insert(place);
                        names.push(dot_git);
                    }
                    _ => return Found::Repository(dot_git),
                }
            }
        }
        Found::Names(names)
    }

    /// The person has seen a repository, or an index.
    pub fn accept(&mut self, path: &Path) {
        self.accepted.insert(path.to_owned());
        if let Some(place) = path.parent() {
            self.known.insert(place.to_owned());
        }
    }

    /// Folders in which an index is written.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.repositories.iter().map(|repository| repository.git.as_path())
    }
}

impl Repository {
    /// Places of the gitlinks, relative to the project.
    fn links(&self, project: &Project) -> io::Result<Vec<PathBuf>> {
        let index = self.read(project, Path::new("index"))?;
        let shared =
            index.shared.map(|name| self.read(project, Path::new(&format!("sharedindex.{name}")))).transpose()?;
        let links = index.links.into_iter().chain(shared.unwrap_or_default().links);
        links
            .map(|link| {
                let plain = |part: Component| matches!(part, Component::Normal(name) if name != ".git");
                if link.as_os_str().is_empty() || !link.components().all(plain) {
                    return Err(io::Error::other(format!("it names a submodule at {}", link.display())));
                }
                Ok(self.tree.join(link))
            })
            .collect()
    }

    fn read(&self, project: &Project, name: &Path) -> io::Result<Index> {
        let text = match beneath::read(&project.folder, &self.git.join(name), INDEX_LIMIT) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(Index::default()),
            other => other?,
        };
        let malformed = |_| io::Error::other("git's index can't be understood");
        git_index::parse(&text, self.hash).map_err(malformed)
    }
}

/// With `extensions.objectFormat = sha256` names are longer. The configuration is covered, so this stays. An index can be
/// made that says one thing with short names and another with long ones, so this has to be as plain as git writes it.
fn hash_length(project: &Project, git: &Path) -> io::Result<usize> {
    let text = beneath::read(&project.folder, &git.join("config"), 4 << 20).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).to_lowercase();
    let mut length = 20;
    for line in text.lines().filter(|line| line.contains("objectformat")) {
        length = match line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("objectformat", "sha1")) => 20,
            Some(("objectformat", "sha256")) => 32,
            _ => return Err(io::Error::other("extensions.objectFormat is not written as git writes it")),
        };
    }
    Ok(length)
}

/// Where a `.git` that is a file leads to: into the project, or it is an error. None if there is none.
fn led_to(project: &Project, place: &Path) -> io::Result<Option<PathBuf>> {
    let text = match beneath::read(&project.folder, &place.join(".git"), FILE_LIMIT) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
        other => other?,
    };
    let within = || {
        let named = String::from_utf8(text).ok()?.strip_prefix("gitdir:")?.trim().to_owned();
        let named = Path::new(&named);
        let from =
            if named.is_absolute() { named.strip_prefix(&project.path).ok()?.to_owned() } else { place.join(named) };
        let git = crate::protect::normal(&from)?;
        beneath::open(&project.folder, &git, libc::O_PATH | libc::O_DIRECTORY).ok().map(|_| git)
    };
    within().map(Some).ok_or_else(|| io::Error::other("it leads to no folder of the project's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn project(dir: &Path) -> Project {
        Project { path: dir.to_owned(), device: 0, inode: 0, folder: fs::File::open(dir).unwrap().into() }
    }

    fn shell(dir: &Path, script: &str) {
        let mut command = Command::new("/bin/sh");
        command.args(["-euc", script]).current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("GIT_CONFIG_COUNT", "2").env("GIT_CONFIG_KEY_0", "user.name").env("GIT_CONFIG_VALUE_0", "a");
        command.env("GIT_CONFIG_KEY_1", "user.email").env("GIT_CONFIG_VALUE_1", "a@b").env("HOME", dir);
        assert!(command.status().unwrap().success(), "{script}");
    }

    /// An embedded repository, and one whose folder lies in `.git/modules`.
    fn with_submodules() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        shell(
            dir.path(),
            "git init -q .; for m in own lib; do git init -q $m; git -C $m commit -q --allow-empty -m 1; git add $m 2>/dev/null; done
            mkdir -p .git/modules; mv lib/.git .git/modules/lib; echo 'gitdir: ../.git/modules/lib' >lib/.git
            git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,absent",
        );
        dir
    }

    #[test]
    fn what_git_goes_into_is_covered_or_watched() {
        let dir = with_submodules();
        let (mut links, paths) = Links::prepare(&project(dir.path())).unwrap();
        for path in ["own/.git/config", "own/.git/hooks", "lib/.git", ".git/modules/lib/config", "absent/.git"] {
            assert!(paths.contains(&path.into()), "{path}: {paths:?}");
        }
        assert_eq!(links.look(&project(dir.path())), Found::Names(Vec::new()));
    }

    #[test]
    fn a_gitlink_that_appears_is_found() {
        let dir = with_submodules();
        let project = project(dir.path());
        let (mut links, _) = Links::prepare(&project).unwrap();
        shell(dir.path(), "git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,later");
        assert_eq!(links.look(&project), Found::Names(vec!["later/.git".into()]));
        shell(
            dir.path(),
            "git init -q new; git -C new commit -q --allow-empty -m 1; git update-index --split-index; git add new 2>/dev/null",
        );
        assert_eq!(links.look(&project), Found::Repository("new/.git".into()));
        links.accept(Path::new("new/.git"));
        assert_eq!(links.look(&project), Found::Names(Vec::new()));
        // In a submodule's own index, too.
        shell(
            dir.path(),
            "cd own; git init -q deep; git -C deep commit -q --allow-empty -m 1; git add deep 2>/dev/null",
        );
        assert_eq!(links.look(&project), Found::Repository("own/deep/.git".into()));
        fs::write(dir.path().join(".git/index"), "DIRC").unwrap();
        assert!(matches!(links.look(&project), Found::Index(path, _) if path == Path::new(".git/index")));
    }

    #[test]
    fn a_gitlink_that_leads_out_is_refused() {
        let dir = with_submodules();
        let path = dir.path().join(".git/index");
        let mut index = fs::read(&path).unwrap();
        let at = index.windows(4).position(|w| w == b"own\0").unwrap();
        index[at..at + 3].copy_from_slice(b"../");
        fs::write(&path, &index).unwrap();
        let (place, error) = Links::prepare(&project(dir.path())).unwrap_err();
        assert_eq!(place, Path::new(".git/index"));
        assert!(error.to_string().contains("../"), "{error}");
    }
}
