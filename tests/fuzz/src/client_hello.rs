//! A client's bytes on a port of TLS. A hello that is let through must have exactly the name that was dialled in the
//! eyes of rustls as well, if that takes it for a hello at all; and pieces make no difference.

use rcc_gateway::client_hello::{Guard, Refusal, State, looks_like_tls};
use rustls::server::Acceptor;

const NAME: &str = "allowed.example";

pub fn feed(bytes: &[u8]) {
    let (cut, stream) = crate::choice(bytes);
    let whole = verdict(std::iter::once(stream));
    let cut = verdict(crate::pieces(stream, cut));
    match (&whole, &cut) {
        // What was right so far may be told before what is wrong comes: the verdict itself is the same.
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a, b),
        other => panic!("pieces make a difference: {other:?}"),
    }
    if whole.is_ok() && !stream.is_empty() {
        assert_ne!(looks_like_tls(stream), Some(false));
    }
    if !matches!(whole, Ok(State::Named | State::Encrypted)) {
        return;
    }
    let mut acceptor = Acceptor::default();
    let mut rest = stream;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                assert_eq!(accepted.client_hello().server_name(), Some(NAME));
                return;
            }
            Ok(None) => {}
            // It is stricter, or is no reader of this: a server that refuses it learns nothing.
            Err(_) => return,
        }
    }
}

fn verdict<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<State, Refusal> {
    let mut guard = Guard::new(NAME);
    let mut state = State::Waiting;
    for piece in pieces {
        state = guard.feed(piece)?;
    }
    Ok(state)
}
