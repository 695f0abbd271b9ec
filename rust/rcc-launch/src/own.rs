//! What the person has of their own for Claude Code, on the host: their answers to its dialogs, and what they chose to
//! bring into sessions. Read at a session's start and given to it as copies.
//!
//! Invariant: a file is read through no link below the home folder's `.claude`, or as `.claude.json` in the home folder
//! itself: what a link leads to may be in a project, where an agent can point it elsewhere. Nothing is read of an
//! agent's home, so no project has a say in another's.

use crate::beneath;
use nix::dir::Dir;
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Claude Code's own configuration grows with every project and prompt.
const STATE_LIMIT: u64 = 64 << 20;
/// Bytes of one file that is brought.
const FILE_LIMIT: u64 = 4 << 20;
/// Bytes of all that is brought: the copies lie in the person's runtime folder, which is memory.
const ALL_LIMIT: u64 = 16 << 20;
/// Files and folders of all that is brought.
const ENTRY_LIMIT: usize = 4000;
/// How deep folders are read.
const DEPTH: usize = 12;

/// Something of the person's that can come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// `~/.claude/CLAUDE.md`.
    ClaudeMd,
    /// `~/.claude/commands`.
    Commands,
    /// `~/.claude/skills`.
    Skills,
    /// `~/.claude/agents`.
    Agents,
    /// Of `~/.claude/settings.json`, the keys in [`SETTINGS`].
    Settings,
    /// The MCP servers of `~/.claude.json`: the person's, and those that it has for this project.
    Mcp,
}

impl Item {
    /// All, with their names.
    pub const ALL: [(&str, Self); 6] = [
        ("claude-md", Self::ClaudeMd),
        ("commands", Self::Commands),
        ("skills", Self::Skills),
        ("agents", Self::Agents),
        ("settings", Self::Settings),
        ("mcp", Self::Mcp),
    ];

    /// Its name in commands and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, item)| *item == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, item)| *item);
        let names = Self::ALL.map(|(name, _)| name).join(", ");
        found.ok_or_else(|| format!("there are: {names}"))
    }
}

/// A file or a folder, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Its bytes, and whether it can be run.
    File(Vec<u8>, bool),
    /// Its entries.
    Folder(Vec<(OsString, Tree)>),
}

/// A copy of something of the person's, and where the agent sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Its name in the session's folder.
    pub name: &'static str,
    /// Inside.
    pub target: PathBuf,
    /// What it is.
    pub tree: Tree,
}

/// What comes along.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Mounted read-only.
    pub copies: Vec<Copy>,
    /// Arguments by which Claude Code reads some of them.
    pub arguments: Vec<OsString>,
    /// What was left out and why, a line each.
    pub omitted: Vec<String>,
}

/// The folder inside in which what Claude Code is told by arguments lies.
const TOLD: &str = "/run/rcc/claude";

/// Reads what the person chose. What they have not got is not brought.
pub fn bring(home: &Path, project: &Path, items: &[Item]) -> Result<Brought, Problem> {
    let mut brought = Brought::default();
    let mut room = Room { bytes: ALL_LIMIT, entries: ENTRY_LIMIT };
    for (name, item) in Item::ALL.iter().filter(|(_, item)| items.contains(item)) {
        let path = match item {
            Item::ClaudeMd => "CLAUDE.md",
            Item::Settings => {
                settings(home, &mut brought)?;
                continue;
            }
            Item::Mcp => {
                mcp(home, project, &mut brought)?;
                continue;
            }
            Item::Commands | Item::Skills | Item::Agents => name,
        };
        let Some(claude) = folder(home)? else { continue };
        let mut left = Vec::new();
        let tree = match tree(&claude, Path::new(path), DEPTH, &mut room, &mut left) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| unreadable(&format!("~/.claude/{path}"), &e))?,
        };
        brought.omitted.extend(left.iter().map(|p| format!("~/.claude/{} is a link or no file", p.display())));
        brought.copies.push(Copy { name, target: home.join(".claude").join(path), tree });
    }
    Ok(brought)
}

/// `~/.claude`, which may be a link of the person's: no project can hold its real place.
fn folder(home: &Path) -> Result<Option<OwnedFd>, Problem> {
    match fs::canonicalize(home.join(".claude")).and_then(File::open) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|folder| Some(folder.into())).map_err(|e| unreadable("~/.claude", &e)),
    }
}

fn unreadable(subject: &str, error: &io::Error) -> Problem {
    let what = match error.raw_os_error() {
        Some(libc::ELOOP) => "it is a link, or lies behind one: what it leads to may be an agent's to write".to_owned(),
        _ => error.to_string(),
    };
    let remedy = "put a plain file in its place, or bring less: rcc agent bring ITEM…, or none: rcc agent bring --none";
    Problem::new(Code::AGENT_CHOICE, subject, what, remedy)
}

struct Room {
    bytes: u64,
    entries: usize,
}

// Of a mode, as 32 bits on each system.
const FORMAT: u32 = 0o170_000;
const PLAIN: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

fn tree(base: &OwnedFd, path: &Path, depth: usize, room: &mut Room, left: &mut Vec<PathBuf>) -> io::Result<Tree> {
    let opened = beneath::open(base, path, beneath::PLACE | libc::O_NOFOLLOW)?;
    let about = File::from(opened).metadata()?;
    let too_much =
        || io::Error::other(format!("all that is brought is more than {} MiB or {ENTRY_LIMIT} files", ALL_LIMIT >> 20));
    room.entries = room.entries.checked_sub(1).ok_or_else(too_much)?;
    match about.mode() & FORMAT {
        PLAIN if about.nlink() > 1 => Err(io::Error::other("it is a hard link: the same file has another name")),
        PLAIN => {
            let bytes = beneath::read(base, path, FILE_LIMIT)?;
            room.bytes = room.bytes.checked_sub(bytes.len() as u64).ok_or_else(too_much)?;
            Ok(Tree::File(bytes, about.mode() & 0o100 != 0))
        }
        FOLDER if depth == 0 => Err(io::Error::other("its folders are nested too deeply")),
        FOLDER => {
            let listed = beneath::open(base, path, libc::O_RDONLY | libc::O_DIRECTORY)?;
            let mut names: Vec<OsString> = Dir::from_fd(listed)?
                .iter()
                .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
                .filter(|name| !matches!(name, Ok(name) if name == "." || name == ".."))
                .take(ENTRY_LIMIT + 1)
                .collect::<Result<_, nix::Error>>()?;
            names.sort();
            let mut entries = Vec::new();
            for name in names {
                let inner = path.join(&name);
                match kind(base, &inner)? {
                    PLAIN | FOLDER => entries.push((name, tree(base, &inner, depth - 1, room, left)?)),
                    _ => left.push(inner),
                }
            }
            Ok(Tree::Folder(entries))
        }
        LINK => Err(io::Error::from_raw_os_error(libc::ELOOP)),
        _ => Err(io::Error::other("neither a file nor a folder")),
    }
}

/// The kind of an entry, itself and not what it leads to. The last part of a path may be a link here.
#[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "sixteen bits on macOS"))]
fn kind(base: &OwnedFd, path: &Path) -> io::Result<u32> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = beneath::open(base, parent, beneath::PLACE | libc::O_DIRECTORY)?;
    let name = path.file_name().unwrap_or_default();
    let about = nix::sys::stat::fstatat(folder.as_fd(), name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(u32::from(about.st_mode) & FORMAT)
}

/// Writes a copy as new files, for the person alone.
pub fn write(tree: &Tree, to: &Path) -> io::Result<()> {
    match tree {
        Tree::File(bytes, can_be_run) => beneath::write_new(to, bytes, if *can_be_run { 0o700 } else { 0o600 }),
        Tree::Folder(entries) => {
            fs::create_dir(to)?;
            entries.iter().try_for_each(|(name, tree)| write(tree, &to.join(name)))
        }
    }
}

fn json(home: &Path, path: &str, limit: u64) -> io::Result<Option<Map<String, Value>>> {
    let (base, name) = match path.strip_prefix(".claude/") {
        Some(name) => (fs::canonicalize(home.join(".claude")), name),
        None => (Ok(home.to_owned()), path),
    };
    let bytes = match base.and_then(File::open).and_then(|base| beneath::read(base, Path::new(name), limit)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let value: Value = serde_json::from_slice(&bytes)?;
    match value {
        Value::Object(map) => Ok(Some(map)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a JSON object")),
    }
}

/// The person's own settings (`~/.claude/settings.json`), never the project's: those are the agent's to write.
pub fn settings_file(home: &Path) -> io::Result<Option<Map<String, Value>>> {
    json(home, ".claude/settings.json", FILE_LIMIT)
}

/// Keys of the person's settings that come along: how the agent looks, speaks and thinks. Not among them: what runs a
/// program (`hooks`, `statusLine`, `apiKeyHelper`, …), which is meant for the host; `env`, where secrets are; what
/// installs or connects (plugins, MCP approvals); what loosens or moves permissions.
pub const SETTINGS: &[&str] = &[
    "alwaysThinkingEnabled",
    "attribution",
    "cleanupPeriodDays",
    "effortLevel",
    "includeCoAuthoredBy",
    "language",
    "model",
    "outputStyle",
    "prefersReducedMotion",
    "respectGitignore",
    "showTurnDuration",
    "spinnerTipsEnabled",
    "syntaxHighlightingDisabled",
];

fn settings(home: &Path, brought: &mut Brought) -> Result<(), Problem> {
    let Some(all) = settings_file(home).map_err(|e| unreadable("~/.claude/settings.json", &e))? else { return Ok(()) };
    let (come, stay): (Map<_, _>, Map<_, _>) = all.into_iter().partition(|(key, _)| SETTINGS.contains(&key.as_str()));
    if !stay.is_empty() {
        let keys: Vec<String> = stay.into_iter().map(|(key, _)| key).collect();
        brought.omitted.push(format!("{} of ~/.claude/settings.json", keys.join(", ")));
    }
    told(brought, "settings", "--settings", &Value::Object(come));
    Ok(())
}

/// A file that Claude Code is told of by an argument. With `=`, since it takes more than one value for some.
fn told(brought: &mut Brought, name: &'static str, argument: &str, value: &Value) {
    let target = PathBuf::from(format!("{TOLD}/{name}.json"));
    brought.arguments.push(format!("{argument}={}", target.display()).into());
    brought.copies.push(Copy { name, target, tree: Tree::File(value.to_string().into_bytes(), false) });
}

fn mcp(home: &Path, project: &Path, brought: &mut Brought) -> Result<(), Problem> {
    let Some(state) = json(home, ".claude.json", STATE_LIMIT).map_err(|e| unreadable("~/.claude.json", &e))? else {
        return Ok(());
    };
    let here = state.get("projects").and_then(|p| p.get(project.to_str()?));
    let mut servers = Map::new();
    for (name, entry) in [state.get("mcpServers"), here.and_then(|h| h.get("mcpServers"))]
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flatten()
    {
        match server(entry) {
            Ok((kept, left)) => {
                if !left.is_empty() {
                    brought.omitted.push(format!("{} of the MCP server {name}", left.join(", ")));
                }
                servers.insert(name.clone(), kept);
            }
            Err(why) => brought.omitted.push(format!("the MCP server {name}: {why}")),
        }
    }
    if !servers.is_empty() {
        told(brought, "mcp", "--mcp-config", &serde_json::json!({ "mcpServers": servers }));
    }
    Ok(())
}

/// An MCP server without what may be secret in it, and the names of what was left out.
fn server(entry: &Value) -> Result<(Value, Vec<String>), &'static str> {
    const KEPT: [&str; 4] = ["args", "command", "type", "url"];
    let entry = entry.as_object().ok_or("it is no object")?;
    let strings = entry.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if strings.into_iter().any(names_a_secret) {
        return Err("an argument of it looks like a secret");
    }
    if entry.get("url").and_then(Value::as_str).is_some_and(|url| url.contains(['@', '?', '#']) || names_a_secret(url))
    {
        return Err("its address may hold a secret");
    }
    let mut left = Vec::new();
    let mut kept = Map::new();
    for (key, value) in entry {
        if KEPT.contains(&key.as_str()) {
            kept.insert(key.clone(), value.clone());
            continue;
        }
        match value.as_object() {
            Some(inner) if inner.is_empty() => {}
            Some(inner) => left.push(format!("{key} ({})", inner.keys().cloned().collect::<Vec<_>>().join(", "))),
            None => left.push(key.clone()),
        }
    }
    Ok((Value::Object(kept), left))
}

/// Whether a text speaks of a secret, or is as long and mixed as one.
fn names_a_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let word = ["token", "secret", "password", "passwd", "apikey", "api-key", "api_key", "bearer", "credential"];
    let random = |part: &str| {
        part.len() >= 20 && part.bytes().any(|b| b.is_ascii_digit()) && part.bytes().any(|b| b.is_ascii_alphabetic())
    };
    word.iter().any(|word| lower.contains(word))
        || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(random)
}

/// Keys of `~/.claude.json` that are the person's answers and tastes: each a yes or no, or a short word.
const ANSWERS: &[&str] = &[
    "autoCompactEnabled",
    "autoScrollEnabled",
    "briefTranscript",
    "copyOnSelect",
    "editorMode",
    "fileCheckpointingEnabled",
    "preferredNotifChannel",
    "respectGitignore",
    "showExpandedTodos",
    "showMessageTimestamps",
    "showTurnDuration",
    "terminalProgressBarEnabled",
    "theme",
    "todoFeatureEnabled",
    "verbose",
];

/// The person's answers to Claude Code's dialogs, as they gave them on the host. What can't be read is none.
#[must_use]
pub fn answers(home: &Path) -> Map<String, Value> {
    let all = json(home, ".claude.json", STATE_LIMIT).ok().flatten().unwrap_or_default();
    let plain = |value: &Value| match value {
        Value::Bool(_) => true,
        Value::String(text) => {
            text.len() <= 40 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b))
        }
        _ => false,
    };
    all.into_iter().filter(|(key, value)| ANSWERS.contains(&key.as_str()) && plain(value)).collect()
}

#[cfg(test)]
mod tests;
