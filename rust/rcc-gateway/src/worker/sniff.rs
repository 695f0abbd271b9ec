//! The first bytes of a connection, read as far as a verdict needs them.

use super::connection::{End, some};
use super::relay::with_buffer;
use super::way::{ReadHalf, WriteHalf};
use crate::client_hello::{Guard, State, looks_like_tls};
use crate::http1::{self, Requests, Step};
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::ready;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

/// What is known of a connection when its relay begins, and the bytes read for it that are not yet passed on.
pub enum Prelude<'a> {
    /// TLS with the right name.
    Tls(Guard, Vec<u8>),
    /// HTTP, whose first head was right.
    Http(Requests, Vec<u8>),
    /// Nothing yet: the server may speak first. Name and port.
    Unknown(&'a str, u16),
    /// Any other protocol.
    Free(Vec<u8>),
}

/// What a protocol looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TLS record with a handshake.
    Tls,
    /// An HTTP/1 request.
    Http,
    /// Neither.
    Other,
}

/// Reads a whole `ClientHello`.
pub async fn hello(client: &mut (impl AsyncReadExt + Unpin), guard: &mut Guard) -> Result<Vec<u8>, End> {
    rest_of_hello(client, guard, Vec::new()).await
}

/// The same, with some of it read already.
pub async fn rest_of_hello(
    client: &mut (impl AsyncReadExt + Unpin),
    guard: &mut Guard,
    mut first: Vec<u8>,
) -> Result<Vec<u8>, End> {
    let mut fed = 0;
    loop {
        let state = guard.feed(&first[fed..])?;
        fed = first.len();
        if state != State::Waiting {
            return Ok(first);
        }
        some(client, &mut first).await?;
    }
}

/// Reads a whole head of an HTTP request.
pub async fn head(client: &mut (impl AsyncReadExt + Unpin), name: &str, port: u16) -> Result<Vec<u8>, End> {
    let mut first = Vec::new();
    loop {
        some(client, &mut first).await?;
        if Requests::new(name, port).step(&first)? != Step::Need {
            return Ok(first);
        }
    }
}

/// Tells TLS and HTTP from the rest, by as few bytes as possible. There is no time limit: the server may be the one who
/// speaks; an end without bytes is passed on. So are line breaks at the beginning, at once, and what follows is judged:
/// HTTP servers pass over them, and in other protocols they may be all that a client says.
pub async fn kind(client: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, up: &Cell<u64>) -> Result<(Kind, Vec<u8>), End> {
    let mut first = Vec::new();
    loop {
        let blank = http1::blank(&first);
        if blank > 0 {
            to.write_all(&first[..blank]).await?;
            to.flush().await?;
            up.set(up.get() + blank as u64);
            first.drain(..blank);
        }
        match (looks_like_tls(&first), http1::looks_like_http(&first)) {
            (Some(true), _) => return Ok((Kind::Tls, first)),
            (_, Some(true)) => return Ok((Kind::Http, first)),
            (Some(false), Some(false)) => return Ok((Kind::Other, first)),
            _ => {}
        }
        if client.read_buf(&mut first).await? == 0 {
            return Ok((Kind::Other, first));
        }
    }
}

/// Passes on what was read and goes on watching until the client's bytes are encrypted.
pub async fn watch(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    mut guard: Guard,
    first: Vec<u8>,
    up: &Cell<u64>,
) -> Result<(), End> {
    to.write_all(&first).await?;
    to.flush().await?;
    up.set(up.get() + first.len() as u64);
    // The bytes that completed the first hello were fed already, with all that came after it in the same read.
    drop(first);
    let mut chunk = Vec::new();
    while guard.feed(&[])? != State::Encrypted {
        chunk.clear();
        let n = poll_fn(|cx| {
            with_buffer(|buffer| {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
                chunk.extend_from_slice(read.filled());
                std::task::Poll::Ready(Ok::<_, std::io::Error>(read.filled().len()))
            })
        })
        .await?;
        if n == 0 {
            return Ok(());
        }
        guard.feed(&chunk)?;
        to.write_all(&chunk).await?;
        to.flush().await?;
        up.set(up.get() + n as u64);
    }
    Ok(())
}
