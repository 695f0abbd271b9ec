//! What a policy means for one session: its own entries, and a person's grants as far as root lets them.

use crate::decide::Check;
use crate::endpoint::{BadEndpoint, Endpoint, Host, Place, Private, Ranges, parse_entry, parse_private};
use crate::fingerprint::Fingerprint;
use crate::grants::Grants;
use crate::limits::{Limits, Protect, Unenforceable};
use crate::name::HostName;
use crate::policy::{Policy, User};
use crate::sets::Registry;
use crate::way_out::{Resolvers, UpstreamProxy};
use ipnet::IpNet;
use rcc_report::Problem;
use serde::Serialize;
use std::fmt;

/// What is in force for one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Resolved {
    /// What is allowed: the policy's, and the grants.
    pub allow: Vec<Endpoint>,
    /// Package registries whose hosts the launcher asks for, as the person's own configuration has them.
    pub registries: Vec<Registry>,
    /// What is denied, whatever else is said.
    pub deny: Vec<Endpoint>,
    /// What the person denies this project beyond that: no addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub person_denies: Vec<Endpoint>,
    /// What is allowed at addresses that are not public.
    pub private: Vec<Private>,
    /// Who may open sessions.
    pub users: Vec<User>,
    /// Whom the gateway asks for addresses.
    pub resolvers: Resolvers,
    /// The proxy that is the only way out.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// A file of further CA certificates, for the gateway's own TLS.
    pub ca_bundle: Option<String>,
    /// Ranges that a VPN makes up addresses in; they count as public.
    pub fake_ip: Vec<IpNet>,
    /// The endpoints at which the gateway adds a key.
    pub credentials: Vec<CredentialEndpoint>,
    /// The session's limits.
    pub limits: Limits,
    /// What of the project is read-only inside.
    pub protect: Protect,
    /// The policy's fingerprint; grants don't change it.
    pub fingerprint: Fingerprint,
}

/// A name inside at which the gateway adds a key and speaks TLS upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CredentialEndpoint {
    /// What the policy calls it: `anthropic`.
    pub name: String,
    /// The name inside: `anthropic.rcc.internal`.
    pub endpoint: HostName,
    /// The name upstream.
    pub upstream: HostName,
    /// The port upstream.
    pub port: u16,
    /// `None`: the upstream's address must be public. Otherwise it must lie in one of these ranges.
    pub private: Option<Ranges>,
    /// A root-owned file with the key, for sessions that bring none.
    pub key_file: Option<String>,
}

impl CredentialEndpoint {
    /// Those that rcc knows: name in the policy, name inside, default upstream.
    pub const KNOWN: [(&str, &str, &str); 1] = [("anthropic", rcc_proto::ANTHROPIC_ENDPOINT, "api.anthropic.com:443")];

    pub(crate) fn new(
        name: &str,
        endpoint: &str,
        upstream: &str,
        key_file: Option<String>,
    ) -> Result<Self, BadEndpoint> {
        let form = "write `api.anthropic.com:443`, or `llm.corp.example:443 via 10.20.0.0/16`";
        let (entries, private) = if upstream.contains(char::is_whitespace) {
            let entries = parse_private(upstream)?;
            let ranges = entries.first().map(|p| Ranges(vec![p.via]));
            (entries.into_iter().map(|p| p.endpoint).collect(), ranges)
        } else {
            (parse_entry(upstream, Place::Allow)?, None)
        };
        match entries.as_slice() {
            [Endpoint { host: Host::Name(host), port: Some(port), check: None | Some(Check::Tls) }] => Ok(Self {
                name: name.into(),
                endpoint: HostName::parse(endpoint)?,
                upstream: host.clone(),
                port: *port,
                private,
                key_file,
            }),
            _ => Err(BadEndpoint::new("it must be one name with one port, and is spoken to by TLS", form)),
        }
    }

    /// Whether an endpoint is just this upstream.
    pub(crate) fn is_upstream(&self, endpoint: &Endpoint) -> bool {
        matches!(&endpoint.host, Host::Name(name) if *name == self.upstream)
    }
}

impl fmt::Display for CredentialEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[credentials.{}]", self.name)
    }
}

impl Policy {
    /// The policy's fingerprint: the same for the same meaning, whatever the order of lists, the sets used, the layout.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.canonical())
    }

    /// Every value in one form, `key length:value` a line; the first line names the form itself. The length stands there
    /// so that no value can pass for two.
    fn canonical(&self) -> String {
        let mut lines = vec![String::from("rcc policy 1")];
        let mut line = |key: &str, value: String| lines.push(format!("{key} {}:{value}", value.len()));
        for (key, endpoints) in [("allow", &self.allow), ("may_allow", &self.may_allow), ("deny", &self.deny)] {
            canonical_list(endpoints.iter().map(normal), |v| line(key, v));
        }
        canonical_list(self.registries.iter().map(|r| r.set().to_owned()), |v| line("registries", v));
        let private = self.private.iter().map(|p| format!("{} via {}", normal(&p.endpoint), p.via));
        canonical_list(private, |v| line("private", v));
        canonical_list(self.users.iter().map(ToString::to_string), |v| line("users", v));
        match &self.resolvers {
            Resolvers::System => line("resolvers", "system".into()),
            // Their order is that in which they are asked, so it counts.
            Resolvers::Given(given) => given.iter().for_each(|r| line("resolver", r.to_string())),
        }
        if let Some(proxy) = &self.upstream_proxy {
            line("proxy", proxy.to_string());
            proxy.via.iter().for_each(|range| line("proxy.via", range.to_string()));
            proxy.credentials_file.iter().for_each(|path| line("proxy.credentials_file", path.clone()));
        }
        self.ca_bundle.iter().for_each(|path| line("ca_bundle", path.clone()));
        self.fake_ip.iter().for_each(|range| line("fake_ip", range.to_string()));
        for c in &self.credentials {
            line("credentials", format!("{} {}:{}", c.name, c.upstream, c.port));
            c.private.iter().for_each(|ranges| line("credentials.via", ranges.to_string()));
            c.key_file.iter().for_each(|path| line("credentials.key_file", path.clone()));
        }
        let Limits { memory, pids, cpus, core, sessions, connections, names, unenforceable } = &self.limits;
        let refuse = *unenforceable == Unenforceable::Refuse;
        let limits = format!("{memory} {pids} {cpus} {core} {sessions} {connections} {names} {refuse}");
        line("limits", limits);
        self.protect.read_only.iter().for_each(|path| line("read_only", path.clone()));
        lines.join("\n")
    }

    /// Who may open sessions, before one exists.
    #[must_use]
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// What a person may grant a project.
    #[must_use]
    pub fn may_allow(&self) -> &[Endpoint] {
        &self.may_allow
    }

    /// The ports on which the gateway may have to reach public addresses: what the firewall opens beside `private`, the
    /// resolvers and the proxy. Grants can't add to them, since `may_allow` is among them. Sorted.
    #[must_use]
    pub fn public_ports(&self) -> Vec<u16> {
        let listed = self.allow.iter().chain(&self.may_allow).filter_map(|e| e.port);
        let upstream = self.credentials.iter().filter(|c| c.private.is_none()).map(|c| c.port);
        let mut ports: Vec<u16> = listed.chain(upstream).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The policy with a person's grants, and denials behind a `!` (see [`Grants::parse`]). Every grant must be covered by
    /// `may_allow` and left something by `deny`, or there is a problem for it and no result.
    pub fn resolve(&self, grants: &[String]) -> Result<Resolved, Vec<Problem>> {
        let (grants, mut problems) = Grants::read(grants);
        let (capped, not_grantable) = self.capped(&grants);
        problems.extend(not_grantable);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut allow = self.allow.clone();
        allow.extend_from_slice(capped.granted());
        allow.sort_unstable();
        allow.dedup();
        Ok(Resolved {
            allow,
            registries: self.registries.clone(),
            deny: self.deny.clone(),
            person_denies: capped.denied().to_vec(),
            private: self.private.clone(),
            users: self.users.clone(),
            resolvers: self.resolvers.clone(),
            upstream_proxy: self.upstream_proxy.clone(),
            ca_bundle: self.ca_bundle.clone(),
            fake_ip: self.fake_ip.clone(),
            credentials: self.credentials.clone(),
            limits: self.limits,
            protect: self.protect.clone(),
            fingerprint: self.fingerprint(),
        })
    }

    /// Whether a person may grant a name on a port; if not, why.
    pub fn may_grant(&self, name: &HostName, port: u16) -> Result<(), String> {
        let endpoint = Endpoint { host: Host::Name(name.clone()), port: Some(port), check: None };
        self.grantable(&endpoint).map_err(|(why, _)| why)
    }

    /// Whether a person may grant an endpoint; if not, why, and what to do.
    pub(crate) fn grantable(&self, endpoint: &Endpoint) -> Result<(), (String, String)> {
        if let Some(denial) = self.deny.iter().find(|d| d.covers(endpoint)) {
            return Err((format!("`deny` forbids it (`{denial}`)"), "only root can change the policy".into()));
        }
        if let Some(credential) = self.credentials.iter().find(|c| c.is_upstream(endpoint)) {
            let remedy = format!("use http://{}, where the gateway adds the key", credential.endpoint);
            return Err((format!("`{credential}` is the only way there"), remedy));
        }
        // What `allow` names anyway needs no grant.
        if self.allow.iter().any(|own| own.covers(endpoint) && endpoint.effective_check() == own.effective_check()) {
            return Ok(());
        }
        let same_host: Vec<_> = self.may_allow.iter().filter(|m| m.covers_grant(endpoint)).collect();
        if same_host.iter().any(|m| endpoint.effective_check().within(m.effective_check())) {
            return Ok(());
        }
        let root = format!("root can add `{endpoint}` to `may_allow` or `allow` of the policy");
        if same_host.is_empty() {
            Err(("`may_allow` does not cover it".into(), root))
        } else {
            let wanted = endpoint.effective_check();
            Err((format!("`may_allow` covers it, though not with the check `{wanted}`"), root))
        }
    }
}

impl Endpoint {
    /// Whether this entry of `may_allow` covers a grant: `*` stands for names, never for addresses.
    fn covers_grant(&self, grant: &Self) -> bool {
        self.covers(grant) && !(self.host == Host::Any && matches!(grant.host, Host::Range(_)))
    }
}

/// An endpoint with its check spelled out, so that `x:443` and `x:443/tls` are one.
fn normal(endpoint: &Endpoint) -> String {
    let check = endpoint.port.map(|_| endpoint.effective_check());
    Endpoint { check, ..endpoint.clone() }.to_string()
}

fn canonical_list(values: impl Iterator<Item = String>, line: impl FnMut(String)) {
    let mut values: Vec<String> = values.collect();
    values.sort_unstable();
    values.dedup();
    values.into_iter().for_each(line);
}

impl Resolved {
    /// The address ranges that are endpoints, for which the session's network needs routes: none within another.
    #[must_use]
    pub fn ranges(&self) -> Vec<IpNet> {
        let endpoints = self.private.iter().map(|p| &p.endpoint).chain(&self.allow);
        let ranges: Vec<IpNet> = endpoints
            .filter_map(|e| match e.host {
                Host::Range(range) => Some(range),
                _ => None,
            })
            .collect();
        IpNet::aggregate(&ranges)
    }

    /// Whether a user may open sessions. `groups` are the names of the user's groups. Root never may.
    #[must_use]
    pub fn may_open(&self, user: &str, uid: u32, groups: &[String]) -> bool {
        uid != 0
            && self.users.iter().any(|entry| match entry {
                User::Name(name) => name == user,
                User::Id(id) => *id == uid,
                User::Group(name) => groups.contains(name),
            })
    }
}
