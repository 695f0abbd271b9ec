//! How pf decides: a model, to be compared with what the policy says.
//!
//! Written from the kernel's source (xnu, `bsd/net/pf.c`: `pf_test_rule`, `pf_test_fragment`, `pf_step_into_anchor`): the
//! last rule that matches decides, a quick one at once; of an anchor with `/*` its children are evaluated in the order of
//! their names; whose a packet is, is known of TCP and UDP alone, and of fragments it is not asked; without a match it goes.
//! States are not part of it: no rule of rcc's keeps one.

use super::listing::{Call, Line};
use super::rule::{Action, Direction, Family, Flags, Owner, Place, Rule, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A packet at the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// On which interface.
    pub interface: &'a str,
    /// TCP or UDP; others have no ports.
    pub protocol: Option<Transport>,
    /// Where from.
    pub from: (IpAddr, u16),
    /// Where to.
    pub to: (IpAddr, u16),
    /// TCP's flags.
    pub flags: u8,
    /// The user and group of the socket that it belongs to, if the kernel finds one.
    pub owner: Option<(u32, u32)>,
    /// A fragment that nobody put together: without ports.
    pub fragment: bool,
}

/// A `nat` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Whether no filter rule is asked.
    pub pass: bool,
    /// On which interface.
    pub interface: String,
    /// For whom.
    pub from: ipnet::IpNet,
}

/// What pf has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Whether it filters at all.
    pub enabled: bool,
    /// Interfaces that it leaves out.
    pub skipped: BTreeSet<String>,
    /// What is translated, before it is filtered: then no socket is found for it.
    pub translations: Vec<Translation>,
    /// The main rules.
    pub main: Vec<Line>,
    /// Those of each anchor, by its whole name.
    pub anchors: BTreeMap<String, Vec<Line>>,
}

impl Kernel {
    /// Whether a packet goes, and the rule that says so, if any does.
    #[must_use]
    pub fn decide(&self, packet: &Packet<'_>) -> (bool, Option<&Rule>) {
        if !self.enabled || self.skipped.contains(packet.interface) {
            return (true, None);
        }
        let translated = packet.direction == Direction::Out;
        let translation =
            self.translations.iter().filter(|_| translated).find(|translation| {
                translation.interface == packet.interface && translation.from.contains(&packet.from.0)
            });
        if translation.is_some_and(|translation| translation.pass) {
            return (true, None);
        }
        let packet = &Packet { owner: if translation.is_some() { None } else { packet.owner }, ..*packet };
        let mut last = None;
        self.walk(&self.main, packet, &mut last);
        (last.is_none_or(|rule| rule.action == Action::Pass), last)
    }

    /// True when a quick rule, or a quick anchor with a rule that matched, has decided.
    fn walk<'a>(&'a self, lines: &'a [Line], packet: &Packet<'_>, last: &mut Option<&'a Rule>) -> bool {
        for line in lines {
            match line {
                Line::Rule(rule) if matches(rule, packet) => {
                    *last = Some(rule);
                    if rule.quick {
                        return true;
                    }
                }
                Line::Anchor(call) => {
                    let before = *last;
                    for inner in self.called(call) {
                        if self.walk(inner, packet, last) {
                            return true;
                        }
                    }
                    let matched = !std::ptr::eq(pointer(before), pointer(*last));
                    if call.quick && matched {
                        return true;
                    }
                }
                Line::Rule(_) | Line::Other(_) => {}
            }
        }
        false
    }

    fn called(&self, call: &Call) -> Vec<&Vec<Line>> {
        let Some(parent) = call.name.strip_suffix("/*") else {
            return self.anchors.get(&call.name).into_iter().collect();
        };
        let child = |name: &str| {
            name.strip_prefix(parent).and_then(|n| n.strip_prefix('/')).is_some_and(|rest| !rest.contains('/'))
        };
        self.anchors.iter().filter(|(name, _)| child(name)).map(|(_, lines)| lines).collect()
    }
}

fn pointer(rule: Option<&Rule>) -> *const Rule {
    rule.map_or(std::ptr::null(), std::ptr::from_ref)
}

fn matches(rule: &Rule, packet: &Packet<'_>) -> bool {
    let family = if packet.to.0.is_ipv4() { Family::V4 } else { Family::V6 };
    let plain = rule.direction.is_none_or(|d| d == packet.direction)
        && rule.interface.as_deref().is_none_or(|i| i == packet.interface)
        && rule.family.is_none_or(|f| f == family)
        && rule.protocol.is_none_or(|p| packet.protocol == Some(p))
        && rule.from.net.is_none_or(|net| net.contains(&packet.from.0))
        && rule.to.net.is_none_or(|net| net.contains(&packet.to.0));
    if !plain {
        return false;
    }
    if packet.fragment {
        // Whose it is, is not asked; a rule that needs more than its header has is not about it.
        let ports = packet.protocol.is_some() && rule.from.ports.or(rule.to.ports).is_some();
        let flags = packet.protocol == Some(Transport::Tcp) && rule.flags != Flags::default();
        return !ports && !flags;
    }
    let port = |place: &Place, port: u16| place.ports.is_none_or(|(first, last)| (first..=last).contains(&port));
    if rule.protocol.is_some() && !(port(&rule.from, packet.from.1) && port(&rule.to, packet.to.1)) {
        return false;
    }
    if packet.protocol == Some(Transport::Tcp) && !rule.flags.hold(packet.flags) {
        return false;
    }
    let owner = if packet.protocol.is_some() { packet.owner } else { None };
    match rule.owner {
        None => true,
        Some(Owner::User(user)) => owner.is_some_and(|(of, _)| of == user),
        Some(Owner::Group(group)) => owner.is_some_and(|(_, of)| of == group),
    }
}
