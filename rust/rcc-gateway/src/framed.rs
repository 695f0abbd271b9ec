//! A connection between forwarder and gateway whose ends are said (see [`rcc_proto::forwarded`]): bytes travel in frames, a frame of
//! length 0 is an orderly end, and anything else that ends the stream is an abort, whatever lies between has made of it. An abort is
//! said as well where there is room: what passes a vsock on to a Unix socket can keep quiet about one that was reset.
//!
//! The stream is any connected stream socket: TCP, or of a Unix or vsock address. Nothing here asks which.

use crate::system::NO_SIGNAL;
use nix::sys::socket::{MsgFlags, send};
use rcc_proto::forwarded::ABORTED;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes in a frame that is written here.
const FRAME: usize = 16 * 1024;

/// One connection's stream.
#[derive(Debug)]
pub struct Framed {
    stream: TcpStream,
    reading: Reading,
    /// What of a frame could not be written yet.
    unsent: Vec<u8>,
    sent_end: bool,
}

/// Where in the other side's bytes we are.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// So many bytes of a length.
    Length(usize, [u8; 2]),
    /// So many bytes of a frame are to come.
    Body(usize),
    /// It has said its end.
    Ended,
}

impl Framed {
    /// Of a stream whose header has been sent, or read.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, reading: Reading::Length(0, [0; 2]), unsent: Vec::new(), sent_end: false }
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes what is left of the frame before.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..n);
        }
        // A connection that is idle holds no buffer.
        self.unsent = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Writes as much of a frame as goes at once; the rest of it is kept.
    fn poll_frame(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<()>> {
        let length = u16::try_from(data.len()).map_err(io::Error::other)?.to_be_bytes();
        let parts = [IoSlice::new(&length), IoSlice::new(data)];
        let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))?;
        if n < length.len() + data.len() {
            let whole = [&length[..], data].concat();
            self.unsent = whole[n..].to_vec();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Framed {
    fn drop(&mut self) {
        if !self.sent_end && self.unsent.is_empty() {
            let _ = send(self.stream.as_raw_fd(), &ABORTED.to_be_bytes(), MsgFlags::MSG_DONTWAIT | NO_SIGNAL);
        }
    }
}

impl AsyncRead for Framed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.reading {
                Reading::Ended => return Poll::Ready(Ok(())),
                Reading::Length(got, bytes) => {
                    let mut some = ReadBuf::new(&mut bytes[*got..]);
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut some))?;
                    match some.filled().len() {
                        0 => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                        n => *got += n,
                    }
                    if *got == bytes.len() {
                        this.reading = match u16::from_be_bytes(*bytes) {
                            0 => Reading::Ended,
                            ABORTED => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                            length => Reading::Body(length.into()),
                        };
                    }
                }
                Reading::Body(left) => {
                    let room = buf.remaining().min(*left);
                    let mut some = ReadBuf::new(buf.initialize_unfilled_to(room));
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut some))?;
                    let n = some.filled().len();
                    if n == 0 {
                        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                    }
                    buf.advance(n);
                    *left -= n;
                    if *left == 0 {
                        this.reading = Reading::Length(0, [0; 2]);
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Framed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sent_end {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_unsent(cx))?;
        let data = &buf[..buf.len().min(FRAME)];
        // An empty frame would be the end.
        if !data.is_empty() {
            ready!(this.poll_frame(cx, data))?;
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    /// Says the end. The stream itself is closed when this is dropped: the other side may have more to say.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        if !this.sent_end {
            ready!(this.poll_frame(cx, &[]))?;
            this.sent_end = true;
        }
        this.poll_unsent(cx)
    }
}

/// The next frame of a stream that has whole messages in them; longer ones than `most` are an error.
pub async fn message(from: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(from.read_u16().await?);
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message.
pub async fn say(to: &mut (impl AsyncWrite + Unpin), parts: &[&[u8]]) -> io::Result<()> {
    to.write_all(&frame(parts)?).await
}

/// A message as it is written.
pub fn frame(parts: &[&[u8]]) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let length = u16::try_from(parts.iter().map(|p| p.len()).sum::<usize>()).map_err(io::Error::other)?;
    let mut whole = zeroize::Zeroizing::new(Vec::with_capacity(2 + usize::from(length)));
    whole.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        whole.extend_from_slice(part);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// Two ends. Of Unix sockets, which hold little: writes are cut.
    fn pair() -> (Framed, Framed) {
        let (a, b) = UnixStream::pair().unwrap();
        let ends = [a, b].map(|end| {
            end.set_nonblocking(true).unwrap();
            Framed::new(TcpStream::from_std(OwnedFd::from(end).into()).unwrap())
        });
        ends.into()
    }

    fn run<T>(what: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what)
    }

    #[test]
    fn bytes_and_ends_arrive_as_they_were() {
        run(async {
            let (mut a, mut b) = pair();
            let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
            let sent = data.clone();
            let writing = tokio::spawn(async move {
                a.write_all(&sent).await.unwrap();
                a.shutdown().await.unwrap();
                a.shutdown().await.unwrap();
                // The other direction goes on.
                let mut back = Vec::new();
                a.read_to_end(&mut back).await.unwrap();
                assert!(a.write(b"x").await.is_err());
                back
            });
            let mut got = Vec::new();
            b.read_to_end(&mut got).await.unwrap();
            assert!(got == data, "{} bytes", got.len());
            b.write_all(b"and back").await.unwrap();
            b.shutdown().await.unwrap();
            assert_eq!(writing.await.unwrap(), b"and back");
        });
    }

    fn write(to: &Framed, bytes: &[u8]) {
        assert_eq!(send(to.stream.as_raw_fd(), bytes, MsgFlags::empty()), Ok(bytes.len()));
    }

    #[test]
    fn an_abort_is_said_although_something_was_not_read() {
        run(async {
            let (a, mut b) = pair();
            b.write_all(b"unread").await.unwrap();
            // The first two bytes that come are the word, before the socket's own error.
            let mut word = [0; 2];
            drop(a);
            b.stream.read_exact(&mut word).await.unwrap();
            assert_eq!(u16::from_be_bytes(word), ABORTED);
        });
        run(async {
            let (a, mut b) = pair();
            write(&a, b"\0\x02ab\xff\xffmore");
            let mut got = Vec::new();
            let end = b.read_to_end(&mut got).await.unwrap_err();
            assert_eq!((end.kind(), &got[..]), (io::ErrorKind::ConnectionReset, &b"ab"[..]));
        });
    }

    #[test]
    fn a_stream_that_ends_without_saying_so_was_aborted() {
        for sent in [&b""[..], b"\0", b"\0\x05ab", b"\0\x02ab"] {
            run(async {
                let (a, mut b) = pair();
                write(&a, sent);
                // As a process that was killed leaves it.
                let _ = nix::sys::socket::shutdown(a.stream.as_raw_fd(), nix::sys::socket::Shutdown::Both);
                let mut got = Vec::new();
                let end = b.read_to_end(&mut got).await.unwrap_err();
                assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "{sent:?}");
            });
        }
        run(async {
            let (a, mut b) = pair();
            write(&a, b"\0\x02ab\0\0more");
            let mut got = Vec::new();
            b.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"ab", "and nothing behind the end");
        });
    }
}
