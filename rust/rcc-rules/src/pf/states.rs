//! States that pf keeps by other people's rules: a packet of one goes before any rule is asked.

use super::listing::{Call, Line};
use super::model::{Kernel, Packet};
use super::rule::{Direction, Transport};
use super::ruleset::{Mac, Ruleset};

use crate::Facts;
use rcc_proto::macos::ANCHOR;
use std::net::{IpAddr, SocketAddr};

/// A state, as `pfctl -s states` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its protocol.
    pub protocol: Transport,
    /// This machine's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Which way its first packet went.
    pub direction: Direction,
}

/// The states of a listing, but for what is translated or of another protocol: that has no socket here. Lines that are no
/// states are left out.
#[must_use]
pub fn states(text: &str) -> Vec<State> {
    text.lines().filter_map(state).collect()
}

/// `ALL tcp 10.0.0.1:1143 -> 10.0.0.2:443       ESTABLISHED:ESTABLISHED`; IPv6 is `address[port]`.
fn state(line: &str) -> Option<State> {
    let mut words = line.split_whitespace();
    let (_, protocol, left, arrow, right, rest) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?, words.next());
    let protocol = match protocol {
        "tcp" | "6" => Transport::Tcp,
        "udp" | "17" => Transport::Udp,
        _ => return None,
    };
    if matches!(rest, Some("->" | "<-")) {
        return None;
    }
    let direction = match arrow {
        "->" => Direction::Out,
        "<-" => Direction::In,
        _ => return None,
    };
    Some(State { protocol, local: end(left)?, remote: end(right)?, direction })
}

fn end(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (ip, port) = text.strip_suffix(']')?.split_once('[')?;
    // A scope says on which link; the rules ask for none.
    let ip = ip.split('%').next()?;
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
}

/// Those that could carry what the rules deny: of the gateway's user; and of the machine's group, too, if that was not held
/// until now. Whose a state is, pf does not tell: other people's to the same places are among them, and their packets are
/// asked about again by the rules that they come under.
#[must_use]
pub fn denied(all: &[State], rules: &Ruleset, facts: &Facts, mac: &Mac, held: bool) -> Vec<State> {
    let kernel = Kernel {
        enabled: true,
        main: vec![Line::Anchor(Call { name: ANCHOR.to_owned(), quick: false })],
        anchors: [(ANCHOR.to_owned(), rules.rules.iter().cloned().map(Line::Rule).collect())].into(),
        ..Kernel::default()
    };
    let owners = [(facts.gateway, u32::MAX), (u32::MAX, mac.group)];
    let asked = if held { owners.get(..1) } else { owners.get(..) }.unwrap_or_default();
    let own = |ip: IpAddr| ip.is_loopback() || mac.own.iter().any(|net| net.contains(&ip));
    let goes = |state: &State, owner: (u32, u32)| {
        // What comes in to a port of loopback goes out of it as well.
        let interface = if state.local.ip().is_loopback() { "lo0" } else { "" };
        let packet = Packet {
            direction: Direction::Out,
            interface,
            protocol: Some(state.protocol),
            from: (state.local.ip(), state.local.port()),
            to: (state.remote.ip(), state.remote.port()),
            flags: 0x10,
            owner: Some(owner),
            fragment: false,
        };
        kernel.decide(&packet).0
    };
    let refused = |state: &&State| own(state.local.ip()) && !asked.iter().all(|owner| goes(state, *owner));
    all.iter().filter(refused).copied().collect()
}
