//! Where in a policy's text its entries stand: what decides is told by what a person can look up and change.

use crate::document::Reader;
use crate::endpoint::Place;
use crate::policy::{endpoints, read_private};
use serde::Serialize;

/// An entry as it stands in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The list that it stands in.
    pub key: &'static str,
    /// What it means, as decisions name it: for a set, one of its endpoints.
    pub entry: String,
    /// How it is written there.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

/// The endpoints of a policy's lists, in the text's order within each. What is wrong with the text is [`crate::parse`]'s
/// to say.
#[must_use]
pub fn written(text: &str) -> Vec<Written> {
    let mut reader = Reader::new(text, "", None);
    let table = reader.table();
    let mut all = Vec::new();
    for (key, place) in [("deny", Place::Deny), ("allow", Place::Allow), ("may_allow", Place::MayAllow)] {
        for (endpoint, span) in endpoints(&mut reader, &table, key, place) {
            all.push((key, endpoint.to_string(), span));
        }
    }
    for (private, span) in read_private(&mut reader, &table) {
        all.push(("private", private.to_string(), span));
    }
    let as_written =
        |span: &std::ops::Range<usize>| text.get(span.clone()).unwrap_or("").trim_matches(['"', '\'']).into();
    all.into_iter()
        .map(|(key, entry, span)| Written { key, entry, text: as_written(&span), line: reader.place(span.start).0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_its_line() {
        let text = "# root's\nallow = [\n  \"a.example:443\",\n  '@gitlab', # git\n]\ndeny = [\"*:25\"]\n\
            private = [\"git.corp.example:443 via 10.20.0.0/16\"]\n";
        let all = written(text);
        let found: Vec<_> = all.iter().map(|w| (w.key, w.entry.as_str(), w.text.as_str(), w.line)).collect();
        assert_eq!(
            found,
            [
                ("deny", "*:25", "*:25", 6),
                ("allow", "a.example:443", "a.example:443", 3),
                ("allow", "gitlab.com:22", "@gitlab", 4),
                ("allow", "gitlab.com:443", "@gitlab", 4),
                ("private", "git.corp.example:443 via 10.20.0.0/16", "git.corp.example:443 via 10.20.0.0/16", 7),
            ]
        );
        assert!(written("allow = [").is_empty());
    }
}
