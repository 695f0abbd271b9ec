//! What a person granted and denied their projects for good: one file of their own configuration.
//!
//! Invariant: a file that can't be trusted or understood is a problem, never an empty one, and is not overwritten.

use crate::machine::Person;
use crate::personal::{FOLDER, Personal, Privacy};
use rcc_policy::Grants;
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "grants.toml";
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
    home: PathBuf,
}

impl Remembered {
    /// The file of this person.
    #[must_use]
    pub fn of(person: &Person) -> Self {
        Self { home: person.home.clone() }
    }

    /// What is remembered of a project.
    pub fn grants(&self, project: &Path) -> Result<Grants, Problem> {
        let Some(folder) = Personal::open(&self.home, Code::GRANTS_FILE)? else { return Ok(Grants::default()) };
        let bytes = folder.read(FILE, MOST, Privacy::Open)?;
        self.of_project(&self.content(bytes.as_ref().map(|b| b.as_slice()))?, project)
    }

    /// Changes what is remembered of a project; one change at a time.
    pub fn change(&self, project: &Path, by: impl FnOnce(&mut Grants) -> Result<(), Problem>) -> Result<(), Problem> {
        let folder = Personal::create(&self.home, Code::GRANTS_FILE)?;
        folder.change(FILE, MOST, |bytes| {
            let mut content = self.content(bytes.as_ref().map(|b| b.as_slice()))?;
            let mut grants = self.of_project(&content, project)?;
            by(&mut grants)?;
            let name = project.to_string_lossy().into_owned();
            match grants.texts() {
                none if none.is_empty() => content.projects.remove(&name),
                texts => content.projects.insert(name, texts),
            };
            let text = toml::to_string_pretty(&content).map_err(|e| self.problem(e.to_string()))?;
            Ok(format!("{HEADER}{text}").into_bytes())
        })
    }

    fn content(&self, bytes: Option<&[u8]>) -> Result<Content, Problem> {
        let Some(bytes) = bytes else { return Ok(Content::default()) };
        let text = std::str::from_utf8(bytes).map_err(|e| self.problem(e.to_string()))?;
        toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |s| text.get(..s.start).unwrap_or("").matches('\n').count() + 1);
            self.problem(format!("line {line}: {}", e.message().lines().next().unwrap_or("not valid TOML")))
        })
    }

    fn of_project(&self, content: &Content, project: &Path) -> Result<Grants, Problem> {
        let texts = content.projects.get(project.to_string_lossy().as_ref());
        Grants::parse(texts.map_or(&[], Vec::as_slice)).map_err(|problems| {
            self.problem(problems.first().map(|p| format!("{}: {}", p.subject, p.what)).unwrap_or_default())
        })
    }

    fn problem(&self, what: impl Into<String>) -> Problem {
        let remedy = format!("correct it, or move it away: mv ~/{FOLDER}/{FILE} ~/{FOLDER}/{FILE}.old");
        Problem::new(Code::GRANTS_FILE, self.home.join(FOLDER).join(FILE).display().to_string(), what, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn allow(text: &'static str) -> impl FnOnce(&mut Grants) -> Result<(), Problem> {
        move |g: &mut Grants| Grants::named(text)?.into_iter().try_for_each(|e| g.allow(e))
    }

    #[test]
    fn projects_keep_their_own() {
        let home = tempfile::tempdir().unwrap();
        let r = Remembered { home: home.path().into() };
        let file = home.path().join(FOLDER).join(FILE);
        let (a, b) = (Path::new("/home/a/p \"q\""), Path::new("/home/a/q"));
        assert_eq!(r.grants(a).unwrap(), Grants::default());
        assert!(!home.path().join(FOLDER).exists(), "reading makes nothing");
        r.change(a, allow("x.example.org")).unwrap();
        r.change(b, allow("y.example.org:22")).unwrap();
        r.change(a, |g| g.deny(Grants::named_to_deny("z.example.org")?.remove(0))).unwrap();
        assert_eq!(r.grants(a).unwrap().texts(), ["x.example.org:443", "!z.example.org"]);
        assert_eq!(r.grants(b).unwrap().texts(), ["y.example.org:22"]);
        let before = fs::read(&file).unwrap();
        assert!(r.change(b, |_| Err(r.problem("no"))).is_err());
        assert_eq!(fs::read(&file).unwrap(), before);
        r.change(a, |g| {
            *g = Grants::default();
            Ok(())
        })
        .unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("/p ") && text.contains("/home/a/q"), "{text}");
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let r = Remembered { home: home.path().into() };
        let file = home.path().join(FOLDER).join(FILE);
        let project = Path::new("/p");
        r.change(project, allow("x.example.org")).unwrap();
        for text in
            ["projects = 1", "[projects]\n\"/p\" = [\"*\"]", "[projcts]", "\u{0}", "[projects]\n\"/p\" = [\"!\"]"]
        {
            fs::write(&file, text).unwrap();
            assert_eq!(r.grants(project).unwrap_err().code, Code::GRANTS_FILE, "{text}");
            assert_eq!(r.change(project, allow("y.example.org")).unwrap_err().code, Code::GRANTS_FILE, "{text}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }
}
