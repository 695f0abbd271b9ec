//! What an agent tries, and what it gets.

use crate::POLICY;
use crate::world::*;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

fn world() -> World {
    let world = World::new(POLICY);
    world.name("allowed.example", &["11.1.2.3"]);
    world
}

#[test]
fn bytes_go_both_ways_and_ends_are_passed_on() {
    in_both_worlds("agent::bytes_go_both_ways_and_ends_are_passed_on", || {
        let world = world();
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
            w.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        c.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        assert!(got == data, "{} bytes", got.len());
        world.log_with(&["\"close\"", "\"bytes_up\":8000006", "\"bytes_down\":8000006", "\"how\":\"closed\""]);
    });
}

#[test]
fn only_names_of_the_policy_exist_and_no_query_leaves_for_others() {
    in_both_worlds("agent::only_names_of_the_policy_exist_and_no_query_leaves_for_others", || {
        let world = world();
        let session = world.session(9000);
        assert_eq!(session.lookup("allowed.example").unwrap(), ["198.18.1.0".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(session.lookup("ALLOWED.example").unwrap(), ["198.18.1.0".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(session.lookup("a.wild.example").unwrap().len(), 1);
        for name in [
            "secret.attacker.example",
            "wild.example",
            "example",
            "anthropic.rcc.internal",
            "allowed.example.evil.example",
        ] {
            assert_eq!(session.lookup(name), Err(ResponseCode::NXDomain), "{name}");
        }
        for kind in [RecordType::AAAA, RecordType::TXT, RecordType::HTTPS] {
            assert_eq!(session.run(move || lookup("allowed.example", kind)), Ok(vec![]));
        }
        // The names of a wildcard are bounded.
        let all: Vec<_> = (0..60).map(|n| session.lookup(&format!("n{n}.wild.example"))).collect();
        assert_eq!(all.iter().filter(|a| a.is_ok()).count(), 48);
        assert_eq!(all.last().unwrap(), &Err(ResponseCode::ServFail));
        // DNS by TCP.
        let tcp = session.run(|| {
            let mut c = dial("198.18.0.1:53".parse().unwrap());
            let q = b"\0\x21\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07allowed\x07example\0\0\x01\0\x01";
            let mut out = Vec::new();
            for _ in 0..2 {
                c.write_all(q).unwrap();
                let mut n = [0; 2];
                c.read_exact(&mut n).unwrap();
                out = vec![0; u16::from_be_bytes(n).into()];
                c.read_exact(&mut out).unwrap();
            }
            out
        });
        assert_eq!(tcp[tcp.len() - 4..], [198, 18, 1, 0]);
        assert!(world.asked.lock().unwrap().is_empty(), "the gateway asked for {:?}", world.asked.lock().unwrap());
        world.log_with(&["\"dns\"", "secret.attacker.example", "\"allowed\":false"]);
    });
}

#[test]
fn a_denied_port_an_unknown_stand_in_and_a_foreign_address_are_reset() {
    in_both_worlds("agent::a_denied_port_an_unknown_stand_in_and_a_foreign_address_are_reset", || {
        let world = world();
        world.server(9000, echo);
        let session = world.session(9001);
        assert!(is_dead(&mut session.connect("allowed.example")));
        world.log_with(&["\"deny\"", "allowed.example", "\"port\":9001"]);
        let session = world.session(9000);
        for to in ["198.18.9.9:9000", "198.18.0.1:9000", "127.0.0.1:9000"] {
            assert!(session.run(move || is_dead(&mut dial(to.parse().unwrap()))), "{to}");
        }
        world.log_with(&["\"deny\"", "198.18.9.9", "stands for no name"]);
    });
}

#[test]
fn names_with_addresses_that_are_not_public_are_refused() {
    in_both_worlds("agent::names_with_addresses_that_are_not_public_are_refused", || {
        let world = world();
        world.server(9000, echo);
        let session = world.session(9000);
        let probe = |name: &str| {
            let mut c = session.connect(name);
            let _ = c.write_all(b"\0x");
            !is_dead(&mut c)
        };
        for bad in [
            "127.0.0.1",
            "10.20.0.5",
            "169.254.169.254",
            "10.77.0.2",
            "10.77.0.1",
            "0.0.0.0",
            "198.18.1.0",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "fd00::1",
        ] {
            world.name("rebind.example", &[bad]);
            assert!(!probe("rebind.example"), "{bad}");
        }
        // Public first, private after: each connection is judged anew.
        world.name("rebind.example", &["11.0.0.5"]);
        assert!(probe("rebind.example"));
        world.name("rebind.example", &["127.0.0.1"]);
        assert!(!probe("rebind.example"));
        world.log_with(&["\"deny\"", "rebind.example", "own"]);
        // Mixed: the public one is used.
        world.name("rebind.example", &["127.0.0.1", "11.0.0.5"]);
        assert!(probe("rebind.example"));
        // Several, of which the first never answers: the next is tried beside it.
        world.name("many.example", &["12.0.0.1", "11.0.0.9"]);
        assert!(probe("many.example"));
        // Root's word allows a private range, and that only.
        world.name("git.corp.example", &["10.20.3.4"]);
        assert!(probe("git.corp.example"));
        world.name("git.corp.example", &["11.0.0.5"]);
        assert!(!probe("git.corp.example"), "outside its range");
        // A public address that is the host's own, or on its link.
        crate::netlink::address("host0", "11.55.0.2", 24);
        for bad in ["11.55.0.2", "11.55.0.77"] {
            std::thread::sleep(Duration::from_millis(1100));
            world.name("link.example", &[bad]);
            assert!(!probe("link.example"), "{bad}");
        }
    });
}

#[test]
fn tls_must_name_the_host_that_was_dialled() {
    in_both_worlds("agent::tls_must_name_the_host_that_was_dialled", || {
        let world = world();
        world.server(443, echo);
        let session = world.session(443);
        let hello = hello;
        let ask = |bytes: Vec<u8>, pieces: usize| {
            let mut c = session.connect("allowed.example");
            for p in bytes.chunks(pieces) {
                if c.write_all(p).is_err() {
                    return false;
                }
            }
            !is_dead(&mut c)
        };
        assert!(ask(hello("allowed.example"), 4096));
        assert!(ask(hello("allowed.example"), 7), "in small segments");
        assert!(!ask(hello("denied.example"), 4096));
        assert!(!ask(hello("11.1.2.3"), 4096), "no SNI");
        assert!(!ask(b"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n".to_vec(), 4096));
        assert!(!ask([hello("allowed.example"), hello("denied.example")].concat(), 4096), "a second hello");
        world.log_with(&["\"deny\"", "SNI names another host"]);
        // On a port without a word, TLS and HTTP are recognised; anything else goes through.
        world.server(9000, echo);
        let session = world.session(9000);
        let ask = |bytes: Vec<u8>| {
            let mut c = session.connect("allowed.example");
            let _ = c.write_all(&bytes);
            !is_dead(&mut c)
        };
        assert!(ask(hello("allowed.example")));
        assert!(!ask(hello("denied.example")));
        assert!(!ask(b"GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n".to_vec()));
        assert!(ask(b"GET / HTTP/1.1\r\nHost: allowed.example:9000\r\n\r\n".to_vec()));
        assert!(ask(b"SSH-2.0-x\r\n".to_vec()));
    });
}

/// A `ClientHello` as rustls makes it.
fn hello(name: &'static str) -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut c = rustls::ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut out = Vec::new();
    c.write_tls(&mut out).unwrap();
    out
}

#[test]
fn every_request_of_a_kept_connection_must_be_for_the_host() {
    in_both_worlds("agent::every_request_of_a_kept_connection_must_be_for_the_host", || {
        let world = world();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let at_server = seen.clone();
        world.server(80, move |mut s: TcpStream| {
            let mut b = vec![0; 65536];
            while let Ok(n @ 1..) = s.read(&mut b) {
                at_server.lock().unwrap().extend_from_slice(&b[..n]);
                let text = String::from_utf8_lossy(&b[..n]).into_owned();
                let answer = if text.contains("websocket") {
                    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                };
                if s.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        });
        let session = world.session(80);
        let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let read = |c: &mut TcpStream| {
            let mut b = [0; 4096];
            c.read(&mut b).map(|n| String::from_utf8_lossy(&b[..n]).into_owned()).unwrap_or_default()
        };
        let mut c = session.connect("allowed.example");
        for _ in 0..3 {
            c.write_all(get("allowed.example").as_bytes()).unwrap();
            assert!(read(&mut c).starts_with("HTTP/1.1 200"));
        }
        c.write_all(get("denied.example").as_bytes()).unwrap();
        assert_eq!(read(&mut c), "");
        // A body, then another request hidden behind it.
        let mut c = session.connect("allowed.example");
        let body = "x".repeat(300_000);
        c.write_all(
            format!("POST / HTTP/1.1\r\nHost: allowed.example\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .as_bytes(),
        )
        .unwrap();
        assert!(read(&mut c).starts_with("HTTP/1.1 200"));
        let _ = c.write_all(get("denied.example").as_bytes());
        // The first request's refusal is said in words.
        let mut c = session.connect("allowed.example");
        c.write_all(get("denied.example").as_bytes()).unwrap();
        assert!(read(&mut c).contains("403 Forbidden"));
        // A WebSocket is another protocol from its 101 on.
        let mut c = session.connect("allowed.example");
        c.write_all(b"GET / HTTP/1.1\r\nHost: allowed.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .unwrap();
        assert!(read(&mut c).contains("101"));
        c.write_all(b"\x81\x05GET /").unwrap();
        assert!(read(&mut c).starts_with("HTTP/1.1 200"));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!String::from_utf8_lossy(&seen.lock().unwrap()).contains("denied.example"));
    });
}

#[test]
fn line_breaks_before_a_request_hide_nothing() {
    in_both_worlds("agent::line_breaks_before_a_request_hide_nothing", || {
        let world = world();
        world.server(9000, echo);
        let session = world.session(9000);
        for pieces in [
            &["\r\n", "GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n"][..],
            &["\r\nGET / HTTP/1.1\r\nHost: denied.example\r\n\r\n"],
            &["\n\r", "\n", "get / HTTP/1.1\r\nHost: denied.example\r\n\r\n"],
        ] {
            let mut c = session.connect("allowed.example");
            for piece in pieces {
                let _ = c.write_all(piece.as_bytes());
                std::thread::sleep(Duration::from_millis(50));
            }
            let mut got = Vec::new();
            let _ = c.read_to_end(&mut got);
            assert!(got.iter().all(|b| b"\r\n".contains(b)), "{}", String::from_utf8_lossy(&got));
        }
        // They are passed on by themselves, and before a request that is right.
        let mut c = session.connect("allowed.example");
        c.write_all(b"\r\n").unwrap();
        let mut b = [0; 2];
        c.read_exact(&mut b).unwrap();
        let right = b"GET / HTTP/1.1\r\nHost: allowed.example:9000\r\n\r\n";
        c.write_all(right).unwrap();
        let mut b = vec![0; right.len()];
        c.read_exact(&mut b).unwrap();
        assert_eq!(b, right);
    });
}

#[test]
fn a_server_may_speak_first_and_a_reset_is_passed_on() {
    in_both_worlds("agent::a_server_may_speak_first_and_a_reset_is_passed_on", || {
        let world = world();
        world.server(22, |mut s| {
            s.write_all(b"SSH-2.0-server\r\n").unwrap();
            let mut b = [0; 64];
            let _ = s.read(&mut b);
            socket_reset(&s);
        });
        let session = world.session(22);
        let mut c = session.connect("allowed.example");
        let mut b = [0; 16];
        c.read_exact(&mut b).unwrap();
        assert_eq!(&b, b"SSH-2.0-server\r\n");
        c.write_all(b"SSH-2.0-client\r\n").unwrap();
        assert_eq!(c.read(&mut b).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        world.log_with(&["\"close\"", "reset"]);
        // Nobody listens.
        let session = world.session(9000);
        assert!(is_dead(&mut session.connect("allowed.example")));
        world.log_with(&["\"fail\"", "refused"]);
    });
}

#[test]
fn connections_are_bounded_and_addresses_of_the_policy_work() {
    in_both_worlds("agent::connections_are_bounded_and_addresses_of_the_policy_work", || {
        let world = world();
        world.server(9000, echo);
        let session = world.session(9000);
        assert_eq!(session.opened.ranges, ["11.9.0.0/16"]);
        session.run(|| crate::netlink::route("11.9.0.0", 16, None));
        let mut c = session.run(|| dial("11.9.1.1:9000".parse().unwrap()));
        c.write_all(b"x").unwrap();
        assert!(!is_dead(&mut c));
        let mut open: Vec<_> = (0..19).map(|_| session.connect("allowed.example")).collect();
        for c in &mut open {
            c.write_all(b"\0x").unwrap();
            assert!(!is_dead(c));
        }
        assert!(is_dead(&mut session.connect("allowed.example")));
        world.log_with(&["too many connections"]);
        open.clear();
        std::thread::sleep(Duration::from_millis(200));
        let mut c = session.connect("allowed.example");
        c.write_all(b"\0x").unwrap();
        assert!(!is_dead(&mut c));
    });
}
