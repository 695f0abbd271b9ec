//! The host firewall: the table `inet rcc` in the kernel, by nft.
//!
//! Invariants: the kernel holds the table that was there or the one that is wanted, never a part of either (one
//! transaction); nothing is called done that was not read back; a table of that name that rcc did not make is left alone.
//! No state of its own: what is in force is what the kernel says.

mod facts;
mod nat64;
mod nft;

pub use nft::Nft;

use facts::{facts, gateway_user};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rcc_policy::Policy;
use rcc_report::{Code, Problem};
use rcc_rules::{Difference, Found, Table, compare};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Root's policy.
pub const POLICY: &str = "/etc/rcc/policy.toml";

/// What an apply did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was in force already; nothing was touched.
    Unchanged,
    /// It is in force now.
    Replaced,
}

/// Reads root's policy, which only root may be able to write.
fn policy(path: &Path) -> Result<Policy, Vec<Problem>> {
    let unreadable = |e: std::io::Error| {
        let remedy = "write it as root; docs/policy.md has every key";
        vec![Problem::new(Code::POLICY_UNREADABLE, path.display().to_string(), e.to_string(), remedy)]
    };
    let bytes = rcc_host::trusted::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|e| unreadable(std::io::Error::other(e)))?;
    rcc_policy::parse(&text, &path.display().to_string())
}

/// The table that root's policy and this machine make now.
pub fn wanted(path: &Path) -> Result<Table, Vec<Problem>> {
    let policy = policy(path)?;
    let egress = policy.egress();
    let facts = gateway_user().and_then(|gateway| facts(&egress, gateway)).map_err(|p| vec![p])?;
    Ok(Table::new(&egress, policy.fingerprint(), &facts))
}

/// What is in force, beside what is wanted.
pub fn status(nft: &Nft, wanted: &Table) -> Result<Found, Problem> {
    compare(wanted, nft.list()?.as_ref()).map_err(|e| unexpected(&e))
}

/// Puts the table in force, and reads it back.
pub fn apply(nft: &Nft, wanted: &Table) -> Result<Applied, Problem> {
    let _turn = turn()?;
    match status(nft, wanted)? {
        Found::InForce => return Ok(Applied::Unchanged),
        Found::Foreign => return Err(foreign()),
        Found::Absent | Found::Drifted(_) => {}
    }
    // The rules alone, unless there is more than rules that must not be there.
    if nft.run(&wanted.exchange()).is_ok() && status(nft, wanted)? == Found::InForce {
        return Ok(Applied::Replaced);
    }
    nft.run(&wanted.replacement())?;
    match status(nft, wanted)? {
        Found::InForce => Ok(Applied::Replaced),
        Found::Drifted(differences) => Err(differs(&differences)),
        Found::Absent | Found::Foreign => Err(differs(&[])),
    }
}

/// Takes the table away, and reads back that it is gone. True if there was one.
pub fn remove(nft: &Nft) -> Result<bool, Problem> {
    let _turn = turn()?;
    let Some(listed) = nft.list()? else { return Ok(false) };
    if rcc_rules::fingerprint_of(&listed).is_none() {
        return Err(foreign());
    }
    nft.run(&Table::removal())?;
    if nft.list()?.is_some() { Err(differs(&[])) } else { Ok(true) }
}

/// The lock's file: root's alone, as anybody who can open a file can lock it.
const LOCK: &str = "/run/rcc-firewall.lock";
/// How long another one may take.
const TURN: Duration = Duration::from_secs(20);

/// One at a time: between one's transaction and its reading back there is no other's.
fn turn() -> Result<Flock<File>, Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        Problem::new(Code::FIREWALL_NFT, LOCK, format!("it can't be locked: {e}"), "run this as root")
    };
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(LOCK).map_err(|e| failed(&e))?;
    // One who holds it and is stopped must not keep the unit that looks each minute from ever looking again.
    let end = Instant::now() + TURN;
    let mut file = file;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((back, Errno::EAGAIN | Errno::EINTR)) if Instant::now() < end => file = back,
            Err((_, e)) => return Err(failed(&e)),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn foreign() -> Problem {
    Problem::new(
        Code::FIREWALL_FOREIGN,
        "inet rcc",
        "there is a table of this name that rcc did not make",
        "look at it: nft list table inet rcc; if nobody needs it: nft delete table inet rcc",
    )
}

fn differs(differences: &[Difference]) -> Problem {
    let place = differences.first().map_or("the table", |d| &d.place);
    Problem::new(
        Code::FIREWALL_DRIFTED,
        "inet rcc",
        format!("what the kernel has is not what was applied: {place}"),
        "see it: rcc-firewall plan; another program may have written to the table meanwhile: run apply again",
    )
}

fn unexpected(what: &str) -> Problem {
    Problem::new(
        Code::FIREWALL_NFT,
        "nft",
        format!("its listing is not understood: {what}"),
        "report it, with nft --version",
    )
}

/// What is in force and what is wanted, for `plan` and `status` with `--json`; version 1 of it.
#[must_use]
pub fn report(wanted: &Table, found: &Found) -> Value {
    let (state, differences) = match found {
        Found::Absent => ("absent", &[][..]),
        Found::InForce => ("in force", &[][..]),
        Found::Drifted(differences) => ("drifted", &differences[..]),
        Found::Foreign => ("foreign", &[][..]),
    };
    serde_json::json!({
        "version": 1,
        "state": state,
        "fingerprint": wanted.fingerprint.to_string(),
        "differences": differences,
        "table": wanted.to_string(),
    })
}
