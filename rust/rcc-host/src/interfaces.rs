//! A Mac's addresses and links, as its interfaces have them (getifaddrs(3)).
//!
//! A prefix that is on a link by a route alone (an IPv6 router can announce one without addresses in it) is not seen.

use crate::net::HostNet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The machine's addresses and links as they are now.
pub fn net() -> io::Result<HostNet> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the library puts a list there, which is freed below.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut net = HostNet { v6: public_v6(), ..HostNet::default() };
    let mut at = list;
    // SAFETY: each entry of the list lives until it is freed, and its addresses are of the length that their family has.
    while let Some(entry) = unsafe { at.as_ref() } {
        // SAFETY: the same.
        let (address, mask) = unsafe { (ip(entry.ifa_addr), ip(entry.ifa_netmask)) };
        if let Some(address) = address {
            let flags = libc::c_int::try_from(entry.ifa_flags).unwrap_or(0);
            net.interface(address, mask, flags & libc::IFF_LOOPBACK != 0, flags & libc::IFF_POINTOPOINT != 0);
        }
        at = entry.ifa_next;
    }
    // SAFETY: the list is the library's, and freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(net)
}

/// # Safety
/// The pointer is null, or to an address as long as its family's.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by this function's own contract.
    unsafe {
        match libc::c_int::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let mut bytes = address.cast::<libc::sockaddr_in6>().read_unaligned().sin6_addr.s6_addr;
                // The kernel keeps a link-local address's interface in it.
                if bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80 {
                    (bytes[2], bytes[3]) = (0, 0);
                }
                Some(Ipv6Addr::from(bytes).into())
            }
            _ => None,
        }
    }
}

/// Whether the kernel has a way to public IPv6: connecting a socket for datagrams asks it, and sends nothing. It is bound to
/// nothing, which a worker may not do.
fn public_v6() -> bool {
    // SAFETY: all zeroes are an address; numbers alone, and an address whose whole length is given. The socket is closed once.
    unsafe {
        let mut to: libc::sockaddr_in6 = std::mem::zeroed();
        let (Ok(size), Ok(family)) = (u8::try_from(size_of_val(&to)), libc::sa_family_t::try_from(libc::AF_INET6))
        else {
            return false;
        };
        (to.sin6_len, to.sin6_family, to.sin6_port) = (size, family, 9_u16.to_be());
        to.sin6_addr.s6_addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).octets();
        let socket = libc::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0);
        let connects = socket >= 0 && libc::connect(socket, (&raw const to).cast(), size.into()) == 0;
        if socket >= 0 {
            libc::close(socket);
        }
        connects
    }
}
