//! What the rules say to a packet, as the kernel evaluates them: for explanations, and to be compared with the kernel.

use crate::rule::{Action, Match, Rule};
use crate::table::{OUTPUT, Table};
use std::net::IpAddr;

/// A packet that a program of this machine sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The user whose socket it is.
    pub user: u32,
    /// Where it is sent to.
    pub to: IpAddr,
    /// By what, to which port.
    pub protocol: Protocol,
    /// Whether the routing table calls the address unicast.
    pub unicast: bool,
}

/// A packet's protocol, with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp(u16),
    /// UDP.
    Udp(u16),
    /// Any other.
    Other,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling<'a> {
    /// No rule here is about it.
    NotOurs,
    /// It goes, by this rule.
    Accepted(&'a Rule),
    /// It is refused, by this rule.
    Refused(&'a Rule),
}

impl Table {
    /// What becomes of a packet, and by which rule: of a refusal, the one that gave the reason.
    #[must_use]
    pub fn decide(&self, packet: &Packet) -> Ruling<'_> {
        self.walk(OUTPUT, packet, None).unwrap_or(Ruling::NotOurs)
    }

    fn walk<'a>(&'a self, chain: &str, packet: &Packet, reason: Option<&'a Rule>) -> Option<Ruling<'a>> {
        let (_, rules) = self.chains.iter().find(|(name, _)| *name == chain)?;
        for rule in rules {
            if !rule.matches.iter().all(|m| holds(m, packet)) {
                continue;
            }
            match &rule.action {
                Action::Accept => return Some(Ruling::Accepted(rule)),
                Action::Reset | Action::Prohibit => return Some(Ruling::Refused(reason.unwrap_or(rule))),
                Action::Goto(next) => return self.walk(next, packet, Some(reason.unwrap_or(rule))),
                Action::Jump(next) => {
                    if let Some(ruling) = self.walk(next, packet, reason) {
                        return Some(ruling);
                    }
                }
                Action::Log(_) => {}
            }
        }
        None
    }
}

fn holds(what: &Match, packet: &Packet) -> bool {
    match what {
        Match::User(user) => packet.user == *user,
        Match::To(net) => net.contains(&packet.to),
        Match::OutsideV6(net) => matches!(packet.to, IpAddr::V6(ip) if !net.contains(&ip)),
        Match::NotUnicast => !packet.unicast,
        Match::Tcp(port) => packet.protocol == Protocol::Tcp(*port),
        Match::Udp(port) => packet.protocol == Protocol::Udp(*port),
        Match::AnyTcp => matches!(packet.protocol, Protocol::Tcp(_)),
    }
}
