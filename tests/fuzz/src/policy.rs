//! Root's policy, a person's grants and a project's wishes. The gateway's decision and the host firewall are made of one
//! policy by two codes: what the gateway would connect to the firewall must let pass, and nothing that is not public
//! may pass that the policy does not open by name.

use rcc_policy::address::{METADATA, public};
use rcc_policy::{Decision, Egress, HostName, Policy, Resolved, Resolvers, Target};
use rcc_rules::{Facts, Packet, Protocol, Ruling, Table};
use std::net::IpAddr;

const GATEWAY: u32 = 4242;
const EDGES: &[&str] = &[
    "10.20.0.1",
    "10.255.255.255",
    "11.0.0.1",
    "9.9.9.9",
    "8.8.8.8",
    "100.64.0.1",
    "127.0.0.1",
    "127.82.67.67",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.7",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "64:ff9b::a00:1",
    "64:ff9b::808:808",
    "2002:a00:1::1",
    "2606::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
];

pub fn feed(bytes: &[u8]) {
    let (kind, rest) = crate::choice(bytes);
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 3 {
        0 => root(text),
        1 => {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if let Ok(grants) = rcc_policy::Grants::parse(&lines) {
                assert_eq!(rcc_policy::Grants::parse(&grants.texts()).expect("as it says itself"), grants);
            }
        }
        _ => {
            let _ = rcc_policy::parse_project(text, "rcc.toml");
        }
    }
}

fn root(text: &str) {
    let policy = match rcc_policy::parse(text, "policy.toml") {
        Ok(policy) => policy,
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|p| !p.what.is_empty() && !p.remedy.is_empty() && !p.subject.is_empty()));
            return;
        }
    };
    let again =
        rcc_policy::parse(&format!("{text}\n# other layout\n"), "other.toml").expect("a comment changes nothing");
    assert_eq!(again.fingerprint(), policy.fingerprint());
    let resolved = policy.resolve(&[]).expect("no grants are always good");
    written_again(&resolved);
    firewall(&policy, &resolved);
}

/// What is allowed, in the notation that it is shown in, means the same.
fn written_again(resolved: &Resolved) {
    let shown: Vec<String> = resolved.allow.iter().map(ToString::to_string).collect();
    let policy = rcc_policy::parse(&format!("allow = {shown:?}\n"), "shown").expect("what is shown can be written");
    assert_eq!(policy.resolve(&[]).expect("no grants").allow, resolved.allow);
}

fn firewall(policy: &Policy, resolved: &Resolved) {
    let egress = policy.egress();
    let facts = Facts { gateway: GATEWAY, resolvers: [].into(), on_link: [].into(), nat64: [].into() };
    let table = Table::new(&egress, policy.fingerprint(), &facts);
    for rule in table.chains.iter().flat_map(|(_, rules)| rules) {
        assert!(rule.comment.len() <= 128 && rule.comment.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"'));
    }
    let ports: Vec<u16> =
        egress.ports.iter().copied().chain(egress.private.iter().map(|(_, p)| *p)).chain([25]).collect();
    let ranges = egress.private.iter().map(|(net, _)| net).chain(egress.denied.iter().map(|(net, _)| net));
    let edges = EDGES.iter().map(|e| e.parse::<IpAddr>().expect("an address"));
    let addresses: Vec<IpAddr> = ranges.flat_map(|net| [net.addr(), net.broadcast()]).chain(edges).take(80).collect();
    for port in ports.into_iter().take(24) {
        for to in &addresses {
            packet(&table, &egress, resolved, *to, port);
        }
    }
}

fn packet(table: &Table, egress: &Egress, resolved: &Resolved, to: IpAddr, port: u16) {
    let packet = Packet { user: GATEWAY, to, protocol: Protocol::Tcp(port), unicast: true };
    let accepted = matches!(table.decide(&packet), Ruling::Accepted(_));
    let is_resolver = matches!(&egress.resolvers, Resolvers::Given(all) if all.iter().any(|r| r.address.ip() == to));
    let private = egress.private.iter().any(|(net, p)| *p == port && net.contains(&to));
    if accepted && !is_resolver && !private && !egress.fake_ip.iter().any(|net| net.contains(&to)) {
        assert!(public(to, &[]).is_ok(), "{to}:{port} passes");
        assert!(egress.ports.contains(&port), "{to}:{port} passes");
    }
    assert!(!accepted || !METADATA.iter().any(|net| net.contains(&to)), "{to}: a metadata service passes");
    if resolved.upstream_proxy.is_some() || accepted {
        return;
    }
    // By its address, and by each name that is there.
    let names: Vec<&HostName> = resolved.allow.iter().filter_map(|e| name(&e.host)).take(8).collect();
    let privately: Vec<&HostName> = resolved.private.iter().filter_map(|p| name(&p.endpoint.host)).take(8).collect();
    let targets = names.into_iter().chain(privately).map(Target::Name).chain([Target::Address(to)]);
    for target in targets {
        if let Decision::Allow { private, .. } = resolved.decide(target, port)
            && resolved.may_connect(private.as_ref(), to, port, &[]).is_ok()
            // Closed whole in the firewall, judged by the address inside in the gateway (decision 0014).
            && !rcc_policy::address::SIX_TO_FOUR.contains(&match to { IpAddr::V6(ip) => ip, IpAddr::V4(_) => 0.into() })
        {
            panic!("{target:?}: the gateway would connect to {to}:{port}, and the firewall refuses it");
        }
    }
}

fn name(host: &rcc_policy::Host) -> Option<&HostName> {
    match host {
        rcc_policy::Host::Name(name) | rcc_policy::Host::Below(name) => Some(name),
        _ => None,
    }
}
