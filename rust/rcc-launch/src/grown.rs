//! What comes up in a repository's folder during a session, where the agent can write: records of worktrees, repositories of
//! submodules, and commands in a rebase's list. Git outside acts on each of them without a question.
//!
//! Invariant: what was there at the start is covered or closed (`protect`); all else in those places is looked at anew.

use crate::beneath;
use crate::project::Project;
use crate::protect::{Identity, is_absent, is_folder, names, repositories};
use crate::worktree::lies_in;
use rcc_report::quoted;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a worktree's record, and of a rebase's list.
const RECORD_LIMIT: u64 = 8192;
const TODO_LIMIT: u64 = 8 << 20;
/// What git never makes in a worktree's record, and acts on where `commondir` is not what git wrote.
const NEVER: &[&str] = &["config", "config.worktree", "hooks"];

/// A repository's folder as it was at the start. All paths count from the folder that it lies in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// Where the records of its worktrees lie.
    worktrees: PathBuf,
    /// Those at the start. One that was removed and made again is another.
    known: BTreeMap<PathBuf, Option<Identity>>,
    /// Worktrees whose record once said that they lie outside the project.
    outside: BTreeSet<PathBuf>,
    /// Folders of submodules' repositories that the agent can write, and the repositories there.
    modules: Vec<PathBuf>,
    repositories: BTreeSet<PathBuf>,
    todos: Vec<Todo>,
    /// What the person has seen.
    accepted: BTreeSet<PathBuf>,
}

/// A rebase's list, which can name commands.
#[derive(Debug, PartialEq, Eq)]
struct Todo {
    path: PathBuf,
    commands: BTreeSet<String>,
    /// The person's rebase, so that a new command is not the agent's own affair. One that the agent began itself may run
    /// commands inside, and is looked at when it stays behind.
    persons: bool,
}

/// Something git outside would act on.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the folder that the repository lies in.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Grown {
    /// Looks at the repository `git` below `folder` at the start. `open` are the worktrees' records that the agent can
    /// write, `modules` whether it can write the folder of submodules' repositories; `main` if the main worktree is not
    /// the session's.
    pub fn at_start(folder: &Project, git: &Path, open: &[PathBuf], modules: bool, main: bool) -> io::Result<Self> {
        let mut this = Self { worktrees: git.join("worktrees"), ..Self::default() };
        for name in names(&folder.folder, &this.worktrees)? {
            let place = this.worktrees.join(name);
            let now = identity(folder, &place);
            this.known.insert(place, now);
        }
        this.modules.extend(modules.then(|| git.join("modules")));
        this.modules.extend(open.iter().map(|place| place.join("modules")));
        for place in &this.modules {
            let mut found = Vec::new();
            repositories(&folder.folder, place, &mut found)?;
            this.repositories.extend(found);
        }
        for (place, persons) in std::iter::once((git, main)).chain(open.iter().map(|place| (place.as_path(), false))) {
            let path = place.join("rebase-merge/git-rebase-todo");
            let commands = commands(folder, &path)?;
            let persons = persons || commands.is_some();
            this.todos.push(Todo { path, commands: commands.unwrap_or_default(), persons });
        }
        Ok(this)
    }

    /// Names in the folders where something may come up.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        let todos = self.todos.iter().map(|todo| todo.path.clone());
        self.modules.iter().chain([&self.worktrees]).map(|place| place.join("new")).chain(todos).collect()
    }

    /// The first thing that has come up. At the `end` also what a rebase of the agent's own would run when it goes on.
    pub fn look(&mut self, folder: &Project, project: &Path, end: bool) -> Option<Found> {
        let worktree = self.worktree(folder, project).unwrap_or_else(|e| {
            let remedy = format!("look at it: ls -la {}", quoted(folder.path.join(&self.worktrees).display()));
            Some(Found { path: self.worktrees.clone(), what: e.to_string(), remedy })
        });
        let worktree = worktree.filter(|found| !self.accepted.contains(&found.path));
        worktree.or_else(|| self.module(folder)).or_else(|| self.todo(folder, end))
    }

    /// The person has seen it.
    pub fn accept(&mut self, path: &Path) {
        self.accepted.insert(path.to_owned());
    }

    fn worktree(&mut self, folder: &Project, project: &Path) -> io::Result<Option<Found>> {
        for name in names(&folder.folder, &self.worktrees)? {
            let place = self.worktrees.join(name);
            let known = self.known.get(&place).is_some_and(|then| then.is_some() && *then == identity(folder, &place));
            if known || self.accepted.contains(&place) || !is_folder(&folder.folder, &place)? {
                continue;
            }
            let shown = folder.path.join(&place);
            let commondir = match beneath::read(&folder.folder, &place.join("commondir"), RECORD_LIMIT) {
                Err(e) if is_absent(&e) => Ok(Vec::new()),
                other => other,
            };
            let said = commondir.as_ref().map(|text| text.trim_ascii_end());
            // Git makes it empty and then writes it.
            if !matches!(said, Ok(b"" | b"../..")) {
                let what = "this worktree was added during the session, and its `commondir` is not what git writes: git there would act on another repository's configuration";
                let file = quoted(shown.join("commondir").display());
                let remedy = format!("before git runs in that worktree: rm -f {file} && echo ../.. >{file}");
                return Ok(Some(Found { path: place, what: what.into(), remedy }));
            }
            // What the agent adds within the project may have submodules there. A record can be changed later.
            if !self.outside.contains(&place)
                && there(folder, &place.join("gitdir"))
                && !lies_in(folder, &place, project)
            {
                self.outside.insert(place.clone());
            }
            let modules = self.outside.contains(&place).then_some("modules");
            if let Some(name) = NEVER.iter().copied().chain(modules).find(|name| there(folder, &place.join(name))) {
                let what = format!(
                    "this worktree was added during the session, and what git acts on there is the agent's to write: {name}"
                );
                let remedy = format!(
                    "look at it before git runs in that worktree: ls -la {0}\nif it is not yours: rm -r {0}",
                    quoted(shown.join(name).display())
                );
                return Ok(Some(Found { path: place, what, remedy }));
            }
        }
        Ok(None)
    }

    fn module(&self, folder: &Project) -> Option<Found> {
        for place in &self.modules {
            let mut found = Vec::new();
            let looked = repositories(&folder.folder, place, &mut found);
            let new = |path: &PathBuf| !self.repositories.contains(path) && !self.accepted.contains(path);
            let (path, what) = match (looked, found.into_iter().find(new)) {
                (_, Some(path)) => (path, "this submodule's repository was not there when the session began, and `git submodule update --init` acts on its configuration and hooks".to_owned()),
                (Err(e), None) if !self.accepted.contains(place) => (place.clone(), e.to_string()),
                _ => continue,
            };
            let remedy = format!(
                "take it away before you use that submodule: rm -r {}\nmake submodules between sessions: git submodule update --init",
                quoted(folder.path.join(&path).display())
            );
            return Some(Found { path, what, remedy });
        }
        None
    }

    fn todo(&self, folder: &Project, end: bool) -> Option<Found> {
        let wanted = |todo: &&Todo| (end || todo.persons) && !self.accepted.contains(&todo.path);
        self.todos.iter().filter(wanted).find_map(|todo| {
            let what = match commands(folder, &todo.path) {
                Ok(now) => {
                    let command = now.unwrap_or_default().into_iter().find(|line| !todo.commands.contains(line))?;
                    let shown: String = command.chars().take(200).collect();
                    format!(
                        "`git rebase --continue` would run a command that was not there when the session began: {shown}"
                    )
                }
                Err(e) => e.to_string(),
            };
            let remedy = format!(
                "look at it before the rebase goes on: cat {}\nor give it up: git rebase --abort",
                quoted(folder.path.join(&todo.path).display())
            );
            Some(Found { path: todo.path.clone(), what, remedy })
        })
    }
}

fn there(folder: &Project, path: &Path) -> bool {
    let found = beneath::open(&folder.folder, path, libc::O_PATH | libc::O_NOFOLLOW);
    !matches!(found, Err(e) if is_absent(&e))
}

fn identity(folder: &Project, path: &Path) -> Option<Identity> {
    let opened = beneath::open(&folder.folder, path, libc::O_PATH).ok()?;
    nix::sys::stat::fstat(opened).ok().map(|about| (about.st_dev, about.st_ino))
}

/// The lines of a rebase's list that run a command (git-rebase(1), `exec`). None if there is no list.
fn commands(folder: &Project, path: &Path) -> io::Result<Option<BTreeSet<String>>> {
    let text = match beneath::read(&folder.folder, path, TODO_LIMIT) {
        Err(e) if is_absent(&e) => return Ok(None),
        other => other?,
    };
    let text = String::from_utf8_lossy(&text);
    let runs = |line: &&str| matches!(line.split_whitespace().next(), Some("exec" | "x"));
    Ok(Some(text.lines().filter(runs).map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn started() -> (tempfile::TempDir, Project, Grown) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".git/worktrees/old")).unwrap();
        fs::create_dir_all(dir.path().join(".git/modules/lib")).unwrap();
        fs::write(dir.path().join(".git/modules/lib/HEAD"), "").unwrap();
        let folder: std::os::fd::OwnedFd = fs::File::open(dir.path()).unwrap().into();
        let project = Project { path: dir.path().to_owned(), device: 0, inode: 0, folder };
        let grown = Grown::at_start(&project, Path::new(".git"), &[], true, false).unwrap();
        (dir, project, grown)
    }

    fn look(grown: &mut Grown, project: &Project, end: bool) -> Option<PathBuf> {
        grown.look(project, &project.path, end).map(|found| found.path)
    }

    #[test]
    fn a_worktree_added_meanwhile_must_be_as_git_makes_it() {
        let (dir, project, mut grown) = started();
        let new = Path::new(".git/worktrees/new");
        let at = |name: &str| dir.path().join(new).join(name);
        fs::create_dir(dir.path().join(new)).unwrap();
        // The person's, beside the project.
        fs::write(at("gitdir"), "/elsewhere/.git\n").unwrap();
        for usual in ["", "../..\n"] {
            fs::write(at("commondir"), usual).unwrap();
            assert_eq!(look(&mut grown, &project, false), None);
        }
        fs::write(at("commondir"), "/evil\n").unwrap();
        assert_eq!(look(&mut grown, &project, false).as_deref(), Some(new));
        fs::write(at("commondir"), "../..\n").unwrap();
        // Though its record says something else by now.
        fs::write(at("gitdir"), dir.path().join("tree/.git").to_str().unwrap()).unwrap();
        for name in ["config", "config.worktree", "hooks", "modules"] {
            std::os::unix::fs::symlink("/nowhere", at(name)).unwrap();
            assert_eq!(look(&mut grown, &project, false).as_deref(), Some(new), "{name}");
            fs::remove_file(at(name)).unwrap();
        }
        assert_eq!(look(&mut grown, &project, false), None);
    }

    #[test]
    fn a_known_worktree_made_again_is_a_new_one() {
        let (dir, project, mut grown) = started();
        let old = dir.path().join(".git/worktrees/old");
        fs::write(old.join("commondir"), "x").unwrap();
        assert_eq!(look(&mut grown, &project, false), None, "it is covered");
        fs::rename(&old, dir.path().join("away")).unwrap();
        assert_eq!(look(&mut grown, &project, false), None);
        fs::create_dir(&old).unwrap();
        fs::write(old.join("commondir"), "x").unwrap();
        assert!(look(&mut grown, &project, false).is_some());
        fs::remove_dir_all(dir.path().join(".git/worktrees")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join(".git/worktrees")).unwrap();
        assert!(look(&mut grown, &project, false).is_some(), "a link that catches the records");
    }

    #[test]
    fn a_submodules_repository_that_appears_is_seen() {
        let (dir, project, mut grown) = started();
        fs::create_dir_all(dir.path().join(".git/modules/a/b")).unwrap();
        assert_eq!(look(&mut grown, &project, false), None);
        fs::write(dir.path().join(".git/modules/a/b/HEAD"), "").unwrap();
        assert_eq!(look(&mut grown, &project, false), Some(".git/modules/a/b".into()));
        grown.accept(Path::new(".git/modules/a/b"));
        assert_eq!(look(&mut grown, &project, false), None);
    }

    #[test]
    fn a_rebases_commands_are_seen() {
        let (dir, project, mut grown) = started();
        let list = dir.path().join(".git/rebase-merge/git-rebase-todo");
        fs::create_dir(list.parent().unwrap()).unwrap();
        fs::write(&list, "pick 1 exec\nexec mine\n").unwrap();
        assert_eq!(look(&mut grown, &project, false), None, "the agent's own rebase");
        assert!(look(&mut grown, &project, true).is_some());
        let mut persons = Grown::at_start(&project, Path::new(".git"), &[], true, false).unwrap();
        assert_eq!(look(&mut persons, &project, true), None);
        fs::write(&list, "pick 1\nexec mine\n\t x evil\n").unwrap();
        assert!(look(&mut persons, &project, false).is_some());
    }
}
