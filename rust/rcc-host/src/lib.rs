//! What this machine is, read by more than one part of rcc: its addresses and links, its resolvers and how they are asked,
//! its users, files of which only root is the author, and how its processes talk. Nothing here changes anything.

pub mod accounts;
pub mod dns;
pub mod macos;
pub mod net;
pub mod packets;
pub mod resolv_conf;
pub mod trusted;

use std::io;
use std::path::{Path, PathBuf};

/// The place of this very program, with links resolved: what lies beside it is of its version. macOS gives the name that it
/// was called by, which may be Homebrew's link to it.
pub fn this_program() -> io::Result<PathBuf> {
    let named = std::env::current_exe()?;
    // Linux's is resolved by the kernel, and may be gone since.
    if cfg!(target_os = "linux") { Ok(named) } else { std::fs::canonicalize(named) }
}

/// The machine's addresses and links, as the kernel's tables tell them now.
pub fn net() -> io::Result<net::HostNet> {
    // Not /proc/net, which leads there: a service to which only processes are shown (ProcSubset=pid) has no such link.
    let text = |name: &str, needed: bool| match trusted::read_plain(&Path::new("/proc/self/net").join(name)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // Without IPv6 in the kernel its tables are absent.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !needed => Ok(String::new()),
        Err(e) => Err(e),
    };
    let (fib_trie, route) = (text("fib_trie", true)?, text("route", true)?);
    let (if_inet6, ipv6_route) = (text("if_inet6", false)?, text("ipv6_route", false)?);
    let tables = net::Tables { fib_trie: &fib_trie, route: &route, if_inet6: &if_inet6, ipv6_route: &ipv6_route };
    net::HostNet::parse(&tables, &point_to_point).map_err(io::Error::other)
}

/// `IFF_POINTOPOINT` of a device; what can't be read is none.
fn point_to_point(device: &str) -> bool {
    let plain = !device.is_empty() && !device.contains('/') && device != "." && device != "..";
    let path = Path::new("/sys/class/net").join(device).join("flags");
    let text = if plain { trusted::read_plain(&path).ok() } else { None };
    let flags = text.and_then(|t| u32::from_str_radix(String::from_utf8(t).ok()?.trim().strip_prefix("0x")?, 16).ok());
    flags.is_some_and(|f| f & 0x10 != 0)
}
