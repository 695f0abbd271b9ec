//! The machine's own network, for names that the world does not have: real registries beside a scripted model.
//!
//! Such a name has an address of the world's, by which the internet knows whom a connection means; it dials the real host
//! from the namespaces that the runner came from, and passes on what either side sends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

/// The descriptors by which the internet's process has the runner's namespaces.
pub const NETWORK: i32 = 3;
/// Of mounts: for its resolv.conf and hosts.
pub const MOUNTS: i32 = 4;

/// The first of the addresses that stand for names outside.
const FIRST: u32 = Ipv4Addr::new(11, 8, 0, 0).to_bits();
/// Names that are in no network but a test's (RFC 2606, RFC 6761).
const NOWHERE: [&str; 6] = ["arpa", "example", "internal", "invalid", "local", "test"];
/// How many addresses there are.
const ROOM: usize = 1 << 16;

/// The names so far, in the order of their addresses.
#[derive(Default)]
pub struct Outside {
    names: Mutex<Vec<String>>,
}

impl Outside {
    /// Takes over the descriptors, which no program that is started from here has.
    pub fn inherited() -> Result<Self> {
        for fd in [NETWORK, MOUNTS] {
            // SAFETY: the runner has opened it for this process.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let closed = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            nix::fcntl::fcntl(fd, closed).context("the runner's namespaces are not there")?;
        }
        Ok(Self::default())
    }

    /// The address that stands for a name; none for one that is nobody's.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<IpAddr> {
        let (_, last) = name.rsplit_once('.')?;
        if NOWHERE.contains(&last) {
            return None;
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let at = names.iter().position(|n| n == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        (at < ROOM).then(|| Ipv4Addr::from_bits(FIRST + u32::try_from(at).unwrap_or_default()).into())
    }

    /// The name that an address stands for.
    #[must_use]
    pub fn name(&self, address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        let at = usize::try_from(address.to_bits().checked_sub(FIRST)?).ok()?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned()
    }
}

/// Dials a real host, and passes on what either side sends until both have ended.
pub fn splice(stream: &TcpStream, name: &str, port: u16) -> Result<()> {
    let far = std::thread::scope(|scope| scope.spawn(|| dial(name, port)).join());
    let far = far.map_err(|_| anyhow::anyhow!("the thread panicked"))?.with_context(|| format!("{name}:{port}"))?;
    std::thread::scope(|scope| {
        scope.spawn(|| pass(stream, &far));
        pass(&far, stream);
    });
    Ok(())
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    // Whichever way it ended, the other side is told.
    let _ended = io::copy(&mut from, &mut to);
    let _gone = to.shutdown(Shutdown::Write);
}

/// In a thread of its own: namespaces are a thread's.
fn dial(name: &str, port: u16) -> io::Result<TcpStream> {
    // Threads share their root and working directory, without which there is no entering of mounts (setns(2)).
    unshare(CloneFlags::CLONE_FS)?;
    for (fd, kind) in [(MOUNTS, CloneFlags::CLONE_NEWNS), (NETWORK, CloneFlags::CLONE_NEWNET)] {
        // SAFETY: checked at the start, and closed by nobody.
        setns(unsafe { BorrowedFd::borrow_raw(fd) }, kind)?;
    }
    TcpStream::connect((name, port))
}

/// The runner's namespaces, opened before it makes others.
#[derive(Debug)]
pub struct Namespaces([OwnedFd; 2]);

impl Namespaces {
    /// Those of this process.
    pub fn here() -> Result<Self> {
        let open = |kind: &str| -> Result<OwnedFd> {
            let path = format!("/proc/self/ns/{kind}");
            Ok(std::fs::File::open(&path).with_context(|| path.clone())?.into())
        };
        Ok(Self([open("net")?, open("mnt")?]))
    }

    /// Hands them to a process that is being started: to be called between fork and exec.
    pub fn hand_over(&self) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        // Out of the way first: one may have the other's number.
        let mut copies = [0; 2];
        for (copy, fd) in copies.iter_mut().zip(&self.0) {
            // SAFETY: a plain system call with numbers.
            *copy = nix::errno::Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16) })?;
        }
        for (copy, number) in copies.into_iter().zip([NETWORK, MOUNTS]) {
            // SAFETY: a plain system call with numbers; without CLOEXEC.
            nix::errno::Errno::result(unsafe { libc::dup2(copy, number) })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address() {
        let outside = Outside::default();
        let (one, two) = (outside.address("one.org").unwrap(), outside.address("two.org").unwrap());
        assert_eq!(outside.address("one.org"), Some(one));
        assert_eq!((outside.name(one).as_deref(), outside.name(two).as_deref()), (Some("one.org"), Some("two.org")));
        assert_eq!((outside.address("x.example"), outside.address("localhost")), (None, None));
        assert_eq!(outside.name("11.1.0.10".parse().unwrap()), None);
        assert_eq!(outside.name("11.8.0.2".parse().unwrap()), None);
    }
}
