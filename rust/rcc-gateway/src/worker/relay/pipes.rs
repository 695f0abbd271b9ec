//! splice(2): where data flows, the kernel moves it from one socket to the other through a pipe, without a copy.

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The size asked for each pipe, in bytes; where the kernel gives less, less is moved at a time.
const PIPE: usize = 512 * 1024;
/// Pipes kept for later.
const IDLE_PIPES: usize = 4;

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    size: usize,
}

/// Pipes that no relay uses at the moment.
#[derive(Debug, Default, Clone)]
pub struct Pipes(Rc<RefCell<Vec<Pipe>>>);

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Ok(pipe);
        }
        let (out, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let wish = i32::try_from(PIPE).unwrap_or(i32::MAX);
        let size =
            fcntl(&into, FcntlArg::F_SETPIPE_SZ(wish)).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(64 * 1024);
        Ok(Pipe { out, into, size })
    }

    /// Takes back an empty pipe.
    fn put(&self, pipe: Pipe) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < IDLE_PIPES {
            idle.push(pipe);
        }
    }
}

/// Splices until the source has nothing more at the moment.
pub async fn spliced(
    from: &TcpStream,
    to: &TcpStream,
    limit: u64,
    moved: &Cell<u64>,
    pipes: &Pipes,
) -> io::Result<(bool, u64)> {
    let pipe = pipes.take()?;
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    let mut total = 0u64;
    loop {
        let want = usize::try_from(limit - total).unwrap_or(usize::MAX).min(pipe.size);
        if want == 0 {
            pipes.put(pipe);
            return Ok((false, total));
        }
        let got = from.try_io(Interest::READABLE, || Ok(splice(from, None, &pipe.into, None, want, flags)?));
        let mut inside = match got {
            Ok(0) => {
                pipes.put(pipe);
                return Ok((true, total));
            }
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                pipes.put(pipe);
                return Ok((false, total));
            }
            Err(e) => return Err(e),
        };
        while inside > 0 {
            match to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.out, None, to, None, inside, flags)?)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    inside -= n;
                    total += n as u64;
                    moved.set(moved.get() + n as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(e) => return Err(e),
            }
        }
        // try_io is free of charge for tokio's scheduler; other connections want their turn.
        tokio::task::consume_budget().await;
    }
}
