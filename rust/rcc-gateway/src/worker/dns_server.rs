//! DNS on the session's own sockets. The datagrams' socket is shared with whoever kept a copy, so each call says
//! `MSG_DONTWAIT` itself.

use super::log::plain;
use super::session::Session;
use super::way::Way;
use crate::dns::{self, Known, MAX_UDP, Outcome};
use crate::system::NO_SIGNAL;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn, sendto};
use serde_json::json;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

/// How long a client may take over one query on TCP.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves datagrams until the socket fails.
pub async fn datagrams(session: Rc<Session>, socket: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned by the AsyncFd and names one open socket for as long as that lives.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    let mut buffer = [0; 1500];
    loop {
        let mut ready = socket.readable().await?;
        // A few at a time, so that connections get their turn.
        for _ in 0..32 {
            let fd = socket.as_raw_fd();
            let (n, from) = match receive(fd, &mut buffer) {
                Ok(got) => got,
                // Shut down by whoever kept a copy: it would be ready for ever.
                Err(Errno::EAGAIN) if ready.ready().is_read_closed() => return Err(io::ErrorKind::NotConnected.into()),
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    break;
                }
                // An ICMP error of an earlier answer, and the like.
                Err(_) => continue,
            };
            if !session.may_query() {
                continue;
            }
            if let (Some(answer), Some(to)) = (respond(&session, &buffer[..n], MAX_UDP), from) {
                let _ = sendto(fd, &answer, &to, MsgFlags::MSG_DONTWAIT | NO_SIGNAL);
            }
        }
        drop(ready);
        tokio::task::yield_now().await;
    }
}

/// One datagram; nobody's if it was cut.
pub fn receive(fd: i32, buffer: &mut [u8]) -> Result<(usize, Option<SockaddrIn>), Errno> {
    let mut slices = [io::IoSliceMut::new(buffer)];
    let message = nix::sys::socket::recvmsg::<SockaddrIn>(fd, &mut slices, None, MsgFlags::MSG_DONTWAIT)?;
    if message.flags.contains(MsgFlags::MSG_TRUNC) { Ok((0, None)) } else { Ok((message.bytes, message.address)) }
}

/// Serves one connection.
pub async fn stream(session: Rc<Session>, mut stream: Way) {
    let one = async |stream: &mut Way| -> io::Result<()> {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length).min(4096)];
        stream.read_exact(&mut query).await?;
        if !session.may_query() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let answer = respond(&session, &query, usize::from(u16::MAX)).ok_or(io::ErrorKind::InvalidData)?;
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
        stream.flush().await
    };
    while let Ok(Ok(())) = tokio::time::timeout(PATIENCE, one(&mut stream)).await {}
    let _ = tokio::time::timeout(PATIENCE, stream.shutdown()).await;
    stream.deliver_on_close();
}

/// The answer to one query, if it gets any.
pub fn respond(session: &Session, query: &[u8], room: usize) -> Option<Vec<u8>> {
    let known = |name: &_| if session.knows(name) { Known::Yes } else { Known::No };
    let (answer, outcome) = dns::answer(query, &known, &mut session.stand_ins.borrow_mut(), room);
    let (name, allowed, reason) = match outcome {
        Outcome::Quiet => return answer,
        Outcome::Allowed { name } => (name.to_string(), true, None),
        Outcome::Denied { name } => {
            let reason = if by_person(session, &name) { "the person denied it" } else { "the policy does not name it" };
            (name, false, Some(reason))
        }
        Outcome::Full { name } => (name.to_string(), false, Some("too many names in this session")),
    };
    if let Some(reason) = reason {
        session.report.borrow_mut().denied(&plain(&name), None, reason);
    }
    if session.first_time(&format!("{allowed} {name}")) {
        session.log.name(&json!({"event": "dns", "name": plain(&name), "allowed": allowed, "reason": reason}));
    }
    answer
}

/// Whether a name would exist, were it not for the person.
fn by_person(session: &Session, name: &str) -> bool {
    let names = |entry: &rcc_policy::Endpoint, name: &rcc_policy::HostName| entry.host.names(name);
    rcc_policy::HostName::parse(name).is_ok_and(|n| session.policy().person_denies.iter().any(|e| names(e, &n)))
}
