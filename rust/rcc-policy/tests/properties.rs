//! Properties that hold for every policy, drawn at random.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rcc_policy::{
    Check, Decision, DenyReason, Endpoint, HostName, IpNet, Policy, Target, address, parse, parse_project,
};
use std::net::IpAddr;

/// Entries that are good in `allow`, close enough to each other to meet.
const ALLOW: &[&str] = &[
    "a.example.org:443",
    "A.example.org.:443",
    "a.example.org:443/raw",
    "a.example.org:22,443",
    "*.example.org:443",
    "*.a.example.org:443,80",
    "b.example.org:80",
    "*.b.example.net:22/raw",
    "1.1.1.0/24:443",
    "1.1.1.1:443",
    "[2606:4700::/32]:443",
    "@codeberg",
    "@nix",
    "@git",
];
const DENY: &[&str] = &[
    "b.example.org",
    "x.a.example.org:443",
    "*.a.example.org:80",
    "*:25",
    "1.1.1.7",
    "[2606:4700::7]:443",
    "evil.example.com",
    "*.evil.example.com",
];
const NAMES: &[&str] = &[
    "a.example.org",
    "b.example.org",
    "example.org",
    "x.a.example.org",
    "y.x.a.example.org",
    "c.b.example.net",
    "evil.example.com",
    "codeberg.org",
    "unlisted.example.com",
];
const ADDRESSES: &[&str] =
    &["1.1.1.1", "1.1.1.7", "1.1.2.1", "10.0.0.1", "2606:4700::7", "2606:4700::8", "::1", "::ffff:1.1.1.7"];

fn quoted(list: &[&str]) -> String {
    format!("[{}]", list.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>().join(", "))
}

fn policy(allow: &[&str], may_allow: &[&str], deny: &[&str]) -> String {
    format!("allow = {}\nmay_allow = {}\ndeny = {}\n", quoted(allow), quoted(may_allow), quoted(deny))
}

fn good(text: &str) -> Option<Policy> {
    parse(text, "p").ok()
}

/// The IPv4 address in the last 32 bits.
fn low(bits: u128) -> IpAddr {
    u32::try_from(bits & 0xffff_ffff).unwrap().to_be_bytes().into()
}

/// Text that looks like a policy more often than chance would.
fn policy_like() -> impl Strategy<Value = String> {
    let token = select(vec![
        "allow",
        "deny",
        "may_allow",
        "private",
        "users",
        "resolvers",
        "limits",
        "memory",
        "credentials",
        "anthropic",
        "protect",
        "read_only",
        "upstream_proxy",
        "url",
        "fake_ip",
        "ca_bundle",
        " = ",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        ".",
        ":",
        "/",
        "*",
        "*.",
        "@",
        "@git",
        "via",
        " ",
        "443",
        "0x7f",
        "::",
        "[::1]",
        "10.0.0.0/8",
        "example.org",
        "tls://",
        "http://",
        "#",
        "%",
        "-1",
        "1e9",
        "99999999999999999999",
        "é",
        "\u{202e}",
        "\0",
        "\r",
    ]);
    let texts = prop_oneof![3 => token.prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    vec(texts, 0..60).prop_map(|parts| parts.concat())
}

/// A whole document whose values, not whose notation, are arbitrary.
fn document() -> impl Strategy<Value = String> {
    let key = select(vec!["allow", "may_allow", "deny", "private", "users", "resolvers", "fake_ip"]);
    (key, vec("[a-z0-9.:/*@\\[\\] ]{0,24}|\\PC{0,12}", 0..6)).prop_map(|(key, values)| {
        let values: Vec<String> = values.iter().map(|v| serde_json::to_string(v).unwrap()).collect();
        format!("{key} = [{}]\n", values.join(", "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics(text in prop_oneof![policy_like(), document(), any::<String>()]) {
        for problem in parse(&text, "p").err().into_iter().flatten() {
            prop_assert!(!problem.remedy.is_empty() && !problem.what.is_empty());
        }
        let _ = parse_project(&text, "r");
        let _ = HostName::parse(&text);
    }

    #[test]
    fn grants_never_panic_and_never_widen_ports(text in "[a-z0-9.:/*@\\[\\]]{0,30}|\\PC{0,20}") {
        let policy = good("may_allow = [\"*:443\", \"*:22\"]").unwrap();
        if let Ok(resolved) = policy.resolve(&[text]) {
            for endpoint in resolved.allow {
                prop_assert!(policy.public_ports().contains(&endpoint.port.unwrap()));
                prop_assert!(endpoint.effective_check() != Check::Raw);
            }
        }
    }

    #[test]
    fn a_host_name_is_never_an_address(text in "[0-9a-fx.]{1,20}|[a-zA-Z0-9._-]{1,40}") {
        if let Ok(name) = HostName::parse(&text) {
            prop_assert!(name.as_str().parse::<IpAddr>().is_err());
            prop_assert_eq!(HostName::parse(name.as_str()).unwrap(), name.clone());
            let last = name.as_str().rsplit('.').next().unwrap();
            prop_assert!(last.bytes().any(|b| !b.is_ascii_digit()));
        }
    }

    #[test]
    fn denial_wins_and_silence_denies(
        allow in subsequence(ALLOW.to_vec(), 0..=ALLOW.len()),
        deny in subsequence(DENY.to_vec(), 0..=DENY.len()),
        name in select(NAMES.to_vec()),
        ip in select(ADDRESSES.to_vec()),
        port in select(vec![22u16, 25, 80, 443, 8080]),
    ) {
        // A policy in conflict does not exist; the property is of those that do.
        let Some(policy) = good(&policy(&allow, &[], &deny)) else { return Ok(()) };
        let with = policy.resolve(&[]).unwrap();
        let open = good(&format!("allow = {}", quoted(&allow))).unwrap().resolve(&[]).unwrap();
        let name = HostName::parse(name).unwrap();
        for target in [Target::Name(&name), Target::Address(ip.parse().unwrap())] {
            let named = with.deny.iter().any(|d| {
                (d.port.is_none() || d.port == Some(port)) && match target {
                    Target::Name(name) => d.host.names(name),
                    Target::Address(ip) => d.host.holds(ip.to_canonical()) || d.host.to_string() == "*",
                }
            });
            match with.decide(target, port) {
                Decision::Deny { reason: DenyReason::Denied, .. } => prop_assert!(named),
                other => {
                    prop_assert!(!named);
                    // What isn't denied is as it is without the denials.
                    prop_assert_eq!(other, open.decide(target, port));
                }
            }
            if allow.is_empty() {
                prop_assert!(!with.decide(target, port).is_allowed());
            }
        }
        let some_port = [22, 25, 80, 443, 8080].into_iter().any(|p| with.decide(Target::Name(&name), p).is_allowed());
        prop_assert_eq!(with.knows(&name), some_port);
        let ip: IpAddr = ip.parse().unwrap();
        if with.decide(Target::Address(ip), port).is_allowed() {
            prop_assert!(with.ranges().iter().any(|r| r.contains(&ip.to_canonical())), "no route for what is allowed");
        }
    }

    #[test]
    fn the_fingerprint_knows_meaning_only(
        allow in subsequence(ALLOW.to_vec(), 0..=ALLOW.len()).prop_shuffle(),
        shuffled in Just(ALLOW.to_vec()).prop_shuffle(),
        extra in select(ALLOW.to_vec()),
    ) {
        let print = |list: &[&str]| good(&policy(list, &["*:443"], &["*:25"])).unwrap().fingerprint();
        let again: Vec<&str> = shuffled.iter().filter(|e| allow.contains(e)).copied().collect();
        prop_assert_eq!(print(&allow), print(&again));
        let doubled: Vec<&str> = allow.iter().chain(&allow).copied().collect();
        prop_assert_eq!(print(&allow), print(&doubled));
        let more: Vec<&str> = allow.iter().copied().chain([extra]).collect();
        let meaning = |list: &[&str]| {
            let resolved = good(&policy(list, &["*:443"], &["*:25"])).unwrap().resolve(&[]).unwrap();
            resolved.allow.into_iter().map(|e| (e.host.clone(), e.port, e.effective_check())).collect::<Vec<_>>()
        };
        prop_assert_eq!(print(&allow) == print(&more), meaning(&allow) == meaning(&more));
    }

    #[test]
    fn what_is_shown_reads_as_what_was_meant(allow in subsequence(ALLOW.to_vec(), 0..=ALLOW.len())) {
        let first = good(&policy(&allow, &[], &[])).unwrap();
        let shown: Vec<String> = first.resolve(&[]).unwrap().allow.iter().map(Endpoint::to_string).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        prop_assert_eq!(good(&policy(&shown, &[], &[])).unwrap(), first);
    }

    #[test]
    fn a_public_range_holds_public_addresses_only(bits in any::<u128>(), prefix in 0u8..=128, v4 in any::<bool>(), host in any::<u128>()) {
        let (ip, prefix, host): (IpAddr, u8, IpAddr) = if v4 {
            (low(bits), prefix % 33, low(host))
        } else {
            (IpAddr::from((bits >> 3 | 1 << 125).to_be_bytes()), prefix, IpAddr::from(host.to_be_bytes()))
        };
        let net = IpNet::new(ip, prefix).unwrap().trunc();
        if address::public_range(&net).is_ok() {
            let inside = match (net.network(), net.hostmask(), host) {
                (IpAddr::V4(n), IpAddr::V4(m), IpAddr::V4(h)) => IpAddr::V4((n.to_bits() | (m.to_bits() & h.to_bits())).into()),
                (IpAddr::V6(n), IpAddr::V6(m), IpAddr::V6(h)) => IpAddr::V6((n.to_bits() | (m.to_bits() & h.to_bits())).into()),
                _ => unreachable!(),
            };
            prop_assert!(address::public(inside, &[]).is_ok(), "{inside} of {net}");
        } else if prefix == net.max_prefix_len() {
            // For single addresses both agree, 6to4 apart.
            let six_to_four = matches!(ip, IpAddr::V6(ip) if address::SIX_TO_FOUR.contains(&ip));
            prop_assert!(six_to_four || address::public(ip, &[]).is_err());
        }
    }
}

#[test]
fn depth_and_size_do_not_matter() {
    for text in [
        "[".repeat(100_000),
        "a=".to_owned() + &"[".repeat(100_000),
        "a.".repeat(100_000),
        "a={".repeat(50_000),
        "x".repeat(1 << 21),
    ] {
        assert!(parse(&text, "p").is_err());
    }
}

#[test]
fn sets_are_expanded_in_the_fingerprint() {
    let one = good("allow = [\"@codeberg\"]").unwrap();
    let other = good("# the same\nallow = ['codeberg.org:443', \"codeberg.org:22\"]").unwrap();
    assert_eq!(one.fingerprint(), other.fingerprint());
    assert_eq!(one.fingerprint().to_string().len(), 16);
    // Nothing that could be taken for another policy's by moving text between values.
    let a = good("users = [\"a\", \"b\"]").unwrap();
    let b = good("users = [\"a\"]\nallow=[]").unwrap();
    assert_ne!(a.fingerprint(), b.fingerprint());
}

#[test]
fn every_value_counts_in_the_fingerprint() {
    let texts = [
        "",
        "allow = [\"a.example:1\"]",
        "may_allow = [\"a.example:1\"]",
        "deny = [\"a.example:1\"]",
        "private = [\"a.example:1 via 10.0.0.0/8\"]",
        "users = [\"a\"]",
        "users = [\"@a\"]",
        "resolvers = [\"9.9.9.9\", \"8.8.8.8\"]",
        "resolvers = [\"8.8.8.8\", \"9.9.9.9\"]",
        "upstream_proxy = \"http://p.example:1\"",
        "upstream_proxy = { url = \"http://p.example:1\", via = \"10.0.0.0/8\" }",
        "upstream_proxy = { url = \"http://p.example:1\", credentials_file = \"/x\" }",
        "ca_bundle = \"/x\"",
        "fake_ip = \"198.18.0.0/15\"",
        "[credentials.anthropic]",
        "[credentials.anthropic]\nkey_file = \"/x\"",
        "[credentials.anthropic]\nupstream = \"x.example.org:443\"",
        "[credentials.anthropic]\nupstream = \"x.example.org:443 via 10.0.0.0/8\"",
        "[limits]\nmemory = \"50%\"",
        "[limits]\npids = 100",
        "[limits]\ncpus = 1",
        "[limits]\ncore = \"1K\"",
        "[limits]\nsessions = 1",
        "[limits]\nconnections = 1",
        "[limits]\nnames = 1",
        "[limits]\nunenforceable = \"warn\"",
        "[protect]\nread_only = []",
    ];
    let mut prints: Vec<String> = texts.iter().map(|t| parse(t, "p").unwrap().fingerprint().to_string()).collect();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), texts.len());
}

#[test]
fn who_may_open_sessions() {
    let resolved = good("users = [\"alice\", \"@devs\", \"1001\"]").unwrap().resolve(&[]).unwrap();
    let devs = ["devs".to_owned()];
    assert!(resolved.may_open("alice", 1000, &[]));
    assert!(resolved.may_open("bob", 1002, &devs));
    assert!(resolved.may_open("carol", 1001, &[]));
    assert!(!resolved.may_open("bob", 1002, &["alice".to_owned()]));
    assert!(!resolved.may_open("devs", 1002, &[]));
    assert!(!resolved.may_open("@devs", 1002, &[]));
    assert!(!resolved.may_open("alice", 0, &devs), "root never");
    let nobody = good("").unwrap().resolve(&[]).unwrap();
    assert!(!nobody.may_open("alice", 1000, &devs));
}

#[test]
fn the_address_of_an_allowed_name_is_judged_too() {
    let text = "allow = [\"a.example.org:443\"]\nprivate = [\"git.corp.example:443 via 10.20.0.0/16\"]\ndeny = [\"9.9.9.0/24\"]\nfake_ip = \"198.18.0.0/15\"";
    let resolved = good(text).unwrap().resolve(&[]).unwrap();
    let may = |ip: &str| resolved.may_connect(None, ip.parse().unwrap(), 443, &[]).map_err(|(reason, _)| reason);
    assert_eq!(may("1.1.1.1"), Ok(()));
    assert_eq!(may("198.18.3.4"), Ok(()));
    assert_eq!(may("::ffff:1.1.1.1"), Ok(()));
    for ip in ["127.0.0.1", "10.20.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "fd00::1"] {
        assert_eq!(may(ip), Err(DenyReason::NotPublic), "{ip}");
    }
    for ip in ["9.9.9.9", "::ffff:9.9.9.9", "64:ff9b::909:909", "2002:909:909::1"] {
        assert_eq!(may(ip), Err(DenyReason::Denied), "{ip}");
    }
    let git = HostName::parse("git.corp.example").unwrap();
    let Decision::Allow { private: Some(ranges), .. } = resolved.decide(Target::Name(&git), 443) else {
        panic!("denied")
    };
    let may =
        |ip: &str| resolved.may_connect(Some(&ranges), ip.parse().unwrap(), 443, &[]).map_err(|(reason, _)| reason);
    assert_eq!(may("10.20.3.4"), Ok(()));
    assert_eq!(may("::ffff:10.20.3.4"), Ok(()));
    for ip in ["10.21.0.1", "1.1.1.1", "127.0.0.1", "198.18.0.7"] {
        assert_eq!(may(ip), Err(DenyReason::OutsideRange), "{ip}");
    }
}

#[test]
fn a_check_can_be_tightened_by_a_grant_but_not_loosened() {
    let policy = good("may_allow = [\"*:443\", \"*:2222\", \"*:5432/raw\"]").unwrap();
    let granted = |text: &str| policy.resolve(&[text.to_owned()]).is_ok();
    assert!(granted("a.example.org:443") && granted("a.example.org:443/tls") && granted("a.example.org:2222/tls"));
    assert!(granted("a.example.org:5432") && granted("a.example.org:5432/raw") && granted("a.example.org:5432/http"));
    assert!(
        !granted("a.example.org:443/raw") && !granted("a.example.org:443/http") && !granted("a.example.org:2222/raw")
    );
}
