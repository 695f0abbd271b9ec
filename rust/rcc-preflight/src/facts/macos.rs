//! What is found out about a Mac beside what every machine has.

use super::{Fact, Program};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What macOS adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacOs {
    /// The version: `15.3.1`.
    pub version: String,
    /// Whether the Virtualization framework can run machines here (`kern.hv_support`); absent where the kernel does not say.
    pub hypervisor: Option<bool>,
    /// Whether this Mac is itself a virtual machine (`kern.hv_vmm_present`).
    pub virtual_machine: bool,
    /// Whether rcc runs translated by Rosetta (`sysctl.proc_translated`).
    pub translated: bool,
    /// The gateway's user and the groups.
    pub accounts: Fact<Accounts>,
    /// rcc's launchd daemons; those that are not loaded are absent.
    pub daemons: Fact<Vec<Daemon>>,
    /// pf, as root's status service reads it back.
    pub pf: Fact<Pf>,
    /// Podman; absent where it was not found.
    pub podman: Fact<Option<MacPodman>>,
    /// gvproxy's shim; absent where it is not installed.
    pub shim: Fact<Option<Shim>>,
    /// Whether pf refused gvproxy's group a port of this Mac's loopback at which the same connection of ours came about.
    pub bound: Fact<bool>,
    /// The agents' own Podman machine; absent where there is none.
    pub machine: Fact<Option<PodmanMachine>>,
    /// The ways of the network.
    pub network: Fact<MacNetwork>,
    /// Where the project and the agents' homes lie.
    pub folders: Fact<Vec<AppleFolder>>,
}

/// Accounts as the directory service has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// `_rcc`, if it is there.
    pub user: Option<Account>,
    /// The group `_rcc`, if it is there.
    pub group: Option<GroupAccount>,
    /// The group `_rccnet`, if it is there.
    pub net_group: Option<GroupAccount>,
    /// Others that have the same user id.
    #[serde(default)]
    pub same_user_id: Vec<String>,
    /// Others that have one of the groups' ids.
    #[serde(default)]
    pub same_group_id: Vec<String>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `UniqueID`.
    pub id: Option<u32>,
    /// `PrimaryGroupID`.
    pub gid: Option<u32>,
    /// `UserShell`.
    pub shell: Option<String>,
    /// `IsHidden`.
    pub hidden: bool,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAccount {
    /// `PrimaryGroupID`.
    pub id: Option<u32>,
    /// `GroupMembership`, and `GroupMembers` and `NestedGroups` by their ids.
    #[serde(default)]
    pub members: Vec<String>,
}

/// A daemon of launchd's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its label.
    pub label: String,
    /// The file that it was loaded from.
    pub path: Option<PathBuf>,
    /// The program that it runs.
    pub program: Option<PathBuf>,
    /// Whether it runs now.
    pub running: bool,
    /// What it last ended with, if it ever ended.
    pub last_exit: Option<i32>,
}

/// What root's status service says of pf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pf {
    /// Nobody answers on its socket.
    Silent(String),
    /// It answers.
    Answers {
        /// `in force`, `absent`, `drifted`.
        state: String,
        /// What is wrong, for each thing that is: pf is off, nothing evaluates the anchor, a rule differs.
        #[serde(default)]
        wrong: Vec<String>,
    },
}

/// Podman's client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacPodman {
    /// Where it is, and who can write it.
    pub program: Program,
    /// What it says of its version.
    pub version: String,
    /// Whether Homebrew brought it: then whoever installed Homebrew can replace it.
    pub homebrew: bool,
}

/// The program that Podman starts as gvproxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shim {
    /// Where it is.
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
    /// What the pinned gvproxy beside it says of its version; absent where it is not there.
    pub gvproxy: Option<String>,
}

/// A Podman machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodmanMachine {
    /// `applehv`, `libkrun`.
    pub provider: Option<String>,
    /// Whether its containers are root's.
    pub rootful: bool,
    /// The port of its ssh.
    pub ssh_port: Option<u32>,
    /// What of the Mac it sees.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Its disk, in GiB.
    pub disk: Option<u64>,
}

/// A folder that a machine sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The folder.
    pub source: PathBuf,
    /// Whether it can't write there.
    pub read_only: bool,
}

/// The ways of a Mac's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacNetwork {
    /// VPNs of System Settings that are connected.
    #[serde(default)]
    pub vpns: Vec<String>,
    /// The interface that has the default route is a tunnel.
    #[serde(default)]
    pub tunnel: Option<String>,
    /// Resolvers for some names alone, with those names: a split DNS.
    #[serde(default)]
    pub split: Vec<(String, String)>,
    /// Network extensions that are on: filters (Little Snitch), VPNs, DNS proxies.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// The application firewall's state: 0 off, 1 on, 2 everything blocked that is not needed.
    #[serde(default)]
    pub application_firewall: Option<u8>,
    /// Proxies of System Settings.
    #[serde(default)]
    pub proxies: Vec<String>,
}

/// What macOS makes of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppleFolder {
    /// What lies there: `home` or `project`.
    pub of: String,
    /// The folder.
    pub path: PathBuf,
    /// The place that macOS asks the person about before a program may read it: `Desktop`, `Documents`.
    pub guarded: Option<String>,
    /// The cloud that its files are copied to.
    pub synced: Option<String>,
    /// Whether `a` and `A` are two names there; absent where it is not told.
    pub case_sensitive: Option<bool>,
}
