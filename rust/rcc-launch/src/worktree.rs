//! A linked worktree: its `.git` is a file that says where the repository is, and an agent can have written that file.
//!
//! Invariant: a repository comes along only if its own record of the worktree points back, the person approved just this
//! pair of folders, it lies in no folder that they let an agent write, and it may be a project. The record alone shows
//! little: an agent that once had the repository, or a folder around it, as its project could write that.

use crate::added::Access;
use crate::beneath;
use crate::home;
use crate::inside::{Inside, Pair};
use crate::machine::Machine;
use crate::project::{Project, led_to, shared_or_sensitive};
use rcc_report::{Code, Problem, quoted};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Bytes that git's own records have at most: a path.
const RECORD_LIMIT: u64 = 8192;

/// The repository of a project that is a linked worktree.
#[derive(Debug)]
pub struct Worktree {
    /// What is common to all worktrees: the `.git` of the main one, or a bare repository.
    pub common: Project,
    /// This worktree's own folder in it: `worktrees/NAME`.
    pub own: PathBuf,
}

/// A project whose `.git` is a file.
#[derive(Debug)]
pub enum Found {
    /// It comes along.
    Comes(Worktree),
    /// It does not, and git does not work in the session.
    Stays(Problem),
}

/// What a project's `.git` leads to, if it is a file. A repository in the project itself, or one that was approved and can't
/// come along, is refused.
pub fn find(project: &Project, machine: &Machine, inside: &Inside) -> Result<Option<Found>, Problem> {
    let Some(linked) = Linked::read(project, machine)? else { return Ok(None) };
    let linked = match linked {
        Ok(linked) => linked,
        Err(problem) => return Ok(Some(Found::Stays(problem))),
    };
    if !inside.worktrees.iter().any(|pair| pair.project == project.path && pair.repository == linked.common) {
        let what = format!(
            "it leads to the repository {}, which does not come along unless you say so: git does not work in this session",
            linked.common.display()
        );
        let remedy =
            format!("let this worktree's sessions have it: rcc worktree allow {}", quoted(project.path.display()));
        return Ok(Some(Found::Stays(problem(project, what, &remedy))));
    }
    linked.open(project, machine, inside).map(|worktree| Some(Found::Comes(worktree)))
}

/// The pair that the person approves: everything is looked at as at a start.
pub fn approve(project: &Project, machine: &Machine, inside: &Inside) -> Result<Pair, Problem> {
    let linked = Linked::read(project, machine)?.ok_or_else(|| {
        let place = project.path.join(".git").display().to_string();
        let what = "this is no linked worktree: its .git is no file that leads to a repository";
        Problem::new(
            Code::WORKTREE_REFUSED,
            place,
            what,
            "name one: rcc worktree allow PATH; git worktree list shows them",
        )
    })?;
    let worktree = linked?.open(project, machine, inside)?;
    Ok(Pair { project: project.path.clone(), repository: worktree.common.path })
}

/// What the `.git` and the record say, which agree.
struct Linked {
    common: PathBuf,
    own: PathBuf,
}

impl Linked {
    /// The inner error is a repository that is not this worktree's.
    fn read(project: &Project, machine: &Machine) -> Result<Option<Result<Self, Problem>>, Problem> {
        let Some(named) = led_to(&project.folder) else { return Ok(None) };
        let shown = named.display();
        let Ok(place) = fs::canonicalize(project.path.join(&named)) else {
            return Ok(Some(Err(problem(
                project,
                format!(
                    "it leads to the repository {shown}, which is not there: git does not work here, inside or outside"
                ),
                "if the repository was moved, in its new place: git worktree repair WORKTREE",
            ))));
        };
        if place.starts_with(&project.path) {
            // Nothing is covered there, and git outside acts on its configuration.
            return Err(Problem::new(
                Code::WORKTREE_REFUSED,
                project.path.join(".git").display().to_string(),
                format!(
                    "it leads to a repository in the project itself, {}, whose configuration the agent could write",
                    place.display()
                ),
                format!(
                    "look whether it is yours, and make it the project's own: cd {} && rm .git && mv {} .git",
                    quoted(project.path.display()),
                    quoted(place.display())
                ),
            ));
        }
        let parts = place.file_name().zip(place.parent()).and_then(|(name, all)| {
            (all.file_name() == Some(OsStr::new("worktrees")))
                .then(|| Some((name.to_owned(), all.parent()?.to_owned())))?
        });
        let Some((name, common)) = parts else {
            return Ok(Some(Err(problem(
                project,
                format!(
                    "it leads to the repository {shown}, which is not that of a linked worktree and does not come along: git does not work in this session"
                ),
                "work in a clone or in the repository itself: git clone REPOSITORY FOLDER",
            ))));
        };
        // Both are the repository's word; the person's other repositories don't name this folder.
        let back = record(&place.join("gitdir")).is_some_and(|path| path == project.path.join(".git"));
        let whole = record(&place.join("commondir")).is_some_and(|path| path == common);
        if !back || !whole {
            return Ok(Some(Err(problem(
                project,
                format!(
                    "it leads to the repository {}, whose own record does not point back here: it does not come along, and git does not work in this session",
                    common.display()
                ),
                &format!(
                    "look at it first, an agent can have written it: cat {}\nif that is your repository and you moved this worktree{} worktree repair {}",
                    quoted(project.path.join(".git").display()),
                    git_in(&common, machine),
                    quoted(project.path.display())
                ),
            ))));
        }
        Ok(Some(Ok(Self { common, own: Path::new("worktrees").join(name) })))
    }

    /// Opens the repository, and looks again at what was read of it, through no link.
    fn open(&self, project: &Project, machine: &Machine, inside: &Inside) -> Result<Worktree, Problem> {
        let refuse = |what: String| {
            Problem::new(
                Code::WORKTREE_REFUSED,
                self.common.display().to_string(),
                format!("the repository of this worktree can't come along: {what}"),
                "work in a clone: git clone REPOSITORY FOLDER\nor without git: rcc worktree deny",
            )
        };
        // What can be checked out from it becomes the main worktree's files: the home folder's, where dotfiles are kept so.
        if self.common.file_name() == Some(OsStr::new(".git"))
            && let Some(main) = self.common.parent()
        {
            shared_or_sensitive(main, &machine.person)
                .map_err(|p| refuse(format!("{}: {}", main.display(), p.what)))?;
        }
        if let Some(folder) = inside.folders.iter().find(|f| f.writable && self.common.starts_with(&f.path)) {
            let place = folder.path.display();
            return Err(refuse(format!(
                "it lies in {place}, which an agent can write with {}",
                folder.project.display()
            )));
        }
        let common = Project::open_beside(&self.common, Access::Writable, &project.path, machine)
            .map_err(|problem| refuse(problem.what))?;
        let there = |path: &Path| beneath::open(&common.folder, path, libc::O_PATH).is_ok();
        let gitdir = self.own.join("gitdir");
        if !["HEAD", "objects", "refs", "config"].iter().all(|name| there(Path::new(name))) || !there(&gitdir) {
            return Err(refuse("it is no repository as git makes it".into()));
        }
        if let Some(what) = elsewhere(&common) {
            return Err(refuse(what));
        }
        Ok(Worktree { common, own: self.own.clone() })
    }
}

/// Git in a folder, for a hint. A folder that an agent has worked in is not named: git there acts on what it left.
fn git_in(common: &Path, machine: &Machine) -> String {
    if common.ancestors().any(|place| home::folder_for(&machine.person, place).exists()) {
        return ", in its repository: git".into();
    }
    format!(": git -C {}", quoted(common.display()))
}

/// Why a repository's main worktree may lie where its folder does not say: files that are checked out there would be the
/// agent's, as where dotfiles are kept in a bare repository. Git reads this key of these files alone, not of what they
/// include.
fn elsewhere(common: &Project) -> Option<String> {
    for config in ["config", "config.worktree"] {
        let text = match beneath::read(&common.folder, Path::new(config), 4 << 20) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => continue,
            Err(e) => return Some(format!("{config}: {e}")),
            Ok(text) => String::from_utf8_lossy(&text).to_lowercase(),
        };
        let key = |line: &str| {
            line.split(['=', '#', ';']).next().and_then(|k| k.rsplit(']').next()).map(str::trim) == Some("worktree")
        };
        if text.lines().any(key) {
            return Some(format!("its {config} says where its main worktree is (core.worktree)"));
        }
    }
    let bare = common.path.file_name() != Some(OsStr::new(".git"));
    let has_index = beneath::open(&common.folder, Path::new("index"), libc::O_PATH | libc::O_NOFOLLOW).is_ok();
    (bare && has_index).then(|| "it has an index, so it is used with a worktree that it does not name".to_owned())
}

/// A path in a file of git's, resolved; what it leads to may be a file.
fn record(file: &Path) -> Option<PathBuf> {
    let folder = fs::File::open(file.parent()?).ok()?;
    let text = String::from_utf8(beneath::read(&folder, Path::new(file.file_name()?), RECORD_LIMIT).ok()?).ok()?;
    let path = file.parent()?.join(text.trim_end_matches('\n'));
    // Its last part is `.git` or a folder; a link in it leads nowhere else than it says.
    match path.components().next_back()? {
        Component::Normal(name) => Some(fs::canonicalize(path.parent()?).ok()?.join(name)),
        _ => fs::canonicalize(&path).ok(),
    }
}

/// Whether the record of a worktree, in its folder `own` below a repository, says that it lies in the project.
#[must_use]
pub fn lies_in(repository: &Project, own: &Path, project: &Path) -> bool {
    record(&repository.path.join(own).join("gitdir")).is_some_and(|git| git.starts_with(project))
}

fn problem(project: &Project, what: impl Into<String>, remedy: &str) -> Problem {
    let place = project.path.join(".git").display().to_string();
    Problem::new(Code::PROJECT_UNTRUSTED_LINK, place, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If git comes to read the key of included files, `elsewhere` has to.
    #[test]
    fn git_itself_takes_no_worktree_from_an_included_file() {
        let dir = tempfile::tempdir().unwrap();
        let told = |config: &str| {
            let script = format!(
                "git init -q r; mkdir -p x; cd r; printf '[core]\n\tworktree = %s\n' \"$PWD/../x\" >.git/more; {config}; git rev-parse --show-toplevel"
            );
            let mut git = std::process::Command::new("/bin/sh");
            let output = git.args(["-euc", &script]).current_dir(dir.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
        };
        let place = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(told("git config include.path more"), place.join("r"));
        assert_eq!(told("cat .git/more >>.git/config"), place.join("x"));
    }

    #[test]
    fn a_repository_whose_files_lie_elsewhere_is_known() {
        let dir = tempfile::tempdir().unwrap();
        for (name, file, text, is) in [
            (".git", "config", "[core]\n\tworktree = /home/dev\n", true),
            (".git", "config.worktree", "[core] workTree=/home/dev ; [x]\n", true),
            (".git", "config", "[extensions]\n\tworktreeConfig = true\n", false),
            (".git", "index", "", false),
            ("cfg", "index", "", true),
            ("cfg", "config", "[core]\n\tbare = true\n", false),
        ] {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(file), text).unwrap();
            let folder = fs::File::open(&path).unwrap().into();
            let common = Project { path: path.clone(), device: 0, inode: 0, folder };
            assert_eq!(elsewhere(&common).is_some(), is, "{name} {file} {text}");
            fs::remove_dir_all(&path).unwrap();
        }
    }
}
