//! The launcher's side of the conversation with the gateway. The connection is the session: dropping it ends it.

use crate::packet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rcc_host::packets;
use rcc_proto::{
    FromGateway, GATEWAY_SOCKET, GATEWAY_USER, LISTEN_SOCKETS, Open, Opened, Secret, Summary, ToGateway, VERSION,
};
use rcc_report::{Code, Problem};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the gateway may take for an answer, in seconds.
const PATIENCE: i64 = 15;
/// How long it may take to tell what a session did: the person waits for their prompt.
const SUMMARY: Duration = Duration::from_millis(200);

/// An open session.
pub struct Gateway {
    connection: OwnedFd,
    /// What the gateway said of it.
    pub opened: Opened,
}

impl Gateway {
    /// Opens a session in which nothing runs, as a start does first, for what the gateway proves by it; dropping it ends it.
    /// `why` is on record.
    pub fn probe(project: String, why: &str) -> Result<Self, Problem> {
        let (grants, credentials) = (Vec::new(), Vec::new());
        Self::open(Open { version: VERSION, project, agent: why.into(), grants, credentials, ticket: None })
    }

    /// Opens a session.
    pub fn open(open: Open) -> Result<Self, Problem> {
        let (message, began) = (ToGateway::Open(open), Instant::now());
        let asked = greet(&message).or_else(|problem| {
            // Restarted meanwhile: systemd holds the socket, and who calls again is served. Nothing rests on the first yet.
            let went = problem.code == Code::GATEWAY_LOST && began.elapsed().as_secs() < PATIENCE.unsigned_abs();
            if went { greet(&message) } else { Err(problem) }
        });
        let (connection, opened) = match asked? {
            (connection, FromGateway::Opened(opened)) => (connection, opened),
            (_, other) => return Err(unexpected(&other)),
        };
        VERSION.agree(opened.version).map_err(|far| {
            Problem::new(
                Code::GATEWAY_VERSION,
                GATEWAY_SOCKET,
                far.to_string(),
                "update the older of the two, from one checkout",
            )
        })?;
        if opened.session.len() != 16 || !opened.session.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unexpected(&FromGateway::Opened(opened)));
        }
        Ok(Self { connection, opened })
    }

    /// Hands the listening sockets over.
    pub fn listen(&self, sockets: &[OwnedFd]) -> Result<(), Problem> {
        if sockets.len() != LISTEN_SOCKETS {
            let what = format!("the hook gave {} sockets", sockets.len());
            return Err(Problem::new(Code::SESSION_HOOK, "hook", what, "start the session again"));
        }
        let raw: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        match ask(&self.connection, &ToGateway::Listen, &raw)? {
            FromGateway::Listening => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has a forwarder in a virtual machine bring the session's connections, in the place of [`Self::listen`]. Gives what a
    /// launcher there shows it, once; [`Self::hear`] says [`Word::Begun`] when it listens.
    pub fn forward(&self) -> Result<Secret, Problem> {
        match ask(&self.connection, &ToGateway::Forward, &[])? {
            FromGateway::Ticket { ticket } => Ok(ticket),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for grants in the place of those before; [`Self::hear`] has the answer in time.
    pub fn grant(&self, grants: &[String]) -> Result<(), Problem> {
        self.speaks_1_1()?;
        let message = ToGateway::Grants { grants: grants.to_vec() };
        packet::send(&self.connection, &message, &[]).map_err(|e| lost(&e))
    }

    /// What the gateway says when the connection is readable.
    #[must_use]
    pub fn hear(&self) -> Word {
        match last_words(&self.connection) {
            Ok(Some((FromGateway::Granted { cut }, _))) => Word::Grants(Ok(cut)),
            Ok(Some((FromGateway::Refused { problem }, _))) => Word::Grants(Err(problem)),
            Ok(Some((FromGateway::Held { problem }, _))) => Word::Held(problem),
            Ok(Some((FromGateway::Released, _))) => Word::Released,
            Ok(Some((FromGateway::Listening, _))) => Word::Begun,
            Ok(Some((FromGateway::Closing { problem }, _))) => Word::Farewell(problem),
            Ok(Some((other, _))) => Word::Farewell(unexpected(&other)),
            Ok(None) => Word::Farewell(lost(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(e) => Word::Farewell(lost(&e)),
        }
    }

    /// What the session did, now that the agent has ended. A gateway that is slow, old or gone tells nothing.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.speaks_1_1().ok()?;
        let until = Instant::now() + SUMMARY;
        packet::send(&self.connection, &ToGateway::End, &[]).ok()?;
        loop {
            let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now())).ok()?;
            if poll(&mut [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)], left) != Ok(1) {
                return None;
            }
            match packet::receive(&self.connection).ok()?? {
                (FromGateway::Summary(summary), _) => return Some(summary),
                // Said, or the answer to something that was asked, before.
                (
                    FromGateway::Granted { .. }
                    | FromGateway::Refused { .. }
                    | FromGateway::Held { .. }
                    | FromGateway::Released,
                    _,
                ) => {}
                _ => return None,
            }
        }
    }

    fn speaks_1_1(&self) -> Result<(), Problem> {
        if self.opened.version.minor >= 1 {
            return Ok(());
        }
        Err(Problem::new(
            Code::GATEWAY_VERSION,
            GATEWAY_SOCKET,
            format!(
                "the gateway that runs speaks protocol {}, in which a session's grants can't change",
                self.opened.version
            ),
            "install this version's gateway; or grant it to the project, rcc allow --project, and start the session again",
        ))
    }
}

/// What a gateway says during a session.
pub enum Word {
    /// What became of the grants that were asked for: connections that were cut, or why nothing changed.
    Grants(Result<u32, Problem>),
    /// Why nothing of the session moves for now.
    Held(Problem),
    /// It moves again.
    Released,
    /// The forwarder listens.
    Begun,
    /// Why it ends the session.
    Farewell(Problem),
}

impl AsFd for Gateway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Calls, and says the first word.
fn greet(message: &ToGateway) -> Result<(OwnedFd, FromGateway), Problem> {
    let connection = packets::call(Path::new(GATEWAY_SOCKET)).map_err(|e| absent(&e))?;
    genuine(&connection)?;
    setsockopt(&connection, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE)).map_err(|e| lost(&e.into()))?;
    let answer = ask(&connection, message, &[])?;
    Ok((connection, answer))
}

/// The one who listens must be the gateway's user, or root on its behalf (systemd makes the socket).
pub(crate) fn genuine(connection: &OwnedFd) -> Result<(), Problem> {
    let peer = packets::peer(connection).map_err(|e| lost(&e))?;
    let gateways = || rcc_preflight::probe::account(GATEWAY_USER).ok().flatten().is_some_and(|u| u.uid == peer);
    if peer == 0 || gateways() {
        return Ok(());
    }
    Err(Problem::new(
        Code::GATEWAY_IMPOSTOR,
        GATEWAY_SOCKET,
        format!("the program that listens there runs as user id {peer}, not as {GATEWAY_USER}"),
        "find out what it is: sudo ss -xlp | grep rcc",
    ))
}

/// Says something and hears the answer. A gateway that refuses says so and goes; that it went may be noticed first.
fn ask(connection: &OwnedFd, message: &ToGateway, fds: &[RawFd]) -> Result<FromGateway, Problem> {
    let gone = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET));
    match packet::send(connection, message, fds) {
        Err(e) if !gone(&e) => Err(lost(&e)),
        _ => answer(connection),
    }
}

/// What comes next. That the gateway went before it read all that it was sent comes once, as an error, before what it said
/// last (unix(7)): so the reason is read, too.
fn last_words(connection: &OwnedFd) -> io::Result<Option<(FromGateway, Vec<OwnedFd>)>> {
    packet::receive(connection)
        .or_else(|e| if e.raw_os_error() == Some(libc::ECONNRESET) { packet::receive(connection) } else { Err(e) })
}

fn answer(connection: &OwnedFd) -> Result<FromGateway, Problem> {
    match last_words(connection) {
        Ok(Some((FromGateway::Refused { problem } | FromGateway::Closing { problem }, _))) => Err(problem),
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(lost(&io::Error::from(io::ErrorKind::UnexpectedEof))),
        Err(e) => Err(lost(&e)),
    }
}

fn absent(error: &io::Error) -> Problem {
    Problem::new(
        Code::GATEWAY_ABSENT,
        GATEWAY_SOCKET,
        format!("no gateway answers there: {}", packets::words(error)),
        format!("{}    (again after each start of a machine without systemd)", rcc_preflight::probe::setup_command()),
    )
}

fn lost(error: &io::Error) -> Problem {
    Problem::new(
        Code::GATEWAY_LOST,
        GATEWAY_SOCKET,
        format!("the gateway went away: {error}"),
        "look at its log, and start the session again",
    )
}

fn unexpected(message: &FromGateway) -> Problem {
    let kind = match message {
        FromGateway::Opened(_) => "opened",
        FromGateway::Listening => "listening",
        FromGateway::Ticket { .. } => "ticket",
        FromGateway::Refused { .. } => "refused",
        FromGateway::Held { .. } => "held",
        FromGateway::Released => "released",
        FromGateway::Closing { .. } => "closing",
        FromGateway::Granted { .. } => "granted",
        FromGateway::Summary(_) => "summary",
    };
    Problem::new(
        Code::GATEWAY_PROTOCOL,
        GATEWAY_SOCKET,
        format!("an unexpected `{kind}`"),
        "update rcc and the gateway to one version",
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn the_gateways_reason_is_heard_although_it_went_before_it_read_all() {
        for closes in [false, true] {
            let (ours, gateways) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
            packet::send(&ours, &ToGateway::End, &[]).unwrap();
            let problem = Problem::new(Code::GATEWAY_PROTOCOL, "launcher", "bad", "none");
            let word = if closes { FromGateway::Closing { problem } } else { FromGateway::Refused { problem } };
            packet::send(&gateways, &word, &[]).unwrap();
            drop(gateways);
            let heard = ask(&ours, &ToGateway::Listen, &[]).unwrap_err();
            assert_eq!(heard.code, Code::GATEWAY_PROTOCOL, "{heard}");
        }
    }

    #[test]
    fn one_that_says_nothing_is_lost() {
        let (ours, gateways) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        packet::send(&ours, &ToGateway::End, &[]).unwrap();
        drop(gateways);
        assert_eq!(answer(&ours).unwrap_err().code, Code::GATEWAY_LOST);
    }
}
