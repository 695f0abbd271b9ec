//! Proves, without any privilege, that the host firewall is in force, and that it is this policy's: the firewall binds
//! this very process, and refuses it an address of its own in a way that nothing else does.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, socket, sockopt};
use rcc_policy::Fingerprint;
use rcc_report::{Code, Problem};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd};

/// Milliseconds. What is refused is refused at once; this is for a machine under load.
const PATIENCE: u16 = 500;

/// An error unless the table of the policy with this fingerprint is in force.
pub fn prove(fingerprint: Fingerprint) -> Result<(), Problem> {
    let canary = fingerprint.canary();
    let beside = SocketAddrV4::new(*canary.ip(), if canary.port() == u16::MAX { 1024 } else { canary.port() + 1 });
    let what = match (answer(canary), answer(beside)) {
        (Err(Errno::EHOSTUNREACH), Err(Errno::ECONNREFUSED)) => return Ok(()),
        (Err(Errno::ECONNREFUSED), _) => "it is not in force, or it is another policy's".to_owned(),
        (canary, beside) => format!("its canary answers {canary:?}, and {beside:?} beside it"),
    };
    // Both are installed side by side.
    let program = std::env::current_exe().unwrap_or_default().with_file_name("rcc-firewall");
    Err(Problem::new(Code::FIREWALL_UNPROVEN, "host firewall", what, format!("sudo {} apply", program.display())))
}

fn answer(to: SocketAddrV4) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let attempt = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    match connect(attempt.as_raw_fd(), &SockaddrIn::from(to)) {
        Err(Errno::EINPROGRESS) => {}
        other => return other,
    }
    if poll(&mut [PollFd::new(attempt.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(PATIENCE))? == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    match getsockopt(&attempt, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(Errno::from_raw(error)),
    }
}
