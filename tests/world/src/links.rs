//! The link between the host and everybody else, made with `ip`.
//!
//! Invariant: both ends lie in namespaces of the world; nothing is joined to the namespace that the runner came from.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::map::{HOST4, HOST6, PRINTER4, PRINTER6, PROXY4, ROUTER4, ROUTER6, ROUTER6_LL};

/// The host's side, when `internet` is the process whose namespace has the other.
pub fn host_side(internet: u32) -> Result<()> {
    no_discovery()?;
    // who may send ICMP echo requests without privilege, as on distributions' kernels
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
    ip(&[
        "link set lo up".into(),
        format!("link add eth0 type veth peer name eth0 netns {internet}"),
        format!("addr add {HOST4}/24 broadcast + dev eth0"),
        format!("addr add {HOST6}/64 dev eth0 nodad"),
        "link set eth0 up".into(),
        format!("route add default via {ROUTER4}"),
        format!("route add default via {ROUTER6_LL} dev eth0"),
    ])
}

/// The other side: the LAN's members have their addresses, and every other address is answered too.
pub fn internet_side() -> Result<()> {
    no_discovery()?;
    for kind in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{kind}/rp_filter"), "0")?;
    }
    // an answer by UDP says its source itself, and no IPv6 address of AnyIP is one of an interface
    std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1")?;
    ip(&[
        "link set lo up".into(),
        format!("addr add {ROUTER4}/24 broadcast + dev eth0"),
        format!("addr add {PRINTER4}/24 dev eth0"),
        format!("addr add {PROXY4}/24 dev eth0"),
        format!("addr add {ROUTER6}/64 dev eth0 nodad"),
        format!("addr add {PRINTER6}/64 dev eth0 nodad"),
        format!("addr add {ROUTER6_LL}/64 dev eth0 nodad"),
        "link set eth0 up".into(),
        // a reply's source must be in table local, so the whole of IPv4 goes there; the host is the exception
        format!("route add {HOST4}/32 dev eth0 table local"),
        "route add local 0.0.0.0/0 dev lo table local".into(),
        "route add local ::/0 dev lo table 100".into(),
    ])?;
    // the family of a rule without addresses can't be guessed
    ip6(&["rule add iif eth0 lookup 100".into()])
}

fn no_discovery() -> Result<()> {
    for kind in ["all", "default"] {
        for key in ["accept_dad", "accept_ra"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{kind}/{key}"), "0")
                .context("is IPv6 off in this kernel?")?;
        }
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{kind}/disable_ipv6"), "0")?;
    }
    Ok(())
}

/// Runs several commands of `ip` in one process; the first failure ends it.
fn ip(commands: &[String]) -> Result<()> {
    batch(&["-batch", "-"], commands)
}

fn ip6(commands: &[String]) -> Result<()> {
    batch(&["-6", "-batch", "-"], commands)
}

fn batch(arguments: &[&str], commands: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("`ip` of iproute2")?;
    child.stdin.take().context("no pipe")?.write_all(commands.join("\n").as_bytes())?;
    ensure!(child.wait()?.success(), "ip has failed in: {commands:#?}");
    Ok(())
}
