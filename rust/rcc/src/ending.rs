//! What a person at a terminal is told when a session has ended: two lines at most.

use rcc_proto::Summary;
use rcc_report::escaped;
use std::io::{IsTerminal, stderr};

/// Names in each line; the agent chose them.
const NAMES: usize = 3;
/// Letters of each.
const LETTERS: usize = 60;

/// Says it, unless nobody is there to read it.
pub fn say(summary: &Summary) {
    if stderr().is_terminal() {
        for line in lines(summary) {
            eprintln!("rcc: {line}");
        }
    }
}

/// The lines: what was reached, what was denied. What a person may allow comes first, and with the command.
fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    let reached = summary.reached.iter().map(|r| format!("{} ({})", cut(&r.host), size(r.up + r.down))).collect();
    if let Some(list) = list(reached, summary.more_reached) {
        lines.push(format!("reached {list}"));
    }
    let (grantable, never): (Vec<_>, Vec<_>) = summary.denied.iter().partition(|d| d.grant.is_some());
    let hosts = grantable.iter().chain(&never).map(|d| cut(&d.host)).collect();
    if let Some(list) = list(hosts, summary.more_denied) {
        // The gateway offers names alone, in the notation of endpoints; what is not of that kind is left out.
        let plain = |g: &&String| g.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        let grant = grantable.iter().filter_map(|d| d.grant.as_ref()).find(|g| plain(g) && g.len() <= 100);
        let hint = grant.map(|g| format!("; to allow one: rcc allow {g}")).unwrap_or_default();
        lines.push(format!("denied {list}{hint}"));
    }
    lines
}

fn list(all: Vec<String>, more: u64) -> Option<String> {
    let more = more + all.len().saturating_sub(NAMES) as u64;
    let shown: Vec<String> = all.into_iter().take(NAMES).collect();
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

fn cut(name: &str) -> String {
    let short: String = name.chars().take(LETTERS).collect();
    escaped(&if short.len() < name.len() { format!("{short}…") } else { short })
}

/// Bytes, for people.
pub fn size(bytes: u64) -> String {
    let steps: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match steps.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_proto::{Denied, Reached};

    #[test]
    fn two_lines_at_most_whatever_the_agent_did() {
        assert!(lines(&Summary::default()).is_empty());
        let denied = |host: &str, grant: Option<&str>| Denied { host: host.into(), grant: grant.map(Into::into) };
        let summary = Summary {
            reached: vec![
                Reached { host: "a.example.org".into(), up: 1_000, down: 1_234_567 },
                Reached { host: "b.example.org".into(), up: 12, down: 0 },
            ],
            more_reached: 0,
            denied: vec![
                denied("\u{1b}]0;x\u{7}", None),
                denied("c.example.org", Some("c.example.org:22")),
                denied(&"x".repeat(200), None),
                denied("d", Some("$(id)")),
            ],
            more_denied: 4,
        };
        assert_eq!(
            lines(&summary),
            [
                "reached a.example.org (1.2 MB), b.example.org (12 B)",
                "denied c.example.org, d, \\u{1b}]0;x\\u{7} and 5 more; to allow one: rcc allow c.example.org:22",
            ]
        );
    }
}
