//! Hook ↔ launcher. Both are of one installation, so this conversation needs no version.

use rcc_report::Problem;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the hook says to the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromHook {
    /// The hook runs; `pid` is the container's first process in the host's numbering.
    Hello {
        /// The process that the runtime named.
        pid: i32,
        /// The runtime's name for the container.
        id: String,
    },
    /// The walls stand; the listening sockets go with this packet.
    Sockets {
        /// What the hook found of the limits that the kernel really enforces.
        limits: WallLimits,
    },
    /// The walls could not be built; the container will not start.
    Failed {
        /// Why.
        problem: Problem,
    },
}

/// What the launcher says to the hook.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToHook {
    /// What to build and to check.
    Spec(HookSpec),
    /// The gateway has the sockets: let the container start.
    Go,
}

/// What the hook is to build and to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSpec {
    /// Every mount of the container that comes from the host.
    pub mounts: Vec<MountCheck>,
    /// Mount points of the host's own below the read-only ones; they come along, and are made read-only with them.
    pub submounts: Vec<PathBuf>,
    /// A file of the session's own, outside, with the names in /nix/store that are bound there, a line each. A closure's
    /// thousands would not go into one packet.
    pub store: Option<PathBuf>,
    /// Unix sockets of host daemons in what is mounted; each is hidden behind the empty file.
    pub masked: Vec<PathBuf>,
    /// An empty file of the session's own, outside.
    pub empty_file: PathBuf,
    /// Places that the hook covers, in this order.
    pub protected: Vec<Protected>,
    /// Address ranges besides the stand-in range that are routed to the gateway.
    pub ranges: Vec<String>,
    /// Inotify instances that the container's user namespace may have.
    pub inotify_instances: u32,
    /// Inotify watches that it may have.
    pub inotify_watches: u32,
}

/// A place in the project, or in a worktree's repository, that the agent may not replace, or not write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protected {
    /// The target of the mount in which it lies.
    pub under: PathBuf,
    /// The place, relative to that; looked up without following any link.
    pub path: PathBuf,
    /// What is mounted on it.
    pub cover: Cover,
}

/// What is mounted on a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cover {
    /// A copy in the session's folder, read-only.
    Copy(PathBuf),
    /// Itself, writable as before, so that it can't be renamed away.
    Pin,
    /// Itself, read-only.
    Close,
}

/// A mount from the host, as opened by the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountCheck {
    /// Where it is inside.
    pub target: PathBuf,
    /// `st_dev` of what was opened.
    pub device: u64,
    /// `st_ino` of what was opened.
    pub inode: u64,
    /// Whether the container may write; if not, the hook makes it and all below it read-only.
    pub writable: bool,
}

/// The limits as read back from the kernel for the container; `None` where no controller enforces them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallLimits {
    /// `pids.max`.
    pub pids: Option<u64>,
    /// `memory.max`, in bytes.
    pub memory: Option<u64>,
    /// `cpu.max`, as a share of one CPU in thousandths.
    pub cpu: Option<u64>,
}
