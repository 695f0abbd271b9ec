//! The real supervisor and workers, in namespaces of the test's own.

mod netlink;
mod world;

use rcc_proto::VERSION;
use std::io::{Read, Write};
use world::*;

const POLICY: &str = r#"
allow = ["allowed.example:80,443,22,9000", "*.wild.example:443", "rebind.example:9000", "onlink.example:9000"]
users = ["alice"]
"#;

#[test]
fn bytes_go_both_ways_and_ends_are_passed_on() {
    in_world("bytes_go_both_ways_and_ends_are_passed_on", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let session = world.session(9000);
        let mut c = session.connect("allowed.example");
        c.write_all(b"\x00hello").unwrap();
        let mut b = [0; 6];
        c.read_exact(&mut b).unwrap();
        assert_eq!(&b, b"\x00hello");
        // Enough to be spliced, in both directions at once.
        let data: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut w = c.try_clone().unwrap();
        let sent = data.clone();
        let writer = std::thread::spawn(move || {
            w.write_all(&sent).unwrap();
            w.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        c.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        assert!(got == data, "{} bytes", got.len());
        world.log_with(&["\"close\"", "\"bytes_up\":8000006", "\"bytes_down\":8000006", "\"how\":\"closed\""]);
        let _ = VERSION;
    });
}
