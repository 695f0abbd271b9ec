//! The table of attempts, one file a class.

pub mod dns;
pub mod files;
pub mod gateway;
pub mod kernel;
pub mod local;
pub mod network;
pub mod process;
pub mod terminal;

use crate::Attack;

/// Attempts that belong together; they share an agent's run.
pub struct Class {
    /// Its heading.
    pub title: &'static str,
    /// The attempts.
    pub attacks: &'static [Attack],
}

/// All of them.
pub const CLASSES: &[Class] = &[
    Class { title: "Network", attacks: network::ATTACKS },
    Class { title: "Names", attacks: dns::ATTACKS },
    Class { title: "The gateway", attacks: gateway::ATTACKS },
    Class { title: "The host's sockets", attacks: local::ATTACKS },
    Class { title: "Files", attacks: files::ATTACKS },
    Class { title: "Kernel surface", attacks: kernel::ATTACKS },
    Class { title: "Processes and /proc", attacks: process::ATTACKS },
    Class { title: "Terminal", attacks: terminal::ATTACKS },
];
