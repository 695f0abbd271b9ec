//! The ways of the network that change what the gateway can do.

use super::{Outcome, of, pass, policy, warns};
use crate::facts::Facts;
use rcc_policy::{Policy, Resolved, Resolvers};
use rcc_report::{Code, Problem};
use std::net::IpAddr;

fn resolved(facts: &Facts) -> Option<Resolved> {
    policy(facts).as_ref().map(Policy::to_owned).and_then(|policy| policy.resolve(&[]).ok())
}

pub fn firewalls(facts: &Facts) -> Outcome {
    of(&facts.surroundings, |around| {
        let takes_away = |name: &&String| *name == "nftables.service" && !(around.systemd && around.firewall_unit);
        let flushes = around.firewalls.iter().filter(takes_away).map(|name| {
            Problem::new(
                Code::CHECK_FIREWALLS,
                name,
                "its reload flushes every table, rcc's too; sessions are held until that is back",
                "after each reload: sudo /usr/local/bin/rcc setup",
            )
        });
        let note = if around.firewalls.is_empty() { "none".to_owned() } else { around.firewalls.join(", ") };
        warns(flushes.collect(), note)
    })
}

pub fn resolvers(facts: &Facts) -> Outcome {
    of(&facts.network, |network| {
        let given = resolved(facts).is_some_and(|policy| matches!(policy.resolvers, Resolvers::Given(_)));
        if given {
            return pass("given by the policy");
        }
        if network.resolvers.is_empty() {
            return Outcome::Fail(vec![Problem::new(
                Code::CHECK_RESOLVERS,
                "/etc/resolv.conf",
                "it is not there, so names can't be resolved",
                if network.resolved {
                    "sudo ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
                } else {
                    "echo 'nameserver 9.9.9.9' | sudo tee /etc/resolv.conf"
                },
            )]);
        }
        let by = if network.resolved { " (systemd-resolved)" } else { "" };
        let tunnels =
            if network.tunnels.is_empty() { String::new() } else { format!("; VPN: {}", network.tunnels.join(", ")) };
        pass(format!("{}{by}{tunnels}", network.resolvers.join(", ")))
    })
}

pub fn made_up(facts: &Facts) -> Outcome {
    of(&facts.network, |network| {
        let counted = resolved(facts).map(|policy| policy.fake_ip).unwrap_or_default();
        let all_counted = network
            .made_up
            .iter()
            .all(|address| address.parse::<IpAddr>().is_ok_and(|ip| counted.iter().any(|range| range.contains(&ip))));
        if all_counted {
            return pass(if network.made_up.is_empty() { "none" } else { "the policy counts them as public" });
        }
        let problem = Problem::new(
            Code::CHECK_MADE_UP,
            network.made_up.join(", "),
            "this machine has addresses of 198.18.0.0/15: a VPN makes up answers, which the gateway refuses as not public",
            "in /etc/rcc/policy.toml, if you trust that VPN: fake_ip = \"198.18.0.0/15\"",
        );
        // A resolver in that range answers every name so.
        let asked = network.resolvers.iter().any(|resolver| network.made_up.contains(resolver));
        if asked { Outcome::Fail(vec![problem]) } else { Outcome::Warn(vec![problem]) }
    })
}

pub fn proxies(facts: &Facts) -> Outcome {
    of(&facts.network, |network| {
        if network.proxies.is_empty() {
            return pass("none");
        }
        if resolved(facts).is_some_and(|policy| policy.upstream_proxy.is_some()) {
            return pass("the policy has one");
        }
        Outcome::Warn(vec![Problem::new(
            Code::CHECK_PROXY,
            network.proxies.join(", "),
            "your environment names a proxy; the gateway connects without one",
            "if it is the only way out, in /etc/rcc/policy.toml: upstream_proxy = \"http://PROXY:PORT\"; if not, nothing",
        )])
    })
}
