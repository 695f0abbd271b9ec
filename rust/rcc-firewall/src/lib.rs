//! The host firewall in the kernel: the table `inet rcc` by nft, on a Mac an anchor of pf's.
//!
//! Invariants: the kernel holds what was there or what is wanted, never a part of either (one transaction); nothing is
//! called done that was not read back; what has its name and rcc did not make is left alone. No state of its own: what is
//! in force is what the kernel says.

mod facts;
mod nat64;
#[cfg(any(target_os = "macos", test))]
mod processes;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod nft;
#[cfg(target_os = "linux")]
pub use linux::{OBJECT, Wanted, apply, fingerprint, remove, status, wanted};
#[cfg(target_os = "linux")]
pub use nft::{Nft, Nft as Kernel};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::{Kernel, OBJECT, Wanted, absent, apply, fingerprint, keep, recover, remove, status, wanted};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rcc_policy::Policy;
use rcc_report::{Code, Problem};
use rcc_rules::Found;
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

/// The lock's file: root's alone, as anybody who can open a file can lock it.
#[cfg(target_os = "linux")]
const LOCK: &str = "/run/rcc-firewall.lock";
/// Not in /var/run, where a Mac lets others write as well.
#[cfg(target_os = "macos")]
const LOCK: &str = "/var/db/rcc-firewall.lock";
#[cfg(target_os = "linux")]
const LOCK_CODE: Code = Code::FIREWALL_NFT;
#[cfg(target_os = "macos")]
const LOCK_CODE: Code = Code::FIREWALL_PF;
/// How long another one may take.
const TURN: Duration = Duration::from_secs(20);

/// One at a time: between one's transaction and its reading back there is no other's.
fn turn() -> Result<Flock<File>, Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        Problem::new(LOCK_CODE, LOCK, format!("it can't be locked: {e}"), "run this as root")
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

/// What is in force and what is wanted, for `plan` and `status` with `--json`; version 1 of it.
#[must_use]
pub fn report(wanted: &Wanted, found: &Found) -> Value {
    let (state, differences) = match found {
        Found::Absent => ("absent", &[][..]),
        Found::InForce => ("in force", &[][..]),
        Found::Drifted(differences) => ("drifted", &differences[..]),
        Found::Foreign => ("foreign", &[][..]),
    };
    serde_json::json!({
        "version": 1,
        "state": state,
        "fingerprint": fingerprint(wanted).to_string(),
        "differences": differences,
        "table": wanted.to_string(),
    })
}
