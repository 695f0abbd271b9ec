//! Which addresses are public. Invariant: an address that any special-purpose registry, or any cloud's metadata service,
//! lays claim to is not public, in whichever form it is wrapped.
//!
//! Sources: IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates, as of 2025), RFC 6052
//! (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo).

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rcc_proto::STAND_IN_RANGE;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not public: {why}")]
pub struct NotPublic {
    /// The address that was judged: the one inside, if it was wrapped.
    pub address: IpAddr,
    /// What it is instead.
    pub why: &'static str,
}

/// A range that is not public, and why.
type Special<T> = (T, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(s0, s1, s2, s3, s4, s5, s6, s7), prefix)
}

/// Every IPv4 range that is not public. The first that holds an address names it, so narrower ones come first.
pub const SPECIAL_V4: &[Special<Ipv4Net>] = &[
    (v4(0, 0, 0, 0, 8), "this network (RFC 791)"),
    (v4(10, 0, 0, 0, 8), "private (RFC 1918)"),
    (v4(100, 100, 100, 200, 32), "a cloud's metadata service"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT (RFC 6598)"),
    (v4(127, 0, 0, 0, 8), "loopback (RFC 1122)"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (v4(169, 254, 169, 254, 32), "a cloud's metadata service"),
    (v4(169, 254, 0, 0, 16), "link-local (RFC 3927)"),
    (v4(172, 16, 0, 0, 12), "private (RFC 1918)"),
    (v4(192, 0, 0, 192, 32), "a cloud's metadata service"),
    (v4(192, 0, 0, 0, 24), "IETF protocol assignments (RFC 6890)"),
    (v4(192, 0, 2, 0, 24), "documentation (RFC 5737)"),
    (v4(192, 31, 196, 0, 24), "AS112 (RFC 7535)"),
    (v4(192, 52, 193, 0, 24), "AMT (RFC 7450)"),
    (v4(192, 88, 99, 0, 24), "6to4 relay, deprecated (RFC 7526)"),
    (v4(192, 168, 0, 0, 16), "private (RFC 1918)"),
    (v4(192, 175, 48, 0, 24), "AS112 (RFC 7534)"),
    (v4(198, 18, 0, 0, 15), "benchmarking, and rcc's own stand-ins (RFC 2544)"),
    (v4(198, 51, 100, 0, 24), "documentation (RFC 5737)"),
    (v4(203, 0, 113, 0, 24), "documentation (RFC 5737)"),
    (v4(224, 0, 0, 0, 4), "multicast (RFC 5771)"),
    (v4(255, 255, 255, 255, 32), "broadcast (RFC 919)"),
    (v4(240, 0, 0, 0, 4), "reserved (RFC 1112)"),
];

/// All IPv6 that can be public.
pub const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Every IPv6 range within [`PUBLIC_V6`] that is not public. 6to4 is not here: it is judged by the address inside.
pub const SPECIAL_V6: &[Special<Ipv6Net>] = &[
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo (RFC 4380)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF protocol assignments (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation (RFC 3849)"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "AS112 (RFC 7534)"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation (RFC 9637)"),
];

/// IPv6 outside of [`PUBLIC_V6`] that has a name of its own, for explanations.
pub const NAMED_V6: &[Special<Ipv6Net>] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "the unspecified address (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback (RFC 4291)"),
    (LOCAL_NAT64, "local NAT64 (RFC 8215)"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard-only (RFC 6666)"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing (RFC 9602)"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local (RFC 4291)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast (RFC 4291)"),
];

/// `2002::/16`, whose next 32 bits are an IPv4 address.
pub const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// `64:ff9b:1::/48`, for translators of one network (RFC 8215).
const LOCAL_NAT64: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
/// `64:ff9b::/96`, whose last 32 bits are an IPv4 address (RFC 6052).
pub const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// What no endpoint may open, whatever the policy says: metadata services, with what lies beside them on the link.
pub const METADATA: &[IpNet] = &[
    IpNet::V4(v4(169, 254, 169, 254, 32)),
    IpNet::V4(v4(168, 63, 129, 16, 32)),
    IpNet::V4(v4(100, 100, 100, 200, 32)),
    IpNet::V4(v4(192, 0, 0, 192, 32)),
    IpNet::V6(v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128)),
    IpNet::V6(v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128)),
];

/// rcc's stand-ins, as a range.
#[must_use]
pub const fn stand_ins() -> Ipv4Net {
    Ipv4Net::new_assert(STAND_IN_RANGE.0, STAND_IN_RANGE.1)
}

/// Whether an address is on the public internet. An address within a prefix of `nat64` (or the well-known one) is judged
/// by the IPv4 address inside it, and so are IPv4-mapped, IPv4-compatible and 6to4 addresses.
pub fn public(ip: IpAddr, nat64: &[Ipv6Net]) -> Result<(), NotPublic> {
    match ip {
        IpAddr::V4(ip) => public_v4(ip),
        IpAddr::V6(ip) => public_v6(ip, nat64),
    }
}

fn public_v4(ip: Ipv4Addr) -> Result<(), NotPublic> {
    match SPECIAL_V4.iter().find(|(net, _)| net.contains(&ip)) {
        Some((_, why)) => Err(NotPublic { address: ip.into(), why }),
        None => Ok(()),
    }
}

fn public_v6(ip: Ipv6Addr, nat64: &[Ipv6Net]) -> Result<(), NotPublic> {
    // Before the prefixes given: a network may translate by a prefix of its own, never redefine loopback.
    let named = NAMED_V6.iter().find(|(net, _)| net.contains(&ip));
    let own_prefix = nat64.iter().find(|prefix| prefix.contains(&ip));
    if let Some((net, why)) = named {
        // A network's own NAT64 prefix may well lie in ULA or 64:ff9b:1::/48.
        let translates = own_prefix.is_some() && (net.prefix_len() == 7 || net.prefix_len() == 48);
        if !translates {
            return Err(NotPublic { address: ip.into(), why });
        }
    }
    if let Some(prefix) = own_prefix.or_else(|| NAT64.contains(&ip).then_some(&NAT64)) {
        return inside_nat64(ip, prefix.prefix_len())
            .map_or(Err(NotPublic { address: ip.into(), why: "no valid NAT64 address (RFC 6052)" }), public_v4);
    }
    if is_mapped_or_compatible(ip) {
        return public_v4(low_v4(ip));
    }
    if SIX_TO_FOUR.contains(&ip) {
        return public_v4(octets_at(ip, [2, 3, 4, 5]));
    }
    if !PUBLIC_V6.contains(&ip) {
        return Err(NotPublic { address: ip.into(), why: "not global unicast (RFC 4291)" });
    }
    match SPECIAL_V6.iter().find(|(net, _)| net.contains(&ip)) {
        Some((_, why)) => Err(NotPublic { address: ip.into(), why }),
        None => Ok(()),
    }
}

/// `::ffff:a.b.c.d` and the deprecated `::a.b.c.d` (RFC 4291, 2.5.5).
fn is_mapped_or_compatible(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _])
}

fn low_v4(ip: Ipv6Addr) -> Ipv4Addr {
    octets_at(ip, [12, 13, 14, 15])
}

/// The IPv4 address whose octets stand at these places, each below 16.
fn octets_at(ip: Ipv6Addr, places: [usize; 4]) -> Ipv4Addr {
    let octets = ip.octets();
    Ipv4Addr::from(places.map(|place| octets.get(place).copied().unwrap_or_default()))
}

/// The IPv4 address in a NAT64 address, by the prefix's length (RFC 6052, 2.2); bits 64 to 71 must be zero.
fn inside_nat64(ip: Ipv6Addr, prefix: u8) -> Option<Ipv4Addr> {
    let [_, _, _, _, _, _, _, _, eighth, ..] = ip.octets();
    if prefix != 96 && eighth != 0 {
        return None;
    }
    let places = match prefix {
        32 => [4, 5, 6, 7],
        40 => [5, 6, 7, 9],
        48 => [6, 7, 9, 10],
        56 => [7, 9, 10, 11],
        64 => [9, 10, 11, 12],
        96 => [12, 13, 14, 15],
        _ => return None,
    };
    Some(octets_at(ip, places))
}

/// Whether two ranges share an address.
#[must_use]
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Whether all of a range is public.
pub fn public_range(range: &IpNet) -> Result<(), NotPublic> {
    // The first address of the range that is not public.
    let wrong = |net: IpNet, why| Err(NotPublic { address: net.addr().max(range.addr()), why });
    match range {
        IpNet::V4(v4) => match SPECIAL_V4.iter().find(|(net, _)| net.contains(v4) || v4.contains(net)) {
            Some((net, why)) => wrong((*net).into(), why),
            None => Ok(()),
        },
        IpNet::V6(v6) => {
            let hit = |(net, _): &&Special<Ipv6Net>| net.contains(v6) || v6.contains(net);
            if let Some((net, why)) = NAMED_V6.iter().chain(SPECIAL_V6).find(hit) {
                return wrong((*net).into(), why);
            }
            if SIX_TO_FOUR.contains(v6) || v6.contains(&SIX_TO_FOUR) {
                return wrong(SIX_TO_FOUR.into(), "6to4, which holds any IPv4 address (RFC 3056)");
            }
            if PUBLIC_V6.contains(v6) { Ok(()) } else { wrong(*range, "not global unicast (RFC 4291)") }
        }
    }
}

/// The IPv4 address inside an IPv6 one, where routers or hosts would take it out again.
#[must_use]
pub fn embedded(ip: IpAddr, nat64: &[Ipv6Net]) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    if let Some(prefix) = nat64.iter().find(|prefix| prefix.contains(&ip)) {
        return inside_nat64(ip, prefix.prefix_len()).map(IpAddr::from);
    }
    if NAT64.contains(&ip) {
        return Some(low_v4(ip).into());
    }
    if SIX_TO_FOUR.contains(&ip) {
        return Some(octets_at(ip, [2, 3, 4, 5]).into());
    }
    is_mapped_or_compatible(ip).then(|| low_v4(ip).into())
}

/// The prefix by which one of `ipv4only.arpa`'s two addresses was put into an IPv6 address (RFC 7050; RFC 6052, 2.2).
#[must_use]
pub fn nat64_prefix(ip: Ipv6Addr) -> Option<Ipv6Net> {
    let well_known = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
    let length = [96, 64, 56, 48, 40, 32]
        .into_iter()
        .find(|length| inside_nat64(ip, *length).is_some_and(|inner| well_known.contains(&inner)))?;
    Ipv6Net::new(ip, length).ok().map(|net| net.trunc())
}

/// Whether a prefix may be believed that some resolver tells of: one below which no address is anything but public or a
/// translation, whoever lies. Within public IPv6 a prefix can only close what was open; `64:ff9b:1::/48` is there for
/// translators alone (RFC 8215). Unique local addresses are also machines of a LAN, which a forged answer would open.
#[must_use]
pub fn may_translate(prefix: &Ipv6Net) -> bool {
    LOCAL_NAT64.contains(prefix) || public_range(&IpNet::V6(*prefix)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_translator_is_found() {
        let p = |s: &str| nat64_prefix(s.parse().unwrap()).map(|n| n.to_string());
        assert_eq!(p("64:ff9b::c000:aa"), Some("64:ff9b::/96".into()));
        assert_eq!(p("2001:db8:1:2:c0:0:ab00:0"), Some("2001:db8:1:2::/64".into()));
        assert_eq!(p("2001:db8::1"), None);
    }

    #[test]
    fn no_prefix_is_believed_that_would_open_what_is_not_public() {
        let may = |s: &str| may_translate(&s.parse().unwrap());
        for prefix in ["2600:64:ff9b::/96", "2600:64::/64", "64:ff9b:1::/96", "64:ff9b:1:fffe::/64"] {
            assert!(may(prefix), "{prefix}");
        }
        for prefix in [
            "::/96",
            "fd64::/96",
            "fe80::/64",
            "fd00:ec2::/96",
            "2001:db8::/32",
            "2001::/32",
            "2002:a00::/32",
            "64:ff9b::/96",
            "::ffff:0:0/96",
            "4000::/32",
            "100::/64",
        ] {
            assert!(!may(prefix), "{prefix}");
        }
    }

    fn judge(text: &str, nat64: &[&str]) -> bool {
        let nat64: Vec<Ipv6Net> = nat64.iter().map(|p| p.parse().unwrap()).collect();
        public(text.parse().unwrap(), &nat64).is_ok()
    }

    #[test]
    fn public_agrees_with_the_registries() {
        // First and last address of each range that is not public, with its neighbours where those are.
        let closed = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.0.0",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.8",
            "192.0.0.9",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "192.175.48.1",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::fb",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:1::1",
            "2001:2::1",
            "2001:20::1",
            "2001:1ff::1",
            "2001:db8::1",
            "3fff::1",
            "3fff:fff::1",
            "2620:4f:8000::1",
            "5f00::1",
            "4000::1",
            "1fff::1",
            "64:ff9b:1::1",
            "8000::1",
        ];
        let open = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
            "3fff:1000::1",
        ];
        for ip in closed {
            assert!(!judge(ip, &[]), "{ip}");
        }
        for ip in open {
            assert!(judge(ip, &[]), "{ip}");
        }
    }

    #[test]
    fn a_wrapped_address_is_judged_by_its_inside() {
        let wraps: [fn(&str) -> String; 3] =
            [|inner| format!("::ffff:{inner}"), |inner| format!("::{inner}"), |inner| format!("64:ff9b::{inner}")];
        for wrap in wraps {
            for inner in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0", "255.255.255.255"] {
                assert!(!judge(&wrap(inner), &[]), "{}", wrap(inner));
            }
            assert!(judge(&wrap("1.1.1.1"), &[]), "{}", wrap("1.1.1.1"));
        }
        assert!(!judge("2002:7f00:1::", &[]));
        assert!(!judge("2002:a9fe:a9fe::1", &[]));
        assert!(judge("2002:101:101::1", &[]));
    }

    #[test]
    fn given_nat64_prefixes_of_every_length() {
        // RFC 6052, 2.4: the examples' places, with 1.2.3.4 and 10.2.3.4 inside.
        for (prefix, open, closed) in [
            ("2600:db8::/32", "2600:db8:102:304::", "2600:db8:a02:304::"),
            ("2600:db8:100::/40", "2600:db8:101:203:4::", "2600:db8:10a:203:4::"),
            ("2600:db8:122::/48", "2600:db8:122:102:3:400::", "2600:db8:122:a02:3:400::"),
            ("2600:db8:122:300::/56", "2600:db8:122:301:2:304::", "2600:db8:122:30a:2:304::"),
            ("2600:db8:122:344::/64", "2600:db8:122:344:1:203:400:0", "2600:db8:122:344:a:203:400:0"),
            ("2600:db8:122:344::/96", "2600:db8:122:344::1.2.3.4", "2600:db8:122:344::10.2.3.4"),
            ("fd64::/96", "fd64::1.2.3.4", "fd64::10.2.3.4"),
            ("64:ff9b:1::/96", "64:ff9b:1::1.2.3.4", "64:ff9b:1::10.2.3.4"),
        ] {
            assert!(judge(open, &[prefix]), "{open}");
            assert!(!judge(closed, &[prefix]), "{closed}");
        }
        // A prefix can't make loopback, link-local or metadata public, nor is another length than RFC 6052's believed.
        for (prefix, ip) in [
            ("::/96", "::1"),
            ("fe80::/96", "fe80::1.2.3.4"),
            ("fd00:ec2::/96", "fd00:ec2::254"),
            ("fd00::/8", "fd00::101:101"),
        ] {
            assert!(!judge(ip, &[prefix]), "{ip}");
        }
    }

    #[test]
    fn a_range_is_public_if_all_of_it_is() {
        let range = |text: &str| public_range(&text.parse().unwrap()).is_ok();
        assert!(range("1.1.1.0/24") && range("8.0.0.0/8") && range("2606:4700::/32") && range("1.1.1.1/32"));
        for text in [
            "0.0.0.0/0",
            "8.0.0.0/5",
            "10.1.0.0/16",
            "::/0",
            "2000::/3",
            "2002:101:101::/48",
            "64:ff9b::/96",
            "::1.1.1.1/128",
        ] {
            assert!(!range(text), "{text}");
        }
    }
}
