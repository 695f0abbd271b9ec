//! Moves bytes between two connections. Small amounts go through one buffer that all connections share; where data
//! flows, splice(2) moves it through a pipe without a copy. A connection that is idle holds neither.
//!
//! Invariant: a socket is set to abort on close from its first moment; only a relay that ended orderly on both sides
//! takes that back. So a denial, an error, and the death of the process are all seen as a reset, and no data is left to
//! the kernel that no longer has an owner (the firewall's rules go by owner).

use super::way::{Sink, Source};
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, ReadBuf};

#[cfg(target_os = "linux")]
mod pipes;
#[cfg(target_os = "linux")]
pub use pipes::Pipes;

/// There is no splice(2): all goes through the buffer.
#[cfg(target_os = "macos")]
#[derive(Debug, Default, Clone)]
pub struct Pipes;

/// The shared buffer. What fills it is worth a splice.
const SMALL: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives the shared buffer to `f`, for as long as `f` runs.
pub fn with_buffer<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.is_empty() {
            buffer.resize(SMALL, 0);
        }
        f(buffer)
    })
}

/// Closing this socket resets the connection.
pub fn abort_on_close(fd: &impl AsFd) -> io::Result<()> {
    SockRef::from(fd).set_linger(Some(Duration::ZERO))
}

/// Closing this socket delivers what was written.
pub fn deliver_on_close(fd: &impl AsFd) {
    let _ = SockRef::from(fd).set_linger(None);
}

/// Small writes at once, and dead peers noticed. What a listener accepts has its settings.
pub fn tune(fd: &impl AsFd) {
    let socket = SockRef::from(fd);
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

enum Moved {
    Nothing,
    Bytes { n: usize, rest: Vec<u8> },
}

/// Moves up to `limit` bytes (all, if `None`) until the source ends; true if it ended, false if the limit was reached.
pub async fn pump(
    from: &mut impl Source,
    to: &mut impl Sink,
    limit: Option<u64>,
    moved: &Cell<u64>,
    pipes: &Pipes,
) -> io::Result<bool> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(SMALL);
        let Moved::Bytes { n, rest } = small(from, to, room).await? else { return Ok(true) };
        if !rest.is_empty() {
            to.write_all(&rest).await?;
        }
        to.flush().await?;
        moved.set(moved.get() + n as u64);
        left -= n as u64;
        #[cfg(target_os = "macos")]
        let Pipes = pipes;
        #[cfg(target_os = "linux")]
        if n == SMALL
            && left > 0
            && let (Some(from), Some(to)) = (from.socket(), to.socket())
        {
            let (ended, n) = self::pipes::spliced(from, to, left, moved, pipes).await?;
            left -= n;
            if ended {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// One read into the shared buffer, and as much of it written as goes at once.
async fn small(from: &mut impl Source, to: &mut impl Sink, room: usize) -> io::Result<Moved> {
    poll_fn(|cx| {
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(&mut buffer[..room]);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
            let data = read.filled();
            if data.is_empty() {
                return Poll::Ready(Ok(Moved::Nothing));
            }
            let mut done = 0;
            while done < data.len() {
                match Pin::new(&mut *to).poll_write(cx, &data[done..]) {
                    Poll::Ready(Ok(n)) => done += n,
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(Moved::Bytes { n: data.len(), rest: data[done..].to_vec() }))
        })
    })
    .await
}

/// The whole of one direction, with its end passed on.
pub async fn direction(from: &mut impl Source, to: &mut impl Sink, moved: &Cell<u64>, pipes: &Pipes) -> io::Result<()> {
    pump(from, to, None, moved, pipes).await?;
    to.shutdown().await
}
