//! What pfctl shows, judged.

use crate::{full, ruleset};
use rcc_packets::{FULL, facts, mac};
use rcc_rules::Found;
use rcc_rules::pf::{
    Direction, Hook, Ruleset, Seen, Services, Transport, denied, may_come_before, states, translating,
};

const MAIN: &str = "scrub-anchor \"com.apple/*\" all fragment reassemble\nanchor \"com.apple/*\" all\n";

/// A Mac on which the rules are in force.
fn good(rules: &Ruleset) -> Seen {
    Seen {
        rules: rules.to_string(),
        main: MAIN.to_owned(),
        info: "Status: Enabled for 0 days 00:01:02           Debug: Urgent\n\nState Table\n".to_owned(),
        interfaces: "ALL\nen0\nlo0\n\tCleared:     Tue\n".to_owned(),
        referenced: true,
        services: Services::default(),
        ..Seen::default()
    }
}

#[test]
fn in_force_is_only_what_is_whole() {
    let wanted = full();
    let good = good(&wanted);
    assert_eq!(good.judge(&wanted), Found::InForce);
    assert!(good.held(&wanted));
    let changed = |change: fn(&mut Seen)| {
        let mut seen = good.clone();
        change(&mut seen);
        match seen.judge(&wanted) {
            Found::Drifted(differences) => differences[0].place.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(changed(|s| s.info = "Status: Disabled\n".to_owned()), "pf");
    assert_eq!(changed(|s| s.info.clear()), "pf");
    assert_eq!(changed(|s| s.referenced = false), "pf");
    assert_eq!(changed(|s| s.main.clear()), "main rules");
    assert_eq!(changed(|s| s.interfaces.push_str("lo0 (skip)\n")), "interface lo0");
    assert_eq!(
        changed(|s| s.translations.push_str("rdr on lo0 all -> 10.0.0.1\n")),
        "translations of com.apple/000.rcc"
    );
    assert_eq!(changed(|s| s.below.push_str("  com.apple/000.rcc/x\n")), "anchors of com.apple/000.rcc");
    assert_eq!(changed(|s| s.rules.insert_str(0, "pass quick all flags any\n")), "rule 1 of com.apple/000.rcc");
    assert_eq!(changed(|s| s.rules = s.rules.replacen("block return", "pass", 1)), "rule 2 of com.apple/000.rcc");
    assert!(
        !Seen { main: String::new(), ..good.clone() }.held(&wanted)
            && !Seen { rules: String::new(), ..good.clone() }.held(&wanted)
    );
    assert_eq!(changed(|s| s.rules = ruleset("").to_string()), "rule 1 of com.apple/000.rcc");
    assert_eq!(changed(|s| s.rules = full().unproven().to_string()), "rule 117 of com.apple/000.rcc");
}

#[test]
fn every_line_that_is_lost_doubled_or_changed_is_a_difference() {
    let wanted = full();
    let good = good(&wanted);
    let lines: Vec<&str> = good.rules.lines().collect();
    // Each kind, and the walls.
    for at in (0..lines.len()).filter(|at| at % 7 == 0 || *at < 12 || at + 10 > lines.len()) {
        let with = |line: &str| {
            let mut lines = lines.clone();
            lines[at] = line;
            Seen { rules: lines.join("\n"), ..good.clone() }.judge(&wanted)
        };
        assert_eq!(with(lines[at]), Found::InForce);
        let doubled = format!("{0}\n{0}", lines[at]);
        let other = if lines[at].starts_with("pass") { "block return" } else { "pass" };
        let turned =
            lines[at].replacen("block return", other, 1).replacen("block drop", other, 1).replacen("pass", other, 1);
        for line in ["", &doubled, &turned, &format!("{} tag x", lines[at]), &lines[at].replace(" quick", "")] {
            assert!(matches!(with(line), Found::Drifted(_)), "{line}");
        }
    }
}

#[test]
fn absent_and_foreign_anchors() {
    let wanted = full();
    let with = |rules: &str, below: &str| {
        Seen { rules: rules.to_owned(), below: below.to_owned(), ..good(&wanted) }.judge(&wanted)
    };
    assert_eq!(with("", ""), Found::Absent);
    assert_eq!(with("pass quick all flags any\n", ""), Found::Foreign);
    assert_eq!(with("", "  com.apple/000.rcc/x\n"), Found::Foreign);
    assert_eq!(with("block drop quick all label \"rcc is not this\"\n", ""), Found::Foreign);
}

#[test]
fn what_comes_before_the_anchor_is_judged() {
    let hook = |main: &str, before: &[(&str, &str)]| {
        let before = before.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Seen { main: main.to_owned(), before, ..Seen::default() }.hook()
    };
    let behind = |hook: Hook| matches!(hook, Hook::Behind(_));
    assert_eq!(hook(MAIN, &[]), Hook::First);
    assert_eq!(hook("anchor \"com.apple/000.rcc\" all\n", &[]), Hook::First);
    assert_eq!(
        hook("pass all flags any keep state\nblock drop quick on en0 all\nanchor \"com.apple/*\" all\n", &[]),
        Hook::First
    );
    assert_eq!(hook("anchor \"com.apple/*\" all\npass quick all flags any\nset nonsense\n", &[]), Hook::First);
    for missing in ["", "anchor \"other\" all\n", "anchor \"com.apple\" all\n", "scrub-anchor \"com.apple/*\" all\n"] {
        assert_eq!(hook(missing, &[("other", ""), ("com.apple", "")]), Hook::Missing, "{missing}");
    }
    for call in
        ["anchor \"com.apple/*\" in all", "anchor \"com.apple/*\" on en0 all", "anchor \"com.apple/*\" inet all"]
    {
        assert!(behind(hook(call, &[])), "{call}");
    }
    assert!(behind(hook(&format!("pass out quick on utun4 all flags any keep state\n{MAIN}"), &[])));
    assert!(behind(hook(&format!("pass quick on ! lo0 all flags any\n{MAIN}"), &[])));
    let vpn = format!("anchor \"vpn\" all\n{MAIN}");
    assert!(behind(hook(&vpn, &[])), "nobody has looked at it");
    assert_eq!(hook(&vpn, &[("vpn", "")]), Hook::First);
    assert_eq!(
        hook(&vpn, &[("vpn", "scrub all fragment reassemble\npass all flags any\nblock drop quick all\n")]),
        Hook::First
    );
    for opener in [
        "pass quick on utun4 all flags any keep state",
        "anchor \"more\" all",
        "pass out quick route-to (utun4 any) all",
    ] {
        assert!(behind(hook(&vpn, &[("vpn", opener)])), "{opener}");
        assert!(behind(hook(MAIN, &[("com.apple/000.a", opener)])), "{opener}");
    }
    // Of two by the same call, the later one.
    assert_eq!(hook(MAIN, &[("com.apple/200.AirDrop", "pass quick on awdl0 all flags any")]), Hook::First);
}

#[test]
fn translations_that_come_before_the_rules_are_drift() {
    let wanted = full();
    let with = |all: &[(&str, &str)]| {
        let translating = all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        match (Seen { translating, ..good(&wanted) }).judge(&wanted) {
            Found::InForce => None,
            Found::Drifted(all) => Some(all[0].place.clone()),
            other => panic!("{other:?}"),
        }
    };
    let stock = "nat-anchor \"com.apple/*\" all\nrdr-anchor \"com.apple/*\" all\n";
    let harmless = "no nat on bridge100 inet from 192.168.64.1 to 192.168.64.0/24\n\
        rdr on bridge100 inet proto tcp from 192.168.2.0/24 to any port = 21 -> 127.0.0.1 port 8021\n";
    assert_eq!(with(&[("", stock), ("com.apple/a", harmless)]), None);
    assert_eq!(with(&[("", "rdr-anchor \"vpn\" all\n"), ("vpn", "")]), None);
    for line in [
        "nat on en0 inet from 192.168.64.0/24 to any -> (en0:0) extfilter ei",
        "nat pass on en0 all -> 10.0.0.1",
        "binat on en0 inet from 192.168.64.2 to any -> 10.0.0.1",
        "rdr pass on en0 inet proto tcp from any to any port = 80 -> 127.0.0.1 port 8080",
        "rdr on lo0 inet proto tcp all -> 127.0.0.1 port 3128",
        "rdr on lo inet proto tcp all -> 127.0.0.1 port 3128",
        "rdr on ! en0 inet proto tcp all -> 127.0.0.1 port 3128",
        "rdr inet proto tcp all -> 127.0.0.1 port 3128",
        "rdr-anchor \"nobody-looked\" all",
        "nonsense",
    ] {
        assert_eq!(with(&[("", line)]).as_deref(), Some("translation rules"), "{line}");
        assert_eq!(with(&[("", stock), ("com.apple/a", line)]).as_deref(), Some("translation rules"), "{line}");
    }
    assert_eq!(with(&[("", "rdr-anchor \"*\" all")]).as_deref(), Some("translation rules"));
    let calls = "nat-anchor \"a\" all\nrdr-anchor \"/b\" all\nbinat-anchor \"c/*\" all\nrdr-anchor \"../d\" all\nrdr-anchor \"*\" all\n";
    assert_eq!(translating("", calls), ["a", "b", "c/*"]);
    assert_eq!(translating("x/y", calls), ["x/y/a", "b", "x/y/c/*", "x/y/*"]);
}

#[test]
fn which_anchors_must_be_looked_at() {
    let children = "  com.apple/000.a\n  com.apple/000.rcc\n  com.apple/200.AirDrop\n";
    let main = format!("anchor \"vpn\" all\n{MAIN}anchor \"later\" all\n");
    assert_eq!(may_come_before(&main, children), ["vpn", "com.apple/000.a"]);
    assert_eq!(may_come_before(MAIN, "  000.a\n  000.rcc\n  200.AirDrop\n"), ["com.apple/000.a"]);
}

const STATES: &str = "ALL tcp 192.168.77.50:50001 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED
ALL tcp 192.168.77.50:50002 -> 11.0.0.1:443       ESTABLISHED:ESTABLISHED
ALL tcp 127.0.0.1:50003 -> 127.0.0.1:47081       ESTABLISHED:ESTABLISHED
en0 udp 192.168.77.50:500 <- 192.168.77.9:4500       SINGLE:MULTIPLE
ALL tcp 2600:77::50[50004] -> 2600:77::20[443]       ESTABLISHED:ESTABLISHED
ALL tcp 192.168.64.2:1 -> 192.168.77.50:2 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED
ALL tcp 192.168.64.3:1 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED
ALL icmp 192.168.77.50:3 -> 10.0.0.1:3       0:0
nonsense
";

#[test]
fn states_that_a_policy_denies_are_found() {
    let all = states(STATES);
    assert_eq!(all.len(), 6, "translated ones, other protocols and nonsense are none");
    assert_eq!((all[3].direction, all[3].protocol), (Direction::In, Transport::Udp));
    let of = |held| {
        let denied = denied(&all, &full(), &facts(), &mac(), held);
        denied.iter().map(|state| state.remote.to_string()).collect::<Vec<_>>()
    };
    let gateway = ["10.0.0.1:443", "127.0.0.1:47081", "192.168.77.9:4500", "[2600:77::20]:443"];
    assert_eq!(of(true), gateway);
    // The machine, not held until now, could have had more; none of both may have it all.
    assert_eq!(
        of(false),
        ["10.0.0.1:443", "11.0.0.1:443", "127.0.0.1:47081", "192.168.77.9:4500", "[2600:77::20]:443"]
    );
    assert!(FULL.contains("443"));
}
