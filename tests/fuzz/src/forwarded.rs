//! What a virtual machine sends to the gateway: a header, and frames. What is taken for a header is one, to the last bit, and
//! of the frames the same bytes and the same end come out, however they are cut, as a second reading of them says.

use rcc_gateway::framed::Framed;
use rcc_proto::forwarded::{HEADER, Header, torn};
use rcc_proto::{Secret, forwarded};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
}

pub fn feed(bytes: &[u8]) {
    let (choice, bytes) = crate::choice(bytes);
    ticket(bytes);
    let (header, frames) = bytes.split_at(bytes.len().min(HEADER));
    if let Ok(header) = <&[u8; HEADER]>::try_from(header)
        && let Some(parsed) = Header::parse(header)
    {
        assert_eq!(parsed.bytes(), *header, "two headers for one stream");
    }
    // The frames alone, too: most inputs are short.
    for frames in [frames, bytes] {
        assert_eq!(read(frames, choice), meant(frames));
    }
}

/// The bytes of the frames, and whether they say their end.
fn meant(mut frames: &[u8]) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while let [high, low, rest @ ..] = frames {
        let length = usize::from(*high) << 8 | usize::from(*low);
        match length {
            0 => return (all, true),
            0xffff => return (all, false),
            _ => {}
        }
        all.extend_from_slice(&rest[..length.min(rest.len())]);
        frames = rest.get(length..).unwrap_or_default();
    }
    (all, false)
}

fn read(sent: &[u8], choice: u8) -> (Vec<u8>, bool) {
    let (mut theirs, ours) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.write_all(sent).expect("it is short");
    drop(theirs);
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let stream = TcpStream::from_std(OwnedFd::from(ours).into()).expect("a socket");
            let (mut stream, mut all) = (Framed::new(stream), Vec::new());
            let mut some = vec![0; usize::from(choice % 61) + 1];
            loop {
                match stream.read(&mut some).await {
                    Ok(0) => return (all, true),
                    Ok(n) => all.extend_from_slice(&some[..n]),
                    Err(_) => return (all, false),
                }
            }
        })
    })
}

/// A ticket is a number and a key, and nothing else is.
fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((session, key)) = torn(&Secret::new(text.to_owned())) {
        let again = forwarded::ticket(&format!("{session:016x}"), &key);
        assert!(again.expose().eq_ignore_ascii_case(text), "another ticket");
    }
}
