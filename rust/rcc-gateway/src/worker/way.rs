//! A connection as the relay needs it, to a server or from the agent: a socket, a socket to a proxy within TLS, or a stream by
//! which a forwarder brings one.

use super::relay::deliver_on_close;
use crate::framed::Framed;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};
use tokio_rustls::client::TlsStream;

/// A connection.
pub enum Way {
    /// From the agent, to the server, or through a proxy that is spoken to without TLS.
    Plain(TcpStream),
    /// Through a proxy that is spoken to by TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// From an agent in a virtual machine.
    Framed(Box<Framed>),
}

/// What is read from: a socket's half, or what is not spliced.
pub trait Source: AsyncRead + Unpin {
    /// The socket, if its bytes are as they are on the wire.
    fn socket(&self) -> Option<&TcpStream>;
}

/// What is written to.
pub trait Sink: AsyncWrite + Unpin {
    /// The same.
    fn socket(&self) -> Option<&TcpStream>;
}

/// One side of a connection, to read from.
pub enum ReadHalf<'a> {
    /// Of a socket.
    Plain(tcp::ReadHalf<'a>),
    /// Of TLS.
    Tls(tokio::io::ReadHalf<&'a mut TlsStream<TcpStream>>),
    /// Of frames.
    Framed(tokio::io::ReadHalf<&'a mut Framed>),
}

/// One side of a connection, to write to. Who waits for an answer flushes: all but a socket may hold bytes back until then.
pub enum WriteHalf<'a> {
    /// Of a socket.
    Plain(tcp::WriteHalf<'a>),
    /// Of TLS.
    Tls(tokio::io::WriteHalf<&'a mut TlsStream<TcpStream>>),
    /// Of frames.
    Framed(tokio::io::WriteHalf<&'a mut Framed>),
}

impl Way {
    /// Both sides.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(socket) => {
                let (from, to) = socket.split();
                (ReadHalf::Plain(from), WriteHalf::Plain(to))
            }
            Self::Tls(tls) => {
                let (from, to) = tokio::io::split(&mut **tls);
                (ReadHalf::Tls(from), WriteHalf::Tls(to))
            }
            Self::Framed(framed) => {
                let (from, to) = tokio::io::split(&mut **framed);
                (ReadHalf::Framed(from), WriteHalf::Framed(to))
            }
        }
    }

    /// The socket: to the server itself, to a proxy, or to a forwarder.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
            Self::Framed(framed) => framed.socket(),
        }
    }

    /// Closing delivers what was written.
    pub fn deliver_on_close(&self) {
        deliver_on_close(self.socket());
    }
}

impl Source for ReadHalf<'_> {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) | Self::Framed(_) => None,
        }
    }
}

impl Sink for WriteHalf<'_> {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) | Self::Framed(_) => None,
        }
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_read(cx, buf),
            Self::Tls(half) => Pin::new(half).poll_read(cx, buf),
            Self::Framed(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Way {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Framed(framed) => Pin::new(framed).poll_read(cx, buf),
        }
    }
}

/// Writing, by whichever of the two it is.
macro_rules! written_by_either {
    ($($type:ty),*) => {$(
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(to) => Pin::new(to).poll_write(cx, buf),
                    Self::Tls(to) => Pin::new(to).poll_write(cx, buf),
                    Self::Framed(to) => Pin::new(to).poll_write(cx, buf),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(to) => Pin::new(to).poll_flush(cx),
                    Self::Tls(to) => Pin::new(to).poll_flush(cx),
                    Self::Framed(to) => Pin::new(to).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(to) => Pin::new(to).poll_shutdown(cx),
                    Self::Tls(to) => Pin::new(to).poll_shutdown(cx),
                    Self::Framed(to) => Pin::new(to).poll_shutdown(cx),
                }
            }
        }
    )*};
}

written_by_either!(WriteHalf<'_>, Way);
