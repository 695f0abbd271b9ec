//! What the machine adds to the policy.

use rcc_host::resolv_conf::{RESOLV_CONF, nameservers};
use rcc_policy::{Egress, Resolvers};
use rcc_report::{Code, Problem};
use rcc_rules::Facts;
use std::collections::BTreeSet;
use std::path::Path;

/// The gateway's system user.
pub fn gateway_user() -> Result<u32, Problem> {
    let name = rcc_proto::GATEWAY_USER;
    let user = rcc_host::accounts::user(name).ok().flatten().filter(|u| u.uid != 0);
    let missing = || {
        Problem::new(
            Code::FIREWALL_USER,
            name,
            "there is no such system user, whose traffic the firewall is for",
            format!("sudo useradd --system --no-create-home --shell /usr/sbin/nologin {name}"),
        )
    };
    user.map(|u| u.uid).ok_or_else(missing)
}

/// The machine's links and, where the policy follows it, its resolvers, as they are now.
pub fn facts(egress: &Egress, gateway: u32) -> Result<Facts, Problem> {
    let unreadable = |what: &str, e: &std::io::Error| {
        Problem::new(Code::FIREWALL_FACTS, what, e.to_string(), "run this as root, with /proc and /sys mounted")
    };
    let resolvers = match egress.resolvers {
        Resolvers::System => {
            let text =
                rcc_host::trusted::read_plain(Path::new(RESOLV_CONF)).map_err(|e| unreadable(RESOLV_CONF, &e))?;
            nameservers(&String::from_utf8_lossy(&text)).into_iter().collect()
        }
        Resolvers::Given(_) => BTreeSet::new(),
    };
    let net = rcc_host::net().map_err(|e| unreadable("/proc/net", &e))?;
    Ok(Facts { gateway, resolvers, on_link: net.on_link.into_iter().collect(), nat64: BTreeSet::new() })
}
