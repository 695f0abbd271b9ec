//! rcc's rules as the pfctl crate's: the last step before the kernel.

use ipnet::IpNet;
use pfctl::{
    AddrFamily, Direction as TheirDirection, DropAction, Endpoint, FilterRule, FilterRuleAction, FilterRuleBuilder,
    Gid, Ip, Port, PortRangeModifier, Proto, StatePolicy, TcpFlag, TcpFlags, Uid, ipnetwork::IpNetwork,
};
use rcc_rules::pf::{Action, Direction, Family, Flags, Owner, Place, Rule, Transport};

/// The rule, or why the crate can't say it.
pub fn rule(rule: &Rule) -> Result<FilterRule, pfctl::Error> {
    let mut made = FilterRuleBuilder::default();
    made.action(match rule.action {
        Action::Pass => FilterRuleAction::Pass,
        Action::Return => FilterRuleAction::Drop(DropAction::Return),
        Action::Drop => FilterRuleAction::Drop(DropAction::Drop),
    });
    made.direction(match rule.direction {
        None => TheirDirection::Any,
        Some(Direction::In) => TheirDirection::In,
        Some(Direction::Out) => TheirDirection::Out,
    });
    made.quick(rule.quick);
    if let Some(interface) = &rule.interface {
        made.interface(interface);
    }
    made.af(match rule.family {
        None => AddrFamily::Any,
        Some(Family::V4) => AddrFamily::Ipv4,
        Some(Family::V6) => AddrFamily::Ipv6,
    });
    made.proto(match rule.protocol {
        None => Proto::Any,
        Some(Transport::Tcp) => Proto::Tcp,
        Some(Transport::Udp) => Proto::Udp,
    });
    made.from(place(&rule.from)).to(place(&rule.to));
    match rule.owner {
        None => {}
        Some(Owner::User(id)) => drop(made.user(Uid::from(id))),
        Some(Owner::Group(id)) => drop(made.group(Gid::from(id))),
    }
    made.tcp_flags(flags(rule.flags));
    made.keep_state(if rule.state { StatePolicy::Keep } else { StatePolicy::None });
    if let Some(label) = &rule.label {
        made.label(label.as_str());
    }
    made.build()
}

fn place(place: &Place) -> Endpoint {
    let network = |net: &IpNet| IpNetwork::new(net.addr(), net.prefix_len()).ok();
    let ip = place.net.as_ref().and_then(network).map_or(Ip::Any, Ip::Net);
    let port = match place.ports {
        None => Port::Any,
        Some((port, last)) if port == last => Port::from(port),
        Some((first, last)) => Port::Range(first, last, PortRangeModifier::Inclusive),
    };
    Endpoint::new(ip, port)
}

fn flags(flags: Flags) -> TcpFlags {
    let all = [
        TcpFlag::Fin,
        TcpFlag::Syn,
        TcpFlag::Rst,
        TcpFlag::Psh,
        TcpFlag::Ack,
        TcpFlag::Urg,
        TcpFlag::Ece,
        TcpFlag::Cwr,
    ];
    let of = |bits: u8| -> Vec<TcpFlag> {
        all.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, flag)| *flag).collect()
    };
    TcpFlags::new(&of(flags.set), &of(flags.of))
}
