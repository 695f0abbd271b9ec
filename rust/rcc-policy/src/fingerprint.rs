//! A policy's fingerprint: what the firewall's rules carry, so that drift is a comparison.

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The address at which unprivileged code sees whether the firewall is in force: loopback, so that it works offline, and
/// nobody's.
const CANARY: Ipv4Addr = Ipv4Addr::new(127, 82, 67, 67);

/// The first 64 bits of the SHA-256 of a policy's canonical rendering. Shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a rendering.
    pub(crate) fn of(rendering: &str) -> Self {
        let digest = <[u8; 32]>::from(Sha256::digest(rendering.as_bytes()));
        Self(digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }

    /// The fingerprint in 16 hex digits, as [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if plain { u64::from_str_radix(text, 16).ok().map(Self) } else { None }
    }

    /// Where the firewall of this policy, and of no other, lets UDP of the gateway's go; to any other port there, it refuses
    /// it (EPERM, at once). The port is 1024 to 65535.
    #[must_use]
    pub fn canary(self) -> SocketAddrV4 {
        let port = 1024 + self.0 % (65536 - 1024);
        SocketAddrV4::new(CANARY, u16::try_from(port).unwrap_or(u16::MAX))
    }

    /// The same on a Mac, where a refusal by pf is silence and so the canary must be what is answered: a port of loopback
    /// itself, below those that macOS gives to who asks for none (49152 and up), and with another beside it.
    #[must_use]
    pub fn mac_canary(self) -> SocketAddrV4 {
        let port = 1024 + self.0 % (49_151 - 1024);
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or(u16::MAX))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
