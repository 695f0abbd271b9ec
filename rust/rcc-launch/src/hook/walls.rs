//! The network inside a session's namespace: addresses that stand for names, and one redirect to the gateway.
//!
//! Invariant: after [`build`] the only routes lead to `lo`; whatever is not a stand-in address or a range of the policy
//! is "Network is unreachable", and no process of the container has the capability to change that.

use super::netlink::{Message, Nest, Netlink};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, connect,
    getsockopt, listen, setsockopt, socket, sockopt,
};
use rcc_proto::{REDIRECT_PORT, RESOLVER, STAND_IN_RANGE};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

/// An address range, network address and prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first address; bits beyond the prefix are zero.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Range {
    /// Parses `ADDRESS/PREFIX`; bits beyond the prefix must be zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let range = Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
        let (bytes, mask) = (range.bytes(), range.mask());
        let fits = usize::from(range.prefix) <= bytes.len() * 8;
        (fits && bytes.iter().zip(&mask).all(|(b, m)| b & !m == 0)).then_some(range)
    }

    fn bytes(self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        }
    }

    fn mask(self) -> Vec<u8> {
        (0..self.bytes().len())
            .map(|i| {
                let bits = usize::from(self.prefix).saturating_sub(i * 8).min(8);
                u8::try_from(0xff00_u16 >> bits & 0xff).unwrap_or(0)
            })
            .collect()
    }

    fn family(self) -> u8 {
        u8::try_from(if self.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }).unwrap_or(0)
    }
}

/// The sockets that the gateway will serve, all of the namespace that they were made in.
pub struct Listeners {
    /// TCP that the redirect brings.
    pub redirect: OwnedFd,
    /// DNS over UDP.
    pub dns_udp: OwnedFd,
    /// DNS over TCP.
    pub dns_tcp: OwnedFd,
}

/// Builds the network in the namespace that the thread is in, and proves that it works as it should.
pub fn build(ranges: &[Range]) -> io::Result<Listeners> {
    let stand_in = Range { address: IpAddr::V4(STAND_IN_RANGE.0), prefix: STAND_IN_RANGE.1 };
    let all: Vec<Range> = std::iter::once(stand_in).chain(ranges.iter().copied()).collect();
    let mut route = Netlink::open(SockProtocol::NetlinkRoute)?;
    route.request(vec![loopback_up(), resolver_address()])?;
    route.request(all.iter().map(|r| local_route(*r)).collect())?;
    let mut nft = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    redirect(&mut nft, &all)?;
    let sixth = all.iter().find_map(|r| if let IpAddr::V6(first) = r.address { Some(first) } else { None });
    // Where a range is of IPv6 the one socket takes both: a redirect leads to the loopback address of its family.
    let here = if sixth.is_some() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::LOCALHOST.into() };
    let listeners = Listeners {
        redirect: tcp_listener(here, REDIRECT_PORT, 512)?,
        dns_udp: bound(SockType::Datagram, RESOLVER.into(), 53)?,
        dns_tcp: tcp_listener(RESOLVER.into(), 53, 64)?,
    };
    prove(&listeners)?;
    sixth.map_or(Ok(()), |first| prove_ipv6(&listeners, first))?;
    Ok(listeners)
}

/// Looks at what was built from where the agent will stand: a stand-in address comes to the redirect's listener with
/// its own number kept, and an address outside every range has no route.
fn prove(listeners: &Listeners) -> io::Result<()> {
    let wrong = |text: &str| io::Error::other(text.to_owned());
    let probe = SocketAddrV4::new(Ipv4Addr::new(198, 19, 255, 254), 1);
    let dialler = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(dialler.as_raw_fd(), &SockaddrIn::from(probe))?;
    let meant = getsockopt(&arrived(listeners)?, sockopt::OriginalDst)?;
    if u32::from_be(meant.sin_addr.s_addr) != u32::from(*probe.ip()) {
        return Err(wrong("the redirect does not keep the address that was dialled"));
    }
    // TEST-NET-1 (RFC 5737) belongs to nobody; no packet is made where there is no route.
    let outside = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    match connect(outside.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 1))) {
        Err(nix::errno::Errno::ENETUNREACH) => Ok(()),
        Ok(()) => Err(wrong("an address outside every range answered")),
        Err(e) => Err(wrong(&format!("an address outside every range gave {e}, not ENETUNREACH"))),
    }
}

fn arrived(listeners: &Listeners) -> io::Result<OwnedFd> {
    let arrived = nix::sys::socket::accept4(listeners.redirect.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 just returned this descriptor and nothing else owns it.
    Ok(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(arrived) })
}

/// The same for IPv6, where a range of the policy's has it: by the range's first address.
fn prove_ipv6(listeners: &Listeners, first: Ipv6Addr) -> io::Result<()> {
    let dialler = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(dialler.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(first, 1, 0, 0)))?;
    let meant = getsockopt(&arrived(listeners)?, sockopt::Ip6tOriginalDst)?;
    if meant.sin6_addr.s6_addr != first.octets() {
        return Err(io::Error::other("the redirect does not keep the IPv6 address that was dialled"));
    }
    Ok(())
}

/// A socket of IPv6 takes both families, where its address does.
fn bound(kind: SockType, address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))?;
    Ok(fd)
}

fn tcp_listener(address: IpAddr, port: u16, backlog: i32) -> io::Result<OwnedFd> {
    let fd = bound(SockType::Stream, address, port)?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(fd)
}

const LOOPBACK_INDEX: u32 = 1;

/// `ip link set lo up`
fn loopback_up() -> Message {
    // struct ifinfomsg: family, pad, type, index, flags, change
    let up = u32::try_from(libc::IFF_UP).unwrap_or(1).to_ne_bytes();
    let fixed = [&[0, 0, 0, 0][..], &LOOPBACK_INDEX.to_ne_bytes(), &up, &up].concat();
    Message::new(libc::RTM_NEWLINK, 0, &fixed)
}

/// `ip addr add 198.18.0.1/32 dev lo`: with 127.0.0.1 alone, getaddrinfo with `AI_ADDRCONFIG` thinks it is offline.
fn resolver_address() -> Message {
    // struct ifaddrmsg: family, prefixlen, flags, scope, index
    let family = u8::try_from(libc::AF_INET).unwrap_or(2);
    let fixed = [&[family, 32, 0, 0][..], &LOOPBACK_INDEX.to_ne_bytes()].concat();
    Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed)
        .attr(libc::IFA_LOCAL, &RESOLVER.octets())
        .attr(libc::IFA_ADDRESS, &RESOLVER.octets())
}

/// `ip route add local RANGE dev lo` (in table local)
fn local_route(range: Range) -> Message {
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
    let scope = if range.address.is_ipv4() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    let fixed = [
        range.family(),
        range.prefix,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_BOOT,
        scope,
        libc::RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed)
        .attr(libc::RTA_DST, &range.bytes())
        .attr(libc::RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes())
}

// linux/netfilter/nf_tables.h; not in the libc crate.
mod nft {
    pub const TABLE_NAME: u16 = 1;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_NUM: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const LIST_ELEM: u16 = 1;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
    pub const DATA_VALUE: u16 = 1;
    pub const META_DREG: u16 = 1;
    pub const META_KEY: u16 = 2;
    pub const META_L4PROTO: u32 = 16;
    pub const CMP_SREG: u16 = 1;
    pub const CMP_OP: u16 = 2;
    pub const CMP_DATA: u16 = 3;
    pub const CMP_EQ: u32 = 0;
    pub const CMP_NEQ: u32 = 1;
    pub const PAYLOAD_DREG: u16 = 1;
    pub const PAYLOAD_BASE: u16 = 2;
    pub const PAYLOAD_OFFSET: u16 = 3;
    pub const PAYLOAD_LEN: u16 = 4;
    pub const PAYLOAD_NETWORK: u32 = 1;
    pub const BITWISE_SREG: u16 = 1;
    pub const BITWISE_DREG: u16 = 2;
    pub const BITWISE_LEN: u16 = 3;
    pub const BITWISE_MASK: u16 = 4;
    pub const BITWISE_XOR: u16 = 5;
    pub const IMMEDIATE_DREG: u16 = 1;
    pub const IMMEDIATE_DATA: u16 = 2;
    pub const REDIR_PROTO_MIN: u16 = 1;
    pub const REG_1: u32 = 1;
    pub const PRIORITY_DSTNAT: i32 = -100;
    pub const HOOK_OUTPUT: u32 = 3;
    pub const BATCH_BEGIN: u16 = 16;
    pub const BATCH_END: u16 = 17;
    pub const NEW_TABLE: u16 = 0;
    pub const NEW_CHAIN: u16 = 3;
    pub const NEW_RULE: u16 = 6;
    pub const SUBSYSTEM: u16 = 10;
}

/// ```text
/// table ip rcc { chain out { type nat hook output priority -100;
///     meta l4proto tcp ip daddr RANGE ip daddr != 198.18.0.1 redirect to :47080 } }
/// ```
/// one rule a range; IPv6 ranges in `table ip6 rcc`. DNS over TCP keeps its own listener, hence the exception.
fn redirect(netlink: &mut Netlink, ranges: &[Range]) -> io::Result<()> {
    let mut families: Vec<u8> = ranges.iter().map(|r| r.family()).collect();
    families.sort_unstable();
    families.dedup();
    let mut messages = Vec::new();
    for family in families {
        let hook = Nest::default()
            .attr(nft::HOOK_NUM, &nft::HOOK_OUTPUT.to_be_bytes())
            .attr(nft::HOOK_PRIORITY, &nft::PRIORITY_DSTNAT.to_be_bytes());
        messages.push(nft_message(nft::NEW_TABLE, family, libc::NLM_F_CREATE).string(nft::TABLE_NAME, "rcc"));
        messages.push(
            nft_message(nft::NEW_CHAIN, family, libc::NLM_F_CREATE)
                .string(nft::CHAIN_TABLE, "rcc")
                .string(nft::CHAIN_NAME, "out")
                .nest(nft::CHAIN_HOOK, &hook)
                .string(nft::CHAIN_TYPE, "nat"),
        );
        for range in ranges.iter().filter(|r| r.family() == family) {
            messages.push(
                nft_message(nft::NEW_RULE, family, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
                    .string(nft::RULE_TABLE, "rcc")
                    .string(nft::RULE_CHAIN, "out")
                    .nest(nft::RULE_EXPRESSIONS, &redirect_expressions(*range)),
            );
        }
    }
    let mark = |kind| {
        // struct nfgenmsg of a batch mark: family, version, and the subsystem as its resource id
        let fixed = [&[0, 0][..], &nft::SUBSYSTEM.to_be_bytes()].concat();
        Message::new(kind, 0, &fixed)
    };
    netlink.batch(messages, Some((mark(nft::BATCH_BEGIN), mark(nft::BATCH_END))))
}

fn redirect_expressions(range: Range) -> Nest {
    // `daddr` in the IPv4 header is at byte 16, in the IPv6 header at byte 24.
    let (offset, length) = if range.address.is_ipv4() { (16_u32, 4_u32) } else { (24, 16) };
    let load_daddr = || {
        Nest::default()
            .attr(nft::PAYLOAD_DREG, &nft::REG_1.to_be_bytes())
            .attr(nft::PAYLOAD_BASE, &nft::PAYLOAD_NETWORK.to_be_bytes())
            .attr(nft::PAYLOAD_OFFSET, &offset.to_be_bytes())
            .attr(nft::PAYLOAD_LEN, &length.to_be_bytes())
    };
    let meta = Nest::default()
        .attr(nft::META_DREG, &nft::REG_1.to_be_bytes())
        .attr(nft::META_KEY, &nft::META_L4PROTO.to_be_bytes());
    let mask = Nest::default()
        .attr(nft::BITWISE_SREG, &nft::REG_1.to_be_bytes())
        .attr(nft::BITWISE_DREG, &nft::REG_1.to_be_bytes())
        .attr(nft::BITWISE_LEN, &length.to_be_bytes())
        .nest(nft::BITWISE_MASK, &value(&range.mask()))
        .nest(nft::BITWISE_XOR, &value(&vec![0; length as usize]));
    let port = Nest::default()
        .attr(nft::IMMEDIATE_DREG, &nft::REG_1.to_be_bytes())
        .nest(nft::IMMEDIATE_DATA, &value(&REDIRECT_PORT.to_be_bytes()));
    let to = Nest::default().attr(nft::REDIR_PROTO_MIN, &nft::REG_1.to_be_bytes());
    let mut all = expression(Nest::default(), "meta", &meta);
    all = expression(all, "cmp", &compare(nft::CMP_EQ, &[u8::try_from(libc::IPPROTO_TCP).unwrap_or(6)]));
    all = expression(all, "payload", &load_daddr());
    all = expression(all, "bitwise", &mask);
    all = expression(all, "cmp", &compare(nft::CMP_EQ, &range.bytes()));
    if range.address.is_ipv4() {
        all = expression(all, "payload", &load_daddr());
        all = expression(all, "cmp", &compare(nft::CMP_NEQ, &RESOLVER.octets()));
    }
    all = expression(all, "immediate", &port);
    expression(all, "redir", &to)
}

fn expression(list: Nest, name: &str, data: &Nest) -> Nest {
    let inner = Nest::default().string(nft::EXPR_NAME, name).nest(nft::EXPR_DATA, data);
    list.nest(nft::LIST_ELEM, &inner)
}

fn compare(operator: u32, with: &[u8]) -> Nest {
    Nest::default()
        .attr(nft::CMP_SREG, &nft::REG_1.to_be_bytes())
        .attr(nft::CMP_OP, &operator.to_be_bytes())
        .nest(nft::CMP_DATA, &value(with))
}

fn value(bytes: &[u8]) -> Nest {
    Nest::default().attr(nft::DATA_VALUE, bytes)
}

fn nft_message(kind: u16, family: u8, flags: i32) -> Message {
    // struct nfgenmsg: family, version, resource id
    Message::new(nft::SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_no_bits_beyond_its_prefix() {
        let range = Range::parse("198.18.0.0/15").unwrap();
        assert_eq!(range.mask(), [255, 254, 0, 0]);
        assert_eq!(Range::parse("2600:1000::/20").unwrap().mask()[..4], [255, 255, 240, 0]);
        assert_eq!(Range::parse("198.18.0.1/15"), None);
        assert_eq!(Range::parse("198.18.0.0/33"), None);
        assert_eq!(Range::parse("x/8"), None);
    }
}
