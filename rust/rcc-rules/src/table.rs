//! The table, made of a policy and a machine.

use crate::rule::{Action, Match, Rule};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rcc_policy::address::{METADATA, NAT64, PUBLIC_V6, SIX_TO_FOUR, SPECIAL_V4, SPECIAL_V6};
use rcc_policy::{Egress, Fingerprint, Resolvers};
use std::collections::BTreeSet;
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
        let refused = vec![
            Rule::new([], Action::Log("rcc refused: "), "what is refused, in the kernel's log"),
            Rule::new([Match::AnyTcp], Action::Reset, "refused at once"),
            Rule::new([], Action::Prohibit, "refused at once"),
        ];
        let output =
            vec![Rule::new([Match::User(facts.gateway)], Action::Jump(GATEWAY), "all that the gateway's user sends")];
        Self {
            fingerprint,
            chains: vec![(REFUSED, refused), (GATEWAY, gateway(egress, fingerprint, facts)), (OUTPUT, output)],
        }
    }
}

/// The rules for what the gateway's user sends. Their order is the meaning.
pub(crate) fn gateway(egress: &Egress, fingerprint: Fingerprint, facts: &Facts) -> Vec<Rule> {
    let tcp = Match::Tcp;
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
    let accept = |rules: &mut Vec<Rule>, to: Option<IpNet>, comment: &str| {
        for port in &egress.ports {
            let matches: Vec<Match> = to.map(Match::To).into_iter().chain([tcp(*port)]).collect();
            rules.push(Rule::new(matches, Action::Accept, comment));
        }
    };
    for net in &egress.fake_ip {
        accept(&mut rules, Some(*net), "made up by a VPN, by the policy");
    }
    let closed = Closed::of(facts);
    let refused = |nets: &[IpNet], comment: &'static str| -> Vec<Rule> {
        nets.iter().map(|net| Rule::new([Match::To(*net)], refuse.clone(), comment)).collect()
    };
    rules.extend(refused(&closed.on_link, ON_LINK));
    rules.extend(refused(&closed.special4, "not public"));
    rules.extend(refused(&closed.translated, "not public, translated"));
    for prefix in translators(facts) {
        accept(&mut rules, Some(prefix.into()), "public, translated, on the policy's ports");
    }
    for prefix in facts.nat64.iter().filter(|prefix| prefix.prefix_len() == 64) {
        rules.push(Rule::new([Match::To((*prefix).into())], refuse.clone(), "translated, who knows whereto"));
    }
    rules.push(Rule::new([Match::OutsideV6(PUBLIC_V6)], refuse.clone(), "not public"));
    rules.extend(refused(&closed.special6, "not public"));
    accept(&mut rules, None, "public, on the policy's ports");
    rules.push(Rule::new([], refuse, "a port that the policy does not name"));
    rules
}

/// What a rule says whose address is a neighbour's.
pub const ON_LINK: &str = "a network of this machine's links";

/// Addresses that are not public, each list without one range in another.
struct Closed {
    on_link: Vec<IpNet>,
    special4: Vec<IpNet>,
    special6: Vec<IpNet>,
    /// Those that stand for one of IPv4 above.
    translated: Vec<IpNet>,
}

impl Closed {
    fn of(facts: &Facts) -> Self {
        let special4: Vec<IpNet> = SPECIAL_V4.iter().map(|(net, _)| IpNet::V4(*net)).collect();
        let special6 = SPECIAL_V6.iter().map(|(net, _)| *net).chain([SIX_TO_FOUR]).map(IpNet::V6);
        let on_link: Vec<IpNet> = facts.on_link.iter().map(IpNet::trunc).collect();
        let v4 =
            special4.iter().chain(&on_link).filter_map(|net| if let IpNet::V4(net) = net { Some(*net) } else { None });
        let translated = v4.flat_map(|net| translators(facts).filter_map(move |prefix| translated(prefix, net)));
        Self {
            translated: IpNet::aggregate(&translated.map(IpNet::V6).collect()),
            special6: IpNet::aggregate(&special6.collect()),
            special4: IpNet::aggregate(&special4),
            on_link: IpNet::aggregate(&on_link),
        }
    }
}

/// A denial of root's, on one port or on all.
fn denial(net: IpNet, port: Option<u16>) -> Rule {
    let mut matches = vec![Match::To(net)];
    matches.extend(port.map(Match::Tcp));
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
        let opened = |rule: &Rule| {
            if rule.comment.starts_with("public, translated") { rule.matches.first().cloned() } else { None }
        };
        let opened: Vec<Match> = table.chains.iter().flat_map(|(_, rules)| rules).filter_map(opened).collect();
        assert!(opened.iter().all(|m| *m == Match::To("64:ff9b::/96".parse().unwrap())) && !opened.is_empty());
    }
}
