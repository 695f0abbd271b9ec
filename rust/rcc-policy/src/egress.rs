//! What the gateway's own connections may be, whatever it is made to do: the part of a policy that a firewall can keep.

use crate::endpoint::Host;
use crate::policy::Policy;
use crate::way_out::{ProxyHost, Resolvers};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The connections that a policy can ever make the gateway open. A superset of what any session may reach, as a firewall
/// knows neither names nor sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The TCP ports of public addresses. Empty with a proxy that is the only way out.
    pub ports: BTreeSet<u16>,
    /// The proxy that is the only way out, if the policy gives its address: this machine's own may be meant.
    pub proxy: Option<SocketAddr>,
    /// Addresses that are not public, or not all, each with its TCP port: private endpoints, and a proxy's range.
    pub private: BTreeSet<(IpNet, u16)>,
    /// Ranges that are denied, on one TCP port or on all.
    pub denied: BTreeSet<(IpNet, Option<u16>)>,
    /// Whom the gateway asks for addresses.
    pub resolvers: Resolvers,
    /// Made-up addresses that count as public.
    pub fake_ip: BTreeSet<IpNet>,
}

impl Policy {
    /// What the gateway's own connections may be.
    #[must_use]
    pub fn egress(&self) -> Egress {
        let mut ports: BTreeSet<u16> = self.allow.iter().chain(&self.may_allow).filter_map(|e| e.port).collect();
        let mut private: BTreeSet<(IpNet, u16)> =
            self.private.iter().filter_map(|p| Some((p.via, p.endpoint.port?))).collect();
        for credential in &self.credentials {
            match &credential.private {
                Some(ranges) => private.extend(ranges.iter().map(|range| (*range, credential.port))),
                None => drop(ports.insert(credential.port)),
            }
        }
        let mut address = None;
        if let Some(proxy) = &self.upstream_proxy {
            ports.clear();
            match (&proxy.host, proxy.via) {
                (ProxyHost::Address(ip), _) => address = Some(SocketAddr::new(*ip, proxy.port)),
                (ProxyHost::Name(_), Some(via)) => drop(private.insert((via, proxy.port))),
                (ProxyHost::Name(_), None) => drop(ports.insert(proxy.port)),
            }
        }
        let range = |host: &Host| if let Host::Range(range) = host { Some(*range) } else { None };
        Egress {
            ports,
            proxy: address,
            private,
            denied: self.deny.iter().filter_map(|e| Some((range(&e.host)?, e.port))).collect(),
            resolvers: self.resolvers.clone(),
            fake_ip: self.fake_ip.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(text: &str) -> Egress {
        crate::parse(text, "policy.toml").unwrap().egress()
    }

    #[test]
    fn grants_and_upstreams_count() {
        let all = egress(
            "allow = [\"a.example:443\"]\nmay_allow = [\"*:22\"]\nprivate = [\"git.example:8443 via 10.20.0.0/16\"]\n\
             deny = [\"9.9.9.0/24\", \"*:25\", \"8.8.8.8:53\"]\n[credentials.anthropic]\nupstream = \"model.example:8444\"\n",
        );
        assert_eq!(all.ports, [22, 443, 8444].into());
        assert_eq!(all.private, [("10.20.0.0/16".parse().unwrap(), 8443)].into());
        assert_eq!(
            all.denied,
            [("8.8.8.8/32".parse().unwrap(), Some(53)), ("9.9.9.0/24".parse().unwrap(), None)].into()
        );
    }

    #[test]
    fn a_proxy_is_the_only_way_out() {
        let by_address = egress("allow = [\"a.example:443\"]\nupstream_proxy = \"http://10.0.0.3:3128\"\n");
        assert_eq!((by_address.ports.len(), by_address.proxy), (0, Some("10.0.0.3:3128".parse().unwrap())));
        let by_name = egress("allow = [\"a.example:443\"]\nupstream_proxy = \"http://proxy.example:3128\"\n");
        assert_eq!((by_name.ports, by_name.private.len()), ([3128].into(), 0));
    }
}
