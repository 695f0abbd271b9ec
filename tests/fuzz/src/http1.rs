//! A client's bytes on a port of plain HTTP. hyper, which has another parser's framing on top, reads what was passed on,
//! and must find requests to the dialled host alone, no more of them than were judged; and pieces make no difference.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcc_gateway::http1::{Refusal, Requests, Step, upgrade_answer};
use std::cell::Cell;
use std::convert::Infallible;

const NAME: &str = "a.example";

pub fn feed(bytes: &[u8]) {
    let (cut, stream) = crate::choice(bytes);
    let _ = upgrade_answer(stream);
    let whole = run(std::iter::once(stream));
    let cut = run(crate::pieces(stream, cut));
    // What is refused may be refused for another reason, that which shows first.
    assert_eq!(
        whole.verdict.is_ok(),
        cut.verdict.is_ok(),
        "pieces make a difference: {:?} {:?}",
        whole.verdict,
        cut.verdict
    );
    assert_eq!(whole.passed, cut.passed, "pieces make a difference");
    server(whole);
}

struct Ran {
    passed: Vec<u8>,
    requests: u64,
    verdict: Result<(), Refusal>,
}

/// What is passed on, up to a refusal or an upgrade.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Ran {
    let mut requests = Requests::new(NAME, 80);
    let (mut passed, mut buffer, mut body) = (Vec::new(), Vec::new(), 0_u64);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if body > 0 {
                let n = usize::try_from(body).unwrap_or(usize::MAX).min(buffer.len());
                passed.extend(buffer.drain(..n));
                body -= n as u64;
                if body > 0 {
                    break;
                }
            }
            match requests.step(&buffer) {
                Err(e) => return Ran { passed, requests: requests.count(), verdict: Err(e) },
                Ok(Step::Need) => break,
                Ok(Step::Body(n)) => body = n,
                Ok(Step::Forward { take, cut, upgrade, .. }) => {
                    assert!(take <= buffer.len() && cut.as_ref().is_none_or(|c| c.end <= take));
                    let mut part: Vec<u8> = buffer.drain(..take).collect();
                    if let Some(cut) = cut {
                        part.drain(cut);
                    }
                    passed.extend(part);
                    if upgrade {
                        return Ran { passed, requests: requests.count(), verdict: Ok(()) };
                    }
                }
            }
        }
    }
    Ran { passed, requests: requests.count(), verdict: Ok(()) }
}

fn server(ran: Ran) {
    if ran.requests == 0 {
        assert!(ran.passed.is_empty());
        return;
    }
    let seen = Cell::new(0_u64);
    let service = service_fn(async |request: Request<Incoming>| {
        seen.set(seen.get() + 1);
        let hosts: Vec<_> = request.headers().get_all("host").iter().collect();
        let named = |host: &[u8]| host.eq_ignore_ascii_case(b"a.example") || host.eq_ignore_ascii_case(b"a.example:80");
        assert!(matches!(hosts[..], [host] if named(host.as_bytes())), "{hosts:?}");
        if let Some(authority) = request.uri().authority() {
            assert!(named(authority.as_str().as_bytes()), "{authority}");
        }
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let io = TokioIo::new(tokio::io::join(std::io::Cursor::new(ran.passed), tokio::io::sink()));
    let _ = runtime.block_on(http1::Builder::new().serve_connection(io, service));
    assert!(seen.get() <= ran.requests, "a server sees {} requests, {} were judged", seen.get(), ran.requests);
}
