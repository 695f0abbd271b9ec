//! Whether a machine can run rcc: probe (effects) → [`Facts`] → checks (pure) → [`Report`].
//!
//! Invariants: all effects are in [`probe`], each with a time limit; a check is a pure function of the facts, so a report
//! can be made again on any machine; what could not be found out is [`Outcome::Unknown`], which blocks as a failure does.

pub mod checks;
mod escapes;
mod facts;
pub mod probe;
mod report;
mod system;
mod version;

pub use checks::{CHECKS, Check, Outcome, Part};
pub use escapes::{ESCAPES, Escape};
pub use facts::{
    Account, Accounts, Answer, AppleFolder, Cgroup, Daemon, Fact, Facts, FileSystem, GroupAccount, IdFile, IdRange,
    MacNetwork, MacOs, MacPodman, Mount, Network, Nix, Person, Pf, PodmanMachine, Program, RuntimeDir, Shim,
    SubordinateIds, Surroundings, System, UserNamespaces, VERSION,
};
pub use report::{Checked, Report, Verdict, explain};
pub use system::Family;
