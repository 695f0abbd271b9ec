//! Random policies and packets, and one machine: shared by every test that compares how a firewall decides with how
//! another does (nftables' own kernel, the models of nftables and of pf).

use proptest::prelude::*;
use rcc_policy::Policy;
use rcc_rules::Facts;
use rcc_rules::pf::Mac;
use std::net::{IpAddr, Ipv4Addr};

/// The gateway's user.
pub const GATEWAY: u32 = 4242;
/// The group of the process that carries a Mac's machine.
pub const GROUP: u32 = 4243;

/// A policy with an entry of each kind.
pub const FULL: &str = "allow = [\"a.example:443\", \"b.example:22,80\"]\nmay_allow = [\"*:8443\"]\n\
    private = [\"git.corp.example:443 via 10.20.0.0/16\", \"10.30.1.5:8443\"]\n\
    deny = [\"9.9.9.0/24\", \"[2600:9::/32]:443\"]\nfake_ip = \"198.18.0.0/15\"\n";

/// A policy.
///
/// # Panics
/// If the text is none.
#[must_use]
pub fn policy(text: &str) -> Policy {
    rcc_policy::parse(text, "policy.toml").unwrap_or_else(|p| panic!("{p:#?}"))
}

/// A machine.
///
/// # Panics
/// Never: its addresses are written here.
#[must_use]
pub fn facts() -> Facts {
    Facts {
        gateway: GATEWAY,
        resolvers: ["127.0.0.53:53".parse().unwrap(), "[2600:77::1]:53".parse().unwrap()].into(),
        on_link: ["192.168.77.0/24".parse().unwrap(), "2600:77::/64".parse().unwrap()].into(),
        nat64: ["2600:64:ff9b::/96".parse().unwrap()].into(),
    }
}

/// The rest of that machine, if it is a Mac.
///
/// # Panics
/// Never: its addresses are written here.
#[must_use]
pub fn mac() -> Mac {
    let own = ["127.0.0.1", "::1", "192.168.77.50", "2600:77::50"].map(|ip| ip.parse::<IpAddr>().unwrap().into());
    Mac { group: GROUP, own: own.into() }
}

/// Addresses at which something begins or ends.
pub const EDGES: &[&str] = &[
    "0.0.0.1",
    "10.0.0.0",
    "9.255.255.255",
    "10.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "100.128.0.0",
    "127.0.0.53",
    "127.82.67.67",
    "169.254.169.254",
    "168.63.129.16",
    "172.15.255.255",
    "172.16.0.0",
    "172.32.0.0",
    "192.168.77.1",
    "192.168.77.50",
    "198.17.255.255",
    "198.18.0.0",
    "198.20.0.0",
    "223.255.255.255",
    "224.0.0.1",
    "240.0.0.0",
    "255.255.255.255",
    "9.9.9.9",
    "10.20.3.4",
    "10.30.1.5",
    "::1",
    "64:ff9b::a00:1",
    "64:ff9b::808:808",
    "2600:64:ff9b::7f00:1",
    "2600:64:ff9b::808:808",
    "2002:a00:1::1",
    "2001:db8::1",
    "2600:77::20",
    "2600:77::1",
    "2600:9::1",
    "2600:78::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
    "3fff::1",
    "2001::1",
    "4000::1",
];

/// An address: at an edge, in a range that some policies name, or anywhere.
///
/// # Panics
/// Never: its addresses are written here.
pub fn addresses() -> impl Strategy<Value = IpAddr> {
    let near = |base: [u8; 4]| {
        any::<[bool; 32]>().prop_map(move |flips| {
            let flips = flips.iter().enumerate().filter(|(i, on)| **on && *i > 5).map(|(i, _)| 1_u32 << (31 - i));
            IpAddr::V4(Ipv4Addr::from(u32::from_be_bytes(base) ^ flips.fold(0, |a, b| a | b)))
        })
    };
    prop_oneof![
        3 => proptest::sample::select(EDGES).prop_map(|t| t.parse::<IpAddr>().unwrap()),
        1 => near([10, 20, 0, 0]),
        1 => any::<u32>().prop_map(|n| IpAddr::V4(n.into())),
        1 => any::<u128>().prop_map(|n| IpAddr::V6(((n >> 3) | (1 << 125)).into())),
    ]
}

/// The text of a policy; few of them are none.
pub fn policies() -> impl Strategy<Value = String> {
    let list = |all: &'static [&'static str]| proptest::sample::subsequence(all, 0..=all.len());
    (
        list(&["a.example:443", "b.example:80", "c.example:22", "11.5.0.0/16:8080"]),
        list(&["d.corp.example:443 via 10.20.0.0/16", "10.30.1.5:8443", "[fd00:1::/64]:443"]),
        list(&["9.9.9.0/24", "[2600:9::/32]:443", "10.20.3.0/24:443"]),
        list(&["198.18.0.0/15"]),
    )
        .prop_map(|(allow, private, deny, fake)| {
            format!("allow = {allow:?}\nprivate = {private:?}\ndeny = {deny:?}\nfake_ip = {fake:?}\n")
        })
}

/// A port: one that policies name, or that they don't.
pub fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![Just(443_u16), Just(80), Just(53), Just(8443), Just(25)]
}
