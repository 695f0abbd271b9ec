//! What the machine adds to the policy.

use rcc_host::net::HostNet;
use rcc_host::resolv_conf::{RESOLV_CONF, nameservers};
use rcc_policy::{Egress, Ipv6Net, Resolvers};
use rcc_report::{Code, Problem};
use rcc_rules::Facts;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// The gateway's system user.
#[cfg(target_os = "linux")]
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

/// The machine's links and, where the policy follows it, its resolvers, as they are now; `nat64` asks those given how the
/// network translates.
pub fn facts(
    egress: &Egress,
    gateway: u32,
    nat64: impl FnOnce(&BTreeSet<SocketAddr>) -> BTreeSet<Ipv6Net>,
) -> Result<(Facts, HostNet), Problem> {
    let unreadable = |what: &str, e: &std::io::Error| {
        Problem::new(
            Code::FIREWALL_FACTS,
            what,
            e.to_string(),
            "run this as root; on Linux with /proc and /sys mounted",
        )
    };
    let machines = rcc_host::trusted::read_plain(Path::new(RESOLV_CONF))
        .map(|text| nameservers(&String::from_utf8_lossy(&text)).into_iter().collect::<BTreeSet<_>>());
    let (resolvers, asked) = match &egress.resolvers {
        Resolvers::System => {
            // Early at a machine's start it may be a link to what is not there yet: nobody is asked until it is.
            let all = match machines {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
                other => other.map_err(|e| unreadable(RESOLV_CONF, &e))?,
            };
            (all.clone(), all)
        }
        // How a network translates, its own resolvers know best.
        Resolvers::Given(given) => {
            let plain = given.iter().filter(|r| r.tls.is_none()).map(|r| r.address);
            (BTreeSet::new(), machines.unwrap_or_default().into_iter().chain(plain).collect())
        }
    };
    let net = rcc_host::net().map_err(|e| unreadable("the machine's links", &e))?;
    // Without a way into IPv6 nothing is translated.
    let nat64 = if net.v6 { nat64(&asked) } else { BTreeSet::new() };
    Ok((Facts { gateway, resolvers, on_link: net.on_link.iter().copied().collect(), nat64 }, net))
}
