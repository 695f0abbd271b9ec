//! The script: what the model says and calls, turn by turn.
//!
//! ```json
//! [ {"text": "I'll look.", "tools": [{"name": "Bash", "input": {"command": "id"}}]},
//!   {"text": "done"} ]
//! ```
//! or, with sessions chosen by a substring of the first user message:
//! ```json
//! {"turns": [], "sessions": [{"when": "fetch", "turns": [{"text": "…"}]}], "side": "answer to requests without tools"}
//! ```
//! In any string of a tool's input, and in a turn's text: `{{cwd}}` is the agent's working directory, `{{env:NAME}}` a
//! variable of this server, `{{result:N.I:REGEX}}` group 1 (or all) of a match in the result of tool I of turn N.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

static PLACE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)\{\{(cwd|(?:env|result):.*?)\}\}").expect("a constant pattern"));

/// A whole script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// For every session that no other entry is for.
    #[serde(default)]
    pub turns: Vec<Turn>,
    /// For those whose first user message has `when` in it; the first that fits.
    #[serde(default)]
    pub sessions: Vec<Session>,
    /// What is answered to requests that offer no tools: titles, summaries.
    #[serde(default = "ok")]
    pub side: String,
}

/// Turns for certain conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// A substring of the first user message.
    pub when: String,
    /// Its turns.
    pub turns: Vec<Turn>,
}

/// One answer of the model; without tools it ends the agent's run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What it says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Call>,
    /// An HTTP status to answer instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<u16>,
    /// How often `error` is answered before the turn is; always, if it isn't given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Seconds before anything is answered.
    #[serde(default)]
    pub delay: f64,
    /// Seconds between the pieces of a stream.
    #[serde(default)]
    pub pace: f64,
    /// Whether a stream breaks off after its first piece.
    #[serde(default)]
    pub cut: bool,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The tool, as the agent names it.
    pub name: String,
    /// Its arguments.
    pub input: Value,
}

fn ok() -> String {
    "ok".into()
}

impl Turn {
    /// A turn that says something and ends.
    #[must_use]
    pub fn saying(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// A turn that runs one command.
    #[must_use]
    pub fn bash(command: &str) -> Self {
        Self::calling("Bash", serde_json::json!({ "command": command, "description": "scripted" }))
    }

    /// A turn that calls one tool.
    #[must_use]
    pub fn calling(tool: &str, input: Value) -> Self {
        Self { tools: vec![Call { name: tool.to_owned(), input }], ..Self::default() }
    }

    /// With every place filled in.
    #[must_use]
    pub fn filled(mut self, cwd: Option<&str>, results: &HashMap<String, String>) -> Self {
        self.text = fill(&self.text, cwd, results);
        for call in &mut self.tools {
            fill_value(&mut call.input, cwd, results);
        }
        self
    }
}

impl Script {
    /// One session of these turns.
    #[must_use]
    pub fn of(turns: Vec<Turn>) -> Self {
        Self { turns, side: ok(), ..Self::default() }
    }

    /// Reads a file: a list of turns, or an object.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text)
    }

    /// Reads a text: a list of turns, or an object.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        if value.is_array() { Ok(Self::of(serde_json::from_value(value)?)) } else { Ok(serde_json::from_value(value)?) }
    }

    /// The session's name and its turns.
    #[must_use]
    pub fn choose(&self, first_user: &str) -> (String, &[Turn]) {
        let fitting = self.sessions.iter().find(|s| first_user.contains(&s.when));
        fitting.map_or_else(|| ("default".to_owned(), &self.turns[..]), |s| (s.when.clone(), &s.turns[..]))
    }
}

fn fill_value(value: &mut Value, cwd: Option<&str>, results: &HashMap<String, String>) {
    match value {
        Value::String(text) => *text = fill(text, cwd, results),
        Value::Array(list) => list.iter_mut().for_each(|v| fill_value(v, cwd, results)),
        Value::Object(map) => map.values_mut().for_each(|v| fill_value(v, cwd, results)),
        _ => {}
    }
}

fn fill(text: &str, cwd: Option<&str>, results: &HashMap<String, String>) -> String {
    let put = |captures: &Captures<'_>| -> String {
        let what = &captures[1];
        if what == "cwd" {
            return cwd.unwrap_or(".").to_owned();
        }
        if let Some(name) = what.strip_prefix("env:") {
            return std::env::var(name).unwrap_or_default();
        }
        let found = || {
            let (place, pattern) = what.strip_prefix("result:")?.split_once(':')?;
            let (turn, index) = place.split_once('.')?;
            let result = results.get(&super::conversation::call_id(turn.parse().ok()?, index.parse().ok()?))?;
            let hit = Regex::new(&format!("(?s){pattern}")).ok()?.captures(result)?;
            hit.get(1).or_else(|| hit.get(0)).map(|m| m.as_str().to_owned())
        };
        found().unwrap_or_default()
    };
    PLACE.replace_all(text, put).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_anywhere() {
        let results = HashMap::from([("toolu_s0_1".to_owned(), "one\nport 4711 open".to_owned())]);
        let input =
            serde_json::json!({ "a": ["{{cwd}}/x", "{{result:0.1:port (\\d+)}}"], "b": "{{result:9.9:x}}|{{other}}" });
        let turn = Turn::calling("T", input).filled(Some("/p"), &results);
        assert_eq!(turn.tools[0].input, serde_json::json!({ "a": ["/p/x", "4711"], "b": "|{{other}}" }));
    }

    #[test]
    fn a_list_is_a_script_and_unknown_keys_are_errors() {
        let script = Script::parse(r#"[{"text": "hi"}]"#).unwrap();
        assert_eq!(script, Script::of(vec![Turn::saying("hi")]));
        assert!(Script::parse(r#"{"turn": []}"#).is_err());
        let script = Script::parse(r#"{"sessions": [{"when": "abc", "turns": [{"text": "1"}]}]}"#).unwrap();
        assert_eq!(script.choose("x abc y").0, "abc");
        assert_eq!(script.choose("x").0, "default");
    }
}
