//! The gateway's own way out: resolvers, a proxy, a CA bundle, made-up addresses.

use crate::address;
use crate::document::{Reader, shortened};
use crate::endpoint::{BadEndpoint, parse_range, private_range};
use crate::name::HostName;
use ipnet::IpNet;
use rcc_report::Code;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use toml::de::DeTable;

/// Whom the gateway asks for addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolvers {
    /// Those of the machine, as they change.
    #[default]
    System,
    /// These, in their order.
    Given(Vec<Resolver>),
}

/// A resolver given by the policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolver {
    /// Its address and port: 53, or 853 by TLS, where none is given.
    pub address: SocketAddr,
    /// Whether it is asked by TLS, and whose certificate it must show.
    pub tls: Option<Tls>,
}

/// What a resolver's certificate must be for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tls {
    /// This name (`tls://9.9.9.9#dns.quad9.net`).
    Name(HostName),
    /// Its address.
    Address,
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tls {
            None => write!(f, "{}", self.address),
            Some(Tls::Address) => write!(f, "tls://{}", self.address),
            Some(Tls::Name(name)) => write!(f, "tls://{}#{name}", self.address),
        }
    }
}

impl Serialize for Resolver {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The proxy that is the only way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamProxy {
    /// Whether the connection to the proxy itself is TLS (`https://`).
    pub tls: bool,
    /// Its name or address.
    pub host: ProxyHost,
    /// Its port.
    pub port: u16,
    /// The range that its address lies in, if it is a name and not public.
    pub via: Option<IpNet>,
    /// A root-owned file with `user:password`.
    pub credentials_file: Option<String>,
}

/// Where the proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ProxyHost {
    /// A name, which the gateway resolves.
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for ProxyHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Address(ip) => write!(f, "{ip}"),
        }
    }
}

impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

const RESOLVERS: &str =
    "write `resolvers = \"system\"`, or addresses: `[\"9.9.9.9\", \"tls://9.9.9.9#dns.quad9.net\"]`";

pub(crate) fn read_resolvers(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Resolvers {
    let Some(value) = table.get("resolvers") else { return Resolvers::System };
    match value.get_ref().as_str() {
        Some("system") => return Resolvers::System,
        Some(other) => {
            let what = format!("`resolvers` can't be `{}`", shortened(other));
            reader.problem(Code::POLICY_BAD_VALUE, value.span(), what, RESOLVERS);
            return Resolvers::System;
        }
        None => {}
    }
    let items = reader.strings(table, "resolvers", "[\"9.9.9.9\"]");
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        reader.problem(Code::POLICY_BAD_VALUE, value.span(), "`resolvers` names none", RESOLVERS);
    }
    let mut all = Vec::new();
    for (text, span) in items {
        match parse_resolver(&text) {
            Ok(resolver) if all.contains(&resolver) => {}
            Ok(resolver) => all.push(resolver),
            Err(e) => reader.problem(Code::POLICY_BAD_VALUE, span, e.what, e.remedy),
        }
    }
    Resolvers::Given(all)
}

fn parse_resolver(text: &str) -> Result<Resolver, BadEndpoint> {
    let (by_tls, rest) = match text.strip_prefix("tls://") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (address, name) = match rest.split_once('#') {
        Some((address, name)) if by_tls => (address, Some(HostName::parse(name)?)),
        _ => (rest, None),
    };
    let port = if by_tls { 853 } else { 53 };
    let ip = |t: &str| t.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    let bracketed = || {
        let inner = address.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(|ip| SocketAddr::new(ip.into(), port))
    };
    let Some(address) =
        ip(address).or_else(bracketed).or_else(|| address.parse().ok().filter(|a: &SocketAddr| a.port() != 0))
    else {
        let what = format!("`{}` is not a resolver's address", shortened(text));
        return Err(BadEndpoint::new(what, RESOLVERS));
    };
    let ip = address.ip().to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) || stands_in(ip) {
        return Err(BadEndpoint::new(format!("`{ip}` can't be a resolver"), RESOLVERS));
    }
    let address = SocketAddr::new(ip, address.port());
    let tls = by_tls.then(|| name.map_or(Tls::Address, Tls::Name));
    Ok(Resolver { address, tls })
}

fn stands_in(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if address::stand_ins().contains(&ip))
}

const PROXY: &str = "write `upstream_proxy = \"http://proxy.corp.example:3128\"`, or `{ url = …, via = \"10.0.0.0/24\", credentials_file = \"/etc/rcc/proxy\" }`";

pub(crate) fn read_proxy(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Option<UpstreamProxy> {
    let value = table.get("upstream_proxy")?;
    let empty = DeTable::new();
    let (url, keys) = if let Some(url) = value.get_ref().as_str() {
        (Some((url.to_owned(), value.span())), &empty)
    } else if let Some(keys) = value.get_ref().as_table() {
        reader.known(keys, "upstream_proxy", &["url", "via", "credentials_file"]);
        if !keys.contains_key("url") {
            reader.problem(Code::POLICY_BAD_VALUE, value.span(), "`upstream_proxy` has no `url`", PROXY);
        }
        (reader.string(keys, "url", "\"http://proxy.corp.example:3128\""), keys)
    } else {
        reader.wrong_type(value, "upstream_proxy", "a string or a table", PROXY);
        return None;
    };
    let via = reader.string(keys, "via", "\"10.0.0.0/24\"").and_then(|(text, span)| {
        let range = parse_range(&text).unwrap_or_else(|| {
            Err(BadEndpoint::new(
                format!("`{}` is not an address range", shortened(&text)),
                "write a range such as `10.0.0.0/24`",
            ))
        });
        match range.and_then(|range| private_range(&range).map(|()| range)) {
            Ok(range) => Some(range),
            Err(e) => {
                reader.problem(Code::POLICY_BAD_VALUE, span, e.what, e.remedy);
                None
            }
        }
    });
    let credentials_file = read_path(reader, keys, "credentials_file", "\"/etc/rcc/proxy\"");
    let (url, span) = url?;
    match parse_proxy(&url) {
        Ok((tls, host, port)) => Some(UpstreamProxy { tls, host, port, via, credentials_file }),
        Err(e) => {
            reader.problem(Code::POLICY_BAD_VALUE, span, e.what, e.remedy);
            None
        }
    }
}

fn parse_proxy(url: &str) -> Result<(bool, ProxyHost, u16), BadEndpoint> {
    let (tls, rest) = if let Some(rest) = url.strip_prefix("http://") {
        (false, rest)
    } else if let Some(rest) = url.strip_prefix("https://") {
        (true, rest)
    } else {
        return Err(BadEndpoint::new("the proxy is not given as `http://…` or `https://…`", PROXY));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        let remedy = "everyone can read the policy: put `user:password` in a file of root's alone and name it as `credentials_file`";
        return Err(BadEndpoint::new("the proxy's URL holds a password", remedy));
    }
    if let Ok(address) = rest.parse::<SocketAddr>() {
        let ip = address.ip().to_canonical();
        let link = IpAddr::is_loopback(&ip) || private_range(&IpNet::from(ip)).is_ok();
        // A local proxy (cntlm, px) is usual, and it is root's word.
        return if link && address.port() != 0 {
            Ok((tls, ProxyHost::Address(ip), address.port()))
        } else {
            Err(BadEndpoint::new(format!("`{address}` can't be a proxy"), PROXY))
        };
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err(BadEndpoint::new("the proxy's port is missing", PROXY));
    };
    let port = match port.parse::<u16>() {
        Ok(number) if number != 0 && port.bytes().all(|b| b.is_ascii_digit()) => number,
        _ => return Err(BadEndpoint::new(format!("`{}` is not a port", shortened(port)), PROXY)),
    };
    Ok((tls, ProxyHost::Name(HostName::parse(host)?), port))
}

/// An absolute path in one form.
pub(crate) fn read_path(reader: &mut Reader<'_>, table: &DeTable<'_>, key: &str, example: &str) -> Option<String> {
    let (path, span) = reader.string(table, key, example)?;
    let mut segments = path.strip_prefix('/').unwrap_or("").split('/');
    let bad = path.len() > 4095
        || path.chars().any(char::is_control)
        || segments.any(|s| s.is_empty() || s == "." || s == ".." || s.len() > 255);
    if bad {
        let what = format!("`{}` is not an absolute path in plain form", shortened(&path));
        reader.problem(Code::POLICY_BAD_VALUE, span, what, format!("write it as `{key} = {example}`"));
        return None;
    }
    Some(path)
}

pub(crate) fn read_fake_ip(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<IpNet> {
    let Some(value) = table.get("fake_ip") else { return Vec::new() };
    let items = match value.get_ref().as_str() {
        Some(text) => vec![(text.to_owned(), value.span())],
        None => reader.strings(table, "fake_ip", "[\"198.18.0.0/15\"]"),
    };
    let mut ranges = Vec::new();
    for (text, span) in items {
        match parse_fake(&text) {
            Ok(range) => ranges.push(range),
            Err(e) => reader.problem(Code::POLICY_BAD_VALUE, span, e.what, e.remedy),
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// A range that counts as public because a VPN makes up its addresses: one that nothing real has.
fn parse_fake(text: &str) -> Result<IpNet, BadEndpoint> {
    let remedy =
        "made-up addresses can lie in 198.18.0.0/15, 240.0.0.0/4, fc00::/7 (at least a /16 of it), or be public ones";
    let Some(range) = parse_range(text) else {
        return Err(BadEndpoint::new(format!("`{}` is not an address range", shortened(text)), remedy));
    };
    let range = range?;
    let within = |net: &str| net.parse::<IpNet>().is_ok_and(|net| net.contains(&range));
    let made_up = within("198.18.0.0/15")
        || (within("240.0.0.0/4") && !range.contains(&IpAddr::from([255; 4])))
        || (within("fc00::/7") && range.prefix_len() >= 16);
    let metadata = address::METADATA.iter().any(|net| address::overlap(net, &range));
    if metadata || !(made_up || address::public_range(&range).is_ok()) {
        return Err(BadEndpoint::new(format!("`{range}` can hold real machines that are not public"), remedy));
    }
    Ok(range)
}
