//! Repositories that git goes into from the project's own: those at a gitlink's path. Plain `git status` acts on their
//! configuration, so it is covered as the project's own is; and one that comes up during a session is found in the index.

use crate::beneath;
use crate::git_index::{self, Index};
use crate::project::Project;
use crate::worktree::Worktree;
use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Bytes that an index may have; that of a million files has about 100 MiB.
const INDEX_LIMIT: u64 = 256 << 20;
/// Repositories that one project may hold, each in another.
const REPOSITORY_LIMIT: usize = 500;
/// Bytes of a `.git` that is a file.
const FILE_LIMIT: u64 = 4096;
/// Of an index that names folders instead of what they hold.
const SPARSE: &str = "it is sparse: it names folders, and the submodules in them can't be seen; make it whole: git sparse-checkout reapply --no-sparse-index";
/// What git acts on in a repository's folder (gitrepository-layout(5)).
pub const ACTED_ON: &[&str] = &["config", "config.worktree", "hooks", "info", "commondir"];

/// The folders that git's own files lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The project.
    Project,
    /// The repository of the linked worktree that the project is.
    Common,
}

/// A place in one of them, relative to it.
pub type Place = (Side, PathBuf);

/// The project, and its repository where that lies elsewhere.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The project.
    pub project: &'a Project,
    /// Set if it is a linked worktree.
    pub worktree: Option<&'a Worktree>,
}

impl<'a> Ground<'a> {
    fn folder(&self, side: Side) -> &'a Project {
        match (side, self.worktree) {
            (Side::Common, Some(worktree)) => &worktree.common,
            _ => self.project,
        }
    }

    fn absolute(&self, (side, path): &Place) -> PathBuf {
        self.folder(*side).path.join(path)
    }
}

/// A repository of the ground.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Repository {
    git: Place,
    /// Relative to the project.
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
    /// The main worktree's index, which an agent in a linked one can write, and the gitlinks that it had.
    main: Option<(Repository, BTreeSet<PathBuf>)>,
}

/// What a look at the indexes found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that git would go into; these names must not appear from now on.
    Names(Vec<PathBuf>),
    /// A repository that git would go into, and that is not covered.
    Repository(PathBuf),
    /// An index that can't be read, or names what it must not.
    Index {
        /// Its place outside.
        index: PathBuf,
        /// That of its repository's files.
        tree: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Links {
    /// Looks at the project's index and those of the repositories below it. Gives what must be covered, as far as it is
    /// there, and watched as far as it is not.
    pub fn prepare(ground: Ground<'_>) -> Result<(Self, Vec<Place>), (PathBuf, io::Error)> {
        let (mut links, mut paths) = (Self::default(), Vec::new());
        let first = match ground.worktree {
            None => (Side::Project, PathBuf::from(".git")),
            Some(worktree) => (Side::Common, worktree.own.clone()),
        };
        if ground.worktree.is_some() {
            let config = (Side::Common, PathBuf::from("config"));
            let hash = hash_length(ground, &config).map_err(|e| (ground.absolute(&config), e))?;
            let main = Repository { git: (Side::Common, PathBuf::new()), tree: PathBuf::new(), hash };
            let known = main.links(ground).map_err(|e| (main.index(ground), e))?;
            // Git in the main worktree goes there, and only what the project's own index names is covered.
            let index = main.index(ground);
            let tree = index.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
            let within =
                |link: &&PathBuf| tree.join(link).strip_prefix(&ground.project.path).is_ok_and(|p| p != Path::new(""));
            if let Some(link) = known.iter().find(within) {
                let what = format!("the main worktree's index names a submodule in this one: {}", link.display());
                return Err((index, io::Error::other(what)));
            }
            links.main = Some((main, known.into_iter().collect()));
        }
        let mut next = vec![(first, PathBuf::new())];
        while let Some((git, tree)) = next.pop() {
            if links.repositories.len() == REPOSITORY_LIMIT {
                let what = format!("more than {REPOSITORY_LIMIT} repositories, each in another");
                return Err((ground.absolute(&git), io::Error::other(what)));
            }
            // A linked worktree has no configuration of its own but for what is said beside the common one.
            let config = match ground.worktree {
                Some(worktree) if git.1 == worktree.own => (git.0, PathBuf::from("config")),
                _ => (git.0, git.1.join("config")),
            };
            let hash = hash_length(ground, &config).map_err(|e| (ground.absolute(&config), e))?;
            let repository = Repository { git, tree, hash };
            for place in repository.links(ground).map_err(|e| (repository.index(ground), e))? {
                if !links.known.insert(place.clone()) {
                    continue;
                }
                let dot_git = place.join(".git");
                let folder = &ground.project.folder;
                let is_folder = beneath::open(folder, &dot_git, libc::O_PATH | libc::O_DIRECTORY).is_ok();
                // A folder, a file that says where it is, or nothing, which is watched. What is neither is refused.
                let git = if is_folder {
                    Some((Side::Project, dot_git.clone()))
                } else {
                    led_to(ground, &place).map_err(|e| (ground.project.path.join(&dot_git), e))?
                };
                if !is_folder {
                    paths.push((Side::Project, dot_git));
                }
                if let Some((side, git)) = git {
                    paths.extend(ACTED_ON.iter().map(|name| (side, git.join(name))));
                    next.push(((side, git), place));
                }
            }
            links.repositories.push(repository);
        }
        Ok((links, paths))
    }

    /// Looks again.
    pub fn look(&mut self, ground: Ground<'_>) -> Found {
        let project = ground.project;
        let mut names = Vec::new();
        for repository in &self.repositories {
            let index = repository.index(ground);
            let places = match repository.links(ground) {
                Ok(places) => places,
                Err(_) if self.accepted.contains(&index) => continue,
                Err(e) => {
                    let tree = project.path.join(&repository.tree);
                    return Found::Index { index, tree, what: e.to_string() };
                }
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
        self.look_at_main(ground).unwrap_or(Found::Names(names))
    }

    /// The main worktree may lie around the project, or hold another repository: git there would go into what the agent
    /// put into its index.
    fn look_at_main(&mut self, ground: Ground<'_>) -> Option<Found> {
        let (main, known) = self.main.as_mut()?;
        let index = main.index(ground);
        if self.accepted.contains(&index) {
            return None;
        }
        let what = match main.links(ground) {
            Ok(places) => {
                let new = places.into_iter().find(|place| !known.contains(place))?;
                // Once said, it is known: the person lets it be, or the session ends.
                known.insert(new.clone());
                format!("it names a submodule since the session began: {}", new.display())
            }
            Err(e) => e.to_string(),
        };
        let tree = index.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        Some(Found::Index { index, tree, what })
    }

    /// The person has seen a repository (relative to the project), or an index (by its place outside).
    pub fn accept(&mut self, path: &Path) {
        self.accepted.insert(path.to_owned());
        if let Some(place) = path.parent() {
            self.known.insert(place.to_owned());
        }
    }

    /// Folders of repositories that lie in the project's files, and not in its own repository.
    pub fn embedded(&self) -> impl Iterator<Item = &Path> {
        self.folders(Side::Project).filter(|git| !git.starts_with(".git"))
    }

    /// Folders of a side in which an index is written.
    pub fn folders(&self, side: Side) -> impl Iterator<Item = &Path> {
        let main = self.main.iter().map(|(repository, _)| repository);
        self.repositories.iter().chain(main).filter(move |r| r.git.0 == side).map(|r| r.git.1.as_path())
    }
}

impl Repository {
    /// The index's place outside.
    fn index(&self, ground: Ground<'_>) -> PathBuf {
        ground.absolute(&self.git).join("index")
    }

    /// Places of the gitlinks, relative to the project.
    fn links(&self, ground: Ground<'_>) -> io::Result<Vec<PathBuf>> {
        let index = self.read(ground, Path::new("index"))?;
        let shared =
            index.shared.map(|name| self.read(ground, Path::new(&format!("sharedindex.{name}")))).transpose()?;
        let shared = shared.unwrap_or_default();
        if index.sparse || shared.sparse {
            return Err(io::Error::other(SPARSE));
        }
        let links = index.links.into_iter().chain(shared.links);
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

    fn read(&self, ground: Ground<'_>, name: &Path) -> io::Result<Index> {
        let (side, git) = &self.git;
        let text = match beneath::read(&ground.folder(*side).folder, &git.join(name), INDEX_LIMIT) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(Index::default()),
            other => other?,
        };
        let malformed = |_| io::Error::other("git's index can't be understood");
        git_index::parse(&text, self.hash).map_err(malformed)
    }
}

/// With `extensions.objectFormat = sha256` names are longer. The configuration is covered, so this stays. An index can be
/// made that says one thing with short names and another with long ones, so this has to be as plain as git writes it.
fn hash_length(ground: Ground<'_>, (side, config): &Place) -> io::Result<usize> {
    let text = beneath::read(&ground.folder(*side).folder, config, 4 << 20).unwrap_or_default();
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

/// Where a `.git` that is a file leads to: into the project or its repository, or it is an error. None if there is none.
fn led_to(ground: Ground<'_>, place: &Path) -> io::Result<Option<Place>> {
    let project = ground.project;
    let text = match beneath::read(&project.folder, &place.join(".git"), FILE_LIMIT) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
        other => other?,
    };
    let within = || {
        let named = String::from_utf8(text).ok()?.strip_prefix("gitdir:")?.trim().to_owned();
        let from = project.path.join(place).join(named);
        let from = Path::new("/").join(crate::protect::normal(from.strip_prefix("/").ok()?)?);
        // A repository may lie below the project as well: what is within it is its own.
        let common = ground.worktree.and_then(|w| from.strip_prefix(&w.common.path).ok());
        let git = match common {
            Some(git) => (Side::Common, git.to_owned()),
            None => (Side::Project, from.strip_prefix(&project.path).ok()?.to_owned()),
        };
        beneath::open(&ground.folder(git.0).folder, &git.1, libc::O_PATH | libc::O_DIRECTORY).ok().map(|_| git)
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

    fn alone(project: &Project) -> Ground<'_> {
        Ground { project, worktree: None }
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
        let (mut links, paths) = Links::prepare(alone(&project(dir.path()))).unwrap();
        for path in ["own/.git/config", "own/.git/hooks", "lib/.git", ".git/modules/lib/config", "absent/.git"] {
            assert!(paths.contains(&(Side::Project, path.into())), "{path}: {paths:?}");
        }
        assert_eq!(links.look(alone(&project(dir.path()))), Found::Names(Vec::new()));
    }

    #[test]
    fn a_gitlink_that_appears_is_found() {
        let dir = with_submodules();
        let project = project(dir.path());
        let (mut links, _) = Links::prepare(alone(&project)).unwrap();
        shell(dir.path(), "git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,later");
        assert_eq!(links.look(alone(&project)), Found::Names(vec!["later/.git".into()]));
        shell(
            dir.path(),
            "git init -q new; git -C new commit -q --allow-empty -m 1; git update-index --split-index; git add new 2>/dev/null",
        );
        assert_eq!(links.look(alone(&project)), Found::Repository("new/.git".into()));
        links.accept(Path::new("new/.git"));
        assert_eq!(links.look(alone(&project)), Found::Names(Vec::new()));
        // In a submodule's own index, too.
        shell(
            dir.path(),
            "cd own; git init -q deep; git -C deep commit -q --allow-empty -m 1; git add deep 2>/dev/null",
        );
        assert_eq!(links.look(alone(&project)), Found::Repository("own/deep/.git".into()));
        fs::write(dir.path().join(".git/index"), "DIRC").unwrap();
        assert!(
            matches!(links.look(alone(&project)), Found::Index { index, .. } if index == dir.path().join(".git/index"))
        );
    }

    #[test]
    fn a_submodule_of_the_main_worktree_in_this_one_is_refused() {
        let dir = with_submodules();
        shell(dir.path(), "git commit -qm 1; git worktree add -q tree");
        let (tree, common) = (project(&dir.path().join("tree")), project(&dir.path().join(".git")));
        let worktree = Worktree { common, own: "worktrees/tree".into() };
        let prepare = || Links::prepare(Ground { project: &tree, worktree: Some(&worktree) }).map(drop);
        let link = |path| {
            shell(
                dir.path(),
                &format!("git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,{path}"),
            );
        };
        link("tree");
        prepare().unwrap();
        shell(dir.path(), "git update-index --force-remove tree");
        link("tree/deep");
        let (place, error) = prepare().unwrap_err();
        assert_eq!(place, dir.path().join(".git/index"));
        assert!(error.to_string().contains("tree/deep"), "{error}");
    }

    #[test]
    fn a_gitlink_that_leads_out_is_refused() {
        let dir = with_submodules();
        let path = dir.path().join(".git/index");
        let mut index = fs::read(&path).unwrap();
        let at = index.windows(4).position(|w| w == b"own\0").unwrap();
        index[at..at + 3].copy_from_slice(b"../");
        fs::write(&path, &index).unwrap();
        let (place, error) = Links::prepare(alone(&project(dir.path()))).unwrap_err();
        assert_eq!(place, path);
        assert!(error.to_string().contains("../"), "{error}");
    }
}
