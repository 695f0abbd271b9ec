//! The bytes that are handed to /dev/pf.

use crate::{Rig, ruleset, stock};
use rcc_packets::FULL;
use rcc_pf_rig::fault;
use rcc_pf_rig::kernel::{FILTER, bytes};
use rcc_rules::pf::{ANCHOR, Rule};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What makes a rule one of a kind: all but addresses, numbers of ports, and words.
fn kind(rule: &Rule) -> String {
    let place = |place: &rcc_rules::pf::Place| {
        let ports = place.ports.map(|(first, last)| if first == last { "one" } else { "range" });
        (place.net.map(|net| net.prefix_len() == net.max_prefix_len()), ports)
    };
    let what = (rule.action, rule.direction, rule.protocol, rule.owner, rule.flags);
    format!("{what:?} {:?} {:?} {:?} {:?}", rule.interface, rule.family, place(&rule.from), place(&rule.to))
}

/// Rows of sixteen bytes that are not all zero.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, row) in bytes.chunks(16).enumerate().filter(|(_, row)| row.iter().any(|b| *b != 0)) {
        let hex: Vec<String> = row.iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(text, "{:04x}  {}", at * 16, hex.join(" "));
    }
    text
}

#[test]
fn of_every_kind_of_rule_golden() {
    let rig = Rig::new(&stock());
    assert_eq!(rig.does("apply", FULL), "applied");
    let rules = ruleset(FULL).rules;
    let kernel = rig.kernel();
    let sent = &kernel.anchors[ANCHOR][&FILTER];
    assert_eq!(sent.len(), rules.len());
    let (mut kinds, mut text) = (BTreeSet::new(), String::new());
    for (rule, hex) in rules.iter().zip(sent) {
        if kinds.insert(kind(rule)) {
            let _ = writeln!(text, "{rule}\n{}", dump(&bytes(hex)));
        }
    }
    insta::assert_snapshot!(format!("{} kinds\n\n{text}", kinds.len()));
}

/// Which calls an apply makes: one transaction for what denies, one for all.
#[test]
fn the_calls_of_an_apply_golden() {
    let rig = Rig::new(&stock());
    assert_eq!(rig.does("apply", ""), "applied");
    let mut runs: Vec<(String, usize)> = Vec::new();
    for call in fault::calls(rig.folder()) {
        let last = runs.last_mut();
        match last {
            Some((last, count)) if *last == call => *count += 1,
            // Each rule asks for a pool of addresses first.
            Some((last, _)) if last == "DIOCADDRULE" && call == "DIOCBEGINADDRS" => {}
            _ => runs.push((call, 1)),
        }
    }
    let text = runs.iter().fold(String::new(), |text, (call, count)| format!("{text}{call} × {count}\n"));
    insta::assert_snapshot!(text);
}
