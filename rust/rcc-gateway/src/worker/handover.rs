//! The launcher's packets, and the three sockets that come with `listen`: what they are is asked of the kernel, not of
//! the sender.

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recvmsg, socket,
    sockopt,
};
use rcc_proto::{LISTEN_SOCKETS, MAX_PACKET, MOST_DESCRIPTORS, ToGateway, decode};
use rcc_report::{Code, Problem};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;
use zeroize::Zeroizing;

/// The sockets of a session's network namespace.
#[derive(Debug)]
pub struct Sockets {
    /// Redirected TCP.
    pub redirect: OwnedFd,
    /// DNS over UDP.
    pub dns: OwnedFd,
    /// DNS over TCP.
    pub dns_tcp: OwnedFd,
}

/// A breach of the protocol.
#[must_use]
pub fn protocol(what: &str) -> Problem {
    Problem::new(Code::GATEWAY_PROTOCOL, "launcher", what, "run the installed launcher, /usr/local/bin/rcc")
}

/// What came by the launcher's connection.
pub enum Received {
    /// Nothing yet.
    Nothing,
    /// The end.
    End,
    /// A message and the descriptors beside it.
    Message(ToGateway, Vec<OwnedFd>),
}

/// The next packet and the descriptors beside it, awaited.
pub fn receive(launcher: &OwnedFd, deadline: Instant) -> Result<(ToGateway, Vec<OwnedFd>), Problem> {
    loop {
        wait(launcher, deadline)?;
        match receive_now(launcher)? {
            Received::Nothing => {}
            Received::End => return Err(protocol("the connection ended")),
            Received::Message(message, fds) => return Ok((message, fds)),
        }
    }
}

/// The next packet, if one is there. Whatever descriptors came are owned, and so closed, in any case.
pub fn receive_now(launcher: &OwnedFd) -> Result<Received, Problem> {
    // Room for as many as a packet can bring, so that a surplus is seen and closed: of what the kernel cuts off here it
    // installs a part, which could not be told and would stay open.
    let mut control = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut buffer = Zeroizing::new(vec![0; MAX_PACKET + 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<()>(launcher.as_raw_fd(), &mut slices, Some(&mut control), flags) {
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(Received::Nothing),
        Err(nix::errno::Errno::ECONNRESET) => return Ok(Received::End),
        other => other.map_err(|_| protocol("the connection broke"))?,
    };
    let mut fds = Vec::new();
    let controls = message.cmsgs();
    for one in controls.into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(raw) = one {
            // SAFETY: the kernel has just installed these descriptors for this process; nothing else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(protocol("the packet, or what came with it, is too long"));
    }
    let n = message.bytes;
    if n == 0 {
        return Ok(Received::End);
    }
    let message = decode(&buffer[..n]).map_err(|e| protocol(&e.to_string()))?;
    Ok(Received::Message(message, fds))
}

fn wait(fd: &OwnedFd, deadline: Instant) -> Result<(), Problem> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(protocol("nothing came in time"));
    }
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::from(10_000u16));
    let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
    Ok(())
}

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
