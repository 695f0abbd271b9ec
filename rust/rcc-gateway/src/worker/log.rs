//! The worker's end of the log: one flat JSON object a packet; the supervisor answers with how many it has written.
//!
//! Invariant: what an allowed connection does waits for its line ([`Log::written`]), so with a log that can't be
//! written, or one that a session has used up, connections are held. What was denied is bounded instead, and the rest
//! counted: an agent can have any number of denials, and those leave the others' lines alone.

use crate::rate::Bucket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, recv, send};
use rcc_report::escaped;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

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

    /// Sends an event of the session's beginning or end, if there is room.
    pub fn session(&self, event: &Value) {
        self.count(&self.0.denials);
        self.count(&self.0.names);
        self.send(event);
    }

    fn send(&self, event: &Value) -> bool {
        let line = event.to_string();
        let sent = send(self.0.fd.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        if sent.is_ok() {
            self.0.sent.set(self.0.sent.get() + 1);
        }
        sent.is_ok()
    }
}

/// Text that an agent or launcher chose, made fit for a line: escaped, and cut at 300 characters.
pub fn plain(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    let text = escaped(&cut);
    text.chars().take(600).collect()
}
