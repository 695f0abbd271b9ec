//! Endpoints: the notation, and when one covers another. Invariant: what is shown is the notation that was understood,
//! in one canonical form.

use crate::address;
use crate::decide::Check;
use crate::name::{BadName, HostName};
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;

/// What an endpoint names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// `name`: exactly this name.
    Name(HostName),
    /// `*.name`: one or more labels below it.
    Below(HostName),
    /// `*`: every name, and in `deny` every address too.
    Any,
    /// A range of addresses, host bits cleared.
    Range(IpNet),
}

impl Host {
    /// Whether all that `other` names is named by this too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Below(a), Self::Name(b)) => b.is_below(a),
            (Self::Below(a), Self::Below(b)) => a == b || b.is_below(a),
            (Self::Range(a), Self::Range(b)) => a.contains(b),
            _ => false,
        }
    }

    /// Whether it names this name.
    #[must_use]
    pub fn names(&self, name: &HostName) -> bool {
        match self {
            Self::Any => true,
            Self::Name(own) => own == name,
            Self::Below(parent) => name.is_below(parent),
            Self::Range(_) => false,
        }
    }

    /// Whether it names this address; `*` does not.
    #[must_use]
    pub fn holds(&self, ip: IpAddr) -> bool {
        matches!(self, Self::Range(range) if range.contains(&ip))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
            Self::Range(range) => {
                let full = if matches!(range, IpNet::V4(_)) { 32 } else { 128 };
                let text = if range.prefix_len() == full { range.addr().to_string() } else { range.to_string() };
                if matches!(range, IpNet::V6(_)) { write!(f, "[{text}]") } else { f.write_str(&text) }
            }
        }
    }
}

/// One host on one port; a list of ports is as many endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// What it names.
    pub host: Host,
    /// The TCP port; `None`, in `deny` only, is every port.
    pub port: Option<u16>,
    /// What the first bytes must be, where the policy says so; else it follows from the port ([`Check::of_port`]).
    pub check: Option<Check>,
}

impl Endpoint {
    /// What the gateway demands of the first bytes.
    #[must_use]
    pub fn effective_check(&self) -> Check {
        self.check.unwrap_or_else(|| self.port.map_or(Check::Auto, Check::of_port))
    }

    /// Whether all that `other` names, host and port, is named by this too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.host.covers(&other.host) && (self.port.is_none() || self.port == other.port)
    }

    pub(crate) fn on(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.check.map_or(Ok(()), |check| write!(f, "/{check}"))
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Address ranges that a private endpoint's answers must lie in: sorted, never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Ranges(pub(crate) Vec<IpNet>);

impl Ranges {
    /// Whether one of them holds the address.
    #[must_use]
    pub fn contains(&self, ip: &IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(ip))
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl From<IpNet> for Ranges {
    fn from(range: IpNet) -> Self {
        Self(vec![range])
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// An endpoint at addresses that are not public: root's word only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Private {
    /// The name or range, and the port (never `None`).
    pub endpoint: Endpoint,
    /// The range that its addresses lie in; the endpoint's own if that is a range.
    pub via: IpNet,
}

impl fmt::Display for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint)?;
        if matches!(self.endpoint.host, Host::Range(_)) { Ok(()) } else { write!(f, " via {}", self.via) }
    }
}

impl Serialize for Private {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is not an endpoint, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadEndpoint {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

impl BadEndpoint {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl From<BadName> for BadEndpoint {
    fn from(bad: BadName) -> Self {
        Self { what: bad.to_string(), remedy: bad.remedy() }
    }
}

/// Where an endpoint stands, which decides what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `allow`, and what a project asks for or a person grants.
    Allow,
    /// `may_allow`.
    MayAllow,
    /// `deny`.
    Deny,
    /// `private`, before `via`.
    Private,
}

const FORM: &str = "write `name:443`, `*.name:443`, `192.0.2.0/24:443`, `[2001:db8::1]:443` or a set such as `@git`";

/// The endpoints in one entry (one for each port of its list).
pub(crate) fn parse_entry(text: &str, place: Place) -> Result<Vec<Endpoint>, BadEndpoint> {
    if place != Place::Private && text.split_whitespace().any(|word| word == "via") {
        return Err(BadEndpoint::new("an endpoint with `via` is a private one", "put it into `private`"));
    }
    let (host, ports, check) = split(text)?;
    let check = match check {
        None => None,
        Some(_) if place == Place::Deny => {
            return Err(BadEndpoint::new("a denial holds for all protocols", "leave out what follows the `/`"));
        }
        Some(word) => Some(Check::parse(word).ok_or_else(|| {
            BadEndpoint::new(
                format!("`/{word}` is not a check"),
                "write `/tls`, `/http` or `/raw` behind the port, or nothing",
            )
        })?),
    };
    let host = parse_host(host)?;
    allowed_here(&host, place)?;
    let Some(ports) = ports else {
        if place == Place::Deny {
            return Ok(vec![Endpoint { host, port: None, check: None }]);
        }
        return Err(BadEndpoint::new("the port is missing", format!("write `{host}:443`, or the port that is needed")));
    };
    let ports: Vec<u16> = ports.split(',').map(parse_port).collect::<Result<_, _>>()?;
    Ok(ports.into_iter().map(|port| Endpoint { host: host.clone(), port: Some(port), check }).collect())
}

/// The entry with a port behind it, if it has none.
pub(crate) fn with_port(text: &str, port: u16) -> String {
    match split(text) {
        Ok((_, None, _)) if !text.starts_with('@') => format!("{text}:{port}"),
        _ => text.to_owned(),
    }
}

/// A private endpoint: `name:port via cidr`, or `cidr:port`.
pub(crate) fn parse_private(text: &str) -> Result<Vec<Private>, BadEndpoint> {
    let mut words = text.split_whitespace();
    let (endpoint, via, range, rest) = (words.next().unwrap_or(""), words.next(), words.next(), words.next());
    let form = "write `git.corp.example:443 via 10.20.0.0/16`, or `10.20.1.5:443` for an address without a name";
    let range = match (via, range, rest) {
        (None, _, _) => None,
        (Some("via"), Some(range), None) => Some(parse_range(range).ok_or_else(|| {
            BadEndpoint::new(format!("`{range}` is not an address range"), "write a range such as `10.20.0.0/16`")
        })??),
        _ => return Err(BadEndpoint::new("behind the endpoint there must be `via` and one range", form)),
    };
    if endpoint.starts_with('@') {
        return Err(BadEndpoint::new("a set has no range of its own", form));
    }
    let endpoints = parse_entry(endpoint, Place::Private)?;
    endpoints
        .into_iter()
        .map(|endpoint| {
            let via = match (&endpoint.host, range) {
                (Host::Range(own), None) => *own,
                (Host::Range(_), Some(_)) => {
                    return Err(BadEndpoint::new("a range of addresses needs no `via`", format!("write `{endpoint}`")));
                }
                (_, Some(range)) => range,
                (_, None) => {
                    return Err(BadEndpoint::new("the range that the name's addresses lie in is missing", form));
                }
            };
            private_range(&via)?;
            Ok(Private { endpoint, via })
        })
        .collect()
}

/// Splits `host:ports/check`. The check is what follows the last `/`, unless that is a prefix length.
fn split(text: &str) -> Result<(&str, Option<&str>, Option<&str>), BadEndpoint> {
    if let Some(scheme) = text.find("://") {
        let rest = text.get(scheme + 3..).unwrap_or("");
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        return Err(BadEndpoint::new(
            "this is a URL, not an endpoint",
            format!("write `{host}:443`, or the port that is needed"),
        ));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, tail)) = rest.split_once(']') else {
            return Err(BadEndpoint::new("the closing `]` is missing", FORM));
        };
        if tail.is_empty() {
            return Ok((host, None, None));
        }
        let Some(tail) = tail.strip_prefix(':') else {
            return Err(BadEndpoint::new(format!("`:` and a port must follow `]`, not `{tail}`"), FORM));
        };
        return Ok(match tail.split_once('/') {
            Some((ports, check)) => (host, Some(ports), Some(check)),
            None => (host, Some(tail), None),
        });
    }
    if text.bytes().filter(|b| *b == b':').count() > 1 {
        let remedy = "write an IPv6 address in brackets: `[2001:db8::1]:443`, a range as `[2001:db8::/32]:443`";
        return Err(BadEndpoint::new("there is more than one `:`", remedy));
    }
    Ok(match text.split_once(':') {
        None => (text, None, None),
        Some((host, tail)) => match tail.split_once('/') {
            Some((ports, check)) => (host, Some(ports), Some(check)),
            None => (host, Some(tail), None),
        },
    })
}

fn parse_port(text: &str) -> Result<u16, BadEndpoint> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    match text.parse::<u16>() {
        Ok(port) if digits => Ok(port),
        _ => {
            let what = format!("`{text}` is not a port");
            Err(BadEndpoint::new(what, "a port is a number from 1 to 65535, or several with commas: `:80,443`"))
        }
    }
}

fn parse_host(text: &str) -> Result<Host, BadEndpoint> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if let Some(range) = parse_range(text) {
        return Ok(Host::Range(range?));
    }
    if let Some(parent) = text.strip_prefix("*.") {
        return Ok(Host::Below(HostName::parse(parent)?));
    }
    if text.contains('*') {
        let remedy = "write `*.name:443` for all below a name";
        return Err(BadEndpoint::new("`*` stands for whole labels in front of a name", remedy));
    }
    Ok(Host::Name(HostName::parse(text)?))
}

/// An address or range, if the text is one: host bits must be zero.
pub(crate) fn parse_range(text: &str) -> Option<Result<IpNet, BadEndpoint>> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(plain(IpNet::from(ip)));
    }
    let (address, prefix) = text.split_once('/')?;
    if address.parse::<IpAddr>().is_err() {
        let what = format!("`{address}` is not an IP address");
        return Some(Err(BadEndpoint::new(what, "write a range as `192.0.2.0/24:443` or `[2001:db8::/32]:443`")));
    }
    let Ok(range) = text.parse::<IpNet>() else {
        let what = format!("`/{prefix}` is not a prefix length of `{address}`");
        return Some(Err(BadEndpoint::new(what, "write up to /32 for IPv4, up to /128 for IPv6")));
    };
    if range.addr() != range.network() {
        let what = format!("`{range}` has bits beyond its prefix");
        return Some(Err(BadEndpoint::new(what, format!("write `{}`", range.trunc()))));
    }
    Some(plain(range))
}

/// IPv4 in IPv6's clothes is written as IPv4, so that each address has one notation.
fn plain(range: IpNet) -> Result<IpNet, BadEndpoint> {
    match range {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(BadEndpoint::new(format!("`{range}` is IPv4 in another form"), "write the IPv4 address itself"))
        }
        _ => Ok(range),
    }
}

/// Whether such a host may stand there.
fn allowed_here(host: &Host, place: Place) -> Result<(), BadEndpoint> {
    if place == Place::Deny {
        return Ok(());
    }
    match host {
        Host::Any if place == Place::MayAllow => Ok(()),
        Host::Any => Err(BadEndpoint::new(
            "`*` would be every name",
            "name the hosts; `*:443` can stand in `may_allow` and `deny`",
        )),
        Host::Range(range) if place != Place::Private => address::public_range(range).map_err(|e| {
            let remedy =
                "what is not public goes into `private`, by root's word; loopback, link-local and metadata nowhere";
            let what = if range.prefix_len() == range.max_prefix_len() {
                format!("{host} is not public, but {}", e.why)
            } else {
                format!("{host} holds addresses that are not public: {} is {}", e.address, e.why)
            };
            BadEndpoint::new(what, remedy)
        }),
        Host::Range(_) => Ok(()),
        Host::Name(name) if place != Place::Private && name.is_single_label() => {
            reserved(name)?;
            let remedy = format!(
                "write the name in full; for a machine of an own network, `{name}:443 via 10.20.0.0/16` in `private`"
            );
            Err(BadEndpoint::new(format!("`{name}` has no dot, and no public name is like that"), remedy))
        }
        Host::Name(name) => reserved(name),
        Host::Below(parent) => {
            reserved(parent)?;
            public_suffix(parent, place)
        }
    }
}

/// Names that the gateway or the machine answers itself.
fn reserved(name: &HostName) -> Result<(), BadEndpoint> {
    for own in ["rcc.internal", "localhost"] {
        let matches = name.as_str().strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if matches {
            let remedy = if own == "localhost" {
                "the agent's own localhost needs no endpoint; the host's is not reachable by the policy"
            } else {
                "credential endpoints are made by `[credentials.…]`"
            };
            return Err(BadEndpoint::new(format!("`{own}` and all below it is not a name of the network"), remedy));
        }
    }
    Ok(())
}

/// Refuses a wildcard below which strangers register names (the Public Suffix List, its private part included). In
/// `private` a suffix that the list doesn't know (`*.corp`) is fine.
fn public_suffix(parent: &HostName, place: Place) -> Result<(), BadEndpoint> {
    if place == Place::MayAllow {
        return Ok(());
    }
    let Some(suffix) = psl::suffix(parent.as_str().as_bytes()) else { return Ok(()) };
    if suffix.as_bytes() != parent.as_str().as_bytes() || (place == Place::Private && !suffix.is_known()) {
        return Ok(());
    }
    if !suffix.is_known() {
        let remedy = format!("for names of an own network, write `*.{parent}:443 via 10.20.0.0/16` in `private`");
        return Err(BadEndpoint::new(format!("`{parent}` is no public top-level domain"), remedy));
    }
    let what = format!("anyone can get a name below `{parent}`, so `*.{parent}` would be everyone's");
    Err(BadEndpoint::new(what, format!("name the part that you mean: `*.example.{parent}:443`")))
}

/// Whether root may open such a range.
pub(crate) fn private_range(range: &IpNet) -> Result<(), BadEndpoint> {
    let never: &[(&str, &str)] = &[
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("198.18.0.0/15", "rcc's own stand-ins"),
        ("224.0.0.0/3", "multicast or reserved"),
        ("::/8", "loopback, or IPv4 in another form"),
        ("2002::/16", "6to4"),
        ("64:ff9b::/96", "NAT64"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    ];
    let remedy = "write a range that leaves it out";
    for (net, why) in never {
        if net.parse::<IpNet>().is_ok_and(|net| address::overlap(&net, range)) {
            return Err(BadEndpoint::new(format!("`{range}` overlaps {net}, which is {why}"), remedy));
        }
    }
    for net in address::METADATA {
        if address::overlap(net, range) {
            return Err(BadEndpoint::new(
                format!("`{range}` holds {}, a cloud's metadata service", net.addr()),
                remedy,
            ));
        }
    }
    Ok(())
}
