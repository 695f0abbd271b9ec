//! What a forwarder in a virtual machine says to the gateway on the host, a stream socket each: one for the session's
//! conversation, one for its DNS datagrams, one for each connection. Every stream begins with a [`Header`] of fixed length, so
//! that the gateway's supervisor parses nothing else of what a virtual machine sent.
//!
//! After its header, what a stream carries are frames: a length of 16 bits, big-endian, and so many bytes.
//!
//! | stream | frames |
//! |---|---|
//! | [`Stream::Control`] | gateway: [`SECRET`] bytes that open the session's other streams, then [`crate::Opened`]; from then on packets as between launcher and gateway, of the forwarder's only `listen` and `end` |
//! | [`Stream::Dns`] | [`DNS_MARK`] bytes that the answer brings back as they were, and a DNS message |
//! | [`Stream::Connection`], [`Stream::DnsTcp`] | bytes of the connection; a frame of length 0 is its orderly end, the length [`ABORTED`] its abort, and so is the end of a stream without either |
//!
//! The ends are said, since what lies between (the network that a virtual machine's monitor makes up) passes on neither
//! resets nor half-closed connections reliably.

use crate::Secret;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use subtle::ConstantTimeEq;

pub use crate::macos::FORWARD_PORT;

/// The Unix socket where the gateway hears forwarders that come by a virtual machine's own channel to its host (vsock).
pub const FORWARD_SOCKET: &str = "/run/rcc/forward.sock";
/// Bytes of a secret.
pub const SECRET: usize = 32;
/// Bytes before a DNS message in its frame.
pub const DNS_MARK: usize = 6;
/// A length that says that the connection was aborted; no frame follows.
pub const ABORTED: u16 = u16::MAX;
/// Bytes of a header.
pub const HEADER: usize = 64;
/// Bytes of a header that say what the stream is for.
pub const STREAM: usize = 20;
/// What a header begins with, and the version of all this.
const MAGIC: [u8; 4] = *b"rcc\x01";

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The session's conversation.
    Control,
    /// Its DNS datagrams.
    Dns,
    /// A connection of the agent's to this address.
    Connection(SocketAddr),
    /// A connection of the agent's for DNS.
    DnsTcp,
}

impl Stream {
    /// As bytes: kind, family, port, address, each in its place.
    #[must_use]
    pub fn bytes(self) -> [u8; STREAM] {
        let mut bytes = [0; STREAM];
        bytes[0] = match self {
            Self::Control => 1,
            Self::Dns => 2,
            Self::Connection(_) => 3,
            Self::DnsTcp => 4,
        };
        if let Self::Connection(to) = self {
            bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
            match to.ip() {
                IpAddr::V4(ip) => {
                    bytes[1] = 4;
                    bytes[4..8].copy_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes[1] = 6;
                    bytes[4..].copy_from_slice(&ip.octets());
                }
            }
        }
        bytes
    }

    /// From bytes. What [`Self::bytes`] would not have made is nothing.
    #[must_use]
    pub fn parse(bytes: &[u8; STREAM]) -> Option<Self> {
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let address: [u8; 16] = bytes[4..].try_into().ok()?;
        let stream = match (bytes[0], bytes[1]) {
            (1, 0) => Self::Control,
            (2, 0) => Self::Dns,
            (3, 4) => {
                let [a, b, c, d, ..] = address;
                Self::Connection((Ipv4Addr::new(a, b, c, d), port).into())
            }
            (3, 6) => Self::Connection((Ipv6Addr::from(address), port).into()),
            (4, 0) => Self::DnsTcp,
            _ => return None,
        };
        (stream.bytes() == *bytes).then_some(stream)
    }
}

/// The first bytes of a stream.
#[derive(Debug)]
pub struct Header {
    /// What the stream is for.
    pub stream: Stream,
    /// The session that it belongs to.
    pub session: u64,
    /// For [`Stream::Control`] the session's ticket, for all others what that was answered with.
    pub secret: Key,
}

impl Header {
    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..24].copy_from_slice(&self.stream.bytes());
        bytes[24..32].copy_from_slice(&self.session.to_be_bytes());
        bytes[32..].copy_from_slice(&self.secret.0);
        bytes
    }

    /// From bytes, whoever sent them. Another version's is nothing.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        if bytes[..4] != MAGIC {
            return None;
        }
        Some(Self {
            stream: Stream::parse(bytes[4..24].try_into().ok()?)?,
            session: u64::from_be_bytes(bytes[24..32].try_into().ok()?),
            secret: Key(bytes[32..].try_into().ok()?),
        })
    }
}

/// A random secret of fixed length. It is wiped when dropped, and compared in a time that does not tell where it differs.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Key(pub [u8; SECRET]);

impl Key {
    /// Whether the two are the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a launcher in the virtual machine shows to the forwarder, once: the session's number and its key, 80 hex digits.
#[must_use]
pub fn ticket(session: &str, key: &Key) -> Secret {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(16 + 2 * SECRET);
    text.push_str(session);
    for byte in key.0 {
        let _infallible = write!(text, "{byte:02x}");
    }
    Secret::new(text)
}

/// The number and the key of a ticket.
#[must_use]
pub fn torn(ticket: &Secret) -> Option<(u64, Key)> {
    let text = ticket.expose();
    if text.len() != 16 + 2 * SECRET || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = Key([0; SECRET]);
    for (i, byte) in key.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(16 + 2 * i..18 + 2 * i)?, 16).ok()?;
    }
    Some((u64::from_str_radix(&text[..16], 16).ok()?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> [Stream; 5] {
        [
            Stream::Control,
            Stream::Dns,
            Stream::DnsTcp,
            Stream::Connection("198.18.1.0:443".parse().unwrap()),
            Stream::Connection("[2600:1f00::1]:22".parse().unwrap()),
        ]
    }

    #[test]
    fn a_header_survives_the_way_and_a_byte_too_many_does_not() {
        for stream in streams() {
            let header = Header { stream, session: 0x0123_4567_89ab_cdef, secret: Key([7; SECRET]) };
            let bytes = header.bytes();
            let back = Header::parse(&bytes).unwrap();
            assert_eq!((back.stream, back.session), (stream, header.session));
            assert!(back.secret.is(&Key([7; SECRET])));
            // What says the version and the kind of stream has no bit to spare.
            for i in (0..6).chain(if matches!(stream, Stream::Connection(_)) { 0..0 } else { 6..24 }) {
                let mut other = bytes;
                other[i] ^= 0x80;
                assert!(Header::parse(&other).is_none(), "{stream:?}, byte {i}");
            }
        }
    }

    #[test]
    fn a_ticket_is_torn_into_what_it_was_made_of() {
        let mut key = Key([0; SECRET]);
        (key.0[0], key.0[31]) = (1, 255);
        let made = ticket("00000000000000ff", &key);
        let (session, back) = torn(&made).unwrap();
        assert!(session == 255 && back.is(&key) && !back.is(&Key([1; SECRET])));
        assert!(!format!("{made:?}{key:?}").contains("ff"));
        for bad in ["", "00", &"g".repeat(80), &"é".repeat(40), &"0".repeat(81)] {
            assert!(torn(&Secret::new(bad.to_owned())).is_none(), "{bad}");
        }
    }
}
