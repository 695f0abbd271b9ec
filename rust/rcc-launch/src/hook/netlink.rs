//! The little of netlink that the hook speaks: requests that the kernel acknowledges, to rtnetlink and to `nf_tables`.
//!
//! Sources: linux/netlink.h, linux/rtnetlink.h, `linux/netfilter/nf_tables.h`; rtnetlink(7). Why this is own code:
//! docs/decisions/0004.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A netlink request under construction: header, fixed part, attributes.
pub struct Message {
    bytes: Vec<u8>,
}

const HEADER: usize = 16;

impl Message {
    /// A request of `kind` with `flags` besides `NLM_F_REQUEST` and its fixed part.
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or(u16::MAX);
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Appends an attribute.
    #[must_use]
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        put_attr(&mut self.bytes, kind, value);
        self
    }

    /// Appends a string attribute, zero-terminated as the kernel wants it.
    #[must_use]
    pub fn string(self, kind: u16, value: &str) -> Self {
        let mut z = value.as_bytes().to_vec();
        z.push(0);
        self.attr(kind, &z)
    }

    /// Appends a nested attribute.
    #[must_use]
    pub fn nest(self, kind: u16, inner: &Nest) -> Self {
        self.attr(kind | NLA_F_NESTED, &inner.bytes)
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

const NLA_F_NESTED: u16 = 0x8000;

/// Attributes within an attribute.
#[derive(Default)]
pub struct Nest {
    bytes: Vec<u8>,
}

impl Nest {
    /// Appends an attribute.
    #[must_use]
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        put_attr(&mut self.bytes, kind, value);
        self
    }

    /// Appends a string attribute.
    #[must_use]
    pub fn string(self, kind: u16, value: &str) -> Self {
        let mut z = value.as_bytes().to_vec();
        z.push(0);
        self.attr(kind, &z)
    }

    /// Appends a nested attribute.
    #[must_use]
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.attr(kind | NLA_F_NESTED, &inner.bytes)
    }
}

fn put_attr(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A socket of one netlink family.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens it in the network namespace that the thread is in.
    pub fn open(protocol: SockProtocol) -> nix::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 1 })
    }

    /// Sends each request and waits for the kernel's word on it.
    pub fn request(&mut self, messages: Vec<Message>) -> io::Result<()> {
        for message in messages {
            self.batch(vec![message], None)?;
        }
        Ok(())
    }

    /// Sends requests in one packet, between the begin and end marks of `frame` if it is a transaction, and waits for
    /// the kernel's word on each request.
    pub fn batch(&mut self, messages: Vec<Message>, frame: Option<(Message, Message)>) -> io::Result<()> {
        let mut packet = Vec::new();
        let mut awaited = Vec::new();
        let (begin, end) = frame.unzip();
        if let Some(begin) = begin {
            packet.extend(begin.finish(self.next()));
        }
        for mut message in messages {
            message.bytes[6] |= u8::try_from(libc::NLM_F_ACK).unwrap_or(0);
            let sequence = self.next();
            awaited.push(sequence);
            packet.extend(message.finish(sequence));
        }
        if let Some(end) = end {
            packet.extend(end.finish(self.next()));
        }
        sendto(self.socket.as_raw_fd(), &packet, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = vec![0; 16 * 1024];
        while !awaited.is_empty() {
            let n = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            for (sequence, error) in acknowledgements(&answer[..n])? {
                if error != 0 {
                    return Err(io::Error::from_raw_os_error(error));
                }
                awaited.retain(|s| *s != sequence);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }
}

/// The (sequence, errno) pairs in a packet from the kernel.
fn acknowledgements(mut packet: &[u8]) -> io::Result<Vec<(u32, i32)>> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "short netlink answer");
    let word = |b: &[u8], at: usize| -> io::Result<[u8; 4]> {
        b.get(at..at + 4).and_then(|s| s.try_into().ok()).ok_or_else(short)
    };
    let mut out = Vec::new();
    while !packet.is_empty() {
        let length = u32::from_ne_bytes(word(packet, 0)?) as usize;
        let kind = u16::from_ne_bytes(packet.get(4..6).and_then(|s| s.try_into().ok()).ok_or_else(short)?);
        if length < HEADER || length > packet.len() {
            return Err(short());
        }
        if i32::from(kind) == libc::NLMSG_ERROR {
            out.push((u32::from_ne_bytes(word(packet, 8)?), -i32::from_ne_bytes(word(packet, HEADER)?)));
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(out)
}
