//! The machine's own resolvers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// The file that names them.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// So much of it is read, in bytes; it has a few lines.
pub const LONGEST: usize = 16 * 1024;

/// The `nameserver` lines of resolv.conf(5), three at most; 127.0.0.1 if there are none, as glibc does.
#[must_use]
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|word| {
            // A link-local address may carry its device: fe80::1%eth0.
            let (ip, scope) = word.split_once('%').map_or((word, 0), |(ip, device)| (ip, scope_id(device)));
            let ip: IpAddr = ip.parse().ok()?;
            Some(match ip {
                IpAddr::V4(ip) => SocketAddr::from((ip, 53)),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, 53, 0, scope).into(),
            })
        })
        .take(3)
        .collect();
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    found
}

fn scope_id(device: &str) -> u32 {
    device
        .parse()
        .ok()
        .or_else(|| {
            let text = std::fs::read_to_string(Path::new("/sys/class/net").join(device).join("ifindex")).ok()?;
            text.trim().parse().ok()
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_come_from_resolv_conf() {
        let text =
            "# x\nsearch corp.example\nnameserver 10.0.0.1\n nameserver 2001:db8::1 \noptions x\nnameserver bad\n";
        assert_eq!(nameservers(text), ["10.0.0.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!(nameservers(""), ["127.0.0.1:53".parse().unwrap()]);
    }
}
