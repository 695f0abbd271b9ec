//! pf's decisions, beside those of the nftables table, which are compared with a real kernel by `rcc-firewall`'s tests.

use crate::{full, kernel, ruleset};
use proptest::prelude::*;
use rcc_packets::{GATEWAY, GROUP, addresses, facts, mac, policies, ports};
use rcc_proto::macos::{FORWARD_PORT, SSH_PORT};
use rcc_rules::pf::{Action, Call, Direction, Kernel, Line, Packet, Rule, Ruleset, Translation, Transport};
use rcc_rules::{Protocol, Ruling, Table};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A packet of the gateway's, from a port that means nothing.
fn out(to: (IpAddr, u16), protocol: Transport) -> Packet<'static> {
    let from = if to.0.is_ipv4() { "192.168.77.50".parse().unwrap() } else { "2600:77::50".parse().unwrap() };
    Packet {
        direction: Direction::Out,
        interface: "lo0",
        protocol: Some(protocol),
        from: (from, 50_000),
        to,
        flags: SYN,
        owner: Some((GATEWAY, 20)),
        fragment: false,
    }
}

/// The answer to a packet, at the socket that sent it.
fn back(packet: Packet<'_>) -> Packet<'_> {
    Packet { direction: Direction::In, from: packet.to, to: packet.from, flags: SYN | ACK, ..packet }
}

/// What the routing table of the machine would call unicast.
fn unicast(ip: IpAddr) -> bool {
    let own = ["192.168.77.50", "2600:77::50", "192.168.77.255", "255.255.255.255", "::"];
    !(ip.is_loopback() || ip.is_multicast() || own.iter().any(|own| ip == own.parse::<IpAddr>().unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pf_decides_as_the_table_and_the_policy(
        text in policies(),
        packets in proptest::collection::vec((addresses(), ports(), any::<bool>(), any::<bool>(), any::<u8>()), 200),
    ) {
        let Ok(policy) = rcc_policy::parse(&text, "policy.toml") else {
            return Err(TestCaseError::reject("no policy"));
        };
        let egress = policy.egress();
        let table = Table::new(&egress, policy.fingerprint(), &facts());
        let pf = kernel(&Ruleset::new(&egress, policy.fingerprint(), &facts(), &mac()));
        for (ip, port, tcp, is_gateway, flags) in packets {
            let protocol = if tcp { Transport::Tcp } else { Transport::Udp };
            let user = if is_gateway { GATEWAY } else { GATEWAY + 1 };
            let packet = Packet { flags, owner: Some((user, 20)), ..out((ip, port), protocol) };
            let same = rcc_rules::Packet {
                user,
                to: ip,
                protocol: if tcp { Protocol::Tcp(port) } else { Protocol::Udp(port) },
                unicast: unicast(ip),
            };
            let ruling = table.decide(&same);
            let (goes, by) = pf.decide(&packet);
            prop_assert_eq!(goes, !matches!(ruling, Ruling::Refused(_)), "{} {:?} by {:?}: {:?}\n{}", ip, protocol, by, ruling, text);
            prop_assert_eq!(by.is_none(), ruling == Ruling::NotOurs);
            // What comes from there may come exactly if what is sent there may go; nobody but an own port's caller begins.
            let answer = back(packet);
            let canary = matches!(&ruling, Ruling::Accepted(rule) if rule.comment.starts_with("canary"));
            prop_assert_eq!(pf.decide(&answer).0, goes && !canary, "from {} {:?}\n{}", ip, protocol, text);
            let first = Packet { flags: SYN, ..answer };
            prop_assert_eq!(pf.decide(&first).0, !is_gateway || (!tcp && goes && !canary));
            // Of what is no socket's, or not asked about, nothing is said.
            for strange in [
                Packet { owner: None, ..packet },
                Packet { fragment: true, ..packet },
                Packet { protocol: None, ..packet },
                Packet { owner: None, ..answer },
                Packet { fragment: true, ..answer },
            ] {
                prop_assert_eq!(pf.decide(&strange), (true, None));
            }
        }
    }

    #[test]
    fn the_machine_reaches_the_gateway_and_nothing_else(
        ip in addresses(), port in any::<u16>(), from in any::<u16>(), tcp in any::<bool>(), flags in any::<u8>(), incoming in any::<bool>(),
    ) {
        let pf = kernel(&full());
        let (ip, port, from) = match port % 5 {
            0 => (LOCAL, FORWARD_PORT, from),
            1 => (LOCAL, port, SSH_PORT),
            2 => (LOCAL, SSH_PORT, from),
            _ => (ip, port, from),
        };
        let here = if ip == LOCAL { LOCAL } else { "192.168.77.50".parse().unwrap() };
        let protocol = if tcp { Transport::Tcp } else { Transport::Udp };
        let packet = Packet { from: (here, from), flags, owner: Some((501, GROUP)), ..out((ip, port), protocol) };
        let first = flags & (SYN | ACK) == SYN;
        if incoming {
            let packet = Packet { direction: Direction::In, from: packet.to, to: packet.from, ..packet };
            let ssh = packet.to == (LOCAL, SSH_PORT);
            let answer = packet.from == (LOCAL, FORWARD_PORT) && !first;
            let local = packet.from.0 == LOCAL && packet.to.0 == LOCAL;
            prop_assert_eq!(pf.decide(&packet).0, tcp && local && (ssh || answer), "{:?}", packet);
        } else {
            let gateway = (ip, port) == (LOCAL, FORWARD_PORT);
            let ssh = ip == LOCAL && from == SSH_PORT && !first;
            prop_assert_eq!(pf.decide(&packet).0, tcp && (gateway || ssh), "{:?}", packet);
        }
    }
}

#[test]
fn the_gateway_answers_forwarders_and_dials_nobody_from_there() {
    let pf = kernel(&full());
    let answer = Packet { from: (LOCAL, FORWARD_PORT), flags: SYN | ACK, ..out((LOCAL, 50_000), Transport::Tcp) };
    assert!(pf.decide(&answer).0 && pf.decide(&Packet { flags: 0x04, ..answer }).0);
    assert!(!pf.decide(&Packet { flags: SYN, ..answer }).0, "no connection begins at the listener's port");
    assert!(!pf.decide(&Packet { to: ("192.168.77.1".parse().unwrap(), 80), ..answer }).0);
    assert!(!pf.decide(&Packet { interface: "en0", ..answer }).0);
    let comes =
        Packet { direction: Direction::In, from: (LOCAL, 50_000), to: (LOCAL, FORWARD_PORT), flags: SYN, ..answer };
    assert!(pf.decide(&comes).0 && !pf.decide(&Packet { to: (LOCAL, 8080), ..comes }).0);
    let lan = ("192.168.77.50".parse().unwrap(), FORWARD_PORT);
    assert!(!pf.decide(&Packet { to: lan, from: ("192.168.77.1".parse().unwrap(), 1), interface: "en0", ..comes }).0);
}

#[test]
fn the_gateways_port_is_the_machines_and_the_gateways_alone() {
    let pf = kernel(&full());
    let dials = |owner| Packet { from: (LOCAL, 50_000), owner, ..out((LOCAL, FORWARD_PORT), Transport::Tcp) };
    let comes = |owner| Packet { direction: Direction::In, ..dials(owner) };
    assert!(pf.decide(&dials(Some((501, GROUP)))).0 && pf.decide(&comes(Some((GATEWAY, 20)))).0);
    for owner in [Some((501, 20)), Some((0, 0)), None] {
        assert!(!pf.decide(&dials(owner)).0 && !pf.decide(&comes(owner)).0, "{owner:?}");
    }
    assert!(!pf.decide(&dials(Some((GATEWAY, 20)))).0 && !pf.decide(&comes(Some((501, GROUP)))).0);
    // Another port, and fragments, are nobody's business here.
    let other = Packet { to: (LOCAL, FORWARD_PORT + 1), ..dials(None) };
    assert!(pf.decide(&other).0 && pf.decide(&Packet { fragment: true, ..dials(None) }).0);
}

/// Why any of it is refused: what is translated is nobody's to pf.
#[test]
fn behind_a_translation_no_rule_by_owner_holds() {
    let mut pf = kernel(&full());
    let packet = Packet { interface: "en0", ..out(("10.0.0.1".parse().unwrap(), 443), Transport::Udp) };
    assert!(!pf.decide(&packet).0);
    for pass in [false, true] {
        let from = "192.168.77.0/24".parse().unwrap();
        pf.translations = vec![Translation { pass, interface: "en0".to_owned(), from }];
        assert!(pf.decide(&packet).0);
    }
}

#[test]
fn the_canary_is_on_loopback_and_only_in_what_is_proven() {
    let (rules, text) = (full(), "allow = [\"a.example:443\"]\n");
    let canary = |rules: &Ruleset, of: &Ruleset| {
        let to = of.fingerprint.mac_canary();
        kernel(rules).decide(&out((IpAddr::V4(*to.ip()), to.port()), Transport::Udp)).0
    };
    assert!(canary(&rules, &rules) && !canary(&rules, &ruleset(text)) && !canary(&ruleset(text), &rules));
    assert!(!canary(&rules.unproven(), &rules));
    // Everything else is as in the proven ones.
    let (bare, whole) = (kernel(&rules.unproven()), kernel(&rules));
    for to in ["10.0.0.1", "11.0.0.1", "192.168.77.50", "::1", "2600:78::1"] {
        for port in [22, 443, 25] {
            let packet = out((to.parse().unwrap(), port), Transport::Tcp);
            assert_eq!(bare.decide(&packet), whole.decide(&packet), "{to} {port}");
        }
    }
}

#[test]
fn rules_that_held_are_told_from_others() {
    let rules = full();
    assert!(rules.held_by(&ruleset("").rules) && rules.held_by(&rules.rules));
    assert!(!rules.held_by(&rules.unproven().rules) && !rules.held_by(&[]));
    let cut = rules.rules.split_last().unwrap().1;
    assert!(!rules.held_by(cut));
    let mut kept = rules.rules.clone();
    kept[0].state = true;
    assert!(!rules.held_by(&kept));
    let mut opened = rules.rules.clone();
    opened.insert(0, Rule { action: Action::Pass, label: None, ..opened[0].clone() });
    assert!(!rules.held_by(&opened));
}

/// The model itself, by cases from pf.conf(5) and the kernel's source.
#[test]
fn the_model_evaluates_as_pf() {
    let to = ("11.0.0.1".parse().unwrap(), 443);
    let packet = out(to, Transport::Tcp);
    let line = |text: &str| rcc_rules::pf::lines(text, &rcc_rules::pf::Services::default()).remove(0);
    let pf = |main: &[&str], anchors: &[(&str, &[&str])]| Kernel {
        enabled: true,
        main: main.iter().map(|text| line(text)).collect(),
        anchors: anchors
            .iter()
            .map(|(name, rules)| ((*name).to_owned(), rules.iter().map(|text| line(text)).collect()))
            .collect(),
        ..Kernel::default()
    };
    let goes = |kernel: &Kernel| kernel.decide(&packet).0;
    assert!(goes(&pf(&[], &[])), "without a match it goes");
    assert!(goes(&pf(&["block drop all", "pass all flags any"], &[])), "the last one decides");
    assert!(!goes(&pf(&["block drop quick all", "pass all flags any"], &[])), "a quick one at once");
    assert!(!goes(&pf(&["pass all flags any", "anchor \"x\" all"], &[("x", &["block drop all"])])));
    assert!(goes(&pf(&["anchor \"x\" all", "pass all flags any"], &[("x", &["block drop all"])])));
    assert!(!goes(&pf(&["anchor \"x\" all", "pass all flags any"], &[("x", &["block drop quick all"])])));
    assert!(!goes(&pf(&["anchor \"x\" quick all", "pass all flags any"], &[("x", &["block drop all"])])));
    assert!(goes(&pf(&["anchor \"y\" all"], &[("x", &["block drop quick all"])])), "only what is called");
    assert!(goes(&pf(&["anchor \"x/*\" all"], &[("x", &["block drop quick all"])])), "below it, not itself");
    assert!(goes(&pf(&["anchor \"x/*\" all"], &[("x/y/z", &["block drop quick all"])])), "not two below");
    let both: &[(&str, &[&str])] = &[("x/1", &["pass quick all flags any"]), ("x/0", &["block drop quick all"])];
    assert!(!goes(&pf(&["anchor \"x/*\" all"], both)), "by name");
    let off = Kernel { enabled: false, ..pf(&["block drop quick all"], &[]) };
    assert!(goes(&off) && goes(&Kernel { skipped: ["lo0".to_owned()].into(), enabled: true, ..off.clone() }));
    assert!(
        goes(&pf(&["block drop out quick on en0 all"], &[])) && !goes(&pf(&["block drop out quick on lo0 all"], &[]))
    );
    assert!(goes(&pf(&["block drop in quick all"], &[])) && goes(&pf(&["block drop quick inet6 all"], &[])));
    assert!(goes(&pf(&["block drop quick proto tcp from any to any port = 80"], &[])));
    assert!(!goes(&pf(&["block drop quick proto tcp from any to any port = 443 flags S/SA"], &[])));
    assert!(goes(&pf(&["block drop quick proto tcp from any to any port = 443 flags A/A"], &[])));
    assert!(
        !goes(&pf(&["block drop quick all user = 4242"], &[])) && goes(&pf(&["block drop quick all user = 1"], &[]))
    );
    // Of a fragment it is not asked whose it is: a rule without ports would refuse everybody's.
    let fragment = Packet { fragment: true, owner: None, ..packet };
    assert!(!pf(&["block drop quick proto tcp all user = 4242"], &[]).decide(&fragment).0);
    let ports = "block drop quick proto tcp from any to any port 0:65535 user = 4242";
    assert!(pf(&[ports], &[]).decide(&fragment).0);
    let icmp = Packet { protocol: None, ..packet };
    assert!(
        pf(&["block drop quick all user = 4242"], &[]).decide(&icmp).0,
        "whose it is, is known of TCP and UDP alone"
    );
    let line = Line::Anchor(Call { name: "x".to_owned(), quick: false });
    assert_eq!(pf(&["anchor \"x\" all"], &[]).main, [line]);
    let v6 = out((IpAddr::V6(Ipv6Addr::LOCALHOST), 443), Transport::Tcp);
    assert!(pf(&["block drop quick inet all"], &[]).decide(&v6).0);
}
