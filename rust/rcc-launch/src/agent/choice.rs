//! What the person chose for agents, in `~/.config/rcc/agent.toml`: what of theirs comes along, and a version other than
//! the pinned one.

use super::pins::Pin;
use crate::own::Item;
use crate::personal::{Personal, Privacy};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::path::Path;

const NAME: &str = "agent.toml";
const LIMIT: u64 = 64 << 10;

/// The person's choices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    /// What of theirs comes along into sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bring: Vec<Item>,
    /// Claude Code in another version than the pinned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claude: Option<Chosen>,
}

/// A version that the person vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// The version.
    pub version: String,
    /// The hash of its package for this processor, as in [`Pin::integrity`].
    pub integrity: String,
    /// The program's size, measured when its package had been compared with the hash.
    pub size: u64,
}

impl Choices {
    /// What the person chose; nothing, if there is no such file.
    pub fn read(home: &Path) -> Result<Self, Problem> {
        let Some(personal) = Personal::open(home, Code::AGENT_CHOICE)? else { return Ok(Self::default()) };
        let Some(bytes) = personal.read(NAME, LIMIT, Privacy::Open)? else { return Ok(Self::default()) };
        let place = personal.place(NAME).display().to_string();
        let bad = |what: String| {
            Problem::new(Code::AGENT_CHOICE, place.clone(), what, format!("correct it, or begin anew: rm '{place}'"))
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
        let choices: Self = toml::from_str(text).map_err(|e| bad(e.to_string().trim().replace('\n', " ")))?;
        if let Some(chosen) = &choices.claude {
            plausible(&place, &chosen.version, &chosen.integrity)?;
        }
        Ok(choices)
    }

    /// Writes it down.
    pub fn write(&self, home: &Path) -> Result<(), Problem> {
        let failed = |e: toml::ser::Error| Problem::new(Code::AGENT_CHOICE, NAME, e.to_string(), "report it");
        let text = toml::to_string(self).map_err(failed)?;
        Personal::create(home, Code::AGENT_CHOICE)?.replace(NAME, text.as_bytes())
    }

    /// The version that runs: the chosen one, else the pinned one.
    #[must_use]
    pub fn pin<'a>(&'a self, pinned: &Pin<'a>) -> Pin<'a> {
        let Some(chosen) = &self.claude else { return *pinned };
        Pin { version: &chosen.version, integrity: &chosen.integrity, size: Some(chosen.size), ..*pinned }
    }
}

/// Whether a version and a hash have the form of one. The version becomes a folder's name and a word for npm.
pub fn plausible(subject: &str, version: &str, integrity: &str) -> Result<(), Problem> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if version.len() > 40 || !version.starts_with(|c: char| c.is_ascii_digit()) || !version.chars().all(word) {
        let what = "the version is not one like 2.1.330";
        return Err(Problem::new(Code::AGENT_CHOICE, subject, what, "npm view @anthropic-ai/claude-code version"));
    }
    let hash = integrity.strip_prefix("sha512-").and_then(|hash| STANDARD.decode(hash).ok());
    if hash.is_none_or(|hash| hash.len() != 64) {
        let what = "the integrity is not sha512- and the base64 of a SHA-512, as npm writes it";
        let remedy = "npm view @anthropic-ai/claude-code-linux-x64@VERSION dist.integrity";
        return Err(Problem::new(Code::AGENT_CHOICE, subject, what, remedy));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn choices_are_kept_and_bad_ones_are_refused() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Choices::read(home.path()), Ok(Choices::default()));
        let integrity = format!("sha512-{}", STANDARD.encode([7; 64]));
        let claude = Some(Chosen { version: "2.1.331".into(), integrity, size: 5 });
        let choices = Choices { bring: vec![Item::Mcp, Item::ClaudeMd], claude };
        choices.write(home.path()).unwrap();
        assert_eq!(Choices::read(home.path()), Ok(choices));
        let place = home.path().join(".config/rcc").join(NAME);
        let good = fs::read_to_string(&place).unwrap();
        for (from, to) in [
            ("mcp", "mcq"),
            ("2.1.331", "../../x"),
            ("2.1.331", ""),
            ("sha512", "sha1"),
            ("bring", "bringg"),
            ("=", ""),
        ] {
            fs::write(&place, good.replacen(from, to, 1)).unwrap();
            assert_eq!(Choices::read(home.path()).unwrap_err().code, Code::AGENT_CHOICE, "{from} → {to}");
        }
    }
}
