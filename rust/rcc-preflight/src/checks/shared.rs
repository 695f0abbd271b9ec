//! Checks that Linux and macOS have alike.

use super::{Check, Part, around, gateway, machine, network};
use rcc_report::Code;

/// Who asks.
pub const USER: Check = Check {
    code: Code::RUNNING_AS_ROOT,
    name: "user",
    part: Part::Launch,
    setup: None,
    why: "A container of root's has root's ids: what gets out of it is root.",
    by_hand: "Start rcc as the user whose project it is, without sudo.",
    judge: machine::user,
};

/// Space.
pub const DISK: Check = Check {
    code: Code::CHECK_DISK,
    name: "disk space",
    part: Part::Whole,
    setup: None,
    why: "Agents' homes grow; a full disk ends a session in the middle of a write.",
    by_hand: "rcc home du shows what agents keep; rcc home rm NAME removes it.",
    judge: around::disk,
};

/// Root's policy.
pub const POLICY: Check = Check {
    code: Code::POLICY_UNREADABLE,
    name: "policy",
    part: Part::Whole,
    setup: Some("writes a first /etc/rcc/policy.toml where there is none, with you in `users`"),
    why: "It says what agents may reach. Who can write it can open everything.",
    by_hand: "Write it as root: docs/policy.md has every key.",
    judge: gateway::policy,
};

/// The gateway, and the firewall that it proves.
pub const GATEWAY: Check = Check {
    code: Code::GATEWAY_ABSENT,
    name: "gateway and firewall",
    part: Part::Whole,
    setup: Some("installs the programs and their units, puts the firewall in force and starts the gateway"),
    why: "A session is opened and closed: the gateway must answer as its own user, name you in its policy, and prove by \
          its canary that the host firewall is in force with this policy's fingerprint.",
    by_hand: "Nothing: what setup does is bound together.",
    judge: gateway::gateway,
};

/// Who is asked for names.
pub const RESOLVERS: Check = Check {
    code: Code::CHECK_RESOLVERS,
    name: "resolvers",
    part: Part::Whole,
    setup: None,
    why: "The gateway asks the machine's resolvers for the addresses of allowed names, and the firewall lets it ask no \
          other.",
    by_hand: "Name one in /etc/resolv.conf, or in the policy: resolvers = [\"9.9.9.9\"].",
    judge: network::resolvers,
};

/// A VPN's answers.
pub const MADE_UP: Check = Check {
    code: Code::CHECK_MADE_UP,
    name: "made-up addresses",
    part: Part::Whole,
    setup: None,
    why: "Clash, Surge and their like answer names with addresses of 198.18.0.0/15, which are not public: the gateway \
          would refuse every name.",
    by_hand: "fake_ip = \"198.18.0.0/15\" in /etc/rcc/policy.toml, if you trust that VPN.",
    judge: network::made_up,
};

/// Proxies.
pub const PROXY: Check = Check {
    code: Code::CHECK_PROXY,
    name: "proxies",
    part: Part::Whole,
    setup: None,
    why: "The gateway connects by itself and does not hear your environment.",
    by_hand: "Where the proxy is the only way out: upstream_proxy in /etc/rcc/policy.toml.",
    judge: network::proxies,
};
