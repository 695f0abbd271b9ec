//! Reads TOML by hand, so that every problem of a file is told at once, each with its line and column. Invariant: a value
//! of the wrong type is a problem, never a default.

use rcc_report::{Code, Problem};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest text that is read, in bytes: far more than any person writes.
const MAX_TEXT: usize = 256 << 10;
/// The most problems that are told of one text.
const MAX_PROBLEMS: usize = 50;

/// A text under reading, and what was found wrong with it.
pub(crate) struct Reader<'a> {
    text: &'a str,
    origin: &'a str,
    /// The code of every problem, where the file has one of its own (a project's).
    code: Option<Code>,
    problems: Vec<(usize, Problem)>,
}

/// A value with where it stands.
pub(crate) type Item<T> = (T, Range<usize>);

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, origin: &'a str, code: Option<Code>) -> Self {
        Self { text, origin, code, problems: Vec::new() }
    }

    /// The text's table; what can't be parsed becomes problems.
    pub(crate) fn table(&mut self) -> DeTable<'a> {
        if self.text.len() > MAX_TEXT {
            let what = format!("the file has {} bytes; at most {MAX_TEXT} are read", self.text.len());
            self.problem(Code::POLICY_SYNTAX, 0..0, what, "write wildcards or ranges instead of long lists");
            return DeTable::new();
        }
        let (table, mut errors) = DeTable::parse_recoverable(self.text);
        // After a first mistake in the notation the parser's further ones, and all that we could say of the values, are
        // mostly its echo: an unclosed list swallows the lines below.
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        if let Some(error) = errors.first() {
            let what = error.message().lines().next().unwrap_or("not valid TOML").trim().to_owned();
            let remedy = "correct the line; https://toml.io has the notation";
            self.problem(Code::POLICY_SYNTAX, error.span().unwrap_or(0..0), what, remedy);
            return DeTable::new();
        }
        table.into_inner()
    }

    /// `line:column` of a place, both from 1; the column counts characters.
    pub(crate) fn place(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = self.text.get(..at).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.bytes().filter(|b| *b == b'\n').count() + 1, column)
    }

    pub(crate) fn problem(
        &mut self,
        code: Code,
        span: Range<usize>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let (line, column) = self.place(span.start);
        let subject = format!("{}:{line}:{column}", self.origin);
        self.problems.push((span.start, Problem::new(self.code.unwrap_or(code), subject, what, remedy)));
    }

    /// All problems in the order of the text, or that there are none.
    pub(crate) fn finish(mut self) -> Result<(), Vec<Problem>> {
        self.problems.sort_by_key(|(at, _)| *at);
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.into_iter().map(|(_, p)| p).collect()) }
    }

    /// Tells of every key that is not among the known ones, with the nearest of them.
    pub(crate) fn known(&mut self, table: &DeTable<'_>, place: &str, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let here = if place.is_empty() { String::new() } else { format!(" in [{place}]") };
            let remedy = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            self.problem(
                Code::POLICY_UNKNOWN_KEY,
                key.span(),
                format!("unknown key `{}`{here}", shortened(name)),
                remedy,
            );
        }
    }

    /// The table under a key.
    pub(crate) fn section<'t, 'd>(&mut self, table: &'t DeTable<'d>, key: &str) -> Option<&'t DeTable<'d>> {
        let value = table.get(key)?;
        let inner = value.get_ref().as_table();
        if inner.is_none() {
            self.wrong_type(value, key, "a table", &format!("write it as `[{key}]` with its keys below"));
        }
        inner
    }

    /// The string under a key.
    pub(crate) fn string(&mut self, table: &DeTable<'_>, key: &str, example: &str) -> Option<Item<String>> {
        let value = table.get(key)?;
        if let Some(text) = value.get_ref().as_str() {
            return Some((text.to_owned(), value.span()));
        }
        self.wrong_type(value, key, "a string", &format!("write `{key} = {example}`"));
        None
    }

    /// The strings of a list under a key; without the key none.
    pub(crate) fn strings(&mut self, table: &DeTable<'_>, key: &str, example: &str) -> Vec<Item<String>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list of strings", &format!("write `{key} = {example}`"));
            return Vec::new();
        };
        let mut all = Vec::new();
        for element in array {
            match element.get_ref().as_str() {
                Some(text) => all.push((text.to_owned(), element.span())),
                None => self.wrong_type(element, key, "a list of strings", &format!("write `{key} = {example}`")),
            }
        }
        all
    }

    pub(crate) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str, remedy: &str) {
        let is = match value.get_ref().type_str() {
            "array" => "a list".to_owned(),
            "integer" => "an integer".to_owned(),
            other => format!("a {other}"),
        };
        self.problem(Code::POLICY_SYNTAX, value.span(), format!("`{key}` must be {wanted}; this is {is}"), remedy);
    }
}

/// The integer of a TOML value, if it is one of 64 bits.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The known word that a person most likely meant.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer words than any known one are no misspelling, and the comparison takes the product of the lengths.
    if word.len() > 40 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    let (distance, best) = known.iter().map(|k| (strsim::damerau_levenshtein(&word, k), *k)).min()?;
    let prefix = word.len() >= 3 && (best.starts_with(&word) || word.starts_with(best));
    (distance <= 1 + best.chars().count() / 4 || prefix).then_some(best)
}

/// A text for a message, cut where nobody would read on.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
        None => text.to_owned(),
    }
}
