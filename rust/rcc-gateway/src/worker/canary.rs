//! Proves, without any privilege, that the host firewall is in force, and that it is this policy's: the firewall binds
//! this very process, and lets it send to one port of an address, and to none beside it.
//!
//! By UDP, since the kernel tells a sender at once that a rule refused the datagram. The answer to a refused TCP connection is
//! an ICMP packet, and of those there are so many a second on a whole machine, which a neighbour can use up.
//!
//! On a Mac nothing tells: there it is the answer of a port at which nobody listens that shows that a datagram went.

use crate::system::datagrams;
use rcc_policy::Fingerprint;
use rcc_report::{Code, Problem};
use std::net::SocketAddrV4;

/// An error unless the table of the policy with this fingerprint is in force.
pub fn prove(fingerprint: Fingerprint) -> Result<(), Problem> {
    let Err(what) = seen(fingerprint) else { return Ok(()) };
    // Both are installed side by side.
    let program = rcc_host::this_program().unwrap_or_default().with_file_name("rcc-firewall");
    Err(Problem::new(Code::FIREWALL_UNPROVEN, "host firewall", what, format!("sudo {} apply", program.display())))
}

fn beside(canary: SocketAddrV4) -> SocketAddrV4 {
    SocketAddrV4::new(*canary.ip(), if canary.port() == u16::MAX { 1024 } else { canary.port() + 1 })
}

#[cfg(target_os = "linux")]
fn seen(fingerprint: Fingerprint) -> Result<(), String> {
    use crate::system::NO_SIGNAL;
    use nix::errno::Errno;
    use nix::sys::socket::{SockaddrIn, sendto};
    use std::os::fd::AsRawFd;

    // Each by a socket of its own, to which no late answer of another comes.
    let send_to =
        |to: SocketAddrV4| sendto(datagrams()?.as_raw_fd(), b"canary", &SockaddrIn::from(to), NO_SIGNAL).map(drop);
    let canary = fingerprint.canary();
    match (send_to(canary), send_to(beside(canary))) {
        (Ok(()), Err(Errno::EPERM)) => Ok(()),
        (Ok(()), Ok(())) => Err("it is not in force".to_owned()),
        (Err(Errno::EPERM), Err(Errno::EPERM)) => Err("it is another policy's".to_owned()),
        (canary, beside) => Err(format!("its canary says {canary:?}, and {beside:?} beside it")),
    }
}

#[cfg(target_os = "macos")]
fn seen(fingerprint: Fingerprint) -> Result<(), String> {
    let canary = fingerprint.mac_canary();
    by_answers(canary, beside(canary))
}

/// How long a Mac's answers are waited for, at first and at most. The time is lost to the session's other business.
#[cfg(any(target_os = "macos", test))]
const WAITS: [u8; 5] = [10, 20, 40, 80, 160];

/// A datagram to a port at which nobody listens is answered by the kernel (ICMP, which shows as `ECONNREFUSED`), a datagram
/// that pf drops is not. Read in xnu 11417: what `ip_output` is told by pf it keeps to itself, so sending succeeds in both
/// cases; `udp_input` answers on loopback always, however many a second. Of two such answers in the queue of loopback the
/// older one is taken out; so the one beside the canary is given longer than the canary then takes.
#[cfg(any(target_os = "macos", test))]
fn by_answers(canary: SocketAddrV4, beside: SocketAddrV4) -> Result<(), String> {
    let said = |e: nix::errno::Errno| format!("its canary can't be tried: {e}");
    for wait in WAITS {
        let other = sent(beside).map_err(said)?;
        if is_answered(&other, wait).map_err(said)? {
            return Err("it is not in force".to_owned());
        }
        let one = sent(canary).map_err(said)?;
        if is_answered(&one, wait).map_err(said)? {
            let late = is_answered(&other, 0).map_err(said)?;
            return if late { Err("it is not in force".to_owned()) } else { Ok(()) };
        }
    }
    Err(format!("it is another policy's, or a program listens at its canary, UDP {canary}"))
}

/// Connected: only then an answer comes to the socket.
#[cfg(any(target_os = "macos", test))]
fn sent(to: SocketAddrV4) -> nix::Result<std::os::fd::OwnedFd> {
    use nix::sys::socket::{SockaddrIn, connect, send};
    use std::os::fd::AsRawFd;

    let socket = datagrams()?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    send(socket.as_raw_fd(), b"canary", crate::system::NO_SIGNAL)?;
    Ok(socket)
}

/// Whether the kernel says within so many milliseconds that nobody listens there.
#[cfg(any(target_os = "macos", test))]
fn is_answered(socket: &std::os::fd::OwnedFd, wait: u8) -> nix::Result<bool> {
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, poll};
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::{AsFd, AsRawFd};

    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], wait) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(e),
    }
    match recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::empty()) {
        Err(Errno::ECONNREFUSED) => Ok(true),
        Ok(_) | Err(Errno::EAGAIN) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, UdpSocket};

    fn port() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(at) = socket.local_addr().unwrap() else { panic!("IPv4") };
        (socket, at)
    }

    /// A socket that is not read is as silent as a rule that drops.
    #[test]
    fn on_a_mac_the_canary_is_answered_and_what_is_beside_it_is_not() {
        let ((silent, dropped), (open, goes)) = (port(), port());
        let (_other, another) = port();
        assert!(by_answers(goes, dropped).unwrap_err().contains("another policy's"));
        drop(open);
        assert_eq!(by_answers(goes, dropped), Ok(()));
        assert!(by_answers(another, dropped).unwrap_err().contains("another policy's"));
        drop(silent);
        assert_eq!(by_answers(goes, dropped), Err("it is not in force".to_owned()));
        assert_eq!(by_answers(another, dropped), Err("it is not in force".to_owned()));
    }
}
