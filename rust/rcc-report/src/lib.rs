//! What rcc says when something is wrong: a [`Problem`] has a code, a subject, an explanation and a remedy.
//!
//! Pure: nothing here reads or writes anything. One place, the `rcc` command, prints problems and maps them to an
//! exit code; libraries only return them. A code is never used for two things and never reused.

mod codes;

pub use codes::{Code, EXPLANATIONS};

use serde::{Deserialize, Serialize};
use std::fmt;

/// The exit code of `rcc` when nothing was started because of a problem. As in `podman run`, so that it is told apart
/// from the exit codes of the program inside, which are passed through (and 128 + N for signal N).
pub const EXIT_REFUSED: u8 = 125;
/// The exit code when a session was ended by rcc itself: the gateway died, a protected file appeared.
pub const EXIT_STOPPED: u8 = 124;
/// The exit code of a wrong command line (clap's own).
pub const EXIT_USAGE: u8 = 2;

/// Something that stops rcc from doing what was asked, or a limit that it must speak of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable code, `RCC-NNN`.
    pub code: Code,
    /// What it is about: a file with line and column, a path, a host, a program. May hold bytes that an agent chose:
    /// it is escaped when printed.
    pub subject: String,
    /// What is wrong with it, in one sentence.
    pub what: String,
    /// What the person can do, as an exact command where there is one.
    pub remedy: String,
}

impl Problem {
    /// A problem with its four parts.
    pub fn new(code: Code, subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, subject: subject.into(), what: what.into(), remedy: remedy.into() }
    }
}

/// Replaces control characters, bidirectional overrides and other invisible characters by `\u{…}`, so that a name an agent chose can't
/// drive the terminal of the person who reads it.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        if c.is_control() || hidden { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// A path or another word as a POSIX shell takes it literally: people paste remedies, and names in a project are the agent's
/// choice. Control characters are escaped as [`escaped`] does, so it stays on one line.
#[must_use]
pub fn quoted(word: impl fmt::Display) -> String {
    format!("'{}'", escaped(&word.to_string()).replace('\'', r"'\''"))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.code, escaped(&self.subject), escaped(&self.what))?;
        // A remedy may hold line breaks of its own (a few commands); they are kept, all else is escaped.
        for (i, line) in self.remedy.lines().enumerate() {
            write!(f, "\n  {}{}", if i == 0 { "hint: " } else { "      " }, escaped(line))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("x'$(id)'\n;y"), r"'x'\''$(id)'\''\u{a};y'");
    }

    #[test]
    fn a_problem_cannot_drive_the_terminal() {
        let p = Problem::new(Code::POLICY_SYNTAX, "a\u{1b}]0;x\u{7}b", "wrong\u{202e}", "rcc plan\nrcc claude");
        assert_eq!(p.to_string(), "RCC-101: a\\u{1b}]0;x\\u{7}b: wrong\\u{202e}\n  hint: rcc plan\n        rcc claude");
    }
}
