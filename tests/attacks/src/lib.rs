//! Attempts at leaving a session, as data; and the runner that has the agent make each of them, and then makes it again
//! without the wall.
//!
//! Invariant: an attempt counts only with both halves. With the wall it must fail in the documented way and no witness
//! may see its token; without the wall the same command must succeed, or the attempt proves nothing.

pub mod doc;
pub mod runner;
pub mod search;
pub mod table;

/// One attempt. Each is text for `python3`, after `from probe import *`; `T` in it is a token of this attempt alone.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its number; where it has several forms, with a letter.
    pub id: &'static str,
    /// What is tried, in a few words.
    pub what: &'static str,
    /// How.
    pub command: &'static str,
    /// Where its token turns up if it succeeds.
    pub trace: Trace,
    /// The same without the wall.
    pub control: Control,
    /// How it is denied.
    pub denied: Expect,
}

/// Where a token turns up when an attempt succeeds.
#[derive(Clone, Copy, Debug)]
pub enum Trace {
    /// At a server of the world, or in a packet.
    Wire,
    /// In what the command prints: it was planted in these files of the host's beforehand.
    Planted(&'static [&'static str]),
    /// In this file of the host's.
    File(&'static str),
    /// Nowhere: the command's own success says it.
    Success,
}

/// Who makes the attempt without the wall, and must succeed.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// The person, on the host.
    User,
    /// The person, in plain `podman run --rootfs` with Podman's own defaults.
    Podman,
    /// Root on the host: what a container's root would have, were the walls down.
    Root,
    /// This machine's kernel or safety allows no success, but the kernel's own code answers with another errno.
    Reaches(&'static str),
    /// Nobody, for this reason. Counted by itself.
    None(&'static str),
}

/// How an attempt ends with the wall.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// With this errno, every part of it.
    Errno(&'static str),
    /// A program ends with this code.
    Exit(&'static str, i32),
    /// It finds nothing to begin with; so it says.
    Finds(&'static str),
    /// It is answered, but nothing of it leaves, for this reason.
    Harmless(&'static str),
}

impl Expect {
    /// The words after `denied:`, if there are any.
    #[must_use]
    pub fn words(self) -> Option<String> {
        match self {
            Self::Errno(name) => Some(name.to_owned()),
            Self::Exit(program, code) => Some(format!("{program} exit {code}")),
            Self::Finds(what) => Some(what.to_owned()),
            Self::Harmless(_) => None,
        }
    }
}
