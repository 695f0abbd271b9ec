//! Limits of a session, and what of a project is read-only inside. Every limit has a default; none is "no limit" by being
//! left out.

use crate::document::{Item, Reader, integer};
use rcc_report::Code;
use serde::Serialize;
use std::fmt;
use toml::de::DeTable;

/// How much memory a session may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// A share of the machine's, 1 to 100.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

/// How much CPU time a session may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpus {
    /// A share of all CPUs of the machine, 1 to 100.
    Percent(u8),
    /// Thousandths of one CPU.
    Milli(u32),
}

/// What happens when this machine can't enforce a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unenforceable {
    /// It is said, and the session starts.
    Warn,
    /// No session starts.
    Refuse,
}

/// The limits of one session, `sessions` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Memory and swap together. Default `"75%"`.
    pub memory: Memory,
    /// Processes and threads. Default 4096.
    pub pids: u32,
    /// CPU time. Default `"100%"`, which is all of the machine's.
    pub cpus: Cpus,
    /// The longest core dump, in bytes. Default 1, the value with which the kernel runs no core handler of the host's
    /// (core(5): a limit of 0 does not stop a handler that is a pipe).
    pub core: u64,
    /// Sessions of one user at once. Default 32.
    pub sessions: u32,
    /// Connections of a session at once. Default 1024.
    pub connections: u32,
    /// Names that a session can have looked up and not yet lost again. Default 4096.
    pub names: u32,
    /// Default [`Unenforceable::Refuse`].
    pub unenforceable: Unenforceable,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Memory::Percent(75),
            pids: 4096,
            cpus: Cpus::Percent(100),
            core: 1,
            sessions: 32,
            connections: 1024,
            names: 4096,
            unenforceable: Unenforceable::Refuse,
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(share) => write!(f, "{share}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(share) => write!(f, "{share}%"),
            Self::Milli(milli) => write!(f, "{}.{:03}", milli / 1000, milli % 1000),
        }
    }
}

/// What of a project the agent can't write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protect {
    /// Paths below the project, sorted. Without the key [`Protect::DEFAULT`]; [`Protect::ALWAYS`] is always among them.
    pub read_only: Vec<String>,
}

impl Protect {
    /// What no policy can leave out: the host's git acts on these, and rcc on the last.
    pub const ALWAYS: &[&str] = &[".git/config", ".git/config.worktree", ".git/hooks", ".git/info", "rcc.toml"];
    /// What is read-only besides, where the policy doesn't say: files that programs outside act on unasked.
    pub const DEFAULT: &[&str] = &[
        ".claude/agents",
        ".claude/commands",
        ".claude/hooks",
        ".claude/settings.json",
        ".claude/settings.local.json",
        ".codex",
        ".cursor",
        ".devcontainer",
        ".envrc",
        ".gemini",
        ".husky",
        ".idea",
        ".mcp.json",
        ".mise.toml",
        ".tool-versions",
        ".vscode",
        ".zed",
        "flake.lock",
        "flake.nix",
        "mise.local.toml",
        "mise.toml",
        "shell.nix",
    ];
}

impl Default for Protect {
    fn default() -> Self {
        Self::of(Self::DEFAULT.iter().map(|path| (*path).to_owned()))
    }
}

impl Protect {
    pub(crate) fn of(paths: impl Iterator<Item = String>) -> Self {
        let mut read_only: Vec<String> = paths.chain(Self::ALWAYS.iter().map(|path| (*path).to_owned())).collect();
        read_only.sort_unstable();
        read_only.dedup();
        Self { read_only }
    }
}

const MEMORY: &str =
    "write a share of the machine's (`\"75%\"`) or an amount with its unit (`\"8GiB\"`), at least 64MiB";
const LEAST_MEMORY: u64 = 64 << 20;

pub(crate) fn read(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Limits {
    let known = ["memory", "pids", "cpus", "core", "sessions", "connections", "names", "unenforceable"];
    reader.known(table, "limits", &known);
    let mut limits = Limits::default();
    if let Some(value) = table.get("memory") {
        match value.get_ref().as_str().and_then(memory) {
            Some(memory) => limits.memory = memory,
            None => reader.problem(Code::POLICY_BAD_VALUE, value.span(), "`memory` is not an amount of memory", MEMORY),
        }
    }
    if let Some(value) = table.get("cpus") {
        let number = value.get_ref().as_float().map(|f| f.as_str().to_owned());
        let number = number.or_else(|| integer(value.get_ref()).map(|i| i.to_string()));
        let cpus = match value.get_ref().as_str() {
            Some(text) => percent(text).map(Cpus::Percent),
            None => number.and_then(|n| milli(&n)).map(Cpus::Milli),
        };
        match cpus {
            Some(cpus) => limits.cpus = cpus,
            None => reader.problem(
                Code::POLICY_BAD_VALUE,
                value.span(),
                "`cpus` is not a number of CPUs",
                "write a number (`2`, `1.5`) or a share of the machine's (`\"50%\"`)",
            ),
        }
    }
    // The stand-in range has 131,072 addresses, and pid_max is at most 2^22.
    count(reader, table, "pids", 16..=4_194_304, &mut limits.pids);
    count(reader, table, "sessions", 1..=10_000, &mut limits.sessions);
    count(reader, table, "connections", 1..=65_536, &mut limits.connections);
    count(reader, table, "names", 1..=100_000, &mut limits.names);
    if let Some(value) = table.get("core") {
        let bytes = match value.get_ref().as_str() {
            Some(text) => bytes(text),
            None => integer(value.get_ref()).and_then(|i| u64::try_from(i).ok()),
        };
        match bytes {
            Some(bytes) if bytes > 0 => limits.core = bytes,
            _ => reader.problem(
                Code::POLICY_BAD_VALUE,
                value.span(),
                "`core` is not a size from 1 byte",
                "write `core = 1` for no core dumps (with 0 the kernel would still run the host's core handler)",
            ),
        }
    }
    if let Some((word, span)) = reader.string(table, "unenforceable", "\"refuse\"") {
        match word.as_str() {
            "warn" => limits.unenforceable = Unenforceable::Warn,
            "refuse" => limits.unenforceable = Unenforceable::Refuse,
            _ => reader.problem(
                Code::POLICY_BAD_VALUE,
                span,
                format!("`unenforceable` can't be `{}`", crate::document::shortened(&word)),
                "write `\"warn\"` or `\"refuse\"`",
            ),
        }
    }
    limits
}

fn count(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u32>,
    into: &mut u32,
) {
    let Some(value) = table.get(key) else { return };
    match integer(value.get_ref()).and_then(|i| u32::try_from(i).ok()).filter(|i| range.contains(i)) {
        Some(number) => *into = number,
        None => reader.problem(
            Code::POLICY_BAD_VALUE,
            value.span(),
            format!("`{key}` is not a number in its range"),
            format!("write a number from {} to {}", range.start(), range.end()),
        ),
    }
}

fn memory(text: &str) -> Option<Memory> {
    if text.ends_with('%') {
        percent(text).map(Memory::Percent)
    } else {
        bytes(text).filter(|b| *b >= LEAST_MEMORY).map(Memory::Bytes)
    }
}

fn percent(text: &str) -> Option<u8> {
    let digits = text.strip_suffix('%')?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|share| plain && (1..=100).contains(share))
}

/// An amount with its unit: `512MiB`, `8G` (as in systemd, a power of 1024), `1GB` (a power of 1000).
fn bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(at)?;
    let unit: u64 = match unit.trim() {
        "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Thousandths of a decimal number with up to three places, at least 0.01 and at most 100,000.
fn milli(text: &str) -> Option<u32> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let rest = rest.trim_end_matches('0');
    if !digits(whole) || !digits(rest) || rest.len() > 3 {
        return None;
    }
    let milli = whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(format!("{rest:0<3}").parse().ok()?)?;
    (10..=100_000_000).contains(&milli).then_some(milli)
}

/// The paths of `read_only`, checked: relative, in one form.
pub(crate) fn read_only(reader: &mut Reader<'_>, paths: Vec<Item<String>>) -> Vec<String> {
    let mut good = Vec::new();
    for (path, span) in paths {
        let plain = path.strip_suffix('/').unwrap_or(&path);
        let segments = || plain.split('/');
        let bad = plain.len() > 4095
            || plain.contains(|c: char| c.is_control() || c == '*')
            || segments().any(|s| s.is_empty() || s == "." || s == ".." || s.len() > 255);
        if bad {
            reader.problem(
                Code::POLICY_BAD_VALUE,
                span,
                format!("`{}` is not a path below a project", crate::document::shortened(&path)),
                "write a relative path without `.`, `..`, empty segments and wildcards, such as `.git/hooks`",
            );
        } else {
            good.push(plain.to_owned());
        }
    }
    good
}
