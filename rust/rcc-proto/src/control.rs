//! `rcc allow` and `rcc deny` ↔ the launcher of a running session. Both are the person's own processes, outside.

use rcc_report::Problem;
use serde::{Deserialize, Serialize};

/// What the person wants of a running session: one packet, one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToSession {
    /// Grant these endpoints, and take denials of the same hosts back.
    Allow {
        /// In the policy's notation, with ports.
        endpoints: Vec<String>,
    },
    /// Deny these, and take grants of them back.
    Deny {
        /// In the notation of the policy's `deny`.
        endpoints: Vec<String>,
    },
    /// Take denials of these back, and grant nothing.
    Undeny {
        /// In the notation of the policy's `deny`.
        endpoints: Vec<String>,
    },
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromSession {
    /// It is in force.
    Done {
        /// Connections that were aborted.
        cut: u32,
    },
    /// Nothing changed.
    Refused {
        /// Why.
        problem: Problem,
    },
}
