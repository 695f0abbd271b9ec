//! The log: one JSON object a line, appended. The envelope (time, session, uid) is written here; a worker's line only
//! adds flat fields to it, so that a worker that was taken over can't write as another session.

use crate::rate::Bucket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the log is.
pub const LOG: &str = "/var/log/rcc/gateway.jsonl";
/// The longest line that a worker may send, in bytes.
pub const MAX_LINE: usize = 4096;
/// Fields that only the supervisor writes.
const RESERVED: [&str; 4] = ["time", "session", "uid", "event"];
/// Events of the supervisor's own, which a worker can't write.
const OWN_EVENTS: [&str; 4] = ["start", "end", "refused", "suppressed"];

/// The open log.
pub struct Journal {
    file: File,
    works: bool,
    checked: Duration,
}

impl Journal {
    /// Opens, or makes, the log.
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: open()?, works: true, checked: Duration::ZERO })
    }

    /// Whether the last line could be written. If not, it is tried again.
    pub fn works(&mut self) -> bool {
        if !self.works {
            self.own("start", None, &[("after", "the log could not be written".into())]);
        }
        self.works
    }

    /// An event of the supervisor's own.
    pub fn own(&mut self, event: &str, session: Option<(&str, u32)>, fields: &[(&str, Value)]) {
        let fields: Map<String, Value> = fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.line(event, session, &fields);
    }

    fn line(&mut self, event: &str, session: Option<(&str, u32)>, fields: &Map<String, Value>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = format!("{{\"time\":\"{}\"", rfc3339(now));
        if let Some((session, uid)) = session {
            let _ = write!(line, ",\"session\":\"{session}\",\"uid\":{uid}");
        }
        let _ = write!(line, ",\"event\":{}", Value::from(event));
        for (key, value) in fields {
            let _ = write!(line, ",{}:{value}", Value::from(key.as_str()));
        }
        line.push_str("}\n");
        // After a failure a line may be torn: begin a new one.
        if !self.works {
            line.insert(0, '\n');
        }
        self.follow_rotation(now);
        self.works = self.file.write_all(line.as_bytes()).is_ok();
    }

    /// When the file was moved away or removed, a new one is made; looked at once a second at most.
    fn follow_rotation(&mut self, now: Duration) {
        if now.as_secs() == self.checked.as_secs() {
            return;
        }
        self.checked = now;
        let same = match (std::fs::symlink_metadata(LOG), self.file.metadata()) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        };
        if !same && let Ok(file) = open() {
            self.file = file;
        }
    }
}

fn open() -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(LOG)
}

fn rfc3339(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(0);
    let t = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        since_epoch.subsec_millis()
    )
}

/// The lines of one worker, bounded in size and rate.
pub struct Lines {
    bucket: Bucket,
    lost: u64,
    bad: u64,
    reported: Duration,
}

impl Lines {
    /// None so far.
    pub fn new() -> Self {
        Self { bucket: Bucket::new(2000, 100), lost: 0, bad: 0, reported: Duration::ZERO }
    }

    /// Whether there are lines that were not written and not yet counted in the log.
    pub fn suppressed(&self) -> bool {
        self.lost + self.bad > 0
    }

    /// Takes some of what waits, so that one worker can't keep the others waiting; false when the worker is gone.
    pub fn read(&mut self, from: &OwnedFd, to: &mut Journal, session: &str, uid: u32, now: Duration) -> bool {
        let mut buffer = [0; MAX_LINE + 1];
        for _ in 0..64 {
            let n = match recv(from.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(Errno::EAGAIN | Errno::EINTR) => return true,
                Err(_) => return false,
            };
            if !self.bucket.take(now) {
                self.lost += 1;
                continue;
            }
            match accept(&buffer[..n]) {
                Some((event, fields)) => to.line(&event, Some((session, uid)), &fields),
                None => self.bad += 1,
            }
        }
        true
    }

    /// Writes how many lines were left out, at most once a second.
    pub fn report(&mut self, to: &mut Journal, session: &str, uid: u32, now: Duration) {
        if self.suppressed() && now.saturating_sub(self.reported) >= Duration::from_secs(1) {
            self.reported = now;
            self.finish(to, session, uid);
        }
    }

    /// Writes how many lines were left out, now.
    pub fn finish(&mut self, to: &mut Journal, session: &str, uid: u32) {
        if self.suppressed() {
            to.own("suppressed", Some((session, uid)), &[("lines", self.lost.into()), ("malformed", self.bad.into())]);
            (self.lost, self.bad) = (0, 0);
        }
    }
}

/// A worker's line, if it is one object of plain values, with an event that a worker may write and no reserved field.
fn accept(line: &[u8]) -> Option<(String, Map<String, Value>)> {
    if line.len() > MAX_LINE || line.iter().any(u8::is_ascii_control) {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let event = match fields.remove("event")? {
        Value::String(event) if !OWN_EVENTS.contains(&event.as_str()) => event,
        _ => return None,
    };
    let flat = fields.iter().all(|(key, value)| {
        !RESERVED.contains(&key.as_str())
            && !value.is_object()
            && !value.is_array()
            && plain(key)
            && value.as_str().is_none_or(plain)
    });
    (flat && plain(&event)).then_some((event, fields))
}

/// No control characters, also not as JSON escapes, and nothing that hides in a terminal.
fn plain(text: &str) -> bool {
    rcc_report::escaped(text) == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_worker_cannot_write_the_envelope() {
        assert!(accept(br#"{"event":"deny","name":"a.example","port":443}"#).is_some());
        for bad in [
            &br#"{"event":"deny","session":"0000000000000000"}"#[..],
            br#"{"event":"deny","time":"x"}"#,
            br#"{"event":"deny","uid":0}"#,
            br#"{"event":"end"}"#,
            br#"{"event":"suppressed"}"#,
            br#"{"event":"deny","a":{}}"#,
            br#"{"event":"deny","a":[1]}"#,
            br#"{"event":"deny"},{"event":"deny"}"#,
            br#"{"event":"deny"}} "#,
            br#"{"name":"x"}"#,
            br#"["event"]"#,
            b"{\"event\":\"deny\"}\n{\"event\":\"deny\"}",
            b"{\"event\":\"deny\",\"a\":\"\xff\"}",
            br#"{"event":"deny","a":"\u001b[2J"}"#,
            br#"{"event":"deny","a":"\u202e"}"#,
            b"",
        ] {
            assert_eq!(accept(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        let long = format!("{{\"event\":\"deny\",\"a\":\"{}\"}}", "x".repeat(MAX_LINE));
        assert_eq!(accept(long.as_bytes()), None);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(Duration::from_millis(1_700_000_000_042)), "2023-11-14T22:13:20.042Z");
    }

    proptest! {
        #[test]
        fn never_panics(line in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[{\":,}\\]a-z]{0,200}") {
            let _ = accept(&line);
            let _ = accept(text.as_bytes());
        }
    }
}
