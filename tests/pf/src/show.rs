//! What pfctl prints, by OpenBSD's `print_rule`, from which Apple's comes.

use crate::kernel::{FILTER, Kernel, bytes};
use crate::layout::{Addr, Rule};
use std::fmt::Write as _;

/// An anchor's filter rules, as `-s rules` prints them.
#[must_use]
pub fn rules(kernel: &Kernel, anchor: &str) -> Option<String> {
    if anchor.is_empty() {
        return Some(each(&kernel.main));
    }
    if let Some(text) = kernel.others.get(anchor) {
        return Some(text.clone());
    }
    let filter = kernel.anchors.get(anchor)?.get(&FILTER);
    Some(filter.into_iter().flatten().map(|hex| rule(Rule(&bytes(hex)))).collect())
}

/// Each on a line.
#[must_use]
pub fn each(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The anchors directly below another, as `-s Anchors` prints them.
#[must_use]
pub fn below(kernel: &Kernel, anchor: &str) -> String {
    let names = kernel.anchors.keys().chain(kernel.others.keys());
    let child = |name: &&String| {
        let rest = name.strip_prefix(anchor).and_then(|n| n.strip_prefix('/'));
        rest.is_some_and(|rest| !rest.contains('/'))
    };
    let mut all: Vec<_> = names.filter(child).collect();
    all.sort();
    all.into_iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "  {name}");
        text
    })
}

/// A rule as pfctl prints it.
fn rule(rule: Rule<'_>) -> String {
    assert_eq!(rule.unread(), [0_usize; 0], "bytes that nobody reads");
    let mut text = match (rule.action(), rule.rule_flag()) {
        (0, 0) => "pass".to_owned(),
        (1, 0) => "block drop".to_owned(),
        (1, 8) => "block return".to_owned(),
        other => panic!("another action: {other:?}"),
    };
    text += ["", " in", " out"][usize::from(rule.direction())];
    if rule.quick() {
        text += " quick";
    }
    if !rule.ifname().is_empty() {
        let _ = write!(text, " on {}", rule.ifname());
    }
    text += match rule.af() {
        0 => "",
        2 => " inet",
        30 => " inet6",
        other => panic!("another family: {other}"),
    };
    text += match rule.proto() {
        0 => "",
        6 => " proto tcp",
        17 => " proto udp",
        other => panic!("another protocol: {other}"),
    };
    let end = |end: Addr<'_>| {
        let mut text = end.address(rule.af());
        match end.ports() {
            (0, 0, 0) => {}
            (2, port, 0) => drop(write!(text, " port = {port}")),
            (9, first, last) => drop(write!(text, " port {first}:{last}")),
            other => panic!("other ports: {other:?}"),
        }
        text
    };
    let (from, to) = (end(rule.src()), end(rule.dst()));
    let _ = if (from.as_str(), to.as_str()) == ("any", "any") {
        write!(text, " all")
    } else {
        write!(text, " from {from} to {to}")
    };
    for (word, (op, id)) in [("user", rule.uid()), ("group", rule.gid())] {
        match op {
            0 => assert_eq!(id, 0),
            2 => drop(write!(text, " {word} = {id}")),
            other => panic!("another operator: {other}"),
        }
    }
    let letters = |bits: u8| {
        "FSRPAUEW".chars().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, c)| c).collect::<String>()
    };
    match rule.flags() {
        (0, 0) => {}
        (set, of) => drop(write!(text, " flags {}/{}", letters(set), letters(of))),
    }
    match (rule.action(), rule.keep_state()) {
        (0, 0) => text += " no state",
        (1, 0) => {}
        other => panic!("a state: {other:?}"),
    }
    let _ = writeln!(text, " label \"{}\"", rule.label());
    text
}
