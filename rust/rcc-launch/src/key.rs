//! The key of the model's API: found where the person put it, handed to the gateway, kept nowhere else.

pub mod stored;

use crate::{own, personal};
use rcc_proto::{ANTHROPIC_ENDPOINT, Credential, CredentialKind, Secret};
use rcc_report::{Code, Problem};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Where a key can come from, in the order in which they are asked; the first that has one is taken.
pub struct Sources<'a> {
    /// A file that the person named.
    pub file: Option<&'a Path>,
    /// The person's home folder.
    pub home: &'a Path,
    /// The project: nothing of it, and no program in it, is asked for a key.
    pub project: &'a Path,
}

/// A key, and where it came from.
#[derive(Debug)]
pub struct Found {
    /// For the gateway.
    pub credential: Credential,
    /// What the person should know of it: that it is about to expire.
    pub notice: Option<String>,
}

/// What the agent is shown instead of an API key. It opens nothing; the gateway replaces it.
pub const DUMMY_API_KEY: &str = "sk-ant-api03-rcc-the-gateway-adds-the-real-key-0000000000";
/// What the agent is shown instead of a subscription's token.
pub const DUMMY_OAUTH_TOKEN: &str = "sk-ant-oat01-rcc-the-gateway-adds-the-real-token-000000000";
/// Environment variables that may hold a key, in order.
pub const VARIABLES: [(&str, CredentialKind); 2] =
    [("ANTHROPIC_API_KEY", CredentialKind::ApiKey), ("CLAUDE_CODE_OAUTH_TOKEN", CredentialKind::OauthToken)];
/// Most bytes that a key's file, or what is typed, may have.
pub const LONGEST: u64 = 16 * 1024;

/// Finds the key: the file that was named; `ANTHROPIC_API_KEY`; `CLAUDE_CODE_OAUTH_TOKEN`; what `rcc login` keeps
/// ([`stored`]); the `apiKeyHelper` of the person's own Claude Code settings.
pub fn find(sources: &Sources<'_>) -> Result<Found, Problem> {
    let plain = |credential| Found { credential, notice: None };
    if let Some(file) = sources.file {
        let text = from_file(file, sources.project)?;
        return credential(&file.display().to_string(), &text, None).map(plain);
    }
    for (name, kind) in VARIABLES {
        if let Some(value) = variable(name)? {
            return credential(name, &value, Some(kind)).map(plain);
        }
    }
    if let Some(stored) = stored::read(sources.home)? {
        let notice = stored.notice(stored::today());
        return Ok(Found { credential: stored.credential, notice });
    }
    if let Some(helper) = helper(sources.home)? {
        let text = from_helper(&helper, sources.home)?;
        return credential("apiKeyHelper", &text, None).map(plain);
    }
    Err(missing())
}

fn missing() -> Problem {
    let remedy =
        "rcc login\nor, for this shell: export ANTHROPIC_API_KEY=…  (CLAUDE_CODE_OAUTH_TOKEN, of a subscription)";
    Problem::new(Code::KEY_MISSING, "Anthropic", "no key or token was found", remedy)
}

/// A variable's value, unless it is empty.
fn variable(name: &str) -> Result<Option<Zeroizing<String>>, Problem> {
    match std::env::var(name).map(Zeroizing::new) {
        Ok(value) if value.trim().is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(malformed(name)),
    }
}

/// One place of a key, as the person is told of it. No part of a key is in it.
pub struct Standing {
    /// The place.
    pub place: String,
    /// What is there, or `None`.
    pub holds: Option<String>,
}

/// What each place holds, in the order in which they are asked, up to a named file. No helper is run.
pub fn standing(home: &Path) -> Result<Vec<Standing>, Problem> {
    let mut all = Vec::new();
    for (name, kind) in VARIABLES {
        let value = variable(name)?.map(|value| credential(name, &value, Some(kind))).transpose()?;
        all.push(Standing { place: name.to_owned(), holds: value.map(|c| named(c.kind).to_owned()) });
    }
    let stored = stored::read(home)?.map(|stored| stored.describe());
    all.push(Standing { place: format!("~/{}/{}", personal::FOLDER, stored::NAME), holds: stored });
    let helper = helper(home)?.map(|_| "a program of ~/.claude/settings.json, run at each start".to_owned());
    all.push(Standing { place: "apiKeyHelper".to_owned(), holds: helper });
    if all.iter().all(|s| s.holds.is_none()) { Err(missing()) } else { Ok(all) }
}

/// The kind of a key, for people.
#[must_use]
pub fn named(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::ApiKey => "API key",
        CredentialKind::OauthToken => "subscription's token",
    }
}

fn malformed(subject: &str) -> Problem {
    let what = "not one word of printable ASCII characters";
    Problem::new(Code::KEY_MALFORMED, subject, what, "copy the key again, without quotes and line breaks")
}

fn credential(subject: &str, text: &str, kind: Option<CredentialKind>) -> Result<Credential, Problem> {
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(malformed(subject));
    }
    let by_prefix = if key.starts_with("sk-ant-oat") { CredentialKind::OauthToken } else { CredentialKind::ApiKey };
    Ok(Credential {
        endpoint: ANTHROPIC_ENDPOINT.to_owned(),
        kind: kind.unwrap_or(by_prefix),
        secret: Secret::new(key.to_owned()),
    })
}

/// The file must be the person's alone, and not the agent's to read or to change.
fn from_file(path: &Path, project: &Path) -> Result<Zeroizing<String>, Problem> {
    let subject = path.display().to_string();
    let bad = |what: String, remedy: &str| Problem::new(Code::KEY_UNREADABLE, subject.clone(), what, remedy);
    let real = fs::canonicalize(path).map_err(|e| bad(e.to_string(), "name a file that exists"))?;
    if real.starts_with(project) {
        return Err(bad(
            "it lies in the project, where the agent can read it".into(),
            "keep it elsewhere: rcc login <FILE && rm FILE",
        ));
    }
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&real);
    let file = file.map_err(|e| bad(e.to_string(), "make it readable for you alone: chmod 600 FILE"))?;
    let about = file.metadata().map_err(|e| bad(e.to_string(), "name a plain file"))?;
    let mine = about.uid() == nix::unistd::getuid().as_raw() || about.uid() == 0;
    if !about.is_file() || !mine || about.mode() & 0o077 != 0 {
        return Err(bad(
            "others than you can read it, or it is no plain file".into(),
            "chmod 600 FILE, and have it belong to you",
        ));
    }
    text_of(file).ok_or_else(|| bad("it can't be read as a key".into(), "write the key alone into it"))
}

fn text_of(source: impl Read) -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(LONGEST).ok()? + 1));
    source.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The person's own settings, never the project's: those are the agent's to write. Nor what a link leads to.
fn helper(home: &Path) -> Result<Option<String>, Problem> {
    let settings = own::settings_file(home).map_err(|e| {
        let what = format!("it can't be read to see whether it names an apiKeyHelper: {e}");
        Problem::new(Code::KEY_UNREADABLE, "~/.claude/settings.json", what, "make it a plain file, or: rcc login")
    })?;
    Ok(settings.and_then(|s| s.get("apiKeyHelper")?.as_str().map(str::to_owned)))
}

/// Runs the helper as Claude Code would, by the shell, but in the home folder: in the project a relative name would be
/// the agent's program.
fn from_helper(command: &str, home: &Path) -> Result<Zeroizing<String>, Problem> {
    let bad = |what: String| {
        Problem::new(
            Code::KEY_UNREADABLE,
            "apiKeyHelper",
            what,
            "run it by hand: it must print the key and exit with 0",
        )
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(home)
        // With the caller's PATH, a name in the helper could be a program of the project's.
        .env_clear()
        .envs([
            ("HOME", home.as_os_str()),
            ("PATH", OsStr::new("/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin")),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| bad(e.to_string()))?;
    let text = child.stdout.take().and_then(text_of);
    let status = child.wait().map_err(|e| bad(e.to_string()))?;
    match text {
        Some(text) if status.success() => Ok(text),
        _ => Err(bad(format!("it ended with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_the_persons_alone_and_outside_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let project = fs::canonicalize(dir.path()).unwrap().join("p");
        fs::create_dir(&project).unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "sk-ant-oat01-abc\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let sources = |file| Sources { file: Some(file), home: Path::new("/nonexistent"), project: &project };
        assert_eq!(find(&sources(&file)).unwrap_err().code, Code::KEY_UNREADABLE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let found = find(&sources(&file)).unwrap().credential;
        assert_eq!((found.kind, found.secret.expose()), (CredentialKind::OauthToken, "sk-ant-oat01-abc"));
        let inside = project.join("key");
        fs::copy(&file, &inside).unwrap();
        assert_eq!(find(&sources(&inside)).unwrap_err().code, Code::KEY_UNREADABLE);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&inside, &link).unwrap();
        assert_eq!(find(&sources(&link)).unwrap_err().code, Code::KEY_UNREADABLE);
    }

    #[test]
    fn a_key_is_one_printable_word() {
        assert_eq!(credential("x", "two words", None).unwrap_err().code, Code::KEY_MALFORMED);
        assert_eq!(credential("x", "line\r\nbreak", None).unwrap_err().code, Code::KEY_MALFORMED);
        assert_eq!(credential("x", " \n", None).unwrap_err().code, Code::KEY_MALFORMED);
    }

    #[test]
    fn settings_behind_a_link_name_no_helper() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".claude")).unwrap();
        fs::write(home.path().join("other"), r#"{"apiKeyHelper":"touch ran"}"#).unwrap();
        std::os::unix::fs::symlink("../other", home.path().join(".claude/settings.json")).unwrap();
        assert_eq!(helper(home.path()).unwrap_err().code, Code::KEY_UNREADABLE);
    }

    #[test]
    fn a_helper_runs_outside_the_project() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".claude")).unwrap();
        fs::write(home.path().join(".claude/settings.json"), r#"{"apiKeyHelper":"pwd >&2; echo sk-ant-api03-h"}"#)
            .unwrap();
        let text = from_helper(&helper(home.path()).unwrap().unwrap(), home.path()).unwrap();
        assert_eq!(text.trim(), "sk-ant-api03-h");
        assert_eq!(from_helper("exit 3", home.path()).unwrap_err().code, Code::KEY_UNREADABLE);
    }
}
