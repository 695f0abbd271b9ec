//! The host firewall on a Mac: one anchor of pf's, whole or not at all.
//!
//! Invariants: the anchor holds the rules that were there or those that are wanted, never a part of either (one
//! transaction); nothing is called done that `/sbin/pfctl` did not show; an anchor of that name that rcc did not make is left
//! alone; pf itself is never disabled, other people's rules are never touched. Until all is proven the canary is not there,
//! so the gateway holds its sessions.
//!
//! What talks to the system is [`Pf`], and nothing else here; the same code runs on Linux in `tests/pf`, before a
//! `/dev/pf` that keeps the transactions' semantics and fails or dies at each call.
#![cfg(any(target_os = "macos", target_arch = "x86_64"))]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)
)]
#![forbid(unsafe_code)]

mod convert;
mod system;

pub use system::Pf;

use rcc_proto::macos::ANCHOR;
use rcc_report::{Code, Problem};
use rcc_rules::pf::{Hook, Mac, Ruleset, Seen, denied};
use rcc_rules::{Difference, Facts, Found};
use std::collections::BTreeSet;
use std::fmt;

/// What must be in force, and what it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The anchor's rules.
    pub rules: Ruleset,
    /// The machine.
    pub facts: Facts,
    /// The rest of it.
    pub mac: Mac,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// What is in force, beside what is wanted.
pub fn status(pf: &Pf, wanted: &Wanted) -> Result<Found, Problem> {
    Ok(pf.seen()?.judge(&wanted.rules))
}

/// Whether the anchor has nothing, whatever is wanted.
pub fn absent(pf: &Pf) -> Result<bool, Problem> {
    Ok(is_empty(&pf.seen()?))
}

/// Puts the rules in force, and reads them back. True if there was something to do.
pub fn apply(pf: &Pf, wanted: &Wanted) -> Result<bool, Problem> {
    let seen = pf.seen()?;
    match seen.judge(&wanted.rules) {
        Found::InForce => return Ok(false),
        Found::Foreign => return Err(foreign()),
        Found::Absent | Found::Drifted(_) => {}
    }
    let held = seen.held(&wanted.rules);
    if !held {
        enforce(pf, wanted, &seen)?;
    }
    pf.load(&wanted.rules.rules)?;
    in_force(pf, &wanted.rules)?;
    if held {
        sweep(pf, wanted, true)?;
    }
    Ok(true)
}

/// All but the canary: the rules, the way to them, pf itself; and no state of before.
fn enforce(pf: &Pf, wanted: &Wanted, seen: &Seen) -> Result<(), Problem> {
    let unproven = wanted.rules.unproven();
    pf.load(&unproven.rules)?;
    if seen.hook() == Hook::Missing {
        pf.hook()?;
    }
    if !(seen.enabled() && seen.referenced) {
        pf.enable()?;
    }
    in_force(pf, &unproven)?;
    sweep(pf, wanted, false)
}

/// Reads back, and is content with nothing less.
fn in_force(pf: &Pf, rules: &Ruleset) -> Result<(), Problem> {
    match pf.seen()?.judge(rules) {
        Found::InForce => Ok(()),
        Found::Drifted(differences) => Err(differs(&differences)),
        Found::Absent | Found::Foreign => Err(differs(&[])),
    }
}

/// Ends the states that could carry what is denied.
fn sweep(pf: &Pf, wanted: &Wanted, held: bool) -> Result<(), Problem> {
    let states = denied(&pf.states()?, &wanted.rules, &wanted.facts, &wanted.mac, held);
    let ends = states.iter().map(|state| (state.local.ip(), state.remote.ip()));
    ends.collect::<BTreeSet<_>>().into_iter().try_for_each(|(local, remote)| pf.end_states(local, remote))
}

/// Takes the rules away, and reads back that they are gone. True if there was something. Tries every step, whatever became
/// of the one before.
pub fn remove(pf: &Pf) -> Result<bool, Problem> {
    let seen = pf.seen()?;
    if !is_empty(&seen) && !seen.ours() {
        return Err(foreign());
    }
    let steps = [if is_empty(&seen) { Ok(false) } else { pf.load(&[]).map(|()| true) }, pf.unhook(&seen), pf.release()];
    let mut any = false;
    for step in steps {
        any |= step?;
    }
    if is_empty(&pf.seen()?) { Ok(any) } else { Err(differs(&[])) }
}

fn is_empty(seen: &Seen) -> bool {
    seen.rules.trim().is_empty() && seen.translations.trim().is_empty() && seen.below.trim().is_empty()
}

/// Everything anew, whatever state pf is in: for rules that are shown and yet do not hold. `stop` must have ended all that
/// the rules are for, as for a moment there are none.
pub fn recover(pf: &Pf, wanted: &Wanted, stop: impl FnOnce() -> Result<(), Problem>) -> Result<(), Problem> {
    let seen = pf.seen()?;
    if !is_empty(&seen) && !seen.ours() {
        return Err(foreign());
    }
    stop()?;
    // Before pf is enabled, if it was not: with an old canary there, all would seem proven.
    pf.flush()?;
    let seen = pf.seen()?;
    if !is_empty(&seen) {
        return Err(differs(&[]));
    }
    pf.unhook(&seen)?;
    // First the new reference, then the old one's end: it is not disabled in between.
    pf.enable()?;
    enforce(pf, wanted, &pf.seen()?)?;
    pf.load(&wanted.rules.rules)?;
    in_force(pf, &wanted.rules)
}

fn foreign() -> Problem {
    Problem::new(
        Code::FIREWALL_FOREIGN,
        format!("anchor {ANCHOR}"),
        "there is an anchor of this name that rcc did not make",
        format!(
            "look at it: sudo pfctl -a {ANCHOR} -s rules; if nobody needs it: sudo pfctl -a {ANCHOR} -F rules -F nat"
        ),
    )
}

/// Why what was applied is not in force: what most others would follow from, first.
fn differs(differences: &[Difference]) -> Problem {
    let around = differences.iter().find(|d| !d.place.starts_with("rule "));
    let Some(difference) = around.or(differences.first()) else {
        return drifted("the anchor's rules");
    };
    let found = difference.found.as_ref().and_then(|v| v.as_str()).unwrap_or("nothing").to_owned();
    match difference.place.as_str() {
        "main rules" => Problem::new(
            Code::FIREWALL_PF_MAIN,
            "main rules",
            format!("pf does not come to rcc's anchor before it decides: {found}"),
            "see sudo pfctl -s rules; in /etc/pf.conf put anchor \"com.apple/*\" before every quick rule and other anchor, and \
             load it: sudo pfctl -f /etc/pf.conf; a VPN's own anchor is its settings' business",
        ),
        "translation rules" => Problem::new(
            Code::FIREWALL_PF_MAIN,
            "translation rules",
            format!("pf would translate packets before it asks whose they are: {found}"),
            "see sudo pfctl -s nat; turn off Internet Sharing, and end what lets virtual machines share this Mac's network \
             (vmnet), or take the rule out of /etc/pf.conf and load it: sudo pfctl -f /etc/pf.conf",
        ),
        place if place.starts_with("interface ") => Problem::new(
            Code::FIREWALL_PF_SKIPPED,
            place,
            "pf leaves this interface out, and with it what rcc denies there",
            "take `set skip on` out of /etc/pf.conf and load it: sudo pfctl -f /etc/pf.conf",
        ),
        "pf" => Problem::new(
            Code::FIREWALL_PF,
            "pf",
            format!("it does not stay enabled: {found}"),
            "another program disables pf (pfctl -d): find it, or run rcc-firewall apply again",
        ),
        place => drifted(place),
    }
}

fn drifted(place: &str) -> Problem {
    Problem::new(
        Code::FIREWALL_DRIFTED,
        format!("anchor {ANCHOR}"),
        format!("what pf has is not what was applied: {place}"),
        "see it: rcc-firewall plan; another program may have written to the anchor meanwhile: run apply again",
    )
}
