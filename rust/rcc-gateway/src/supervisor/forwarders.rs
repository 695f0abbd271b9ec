//! Forwarders of virtual machines: streams that begin with a header, each handed to the worker whose session it names and
//! whose secret it has.
//!
//! Invariant: of what comes here nothing but a header of fixed length is read, and nothing is answered. Whoever has no
//! session's secret gets no further, and takes no more than a place among [`MOST_PENDING`] for [`PATIENCE`]; a session's
//! secrets open that session alone, its ticket once.

use super::socket;
use crate::rate::Bucket;
use crate::system::NO_SIGNAL;
use crate::worker::relay::{abort_on_close, tune};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use rcc_proto::forwarded::{HEADER, Header, Key, SECRET, STREAM, Stream};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Streams whose header has not come yet. The oldest goes when there are more: an honest one's header comes with it.
const MOST_PENDING: usize = 256;
/// How long a header may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Streams that are taken in one turn, so that workers' lines are written between them.
const A_TURN: usize = 64;

/// Who waits to be let in.
pub struct Forwarders {
    listeners: Vec<OwnedFd>,
    pending: VecDeque<Pending>,
    /// Streams without a secret that the log does not tell of yet.
    strangers: u64,
    told: Bucket,
}

struct Pending {
    stream: OwnedFd,
    since: Duration,
    header: [u8; HEADER],
    got: usize,
}

/// A session's secrets, and the worker's end of what its streams come by.
pub struct Admission {
    session: u64,
    ticket: Option<Key>,
    streams: Key,
    to_worker: OwnedFd,
}

/// How forwarders get into a session of that number, if they can come at all. Its worker is told by its log's socket, before
/// anything else: the two secrets and the descriptor that streams come by, or that there is none.
pub fn admission(session: u64, log: &OwnedFd, can_come: bool) -> io::Result<Option<Admission>> {
    if !can_come {
        sendmsg::<()>(log.as_raw_fd(), &[IoSlice::new(&[0])], &[], NO_SIGNAL, None)?;
        return Ok(None);
    }
    let (to_worker, workers_end) = socket::log_pair()?;
    let mut both = zeroize::Zeroizing::new([0; 2 * SECRET]);
    getrandom::fill(&mut *both).map_err(io::Error::other)?;
    let key = |at: usize| {
        let mut key = Key([0; SECRET]);
        key.0.copy_from_slice(&both[at..at + SECRET]);
        key
    };
    let fds = [workers_end.as_raw_fd()];
    let beside = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(log.as_raw_fd(), &[IoSlice::new(&*both)], &beside, NO_SIGNAL, None)?;
    Ok(Some(Admission { session, ticket: Some(key(0)), streams: key(SECRET), to_worker }))
}

impl Admission {
    /// Hands a stream over, if its header opens this session.
    pub fn admits(&mut self, header: &Header, stream: &OwnedFd) -> bool {
        let opens = header.session == self.session
            && match header.stream {
                // Taken, whoever had it: it is good for one use.
                Stream::Control => self.ticket.take_if(|ticket| ticket.is(&header.secret)).is_some(),
                _ => self.ticket.is_none() && self.streams.is(&header.secret),
            };
        if !opens {
            return false;
        }
        let bytes: [u8; STREAM] = header.stream.bytes();
        let flags = MsgFlags::MSG_DONTWAIT | NO_SIGNAL;
        let (part, fds) = ([IoSlice::new(&bytes)], [stream.as_raw_fd()]);
        // A worker that can take no more: the stream is closed, which the agent sees as a reset.
        let _sent = sendmsg::<()>(self.to_worker.as_raw_fd(), &part, &[ControlMessage::ScmRights(&fds)], flags, None);
        true
    }
}

impl Forwarders {
    /// Hears these listeners; of none, nobody comes.
    pub fn new(listeners: Vec<OwnedFd>) -> Self {
        Self { listeners, pending: VecDeque::new(), strangers: 0, told: Bucket::new(8, 1) }
    }

    /// Whether forwarders can come at all.
    pub fn can_come(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// What to wait for.
    pub fn interest(&self) -> impl Iterator<Item = &OwnedFd> {
        self.listeners.iter().chain(self.pending.iter().map(|p| &p.stream))
    }

    /// Whether something is due by itself.
    pub fn waits(&self) -> bool {
        !self.pending.is_empty() || self.strangers > 0
    }

    /// Takes who comes, and lets in whose header `admits` accepts. Gives the number of those that had none such and that
    /// the log is to be told of now.
    pub fn turn(&mut self, now: Duration, mut admits: impl FnMut(&Header, &OwnedFd) -> bool) -> Option<u64> {
        let before = std::mem::take(&mut self.pending);
        let fresh = self.listeners.iter().flat_map(|l| std::iter::from_fn(|| socket::accept(l)).take(A_TURN));
        // A worker's end, however it comes, is to abort the connection.
        let fresh = fresh.filter(|stream| abort_on_close(stream).is_ok()).inspect(tune);
        let fresh: Vec<_> = fresh.map(|stream| Pending { stream, since: now, header: [0; HEADER], got: 0 }).collect();
        for mut one in before.into_iter().chain(fresh) {
            match one.read_on() {
                Some(false) if now.saturating_sub(one.since) < PATIENCE => self.pending.push_back(one),
                Some(true) if Header::parse(&one.header).is_some_and(|header| admits(&header, &one.stream)) => {}
                _ => self.strangers += 1,
            }
        }
        while self.pending.len() > MOST_PENDING {
            self.pending.pop_front();
            self.strangers += 1;
        }
        let due = self.strangers > 0 && self.told.take(now);
        due.then(|| std::mem::take(&mut self.strangers))
    }
}

impl Pending {
    /// Reads on. Whether the header is whole; nothing when it will never be.
    fn read_on(&mut self) -> Option<bool> {
        match recv(self.stream.as_raw_fd(), &mut self.header[self.got..], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => None,
            Ok(n) => {
                self.got += n;
                Some(self.got == HEADER)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Some(false),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_once_and_the_other_secret_after_it() {
        let (to_worker, worker) = socket::log_pair().unwrap();
        let (ticket, streams) = (Key([1; SECRET]), Key([2; SECRET]));
        let mut admission = Admission { session: 7, ticket: Some(ticket.clone()), streams: streams.clone(), to_worker };
        let stream: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let mut admits = |session, stream_is, secret: &Key| {
            admission.admits(&Header { stream: stream_is, session, secret: secret.clone() }, &stream)
        };
        for (session, secret) in [(7, &streams), (8, &ticket)] {
            assert!(!admits(session, Stream::Control, secret));
        }
        assert!(!admits(7, Stream::Dns, &streams), "before the ticket");
        assert!(admits(7, Stream::Control, &ticket));
        assert!(!admits(7, Stream::Control, &ticket), "a second time");
        assert!(!admits(7, Stream::Dns, &ticket) && !admits(8, Stream::Dns, &streams));
        assert!(admits(7, Stream::Dns, &streams) && admits(7, Stream::DnsTcp, &streams));
        let mut came = 0;
        while recv(worker.as_raw_fd(), &mut [0; STREAM], MsgFlags::MSG_DONTWAIT) == Ok(STREAM) {
            came += 1;
        }
        assert_eq!(came, 3, "what was not let in did not come");
    }
}
