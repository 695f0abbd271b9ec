//! The credential endpoint, with a TLS server of the test's own as the model's API.

use crate::world::*;
use rcc_proto::{ANTHROPIC_ENDPOINT, Credential, CredentialKind, Secret, VERSION};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const KEY: &str = "sk-ant-api03-THE-REAL-KEY-0123456789";

/// A world whose internet has the API: `answer` gets each request's head and writes to the connection.
pub fn api(answer: impl Fn(&str, &mut dyn Write) -> bool + Send + Sync + 'static) -> World {
    let world = World::new("allow = []\nusers = [\"alice\"]\nca_bundle = \"/etc/ca.pem\"\n[credentials.anthropic]\n");
    let ca = rcgen::generate_simple_self_signed(vec!["api.anthropic.com".to_owned()]).unwrap();
    fs::write("/etc/ca.pem", ca.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(ca.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![ca.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    world.name("api.anthropic.com", &["11.2.2.2"]);
    world.server(443, move |stream| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let mut got = Vec::new();
        let mut b = [0; 4096];
        loop {
            while !got.windows(4).any(|w| w == b"\r\n\r\n") {
                match tls.read(&mut b) {
                    Ok(n @ 1..) => got.extend_from_slice(&b[..n]),
                    _ => return,
                }
            }
            let end = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8(got.drain(..end).collect()).unwrap();
            got.clear();
            if !answer(&head, &mut tls) {
                return;
            }
        }
    });
    world
}

pub fn session(world: &World, kind: CredentialKind) -> Session {
    let mut o = open(VERSION);
    o.credentials = vec![Credential { endpoint: ANTHROPIC_ENDPOINT.into(), kind, secret: Secret::new(KEY.into()) }];
    let s = world.session_with(80, o);
    assert_eq!(s.opened.credential_endpoints, [ANTHROPIC_ENDPOINT]);
    s
}

pub fn read(c: &mut TcpStream, until: &str) -> String {
    let mut got = String::new();
    let mut b = [0; 4096];
    while !got.contains(until) {
        match c.read(&mut b) {
            Ok(n @ 1..) => got.push_str(&String::from_utf8_lossy(&b[..n])),
            _ => break,
        }
    }
    got
}

const POST: &str = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: anthropic.rcc.internal\r\nx-api-key: dummy\r\nauthorization: Bearer dummy\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: a-1\r\ncontent-length: 2\r\n\r\n{}";

#[test]
fn the_key_is_added_and_an_answer_streams() {
    in_both_worlds("key::the_key_is_added_and_an_answer_streams", || {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let world = api(move |head, to| {
            seen.lock().unwrap().push(head.to_owned());
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nset-cookie: a=b\r\nrequest-id: r1\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n").unwrap();
            to.flush().unwrap();
            wait.lock().unwrap().recv().unwrap();
            to.write_all(b"7\r\nsecond\n\r\n0\r\n\r\n").unwrap();
            to.flush().unwrap();
            true
        });
        let session = session(&world, CredentialKind::ApiKey);
        let mut c = session.connect(ANTHROPIC_ENDPOINT);
        for _ in 0..2 {
            c.write_all(POST.as_bytes()).unwrap();
            let first = read(&mut c, "first");
            assert!(
                first.contains("200 OK") && first.contains("request-id: r1") && !first.contains("set-cookie"),
                "{first}"
            );
            go.send(()).unwrap();
            assert!(read(&mut c, "0\r\n\r\n").contains("second"));
        }
        let heads = heads.lock().unwrap().clone();
        assert_eq!(heads.len(), 2);
        let head = heads[0].to_lowercase();
        assert!(
            heads[0].contains(KEY) && head.contains("host: api.anthropic.com\r\n") && !head.contains("dummy"),
            "{head}"
        );
        assert!(
            head.starts_with("post /v1/messages?beta=true http/1.1\r\n")
                && head.contains("anthropic-version: 2023-06-01")
        );
        // The host itself is out of reach, and so is every other request.
        assert!(session.lookup("api.anthropic.com").is_err());
        for (request, status) in [
            ("GET /v1/files HTTP/1.1\r\nHost: anthropic.rcc.internal\r\n\r\n", "403"),
            ("GET /v1/models/%2e%2e/files HTTP/1.1\r\nHost: anthropic.rcc.internal\r\n\r\n", "403"),
            ("GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
            ("GET http://evil.example/v1/models HTTP/1.1\r\nHost: anthropic.rcc.internal\r\n\r\n", "403"),
        ] {
            let mut c = session.connect(ANTHROPIC_ENDPOINT);
            c.write_all(request.as_bytes()).unwrap();
            assert!(read(&mut c, "\r\n\r\n").starts_with(&format!("HTTP/1.1 {status}")), "{request}");
        }
        world.log_with(&["\"request\"", "/v1/messages", "\"status\":200"]);
        assert!(!fs::read_to_string("/var/log/rcc/gateway.jsonl").unwrap().contains("THE-REAL-KEY"));
    });
}

#[test]
fn a_key_that_comes_back_is_not_passed_on() {
    in_both_worlds("key::a_key_that_comes_back_is_not_passed_on", || {
        let world = api(|head, to| {
            let chunk = |s: &str| format!("{:x}\r\n{s}\r\n", s.len());
            let (a, b) = KEY.split_at(17);
            let text = if head.contains("count_tokens") {
                format!("HTTP/1.1 429 Slow\r\nx-echo: {KEY}\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno")
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}{}{}0\r\n\r\n",
                    chunk("hello "),
                    chunk(&format!("> {a}")),
                    chunk(b)
                )
            };
            let _ = to.write_all(text.as_bytes());
            let _ = to.flush();
            true
        });
        let session = session(&world, CredentialKind::OauthToken);
        let mut c = session.connect(ANTHROPIC_ENDPOINT);
        c.write_all(POST.as_bytes()).unwrap();
        let got = read(&mut c, "0\r\n\r\n");
        assert!(got.contains("hello") && !got.contains("sk-ant"), "{got}");
        world.log_with(&["the answer held the key"]);
        let mut c = session.connect(ANTHROPIC_ENDPOINT);
        c.write_all(POST.replace("messages?beta=true", "messages/count_tokens").as_bytes()).unwrap();
        let got = read(&mut c, "no");
        assert!(got.contains("429") && got.contains("retry-after: 7") && !got.contains(KEY), "{got}");
    });
}

#[test]
fn a_subscription_token_is_a_bearer_and_a_cancelled_request_ends_upstream() {
    in_both_worlds("key::a_subscription_token_is_a_bearer_and_a_cancelled_request_ends_upstream", || {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let world = api(move |head, to| {
            tell.lock().unwrap().send(head.to_owned()).unwrap();
            to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
            to.flush().unwrap();
            for _ in 0..200 {
                if to.write_all(b"2\r\n.\n\r\n").and_then(|()| to.flush()).is_err() {
                    tell.lock().unwrap().send("gone".into()).unwrap();
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            false
        });
        let session = session(&world, CredentialKind::OauthToken);
        let mut c = session.connect(ANTHROPIC_ENDPOINT);
        c.write_all(POST.as_bytes()).unwrap();
        read(&mut c, "first");
        let head = told.recv().unwrap();
        assert!(
            head.contains(&format!("authorization: Bearer {KEY}"))
                && head.contains("anthropic-beta: a-1,oauth-2025-04-20")
                && !head.contains("x-api-key"),
            "{head}"
        );
        drop(c);
        assert_eq!(told.recv_timeout(Duration::from_secs(3)).unwrap(), "gone");
        // A certificate of another name is not trusted: no key goes there.
        fs::write("/etc/ca.pem", "").unwrap();
        let other = self::session(&world, CredentialKind::ApiKey);
        let mut c = other.connect(ANTHROPIC_ENDPOINT);
        c.write_all(POST.as_bytes()).unwrap();
        assert!(read(&mut c, "\"type\":\"error\"}").starts_with("HTTP/1.1 502"));
    });
}
