//! What a person granted and denied their projects for good: one file of their own configuration.
//!
//! Invariant: the file lies where no agent writes, whatever links the person has in their configuration, belongs to the
//! person alone, and is replaced whole. A file that can't be read is a problem, never an empty one.

use crate::machine::Person;
use nix::fcntl::{Flock, FlockArg};
use rcc_policy::Grants;
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file, below the home folder.
const FILE: &str = ".config/rcc/grants.toml";
/// The longest that is read, in bytes.
const MOST: u64 = 1 << 20;
const HEADER: &str = "\
# What you granted your projects (rcc allow --project), and denied them (`!`, rcc deny --project).
# rcc writes this file anew; it is read when a session starts.

";

/// The file's content.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// By the project's real path.
    #[serde(default)]
    projects: BTreeMap<String, Vec<String>>,
}

/// The person's file.
pub struct Remembered {
    path: PathBuf,
    uid: u32,
}

impl Remembered {
    /// The file of this person.
    #[must_use]
    pub fn of(person: &Person) -> Self {
        Self { path: person.home.join(FILE), uid: person.uid }
    }

    /// What is remembered of a project.
    pub fn grants(&self, project: &Path) -> Result<Grants, Problem> {
        let mut content = self.read()?;
        let texts = content.projects.remove(project.to_string_lossy().as_ref()).unwrap_or_default();
        Grants::parse(&texts).map_err(|problems| {
            let what = problems.first().map(|p| format!("{}: {}", p.subject, p.what)).unwrap_or_default();
            self.problem(what, "correct the line")
        })
    }

    /// Changes what is remembered of a project; one change at a time.
    pub fn change(&self, project: &Path, by: impl FnOnce(&mut Grants) -> Result<(), Problem>) -> Result<(), Problem> {
        let failed = |e: io::Error| self.problem(e.to_string(), &self.look());
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        self.safe_place().map_err(failed)?;
        let lock = self.path.with_extension("lock");
        let lock = open(fs::OpenOptions::new().write(true).create(true).truncate(false), &lock).map_err(failed)?;
        let _turn = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| failed(e.into()))?;
        let mut grants = self.grants(project)?;
        by(&mut grants)?;
        let mut content = self.read()?;
        let name = project.to_string_lossy().into_owned();
        match grants.texts() {
            none if none.is_empty() => content.projects.remove(&name),
            texts => content.projects.insert(name, texts),
        };
        let text = toml::to_string_pretty(&content).map_err(|e| failed(io::Error::other(e)))?;
        self.replace(&format!("{HEADER}{text}")).map_err(failed)
    }

    fn read(&self) -> Result<Content, Problem> {
        let failed = |e: io::Error| self.problem(e.to_string(), &self.look());
        // No file is nothing remembered; whatever else is in its place is not.
        match fs::symlink_metadata(&self.path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound) => return Ok(Content::default()),
            other => other.map_err(failed)?,
        };
        self.safe_place().map_err(failed)?;
        let file = open(fs::OpenOptions::new().read(true), &self.path).map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        if !facts.is_file() || facts.uid() != self.uid || facts.mode() & 0o022 != 0 {
            let what = "it is not a plain file of yours that you alone can write";
            return Err(self.problem(what, &format!("{}\nchmod 600 '{}'", self.look(), self.path.display())));
        }
        let mut text = String::new();
        file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MOST {
            return Err(self.problem(format!("it is longer than {MOST} bytes"), &self.look()));
        }
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |s| text.get(..s.start).unwrap_or("").lines().count().max(1));
            let what = e.message().lines().next().unwrap_or("not valid TOML");
            self.problem(
                format!("line {line}: {what}"),
                &format!("correct it, or move it away: mv '{0}' '{0}.old'", self.path.display()),
            )
        })
    }

    /// `.config` may be a link of the person's, and its real place is no project's. Below it there must be none: it could
    /// lead into one.
    fn safe_place(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let above = folder.parent().unwrap_or(Path::new("/"));
        let facts = fs::symlink_metadata(folder)?;
        let expected = fs::canonicalize(above)?.join(folder.file_name().unwrap_or_default());
        if fs::canonicalize(folder)? != expected || facts.uid() != self.uid || facts.mode() & 0o022 != 0 {
            let what =
                format!("{} is not a folder of yours that you alone can write, but a link perhaps", folder.display());
            return Err(io::Error::other(what));
        }
        Ok(())
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let fresh = self.path.with_extension(format!("new-{}", std::process::id()));
        let _left_by_a_kill = fs::remove_file(&fresh);
        let written = || -> io::Result<()> {
            let mut file = open(fs::OpenOptions::new().write(true).create_new(true), &fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            fs::File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        written().inspect_err(|_| drop(fs::remove_file(&fresh)))
    }

    fn look(&self) -> String {
        let folder = self.path.parent().unwrap_or(Path::new("/")).display();
        format!(
            "look at it: ls -ld '{folder}' '{}'\nif it is only that your group can write it: chmod go-w '{folder}'",
            self.path.display()
        )
    }

    fn problem(&self, what: impl Into<String>, remedy: &str) -> Problem {
        Problem::new(Code::GRANTS_FILE, self.path.display().to_string(), what, remedy)
    }
}

/// No link, no waiting for a FIFO's other end, for this person alone.
fn open(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn remembered(home: &Path) -> Remembered {
        Remembered { path: home.join(FILE), uid: nix::unistd::getuid().as_raw() }
    }

    fn allow(texts: &'static str) -> impl FnOnce(&mut Grants) -> Result<(), Problem> {
        move |g: &mut Grants| Grants::named(texts)?.into_iter().try_for_each(|e| g.allow(e))
    }

    #[test]
    fn projects_keep_their_own() {
        let home = tempfile::tempdir().unwrap();
        let r = remembered(home.path());
        let (a, b) = (Path::new("/home/a/p \"q\""), Path::new("/home/a/q"));
        assert_eq!(r.grants(a).unwrap(), Grants::default());
        r.change(a, allow("x.example.org")).unwrap();
        r.change(b, allow("y.example.org:22")).unwrap();
        r.change(a, |g| g.deny(Grants::named_to_deny("z.example.org")?.remove(0))).unwrap();
        assert_eq!(r.grants(a).unwrap().texts(), ["x.example.org:443", "!z.example.org"]);
        assert_eq!(r.grants(b).unwrap().texts(), ["y.example.org:22"]);
        assert!(r.change(b, |_| Err(r.problem("no", "no"))).is_err());
        r.change(a, |g| {
            *g = Grants::default();
            Ok(())
        })
        .unwrap();
        let text = fs::read_to_string(&r.path).unwrap();
        assert!(!text.contains("/p ") && text.contains("/home/a/q"), "{text}");
        let mode = fs::metadata(&r.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(r.path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn what_others_could_have_written_is_refused_and_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let r = remembered(home.path());
        let project = Path::new("/p");
        r.change(project, allow("x.example.org")).unwrap();
        let good = fs::read_to_string(&r.path).unwrap();
        let refused = |why: &str| {
            let before = fs::read(&r.path).ok();
            assert_eq!(r.grants(project).unwrap_err().code, Code::GRANTS_FILE, "{why}");
            assert_eq!(r.change(project, allow("y.example.org")).unwrap_err().code, Code::GRANTS_FILE, "{why}");
            assert_eq!(fs::read(&r.path).ok(), before, "{why}");
        };
        for text in
            ["projects = 1", "[projects]\n\"/p\" = [\"*\"]", "[projcts]", "\u{0}", "[projects]\n\"/p\" = [\"!\"]"]
        {
            fs::write(&r.path, text).unwrap();
            refused(text);
        }
        fs::write(&r.path, &good).unwrap();
        fs::set_permissions(&r.path, fs::Permissions::from_mode(0o666)).unwrap();
        refused("others write it");
        fs::remove_file(&r.path).unwrap();
        let elsewhere = home.path().join("project");
        fs::write(&elsewhere, &good).unwrap();
        symlink(&elsewhere, &r.path).unwrap();
        refused("a link");
        fs::remove_file(&r.path).unwrap();
        nix::unistd::mkfifo(&r.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(r.grants(project).is_err(), "a FIFO");
        fs::remove_file(&r.path).unwrap();
        // The folder as a link into a project.
        fs::remove_dir_all(r.path.parent().unwrap()).unwrap();
        fs::create_dir(home.path().join("dotfiles")).unwrap();
        fs::write(home.path().join("dotfiles/grants.toml"), &good).unwrap();
        symlink(home.path().join("dotfiles"), home.path().join(".config/rcc")).unwrap();
        refused("a folder that is a link");
    }
}
