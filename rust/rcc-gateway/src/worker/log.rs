//! The worker's end of the log: one flat JSON object a packet. Never blocks: what the supervisor has no room for is
//! counted and said later.

use crate::rate::Bucket;
use nix::sys::socket::{MsgFlags, send};
use rcc_report::escaped;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

/// A handle to the log.
#[derive(Clone, Debug)]
pub struct Log(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    lost: Cell<u64>,
    bucket: RefCell<Bucket>,
    start: Instant,
}

impl Log {
    /// Writes to the supervisor's socket.
    pub fn new(fd: OwnedFd) -> Self {
        let bucket = RefCell::new(Bucket::new(1900, 95));
        Self(Rc::new(Inner { fd, lost: Cell::new(0), bucket, start: Instant::now() }))
    }

    /// Sends one event: an object with `event` and flat fields whose text went through [`plain`].
    pub fn event(&self, event: &Value) {
        // A little under what the supervisor takes, so that it is this end that counts, by kind of line.
        if !self.0.bucket.borrow_mut().take(self.0.start.elapsed()) {
            self.0.lost.set(self.0.lost.get() + 1);
            return;
        }
        let lost = self.0.lost.take();
        if lost > 0 {
            self.send(&json!({"event": "lost", "lines": lost}));
        }
        self.send(event);
    }

    fn send(&self, event: &Value) {
        let line = event.to_string();
        if send(self.0.fd.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_err() {
            self.0.lost.set(self.0.lost.get() + 1);
        }
    }
}

/// Text that an agent or launcher chose, made fit for a line: escaped, and cut at 300 characters.
pub fn plain(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    let text = escaped(&cut);
    text.chars().take(600).collect()
}
