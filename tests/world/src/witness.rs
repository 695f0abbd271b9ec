//! The witness log: one JSON line for everything that reached any server.
//!
//! Invariant: a hit is in the file before its server answers, in one `write` with `O_APPEND`, so lines of several
//! processes never mix, and a client that has its answer finds the hit.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::token;

static LOG: OnceLock<File> = OnceLock::new();

/// What kind of thing reached a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A connection was accepted; nothing is known of what it carries.
    #[default]
    Connect,
    /// A TLS `ClientHello` was read.
    Hello,
    /// A TLS handshake failed; `data` says why.
    TlsFailed,
    /// An HTTP request, body included.
    Request,
    /// Raw bytes on a connection.
    Data,
    /// A UDP datagram.
    Datagram,
    /// A DNS question.
    Query,
}

/// One line of the witness log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Seconds since the epoch.
    pub t: f64,
    /// Which server: `web`, `model`, `metadata`, `router`, `printer`, `proxy`, `dns`, `ssh`, `udp`, `host:…`.
    pub server: String,
    /// `tcp`, `tls`, `udp`, `unix`.
    pub proto: String,
    /// What reached it.
    pub event: Event,
    /// The address and port that the client meant, or the socket's path.
    pub local: String,
    /// Where it came from.
    pub peer: String,
    /// The name asked for: DNS question, Host header without port, else the SNI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The SNI, if there was TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// HTTP method, or DNS query type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// HTTP target as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Length of the body, datagram or data.
    #[serde(default)]
    pub bytes: u64,
    /// Every token that was seen in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
    /// The beginning of the body, datagram or data, printable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
}

/// Opens the log; once a process.
pub fn open(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let _first_wins = LOG.set(file);
    Ok(())
}

/// Seconds since the epoch.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The first 400 bytes as printable text.
#[must_use]
pub fn printable(data: &[u8]) -> String {
    String::from_utf8_lossy(&data[..data.len().min(400)])
        .chars()
        .map(|c| if c.is_control() { '·' } else { c })
        .collect()
}

impl Hit {
    /// A hit of now.
    #[must_use]
    pub fn new(server: &str, proto: &str, event: Event, local: &str, peer: &str) -> Self {
        Self {
            t: now(),
            server: server.into(),
            proto: proto.into(),
            event,
            local: local.to_string(),
            peer: peer.to_string(),
            ..Self::default()
        }
    }

    /// Adds what was carried: its length, its beginning and its tokens.
    #[must_use]
    pub fn carrying(mut self, data: &[u8]) -> Self {
        self.bytes += data.len() as u64;
        self.data = printable(data);
        self.also_in(data)
    }

    /// Adds the tokens in `data`, which is not itself recorded.
    #[must_use]
    pub fn also_in(mut self, data: &[u8]) -> Self {
        for token in token::all_in(data) {
            if !self.tokens.contains(&token) {
                self.tokens.push(token);
            }
        }
        self
    }

    /// Appends it to the log, if this process has one.
    ///
    /// # Panics
    /// Never: a hit is always JSON.
    pub fn record(self) {
        let Some(mut log) = LOG.get() else { return };
        let mut line = serde_json::to_vec(&self).expect("a hit is JSON");
        line.push(b'\n');
        if let Err(e) = log.write_all(&line) {
            eprintln!("rcc-world: the witness log can't be written: {e}");
        }
    }
}
