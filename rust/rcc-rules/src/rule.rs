//! A rule as a value. Each part of it says the same three times: what it holds for, in nft's text, in nft's JSON.
//!
//! No rule looks into a set: while one table replaces another, the kernel may find nothing in a set that holds the address
//! (docs/decisions/0021), and a denial that is missed opens what it denies.

use ipnet::{IpNet, Ipv6Net};
use std::fmt;

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The user whose socket sends the packet.
    User(u32),
    /// The address it is sent to.
    To(IpNet),
    /// Sent to IPv6 outside of this range.
    OutsideV6(Ipv6Net),
    /// Sent to what the routing table does not call unicast: this machine's own addresses, broadcast, multicast.
    NotUnicast,
    /// TCP to this port.
    Tcp(u16),
    /// UDP to this port.
    Udp(u16),
    /// TCP.
    AnyTcp,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Counts, and lets the packet go.
    Accept,
    /// Counts, and goes on in that chain.
    Jump(&'static str),
    /// Counts, and goes on in that chain for good.
    Goto(&'static str),
    /// Writes to the kernel's log with that prefix, ten times a minute at most.
    Log(&'static str),
    /// Refuses as a closed port does: the sender has ECONNREFUSED.
    Reset,
    /// Counts, and refuses as an administrator does: the sender has EHOSTUNREACH.
    Prohibit,
}

/// A rule: all of `matches` hold, then `action`. The comment is what people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it looks at.
    pub matches: Vec<Match>,
    /// What it does.
    pub action: Action,
    /// Why it is there. Plain ASCII without quotes, at most 128 bytes, as nft has it.
    pub comment: String,
}

impl Rule {
    pub(crate) fn new(matches: impl Into<Vec<Match>>, action: Action, comment: impl Into<String>) -> Self {
        Self { matches: matches.into(), action, comment: comment.into() }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "meta skuid {id}"),
            Self::To(net) => write!(f, "{} daddr {}", family(net), short(net)),
            Self::OutsideV6(net) => write!(f, "ip6 daddr != {net}"),
            Self::NotUnicast => f.write_str("fib daddr type != unicast"),
            Self::Tcp(port) => write!(f, "tcp dport {port}"),
            Self::Udp(port) => write!(f, "udp dport {port}"),
            Self::AnyTcp => f.write_str("meta l4proto 6"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("counter accept"),
            Self::Jump(chain) => write!(f, "counter jump {chain}"),
            Self::Goto(chain) => write!(f, "counter goto {chain}"),
            Self::Log(prefix) => {
                write!(f, "limit rate {LOG_RATE}/minute burst {LOG_BURST} packets log prefix \"{prefix}\"")
            }
            Self::Reset => f.write_str("reject with tcp reset"),
            Self::Prohibit => f.write_str("counter reject with icmpx admin-prohibited"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.matches {
            write!(f, "{part} ")?;
        }
        write!(f, "{} comment \"{}\"", self.action, self.comment)
    }
}

/// Lines a minute that refused packets may write to the kernel's log, and at once.
pub(crate) const LOG_RATE: u32 = 10;
pub(crate) const LOG_BURST: u32 = 5;

/// `ip` or `ip6`.
pub(crate) fn family(net: &IpNet) -> &'static str {
    if matches!(net, IpNet::V4(_)) { "ip" } else { "ip6" }
}

/// As nft writes it: a single address without a length.
pub(crate) fn short(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}
