//! HTTP/1 on its way up: every request is checked, bodies are spliced. The way down is looked at only where a client
//! asked for a WebSocket.

use super::connection::End;
use super::relay::{Pipes, pump, with_buffer};
use super::way::{ReadHalf, Source, Way, WriteHalf};
use crate::http1::{self, Answer, Requests, Step};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

/// How long a client may take over a head that it has begun.
const HEAD: Duration = Duration::from_secs(60);

/// What the two directions of a connection tell each other about an upgrade.
#[derive(Debug, Default)]
pub struct Upgrade {
    asked: Cell<bool>,
    /// The server has sent something.
    answering: Cell<bool>,
    answer: Cell<Option<Answer>>,
    answered: Notify,
}

/// Passes requests on. True when the client ended between two requests; false when the connection became another
/// protocol, which the caller relays.
pub async fn requests(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    mut requests: Requests,
    mut buffer: Vec<u8>,
    up: &Cell<u64>,
    pipes: &Pipes,
    upgrade: &Upgrade,
) -> Result<bool, End> {
    loop {
        match requests.step(&buffer)? {
            Step::Need => {
                let begun = !buffer.is_empty() || !requests.between();
                let read = read_more(from, &mut buffer);
                let n =
                    if begun { tokio::time::timeout(HEAD, read).await.map_err(|_| End::Slow)?? } else { read.await? };
                if n == 0 {
                    return if begun { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(true) };
                }
            }
            Step::Body(n) => {
                let here = usize::try_from(n).unwrap_or(usize::MAX).min(buffer.len());
                to.write_all(&buffer[..here]).await?;
                to.flush().await?;
                buffer.drain(..here);
                up.set(up.get() + here as u64);
                let left = n - here as u64;
                if left > 0 && pump(from, to, Some(left), up, pipes).await? {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            Step::Forward { take, cut, upgrade: asks, .. } => {
                if asks {
                    if upgrade.answering.get() {
                        return Err(http1::Refusal::Upgrade.into());
                    }
                    upgrade.asked.set(true);
                }
                let cut = cut.unwrap_or(take..take);
                to.write_all(&buffer[..cut.start]).await?;
                to.write_all(&buffer[cut.end..take]).await?;
                to.flush().await?;
                buffer.drain(..take);
                up.set(up.get() + take as u64);
                if asks {
                    upgrade.answered.notified().await;
                    if upgrade.answer.get() == Some(Answer::Switched) {
                        to.write_all(&buffer).await?;
                        to.flush().await?;
                        up.set(up.get() + buffer.len() as u64);
                        return Ok(false);
                    }
                }
            }
        }
    }
}

/// Passes the first answer on and says what it was, if the client asked for an upgrade; otherwise returns at the
/// server's first byte.
pub async fn answers(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    down: &Cell<u64>,
    upgrade: &Upgrade,
) -> Result<(), End> {
    let mut seen = Vec::new();
    match from.socket() {
        Some(socket) => socket.readable().await?,
        // Whether anything has come is only known by reading it.
        None => drop(read_more(from, &mut seen).await?),
    }
    upgrade.answering.set(true);
    to.write_all(&seen).await?;
    to.flush().await?;
    down.set(down.get() + seen.len() as u64);
    if !upgrade.asked.get() {
        return Ok(());
    }
    let answer = loop {
        match http1::upgrade_answer(&seen) {
            Answer::Need => {}
            known => break known,
        }
        let before = seen.len();
        if read_more(from, &mut seen).await? == 0 {
            break Answer::Refused;
        }
        to.write_all(&seen[before..]).await?;
        to.flush().await?;
        down.set(down.get() + (seen.len() - before) as u64);
    };
    upgrade.answer.set(Some(answer));
    upgrade.answered.notify_one();
    Ok(())
}

async fn read_more(from: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|cx| {
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
            into.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    })
    .await
}

/// Tells an HTTP client why, in words; then the connection ends.
pub async fn explain(client: &mut Way, text: &str, has_asked: bool) {
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{text}\n",
        text.len() + 1
    );
    let polite = async {
        // A client that has not asked yet is given the time to: an answer before the question confuses it.
        if !has_asked {
            client.socket().readable().await?;
        }
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await?;
        let mut sink = [0; 1024];
        for _ in 0..64 {
            if client.read(&mut sink).await? == 0 {
                client.deliver_on_close();
                break;
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), polite).await;
}
