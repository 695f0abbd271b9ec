//! The worker's end of the log: one flat JSON object a packet; the supervisor answers with how many it has written.
//!
//! Invariant: what an allowed connection does waits for its line ([`Log::written`]), so with a log that can't be
//! written, or one that a session has used up, connections are held. What was denied is bounded instead, and the rest
//! counted: an agent can have any number of denials, and those leave the others' lines alone.

use crate::rate::Bucket;
use crate::system::NO_SIGNAL;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, recv, send};
use rcc_report::escaped;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Events of the session itself that wait for room, at most.
const OWED: usize = 120;
/// How often a line is tried again that had no room, at least.
const AGAIN: Duration = Duration::from_secs(1);

/// A handle to the log.
#[derive(Clone, Debug)]
pub struct Log(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    /// Lines that were sent, and lines of these that are in the file.
    sent: Cell<u64>,
    written: Cell<u64>,
    progress: Notify,
    denials: Bounded,
    names: Bounded,
    /// Events of the session itself that had no room: they go before all that comes later.
    owed: RefCell<VecDeque<Value>>,
    start: Instant,
}

/// Lines of one kind, of which an agent can cause as many as it likes.
#[derive(Debug)]
struct Bounded {
    event: &'static str,
    bucket: RefCell<Bucket>,
    more: Cell<u64>,
}

impl Bounded {
    fn new(event: &'static str) -> Self {
        Self { event, bucket: RefCell::new(Bucket::new(1000, 2)), more: Cell::new(0) }
    }
}

impl Log {
    /// Writes to the supervisor's socket.
    pub fn new(fd: OwnedFd) -> Self {
        Self(Rc::new(Inner {
            fd,
            sent: Cell::new(0),
            written: Cell::new(0),
            progress: Notify::new(),
            denials: Bounded::new("deny"),
            names: Bounded::new("dns"),
            owed: RefCell::default(),
            start: Instant::now(),
        }))
    }

    /// For the supervisor's end.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.0.fd.as_fd(), PollFlags::empty())
    }

    /// Hears of what was written, until the supervisor is gone.
    pub async fn follow(&self) {
        // SAFETY: the descriptor is closed with the last handle, and `self` is one that outlives the AsyncFd.
        let registered = unsafe {
            let fd = BorrowedFd::borrow_raw(self.0.fd.as_raw_fd());
            AsyncFd::register_with_interest(fd, Interest::READABLE)
        };
        let Ok(fd) = registered else { return };
        loop {
            let Ok(mut ready) = fd.readable().await else { return };
            let mut count = [0; 8];
            match recv(self.0.fd.as_raw_fd(), &mut count, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
                Ok(8) => {
                    self.0.written.set(u64::from_le_bytes(count));
                    self.pay();
                    self.0.progress.notify_waiters();
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Sends an event of an allowed connection as soon as there is room: an object with `event` and flat fields whose
    /// text went through [`plain`]. Its number is for [`Self::reached`].
    pub async fn line(&self, event: &Value) -> u64 {
        loop {
            let progress = self.0.progress.notified();
            if self.send(event) {
                return self.0.sent.get();
            }
            let _ = tokio::time::timeout(AGAIN, progress).await;
        }
    }

    /// The same, and waits until it is in the file.
    pub async fn written(&self, event: &Value) {
        let number = self.line(event).await;
        self.reached(number).await;
    }

    /// Waits until all that was sent so far is in the file.
    pub async fn settled(&self) {
        self.reached(self.0.sent.get()).await;
    }

    async fn reached(&self, number: u64) {
        loop {
            let progress = self.0.progress.notified();
            if self.0.written.get() >= number {
                return;
            }
            progress.await;
        }
    }

    /// Sends a denial, or counts it.
    pub fn deny(&self, event: &Value) {
        self.bounded(&self.0.denials, event);
    }

    /// Sends a name's first decision, or counts it.
    pub fn name(&self, event: &Value) {
        self.bounded(&self.0.names, event);
    }

    fn bounded(&self, kind: &Bounded, event: &Value) {
        if kind.bucket.borrow_mut().take(self.0.start.elapsed()) {
            self.count(kind);
            if self.send(event) {
                return;
            }
        }
        kind.more.set(kind.more.get() + 1);
    }

    /// Says how many lines of this kind were left out.
    fn count(&self, kind: &Bounded) {
        let more = kind.more.get();
        if more > 0 && self.send(&json!({"event": kind.event, "more": more})) {
            kind.more.set(0);
        }
    }

    /// Sends an event of the session itself; as soon as there is room, and before anything that comes later. No agent causes
    /// these, and they are few: of a firewall that comes and goes each second for a minute, the last are dropped.
    pub fn session(&self, event: &Value) {
        self.count(&self.0.denials);
        self.count(&self.0.names);
        if !self.send(event) && self.0.owed.borrow().len() < OWED {
            self.0.owed.borrow_mut().push_back(event.clone());
        }
    }

    /// Sends what had no room. Whether nothing is left of it.
    fn pay(&self) -> bool {
        let mut owed = self.0.owed.borrow_mut();
        while owed.front().is_some_and(|event| self.put(event)) {
            owed.pop_front();
        }
        owed.is_empty()
    }

    fn send(&self, event: &Value) -> bool {
        self.pay() && self.put(event)
    }

    fn put(&self, event: &Value) -> bool {
        let line = event.to_string();
        let sent = send(self.0.fd.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_DONTWAIT | NO_SIGNAL);
        if sent.is_ok() {
            self.0.sent.set(self.0.sent.get() + 1);
        }
        sent.is_ok()
    }
}

/// Characters of a text that an agent or launcher chose.
const TEXT: usize = 300;

/// Text that an agent or launcher chose, made fit for a line: escaped, and cut at 300 characters.
pub fn plain(text: &str) -> String {
    let cut: String = text.chars().take(TEXT).collect();
    let text = escaped(&cut);
    text.chars().take(600).collect()
}

/// A list, in as many texts as it takes to have all of it in lines.
pub fn plain_list(all: &[String]) -> Vec<String> {
    let mut texts = vec![String::new()];
    for one in all {
        let last = texts.len() - 1;
        if texts[last].len() + one.len() >= TEXT && !texts[last].is_empty() {
            texts.push(String::new());
        }
        let last = texts.len() - 1;
        if !texts[last].is_empty() {
            texts[last].push(' ');
        }
        texts[last].push_str(one);
    }
    texts.iter().map(|text| plain(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::fd::AsRawFd;

    #[test]
    fn what_the_person_did_is_not_lost_when_there_is_no_room() {
        let flags = SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let log = Log::new(ours);
        let mut filled = 0;
        while log.send(&json!({"event": "filler"})) {
            filled += 1;
        }
        log.session(&json!({"event": "grants", "grants": "a"}));
        log.session(&json!({"event": "unproven"}));
        assert!(!log.send(&json!({"event": "later"})));
        let mut lines = Vec::new();
        let hear = || {
            let mut line = [0; 4096];
            let heard = recv(theirs.as_raw_fd(), &mut line, MsgFlags::MSG_DONTWAIT);
            heard.ok().map(|n| String::from_utf8_lossy(&line[..n]).into_owned())
        };
        for _ in 0..filled {
            lines.extend(hear());
        }
        assert!(log.send(&json!({"event": "later"})));
        while let Some(line) = hear() {
            lines.push(line);
        }
        let events = lines[filled..].iter().map(|l| serde_json::from_str::<Value>(l).unwrap()["event"].clone());
        assert_eq!(events.collect::<Vec<_>>(), ["grants", "unproven", "later"]);
    }

    #[test]
    fn a_long_list_is_whole_in_several_texts() {
        let all: Vec<String> = (0..100).map(|n| format!("host-{n}.example.org:443")).collect();
        let texts = plain_list(&all);
        assert!(texts.len() > 5 && texts.iter().all(|t| t.len() <= TEXT), "{texts:?}");
        assert_eq!(texts.join(" "), all.join(" "));
        assert_eq!(plain_list(&[]), [""]);
    }
}
