//! The machine as the launcher finds it: who the person is, where Podman is, what the host's root looks like. What a machine
//! must have is judged by rcc-preflight, from what it found.

use rcc_preflight::{Fact, checks, probe};
use rcc_report::{Code, Problem};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// The person who started rcc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The login name.
    pub name: String,
    /// The numeric user id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The home folder, with links resolved.
    pub home: PathBuf,
}

/// How Podman makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// By the person's systemd.
    Systemd,
    /// By writing to the file system itself, where no systemd runs for the person.
    Cgroupfs,
}

impl CgroupManager {
    /// As Podman's option has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

/// What a launch needs to know of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Who.
    pub person: Person,
    /// `XDG_RUNTIME_DIR`, a folder of the person's alone.
    pub runtime_dir: PathBuf,
    /// Podman's absolute path; only root can write it.
    pub podman: PathBuf,
    /// How cgroups are made.
    pub cgroup_manager: CgroupManager,
    /// Memory of the machine, in bytes.
    pub memory: u64,
    /// Processors that this process may use.
    pub cpus: u64,
}

pub use rcc_preflight::probe::only_root_writes;

impl Machine {
    /// Looks at the machine. All that stands against a start is found at once.
    pub fn probe() -> Result<Self, Vec<Problem>> {
        let facts = probe::launch();
        checks::launch(&facts)?;
        let (Fact::Known(person), Fact::Known(programs), Fact::Known(runtime)) =
            (facts.person, facts.programs, facts.runtime)
        else {
            return Err(vec![unjudged("machine")]);
        };
        let person = judged(&person).map_err(|p| vec![p])?;
        let podman = programs.get("podman").map(|p| p.path.clone()).ok_or_else(|| vec![unjudged("podman")])?;
        let runtime_dir = runtime.path.ok_or_else(|| vec![unjudged("XDG_RUNTIME_DIR")])?;
        let cgroup_manager = if runtime.systemd { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Ok(Self { person, runtime_dir, podman, cgroup_manager, memory: memory(), cpus })
    }
}

/// What passed is there; the compiler can't see it.
fn unjudged(what: &str) -> Problem {
    Problem::new(Code::CHECK_UNKNOWN, what, "it passed its check, and is not there", "rcc check")
}

/// Who started rcc; never root.
pub fn person() -> Result<Person, Problem> {
    let unknown = |why| Problem::new(Code::CHECK_UNKNOWN, "user", why, "rcc check --explain RCC-304");
    judged(&probe::person().map_err(unknown)?)
}

fn judged(found: &rcc_preflight::Person) -> Result<Person, Problem> {
    let (name, home) = checks::person(found)?;
    Ok(Person { name, uid: found.uid, gid: found.gid, home })
}

/// Finds a program where only root can write, with all folders above it.
pub fn program(name: &str) -> Result<PathBuf, Problem> {
    let found = probe::program(name);
    checks::program(name, found.as_ref(), probe::family())
}

fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
