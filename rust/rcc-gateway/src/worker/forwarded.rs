//! A session whose agent lives in a virtual machine: its streams come from a forwarder there, by way of the supervisor,
//! which has let in none without this session's secret. From there on they are served as any other connection is.
//!
//! Invariant: what the forwarder says is the session's own to say: that it listens, and that the agent has ended. Grants,
//! keys and the session's life are the host launcher's.

use super::session::{self, Session, connection_task, dns_task};
use super::way::Way;
use super::{Link, STARTING, dns_server, handover};
use crate::dns::MAX_UDP;
use crate::framed::{self, Framed};
use crate::system::{CLOSE_ON_EXEC, NO_SIGNAL};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use rcc_proto::forwarded::{DNS_MARK, Key, SECRET, STREAM, Stream};
use rcc_proto::{FromGateway, Opened, ToGateway, decode, encode};
use rcc_report::{Code, Problem};
use serde_json::json;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

/// The longest packet of a forwarder's, in bytes.
const SAID: usize = 1024;
/// The longest query in a datagram.
const QUERY: usize = 1500;

/// How forwarders' streams come, and the secrets that open the session to them.
pub struct Admission {
    /// Good once.
    pub ticket: Key,
    streams: Key,
    arrivals: OwnedFd,
}

impl Admission {
    /// What the supervisor says before anything else; nothing where no forwarder can come.
    pub fn receive(log: &OwnedFd) -> io::Result<Option<Self>> {
        let mut both = zeroize::Zeroizing::new([0; 2 * SECRET]);
        let (n, fd) = descriptor(log, &mut *both, MsgFlags::empty())?;
        let key = |at: usize| both[at..at + SECRET].try_into().map(Key).map_err(io::Error::other);
        match (n, fd) {
            (1, None) => Ok(None),
            (n, Some(arrivals)) if n == both.len() => {
                Ok(Some(Self { ticket: key(0)?, streams: key(SECRET)?, arrivals }))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// One packet, and the descriptor beside it.
fn descriptor(from: &OwnedFd, into: &mut [u8], flags: MsgFlags) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut control = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(into)];
    let flags = flags | CLOSE_ON_EXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut fd = None;
    for one in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = one {
            // SAFETY: the kernel has just installed these descriptors for this process; nothing else knows them.
            fd = raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next_back();
        }
    }
    Ok((message.bytes, fd))
}

/// Serves until the forwarder is gone or breaks its protocol.
pub async fn serve(session: Rc<Session>, link: Rc<Link>, admission: Admission, opened: Opened) -> Problem {
    // SAFETY: the descriptor is owned by the AsyncFd and names one open socket for as long as that lives.
    let Ok(arrivals) = (unsafe { AsyncFd::register_with_interest(admission.arrivals, Interest::READABLE) }) else {
        return session::lost(ARRIVALS);
    };
    let control = match tokio::time::timeout(STARTING, next(&arrivals)).await {
        Ok(Ok((Stream::Control, stream))) => stream,
        Err(_) => return lost("none came with the session's ticket in time"),
        Ok(_) => return session::lost(ARRIVALS),
    };
    session.log.session(&json!({"event": "forwarder"}));
    let said = link.forward(&control, &admission.streams, opened);
    if said.is_err() {
        return lost("it went away before it was answered");
    }
    let mut talk = tokio::task::spawn_local(talk(session.clone(), link, control));
    let mut taken = tokio::task::spawn_local(take(session, arrivals));
    tokio::select! {
        why = &mut talk => why.unwrap_or_else(|_| lost("its conversation ended")),
        why = &mut taken => why.unwrap_or_else(|_| session::lost(ARRIVALS)),
    }
}

const ARRIVALS: &str = "what forwarders bring";

fn lost(what: &str) -> Problem {
    Problem::new(
        Code::FORWARD_LOST,
        "forwarder",
        what,
        "see what became of the virtual machine, and start the session again",
    )
}

/// The session's conversation, as far as it is the forwarder's.
async fn talk(session: Rc<Session>, link: Rc<Link>, mut control: TcpStream) -> Problem {
    let mut said = async || -> Result<ToGateway, Problem> {
        let packet = framed::message(&mut control, SAID).await.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => wrong("it said too much at once"),
            _ => lost("its conversation ended"),
        })?;
        decode(&packet).map_err(|e| wrong(&e.to_string()))
    };
    match tokio::time::timeout(STARTING, said()).await {
        Ok(Ok(ToGateway::Listen)) => link.announce(&FromGateway::Listening),
        Ok(Ok(_)) => return wrong("what it says first is `listen`"),
        Ok(Err(problem)) => return problem,
        Err(_) => return lost("it did not listen in time"),
    }
    loop {
        match said().await {
            Ok(ToGateway::End) => link.answer_forwarder(&FromGateway::Summary(session.summary())),
            Ok(ToGateway::Grants { .. }) => {
                return Problem::new(
                    Code::FORWARD_ON_HOST,
                    "forwarder",
                    "it asked for grants from within the virtual machine",
                    "grant on the host: rcc allow",
                );
            }
            Ok(_) => return wrong("this is not said after `listen`"),
            Err(problem) => return problem,
        }
    }
}

fn wrong(what: &str) -> Problem {
    Problem { subject: "forwarder".into(), ..handover::protocol(what) }
}

/// Serves the session's other streams as they come.
async fn take(session: Rc<Session>, arrivals: AsyncFd<OwnedFd>) -> Problem {
    let mut datagrams: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let came = tokio::select! {
            came = next(&arrivals) => came,
            _ = async { datagrams.as_mut().expect("is there").await }, if datagrams.is_some() => {
                return lost("its stream for DNS ended");
            }
        };
        match came {
            Ok((Stream::Connection(to), stream)) => {
                // In one spelling, as the kernel gives it of a local agent's.
                let to = SocketAddr::new(to.ip().to_canonical(), to.port());
                connection_task(&session, brought(stream), to);
            }
            Ok((Stream::DnsTcp, stream)) => dns_task(&session, brought(stream)),
            Ok((Stream::Dns, stream)) if datagrams.is_none() => {
                datagrams = Some(tokio::task::spawn_local(answer(session.clone(), stream)));
            }
            // There is one of each.
            Ok((Stream::Dns | Stream::Control, _)) => {}
            Err(_) => return session::lost(ARRIVALS),
        }
    }
}

fn brought(stream: TcpStream) -> Way {
    Way::Framed(Box::new(Framed::new(stream)))
}

/// Answers the datagrams of one stream until it ends.
async fn answer(session: Rc<Session>, mut stream: TcpStream) {
    while let Ok(query) = framed::message(&mut stream, DNS_MARK + QUERY).await {
        let Some((mark, query)) = query.split_at_checked(DNS_MARK) else { return };
        if !session.may_query() {
            continue;
        }
        if let Some(answer) = dns_server::respond(&session, query, MAX_UDP)
            && framed::say(&mut stream, &[mark, &answer]).await.is_err()
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The next stream.
async fn next(arrivals: &AsyncFd<OwnedFd>) -> io::Result<(Stream, TcpStream)> {
    loop {
        let mut ready = arrivals.readable().await?;
        let mut bytes = [0; STREAM];
        match descriptor(arrivals.get_ref(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
            Err(e) => return Err(e.into()),
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, Some(fd))) => {
                let stream = Stream::parse(&bytes).ok_or(io::ErrorKind::InvalidData)?;
                return Ok((stream, session::stream(fd)?));
            }
            // There was no room for its descriptor, which is closed: the agent sees a reset.
            Ok((_, None)) => {}
        }
    }
}

/// The forwarder's end of the conversation, to write to at any time: the thread that reads may be held.
#[derive(Debug)]
pub struct Forwarder(OwnedFd);

impl Forwarder {
    /// Of the stream that the conversation is read from.
    pub fn new(control: &TcpStream) -> io::Result<Self> {
        Ok(Self(control.as_fd().try_clone_to_owned()?))
    }

    /// Says some bytes. If they don't go at once, or not whole, the conversation is over, which its reader notices.
    pub fn say(&self, bytes: &[u8]) {
        let whole = framed::frame(&[bytes]).ok().is_some_and(|frame| {
            let flags = MsgFlags::MSG_DONTWAIT | NO_SIGNAL;
            send(self.0.as_raw_fd(), &frame, flags) == Ok(frame.len())
        });
        if !whole {
            let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
    }

    /// Says a message.
    pub fn tell(&self, message: &FromGateway) {
        if let Ok(packet) = encode(message) {
            self.say(&packet);
        }
    }
}
