//! The launcher's packets, and the three sockets that come with `listen`: what they are is asked of the kernel, not of
//! the sender.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcc_proto::{MAX_PACKET, ToGateway, decode};
use rcc_report::{Code, Problem};
use std::os::fd::{AsFd, OwnedFd};
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

/// The next packet, if one is there. A Mac's launchers send no descriptors.
#[cfg(target_os = "macos")]
pub fn receive_now(launcher: &OwnedFd) -> Result<Received, Problem> {
    use rcc_host::packets::{Came, receive_now};
    let mut buffer = Zeroizing::new(vec![0; MAX_PACKET]);
    match receive_now(launcher, &mut buffer).map_err(|_| protocol("the connection broke, or a packet is too long"))? {
        Came::Nothing => Ok(Received::Nothing),
        Came::End => Ok(Received::End),
        Came::Packet(n) => {
            let message = decode(&buffer[..n]).map_err(|e| protocol(&e.to_string()))?;
            Ok(Received::Message(message, Vec::new()))
        }
    }
}

/// The next packet, if one is there. Whatever descriptors came are owned, and so closed, in any case.
#[cfg(target_os = "linux")]
pub fn receive_now(launcher: &OwnedFd) -> Result<Received, Problem> {
    use crate::system::CLOSE_ON_EXEC;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use rcc_proto::MOST_DESCRIPTORS;
    use std::io::IoSliceMut;
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    // Room for as many as a packet can bring, so that a surplus is seen and closed: of what the kernel cuts off here it
    // installs a part, which could not be told and would stay open.
    let mut control = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut buffer = Zeroizing::new(vec![0; MAX_PACKET + 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = CLOSE_ON_EXEC | MsgFlags::MSG_DONTWAIT;
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

#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
pub use namespace::{check, own_namespace};

/// There are no sockets of another namespace on a Mac: a session's connections come by a forwarder.
#[cfg(target_os = "macos")]
pub fn check(_: Vec<OwnedFd>, _: nix::sys::socket::AddressFamily, _: u64) -> Result<Sockets, Problem> {
    let remedy = "run the installed launcher, /usr/local/bin/rcc";
    Err(Problem::new(Code::GATEWAY_NAMESPACE, "launcher", "macOS has no network namespaces to listen in", remedy))
}

/// The one network that a Mac has.
#[cfg(target_os = "macos")]
pub fn own_namespace() -> std::io::Result<u64> {
    Ok(0)
}
