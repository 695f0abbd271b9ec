//! The table `inet rcc`, by nft.

use crate::facts::{facts, gateway_user};
use crate::{Applied, Nft, nat64, policy, turn};
use rcc_policy::Fingerprint;
use rcc_report::{Code, Problem};
use rcc_rules::{Difference, Found, Table, compare};
use std::path::Path;

/// What must be in force.
pub type Wanted = Table;

/// What people know it by.
pub const OBJECT: &str = "table inet rcc";

/// The policy's.
#[must_use]
pub fn fingerprint(wanted: &Wanted) -> Fingerprint {
    wanted.fingerprint
}

/// The table that root's policy and this machine make now.
pub fn wanted(path: &Path) -> Result<Table, Vec<Problem>> {
    let policy = policy(path)?;
    let egress = policy.egress();
    let facts = gateway_user().and_then(|gateway| facts(&egress, gateway, nat64::prefixes)).map_err(|p| vec![p])?;
    let (facts, _) = facts;
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

pub(crate) fn unexpected(what: &str) -> Problem {
    Problem::new(
        Code::FIREWALL_NFT,
        "nft",
        format!("its listing is not understood: {what}"),
        "report it, with nft --version",
    )
}
