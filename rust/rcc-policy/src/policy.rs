//! `policy.toml` as a value. Invariant: a [`Policy`] exists only if nothing at all was wrong with its text.

use crate::document::{Item, Reader, nearest, shortened};
use crate::endpoint::{BadEndpoint, Endpoint, Host, Place, Private, parse_entry, parse_private};
use crate::limits::{self, Limits, Protect};
use crate::resolve::CredentialEndpoint;
use crate::sets::{self, Registry, SETS};
use crate::way_out::{self, Resolvers, UpstreamProxy};
use ipnet::IpNet;
use rcc_report::{Code, Problem};
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use toml::de::DeTable;

/// Who may open sessions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// `alice`.
    Name(String),
    /// `1000`: a user id.
    Id(u32),
    /// `@devs`: everyone in that group.
    Group(String),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
            Self::Group(name) => write!(f, "@{name}"),
        }
    }
}

impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A valid policy: sets expanded, lists sorted and without duplicates. What it grants in one session is [`Policy::resolve`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) allow: Vec<Endpoint>,
    pub(crate) registries: Vec<Registry>,
    pub(crate) may_allow: Vec<Endpoint>,
    pub(crate) deny: Vec<Endpoint>,
    pub(crate) private: Vec<Private>,
    pub(crate) users: Vec<User>,
    pub(crate) resolvers: Resolvers,
    pub(crate) upstream_proxy: Option<UpstreamProxy>,
    pub(crate) ca_bundle: Option<String>,
    pub(crate) fake_ip: Vec<IpNet>,
    pub(crate) credentials: Vec<CredentialEndpoint>,
    pub(crate) limits: Limits,
    pub(crate) protect: Protect,
}

const KEYS: &[&str] = &[
    "allow",
    "may_allow",
    "deny",
    "private",
    "users",
    "resolvers",
    "upstream_proxy",
    "ca_bundle",
    "fake_ip",
    "credentials",
    "limits",
    "protect",
];

/// The policy in a text. `origin` is the file's name for the problems' subjects (`policy.toml:3:7`). All problems are
/// found at once, in the text's order, at most 50 of them.
pub fn parse(text: &str, origin: &str) -> Result<Policy, Vec<Problem>> {
    let mut reader = Reader::new(text, origin, None);
    let reader = &mut reader;
    let table = reader.table();
    reader.known(&table, "", KEYS);
    let mut registries = Vec::new();
    let allow = read_endpoints(reader, &table, "allow", Place::Allow, Some(&mut registries));
    let may_allow = read_may_allow(reader, &table);
    let deny = endpoints(reader, &table, "deny", Place::Deny);
    let private = read_private(reader, &table);
    let users = read_users(reader, &table);
    let resolvers = way_out::read_resolvers(reader, &table);
    let upstream_proxy = way_out::read_proxy(reader, &table);
    let ca_bundle = way_out::read_path(reader, &table, "ca_bundle", "\"/etc/ssl/certs/corp.pem\"");
    let fake_ip = way_out::read_fake_ip(reader, &table);
    let credentials = read_credentials(reader, &table);
    let limits = match reader.section(&table, "limits") {
        Some(table) => limits::read(reader, table),
        None => Limits::default(),
    };
    let protect = read_protect(reader, &table);
    conflicts(reader, &allow, &private, &deny, &credentials);
    let private = private.into_iter().map(|(p, _)| p).collect();
    let credentials = credentials.into_iter().map(|(c, _)| c).collect();
    let policy = Policy {
        allow: sorted(plain(allow)),
        registries: sorted(registries),
        may_allow: sorted(plain(may_allow)),
        deny: sorted(plain(deny)),
        private: sorted(private),
        users: sorted(users),
        resolvers,
        upstream_proxy,
        ca_bundle,
        fake_ip,
        credentials,
        limits,
        protect,
    };
    std::mem::replace(reader, Reader::new("", "", None)).finish().map(|()| policy)
}

fn plain(items: Vec<Item<Endpoint>>) -> Vec<Endpoint> {
    items.into_iter().map(|(endpoint, _)| endpoint).collect()
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

/// The endpoints of a list, sets expanded, each with where it stands.
pub(crate) fn endpoints(reader: &mut Reader<'_>, table: &DeTable<'_>, key: &str, place: Place) -> Vec<Item<Endpoint>> {
    read_endpoints(reader, table, key, place, None)
}

/// The same; the sets of package registries go where they are wanted, and are no sets elsewhere.
fn read_endpoints(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    key: &str,
    place: Place,
    mut registries: Option<&mut Vec<Registry>>,
) -> Vec<Item<Endpoint>> {
    let mut all = Vec::new();
    for (text, span) in reader.strings(table, key, "[\"git.example.org:443\"]") {
        if let (Some(registry), Some(registries)) = (Registry::named(&text), registries.as_deref_mut()) {
            registries.push(registry);
            continue;
        }
        match entry(&text, place) {
            Ok(endpoints) => all.extend(endpoints.into_iter().map(|e| (e, span.clone()))),
            Err(e) => {
                let what = format!("`{}` is not an endpoint: {}", shortened(&text), e.what);
                reader.problem(Code::POLICY_BAD_ENDPOINT, span, what, e.remedy);
            }
        }
    }
    all
}

/// The endpoints of one entry, a set being expanded.
pub(crate) fn entry(text: &str, place: Place) -> Result<Vec<Endpoint>, BadEndpoint> {
    if !text.starts_with('@') {
        return parse_entry(text, place);
    }
    let registries = Registry::ALL.map(Registry::set);
    let names: Vec<&str> = SETS.iter().map(|(name, _, _)| *name).chain(registries).collect();
    if let Some(registry) = Registry::named(text) {
        let what = "this set follows each person's own configuration, and has no hosts of its own";
        let remedy = format!("write `{}` into `allow` of the policy, or name hosts here", registry.set());
        return Err(BadEndpoint::new(what, remedy));
    }
    let Some(entries) = sets::expand(text) else {
        let remedy = match nearest(text, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the sets are {}", names.join(", ")),
        };
        return Err(BadEndpoint::new("there is no such set", remedy));
    };
    let mut all = Vec::new();
    for entry in entries {
        for mut endpoint in parse_entry(entry, Place::Allow)? {
            if place == Place::Deny {
                endpoint.check = None;
            }
            all.push(endpoint);
        }
    }
    Ok(all)
}

/// What a person may grant where root says nothing: public names on the ports of ssh and the web.
pub(crate) const MAY_ALLOW: [u16; 3] = [22, 80, 443];

fn read_may_allow(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Item<Endpoint>> {
    if table.contains_key("may_allow") {
        return endpoints(reader, table, "may_allow", Place::MayAllow);
    }
    let default = MAY_ALLOW.map(|port| (Endpoint { host: Host::Any, port: Some(port), check: None }, 0..0));
    default.into()
}

pub(crate) fn read_private(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Item<Private>> {
    let mut all = Vec::new();
    for (text, span) in reader.strings(table, "private", "[\"git.corp.example:443 via 10.20.0.0/16\"]") {
        match parse_private(&text) {
            Ok(entries) => all.extend(entries.into_iter().map(|e| (e, span.clone()))),
            Err(e) => {
                let what = format!("`{}` is not a private endpoint: {}", shortened(&text), e.what);
                reader.problem(Code::POLICY_BAD_ENDPOINT, span, what, e.remedy);
            }
        }
    }
    all
}

fn read_users(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<User> {
    let mut users = Vec::new();
    for (text, span) in reader.strings(table, "users", "[\"alice\", \"@devs\"]") {
        match user(&text) {
            Ok(user) => users.push(user),
            Err((what, remedy)) => reader.problem(Code::POLICY_BAD_VALUE, span, what, remedy),
        }
    }
    users
}

fn user(text: &str) -> Result<User, (String, &'static str)> {
    let (group, name) = text.strip_prefix('@').map_or((false, text), |name| (true, name));
    // What useradd takes, and what directories have beside it (`CORP\alice`, `alice@corp.example`, "domain users").
    let inner = |c: char| c.is_alphanumeric() || "_-.+@\\$".contains(c) || (group && c == ' ');
    let good = name.chars().all(inner) && name.trim() == name && name.len() <= 256 && !name.starts_with('-');
    if name.is_empty() || !good {
        return Err((format!("`{}` is not a user", shortened(text)), "write a user's name, or a group's as `@devs`"));
    }
    if !group && (name == "root" || name == "0") {
        return Err(("root can't open sessions".into(), "name the people who run agents"));
    }
    if !group && name.bytes().all(|b| b.is_ascii_digit()) {
        let wrong = || {
            (format!("`{}` is not a user id", shortened(text)), "a user id has up to ten digits and no zero in front")
        };
        return match name.parse::<u32>() {
            Ok(id) if id != u32::MAX && !name.starts_with('0') => Ok(User::Id(id)),
            _ => Err(wrong()),
        };
    }
    Ok(if group { User::Group(name.into()) } else { User::Name(name.into()) })
}

fn read_credentials(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Item<CredentialEndpoint>> {
    let Some(section) = reader.section(table, "credentials") else { return Vec::new() };
    let names = CredentialEndpoint::KNOWN.map(|(name, _, _)| name);
    reader.known(section, "credentials", &names);
    let mut all = Vec::new();
    for (name, endpoint, upstream) in CredentialEndpoint::KNOWN {
        let Some(keys) = reader.section(section, name) else { continue };
        let place = section.get(name).map_or(0..0, toml::Spanned::span);
        reader.known(keys, &format!("credentials.{name}"), &["upstream", "key_file"]);
        let key_file = way_out::read_path(reader, keys, "key_file", "\"/etc/rcc/keys/anthropic\"");
        let (upstream, span) = match reader.string(keys, "upstream", &format!("{upstream:?}")) {
            Some(given) => given,
            None => (upstream.to_owned(), place),
        };
        match CredentialEndpoint::new(name, endpoint, &upstream, key_file) {
            Ok(endpoint) => all.push((endpoint, span)),
            Err(e) => {
                let what = format!("`{}` is not an upstream: {}", shortened(&upstream), e.what);
                reader.problem(Code::POLICY_BAD_ENDPOINT, span, what, e.remedy);
            }
        }
    }
    all
}

fn read_protect(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Protect {
    let Some(section) = reader.section(table, "protect") else { return Protect::default() };
    reader.known(section, "protect", &["read_only"]);
    if !section.contains_key("read_only") {
        return Protect::default();
    }
    let paths = reader.strings(section, "read_only", "[\".envrc\", \"flake.nix\"]");
    Protect::of(limits::read_only(reader, paths).into_iter())
}

/// An entry of `allow` or `private` that a denial leaves nothing of is a mistake in one of the two.
fn conflicts(
    reader: &mut Reader<'_>,
    allow: &[Item<Endpoint>],
    private: &[Item<Private>],
    deny: &[Item<Endpoint>],
    credentials: &[Item<CredentialEndpoint>],
) {
    let private = private.iter().map(|(p, span)| (&p.endpoint, span));
    let mut told: Vec<Range<usize>> = Vec::new();
    for (endpoint, span) in allow.iter().map(|(e, span)| (e, span)).chain(private) {
        if told.contains(span) {
            continue;
        }
        if let Some((denial, at)) = deny.iter().find(|(d, _)| d.covers(endpoint)) {
            let (line, _) = reader.place(span.start);
            let (other, _) = reader.place(at.start);
            let what = format!("`{endpoint}` (line {line}) is denied by `{denial}` (line {other}), and a denial wins");
            reader.problem(Code::POLICY_CONFLICT, span.clone(), what, "remove one of the two lines");
            told.push(span.clone());
        } else if let Some((credential, at)) = credentials.iter().find(|(c, _)| c.is_upstream(endpoint)) {
            let (line, _) = reader.place(span.start);
            let (other, _) = reader.place(at.start);
            let what = format!(
                "`{endpoint}` (line {line}) is what `[credentials.{}]` (line {other}) is the only way to",
                credential.name
            );
            let remedy = format!("remove the line: the agent reaches it as http://{}", credential.endpoint);
            reader.problem(Code::POLICY_CONFLICT, span.clone(), what, remedy);
            told.push(span.clone());
        }
    }
}
