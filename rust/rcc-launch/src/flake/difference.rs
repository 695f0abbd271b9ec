//! How files differ, for a person who is to approve the new ones. Pure.

use rcc_report::escaped;
use similar::{Algorithm, ChangeTag, TextDiff};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Lines around a change.
const CONTEXT: usize = 3;
/// How long the smallest difference is looked for; after that a larger one will do. What an agent wrote can be made to
/// take long.
const PATIENCE: Duration = Duration::from_secs(2);

type Files = BTreeMap<String, Vec<u8>>;

/// One file after another, each as `diff -u` would have it. Without files before, each is new.
pub(super) fn lines(before: Option<&Files>, now: &Files) -> Vec<String> {
    let names: BTreeSet<&String> = before.into_iter().flat_map(BTreeMap::keys).chain(now.keys()).collect();
    let mut all = Vec::new();
    for name in names {
        let (old, new) = (before.and_then(|b| b.get(name)), now.get(name));
        if old == new {
            continue;
        }
        let mark =
            |what: &str, there: bool| format!("{what} {}", if there { escaped(name) } else { "/dev/null".to_owned() });
        all.push(mark("---", old.is_some()));
        all.push(mark("+++", new.is_some()));
        let text = |bytes: Option<&Vec<u8>>| bytes.map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
        file(&text(old), &text(new), &mut all);
    }
    all
}

fn file(old: &str, new: &str, all: &mut Vec<String>) {
    let before = all.len();
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).timeout(PATIENCE).diff_lines(old, new);
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        all.push(hunk.header().to_string());
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            let line = change.value();
            all.push(format!("{sign}{}", escaped(line.strip_suffix('\n').unwrap_or(line))));
        }
    }
    if all.len() == before {
        all.push("(they differ in bytes that are no text, or in nothing but being there)".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &[u8])]) -> Files {
        all.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
    }

    #[test]
    fn what_changed_is_shown_and_drives_no_terminal() {
        let old = files(&[("flake.lock", b"1\n"), ("flake.nix", b"a\nb\nc\nd\ne\n")]);
        let new = files(&[("flake.nix", b"a\nb\nc\nd\nf\x1b[2J\x0d\n"), ("new.nix", b"x")]);
        let all = lines(Some(&old), &new);
        assert_eq!(
            all,
            [
                "--- flake.lock",
                "+++ /dev/null",
                "@@ -1 +0,0 @@",
                "-1",
                "--- flake.nix",
                "+++ flake.nix",
                "@@ -2,4 +2,4 @@",
                " b",
                " c",
                " d",
                "-e",
                "+f\\u{1b}[2J\\u{d}",
                "--- /dev/null",
                "+++ new.nix",
                "@@ -0,0 +1 @@",
                "+x"
            ]
        );
        assert_eq!(lines(Some(&old), &old), Vec::<String>::new());
    }

    #[test]
    fn bytes_that_are_no_text_are_said() {
        let all = lines(Some(&files(&[("a", b"\xff")])), &files(&[("a", b"\xfe")]));
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(lines(None, &files(&[("a", b"")])).len() == 3);
    }
}
