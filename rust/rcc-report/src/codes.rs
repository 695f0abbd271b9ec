//! Every code, in one table: 0xx what `rcc check` alone says, 1xx the policy, 2xx the project, 3xx the machine, 4xx the gateway, 5xx the session,
//! 6xx keys, 7xx agents, 8xx what comes along besides the project, 9xx the host firewall. 506 and 701 were never raised;
//! like all codes, they are not used again.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A problem's number. Shown as `RCC-NNN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RCC-{:03}", self.0)
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Code {
            $(#[doc = $text] pub const $name: Self = Self($number);)*
        }
        /// Each code with what it means, in order: for documentation and `rcc check --explain`.
        pub const EXPLANATIONS: &[(Code, &str)] = &[$((Code::$name, $text)),*];
    };
}

codes! {
    CHECK_MAP_BITS = 1, "newuidmap or newgidmap can't map ids: it has neither root's setuid bit nor file capabilities.";
    CHECK_IDS_OVERLAP = 2, "This user's subordinate ids are somebody else's too.";
    CHECK_CGROUPS = 3, "The machine does not use cgroup v2 alone.";
    CHECK_SECCOMP = 4, "The kernel does not filter system calls (seccomp).";
    CHECK_NFTABLES = 5, "The kernel has no nftables, or not for an ordinary user's network namespaces.";
    CHECK_VERSIONS = 6, "Podman or crun is older than any that rcc was tried with, or open to a known escape.";
    CHECK_SYSTEMD = 7, "systemd does not run here, so gateway and firewall don't come back by themselves.";
    CHECK_DISK = 9, "There is little space where agents' homes are, or where the project is.";
    CHECK_FILE_SYSTEM = 10, "The home folder or the project lies in a file system that lacks what a session needs.";
    CHECK_NIX = 11, "Nix is set up in a way that weakens what rcc does with it.";
    CHECK_WSL = 12, "The Windows subsystem lacks what rcc needs.";
    CHECK_CONTAINER = 13, "rcc runs in a container itself.";
    CHECK_FIREWALLS = 14, "Another firewall's reload takes rcc's table away.";
    CHECK_MADE_UP = 15, "A VPN answers names with made-up addresses.";
    CHECK_PROXY = 16, "The environment names a proxy that the policy does not have.";
    CHECK_RESOLVERS = 17, "The machine names no resolver.";
    CHECK_MACOS = 18, "macOS is too old, or can't run the agents' Linux machine.";
    CHECK_UNKNOWN = 19, "Something could not be found out, which counts as missing.";
    CHECK_FACTS_FILE = 20, "A file of recorded facts can't be read.";
    CHECK_PF = 21, "On this Mac pf is off, or rcc's anchor is not in force in it.";
    CHECK_MAC_DAEMONS = 22, "One of rcc's launchd daemons is not loaded, or does not run.";
    CHECK_MAC_ACCOUNTS = 23, "The hidden user or a group of rcc's is missing on this Mac, or is not as setup makes it.";
    CHECK_GVPROXY = 24, "The process that carries the machine's traffic is not rcc's, or pf would not know it.";
    CHECK_MACHINE = 25, "The agents' Podman machine is of another kind, or sees more of the Mac than projects.";
    CHECK_MAC_FOLDERS = 26, "The project lies in a folder that a cloud copies away, or that macOS guards.";
    CHECK_MAC_NETWORK = 27, "A VPN, a filter or a split DNS decides beside pf.";
    CHECK_MAC_PODMAN = 28, "Podman is missing on this Mac, too old, or somebody else's to replace.";
    CHECK_MAC_BOUND = 29, "pf does not bind what the agents' machine sends.";
    POLICY_SYNTAX = 101, "The policy is not valid TOML, or a value has the wrong type.";
    POLICY_UNKNOWN_KEY = 102, "The policy has a key that rcc does not know.";
    POLICY_BAD_ENDPOINT = 103, "An endpoint is not `name:port`, `*.name:port`, `cidr:port` or a known `@set`.";
    POLICY_CONFLICT = 104, "The same endpoint is both allowed and denied.";
    POLICY_UNREADABLE = 105, "The policy is missing, can't be read, or is not owned by root alone.";
    POLICY_NOT_GRANTABLE = 106, "A project or person asked for an endpoint that `may_allow` does not cover or `deny` forbids.";
    POLICY_BAD_VALUE = 107, "A value of the policy is out of its range.";
    GRANTS_FILE = 108, "The file of what you granted to projects can't be read or written.";
    PROJECT_FORBIDDEN = 201, "This folder can't be a project: it holds, or lies in, files the agent must not reach.";
    PROJECT_MISSING = 202, "The project is not a folder that this user can write.";
    PROJECT_PATH = 203, "The project's path has characters that Podman's mount syntax can't carry.";
    PROJECT_FOREIGN_MOUNT = 204, "Another file system is mounted below the project.";
    PROJECT_IN_USE = 205, "The project lies within another live session's project, or around it.";
    PROJECT_SOCKET = 206, "A program outside listens on a Unix socket that the agent could reach.";
    PROJECT_UNTRUSTED_LINK = 207, "The project's `.git` leads elsewhere, to a repository that does not come along: git does not work inside.";
    PROJECT_RCC_TOML = 208, "The project's rcc.toml is not valid.";
    PROJECT_GIT_CONFIG = 209, "The person's git configuration can't be read, so commits inside have no name.";
    WORKTREE_REFUSED = 210, "The repository of a linked worktree can't come along.";
    PODMAN_MISSING = 301, "Podman, or a program it needs, is not installed where only root can write.";
    SUBIDS_MISSING = 302, "This user has no subordinate uid or gid range.";
    RUNTIME_DIR = 303, "`XDG_RUNTIME_DIR` is missing, or not a folder of this user's alone.";
    RUNNING_AS_ROOT = 304, "rcc was started as root; agents run for ordinary users.";
    LIMIT_UNENFORCEABLE = 305, "A limit of the policy can't be enforced on this machine.";
    USERNS_DENIED = 306, "The kernel or a security module denies user namespaces to this user.";
    KERNEL_TOO_OLD = 307, "The kernel lacks something that rcc relies on.";
    SYSTEM_UNSUPPORTED = 308, "The host root filesystem can't be composed on this distribution.";
    GATEWAY_ABSENT = 401, "No gateway listens on its socket.";
    GATEWAY_VERSION = 402, "Gateway and launcher are too far apart in version.";
    GATEWAY_REFUSED_USER = 403, "The policy's `users` does not name this user.";
    GATEWAY_BUSY = 404, "This user has as many sessions as the policy allows.";
    GATEWAY_PROTOCOL = 405, "The gateway got, or gave, a message that is not in the protocol.";
    GATEWAY_LOST = 406, "The gateway went away during the session.";
    GATEWAY_IMPOSTOR = 407, "What listens on the gateway's socket is not the gateway's user.";
    GATEWAY_NAMESPACE = 408, "Listening sockets came from the host's or from another session's network namespace.";
    GATEWAY_PORT_IN_USE = 409, "The gateway's socket or a session's port is taken by another program.";
    PROXY_CREDENTIALS = 410, "The proxy's credentials can't be read, or are none.";
    MAC_HOST_ROOT = 411, "A Mac's own programs can't be a session's root: they are not Linux's.";
    MAC_ARGUMENT = 412, "What was asked for is not there on a Mac, where sessions run in a virtual machine.";
    FORWARD_NONE = 413, "This gateway does not take connections from virtual machines.";
    FORWARD_TICKET = 414, "The gateway on the host did not take the session's ticket: it is none, was used, or came too late.";
    FORWARD_UNREACHABLE = 415, "The forwarder in the virtual machine does not reach the gateway on the host.";
    FORWARD_ON_HOST = 416, "Grants and keys are given on the host, not in the virtual machine.";
    FORWARD_LOST = 417, "The forwarder of a session went away.";
    SESSION_HOOK = 501, "The OCI hook could not build the session's walls; the container was not started.";
    SESSION_MOUNTS = 502, "The container's mounts are not those that were asked for.";
    SESSION_DISK = 503, "The agent's home or the session's folder can't be written: no space, or read-only.";
    SESSION_PODMAN = 504, "Podman could not start the container.";
    SESSION_PROTECTED = 505, "A protected file appeared or changed during the session.";
    SESSION_NONE = 507, "No session runs in this project.";
    SESSION_SILENT = 508, "A running session does not answer.";
    SESSION_LEFTOVERS = 509, "The session left a repository whose configuration has git run a program.";
    KEY_MISSING = 601, "No key for the model was found.";
    KEY_UNREADABLE = 602, "A key file or helper could not be read, or others can read it too.";
    KEY_MALFORMED = 603, "The key has characters that no key has.";
    AGENT_INTEGRITY = 702, "The agent's package does not have the pinned hash.";
    AGENT_INSTALL = 703, "The agent's package could not be fetched or unpacked.";
    AGENT_CHOICE = 704, "What the person chose for agents can't be used.";
    TOOLCHAIN_UNKNOWN = 801, "There is no such toolchain, or it is not installed in its usual place.";
    TOOLCHAIN_REFUSED = 802, "A toolchain lies behind a link, is another user's, or is a place that an agent writes.";
    INSIDE_FILE = 803, "The person's choice of what comes along can't be read or written.";
    FOLDER_REFUSED = 804, "A folder named by `--ro` or `--rw` can't come along.";
    HOME_REFUSED = 805, "There is no such home of an agent, or a session lives in it.";
    REGISTRY_UNKNOWN = 806, "A package registry can't be read from the person's configuration, or may not be reached.";
    TOOLCHAIN_UNAPPROVED = 807, "The project asks for its flake's devShell, which you have not approved as it is now.";
    TOOLCHAIN_CHANGED = 808, "The flake has changed since you approved it; the last approved toolchain is used.";
    TOOLCHAIN_FILES = 809, "A file that the flake needs is missing, is none that rcc reads, or is not among those approved.";
    TOOLCHAIN_NIX = 810, "Nix is not there where only root can write, or its store or build sandbox is not what rcc trusts.";
    TOOLCHAIN_BUILD = 811, "Nix could not evaluate the flake or build its devShell.";
    TOOLCHAIN_GONE = 812, "What was approved of the flake is not there any more, or not whole.";
    TOOLCHAIN_NO_NIX = 813, "Nix does not run in this session.";
    FIREWALL_NFT = 901, "nft is missing, failed, or said something that rcc does not understand.";
    FIREWALL_FOREIGN = 902, "There is a table `inet rcc`, or an anchor of that place, that rcc did not make.";
    FIREWALL_DRIFTED = 903, "The table `inet rcc`, or the anchor, in the kernel is not the one that was applied.";
    FIREWALL_USER = 904, "The gateway's system user does not exist.";
    FIREWALL_FACTS = 905, "The machine's links or resolvers can't be read.";
    FIREWALL_UNPROVEN = 906, "The host firewall is not in force, or not with this policy.";
    SETUP_ROOT = 910, "Setting rcc up and taking it away is root's, on a system that rcc knows.";
    SETUP_SOURCE = 911, "A program that is to be installed is missing, not static, or not a plain file.";
    SETUP_PLACE = 912, "A file or folder of rcc's lies where others than root can write, or is not what setup made.";
    SETUP_USER = 913, "The system user `rcc` can't be made or removed, or is a person's.";
    SETUP_NIXOS = 914, "On NixOS the system's configuration sets rcc up.";
    SETUP_SYSTEMD = 915, "systemd did not do what setup told it.";
    SETUP_GATEWAY = 916, "The gateway did not start, did not answer, or did not end.";
    SETUP_UNVERIFIED = 917, "A step was done, and reading back does not show it.";
    SETUP_ABSENT = 918, "rcc-setup does not lie beside rcc.";
    SETUP_LAUNCHD = 919, "launchd did not do what setup told it.";
    FIREWALL_PF = 920, "pf is missing, failed, or does not stay enabled.";
    FIREWALL_PF_MAIN = 921, "pf's main rules don't lead to rcc's anchor before anything can decide otherwise.";
    FIREWALL_PF_SKIPPED = 922, "pf leaves an interface out.";
    SHIM_ARGUMENTS = 930, "What carries the machine's traffic was called with something that Podman's machine does not pass.";
    SHIM_GROUP = 931, "What carries the machine's traffic does not run with the group by which pf knows it.";
    SHIM_TARGET = 932, "The pinned gvproxy is missing, or others than root can write it.";
    SHIM_CONFINE = 933, "What carries the machine's traffic could not be confined.";
    MACHINE_PODMAN = 934, "Podman could not make, start or stop the agents' machine.";
    MACHINE_FOREIGN = 935, "The agents' machine is not as rcc makes it.";
    MACHINE_OPEN = 936, "The agents' machine reaches what it must not, or could not be tried.";
    MACHINE_PROJECT = 937, "The folder is not among those that the agents' machine has.";
    MACHINE_BUSY = 938, "Sessions run in the agents' machine, which would have to be stopped.";
    MACHINE_PREPARE = 939, "rcc's programs could not be put into the agents' machine.";
}
