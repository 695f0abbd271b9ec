//! The log: one JSON object a line, appended. The envelope (time, session, uid) is written here; a worker's line only
//! adds flat fields to it, so that a worker that was taken over can't write as another session.

use crate::rate::Bucket;
use crate::system::NO_SIGNAL;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv, send};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the log is.
pub const LOG: &str = "/var/log/rcc/gateway.jsonl";
/// When the file has this many bytes, the next line begins a new one.
const FULL: u64 = 256 << 20;
/// How many full ones are kept, as `gateway.jsonl.1` (the youngest) and so on: with the current one at most 2.25 GiB. What
/// all sessions of one user may write in a day fills five at most; so nobody can push out what others did the day before.
const KEPT: u32 = 8;
/// The longest line that a worker may send, in bytes.
pub const MAX_LINE: usize = 4096;
/// Fields that only the supervisor writes.
const RESERVED: [&str; 4] = ["time", "session", "uid", "event"];
/// Events of the supervisor's own, which a worker can't write.
const OWN_EVENTS: [&str; 8] = ["start", "end", "refused", "suppressed", "held", "lost", "retire", "strangers"];

/// The open log.
///
/// A line that can't be written whole is kept, and nothing else is taken until its rest is in the file: so no line is
/// torn, and the workers' are not lost.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The line that is being written, and how much of it is.
    line: Vec<u8>,
    done: usize,
    /// Lines of the supervisor's own that came meanwhile.
    lost: u64,
    failing: bool,
    checked: Duration,
    /// [`FULL`], but for tests.
    full: u64,
}

impl Journal {
    /// Opens, or makes, the log.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(LOG))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let (file, line) = open(path)?;
        Ok(Self {
            path: path.into(),
            file,
            line,
            done: 0,
            lost: 0,
            failing: false,
            checked: Duration::ZERO,
            full: FULL,
        })
    }

    /// Whether the last line could be written. If not, it is tried again.
    pub fn works(&mut self) -> bool {
        self.flush(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Whether a line can be taken.
    pub fn is_ready(&self) -> bool {
        self.line.is_empty()
    }

    /// An event of the supervisor's own. While the log can't be written it is counted.
    pub fn own(&mut self, event: &str, session: Option<(&str, u32)>, fields: &[(&str, Value)]) {
        if !self.works() {
            self.lost += 1;
            return;
        }
        let fields: Map<String, Value> = fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.line(event, session, &fields);
    }

    /// Only when [`Self::is_ready`].
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
        self.line.extend_from_slice(line.as_bytes());
        self.flush(now);
    }

    /// Writes what is left of the line; says on the standard error when that begins to fail, and when it ends.
    fn flush(&mut self, now: Duration) -> bool {
        self.follow_rotation(now);
        while self.done < self.line.len() {
            match self.file.write(&self.line[self.done..]) {
                Ok(n @ 1..) => self.done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    if !self.failing {
                        let why = other.map_or_else(|e| e.to_string(), |_| "nothing was taken".into());
                        eprintln!("rcc-gateway: the log can't be written: {why}; connections are held");
                    }
                    self.failing = true;
                    return false;
                }
            }
        }
        (self.line, self.done) = (Vec::new(), 0);
        if std::mem::take(&mut self.failing) {
            eprintln!("rcc-gateway: the log can be written again");
            let lost = std::mem::take(&mut self.lost);
            self.own("lost", None, &[("lines", lost.into()), ("reason", "the log could not be written".into())]);
        }
        self.line.is_empty()
    }

    /// When the file was moved away or removed, a new one is made; looked at once a second at most.
    fn follow_rotation(&mut self, now: Duration) {
        if now.as_secs() == self.checked.as_secs() {
            return;
        }
        self.checked = now;
        let same = match (std::fs::symlink_metadata(&self.path), self.file.metadata()) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        };
        // Between two lines, and only if the file is still the one of this name: one that somebody else moved is theirs.
        let full = same && self.done == 0 && self.file.metadata().is_ok_and(|facts| facts.len() >= self.full);
        let same = same && !(full && self.rotate());
        if !same && let Ok((file, start)) = open(&self.path) {
            self.file = file;
            self.done = 0;
            self.line.splice(0..0, start);
        }
    }
}

impl Journal {
    /// Moves the full file on, and those before it; the eldest is replaced. Each is a rename: a kill between two leaves all
    /// but the eldest there. What fails is tried again. True if the file of this name is another, or none, now.
    fn rotate(&self) -> bool {
        let named = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            if n > 0 {
                name.push(format!(".{n}"));
            }
            PathBuf::from(name)
        };
        // Only as far as there is no gap: after a kill the rest has moved already.
        let gap = (1..=KEPT).find(|n| std::fs::symlink_metadata(named(*n)).is_err()).unwrap_or(KEPT);
        for n in (0..gap).rev() {
            if std::fs::rename(named(n), named(n + 1)).is_err() {
                return false;
            }
        }
        true
    }
}

/// The file, and what must come first in it: the end of a line that a gateway which was killed left torn.
fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        file.read_at(&mut last, at)?;
    }
    Ok((file, if last == [b'\n'] { vec![] } else { vec![b'\n'] }))
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

/// What a session may write at once, and then in each second, in bytes: 512 MiB a day.
const BUDGET: (u32, u32) = (128 << 20, 6 << 10);
/// What all sessions of one user may write: 1 GiB a day.
const PERSONS_BUDGET: (u32, u32) = (256 << 20, 12 << 10);
/// What a session's beginning and end, or a refusal, take of that: the supervisor's own lines.
const OWN_LINES: u32 = 1 << 10;
/// What the envelope adds to a line, in bytes.
const ENVELOPE: u32 = 90;
/// How often a session's being over its budget is said.
const HELD_SAID: Duration = Duration::from_secs(600);

/// What each user may still write, by all sessions together. A user's outlives the sessions, until it is full again: else
/// each new session would bring a new one.
#[derive(Default)]
pub struct Budgets(HashMap<u32, Rc<Cell<Bucket>>>);

impl Budgets {
    /// Whether lines of the supervisor's own about this user still have room; they are paid for by that.
    pub fn may_be_told_of(&mut self, uid: u32, now: Duration) -> bool {
        self.0.retain(|_, budget| Rc::strong_count(budget) > 1 || !budget.get().is_full(now));
        let budget = self.of(uid);
        let mut changed = budget.get();
        let may = changed.may(now);
        if may {
            changed.charge(OWN_LINES);
        }
        budget.set(changed);
        may
    }

    /// One more session's lines.
    pub fn lines_of(&mut self, uid: u32) -> Lines {
        Lines::within(BUDGET, self.of(uid))
    }

    fn of(&mut self, uid: u32) -> Rc<Cell<Bucket>> {
        let (burst, a_second) = PERSONS_BUDGET;
        self.0.entry(uid).or_insert_with(|| Rc::new(Cell::new(Bucket::new(burst, a_second)))).clone()
    }
}

/// The lines of one worker, bounded in size and, over time, in bytes: what is over the budget is not read, so that the
/// worker, which waits for its lines to be written, holds its connections.
pub struct Lines {
    budget: Bucket,
    /// Of the user's, for all sessions.
    persons: Rc<Cell<Bucket>>,
    /// Lines that were read, and those that the worker was told of.
    taken: u64,
    told: u64,
    bad: u64,
    reported: Duration,
    held: Option<Duration>,
}

impl Lines {
    fn within((burst, a_second): (u32, u32), persons: Rc<Cell<Bucket>>) -> Self {
        let budget = Bucket::new(burst, a_second);
        Self { budget, persons, taken: 0, told: 0, bad: 0, reported: Duration::ZERO, held: None }
    }

    /// What to wait for: nothing while the budget is used up.
    pub fn interest(&mut self, now: Duration) -> Option<PollFlags> {
        let out = if self.told < self.taken { PollFlags::POLLOUT } else { PollFlags::empty() };
        self.over(now).is_none().then_some(PollFlags::POLLIN | out)
    }

    /// Whose budget is used up.
    fn over(&mut self, now: Duration) -> Option<&'static str> {
        let mut persons = self.persons.get();
        let person_may = persons.may(now);
        self.persons.set(persons);
        match (self.budget.may(now), person_may) {
            (false, _) => Some("the session has used up its log"),
            (_, false) => Some("the user's sessions have used up their log"),
            (true, true) => None,
        }
    }

    fn charge(&mut self, cost: u32) {
        self.budget.charge(cost);
        let mut persons = self.persons.get();
        persons.charge(cost);
        self.persons.set(persons);
    }

    /// Whether there are lines that were not written and not yet counted in the log.
    pub fn suppressed(&self) -> bool {
        self.bad > 0
    }

    /// Takes some of what waits, so that one worker can't keep the others waiting; false when the worker is gone.
    pub fn read(&mut self, from: &OwnedFd, to: &mut Journal, session: &str, uid: u32, now: Duration) -> bool {
        let mut buffer = [0; MAX_LINE + 1];
        for _ in 0..64 {
            if !to.is_ready() {
                return true;
            }
            if let Some(reason) = self.over(now) {
                if self.held.is_none_or(|said| now.saturating_sub(said) >= HELD_SAID) {
                    self.held = Some(now);
                    to.own("held", Some((session, uid)), &[("reason", reason.into())]);
                }
                return true;
            }
            let n = match recv(from.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(Errno::EAGAIN | Errno::EINTR) => return true,
                Err(_) => return false,
            };
            self.taken += 1;
            self.charge(u32::try_from(n).unwrap_or(u32::MAX).saturating_add(ENVELOPE));
            match accept(&buffer[..n]) {
                Some((event, fields)) => to.line(&event, Some((session, uid)), &fields),
                None => self.bad += 1,
            }
        }
        true
    }

    /// Tells the worker how many of its lines are in the file. Where there is no room for that now, it is for later.
    pub fn tell(&mut self, worker: &OwnedFd, journal: &Journal) {
        if self.told < self.taken && journal.is_ready() {
            let flags = MsgFlags::MSG_DONTWAIT | NO_SIGNAL;
            // macOS says of a full pair that there is no buffer.
            let full = [Err(Errno::EAGAIN), Err(Errno::ENOBUFS)];
            if !full.contains(&send(worker.as_raw_fd(), &self.taken.to_le_bytes(), flags)) {
                self.told = self.taken;
            }
        }
    }

    /// Writes how many lines were left out, at most once a second.
    pub fn report(&mut self, to: &mut Journal, session: &str, uid: u32, now: Duration) {
        if self.suppressed() && to.is_ready() && now.saturating_sub(self.reported) >= Duration::from_secs(1) {
            self.reported = now;
            self.finish(to, session, uid);
        }
    }

    /// Writes how many lines were left out, now.
    pub fn finish(&mut self, to: &mut Journal, session: &str, uid: u32) {
        if self.suppressed() {
            to.own("suppressed", Some((session, uid)), &[("malformed", self.bad.into())]);
            self.bad = 0;
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

    fn lines_of(folder: &tempfile::TempDir) -> Vec<Value> {
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|_| Value::from(l))).collect()
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "{\"event\":\"st").unwrap();
        let mut journal = Journal::at(&path).unwrap();
        assert!(journal.works());
        journal.own("start", None, &[]);
        let lines = lines_of(&folder);
        assert_eq!((lines.len(), &lines[1]["event"]), (2, &Value::from("start")), "{lines:?}");
        // The rest of a line goes on where it ended, or whole into a new file.
        for new_file in [false, true] {
            let mut journal = Journal::at(&path).unwrap();
            journal.line.extend_from_slice(b"{\"event\":\"kept\"}\n");
            journal.file.write_all(&journal.line[..5]).unwrap();
            journal.done = 5;
            if new_file {
                std::fs::remove_file(&path).unwrap();
            }
            assert!(journal.works());
            assert_eq!(lines_of(&folder).last().unwrap()["event"], "kept");
        }
    }

    #[test]
    fn a_full_file_is_moved_on_and_the_eldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut journal = Journal::at(&path).unwrap();
        journal.full = 1;
        for n in 0..u64::from(KEPT) + 3 {
            journal.checked = Duration::ZERO;
            journal.own("start", None, &[("n", n.into())]);
        }
        let number = |name: &str| {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(text.lines().count(), 1, "{name}: {text}");
            serde_json::from_str::<Value>(&text).unwrap()["n"].clone()
        };
        let last = u64::from(KEPT) + 2;
        assert_eq!(number("log"), last);
        for n in 1..=KEPT {
            assert_eq!(number(&format!("log.{n}")), last - u64::from(n));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT as usize + 1);
        // A kill in the middle left a gap: nothing is moved over another.
        std::fs::remove_file(folder.path().join("log.3")).unwrap();
        journal.checked = Duration::ZERO;
        journal.own("start", None, &[("n", (last + 1).into())]);
        assert_eq!((number("log.3"), number("log.4")), ((last - 2).into(), (last - 4).into()));
    }

    #[test]
    fn a_session_has_a_budget_of_bytes_and_is_held_beyond_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(&folder.path().join("log")).unwrap();
        let (mine, workers) = super::super::socket::log_pair().unwrap();
        let line = format!("{{\"event\":\"connect\",\"name\":\"{}\"}}", "x".repeat(300));
        let cost = u32::try_from(line.len()).unwrap() + ENVELOPE;
        let mut lines = Lines::within((10 * cost, cost), Rc::new(Cell::new(Bucket::new(u32::MAX, 0))));
        for _ in 0..30 {
            send(workers.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_DONTWAIT).unwrap();
        }
        let mut read = |at: u64| {
            let now = Duration::from_secs(at);
            assert!(lines.read(&mine, &mut journal, "0", 1, now));
            lines.tell(&mine, &journal);
            let mut told = [0; 8];
            let told = recv(workers.as_raw_fd(), &mut told, MsgFlags::MSG_DONTWAIT).map(|_| u64::from_le_bytes(told));
            (told, lines.interest(now).is_some())
        };
        assert_eq!(read(0), (Ok(10), false));
        assert_eq!(read(0), (Err(Errno::EAGAIN), false));
        assert_eq!(read(3), (Ok(13), false));
        let all = lines_of(&folder);
        assert_eq!(all.iter().filter(|l| l["event"] == "connect").count(), 13);
        assert_eq!(all.iter().filter(|l| l["event"] == "held").count(), 1);
    }

    #[test]
    fn all_sessions_of_a_user_have_one_budget_and_no_other_users() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(&folder.path().join("log")).unwrap();
        let line = format!("{{\"event\":\"connect\",\"name\":\"{}\"}}", "x".repeat(300));
        let mut budgets = Budgets::default();
        let mut budget = Bucket::new(u32::try_from(line.len()).unwrap() * 5, 1);
        budget.charge(1);
        budgets.0.insert(1, Rc::new(Cell::new(budget)));
        let mut written = |uid: u32| {
            // Others' coming and going forgets nothing.
            assert!(budgets.may_be_told_of(3, Duration::ZERO));
            // A new session each time.
            let (mine, workers) = super::super::socket::log_pair().unwrap();
            let mut lines = budgets.lines_of(uid);
            for _ in 0..3 {
                send(workers.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_DONTWAIT).unwrap();
            }
            assert!(lines.read(&mine, &mut journal, "0", uid, Duration::ZERO));
            (lines.taken, lines.interest(Duration::ZERO).is_some())
        };
        assert_eq!(written(1), (3, true));
        assert_eq!(written(1), (1, false));
        assert_eq!(written(1), (0, false));
        assert_eq!(written(2), (3, true));
        assert!(!budgets.may_be_told_of(1, Duration::ZERO) && budgets.may_be_told_of(2, Duration::ZERO));
        let held = lines_of(&folder).into_iter().filter(|l| l["event"] == "held").collect::<Vec<_>>();
        assert_eq!((held.len(), &held[0]["uid"]), (2, &Value::from(1)), "{held:?}");
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
