//! Reading what `pfctl -s rules` prints.
//!
//! What this code does not know is [`Line::Other`], which is never equal to a rule of rcc's and never taken for harmless.

use super::rule::{Action, Direction, Family, Flags, Owner, Place, Rule, Transport};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A filter rule.
    Rule(Rule),
    /// A call of an anchor's filter rules, for all packets.
    Anchor(Call),
    /// Anything else.
    Other(String),
}

/// A call of an anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, from the root; with `/*` at the end all directly below it.
    pub name: String,
    /// Whether no later rule is asked when one in it matched.
    pub quick: bool,
}

/// The numbers of ports that pfctl may write by name, by protocol and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(BTreeMap<(Transport, String), u16>);

impl Services {
    /// Reads the text of `/etc/services`. Lines that are none are left out: a port whose name is not known is a difference.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let (name, at) = (words.next()?, words.next()?);
            let (port, protocol) = at.split_once('/')?;
            Some(((transport(protocol)?, name.to_owned()), port.parse().ok()?))
        };
        let mut all = BTreeMap::new();
        for (key, port) in text.lines().filter_map(entry) {
            all.entry(key).or_insert(port);
        }
        Self(all)
    }
}

/// Reads a listing, line by line.
#[must_use]
pub fn lines(text: &str, services: &Services) -> Vec<Line> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| read(line, services)).collect()
}

/// The rules of a listing that has nothing but rules.
#[must_use]
pub fn rules_of(lines: &[Line]) -> Option<Vec<Rule>> {
    lines.iter().map(|line| if let Line::Rule(rule) = line { Some(rule.clone()) } else { None }).collect()
}

fn read(line: &str, services: &Services) -> Line {
    let mut words = Words(line);
    let read = if words.take("anchor") {
        call(&mut words).map(Line::Anchor)
    } else {
        rule(&mut words, services).map(Line::Rule)
    };
    match read {
        Some(read) if words.0.trim().is_empty() => read,
        _ => Line::Other(line.to_owned()),
    }
}

/// `anchor "NAME" [quick] all`
fn call(words: &mut Words<'_>) -> Option<Call> {
    let name = words.quoted()?.to_owned();
    let quick = words.take("quick");
    words.take("all").then_some(Call { name, quick })
}

fn rule(words: &mut Words<'_>, services: &Services) -> Option<Rule> {
    let action = if words.take("pass") {
        Action::Pass
    } else if words.take("block") {
        if words.take("return") {
            Action::Return
        } else {
            words.take("drop");
            Action::Drop
        }
    } else {
        return None;
    };
    let direction = words.one_of(&[("in", Direction::In), ("out", Direction::Out)]);
    let quick = words.take("quick");
    let interface = if words.take("on") { Some(words.name()?.to_owned()) } else { None };
    let family = words.one_of(&[("inet", Family::V4), ("inet6", Family::V6)]);
    let protocol = if words.take("proto") { Some(transport(words.next()?)?) } else { None };
    let (mut from, mut to) = (Place::default(), Place::default());
    if !words.take("all") {
        from = if words.take("from") { place(words, protocol, services)? } else { return None };
        to = if words.take("to") { place(words, protocol, services)? } else { return None };
    }
    let mut rule = Rule {
        action,
        direction,
        quick,
        interface,
        family,
        protocol,
        from,
        to,
        owner: None,
        flags: Flags::default(),
        state: false,
        label: None,
    };
    if words.take("user") {
        rule.owner = Some(Owner::User(words.equals()?));
    } else if words.take("group") {
        rule.owner = Some(Owner::Group(words.equals()?));
    }
    if words.take("flags") {
        rule.flags = Flags::parse(words.next()?)?;
    }
    if words.take("no") {
        if !words.take("state") {
            return None;
        }
    } else if words.take("keep") {
        rule.state = words.take("state");
        if !rule.state {
            return None;
        }
    }
    if words.take("label") {
        rule.label = Some(words.quoted()?.to_owned());
    }
    Some(rule)
}

fn place(words: &mut Words<'_>, protocol: Option<Transport>, services: &Services) -> Option<Place> {
    let word = words.next()?;
    let net = if word == "any" {
        None
    } else {
        let one = || word.parse::<IpAddr>().ok().map(IpNet::from);
        Some(word.parse::<IpNet>().ok().or_else(one).filter(|net| *net == net.trunc())?)
    };
    let mut ports = None;
    if words.take("port") {
        ports = Some(if words.take("=") {
            let word = words.next()?;
            let named = || services.0.get(&(protocol?, word.to_owned())).copied();
            let port = word.parse().ok().or_else(named)?;
            (port, port)
        } else {
            let (first, last) = words.next()?.split_once(':')?;
            (first.parse().ok()?, last.parse().ok()?)
        });
    }
    Some(Place { net, ports })
}

/// By name, or, where there is no /etc/protocols, by number.
fn transport(name: &str) -> Option<Transport> {
    match name {
        "tcp" | "6" => Some(Transport::Tcp),
        "udp" | "17" => Some(Transport::Udp),
        _ => None,
    }
}

/// What is left of a line.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Takes this word, if it is next.
    fn take(&mut self, word: &str) -> bool {
        let before = self.0;
        let taken = self.next() == Some(word);
        if !taken {
            self.0 = before;
        }
        taken
    }

    fn one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Option<T> {
        words.iter().find(|(word, _)| self.take(word)).map(|(_, value)| *value)
    }

    /// A name of letters, digits and a few signs: no operator.
    fn name(&mut self) -> Option<&'a str> {
        self.next().filter(|word| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
    }

    /// `= NUMBER`
    fn equals(&mut self) -> Option<u32> {
        if self.take("=") { self.next()?.parse().ok() } else { None }
    }

    /// `"…"`
    fn quoted(&mut self) -> Option<&'a str> {
        let (inner, rest) = self.0.trim_start().strip_prefix('"')?.split_once('"')?;
        if !(rest.is_empty() || rest.starts_with(' ')) {
            return None;
        }
        self.0 = rest;
        Some(inner)
    }
}
