//! Which addresses are this machine's own or on one of its links: from the text of `/proc/net`, or from what interfaces have.
//!
//! A name whose address is the machine's own, or its neighbour's, is no public name even where that address is global
//! (every IPv6 LAN). Prefixes of point-to-point devices (`WireGuard`, PPP) are not on-link: what lies behind them is
//! reached as through a gateway. What can't be read counts as on-link: a line that is not understood is an error.

use rcc_policy::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// This machine's own addresses, and its links' prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNet {
    /// Addresses (and whole ranges routed to itself) that are the machine's own.
    pub own: Vec<IpNet>,
    /// Prefixes that are reached without a gateway.
    pub on_link: Vec<IpNet>,
    /// Whether there is a way to public IPv6: a default route, or one as wide as `2000::/3`.
    pub v6: bool,
}

/// A line of a kernel table that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0} could not be read")]
pub struct Unreadable(pub &'static str);

const RTF_UP: u32 = 1;
const RTF_GATEWAY: u32 = 2;
const RTF_REJECT: u32 = 0x200;
const RTF_LOCAL: u32 = 0x8000_0000;

impl HostNet {
    /// Whether the address is this machine's own.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.iter().any(|n| n.contains(&ip))
    }

    /// Whether the address is on a link of this machine's.
    #[must_use]
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        self.on_link.iter().any(|n| n.contains(&ip))
    }

    /// Reads the four tables; `point_to_point` says of a device whether it is one.
    pub fn parse(tables: &Tables<'_>, point_to_point: &dyn Fn(&str) -> bool) -> Result<Self, Unreadable> {
        let mut net = Self::default();
        net.fib_trie(tables.fib_trie)?;
        net.route(tables.route, point_to_point)?;
        net.if_inet6(tables.if_inet6)?;
        net.ipv6_route(tables.ipv6_route, point_to_point)?;
        Ok(net)
    }

    /// `|-- 10.0.0.2` followed by `/32 host LOCAL`.
    fn fib_trie(&mut self, text: &str) -> Result<(), Unreadable> {
        let bad = || Unreadable("fib_trie");
        let mut at: Option<Ipv4Addr> = None;
        for line in text.lines() {
            let line = line.trim_start();
            if let Some(ip) = line.strip_prefix("|-- ") {
                at = Some(ip.trim().parse().map_err(|_| bad())?);
            } else if line.starts_with('/') && line.ends_with(" LOCAL") {
                let length = line[1..].split(' ').next().and_then(|l| l.parse().ok()).ok_or_else(bad)?;
                self.own.push(IpNet::new(at.ok_or_else(bad)?.into(), length).map_err(|_| bad())?);
            }
        }
        Ok(())
    }

    /// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in the machine's byte order.
    fn route(&mut self, text: &str, point_to_point: &dyn Fn(&str) -> bool) -> Result<(), Unreadable> {
        let bad = || Unreadable("route");
        for line in text.lines().skip(1).filter(|l| !l.trim().is_empty()) {
            let f: Vec<&str> = line.split_whitespace().collect();
            let hex = |i: usize| f.get(i).and_then(|s| u32::from_str_radix(s, 16).ok()).ok_or_else(bad);
            let (destination, gateway, flags, mask) = (hex(1)?, hex(2)?, hex(3)?, hex(7)?);
            if flags & RTF_UP == 0
                || flags & (RTF_GATEWAY | RTF_REJECT) != 0
                || gateway != 0
                || mask == 0
                || point_to_point(f[0])
            {
                continue;
            }
            let length = u8::try_from(u32::from_be_bytes(mask.to_ne_bytes()).leading_ones()).map_err(|_| bad())?;
            self.on_link.push(IpNet::new(Ipv4Addr::from(destination.to_ne_bytes()).into(), length).map_err(|_| bad())?);
        }
        Ok(())
    }

    fn if_inet6(&mut self, text: &str) -> Result<(), Unreadable> {
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let ip = line.split_whitespace().next().and_then(address6).ok_or(Unreadable("if_inet6"))?;
            self.own.push(IpAddr::V6(ip).into());
        }
        Ok(())
    }

    /// `dest len src len nexthop metric refcnt use flags iface`.
    fn ipv6_route(&mut self, text: &str, point_to_point: &dyn Fn(&str) -> bool) -> Result<(), Unreadable> {
        let bad = || Unreadable("ipv6_route");
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let f: Vec<&str> = line.split_whitespace().collect();
            let &[destination, length, _, _, next, _, _, _, flags, device] = f.as_slice() else { return Err(bad()) };
            let ip = address6(destination).ok_or_else(bad)?;
            let length = u8::from_str_radix(length, 16).map_err(|_| bad())?;
            let next = address6(next).ok_or_else(bad)?;
            let flags = u32::from_str_radix(flags, 16).map_err(|_| bad())?;
            if flags & RTF_UP == 0 || flags & RTF_REJECT != 0 {
                continue;
            }
            // A VPN may cover all of what is public in pieces: ::/1 and 8000::/1, or 2000::/3.
            self.v6 |= length <= 3 && device != "lo";
            if length == 0 {
                continue;
            }
            let prefix = IpNet::new(ip.into(), length).map_err(|_| bad())?;
            if flags & RTF_LOCAL != 0 {
                self.own.push(prefix);
            } else if flags & RTF_GATEWAY == 0 && next.is_unspecified() && !point_to_point(device) {
                self.on_link.push(prefix);
            }
        }
        Ok(())
    }
}

impl HostNet {
    /// Adds an address of an interface's, with its mask. A loopback's whole prefix is the machine's own; what lies behind a
    /// point-to-point link is reached as through a gateway.
    pub fn interface(&mut self, address: IpAddr, mask: Option<IpAddr>, loopback: bool, point_to_point: bool) {
        self.own.push(address.into());
        let ones = mask.map(|mask| match mask {
            IpAddr::V4(mask) => u32::from(mask).leading_ones(),
            IpAddr::V6(mask) => u128::from(mask).leading_ones(),
        });
        let prefix = ones.and_then(|ones| IpNet::new(address, u8::try_from(ones).ok()?).ok()).map(|net| net.trunc());
        match prefix {
            Some(prefix) if loopback => self.own.push(prefix),
            // A mask of nothing would be everything.
            Some(prefix) if !point_to_point && prefix.prefix_len() > 0 => self.on_link.push(prefix),
            _ => {}
        }
    }
}

/// The text of the kernel's tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// `/proc/net/fib_trie`
    pub fib_trie: &'a str,
    /// `/proc/net/route`
    pub route: &'a str,
    /// `/proc/net/if_inet6`
    pub if_inet6: &'a str,
    /// `/proc/net/ipv6_route`
    pub ipv6_route: &'a str,
}

fn address6(hex: &str) -> Option<Ipv6Addr> {
    (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok().map(Ipv6Addr::from)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interfaces_have_addresses_and_links() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut net = HostNet::default();
        net.interface(ip("127.0.0.1"), Some(ip("255.0.0.0")), true, false);
        net.interface(ip("192.168.1.7"), Some(ip("255.255.255.0")), false, false);
        net.interface(ip("2001:db8:1::7"), Some(ip("ffff:ffff:ffff:ffff::")), false, false);
        net.interface(ip("100.64.0.2"), Some(ip("255.192.0.0")), false, true);
        net.interface(ip("198.51.100.1"), Some(ip("0.0.0.0")), false, false);
        for own in ["127.0.0.1", "127.9.9.9", "192.168.1.7", "2001:db8:1::7", "100.64.0.2", "198.51.100.1"] {
            assert!(net.is_own(ip(own)), "{own}");
        }
        for on_link in ["192.168.1.200", "2001:db8:1::200"] {
            assert!(net.is_on_link(ip(on_link)) && !net.is_own(ip(on_link)), "{on_link}");
        }
        for neither in ["100.64.0.9", "203.0.113.1", "2001:db8:2::1"] {
            assert!(!net.is_on_link(ip(neither)) && !net.is_own(ip(neither)), "{neither}");
        }
    }

    const FIB: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.0\n        /24 link UNICAST\nLocal:\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 11.0.0.0\n        /8 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n     |-- 127.0.0.0\n        /8 host LOCAL\n";
    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\neth0\t00000000\t0102010A\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0002010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nwg0\t0000630A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\nppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
    const IF6: &str = "20010db8000000010000000000000002 02 40 00 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n";
    const ROUTE6: &str = "20010db8000000010000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n20010db8000000010000000000000002 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001     eth0\n20010db8000000020000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001      wg0\n00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    fn net() -> HostNet {
        let tables = Tables { fib_trie: FIB, route: ROUTE, if_inet6: IF6, ipv6_route: ROUTE6 };
        HostNet::parse(&tables, &|d| d == "wg0" || d == "ppp0").unwrap()
    }

    #[test]
    fn own_and_on_link_addresses_are_found() {
        let net = net();
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        for own in ["10.1.2.3", "127.9.9.9", "11.200.0.1", "2001:db8:0:1::2", "::1"] {
            assert!(net.is_own(ip(own)), "{own}");
        }
        for link in ["10.1.2.77", "2001:db8:0:1::77"] {
            assert!(net.is_on_link(ip(link)) && !net.is_own(ip(link)), "{link}");
        }
        for far in ["10.1.3.1", "10.99.0.1", "8.8.8.8", "2001:db8:0:2::1", "2001:db8:0:3::1"] {
            assert!(!net.is_on_link(ip(far)) && !net.is_own(ip(far)), "{far}");
        }
        assert!(net.v6);
    }

    #[test]
    fn a_table_that_is_not_understood_is_an_error() {
        let good = Tables { fib_trie: FIB, route: ROUTE, if_inet6: IF6, ipv6_route: ROUTE6 };
        for bad in [
            Tables { route: "x\neth0\tzz\t0\t1\n", ..good },
            Tables { if_inet6: "abc\n", ..good },
            Tables { ipv6_route: "abc\n", ..good },
            Tables { fib_trie: "  /32 host LOCAL\n", ..good },
        ] {
            assert!(HostNet::parse(&bad, &|_| false).is_err());
        }
    }

    proptest! {
        #[test]
        fn never_panics(a in "[ -~\n\t]{0,300}", b in "[0-9a-f \n]{0,300}") {
            for t in [&a, &b] {
                let _ = HostNet::parse(&Tables { fib_trie: t, route: t, if_inet6: t, ipv6_route: t }, &|_| false);
            }
        }
    }
}
