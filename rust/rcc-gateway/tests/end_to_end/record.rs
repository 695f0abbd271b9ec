//! What is on record, whatever an agent does and whatever happens to the disk.

use crate::POLICY;
use crate::key;
use crate::world::*;
use nix::mount::{MsFlags, mount};
use rcc_proto::{ANTHROPIC_ENDPOINT, CredentialKind};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LOG: &str = "/var/log/rcc/gateway.jsonl";

/// All lines; each must be whole.
fn lines() -> Vec<String> {
    let text = fs::read_to_string(LOG).unwrap();
    assert!(text.ends_with('\n'), "the last line is whole");
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    for line in &lines {
        assert!(
            line.starts_with("{\"time\":\"") && line.ends_with('}') && line.matches("\"time\"").count() == 1,
            "{line}"
        );
    }
    lines
}

fn of<'a>(lines: &'a [String], event: &str) -> Vec<&'a String> {
    let event = format!("\"event\":\"{event}\"");
    lines.iter().filter(|l| l.contains(&event)).collect()
}

/// A connection's end is on record a moment after it; the session's end would come before it.
fn wait_for(event: &str, count: usize) {
    let event = format!("\"event\":\"{event}\"");
    for _ in 0..500 {
        if fs::read_to_string(LOG).unwrap().matches(&event).count() >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("fewer than {count} lines with {event}");
}

fn more(line: &str) -> Option<u64> {
    line.split_once("\"more\":")?.1.trim_end_matches('}').parse().ok()
}

#[test]
fn denials_are_counted_and_leave_the_others_lines_alone() {
    in_world("record::denials_are_counted_and_leave_the_others_lines_alone", || {
        const DENIED: u64 = 3000;
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let session = world.session(9000);
        session.run(|| {
            for _ in 0..DENIED {
                assert!(is_dead(&mut dial("198.18.9.9:9000".parse().unwrap())));
            }
        });
        for _ in 0..3 {
            let mut c = session.connect("allowed.example");
            c.write_all(b"\0x").unwrap();
            assert!(!is_dead(&mut c));
        }
        wait_for("close", 3);
        drop(session);
        world.log_with(&["\"end\""]);
        let lines = lines();
        assert_eq!(of(&lines, "connect").len(), 3);
        assert_eq!(of(&lines, "close").len(), 3);
        let denied = of(&lines, "deny");
        let counted: u64 = denied.iter().map(|l| more(l).unwrap_or(1)).sum();
        assert_eq!(counted, DENIED);
        assert!(denied.len() < 1200, "{} lines", denied.len());
    });
}

/// Leaves no room on the log's disk but what is left of the log's last page.
fn fill() {
    mount(None::<&str>, "/var/log", None::<&str>, MsFlags::MS_REMOUNT, Some("size=512k")).unwrap();
    let mut filler = fs::File::create("/var/log/filler").unwrap();
    while filler.write(&[0; 4096]).is_ok() {}
}

fn answers(c: &mut TcpStream) -> bool {
    c.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    matches!(c.read(&mut [0; 1]), Ok(1))
}

#[test]
fn with_a_full_disk_connections_wait_for_their_lines() {
    in_world("record::with_a_full_disk_connections_wait_for_their_lines", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let session = world.session(9000);
        fill();
        let mut went = 0;
        let mut held = loop {
            let mut c = session.connect("allowed.example");
            c.write_all(b"\0x").unwrap();
            if !answers(&mut c) {
                break c;
            }
            went += 1;
            assert!(went < 40, "connections go on without a line");
        };
        let written = fs::read_to_string(LOG).unwrap();
        assert_eq!(written.lines().filter(|l| l.contains("\"connect\"") && l.ends_with('}')).count(), went);
        let mut also = session.connect("allowed.example");
        also.write_all(b"\0y").unwrap();
        assert!(!answers(&mut also));
        // A line of the supervisor's own is counted.
        assert!(hear(&launcher(MALLORY)).is_some());
        fs::remove_file("/var/log/filler").unwrap();
        for c in [&mut held, &mut also] {
            c.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            c.read_exact(&mut [0; 2]).unwrap();
        }
        drop((held, also));
        world.log_with(&["\"lost\"", "\"lines\":1"]);
        wait_for("close", went + 2);
        drop(session);
        world.log_with(&["\"end\""]);
        let lines = lines();
        assert_eq!(of(&lines, "connect").len(), went + 2);
        assert_eq!(of(&lines, "close").len(), went + 2);
        assert_eq!(of(&lines, "session").len(), 1);
    });
}

#[test]
fn with_a_full_disk_no_request_is_answered_without_a_line() {
    in_world("record::with_a_full_disk_no_request_is_answered_without_a_line", || {
        let world = key::api(|_, to| {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").and_then(|()| to.flush()).is_ok()
        });
        let session = key::session(&world, CredentialKind::ApiKey);
        let mut c = session.connect(ANTHROPIC_ENDPOINT);
        fill();
        let mut went = 0;
        let get = format!("GET /v1/models HTTP/1.1\r\nHost: {ANTHROPIC_ENDPOINT}\r\n\r\n");
        loop {
            c.write_all(get.as_bytes()).unwrap();
            if !answers(&mut c) {
                break;
            }
            key::read(&mut c, "ok");
            went += 1;
            assert!(went < 60, "requests go on without a line");
        }
        let written = fs::read_to_string(LOG).unwrap();
        assert_eq!(written.lines().filter(|l| l.contains("\"request\"") && l.ends_with('}')).count(), went);
        fs::remove_file("/var/log/filler").unwrap();
        c.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        c.read_exact(&mut [0; 12]).unwrap();
        world.log_with(&["\"lost\""]);
        assert_eq!(of(&lines(), "request").len(), went + 1);
    });
}
