//! The threads that accept. `O_NONBLOCK` of a passed listener is shared with whoever kept a copy and can be cleared at
//! any time, so accept may block: it does so here, where nothing else waits. (There is no accept with `MSG_DONTWAIT`.)
//!
//! What is inherited from the listener could hang the event loop too: `SO_LINGER` makes close wait. It is set anew on
//! each accepted socket, first of all: to abort, so that a worker's end, however it comes, aborts the connection.

use super::handover::Sockets;
use super::relay::{abort_on_close, tune};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::mpsc;

/// Connections that wait for the event loop; the kernel's own queue comes before it.
const QUEUE: usize = 64;
/// Pages that a thread which only accepts can need, in bytes.
const STACK: usize = 64 * 1024;

/// Two threads that wait for a listener each. Made before the process is confined: after it there are no new threads.
#[derive(Debug)]
pub struct Acceptors {
    redirect: SyncSender<(OwnedFd, mpsc::Sender<OwnedFd>)>,
    dns_tcp: SyncSender<(OwnedFd, mpsc::Sender<OwnedFd>)>,
}

/// What the event loop serves.
#[derive(Debug)]
pub struct Arrivals {
    /// Redirected connections.
    pub redirect: mpsc::Receiver<OwnedFd>,
    /// Connections for DNS.
    pub dns_tcp: mpsc::Receiver<OwnedFd>,
    /// The datagrams' socket.
    pub dns: OwnedFd,
}

impl Acceptors {
    /// Starts both.
    pub fn start() -> io::Result<Self> {
        Ok(Self { redirect: thread("redirect")?, dns_tcp: thread("dns-tcp")? })
    }

    /// Gives them their listeners.
    pub fn listen(&self, sockets: Sockets) -> Arrivals {
        let (redirect, redirect_end) = mpsc::channel(QUEUE);
        let (dns_tcp, dns_tcp_end) = mpsc::channel(QUEUE);
        // A thread that is gone would show as a session that accepts nothing: it fails closed.
        let _ = self.redirect.send((sockets.redirect, redirect));
        let _ = self.dns_tcp.send((sockets.dns_tcp, dns_tcp));
        Arrivals { redirect: redirect_end, dns_tcp: dns_tcp_end, dns: sockets.dns }
    }
}

fn thread(name: &str) -> io::Result<SyncSender<(OwnedFd, mpsc::Sender<OwnedFd>)>> {
    let (send, receive) = sync_channel(1);
    std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || accept_all(&receive))?;
    Ok(send)
}

fn accept_all(receive: &Receiver<(OwnedFd, mpsc::Sender<OwnedFd>)>) {
    let Ok((listener, to)) = receive.recv() else { return };
    tune(&listener);
    loop {
        match crate::system::accept(&listener) {
            Ok(fd) => {
                if abort_on_close(&fd).is_ok() && to.blocking_send(fd).is_err() {
                    return;
                }
            }
            // The listener is non-blocking, at this moment.
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }
            // Out of descriptors or memory: this passes.
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            // The listener was shut down by whoever kept a copy.
            Err(Errno::EINVAL | Errno::EBADF | Errno::ENOTSOCK | Errno::EOPNOTSUPP) => return,
            Err(_) => {}
        }
    }
}
