//! Root's part: the policy, the gateway's user, the gateway and the firewall it proves.

use super::{Outcome, family, of, pass};
use crate::facts::{Answer, Facts};
use crate::probe::POLICY;
use crate::system::Family;
use rcc_proto::GATEWAY_USER;
use rcc_report::{Code, Problem};

pub fn policy(facts: &Facts) -> Outcome {
    of(&facts.policy, |policy| match policy {
        Err(problem) => Outcome::Fail(vec![problem.clone()]),
        Ok(text) => match rcc_policy::parse(text, POLICY) {
            Err(problems) => Outcome::Fail(problems),
            Ok(policy) => pass(format!("fingerprint {}", policy.fingerprint())),
        },
    })
}

pub fn user(facts: &Facts) -> Outcome {
    of(&facts.surroundings, |around| {
        if around.gateway_user {
            return pass(GATEWAY_USER);
        }
        Outcome::Fail(vec![Problem::new(
            Code::FIREWALL_USER,
            GATEWAY_USER,
            "there is no such user, which the gateway runs as",
            match family(facts) {
                Family::NixOs => {
                    "in configuration.nix: users.users.rcc = { isSystemUser = true; group = \"rcc\"; }; users.groups.rcc = { }; then: sudo nixos-rebuild switch"
                }
                Family::Alpine => "sudo addgroup -S rcc && sudo adduser -S -D -H -s /sbin/nologin -G rcc rcc",
                _ => "sudo useradd --system --no-create-home --shell /usr/sbin/nologin rcc",
            },
        )])
    })
}

pub fn gateway(facts: &Facts) -> Outcome {
    of(&facts.gateway, |answer| match answer {
        Answer::Refuses(problem) => Outcome::Fail(vec![problem.clone()]),
        Answer::Opens { fingerprint } => {
            let own = super::policy(facts).map(|policy| policy.fingerprint().to_string());
            match own {
                Some(own) if own != *fingerprint => Outcome::Fail(vec![Problem::new(
                    Code::FIREWALL_UNPROVEN,
                    "gateway",
                    format!("it has proven the firewall of policy {fingerprint}, and {POLICY} is {own}"),
                    "sudo /usr/local/bin/rcc setup",
                )]),
                _ => pass(format!("opens sessions; firewall proven, fingerprint {fingerprint}")),
            }
        }
    })
}
