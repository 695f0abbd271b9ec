//! The forwarder: in a virtual machine, what launcher and hook find where the gateway is elsewhere. It decides nothing, knows no
//! policy and no key, and writes no log: each connection that it accepts, with the address that was dialled, and each DNS
//! datagram goes to the gateway on the host, by the session that the launcher's ticket opens there.
//!
//! Invariant: nothing rests on this program. Whoever is root in the virtual machine can be it, and has by that what the
//! tickets of its sessions give: those sessions' own rights (docs/decisions/0033).

pub mod session;

use crate::supervisor::{confine, socket, waiting};
use nix::poll::{PollTimeout, poll};
use rcc_proto::GATEWAY_SOCKET;
use rcc_report::{Code, Problem};
use socket2::{Domain, SockAddr, Socket, Type};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Sessions at once; what a person may have is the gateway's word.
const MOST_SESSIONS: usize = 256;
/// How long the gateway may take to accept a stream: it is on this very machine.
const DIALLING: Duration = Duration::from_secs(10);

/// Where the gateway is, as seen from the virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// By the network that the machine's monitor makes up.
    Tcp(SocketAddr),
    /// By the machine's own channel to its host: context and port. Such a machine needs no network.
    Vsock(u32, u32),
}

impl FromStr for Gateway {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some(vsock) = text.strip_prefix("vsock:") else { return text.parse().map(Self::Tcp).map_err(|_| ()) };
        let (context, port) = vsock.split_once(':').ok_or(())?;
        Ok(Self::Vsock(context.parse().map_err(|_| ())?, port.parse().map_err(|_| ())?))
    }
}

impl Gateway {
    /// A new stream to it.
    pub async fn dial(self) -> io::Result<TcpStream> {
        let (domain, address) = match self {
            Self::Tcp(to) => (Domain::for_address(to), to.into()),
            Self::Vsock(context, port) => (Domain::VSOCK, SockAddr::vsock(context, port)),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        // tokio asks a stream socket nothing that only one of TCP could answer.
        let stream = TcpStream::from_std(OwnedFd::from(socket).into())?;
        tokio::time::timeout(DIALLING, stream.writable()).await??;
        stream.take_error()?.map_or(Ok(stream), Err)
    }
}

/// Serves launchers, a process each, until it is killed.
pub fn serve(gateway: &str) -> Result<Infallible, Problem> {
    confine().map_err(|what| {
        Problem::new(Code::GATEWAY_ABSENT, "rcc-forward", what, "start it as the system user rcc, without capabilities")
    })?;
    let listener = socket::made(GATEWAY_SOCKET)?;
    eprintln!("rcc-forward: listening, for the gateway at {gateway}");
    let mut sessions: Vec<Child> = Vec::new();
    loop {
        // Woken each second while there are sessions whose end must be noticed.
        let patience = if sessions.is_empty() { PollTimeout::NONE } else { PollTimeout::from(1000u16) };
        let _ = poll(&mut [waiting(&listener)], patience);
        sessions.retain_mut(|session| matches!(session.try_wait(), Ok(None)));
        while let Some(launcher) = socket::accept(&listener) {
            // One too many is hung up on, and so is one that can't be served.
            if sessions.len() < MOST_SESSIONS
                && let Ok(session) = start(launcher, gateway)
            {
                sessions.push(session);
            }
        }
    }
}

fn start(launcher: OwnedFd, gateway: &str) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .args(["session", &std::process::id().to_string(), gateway])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(launcher))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_an_address_or_a_vsock() {
        assert_eq!("192.168.127.254:47081".parse(), Ok(Gateway::Tcp(([192, 168, 127, 254], 47081).into())));
        assert_eq!("vsock:2:47081".parse(), Ok(Gateway::Vsock(2, 47081)));
        for bad in ["", "host:1", "vsock:", "vsock:2", "vsock:x:1", "127.0.0.1"] {
            assert_eq!(bad.parse::<Gateway>(), Err(()), "{bad}");
        }
    }
}
