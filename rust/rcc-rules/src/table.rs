//! The table, made of a policy and a machine.

use crate::rule::{Action, Match, Rule, SetName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rcc_policy::address::{METADATA, NAT64, PUBLIC_V6, SIX_TO_FOUR, SPECIAL_V4, SPECIAL_V6};
use rcc_policy::{Egress, Fingerprint, Resolvers};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What the machine adds to the policy.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Facts {
    /// The gateway's user.
    pub gateway: u32,
    /// The machine's own resolvers, for a policy that follows the machine.
    pub resolvers: BTreeSet<SocketAddr>,
    /// The networks of its links: connected prefixes, with those of links that have no gateway.
    pub on_link: BTreeSet<IpNet>,
    /// The prefixes by which its network translates IPv4, but for the well-known one.
    pub nat64: BTreeSet<Ipv6Net>,
}

/// The table `inet rcc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The policy's.
    pub fingerprint: Fingerprint,
    /// The named sets.
    pub sets: BTreeMap<SetName, Vec<IpNet>>,
    /// The chains and their rules, in the order in which they are made: a chain comes before those that jump to it.
    pub chains: Vec<(&'static str, Vec<Rule>)>,
}

/// The chain of refused packets.
pub(crate) const REFUSED: &str = "refused";
/// The chain of the gateway's packets.
pub(crate) const GATEWAY: &str = "gateway";
/// The chain that is hooked into the kernel.
pub(crate) const OUTPUT: &str = "output";
/// After every rule that could give a packet another destination (`dstnat` is -100), and after the usual filters (0).
pub(crate) const PRIORITY: i32 = 200;

impl Table {
    /// What must be in force.
    #[must_use]
    pub fn new(egress: &Egress, fingerprint: Fingerprint, facts: &Facts) -> Self {
        let nat64: Vec<Ipv6Net> = translators(facts).collect();
        let special4: Vec<Ipv4Net> = SPECIAL_V4.iter().map(|(net, _)| *net).collect();
        let special6 = SPECIAL_V6.iter().map(|(net, _)| *net).chain([SIX_TO_FOUR]);
        let v4 = |nets: &[Ipv4Net]| Ipv4Net::aggregate(&nets.to_vec()).into_iter().map(IpNet::V4).collect::<Vec<_>>();
        let v6 = |nets: &[Ipv6Net]| Ipv6Net::aggregate(&nets.to_vec()).into_iter().map(IpNet::V6).collect::<Vec<_>>();
        let (mut on_link4, mut on_link6) = (Vec::new(), Vec::new());
        for net in &facts.on_link {
            match net {
                IpNet::V4(net) => on_link4.push(net.trunc()),
                IpNet::V6(net) => on_link6.push(net.trunc()),
            }
        }
        let closed = special4.iter().chain(&on_link4);
        let translated: Vec<Ipv6Net> =
            closed.flat_map(|net| nat64.iter().filter_map(|prefix| translated(*prefix, *net))).collect();
        let sets = [
            (SetName::Special4, v4(&special4)),
            (SetName::Special6, v6(&special6.collect::<Vec<_>>())),
            (SetName::OnLink4, v4(&on_link4)),
            (SetName::OnLink6, v6(&on_link6)),
            (SetName::Nat64, v6(&nat64)),
            (SetName::Nat64Special, v6(&translated)),
        ];
        let refused = vec![
            Rule::new([], Action::Log("rcc refused: "), "what is refused, in the kernel's log"),
            Rule::new([Match::AnyTcp], Action::Reset, "refused at once"),
            Rule::new([], Action::Prohibit, "refused at once"),
        ];
        let output =
            vec![Rule::new([Match::User(facts.gateway)], Action::Jump(GATEWAY), "all that the gateway's user sends")];
        Self {
            fingerprint,
            sets: sets.into(),
            chains: vec![(REFUSED, refused), (GATEWAY, gateway(egress, fingerprint, facts)), (OUTPUT, output)],
        }
    }
}

/// The rules for what the gateway's user sends. Their order is the meaning.
fn gateway(egress: &Egress, fingerprint: Fingerprint, facts: &Facts) -> Vec<Rule> {
    let tcp = |port: u16| Match::Tcp([port].into());
    let refuse = Action::Goto(REFUSED);
    let canary = fingerprint.canary();
    let mut rules = vec![Rule::new(
        [Match::To(IpAddr::V4(*canary.ip()).into()), Match::Udp(canary.port())],
        Action::Accept,
        format!("canary, policy {fingerprint}"),
    )];
    for net in METADATA {
        rules.push(Rule::new([Match::To(*net)], refuse.clone(), "a cloud's metadata service"));
    }
    for (resolver, by_tls) in resolvers(egress, facts) {
        let to = Match::To(resolver.ip().into());
        if !by_tls {
            rules.push(Rule::new([to.clone(), Match::Udp(resolver.port())], Action::Accept, "a resolver"));
        }
        rules.push(Rule::new([to, tcp(resolver.port())], Action::Accept, "a resolver"));
    }
    if let Some(proxy) = egress.proxy {
        let to = Match::To(proxy.ip().into());
        rules.push(Rule::new([to, tcp(proxy.port())], Action::Accept, "the proxy, by the policy"));
    }
    for (net, port) in &egress.denied {
        let IpNet::V4(v4) = net else {
            rules.push(denial(*net, *port));
            continue;
        };
        let elsewhere = translators(facts).filter_map(|prefix| translated(prefix, *v4)).map(IpNet::V6);
        rules.extend([*net].into_iter().chain(elsewhere).map(|net| denial(net, *port)));
    }
    rules.push(Rule::new([Match::NotUnicast], refuse.clone(), "this machine's own, broadcast, multicast"));
    for prefix in facts.nat64.iter().filter(|prefix| translating(**prefix).is_none()) {
        rules.push(Rule::new([Match::To((*prefix).into())], refuse.clone(), "translated, who knows whereto"));
    }
    for (net, port) in &egress.private {
        rules.push(Rule::new([Match::To(*net), tcp(*port)], Action::Accept, "private, by the policy"));
    }
    let ports = (!egress.ports.is_empty()).then(|| Match::Tcp(egress.ports.clone()));
    if let Some(ports) = &ports {
        for net in &egress.fake_ip {
            rules.push(Rule::new([Match::To(*net), ports.clone()], Action::Accept, "made up by a VPN, by the policy"));
        }
    }
    let public = |set, comment: &str| Rule::new([Match::ToSet(set)], refuse.clone(), comment);
    rules.push(public(SetName::OnLink4, "a network of this machine's links"));
    rules.push(public(SetName::OnLink6, "a network of this machine's links"));
    rules.push(public(SetName::Special4, "not public"));
    rules.push(public(SetName::Nat64Special, "not public, translated"));
    if let Some(ports) = &ports {
        let to = Match::ToSet(SetName::Nat64);
        rules.push(Rule::new([to, ports.clone()], Action::Accept, "public, translated, on the policy's ports"));
    }
    for prefix in facts.nat64.iter().filter(|prefix| prefix.prefix_len() == 64) {
        rules.push(Rule::new([Match::To((*prefix).into())], refuse.clone(), "translated, who knows whereto"));
    }
    rules.push(Rule::new([Match::OutsideV6(PUBLIC_V6)], refuse.clone(), "not public"));
    rules.push(public(SetName::Special6, "not public"));
    if let Some(ports) = ports {
        rules.push(Rule::new([ports], Action::Accept, "public, on the policy's ports"));
    }
    rules.push(Rule::new([], refuse, "a port that the policy does not name"));
    rules
}

/// A denial of root's, on one port or on all.
fn denial(net: IpNet, port: Option<u16>) -> Rule {
    let mut matches = vec![Match::To(net)];
    matches.extend(port.map(|port| Match::Tcp([port].into())));
    Rule::new(matches, Action::Goto(REFUSED), "denied by the policy")
}

/// Whom the gateway may ask, and whether by TLS alone.
fn resolvers(egress: &Egress, facts: &Facts) -> BTreeSet<(SocketAddr, bool)> {
    match &egress.resolvers {
        Resolvers::System => facts.resolvers.iter().map(|address| (*address, false)).collect(),
        Resolvers::Given(given) => given.iter().map(|r| (r.address, r.tls.is_some())).collect(),
    }
}

/// Where addresses stand for IPv4: in the well-known prefix, and in the network's own.
fn translators(facts: &Facts) -> impl Iterator<Item = Ipv6Net> {
    facts.nat64.iter().copied().chain([NAT64]).filter_map(translating)
}

/// The addresses that stand for IPv4 in a network that translates by `prefix`, less those that a translator may understand
/// otherwise: behind 64 bits, octet 8 must be zero (RFC 6052, section 2.2). With shorter prefixes it stands in or behind
/// the IPv4 address, where no prefix can tell it; none of these is opened.
fn translating(prefix: Ipv6Net) -> Option<Ipv6Net> {
    match prefix.prefix_len() {
        64 => Ipv6Net::new(prefix.trunc().addr(), 72).ok(),
        96 => Some(prefix.trunc()),
        _ => None,
    }
}

/// The addresses that stand for a range of IPv4, within one of [`translating`].
fn translated(prefix: Ipv6Net, range: Ipv4Net) -> Option<Ipv6Net> {
    let shift = 96_u8.checked_sub(prefix.prefix_len())?;
    let bits = prefix.addr().to_bits() | u128::from(range.addr().to_bits()) << shift;
    Ipv6Net::new(Ipv6Addr::from_bits(bits), prefix.prefix_len() + range.prefix_len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(prefix: &str, range: &str) -> Option<String> {
        translated(translating(prefix.parse().unwrap())?, range.parse().unwrap()).map(|n| n.to_string())
    }

    #[test]
    fn ranges_are_translated_by_rfc_6052() {
        assert_eq!(t("64:ff9b::/96", "10.0.0.0/8").unwrap(), "64:ff9b::a00:0/104");
        assert_eq!(t("64:ff9b::/96", "100.64.0.0/10").unwrap(), "64:ff9b::6440:0/106");
        assert_eq!(t("2001:db8:1:2::/64", "127.0.0.0/8").unwrap(), "2001:db8:1:2:7f::/80");
        assert_eq!(t("2001:db8:122:344::/64", "192.0.2.33/32").unwrap(), "2001:db8:122:344:c0:2:2100:0/104");
        assert_eq!(t("2001:db8:122::/48", "192.0.2.33/32"), None);
    }

    #[test]
    fn what_a_translator_may_understand_otherwise_is_closed() {
        let facts = Facts {
            gateway: 1,
            resolvers: BTreeSet::new(),
            on_link: BTreeSet::new(),
            nat64: ["2600:64::/64".parse().unwrap()].into(),
        };
        let egress = rcc_policy::parse("allow = [\"a.example:443\"]\n", "p").unwrap();
        let table = Table::new(&egress.egress(), egress.fingerprint(), &facts);
        let goes = |to: &str| {
            let protocol = crate::Protocol::Tcp(443);
            let packet = crate::Packet { user: 1, to: to.parse().unwrap(), protocol, unicast: true };
            matches!(table.decide(&packet), crate::Ruling::Accepted(_))
        };
        assert!(goes("2600:64::1:203:400:0") && goes("2600:65::1"));
        assert!(!goes("2600:64::a:203:400:0") && !goes("2600:64::100:1:203:400"));
    }

    #[test]
    fn a_prefix_of_no_known_length_is_not_opened() {
        let facts = Facts {
            gateway: 1,
            resolvers: BTreeSet::new(),
            on_link: BTreeSet::new(),
            nat64: ["2001:db8::/33".parse().unwrap()].into(),
        };
        let egress = rcc_policy::parse("allow = [\"a.example:443\"]\n", "p").unwrap();
        let table = Table::new(&egress.egress(), egress.fingerprint(), &facts);
        assert_eq!(table.sets[&SetName::Nat64], ["64:ff9b::/96".parse::<IpNet>().unwrap()]);
    }
}
