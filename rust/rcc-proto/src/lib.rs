//! The versioned protocol of launcher, hook and gateway.
//!
//! Both conversations run over Unix `SOCK_SEQPACKET` sockets: one JSON object a packet, file descriptors beside it
//! (`SCM_RIGHTS`). Pure: this crate encodes and decodes; it opens nothing.
//!
//! **Launcher ↔ gateway** ([`GATEWAY_SOCKET`]), a connection a session; dropping it ends the session:
//!
//! | launcher | gateway |
//! |---|---|
//! | [`ToGateway::Open`] | [`FromGateway::Opened`] or [`FromGateway::Refused`] |
//! | [`ToGateway::Listen`] + 3 sockets | [`FromGateway::Listening`] or [`FromGateway::Refused`] |
//! | [`ToGateway::Forward`] in the place of `Listen` | [`FromGateway::Ticket`], later [`FromGateway::Listening`] |
//! | [`ToGateway::Grants`] (1.1) | [`FromGateway::Granted`], or [`FromGateway::Refused`] and nothing changed |
//! | [`ToGateway::End`] (1.1) | [`FromGateway::Summary`] |
//! | | at any time [`FromGateway::Closing`], then the end |
//!
//! **Hook ↔ launcher** (a socket in the session's own folder):
//!
//! | hook | launcher |
//! |---|---|
//! | [`FromHook::Hello`] | [`ToHook::Spec`] |
//! | [`FromHook::Sockets`] + 3 sockets, or [`FromHook::Failed`] | [`ToHook::Go`], or the end |
//!
//! **`rcc allow` ↔ launcher** (another socket in that folder, for the person's own processes outside):
//!
//! | person | launcher |
//! |---|---|
//! | [`ToSession`] | [`FromSession`], then the end |
//!
//! The listening sockets go through the launcher rather than straight to the gateway, so that a session is exactly
//! one connection and there is no token to steal (docs/decisions/0002).

mod control;
pub mod forwarded;
mod hook;
pub mod macos;
mod secret;
mod version;

pub use control::{FromSession, ToSession};
pub use hook::{Cover, FromHook, HookSpec, MountCheck, Protected, ToHook, WallLimits};
pub use secret::Secret;
pub use version::{TooFar, VERSION, Version};

use rcc_report::Problem;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::Ipv4Addr;

/// Where the gateway listens. Its folder belongs to root, so no other program of the user's can pose as it.
pub const GATEWAY_SOCKET: &str =
    if cfg!(target_os = "macos") { macos::GATEWAY_SOCKET } else { "/run/rcc/gateway.sock" };
/// Where the gateway gives people their own lines of the log: packets of whole lines, an empty line after those that were
/// there already, then new ones for as long as the caller stays. Nothing is read from the caller.
pub const LOG_SOCKET: &str = if cfg!(target_os = "macos") { macos::LOG_SOCKET } else { "/run/rcc/log.sock" };
/// Where systemd starts what reads the host firewall back and says it as one JSON object. Nothing is read from the caller.
pub const STATUS_SOCKET: &str = if cfg!(target_os = "macos") { macos::STATUS_SOCKET } else { "/run/rcc/status.sock" };
/// The longest packet of either conversation, in bytes. A longer one is cut by the kernel (`MSG_TRUNC`) and refused.
pub const MAX_PACKET: usize = 64 * 1024;
/// The most descriptors that the kernel lets one packet bring (`SCM_MAX_FD` of unix(7)). Who receives makes room for all:
/// of what has none, a part is installed that nobody is told of.
pub const MOST_DESCRIPTORS: usize = 253;
/// The system user that the gateway runs as.
pub const GATEWAY_USER: &str = if cfg!(target_os = "macos") { macos::USER } else { "rcc" };
/// The number of sockets that go with [`ToGateway::Listen`] and [`FromHook::Sockets`], in this order: redirected TCP,
/// DNS over UDP, DNS over TCP.
pub const LISTEN_SOCKETS: usize = 3;

/// The addresses that stand for names: 198.18.0.0/15 (RFC 2544, never on the public internet).
pub const STAND_IN_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
/// The resolver's own address within that range.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The port on 127.0.0.1 in the session's network namespace that redirected TCP comes to.
pub const REDIRECT_PORT: u16 = 47080;
/// The name under which the agent finds its model's API, in plain HTTP; the gateway adds the key and speaks TLS.
pub const ANTHROPIC_ENDPOINT: &str = "anthropic.rcc.internal";

/// The name at which the gateway tells the agent, in plain HTTP, what was denied and how the person can allow it.
pub const REPORT_HOST: &str = "rcc.internal";

/// What a launcher says to the gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToGateway {
    /// The first packet of a connection.
    Open(Open),
    /// Take these sockets, [`LISTEN_SOCKETS`] of them, all made in one network namespace that is not the host's.
    Listen,
    /// The agent runs in a virtual machine: a forwarder there has the sockets, and brings this session's connections with the
    /// ticket that this is answered with (docs/decisions/0033). A gateway that does not know this refuses it.
    Forward,
    /// From now on these are the session's grants, all of them, in the notation of [`Open::grants`]. After `Listen`;
    /// since 1.1.
    Grants {
        /// The whole list.
        grants: Vec<String>,
    },
    /// The agent has ended; what did it do? After `Listen`; since 1.1.
    End,
}

/// What a session is to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    /// The launcher's version of the protocol.
    pub version: Version,
    /// The project's path, for the log and for people. Not trusted.
    pub project: String,
    /// What runs: `claude`, `shell`, `run`. For the log. Not trusted.
    pub agent: String,
    /// Endpoints that the person granted this project, in the policy's notation; the gateway caps them by `may_allow`.
    /// Since 1.1 also what the person denies: an entry of `deny` behind a `!`.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Keys for credential endpoints. They live in the worker's memory for this session alone.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// To a forwarder: the ticket of the session, which exists on the host already. To a gateway: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Secret>,
}

/// A key for one credential endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct Credential {
    /// The endpoint's name inside, such as [`ANTHROPIC_ENDPOINT`].
    pub endpoint: String,
    /// How upstream wants to see it.
    pub kind: CredentialKind,
    /// The key itself.
    pub secret: Secret,
}

/// How a key is presented upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// `x-api-key: KEY`.
    ApiKey,
    /// `authorization: Bearer TOKEN`, of a subscription.
    OauthToken,
}

/// What the gateway says to a launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromGateway {
    /// The session exists; send the sockets.
    Opened(Opened),
    /// The sockets were taken; the agent may start.
    Listening,
    /// The session waits for its forwarder; `Listening` follows when that is ready.
    Ticket {
        /// For [`Open::ticket`], good for one use.
        ticket: Secret,
    },
    /// The grants are in force.
    Granted {
        /// Connections that were aborted, since they are no longer allowed.
        cut: u32,
    },
    /// What the session did.
    Summary(Summary),
    /// Before `Listening`: no session, the connection ends. Later: the grants are as they were before.
    Refused {
        /// Why not.
        problem: Problem,
    },
    /// The host firewall is not proven, so nothing of the session moves until `Released`. Since 1.1.
    Held {
        /// What is wrong with it.
        problem: Problem,
    },
    /// It is proven again. Since 1.1.
    Released,
    /// The session is being ended by the gateway.
    Closing {
        /// Why.
        problem: Problem,
    },
}

/// A session as the gateway made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// The gateway's version of the protocol.
    pub version: Version,
    /// The session's number in the log: 16 hex digits.
    pub session: String,
    /// The fingerprint of the policy in force, 16 hex digits.
    pub fingerprint: String,
    /// Address ranges that the policy names as endpoints (`10.0.0.0/8`), for which the hook adds routes.
    #[serde(default)]
    pub ranges: Vec<String>,
    /// The names of the credential endpoints that have a key in this session.
    #[serde(default)]
    pub credential_endpoints: Vec<String>,
}

/// What a session did, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Hosts with which bytes were exchanged, the most first; not the credential endpoints.
    pub reached: Vec<Reached>,
    /// Further ones.
    pub more_reached: u64,
    /// Hosts that were denied, the latest first.
    pub denied: Vec<Denied>,
    /// Further ones.
    pub more_denied: u64,
}

/// A host that the agent exchanged bytes with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The name or address. The agent may have chosen it, within the policy.
    pub host: String,
    /// Bytes that the agent sent.
    pub up: u64,
    /// Bytes that it got.
    pub down: u64,
}

/// A host that the agent was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The name or address: whatever the agent chose, escaped.
    pub host: String,
    /// What the person can give `rcc allow` to allow it, if the policy leaves that to a person.
    pub grant: Option<String>,
}

/// Why a packet could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Longer than [`MAX_PACKET`].
    #[error("packet of {0} bytes; at most {MAX_PACKET} are taken")]
    TooLong(usize),
    /// Not the JSON of a known message. The parser's text is left out on purpose: it could quote a key.
    #[error("not a message of this protocol")]
    Malformed,
}

/// A message as the bytes of one packet. Written in place: a buffer that grew would leave parts of a key behind.
pub fn encode<T: Serialize>(message: &T) -> Result<zeroize::Zeroizing<Vec<u8>>, PacketError> {
    let mut packet = Packet { bytes: zeroize::Zeroizing::new(Vec::with_capacity(MAX_PACKET)), length: 0 };
    serde_json::to_writer(&mut packet, message).map_err(|_| PacketError::Malformed)?;
    if packet.length > MAX_PACKET { Err(PacketError::TooLong(packet.length)) } else { Ok(packet.bytes) }
}

/// A packet that is being written; what exceeds [`MAX_PACKET`] is counted, not kept.
struct Packet {
    bytes: zeroize::Zeroizing<Vec<u8>>,
    length: usize,
}

impl std::io::Write for Packet {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        self.length += part.len();
        if self.length <= MAX_PACKET {
            self.bytes.extend_from_slice(part);
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The message in one packet. Fields that this version does not know are passed over, so that the next minor version
/// can add some.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, PacketError> {
    if packet.len() > MAX_PACKET {
        return Err(PacketError::TooLong(packet.len()));
    }
    serde_json::from_slice(packet).map_err(|_| PacketError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open {
            version: VERSION,
            project: "/home/a/p".into(),
            agent: "claude".into(),
            grants: vec![],
            credentials: vec![Credential {
                endpoint: ANTHROPIC_ENDPOINT.into(),
                kind: CredentialKind::ApiKey,
                secret: Secret::new("sk-secret-value".into()),
            }],
            ticket: None,
        }
    }

    #[test]
    fn a_message_survives_the_way() {
        let packet = encode(&ToGateway::Open(open())).unwrap();
        let ToGateway::Open(back) = decode(&packet).unwrap() else { panic!("another message") };
        assert_eq!(back.credentials[0].secret.expose(), "sk-secret-value");
    }

    #[test]
    fn a_packet_is_written_in_place() {
        let mut long = open();
        long.project = "x".repeat(MAX_PACKET / 2);
        for message in [open(), long] {
            assert_eq!(encode(&ToGateway::Open(message)).unwrap().capacity(), MAX_PACKET, "never grown");
        }
    }

    #[test]
    fn a_later_minor_version_may_add_fields() {
        let packet = br#"{"type":"open","version":{"major":1,"minor":1},"project":"/p","agent":"x","new":[1,2]}"#;
        let ToGateway::Open(open) = decode(packet).unwrap() else { panic!("another message") };
        assert_eq!(open.version.minor, 1);
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_key() {
        assert!(!format!("{:?}", open()).contains("sk-secret"));
        let wrong = br#"{"type":"open","version":"sk-secret-value"}"#;
        assert!(!decode::<ToGateway>(wrong).unwrap_err().to_string().contains("sk-secret"));
    }

    #[test]
    fn an_oversized_packet_is_refused() {
        let mut long = open();
        long.project = "x".repeat(MAX_PACKET);
        assert!(matches!(encode(&ToGateway::Open(long)), Err(PacketError::TooLong(n)) if n > MAX_PACKET));
        assert!(matches!(decode::<ToGateway>(&vec![b' '; MAX_PACKET + 1]), Err(PacketError::TooLong(_))));
    }
}
