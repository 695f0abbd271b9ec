//! Conversations in whole packets over Unix sockets.
//!
//! On Linux the kernel keeps packets apart (`SOCK_SEQPACKET`). macOS has no such sockets: there a stream carries each packet
//! behind its length (32 bits, big-endian), and descriptors never come along.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// What came, at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Nothing, or the beginning of a packet.
    Nothing,
    /// The end.
    End,
    /// A packet of so many bytes.
    Packet(usize),
}

/// The kind of socket that carries packets, for `socket(2)`.
pub const KIND: libc::c_int = if cfg!(target_os = "linux") { libc::SOCK_SEQPACKET } else { libc::SOCK_STREAM };

/// Linux closes on exec what it makes from the first moment on; a Mac, from when [`prepare`] says so.
#[cfg(target_os = "linux")]
const CLOSED_ON_EXEC: libc::c_int = libc::SOCK_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSED_ON_EXEC: libc::c_int = 0;

/// What the system says of an error, in words alone.
#[must_use]
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

/// Connects to a socket in the file system. Nothing that this process starts has the descriptor.
pub fn call(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    let (address, length) = address(path)?;
    // SAFETY: the address is a whole `sockaddr_un`, of which the kernel reads `length` bytes.
    done(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

/// A socket for packets, which blocks; nothing that this process starts has it.
pub fn new() -> io::Result<OwnedFd> {
    // SAFETY: numbers alone.
    let fd = done(unsafe { libc::socket(libc::AF_UNIX, KIND | CLOSED_ON_EXEC, 0) })?;
    // SAFETY: the kernel just made this descriptor; nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    prepare(&socket)?;
    Ok(socket)
}

/// What a socket that the kernel just made must have: it is closed on exec, no signal comes when its peer is gone, and a
/// packet finds room.
pub fn prepare(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: numbers alone.
    done(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    #[cfg(target_os = "macos")]
    for (option, value) in [(libc::SO_NOSIGPIPE, 1), (libc::SO_SNDBUF, ROOM), (libc::SO_RCVBUF, ROOM)] {
        set(socket, option, value)?;
    }
    Ok(())
}

/// Bytes that fit into a socket at least: two packets. (8 KiB otherwise.)
#[cfg(target_os = "macos")]
const ROOM: libc::c_int = 256 << 10;

#[cfg(target_os = "macos")]
fn set(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one int.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), size) };
    done(set).map(drop)
}

/// The address of a path, and how much of it counts.
pub fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all zeroes are a `sockaddr_un` without an address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) || bytes.is_empty() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let size = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    #[cfg(target_os = "macos")]
    {
        address.sun_len = u8::try_from(size).map_err(io::Error::other)?;
    }
    Ok((address, size))
}

/// The user id of the process at the other end, as it was when it connected or listened.
#[cfg(target_os = "linux")]
pub fn peer(socket: impl AsFd) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = libc::socklen_t::try_from(size_of_val(&credentials)).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes `size` bytes at most to `credentials`.
    done(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut credentials).cast(), &raw mut size)
    })?;
    Ok(credentials.uid)
}

/// The user id of the process at the other end, as it was when it connected or listened.
#[cfg(target_os = "macos")]
pub fn peer(socket: impl AsFd) -> io::Result<u32> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the kernel writes two ids.
    done(unsafe { libc::getpeereid(socket.as_fd().as_raw_fd(), &raw mut uid, &raw mut gid) })?;
    Ok(uid)
}

/// Sends a packet, waiting for room.
pub fn send(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return whole::send(&socket, packet, 0);
    #[cfg(not(target_os = "linux"))]
    framed::send(&socket, packet, false)
}

/// Sends a packet if there is room for it now.
pub fn send_now(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return whole::send(&socket, packet, libc::MSG_DONTWAIT);
    #[cfg(not(target_os = "linux"))]
    framed::send(&socket, packet, true)
}

/// Waits for a packet; 0 at the end. One that is longer than the buffer is an error.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    return whole::receive(&socket, buffer, 0);
    #[cfg(not(target_os = "linux"))]
    framed::receive(&socket, buffer)
}

/// Takes a packet if one is there.
pub fn receive_now(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Came> {
    #[cfg(target_os = "linux")]
    let came =
        whole::receive(&socket, buffer, libc::MSG_DONTWAIT).map(|n| if n == 0 { Came::End } else { Came::Packet(n) });
    #[cfg(not(target_os = "linux"))]
    let came = framed::receive_now(&socket, buffer);
    match came {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(Came::Nothing),
        Err(e) if e.raw_os_error() == Some(libc::ECONNRESET) => Ok(Came::End),
        other => other,
    }
}

fn done(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet is longer than the protocol allows")
}

#[cfg(target_os = "linux")]
mod whole {
    use super::{AsFd, AsRawFd, count, io, too_long};

    pub fn send(socket: &impl AsFd, packet: &[u8], flags: libc::c_int) -> io::Result<()> {
        let (fd, flags) = (socket.as_fd().as_raw_fd(), flags | libc::MSG_NOSIGNAL);
        // SAFETY: the kernel reads the packet's own bytes.
        count(unsafe { libc::send(fd, packet.as_ptr().cast(), packet.len(), flags) }).map(drop)
    }

    pub fn receive(socket: &impl AsFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
        let (fd, flags) = (socket.as_fd().as_raw_fd(), flags | libc::MSG_TRUNC);
        // SAFETY: the kernel writes `buffer.len()` bytes at most; with MSG_TRUNC it says how many there were.
        let n = count(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) })?;
        if n > buffer.len() { Err(too_long()) } else { Ok(n) }
    }
}

/// For systems whose Unix sockets keep no packets apart.
#[cfg(any(test, not(target_os = "linux")))]
mod framed {
    use super::{AsFd, AsRawFd, Came, count, io, too_long};

    const LENGTH: usize = 4;
    /// On other systems the socket itself was told.
    #[cfg(target_os = "linux")]
    const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    const NO_SIGNAL: libc::c_int = 0;

    pub fn send(socket: &impl AsFd, packet: &[u8], now: bool) -> io::Result<()> {
        let length = u32::try_from(packet.len()).map_err(io::Error::other)?.to_be_bytes();
        let fd = socket.as_fd().as_raw_fd();
        let flags = NO_SIGNAL | if now { libc::MSG_DONTWAIT } else { 0 };
        let mut sent = 0;
        while sent < LENGTH + packet.len() {
            let head = &length[sent.min(LENGTH)..];
            let rest = &packet[sent.saturating_sub(LENGTH)..];
            let parts = [head, rest].map(|p| libc::iovec { iov_base: p.as_ptr().cast_mut().cast(), iov_len: p.len() });
            match message(&parts, |m| {
                // SAFETY: the kernel reads the two parts, which live.
                unsafe { libc::sendmsg(fd, m, flags) }
            }) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    if sent > 0 {
                        // What follows half a packet would be taken for its rest.
                        // SAFETY: numbers alone.
                        unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                    }
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Calls `f` with a message of these parts.
    fn message(parts: &[libc::iovec; 2], f: impl FnOnce(&mut libc::msghdr) -> isize) -> io::Result<usize> {
        // SAFETY: all zeroes are a message without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_ptr().cast_mut();
        message.msg_iovlen = 2;
        count(f(&mut message))
    }

    pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = [0; LENGTH];
        if all(socket, &mut length)? == 0 {
            return Ok(0);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        let packet = buffer.get_mut(..length).filter(|p| !p.is_empty()).ok_or_else(too_long)?;
        if all(socket, packet)? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(length) }
    }

    /// Fills the buffer; 0 if the end came before its first byte.
    fn all(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = socket.as_fd().as_raw_fd();
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // SAFETY: the kernel writes `rest.len()` bytes at most.
            match count(unsafe { libc::recv(fd, rest.as_mut_ptr().cast(), rest.len(), 0) }) {
                Ok(0) if done == 0 => return Ok(0),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Looks before it takes: nothing is kept here between two calls.
    pub fn receive_now(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Came> {
        let fd = socket.as_fd().as_raw_fd();
        let mut length = [0; LENGTH];
        let take = |length: &mut [u8; LENGTH], packet: &mut [u8], flags: libc::c_int| {
            let parts = [
                libc::iovec { iov_base: length.as_mut_ptr().cast(), iov_len: LENGTH },
                libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() },
            ];
            message(&parts, |m| {
                // SAFETY: the kernel writes to the two parts at most, which live and are nobody else's meanwhile.
                unsafe { libc::recvmsg(fd, m, flags | libc::MSG_DONTWAIT) }
            })
        };
        match take(&mut length, &mut [], libc::MSG_PEEK)? {
            0 => return Ok(Came::End),
            LENGTH => {}
            _ => return Ok(unfinished(fd)),
        }
        let size = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        let packet = buffer.get_mut(..size).filter(|p| !p.is_empty()).ok_or_else(too_long)?;
        if take(&mut length, packet, libc::MSG_PEEK)? < LENGTH + size {
            return Ok(unfinished(fd));
        }
        take(&mut length, packet, 0)?;
        Ok(Came::Packet(size))
    }

    /// Half a packet is waited for, unless nothing more can come.
    fn unfinished(fd: libc::c_int) -> Came {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one entry.
        unsafe { libc::poll(&raw mut poll, 1, 0) };
        if poll.revents & (libc::POLLHUP | libc::POLLERR) != 0 { Came::End } else { Came::Nothing }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::Write;
        use std::os::unix::net::UnixStream;

        #[test]
        fn packets_stay_apart_on_a_stream() {
            let (a, b) = UnixStream::pair().unwrap();
            let mut buffer = [0; 100];
            assert_eq!(receive_now(&b, &mut buffer).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            for packet in [&b"one"[..], b"and another", b"x"] {
                send(&a, packet, true).unwrap();
            }
            assert_eq!(receive_now(&b, &mut buffer).unwrap(), Came::Packet(3));
            assert_eq!(&buffer[..3], b"one");
            assert_eq!(receive(&b, &mut buffer).unwrap(), 11);
            assert_eq!(&buffer[..11], b"and another");
            drop(a);
            assert_eq!(receive_now(&b, &mut buffer).unwrap(), Came::Packet(1));
            assert_eq!((receive_now(&b, &mut buffer).unwrap(), receive(&b, &mut buffer).unwrap()), (Came::End, 0));
        }

        #[test]
        fn half_a_packet_is_waited_for_and_is_none_at_the_end() {
            let (mut a, b) = UnixStream::pair().unwrap();
            let whole = [&4_u32.to_be_bytes()[..], b"text"].concat();
            let mut buffer = [0; 100];
            for n in 0..whole.len() {
                a.write_all(&whole[n..=n]).unwrap();
                let came = if n + 1 == whole.len() { Came::Packet(4) } else { Came::Nothing };
                assert_eq!(receive_now(&b, &mut buffer).unwrap(), came, "{n}");
            }
            a.write_all(&whole[..6]).unwrap();
            drop(a);
            assert_eq!(receive_now(&b, &mut buffer).unwrap(), Came::End);
            assert_eq!(receive(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }

        #[test]
        fn a_length_beyond_the_buffer_is_an_error_and_takes_no_memory() {
            for length in [0, 101, u32::MAX] {
                let (mut a, b) = UnixStream::pair().unwrap();
                a.write_all(&length.to_be_bytes()).unwrap();
                let mut buffer = [0; 100];
                assert_eq!(receive_now(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
                assert_eq!(receive(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        }

        #[test]
        fn where_half_a_packet_went_out_nothing_follows() {
            let (a, b) = UnixStream::pair().unwrap();
            let long = vec![7; 8 << 20];
            assert_eq!(send(&a, &long, true).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            assert_eq!(send(&a, b"next", true).unwrap_err().raw_os_error(), Some(libc::EPIPE));
            let mut buffer = vec![0; 8 << 20];
            assert_eq!(receive(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_finds_who_listens_and_tells_the_peer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = new().unwrap();
        let (address, size) = address(&path).unwrap();
        // SAFETY: a whole address; then numbers alone.
        unsafe {
            done(libc::bind(listener.as_raw_fd(), (&raw const address).cast(), size)).unwrap();
            done(libc::listen(listener.as_raw_fd(), 1)).unwrap();
        }
        let caller = call(&path).unwrap();
        // SAFETY: numbers and null pointers; the descriptor is new.
        let answering = unsafe {
            let fd = done(libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut())).unwrap();
            OwnedFd::from_raw_fd(fd)
        };
        let mut buffer = [0; 8];
        assert_eq!(receive_now(&answering, &mut buffer).unwrap(), Came::Nothing);
        send_now(&caller, b"one").unwrap();
        send(&caller, b"a long one").unwrap();
        assert_eq!(receive(&answering, &mut buffer).unwrap(), 3);
        assert_eq!(receive_now(&answering, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // SAFETY: takes nothing.
        assert_eq!(peer(&answering).unwrap(), unsafe { libc::getuid() });
        drop(caller);
        assert_eq!(receive_now(&answering, &mut buffer).unwrap(), Came::End);
        for bad in ["", &"x".repeat(200)] {
            assert!(call(Path::new(bad)).is_err());
        }
    }
}
