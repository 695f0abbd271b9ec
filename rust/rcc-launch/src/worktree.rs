//! A linked worktree: its `.git` is a file that says where the repository is, and an agent can have written that file.
//!
//! Invariant: a repository comes along only if its own record of the worktree points back, which nobody but the person can
//! have written, and the person approved just this pair of folders; and only if it may be a project.

use crate::added::Access;
use crate::beneath;
use crate::inside::Pair;
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
pub fn find(project: &Project, machine: &Machine, approved: &[Pair]) -> Result<Option<Found>, Problem> {
    let Some(linked) = Linked::read(project)? else { return Ok(None) };
    let linked = match linked {
        Ok(linked) => linked,
        Err(problem) => return Ok(Some(Found::Stays(problem))),
    };
    if !approved.iter().any(|pair| pair.project == project.path && pair.repository == linked.common) {
        let what = format!(
            "it leads to the repository {}, which does not come along unless you say so: git does not work in this session",
            linked.common.display()
        );
        let remedy =
            format!("let this worktree's sessions have it: rcc worktree allow {}", quoted(project.path.display()));
        return Ok(Some(Found::Stays(problem(project, what, &remedy))));
    }
    linked.open(project, machine).map(|worktree| Some(Found::Comes(worktree)))
}

/// The pair that the person approves: everything is looked at as at a start.
pub fn approve(project: &Project, machine: &Machine) -> Result<Pair, Problem> {
    let linked = Linked::read(project)?.ok_or_else(|| {
        let place = project.path.join(".git").display().to_string();
        let what = "this is no linked worktree: its .git is no file that leads to a repository";
        Problem::new(
            Code::WORKTREE_REFUSED,
            place,
            what,
            "name one: rcc worktree allow PATH; git worktree list shows them",
        )
    })?;
    let worktree = linked?.open(project, machine)?;
    Ok(Pair { project: project.path.clone(), repository: worktree.common.path })
}

/// What the `.git` and the record say, which agree.
struct Linked {
    common: PathBuf,
    own: PathBuf,
}

impl Linked {
    /// The inner error is a repository that is not this worktree's.
    fn read(project: &Project) -> Result<Option<Result<Self, Problem>>, Problem> {
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
                    "if you moved this worktree: git -C {} worktree repair {}\notherwise look at it, an agent can have written it: cat {}",
                    quoted(common.display()),
                    quoted(project.path.display()),
                    quoted(project.path.join(".git").display())
                ),
            ))));
        }
        Ok(Some(Ok(Self { common, own: Path::new("worktrees").join(name) })))
    }

    /// Opens the repository, and looks again at what was read of it, through no link.
    fn open(&self, project: &Project, machine: &Machine) -> Result<Worktree, Problem> {
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
        let common = Project::open_beside(&self.common, Access::Writable, &project.path, machine)
            .map_err(|problem| refuse(problem.what))?;
        let there = |path: &Path| beneath::open(&common.folder, path, libc::O_PATH).is_ok();
        let gitdir = self.own.join("gitdir");
        if !["HEAD", "objects", "refs", "config"].iter().all(|name| there(Path::new(name))) || !there(&gitdir) {
            return Err(refuse("it is no repository as git makes it".into()));
        }
        Ok(Worktree { common, own: self.own.clone() })
    }
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
