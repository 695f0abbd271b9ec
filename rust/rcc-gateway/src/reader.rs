//! One person reading the log: a process of its own, confined as a worker is, which sends the lines of one uid.
//!
//! Invariant: a line is sent only if the envelope that the supervisor wrote in front of it names the uid; nothing behind
//! the envelope is looked at, and nothing is read from the caller.

use crate::supervisor::journal::LOG;
use crate::worker::confine;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcc_host::packets;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::ExitCode;

/// The most that one packet holds, in bytes.
const PACKET: usize = 32 * 1024;
/// The longest line that is looked at: far more than the supervisor writes.
const LINE: usize = 16 * 1024;
/// How often new lines are looked for, in milliseconds.
const LOOK: u16 = 200;

/// The reader's whole life. `supervisor` is the pid that must be the parent.
#[must_use]
pub fn main(supervisor: &str, uid: &str) -> ExitCode {
    // SAFETY: the supervisor passes exactly this descriptor as stdin; nothing else here uses it.
    let caller = unsafe { OwnedFd::from_raw_fd(0) };
    let Ok(uid) = uid.parse::<u32>() else { return ExitCode::FAILURE };
    if confine::before_anything(supervisor).is_err() || confine::reader().is_err() {
        return ExitCode::FAILURE;
    }
    let _ended = follow(&caller, uid);
    ExitCode::SUCCESS
}

/// Sends what is there, an empty line, and then what comes, until the caller is gone.
fn follow(caller: &OwnedFd, uid: u32) -> io::Result<()> {
    let mut lines = Lines::new(uid);
    let mut file = open()?;
    lines.all_of(&mut file, caller)?;
    deliver(caller, b"\n")?;
    loop {
        let mut fds = [PollFd::new(caller.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::from(LOOK)) {
            Ok(0) | Err(Errno::EINTR) if confine::supervisor_lives() => {}
            _ => return Ok(()),
        }
        // Asked before the last look: a file that was moved away gets no more lines soon after.
        let moved = has_moved(&file);
        lines.all_of(&mut file, caller)?;
        if moved && let Ok(next) = open() {
            (file, lines) = (next, Lines::new(uid));
            lines.all_of(&mut file, caller)?;
        }
    }
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(LOG)
}

fn has_moved(file: &File) -> bool {
    match (std::fs::symlink_metadata(LOG), file.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) != (b.dev(), b.ino()),
        _ => false,
    }
}

/// Sends a packet, waiting for room; the caller's end is an error.
fn deliver(caller: &OwnedFd, packet: &[u8]) -> io::Result<()> {
    loop {
        match packets::send_now(caller, packet) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(caller.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Cuts what is read into lines and keeps those of one uid.
struct Lines {
    uid: u32,
    /// The line that has begun.
    begun: Vec<u8>,
    /// It is too long to be one of the supervisor's.
    too_long: bool,
    packet: Vec<u8>,
}

impl Lines {
    fn new(uid: u32) -> Self {
        Self { uid, begun: Vec::new(), too_long: false, packet: Vec::new() }
    }

    /// Sends all that can be read by now.
    fn all_of(&mut self, file: &mut File, caller: &OwnedFd) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return self.flush(caller);
            }
            for part in buffer[..n].split_inclusive(|b| *b == b'\n') {
                if self.begun.len() + part.len() > LINE {
                    (self.too_long, self.begun) = (true, Vec::new());
                } else {
                    self.begun.extend_from_slice(part);
                }
                if part.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.begun);
                    if !std::mem::take(&mut self.too_long) && is_of(&line, self.uid) {
                        if self.packet.len() + line.len() > PACKET {
                            self.flush(caller)?;
                        }
                        self.packet.extend_from_slice(&line);
                    }
                }
            }
        }
    }

    fn flush(&mut self, caller: &OwnedFd) -> io::Result<()> {
        if self.packet.is_empty() {
            return Ok(());
        }
        deliver(caller, &std::mem::take(&mut self.packet))
    }
}

/// Whether a line begins with the supervisor's envelope for this uid: time, session, uid, in this order and form.
fn is_of(line: &[u8], uid: u32) -> bool {
    let rest = || {
        let rest = line.strip_prefix(b"{\"time\":\"")?;
        let (time, rest) = rest.split_at_checked(24)?;
        let rest = rest.strip_prefix(b"\",\"session\":\"")?;
        let digits = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let rest = rest.get(digits..)?.strip_prefix(b"\",\"uid\":")?;
        let is_time = time.iter().all(|b| b.is_ascii_digit() || b"-:.TZ".contains(b));
        (is_time && matches!(digits, 0 | 16)).then_some(rest)
    };
    rest().is_some_and(|rest| rest.starts_with(format!("{uid},\"event\":\"").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINE: &str = r#"{"time":"2026-11-24T12:00:00.000Z","session":"0123456789abcdef","uid":1000,"event":"deny"}"#;

    #[test]
    fn the_envelope_alone_decides() {
        assert!(is_of(MINE.as_bytes(), 1000));
        assert!(is_of(MINE.replace("0123456789abcdef", "").as_bytes(), 1000), "before there is a session");
        for uid in [100, 10000, 0, 1001] {
            assert!(!is_of(MINE.as_bytes(), uid), "{uid}");
        }
        for other in [
            r#"{"time":"2026-11-24T12:00:00.000Z","event":"start","version":"0.1.0"}"#,
            r#"{"time":"2026-11-24T12:00:00.000Z","session":"0123456789abcdef","uid":1"#,
            r#"{"time":"2026-11-24T12:00:00.000Z","session":"0123456789abcdef","uid":7,"event":"deny","name":"\",\"uid\":1000,\"event\":\""}"#,
            r#"{"time":"2026-11-24T12:00:00.000Z","session":"0123456789abcde\"","uid":1000,"event":"deny"}"#,
            r#"{"session":"0123456789abcdef","time":"2026-11-24T12:00:00.000Z","uid":1000,"event":"deny"}"#,
            "",
        ] {
            assert!(!is_of(other.as_bytes(), 1000), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_behind_the_envelope_counts(event in "[a-z]{1,8}", tail in "\\PC{0,200}") {
            let line = format!("{{\"time\":\"2026-11-24T12:00:00.000Z\",\"session\":\"0123456789abcdef\",\"uid\":7,\"event\":\"{event}\",{tail}\n");
            prop_assert!(is_of(line.as_bytes(), 7) && !is_of(line.as_bytes(), 1000));
        }
    }
}
