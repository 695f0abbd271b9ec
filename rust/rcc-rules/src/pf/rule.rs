//! A rule of pf's, as a value: rcc's own ones are made of this type, and what `pfctl` lists is read into it.

use ipnet::IpNet;
use std::fmt;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The packet goes.
    Pass,
    /// It does not, and the sender is told: a reset for TCP, an ICMP message for others.
    Return,
    /// It does not, silently.
    Drop,
}

/// Which way a packet goes, seen from the machine. On `lo0` each goes out and comes in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards a socket of this machine's, or to be forwarded.
    In,
    /// From this machine.
    Out,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `inet`
    V4,
    /// `inet6`
    V6,
}

/// A protocol with ports: for these alone pf knows whose socket a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Whose socket: the effective ids of the process that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That user's.
    User(u32),
    /// That group's.
    Group(u32),
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its address; any, if not said.
    pub net: Option<IpNet>,
    /// Its ports, from and to.
    pub ports: Option<(u16, u16)>,
}

/// TCP flags, as bits of the header: of those in `of`, exactly those in `set`. None in `of`: whatever they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Those that must be set.
    pub set: u8,
    /// Those that are looked at.
    pub of: u8,
}

/// A filter rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Which way; both, if not said.
    pub direction: Option<Direction>,
    /// Whether it decides at once. Else the last rule that matches does.
    pub quick: bool,
    /// On which interface; all, if not said.
    pub interface: Option<String>,
    /// Of which family; both, if not said.
    pub family: Option<Family>,
    /// Of which protocol; all, if not said.
    pub protocol: Option<Transport>,
    /// Where from.
    pub from: Place,
    /// Where to.
    pub to: Place,
    /// Whose; everybody's, if not said.
    pub owner: Option<Owner>,
    /// TCP flags.
    pub flags: Flags,
    /// Whether what it lets go is let go in both directions from then on, whatever the rules become.
    pub state: bool,
    /// Its label, less than 64 bytes.
    pub label: Option<String>,
}

/// The letters of TCP's flags from the lowest bit, as pf writes them.
const LETTERS: &str = "FSRPAUEW";

impl Flags {
    /// A first packet, and no other: SYN without ACK.
    pub const FIRST: Self = Self { set: 0x02, of: 0x12 };

    /// Whether a packet with these flags is meant.
    #[must_use]
    pub fn hold(self, flags: u8) -> bool {
        flags & self.of == self.set
    }

    /// `S/SA`, `any`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "any" {
            return Some(Self::default());
        }
        let bits = |letters: &str| {
            letters.chars().try_fold(0_u8, |bits, c| Some(bits | 1 << u8::try_from(LETTERS.find(c)?).ok()?))
        };
        let (set, of) = text.split_once('/')?;
        Some(Self { set: bits(set)?, of: bits(of)? })
    }
}

impl Place {
    /// One address, or a range, on one port.
    pub(super) fn at(net: impl Into<IpNet>, port: u16) -> Self {
        Self { net: Some(net.into()), ports: Some((port, port)) }
    }

    /// Every address, and each port by name. A rule with ports is not about fragments, of which pf does not ask whose they
    /// are: without this, other people's would be refused.
    pub(super) const EVERY: Self = Self { net: None, ports: Some((0, u16::MAX)) };
}

impl Rule {
    /// The family of its addresses, if they say one.
    pub(super) fn family_of(from: &Place, to: &Place) -> Option<Family> {
        from.net.or(to.net).map(|net| if matches!(net, IpNet::V4(_)) { Family::V4 } else { Family::V6 })
    }
}

/// As in pf.conf(5), and nearly as pfctl lists it: that leaves `flags any` away where nothing is kept.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Pass => "pass",
            Action::Return => "block return",
            Action::Drop => "block drop",
        })?;
        match self.direction {
            Some(Direction::In) => f.write_str(" in")?,
            Some(Direction::Out) => f.write_str(" out")?,
            None => {}
        }
        if self.quick {
            f.write_str(" quick")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " on {interface}")?;
        }
        match self.family {
            Some(Family::V4) => f.write_str(" inet")?,
            Some(Family::V6) => f.write_str(" inet6")?,
            None => {}
        }
        match self.protocol {
            Some(Transport::Tcp) => f.write_str(" proto tcp")?,
            Some(Transport::Udp) => f.write_str(" proto udp")?,
            None => {}
        }
        if self.from == Place::default() && self.to == Place::default() {
            f.write_str(" all")?;
        } else {
            write!(f, " from {} to {}", self.from, self.to)?;
        }
        match self.owner {
            Some(Owner::User(id)) => write!(f, " user = {id}")?,
            Some(Owner::Group(id)) => write!(f, " group = {id}")?,
            None => {}
        }
        if self.flags != Flags::default() {
            write!(f, " flags {}", self.flags)?;
        } else if self.action == Action::Pass && self.protocol != Some(Transport::Udp) {
            f.write_str(" flags any")?;
        }
        if self.action == Action::Pass {
            f.write_str(if self.state { " keep state" } else { " no state" })?;
        }
        match &self.label {
            Some(label) => write!(f, " label \"{label}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.net {
            None => f.write_str("any")?,
            Some(net) => f.write_str(&crate::rule::short(net))?,
        }
        match self.ports {
            None => Ok(()),
            Some((port, last)) if port == last => write!(f, " port = {port}"),
            Some((first, last)) => write!(f, " port {first}:{last}"),
        }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = |bits: u8| LETTERS.chars().enumerate().filter(move |(i, _)| bits & (1 << i) != 0).map(|(_, c)| c);
        write!(f, "{}/{}", letters(self.set).collect::<String>(), letters(self.of).collect::<String>())
    }
}
