//! The sockets that a launcher on Linux passes, and the network namespace that they are of.

use super::{Sockets, protocol};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, getsockopt, socket, sockopt};
use rcc_proto::LISTEN_SOCKETS;
use rcc_report::{Code, Problem};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Checks that these are the three sockets of one namespace that is not the host's. The first is of IPv6, which takes both,
/// where a range of the policy's is.
pub fn check(fds: Vec<OwnedFd>, redirect_is: AddressFamily, own_namespace: u64) -> Result<Sockets, Problem> {
    let count = fds.len();
    let Ok([redirect, dns, dns_tcp]) = <[OwnedFd; LISTEN_SOCKETS]>::try_from(fds) else {
        return Err(protocol(&format!("{count} descriptors came with `listen`, not {LISTEN_SOCKETS}")));
    };
    let sockets = Sockets { redirect, dns, dns_tcp };
    let inet = AddressFamily::Inet;
    for (fd, family, kind, proto) in [
        (&sockets.redirect, redirect_is, SockType::Stream, SockProtocol::Tcp),
        (&sockets.dns, inet, SockType::Datagram, SockProtocol::Udp),
        (&sockets.dns_tcp, inet, SockType::Stream, SockProtocol::Tcp),
    ] {
        let right = getsockopt(fd, sockopt::SockType) == Ok(kind)
            && number(fd, libc::SO_PROTOCOL) == Some(proto as i32)
            && number(fd, libc::SO_DOMAIN) == Some(family as i32)
            && getsockopt(fd, sockopt::AcceptConn) == Ok(kind == SockType::Stream);
        if !right {
            return Err(protocol("a descriptor is not the socket that it should be"));
        }
    }
    let cookies = [&sockets.redirect, &sockets.dns, &sockets.dns_tcp].map(|fd| cookie(fd).ok());
    let [Some(one), ..] = cookies else { return Err(protocol("a socket has no network namespace")) };
    if cookies.iter().any(|c| *c != Some(one)) || one == own_namespace {
        return Err(Problem::new(
            Code::GATEWAY_NAMESPACE,
            "launcher",
            "the listening sockets are not all of one network namespace other than the host's",
            "run the installed launcher, /usr/local/bin/rcc",
        ));
    }
    Ok(sockets)
}

/// The gateway's own network namespace.
pub fn own_namespace() -> io::Result<u64> {
    cookie(&socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

/// `SO_NETNS_COOKIE` (Linux 5.14): a number of the socket's network namespace, never used twice.
fn cookie(fd: &OwnedFd) -> io::Result<u64> {
    let mut value = 0u64;
    let mut size: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most 8 bytes to `value`.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    if done == 0 && size == 8 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn number(fd: &OwnedFd, option: i32) -> Option<i32> {
    let mut value = 0i32;
    let mut size: libc::socklen_t = 4;
    // SAFETY: the kernel writes at most 4 bytes to `value`.
    let done =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut size) };
    (done == 0 && size == 4).then_some(value)
}
