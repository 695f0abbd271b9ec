//! Proves, without any privilege, that the host firewall is in force, and that it is this policy's: the firewall binds
//! this very process, and lets it send to one port of an address that is nobody's, and to none beside it.
//!
//! By UDP, since the kernel tells a sender at once that a rule refused the datagram. The answer to a refused TCP connection is
//! an ICMP packet, and of those there are so many a second on a whole machine, which a neighbour can use up.

use crate::system::{DENIED, NO_SIGNAL, datagrams};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrIn, sendto};
use rcc_policy::Fingerprint;
use rcc_report::{Code, Problem};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;

/// An error unless the table of the policy with this fingerprint is in force.
pub fn prove(fingerprint: Fingerprint) -> Result<(), Problem> {
    let canary = fingerprint.canary();
    let beside = SocketAddrV4::new(*canary.ip(), if canary.port() == u16::MAX { 1024 } else { canary.port() + 1 });
    let what = match (send_to(canary), send_to(beside)) {
        (Ok(()), Err(DENIED)) => return Ok(()),
        (Ok(()), Ok(())) => "it is not in force".to_owned(),
        (Err(DENIED), Err(DENIED)) => "it is another policy's".to_owned(),
        (canary, beside) => format!("its canary says {canary:?}, and {beside:?} beside it"),
    };
    // Both are installed side by side.
    let program = rcc_host::this_program().unwrap_or_default().with_file_name("rcc-firewall");
    Err(Problem::new(Code::FIREWALL_UNPROVEN, "host firewall", what, format!("sudo {} apply", program.display())))
}

/// Each by a socket of its own, to which no late answer of another comes.
fn send_to(to: SocketAddrV4) -> Result<(), Errno> {
    let socket = datagrams()?;
    sendto(socket.as_raw_fd(), b"canary", &SockaddrIn::from(to), NO_SIGNAL).map(drop)
}
