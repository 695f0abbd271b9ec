//! The rules of the anchor, made of a policy and a Mac.
//!
//! The gateway's are those of the nftables table, each turned into pf's form: same order, same meaning. What differs is
//! pf's: whose a packet is, it knows of TCP and UDP alone; a state that somebody else's rule keeps lets packets go before
//! any rule is asked, so nothing may come in, either, that a state could be made of.

use super::rule::{Action, Direction, Flags, Owner, Place, Rule, Transport};
use crate::rule::{Action as TableAction, Match, Rule as TableRule};
use crate::table::{Facts, gateway};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rcc_policy::{Egress, Fingerprint};
use rcc_proto::macos::{FORWARD_PORT, SSH_PORT};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a Mac adds to the facts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mac {
    /// The group of the process that carries all of the machine's traffic.
    pub group: u32,
    /// Its own addresses.
    pub own: BTreeSet<IpNet>,
}

/// The rules of the anchor, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The policy's.
    pub fingerprint: Fingerprint,
    /// The rules.
    pub rules: Vec<Rule>,
}

const LOOPBACK: &str = "lo0";
const LOCAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32);
const CANARY: &str = "canary";

impl Ruleset {
    /// What must be in force.
    #[must_use]
    pub fn new(egress: &Egress, fingerprint: Fingerprint, facts: &Facts, mac: &Mac) -> Self {
        let mut rules = machine(mac.group);
        let (user, mut flows) = (Owner::User(facts.gateway), flows(&gateway(egress, fingerprint, facts), facts, mac));
        for flow in flows.iter_mut().filter(|flow| flow.comment == CANARY) {
            let canary = fingerprint.mac_canary();
            flow.to = Place::at(Ipv4Net::from(*canary.ip()), canary.port());
        }
        rules.extend(listener(user, FORWARD_PORT, "forwarders", Action::Return));
        rules.extend(closed(FORWARD_PORT));
        rules.extend(flows.iter().map(|flow| flow.out(user)));
        rules.push(nobody_connects(user));
        rules.extend(flows.iter().filter(|flow| flow.comment != CANARY).map(|flow| flow.back(user)));
        rules.extend(walls(facts.gateway, mac.group));
        for rule in &mut rules {
            let why = rule.label.take().unwrap_or_default();
            rule.label = Some(format!("rcc {fingerprint} {why}"));
        }
        Self { fingerprint, rules }
    }

    /// The same without the canary: all that is denied is denied already, and the gateway still holds its sessions.
    #[must_use]
    pub fn unproven(&self) -> Self {
        let canary = |rule: &Rule| rule.label.as_deref().is_some_and(|label| label.ends_with(CANARY));
        let rules = self.rules.iter().filter(|rule| !canary(rule)).cloned().collect();
        Self { fingerprint: self.fingerprint, rules }
    }

    /// Whether other rules, which were in force, are rcc's for the same user and group, by whichever policy: then each of
    /// their packets was decided by a rule that keeps no state, and no state of theirs can be there.
    #[must_use]
    pub fn held_by(&self, listed: &[Rule]) -> bool {
        let canary = |rule: &Rule| rule.label.as_deref().is_some_and(|label| label.ends_with(CANARY));
        let bare = |rule: &Rule| Rule { label: None, ..rule.clone() };
        let walls = self.rules.len().saturating_sub(WALLS);
        let theirs = listed.len().saturating_sub(WALLS);
        listed.iter().all(|rule| rule.quick && !rule.state && fingerprint_of(rule).is_some())
            && listed.iter().any(canary)
            && listed.iter().skip(theirs).map(bare).eq(self.rules.iter().skip(walls).map(bare))
    }
}

/// The policy's fingerprint in a rule's label.
#[must_use]
pub fn fingerprint_of(rule: &Rule) -> Option<Fingerprint> {
    let (fingerprint, _) = rule.label.as_deref()?.strip_prefix("rcc ")?.split_once(' ')?;
    Fingerprint::parse(fingerprint)
}

/// As pf.conf(5) has it.
impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

fn rule(action: Action, direction: Direction, protocol: Transport, owner: Owner, why: impl Into<String>) -> Rule {
    Rule {
        action,
        direction: Some(direction),
        quick: true,
        interface: None,
        family: None,
        protocol: Some(protocol),
        from: Place::default(),
        to: Place::default(),
        owner: Some(owner),
        flags: Flags::default(),
        state: false,
        label: Some(why.into()),
    }
}

/// How what goes out is refused. Of a datagram nobody is told: the pfctl crate leaves the kind of ICMP message at zero, with
/// which pf sends none, and the gateway knows by that silence that a rule holds.
fn refusal(protocol: Transport) -> Action {
    match protocol {
        Transport::Tcp => Action::Return,
        Transport::Udp => Action::Drop,
    }
}

fn between(mut rule: Rule, from: Place, to: Place) -> Rule {
    (rule.from, rule.to) = (from, to);
    rule.family = Rule::family_of(&from, &to);
    rule
}

fn on_loopback(mut rule: Rule, from: Place, to: Place) -> Rule {
    rule.interface = Some(LOOPBACK.to_owned());
    between(rule, from, to)
}

/// All that the machine's process may: reach the gateway, and be reached by Podman's ssh.
fn machine(group: u32) -> Vec<Rule> {
    let group = Owner::Group(group);
    let local = Place { net: Some(LOCAL.into()), ports: None };
    let gateway = Place::at(LOCAL, FORWARD_PORT);
    let tcp = |direction, why| rule(Action::Pass, direction, Transport::Tcp, group, why);
    let mut rules = vec![on_loopback(tcp(Direction::Out, "to the gateway"), local, gateway)];
    rules.extend(listener(group, SSH_PORT, "podman's ssh", Action::Return));
    rules.push(nobody_connects(group));
    rules.push(on_loopback(tcp(Direction::In, "from the gateway"), gateway, local));
    rules
}

/// A port of loopback that an owner listens at: what comes to it, and the answers. No connection begins there.
fn listener(owner: Owner, port: u16, why: &str, refuse: Action) -> [Rule; 3] {
    let local = Place { net: Some(LOCAL.into()), ports: None };
    let at = Place::at(LOCAL, port);
    let first = rule(refuse, Direction::Out, Transport::Tcp, owner, format!("{why}: answers alone"));
    [
        between(Rule { flags: Flags::FIRST, ..first }, at, Place::default()),
        on_loopback(rule(Action::Pass, Direction::Out, Transport::Tcp, owner, format!("{why}: answers")), at, local),
        on_loopback(rule(Action::Pass, Direction::In, Transport::Tcp, owner, why), local, at),
    ]
}

/// What no rule before let through to a port of loopback: nobody else dials it, and to nobody else who listens there it comes.
fn closed(port: u16) -> [Rule; 2] {
    let at = Place::at(LOCAL, port);
    let to = |action, direction, why: &str| {
        let named = rule(action, direction, Transport::Tcp, Owner::User(0), why);
        between(Rule { owner: None, ..named }, Place::default(), at)
    };
    [to(Action::Return, Direction::Out, "the machine alone"), to(Action::Drop, Direction::In, "the gateway alone")]
}

fn nobody_connects(owner: Owner) -> Rule {
    let first = rule(Action::Drop, Direction::In, Transport::Tcp, owner, "nobody connects to it");
    between(Rule { flags: Flags::FIRST, ..first }, Place::EVERY, Place::default())
}

/// How many rules [`walls`] makes.
const WALLS: usize = 8;

/// What no rule before said: nothing of theirs goes out, nothing comes in to them.
fn walls(user: u32, group: u32) -> Vec<Rule> {
    let mut all = Vec::with_capacity(WALLS);
    for owner in [Owner::Group(group), Owner::User(user)] {
        for protocol in [Transport::Tcp, Transport::Udp] {
            let out = rule(refusal(protocol), Direction::Out, protocol, owner, "nothing else");
            all.push(between(out, Place::default(), Place::EVERY));
        }
        for protocol in [Transport::Tcp, Transport::Udp] {
            let back = rule(Action::Drop, Direction::In, protocol, owner, "nothing else");
            all.push(between(back, Place::EVERY, Place::default()));
        }
    }
    all
}

/// Where the gateway may, or may not, send to; and what comes back from there.
struct Flow {
    pass: bool,
    protocol: Transport,
    to: Place,
    comment: String,
}

impl Flow {
    fn out(&self, owner: Owner) -> Rule {
        let action = if self.pass { Action::Pass } else { refusal(self.protocol) };
        let made = rule(action, Direction::Out, self.protocol, owner, self.comment.clone());
        if self.comment == CANARY {
            return on_loopback(made, Place::default(), self.to);
        }
        between(made, Place::default(), self.to)
    }

    fn back(&self, owner: Owner) -> Rule {
        let action = if self.pass { Action::Pass } else { Action::Drop };
        between(rule(action, Direction::In, self.protocol, owner, self.comment.clone()), self.to, Place::default())
    }
}

/// The table's rules for the gateway's user, as pf can say them; TCP's first. Refusals with none but refusals behind them
/// are the walls' business.
fn flows(rules: &[TableRule], facts: &Facts, mac: &Mac) -> Vec<Flow> {
    let all: Vec<Flow> = rules.iter().flat_map(|rule| flows_of(rule, facts, mac)).collect();
    let (tcp, udp): (Vec<_>, Vec<_>) = all.into_iter().partition(|flow| flow.protocol == Transport::Tcp);
    [tcp, udp].into_iter().flat_map(needed).collect()
}

fn needed(mut flows: Vec<Flow>) -> Vec<Flow> {
    let last = flows.iter().rposition(|flow| flow.pass).map_or(0, |i| i + 1);
    flows.truncate(last);
    flows
}

fn flows_of(rule: &TableRule, facts: &Facts, mac: &Mac) -> Vec<Flow> {
    let pass = match rule.action {
        TableAction::Accept => true,
        TableAction::Goto(_) | TableAction::Reset | TableAction::Prohibit => false,
        // Neither decides anything.
        TableAction::Jump(_) | TableAction::Log(_) => return Vec::new(),
    };
    let mut nets: Vec<Option<IpNet>> = vec![None];
    let mut ports: Vec<(Transport, (u16, u16))> = [Transport::Tcp, Transport::Udp].map(|p| (p, (0, u16::MAX))).into();
    for condition in &rule.matches {
        match condition {
            // The owner is said of each rule.
            Match::User(_) => {}
            Match::To(net) => nets = vec![Some(*net)],
            Match::OutsideV6(net) => nets = around(*net).map(|net| Some(net.into())).collect(),
            Match::NotUnicast => nets = not_unicast(facts, mac).into_iter().map(Some).collect(),
            Match::Tcp(port) => ports = vec![(Transport::Tcp, (*port, *port))],
            Match::Udp(port) => ports = vec![(Transport::Udp, (*port, *port))],
            Match::AnyTcp => ports = vec![(Transport::Tcp, (0, u16::MAX))],
        }
    }
    let comment = if rule.comment.starts_with(CANARY) { CANARY } else { &rule.comment };
    let one = |net: &Option<IpNet>, (protocol, ports): (Transport, (u16, u16))| Flow {
        pass,
        protocol,
        // As pfctl shows it again.
        to: Place { net: net.map(|net| net.trunc()), ports: Some(ports) },
        comment: comment.to_owned(),
    };
    nets.iter().flat_map(|net| ports.iter().map(|at| one(net, *at)).collect::<Vec<_>>()).collect()
}

/// What is no single machine's address elsewhere: this machine's own, broadcast, multicast. pf has no word for it.
fn not_unicast(facts: &Facts, mac: &Mac) -> Vec<IpNet> {
    let broadcast = facts.on_link.iter().filter_map(|net| match net {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(IpNet::from(IpNet::V4(*net).broadcast())),
        _ => None,
    });
    let fixed = [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)),
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    ];
    // A Mac has many link-local addresses, which change; all of these are refused, as not public.
    let link_local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let own = mac.own.iter().copied().filter(|net| !link_local(net));
    let mut all: Vec<IpNet> = fixed.into_iter().chain(broadcast).chain(own).collect();
    // ::/128 and ::1/128 would become ::/127, which says less to people.
    all.sort_unstable();
    all.dedup();
    all
}

/// All of IPv6 but a range.
fn around(net: Ipv6Net) -> impl Iterator<Item = Ipv6Net> {
    let bits = net.network().to_bits();
    (0..net.prefix_len()).filter_map(move |at| {
        let other = bits ^ (1 << (127 - at));
        Ipv6Net::new(Ipv6Addr::from_bits(other), at + 1).ok().map(|net| net.trunc())
    })
}
