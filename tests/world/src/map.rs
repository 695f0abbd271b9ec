//! The map of the world: every address, port and name in it, as data.
//!
//! Nothing here does anything; servers, links and tests all read the same table. Addresses that stand for the public
//! internet are taken from 11.0.0.0/8 and `2600::/16`, which every classification counts as public; packets to them exist
//! only inside the world's namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host's own LAN address, in 192.168.77.0/24.
pub const HOST4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 50);
/// The host's own global IPv6 address, in `2600:77::/64`.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x77, 0, 0, 0, 0, 0, 0x50);
/// The LAN's router: default gateway, resolver, and a web page as routers have.
pub const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// The router's global IPv6 address.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x77, 0, 0, 0, 0, 0, 1);
/// The router's link-local address, the IPv6 default gateway.
pub const ROUTER6_LL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The corporate proxy on the LAN (HTTP CONNECT on port 3128).
pub const PROXY4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 3);
/// A printer on the LAN, with a web page.
pub const PRINTER4: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);
/// The printer's address: global, yet on-link, so it must count as private.
pub const PRINTER6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x77, 0, 0, 0, 0, 0, 0x20);
/// The cloud's metadata service.
pub const METADATA4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// A public resolver (any address answers DNS; this one is for policies that name a resolver).
pub const RESOLVER4: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 53);
/// The same resolver by IPv6.
pub const RESOLVER6: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 0x53);
/// Where the network's translator has IPv4: the last 32 bits are its address (RFC 6052).
pub const NAT64: Ipv6Addr = Ipv6Addr::new(0x2600, 0x64, 0xff9b, 0, 0, 0, 0, 0);
/// A resolver that answers for names without an IPv6 address by [`NAT64`] (DNS64, RFC 6147).
pub const DNS64: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 0x64);
/// One that does the same by a prefix that is a LAN's ([`LIE64`]), as one would who wants that LAN opened.
pub const LIAR64: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 0xbad);
/// That prefix.
pub const LIE64: Ipv6Addr = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0);
/// An address without a name, for attempts to reach a bare address.
pub const SINK4: Ipv4Addr = Ipv4Addr::new(11, 66, 66, 66);
/// The same by IPv6.
pub const SINK6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x66, 0, 0, 0, 0, 0, 0x66);
/// The scripted model.
pub const MODEL4: Ipv4Addr = Ipv4Addr::new(11, 2, 0, 1);
/// The scripted model by IPv6.
pub const MODEL6: Ipv6Addr = Ipv6Addr::new(0x2600, 2, 0, 0, 0, 0, 0, 1);
/// Where [`crate::World::sync`] sends its marks.
pub const MARK4: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 9);

/// TCP ports of the internet on which the server speaks first, with an ssh banner.
pub const SSH_PORTS: &[u16] = &[22, 2222];
/// TCP ports on which the server looks at the first bytes: TLS, HTTP, or else raw echo; silent until then.
pub const TCP_PORTS: &[u16] = &[
    7, 21, 25, 80, 110, 143, 443, 465, 587, 993, 1080, 1900, 3000, 3128, 3306, 4433, 4444, 5000, 5432, 6379, 6667,
    8000, 8080, 8443, 8888, 9000, 9200, 9418, 9999,
];
/// UDP ports that echo. Every other port has no listener, but the wire witness sees what is sent there.
pub const UDP_PORTS: &[u16] = &[7, 123, 443, 3478, 4444, 5000, 9999, 51820];

/// What a name answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// These addresses, each time.
    Fixed(&'static [IpAddr]),
    /// The first query of a type gets the first list, each later one the second.
    Rebind(&'static [IpAddr], &'static [IpAddr]),
    /// Another name.
    Cname(&'static str),
    /// So many IPv4 addresses from 11.4.0.0/16 upwards.
    Many(u16),
    /// The address that the first label spells with dashes: `11-1-2-3`, `fd00--1`.
    Spelled,
    /// An answer after so many milliseconds.
    Late(u64, &'static [IpAddr]),
    /// SERVFAIL.
    Failure,
    /// No answer at all.
    Silence,
    /// Over UDP always truncated and empty; over TCP these addresses.
    TcpOnly(&'static [IpAddr]),
}

/// How a name's certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by the world's CA, for the name asked for.
    Good,
    /// Signed by the world's CA, but over since yesterday.
    Expired,
    /// Signed by the world's CA, for another name.
    OtherName,
    /// Signed by nobody else.
    SelfSigned,
}

/// One line of the zone table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name, without a final dot; `*.name` covers everything below, at any depth.
    pub name: &'static str,
    /// Seconds.
    pub ttl: u32,
    /// What is answered.
    pub answer: Answer,
    /// What a TLS server shows for it.
    pub certificate: Certificate,
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
const fn v6(s: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]))
}
const fn name(name: &'static str, answer: Answer) -> Entry {
    Entry { name, ttl: 300, answer, certificate: Certificate::Good }
}
const fn timed(name: &'static str, ttl: u32, answer: Answer) -> Entry {
    Entry { name, ttl, answer, certificate: Certificate::Good }
}
const fn badly(name: &'static str, certificate: Certificate) -> Entry {
    Entry { name, ttl: 300, answer: Answer::Fixed(BADTLS), certificate }
}
use Answer::{Cname, Failure, Fixed, Late, Many, Rebind, Silence, Spelled, TcpOnly};

const BADTLS: &[IpAddr] = &[v4(11, 1, 0, 90)];
const PUBLIC: &[IpAddr] = &[v4(11, 1, 0, 70)];

/// Every name there is. Whatever isn't here is NXDOMAIN.
pub const ZONE: &[Entry] = &[
    // plain hosts
    name("allowed.example", Fixed(&[v4(11, 1, 0, 10), v6([0x2600, 1, 0, 0, 0, 0, 0, 0x10])])),
    name("also-allowed.example", Fixed(&[v4(11, 1, 0, 11)])),
    name("denied.example", Fixed(&[v4(11, 1, 0, 66), v6([0x2600, 1, 0, 0, 0, 0, 0, 0x66])])),
    name("git.example", Fixed(&[v4(11, 1, 0, 22)])),
    name("v4only.example", Fixed(&[v4(11, 1, 0, 4)])),
    name("v6only.example", Fixed(&[v6([0x2600, 1, 0, 0, 0, 0, 0, 6])])),
    name("nodata.example", Fixed(&[])),
    name("*.wild.example", Fixed(&[v4(11, 1, 0, 30)])),
    // Nix's own cache; what a test puts there is below /files/
    name("cache.nixos.org", Fixed(&[v4(11, 1, 0, 40)])),
    // two sites behind one address, as on a shared content network
    name("site-a.cdn.example", Fixed(&[v4(11, 1, 0, 80)])),
    name("site-b.cdn.example", Fixed(&[v4(11, 1, 0, 80)])),
    // the exfiltration detector: each query for it is a hit, and every token in it
    name("*.canary.example", Fixed(&[v4(11, 1, 9, 9)])),
    // chains
    name("alias.example", Cname("middle.example")),
    name("middle.example", Cname("allowed.example")),
    name("alias-out.example", Cname("from-alias.canary.example")),
    name("alias-loop.example", Cname("alias-loop2.example")),
    name("alias-loop2.example", Cname("alias-loop.example")),
    name("alias-private.example", Cname("answers-lan.example")),
    name("alias-nowhere.example", Cname("not-there.example")),
    // rebinding: the first answer is public, the next is not; each label below has its own count
    timed("*.rebind-loopback.example", 0, Rebind(PUBLIC, &[v4(127, 0, 0, 1)])),
    timed("*.rebind-lan.example", 0, Rebind(PUBLIC, &[v4(192, 168, 77, 20)])),
    timed("*.rebind-metadata.example", 0, Rebind(PUBLIC, &[v4(169, 254, 169, 254)])),
    // answers that are not public, from the first on
    name("answers-loopback.example", Fixed(&[v4(127, 0, 0, 1)])),
    name("answers-loopback6.example", Fixed(&[v6([0, 0, 0, 0, 0, 0, 0, 1])])),
    name("answers-metadata.example", Fixed(&[v4(169, 254, 169, 254)])),
    name("answers-lan.example", Fixed(&[v4(192, 168, 77, 20)])),
    name("answers-host.example", Fixed(&[v4(192, 168, 77, 50)])),
    name("answers-host6.example", Fixed(&[v6([0x2600, 0x77, 0, 0, 0, 0, 0, 0x50])])),
    name("answers-onlink6.example", Fixed(&[v6([0x2600, 0x77, 0, 0, 0, 0, 0, 0x20])])),
    name("answers-mapped.example", Fixed(&[v6([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1])])),
    name("answers-mapped-metadata.example", Fixed(&[v6([0, 0, 0, 0, 0, 0xffff, 0xa9fe, 0xa9fe])])),
    name("answers-nat64-loopback.example", Fixed(&[v6([0x64, 0xff9b, 0, 0, 0, 0, 0x7f00, 1])])),
    name("answers-nat64-metadata.example", Fixed(&[v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe])])),
    name("nat64-public.example", Fixed(&[v6([0x64, 0xff9b, 0, 0, 0, 0, 0x0b01, 10])])),
    name("ipv4only.arpa", Fixed(&[v4(192, 0, 0, 170), v4(192, 0, 0, 171)])),
    name("answers-6to4.example", Fixed(&[v6([0x2002, 0x7f00, 1, 0, 0, 0, 0, 0])])),
    name("answers-teredo.example", Fixed(&[v6([0x2001, 0, 0, 0, 0, 0, 0x80ff, 0xfffe])])),
    name("answers-ula.example", Fixed(&[v6([0xfd00, 0, 0, 0, 0, 0, 0, 1])])),
    name("answers-linklocal6.example", Fixed(&[v6([0xfe80, 0, 0, 0, 0, 0, 0, 1])])),
    name("answers-zero.example", Fixed(&[v4(0, 0, 0, 0)])),
    name("answers-zero6.example", Fixed(&[v6([0; 8])])),
    name("answers-ten.example", Fixed(&[v4(10, 0, 0, 1)])),
    name("answers-172.example", Fixed(&[v4(172, 16, 0, 1)])),
    name("answers-cgnat.example", Fixed(&[v4(100, 64, 0, 1)])),
    name("answers-multicast.example", Fixed(&[v4(224, 0, 0, 251)])),
    name("answers-broadcast.example", Fixed(&[v4(255, 255, 255, 255)])),
    name("answers-documentation.example", Fixed(&[v4(192, 0, 2, 1)])),
    name("answers-benchmark.example", Fixed(&[v4(198, 18, 0, 1)])),
    name("answers-azure-metadata.example", Fixed(&[v4(168, 63, 129, 16)])),
    name("answers-mixed.example", Fixed(&[v4(11, 1, 0, 71), v4(192, 168, 77, 20)])),
    name("*.spelled.example", Spelled),
    // sizes, times and failures
    name("many.example", Many(200)),
    name("flood.example", Many(4000)),
    timed("ttl-zero.example", 0, Fixed(PUBLIC)),
    timed("ttl-max.example", 0x7fff_ffff, Fixed(PUBLIC)),
    name("late.example", Late(2000, PUBLIC)),
    name("fails.example", Failure),
    name("silent.example", Silence),
    name("tcponly.example", TcpOnly(PUBLIC)),
    // certificates
    badly("expired.badtls.example", Certificate::Expired),
    badly("othername.badtls.example", Certificate::OtherName),
    badly("selfsigned.badtls.example", Certificate::SelfSigned),
    // services
    name("resolver.example", Fixed(&[IpAddr::V4(RESOLVER4), IpAddr::V6(RESOLVER6)])),
    name("proxy.corp.example", Fixed(&[IpAddr::V4(PROXY4)])),
    // what the real agent asks for
    name("api.anthropic.com", Fixed(&[IpAddr::V4(MODEL4), IpAddr::V6(MODEL6)])),
    name("claude.ai", Fixed(&[v4(11, 2, 0, 2)])),
    name("platform.claude.com", Fixed(&[v4(11, 2, 0, 3)])),
    name("downloads.claude.ai", Fixed(&[v4(11, 2, 0, 4)])),
    name("github.com", Fixed(&[v4(11, 2, 0, 5)])),
    name("raw.githubusercontent.com", Fixed(&[v4(11, 2, 0, 6)])),
];

/// The name of the model's API.
pub const MODEL_NAME: &str = "api.anthropic.com";

/// The entry that answers for `name` (lower case, no final dot): the exact one, or the nearest wildcard above it.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ZONE.iter().find(|e| e.name == name).or_else(|| {
        name.match_indices('.')
            .find_map(|(i, _)| ZONE.iter().find(|e| e.name.strip_prefix('*').is_some_and(|tail| tail == &name[i..])))
    })
}

/// The prefix, if any, by which the resolver at `asked` translates.
#[must_use]
pub fn translates(asked: IpAddr) -> Option<Ipv6Addr> {
    match asked {
        IpAddr::V6(DNS64) => Some(NAT64),
        IpAddr::V6(LIAR64) => Some(LIE64),
        _ => None,
    }
}

/// An IPv4 address as it is behind a translator.
#[must_use]
pub fn translated(prefix: Ipv6Addr, ip: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(ip.to_bits()))
}

/// Which server of the internet a packet for `local` means.
#[must_use]
pub fn server_at(local: IpAddr) -> &'static str {
    if let IpAddr::V6(ip) = local
        && ip.segments()[..6] == NAT64.segments()[..6]
    {
        let [.., a, b, c, d] = ip.octets();
        return server_at(Ipv4Addr::new(a, b, c, d).into());
    }
    match local {
        IpAddr::V4(METADATA4) => "metadata",
        IpAddr::V4(ROUTER4) | IpAddr::V6(ROUTER6 | ROUTER6_LL) => "router",
        IpAddr::V4(PRINTER4) | IpAddr::V6(PRINTER6) => "printer",
        IpAddr::V4(PROXY4) => "proxy",
        IpAddr::V4(MODEL4) | IpAddr::V6(MODEL6) => "model",
        _ => "web",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_any_depth_but_not_their_own_name() {
        assert_eq!(find("a.b.canary.example").unwrap().name, "*.canary.example");
        assert!(find("canary.example").is_none());
        assert_eq!(find("allowed.example").unwrap().name, "allowed.example");
        assert!(find("x.allowed.example").is_none());
    }

    #[test]
    fn names_are_unique() {
        for (i, e) in ZONE.iter().enumerate() {
            assert!(!ZONE[..i].iter().any(|o| o.name == e.name), "{} twice", e.name);
        }
    }
}
