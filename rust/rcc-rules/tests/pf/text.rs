//! As text: golden, and with what every rule must have.

use crate::{full, ruleset};
use proptest::prelude::*;
use rcc_packets::{FULL, facts, mac, policy};
use rcc_proto::macos::FORWARD_PORT;
use rcc_rules::pf::{Line, Mac, Ruleset, Services, fingerprint_of, lines};

#[test]
fn golden() {
    insta::assert_snapshot!("full", full());
    insta::assert_snapshot!("nothing", ruleset("resolvers = [\"9.9.9.9\", \"tls://9.9.9.9\"]\n"));
    insta::assert_snapshot!(
        "proxy",
        ruleset("allow = [\"a.example:443\"]\nupstream_proxy = \"http://10.0.0.3:3128\"\n")
    );
}

#[test]
fn every_rule_decides_at_once_of_an_owner_and_never_of_fragments() {
    for rule in full().rules {
        let owned = rule.owner.is_some() || rule.to.ports == Some((FORWARD_PORT, FORWARD_PORT));
        assert!(rule.quick && !rule.state && owned && rule.direction.is_some(), "{rule}");
        assert!(rule.protocol.is_some() && rule.from.ports.or(rule.to.ports).is_some(), "{rule}");
        let label = rule.label.as_deref().unwrap();
        assert!(label.len() < 64 && label.is_ascii() && !label.contains(['"', '$', '\\']), "{rule}");
        assert_eq!(fingerprint_of(&rule), Some(full().fingerprint));
    }
}

#[test]
fn what_is_written_is_read_again() {
    let services = Services::default();
    let wanted: Vec<Line> = full().rules.into_iter().map(Line::Rule).collect();
    assert_eq!(lines(&full().to_string(), &services), wanted);
}

#[test]
fn pfctls_own_ways_of_writing_are_read() {
    let services = Services::parse("# a comment\nhttps 443/tcp # x\nhttps 443/udp\ndomain 53/udp\nnothing\n");
    let one = |text: &str| lines(text, &services).remove(0);
    let plain = one("pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 no state label \"x y\"");
    assert!(matches!(&plain, Line::Rule(rule) if rule.label.as_deref() == Some("x y") && !rule.state));
    for other in [
        "pass out quick inet proto 6 from any to 10.0.0.1/32 port = https user = 5 flags any no state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 label \"x y\"",
    ] {
        assert_eq!(one(other), plain);
    }
    for other in [
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 keep state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 flags S/SA no state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 444 user = 5 no state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = domain user = 5 no state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user != 5 no state label \"x y\"",
        "pass out quick inet proto tcp from any to ! 10.0.0.1 port = 443 user = 5 no state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 no state tag z label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 no state label \"x y\" probability 50%",
        "pass out log quick inet proto tcp from any to 10.0.0.1 port = 443 user = 5 no state label \"x y\"",
        "pass out quick route-to (en1 10.0.0.2) inet proto tcp from any to 10.0.0.1 port = 443 user = 5 no state label \"x y\"",
        "pass out inet proto tcp from any to 10.0.0.1 port = 443 user = 5 no state label \"x y\"",
        "pass out quick inet proto tcp from any to 10.0.0.1 port = 443 no state label \"x y\"",
    ] {
        assert_ne!(one(other), plain, "{other}");
    }
}

/// An address that is written with the length of its link's prefix; and those of links, which change all the time.
#[test]
fn a_macs_addresses_are_said_as_pfctl_shows_them() {
    let policy = policy(FULL);
    let with = |more: &[&str]| {
        let own = mac().own.into_iter().chain(more.iter().map(|net| net.parse().unwrap())).collect();
        Ruleset::new(&policy.egress(), policy.fingerprint(), &facts(), &Mac { own, ..mac() })
    };
    let rules = with(&["11.7.7.7/24"]);
    assert!(rules.to_string().contains("to 11.7.7.0/24 port 0:65535"));
    let wanted: Vec<Line> = rules.rules.into_iter().map(Line::Rule).collect();
    let text = wanted.iter().map(|line| if let Line::Rule(rule) = line { rule.to_string() } else { String::new() });
    assert_eq!(lines(&text.collect::<Vec<_>>().join("\n"), &Services::default()), wanted);
    assert_eq!(with(&["fe80::1:2/128"]), full());
}

proptest! {
    #[test]
    fn no_listing_makes_it_panic(text in "(pass|block|in|out|on|from|to|port|=|any|1|::/0|\"|label|flags|S/SA|user| |\n|[ -~]){0,60}") {
        for line in lines(&text, &Services::parse(&text)) {
            if let Line::Rule(rule) = line {
                prop_assert_eq!(lines(&rule.to_string(), &Services::default()), [Line::Rule(rule)]);
            }
        }
    }
}
