//! The checks: what a machine must have, each a pure function of the facts. They accumulate; none stops the others.

mod around;
mod gateway;
mod machine;
mod macos;
mod network;
mod programs;
mod shared;

pub use machine::{DELEGATE, person, program};

use crate::facts::{Fact, Facts, System};
use crate::system::Family;
use rcc_policy::Policy;
use rcc_report::{Code, Problem};

/// What a check finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well; what was found, in short.
    Pass(String),
    /// A session starts; something is worth knowing.
    Warn(Vec<Problem>),
    /// No session starts, or it would be weaker than promised.
    Fail(Vec<Problem>),
    /// It could not be found out, which counts as a failure.
    Unknown(String),
}

/// When a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Before each start, and by `rcc check`.
    Launch,
    /// By `rcc check`.
    Whole,
}

/// One check. Its code is that of its problems, save where a part of rcc says it in its own words (the policy, the gateway).
pub struct Check {
    /// The code.
    pub code: Code,
    /// What is looked at, for people.
    pub name: &'static str,
    /// When.
    pub part: Part,
    /// What `rcc setup` does about it, if anything.
    pub setup: Option<&'static str>,
    /// Why rcc needs it.
    pub why: &'static str,
    /// What a person can do.
    pub by_hand: &'static str,
    /// The judgement.
    pub judge: fn(&Facts) -> Outcome,
}

/// All of Linux's, in the order of the report.
pub const CHECKS: &[Check] = &[
    shared::USER,
    Check {
        code: Code::KERNEL_TOO_OLD,
        name: "kernel",
        part: Part::Launch,
        setup: None,
        why: "The gateway tells network namespaces apart by SO_NETNS_COOKIE, which Linux has since 5.14.",
        by_hand: "Upgrade the distribution: Debian 12, Ubuntu 24.04, Fedora 40 and later have it.",
        judge: machine::kernel,
    },
    Check {
        code: Code::USERNS_DENIED,
        name: "user namespaces",
        part: Part::Launch,
        setup: None,
        why: "Rootless Podman is made of them: inside, the agent's root is nobody outside.",
        by_hand: "Allow them by sysctl; on Ubuntu by an AppArmor profile for Podman alone.",
        judge: machine::user_namespaces,
    },
    Check {
        code: Code::CHECK_SECCOMP,
        name: "seccomp",
        part: Part::Launch,
        setup: None,
        why: "The agent's system calls are a list of rcc's own; without the filter it has all of the kernel's.",
        by_hand: "Boot a kernel that is built with CONFIG_SECCOMP_FILTER; every distribution's is.",
        judge: machine::seccomp,
    },
    Check {
        code: Code::PODMAN_MISSING,
        name: "programs",
        part: Part::Launch,
        setup: None,
        why: "Podman, crun, conmon, newuidmap and newgidmap make the container. rcc runs no program that others could \
              have replaced, and never looks in PATH.",
        by_hand: "Install them from the distribution.",
        judge: programs::present,
    },
    Check {
        code: Code::CHECK_MAP_BITS,
        name: "id mapping",
        part: Part::Launch,
        setup: None,
        why: "newuidmap and newgidmap write the ids of a user namespace as root does; without the bit they can't.",
        by_hand: "sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap",
        judge: programs::map_bits,
    },
    Check {
        code: Code::SUBIDS_MISSING,
        name: "subordinate ids",
        part: Part::Launch,
        setup: None,
        why: "The ids inside other than the agent's own are this user's subordinate ids outside; 65536 make a system.",
        by_hand: "sudo usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER",
        judge: machine::subordinate_ids,
    },
    Check {
        code: Code::CHECK_IDS_OVERLAP,
        name: "ids of one's own",
        part: Part::Launch,
        setup: None,
        why: "Who shares an id can read the other's files and end the other's processes.",
        by_hand: "Give this user a range that is in no other line of /etc/subuid, /etc/subgid, and in no account.",
        judge: machine::overlaps,
    },
    Check {
        code: Code::RUNTIME_DIR,
        name: "runtime folder",
        part: Part::Launch,
        setup: None,
        why: "Sockets of a session lie there, for this user's eyes alone, and are gone after logging out.",
        by_hand: "Log in by the console or ssh; or: sudo loginctl enable-linger USER",
        judge: machine::runtime_dir,
    },
    Check {
        code: Code::CHECK_VERSIONS,
        name: "versions",
        part: Part::Whole,
        setup: None,
        why: "What was not tried is not promised; what is known to let agents out is refused.",
        by_hand: "Upgrade Podman and crun, or the distribution.",
        judge: programs::versions,
    },
    Check {
        code: Code::FIREWALL_NFT,
        name: "nft",
        part: Part::Whole,
        setup: None,
        why: "The host firewall is put in force by it.",
        by_hand: "Install nftables from the distribution.",
        judge: programs::nft,
    },
    Check {
        code: Code::CHECK_NFTABLES,
        name: "nftables",
        part: Part::Whole,
        setup: None,
        why: "In the session's network namespace a rule redirects the agent's connections; on the host the firewall is made \
              of such rules.",
        by_hand: "sudo modprobe nf_tables, or boot the distribution's own kernel.",
        judge: machine::nftables,
    },
    Check {
        code: Code::CHECK_CGROUPS,
        name: "cgroup v2",
        part: Part::Whole,
        setup: None,
        why: "Limits on memory and processes of an ordinary user's containers exist in cgroup v2 alone.",
        by_hand: "Boot with systemd.unified_cgroup_hierarchy=1, or accept it: unenforceable = \"warn\" under [limits].",
        judge: machine::cgroups,
    },
    Check {
        code: Code::LIMIT_UNENFORCEABLE,
        name: "limits",
        part: Part::Whole,
        setup: None,
        why: "An agent without limits can take the machine's memory.",
        by_hand: "Have systemd delegate the controllers, or accept it: unenforceable = \"warn\" under [limits].",
        judge: machine::limits,
    },
    Check {
        code: Code::CHECK_SYSTEMD,
        name: "systemd",
        part: Part::Whole,
        setup: None,
        why: "Its units start gateway and firewall before anybody can log in.",
        by_hand: "Run rcc setup again after each start of the machine.",
        judge: around::systemd,
    },
    shared::DISK,
    Check {
        code: Code::CHECK_FILE_SYSTEM,
        name: "file systems",
        part: Part::Whole,
        setup: None,
        why: "The agent's program lies in the home folder; git, npm and compilers want links, modes and locks in the project.",
        by_hand: "Move it to a file system of this machine's own (ext4, btrfs, xfs, zfs).",
        judge: around::file_systems,
    },
    shared::POLICY,
    Check {
        code: Code::FIREWALL_USER,
        name: "gateway's user",
        part: Part::Whole,
        setup: Some("makes the system user"),
        why: "The gateway runs as a user of its own, whose traffic the firewall's rules bind.",
        by_hand: "sudo useradd --system --no-create-home --shell /usr/sbin/nologin rcc",
        judge: gateway::user,
    },
    shared::GATEWAY,
    Check {
        code: Code::CHECK_FIREWALLS,
        name: "other firewalls",
        part: Part::Whole,
        setup: Some("has its firewall unit started anew after nftables'"),
        why: "`flush ruleset` in /etc/nftables.conf removes every table, rcc's too: sessions are held until it is back.",
        by_hand: "After each reload of nftables: sudo /usr/local/bin/rcc setup",
        judge: network::firewalls,
    },
    shared::RESOLVERS,
    shared::MADE_UP,
    shared::PROXY,
    Check {
        code: Code::CHECK_NIX,
        name: "nix",
        part: Part::Whole,
        setup: None,
        why: "A build without a sandbox runs a project's code on the host; a store that one user owns can be changed by \
              whatever runs as that user; who is trusted by the daemon is as good as root.",
        by_hand: "sandbox = true in /etc/nix/nix.conf; the multi-user installation; no names in trusted-users.",
        judge: around::nix,
    },
    Check {
        code: Code::CHECK_WSL,
        name: "windows subsystem",
        part: Part::Whole,
        setup: None,
        why: "Version 1 has no Linux kernel; without systemd nobody makes the runtime folder.",
        by_hand: "wsl --set-version DISTRIBUTION 2; systemd=true under [boot] in /etc/wsl.conf.",
        judge: around::wsl,
    },
    Check {
        code: Code::CHECK_CONTAINER,
        name: "container",
        part: Part::Whole,
        setup: None,
        why: "In a container the host firewall is that container's: nothing is proven of the machine around it.",
        by_hand: "Run rcc on the machine itself.",
        judge: around::container,
    },
];

/// All of a machine's, by how it installs.
#[must_use]
pub fn of_system(family: Family) -> &'static [Check] {
    if family == Family::MacOs { macos::CHECKS } else { CHECKS }
}

/// What stands against a start: every failure, and what is unknown.
pub fn launch(facts: &Facts) -> Result<(), Vec<Problem>> {
    let mut against = Vec::new();
    for check in of_system(family(facts)).iter().filter(|check| check.part == Part::Launch) {
        match (check.judge)(facts) {
            Outcome::Pass(_) | Outcome::Warn(_) => {}
            // What root would lack is of no interest.
            Outcome::Fail(problems) if check.code == Code::RUNNING_AS_ROOT => return Err(problems),
            Outcome::Fail(problems) => against.extend(problems),
            Outcome::Unknown(why) => against.push(unknown(check, &why)),
        }
    }
    if against.is_empty() { Ok(()) } else { Err(against) }
}

/// What is said of something unknown.
pub(crate) fn unknown(check: &Check, why: &str) -> Problem {
    Problem::new(
        Code::CHECK_UNKNOWN,
        check.name,
        format!("it could not be found out: {why}"),
        format!("rcc check --explain {}", check.code),
    )
}

/// The judgement of what is known.
fn of<T>(fact: &Fact<T>, judge: impl FnOnce(&T) -> Outcome) -> Outcome {
    match fact.get() {
        Ok(value) => judge(value),
        Err(why) => Outcome::Unknown(why.to_owned()),
    }
}

fn pass(note: impl Into<String>) -> Outcome {
    Outcome::Pass(note.into())
}

/// No problems: well.
fn fails(problems: Vec<Problem>, note: impl Into<String>) -> Outcome {
    if problems.is_empty() { pass(note) } else { Outcome::Fail(problems) }
}

fn warns(problems: Vec<Problem>, note: impl Into<String>) -> Outcome {
    if problems.is_empty() { pass(note) } else { Outcome::Warn(problems) }
}

/// For the commands of remedies; a system that is unknown is like none.
fn family(facts: &Facts) -> Family {
    facts.system.get().map_or(Family::Other, Family::of)
}

fn system(facts: &Facts) -> System {
    facts.system.get().cloned().unwrap_or_default()
}

/// Root's policy, if there is a valid one.
fn policy(facts: &Facts) -> Option<Policy> {
    let text = facts.policy.get().ok()?.as_ref().ok()?;
    rcc_policy::parse(text, crate::probe::POLICY).ok()
}
