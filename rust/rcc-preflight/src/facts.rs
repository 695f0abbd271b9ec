//! What was found out about a machine: one value, which can be written down and judged elsewhere.
//!
//! It holds names of users and paths, and root's policy, which every user of the machine can read; no keys, no passwords.

mod macos;

pub use macos::{
    Account, Accounts, AppleFolder, Daemon, GroupAccount, MacNetwork, MacOs, MacPodman, Mount, Pf, PodmanMachine, Shim,
};

use rcc_report::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The version of [`Facts`] and of the report's JSON.
pub const VERSION: u32 = 1;

/// Something that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    /// It was found out.
    Known(T),
    /// It was not, and why.
    Unknown(String),
}

impl<T> Fact<T> {
    /// The value, or why there is none.
    pub fn get(&self) -> Result<&T, &str> {
        match self {
            Self::Known(value) => Ok(value),
            Self::Unknown(why) => Err(why),
        }
    }
}

impl<T> From<Result<T, String>> for Fact<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(why) => Self::Unknown(why),
        }
    }
}

/// A machine, as one person finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`VERSION`].
    pub version: u32,
    /// The system.
    pub system: Fact<System>,
    /// Who asks.
    pub person: Fact<Person>,
    /// The programs that rcc runs, and nft; those that were not found are absent.
    pub programs: Fact<BTreeMap<String, Program>>,
    /// Subordinate ids.
    pub ids: Fact<SubordinateIds>,
    /// The folder for what lives as long as a login.
    pub runtime: Fact<RuntimeDir>,
    /// User namespaces.
    pub user_namespaces: Fact<UserNamespaces>,
    /// Whether the kernel filters system calls.
    pub seccomp: Fact<bool>,
    /// What programs say of their version.
    pub versions: Fact<BTreeMap<String, String>>,
    /// Control groups.
    pub cgroup: Fact<Cgroup>,
    /// Whether nftables works in a network namespace of an ordinary user's.
    pub nftables: Fact<bool>,
    /// What is around.
    pub surroundings: Fact<Surroundings>,
    /// Where the person's agents live, and the project.
    pub places: Fact<Vec<FileSystem>>,
    /// The network.
    pub network: Fact<Network>,
    /// Nix; absent where it is not installed.
    pub nix: Fact<Option<Nix>>,
    /// The text of root's policy, or what is wrong with the file.
    pub policy: Fact<Result<String, Problem>>,
    /// What the gateway says to this person.
    pub gateway: Fact<Answer>,
    /// macOS alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macos: Option<MacOs>,
}

/// The system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `linux` or `macos`.
    pub os: String,
    /// `ID` of os-release(5).
    pub id: String,
    /// `ID_LIKE`.
    #[serde(default)]
    pub like: Vec<String>,
    /// `PRETTY_NAME`.
    #[serde(default)]
    pub name: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor.
    pub arch: String,
}

/// The person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The user id.
    pub uid: u32,
    /// The effective user id.
    pub effective: u32,
    /// The login name, if the password database has one.
    pub name: Option<String>,
    /// The primary group.
    pub gid: u32,
    /// The names of the person's groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The home folder with links resolved, if there is one.
    pub home: Option<PathBuf>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// The first place on the way to it that others than root can write.
    pub writable_by_others: Option<PathBuf>,
    /// Whether it has the setuid bit of root's.
    pub setuid: bool,
    /// Whether it has file capabilities (capabilities(7)).
    pub capabilities: bool,
}

/// A range of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// A user's name or id.
    pub owner: String,
    /// The first id.
    pub start: u64,
    /// How many.
    pub count: u64,
}

/// Subordinate ids of one kind, and the ids that are somebody's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdFile {
    /// subuid(5) or subgid(5).
    pub ranges: Vec<IdRange>,
    /// The names and ids of /etc/passwd or /etc/group that lie in one of the ranges.
    pub own: Vec<(String, u64)>,
}

/// Subordinate ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubordinateIds {
    /// Of users.
    pub uid: IdFile,
    /// Of groups.
    pub gid: IdFile,
}

/// `XDG_RUNTIME_DIR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeDir {
    /// A folder that is the person's alone, if there is one.
    pub path: Option<PathBuf>,
    /// Where systemd would have it.
    pub usual: PathBuf,
    /// Whether the person's services live on after logging out.
    pub lingers: bool,
    /// Whether a systemd of the person's runs.
    pub systemd: bool,
}

/// User namespaces, and how distributions restrict them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespaces {
    /// `user.max_user_namespaces`; absent where the kernel has none.
    pub max: Option<u64>,
    /// `kernel.unprivileged_userns_clone` of Debian's and of hardened kernels.
    pub unprivileged: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` of Ubuntu's.
    pub apparmor_restricts: Option<u64>,
    /// Whether an `AppArmor` profile in /etc names Podman's path and gives it `userns`.
    pub podman_profile: bool,
}

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Whether /sys/fs/cgroup is cgroup v2 alone.
    pub unified: bool,
    /// Controllers that the person's own cgroup can hand on.
    pub delegated: Vec<String>,
}

/// What is around.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Surroundings {
    /// Whether systemd started the machine.
    pub systemd: bool,
    /// The version of the Windows subsystem, if it is one.
    pub wsl: Option<u32>,
    /// The container that this is itself in, if it is.
    pub container: Option<String>,
    /// The CI service, if it is one's runner.
    pub ci: Option<String>,
    /// The kernel's security modules, where they can be read.
    pub modules: Vec<String>,
    /// Whether `SELinux` enforces.
    pub selinux: bool,
    /// Other firewalls that are on.
    pub firewalls: Vec<String>,
    /// Whether rcc's own firewall unit is there, which is started anew after those.
    #[serde(default)]
    pub firewall_unit: bool,
    /// Whether the gateway's system user exists.
    pub gateway_user: bool,
}

/// A file system in which something of the person's lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// What lies there: `home` or `project`.
    pub of: String,
    /// The folder.
    pub path: PathBuf,
    /// Its type as /proc/self/mountinfo has it: `ext4`, `nfs4`, `fuse.sshfs`.
    pub kind: String,
    /// Free for the person, in bytes.
    pub free: u64,
    /// Whether programs in it can't be run.
    pub noexec: bool,
    /// Whether nothing can be written.
    pub read_only: bool,
}

/// The network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The resolvers of resolv.conf.
    pub resolvers: Vec<String>,
    /// Where resolv.conf leads.
    pub resolv_conf: Option<PathBuf>,
    /// Whether systemd-resolved listens.
    pub resolved: bool,
    /// Own addresses in 198.18.0.0/15: a VPN makes addresses up.
    pub made_up: Vec<String>,
    /// Devices of VPNs.
    pub tunnels: Vec<String>,
    /// Variables of the environment that name a proxy; not their values, which may have passwords.
    pub proxies: Vec<String>,
}

/// Nix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nix {
    /// Its version, if it could be told from its place.
    pub version: Option<String>,
    /// Whether a daemon serves several users.
    pub multi_user: bool,
    /// Whether flakes are on.
    pub flakes: bool,
    /// `sandbox` of nix.conf, if it is there.
    pub sandbox: Option<String>,
    /// `trusted-users`.
    pub trusted: Vec<String>,
}

/// What the gateway said when a session was opened, which was closed again at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It opens sessions for this person, with the policy of this fingerprint; it has proven its firewall for that.
    Opens {
        /// The fingerprint.
        fingerprint: String,
    },
    /// It does not, or is not there.
    Refuses(Problem),
}
