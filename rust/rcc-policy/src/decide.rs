//! The decision: may the agent connect to this name or address on this port? Invariant: what no entry names is denied,
//! and a denial wins over everything.

use crate::address::{self, NotPublic};
use crate::endpoint::{Endpoint, Host, Private, Ranges};
use crate::name::HostName;
use crate::resolve::Resolved;
use ipnet::{IpNet, Ipv6Net};
use serde::Serialize;
use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

/// What the agent wants to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A name, known by the stand-in address that was handed out for it.
    Name(&'a HostName),
    /// An address that the policy's ranges route to the gateway.
    Address(IpAddr),
}

/// What the gateway demands of a connection's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A `ClientHello` whose SNI is the name. The default on port 443.
    Tls,
    /// HTTP/1, the Host of every request being the name. The default on port 80.
    Http,
    /// Any protocol; where TLS or HTTP is recognised, it is checked as above. The default on all other ports.
    Auto,
    /// Any bytes. Only by the policy's word.
    Raw,
}

impl Check {
    /// The check of a port for which the policy names none.
    #[must_use]
    pub fn of_port(port: u16) -> Self {
        match port {
            443 => Self::Tls,
            80 => Self::Http,
            _ => Self::Auto,
        }
    }

    /// Whether this one lets through no more than `other`.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        self == other || other == Self::Raw || (other == Self::Auto && self != Self::Raw)
    }

    /// `auto` can't be written: it is what a port without a word has.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "tls" => Some(Self::Tls),
            "http" => Some(Self::Http),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// How much it lets through.
    fn looseness(self) -> u8 {
        match self {
            Self::Tls => 0,
            Self::Http => 1,
            Self::Auto => 2,
            Self::Raw => 3,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Auto => "auto",
            Self::Raw => "raw",
        })
    }
}

/// Why a connection is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenyReason {
    /// No entry names the host.
    NotListed,
    /// The host is named, on other ports.
    PortNotListed,
    /// `deny` names it.
    Denied,
    /// The person denied it for this session or project.
    DeniedByPerson,
    /// It is what a credential endpoint speaks to, which is the only way there.
    CredentialUpstream,
    /// The address is not public, and no `private` entry is for it.
    NotPublic,
    /// The name has an address outside the ranges of its `private` entry.
    OutsideRange,
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListed => "the policy does not name this host",
            Self::PortNotListed => "the policy names this host on other ports only",
            Self::Denied => "the policy denies it",
            Self::DeniedByPerson => "the person denied it",
            Self::CredentialUpstream => "it is reached by its credential endpoint only",
            Self::NotPublic => "its address is not public",
            Self::OutsideRange => "its address is outside the range that the policy gives for it",
        })
    }
}

/// May the agent connect?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
pub enum Decision {
    /// Yes; but see [`Resolved::may_connect`] for the address that a name has.
    Allow {
        /// What the first bytes must be.
        check: Check,
        /// The entry that decides, in the policy's notation.
        rule: String,
        /// `None`: the address must be public. Otherwise it must lie in one of these ranges.
        private: Option<Ranges>,
    },
    /// No.
    Deny {
        /// Why.
        reason: DenyReason,
        /// The entry that decides, if there is one.
        rule: Option<String>,
    },
}

impl Decision {
    /// Whether it is an [`Decision::Allow`].
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// The order in which entries decide: the most specific host first (so that an exception to a wildcard can be written),
/// then the strictest check.
fn rank(endpoint: &Endpoint) -> (Reverse<usize>, u8) {
    let specific = match &endpoint.host {
        Host::Name(_) => usize::MAX,
        Host::Below(parent) => parent.as_str().len(),
        Host::Range(range) => range.prefix_len().into(),
        Host::Any => 0,
    };
    (Reverse(specific), endpoint.effective_check().looseness())
}

impl Resolved {
    /// Whether the agent may connect to a name or address on a port. Where several entries allow it, the one with the most
    /// specific host decides, then `private` before `allow`, then the strictest check.
    #[must_use]
    pub fn decide(&self, target: Target<'_>, port: u16) -> Decision {
        let deny = |reason, rule| Decision::Deny { reason, rule };
        let names = |host: &Host| match target {
            Target::Name(name) => host.names(name),
            Target::Address(ip) => host.holds(ip.to_canonical()),
        };
        let denied = |host: &Host| names(host) || *host == Host::Any;
        if let Some(entry) = self.deny.iter().find(|e| denied(&e.host) && e.on(port)) {
            return deny(DenyReason::Denied, Some(entry.to_string()));
        }
        if let Some(entry) = self.person_denies.iter().find(|e| denied(&e.host) && e.on(port)) {
            return deny(DenyReason::DeniedByPerson, Some(format!("!{entry}")));
        }
        if let Target::Name(name) = target
            && let Some(endpoint) = self.credentials.iter().find(|c| c.upstream == *name)
        {
            return deny(DenyReason::CredentialUpstream, Some(endpoint.to_string()));
        }
        let private = self.private.iter().filter(|p| names(&p.endpoint.host) && p.endpoint.on(port));
        let private: Vec<&Private> = private.collect();
        let best = private.iter().min_by_key(|p| rank(&p.endpoint));
        let public = self.allow.iter().filter(|e| names(&e.host) && e.on(port)).min_by_key(|e| rank(e));
        if let Some(first) = best
            && public.is_none_or(|entry| rank(&first.endpoint).0 <= rank(entry).0)
        {
            // Entries for the same host with other ranges (IPv4 and IPv6, say) add up; broader ones don't.
            let same = private.iter().filter(|p| p.endpoint.host == first.endpoint.host);
            let mut ranges: Vec<IpNet> = same.map(|p| p.via).collect();
            ranges.sort_unstable();
            ranges.dedup();
            let check = first.endpoint.effective_check();
            return Decision::Allow { check, rule: first.to_string(), private: Some(Ranges(ranges)) };
        }
        if let Some(entry) = public {
            return Decision::Allow { check: entry.effective_check(), rule: entry.to_string(), private: None };
        }
        let other = self.private.iter().map(|p| &p.endpoint).chain(&self.allow).find(|e| names(&e.host));
        match other {
            Some(entry) => deny(DenyReason::PortNotListed, Some(entry.to_string())),
            None => deny(DenyReason::NotListed, None),
        }
    }

    /// Whether an address that an allowed name has, or that the agent gave, may be connected to. `private` is the
    /// decision's; `nat64` are the prefixes by which this network translates.
    pub fn may_connect(
        &self,
        private: Option<&Ranges>,
        ip: IpAddr,
        port: u16,
        nat64: &[Ipv6Net],
    ) -> Result<(), (DenyReason, String)> {
        let ip = ip.to_canonical();
        let inner = address::embedded(ip, nat64);
        for seen in [Some(ip), inner].into_iter().flatten() {
            if let Some(entry) = self.deny.iter().find(|e| e.host.holds(seen) && e.on(port)) {
                return Err((DenyReason::Denied, entry.to_string()));
            }
        }
        if let Some(ranges) = private {
            let reason = || (DenyReason::OutsideRange, format!("{ip} is not within {ranges}"));
            return if ranges.contains(&ip) { Ok(()) } else { Err(reason()) };
        }
        if self.fake_ip.iter().any(|range| range.contains(&ip)) {
            return Ok(());
        }
        address::public(ip, nat64).map_err(|e: NotPublic| (DenyReason::NotPublic, e.to_string()))
    }

    /// Whether a name is allowed on some port, so that it resolves.
    #[must_use]
    pub fn knows(&self, name: &HostName) -> bool {
        let entries = self.private.iter().map(|p| &p.endpoint).chain(&self.allow);
        entries
            .filter(|e| e.host.names(name))
            .filter_map(|e| e.port)
            .any(|port| self.decide(Target::Name(name), port).is_allowed())
    }
}
