//! Linux's tables of addresses and links.

use crate::net::{HostNet, Tables};
use crate::trusted;
use std::io;
use std::path::Path;

/// The machine's addresses and links, as the kernel's tables tell them now.
pub fn net() -> io::Result<HostNet> {
    // Not /proc/net, which leads there: a service to which only processes are shown (ProcSubset=pid) has no such link.
    let text = |name: &str, needed: bool| match trusted::read_plain(&Path::new("/proc/self/net").join(name)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // Without IPv6 in the kernel its tables are absent.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !needed => Ok(String::new()),
        Err(e) => Err(e),
    };
    let (fib_trie, route) = (text("fib_trie", true)?, text("route", true)?);
    let (if_inet6, ipv6_route) = (text("if_inet6", false)?, text("ipv6_route", false)?);
    let tables = Tables { fib_trie: &fib_trie, route: &route, if_inet6: &if_inet6, ipv6_route: &ipv6_route };
    HostNet::parse(&tables, &point_to_point).map_err(io::Error::other)
}

/// `IFF_POINTOPOINT` of a device; what can't be read is none.
fn point_to_point(device: &str) -> bool {
    let plain = !device.is_empty() && !device.contains('/') && device != "." && device != "..";
    let path = Path::new("/sys/class/net").join(device).join("flags");
    let text = if plain { trusted::read_plain(&path).ok() } else { None };
    let flags = text.and_then(|t| u32::from_str_radix(String::from_utf8(t).ok()?.trim().strip_prefix("0x")?, 16).ok());
    flags.is_some_and(|f| f & 0x10 != 0)
}
