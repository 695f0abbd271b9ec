//! The anchor, by `rcc-pf`, with a Mac's own accounts, addresses and processes.

use crate::facts::facts;
use crate::{Applied, nat64, policy, processes, turn};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Group, Pid, Uid, User, chown};
use rcc_policy::{Fingerprint, Ipv6Net};
use rcc_proto::macos::{ANCHOR, NET_GROUP, RUN, USER};
use rcc_report::{Code, Problem};
use rcc_rules::Found;
use rcc_rules::pf::{Mac, Ruleset};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub use rcc_pf::{Pf as Kernel, Wanted, absent};

/// What people know it by.
pub const OBJECT: &str = "anchor com.apple/000.rcc";
const _: () = assert!(ANCHOR.len() + "anchor ".len() == OBJECT.len());

/// The policy's.
#[must_use]
pub fn fingerprint(wanted: &Wanted) -> Fingerprint {
    wanted.rules.fingerprint
}

/// The rules that root's policy and this machine make now.
pub fn wanted(path: &Path) -> Result<Wanted, Vec<Problem>> {
    wanted_by(path, nat64::prefixes)
}

fn wanted_by(
    path: &Path,
    nat64: impl FnOnce(&BTreeSet<SocketAddr>) -> BTreeSet<Ipv6Net>,
) -> Result<Wanted, Vec<Problem>> {
    let policy = policy(path)?;
    let egress = policy.egress();
    let one = |problem| vec![problem];
    let (user, group) = accounts().map_err(one)?;
    let (facts, net) = facts(&egress, user, nat64).map_err(one)?;
    let mac = Mac { group, own: net.own.into_iter().collect() };
    let rules = Ruleset::new(&egress, policy.fingerprint(), &facts, &mac);
    Ok(Wanted { rules, facts, mac })
}

/// The gateway's user, and the group of what carries the machine's traffic.
fn accounts() -> Result<(u32, u32), Problem> {
    let missing = |name: &str| {
        Problem::new(
            Code::FIREWALL_USER,
            name,
            "there is no such system account, whose traffic the firewall is for",
            "sudo rcc setup makes it",
        )
    };
    let user = User::from_name(USER).ok().flatten().filter(|user| !user.uid.is_root());
    let group = Group::from_name(NET_GROUP).ok().flatten().filter(|group| group.gid.as_raw() != 0);
    Ok((user.ok_or_else(|| missing(USER))?.uid.as_raw(), group.ok_or_else(|| missing(NET_GROUP))?.gid.as_raw()))
}

/// What is in force, beside what is wanted.
pub fn status(pf: &Kernel, wanted: &Wanted) -> Result<Found, Problem> {
    rcc_pf::status(pf, wanted)
}

/// Puts the rules in force, and reads them back.
pub fn apply(pf: &Kernel, wanted: &Wanted) -> Result<Applied, Problem> {
    let _turn = turn()?;
    let changed = rcc_pf::apply(pf, wanted)?;
    Ok(if changed { Applied::Replaced } else { Applied::Unchanged })
}

/// Takes the rules away, and reads back that they are gone. True if there was something.
pub fn remove(pf: &Kernel) -> Result<bool, Problem> {
    let _turn = turn()?;
    rcc_pf::remove(pf)
}

/// Ends all that the rules are for, and puts them in force anew. launchd starts the gateway again, and it proves them.
pub fn recover(pf: &Kernel, wanted: &Wanted) -> Result<(), Problem> {
    let _turn = turn()?;
    rcc_pf::recover(pf, wanted, || stop(wanted.facts.gateway, wanted.mac.group))
}

/// How long between two looks. A new network, a woken Mac and another program's reload of pf are all seen by them.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a network's word about how it translates counts, if nothing else of it changes.
const TRANSLATION: Duration = Duration::from_secs(60);

/// Keeps the rules of this policy in force, for good. What it says, it says once, on standard error.
pub fn keep(path: &Path) -> ! {
    let mut said = String::new();
    let mut known: Option<(BTreeSet<SocketAddr>, Instant, BTreeSet<Ipv6Net>)> = None;
    loop {
        let now = match round(path, &mut known) {
            Ok(None) => said.clone(),
            Ok(Some(fingerprint)) => format!("in force: {OBJECT}, policy {fingerprint}"),
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        };
        if now != said {
            eprintln!("rcc-firewall: {now}");
            said = now;
        }
        thread::sleep(PAUSE);
    }
}

/// The policy's fingerprint, if its rules had to be put in force.
fn round(
    path: &Path,
    known: &mut Option<(BTreeSet<SocketAddr>, Instant, BTreeSet<Ipv6Net>)>,
) -> Result<Option<Fingerprint>, Vec<Problem>> {
    let one = |problem| vec![problem];
    gateways_folder().map_err(one)?;
    let wanted = wanted_by(path, |asked| match known {
        Some((before, at, told)) if before == asked && at.elapsed() < TRANSLATION => told.clone(),
        _ => {
            let told = nat64::prefixes(asked);
            *known = Some((asked.clone(), Instant::now(), told.clone()));
            told
        }
    })?;
    let pf = Kernel::find().map_err(one)?;
    let applied = apply(&pf, &wanted).map_err(one)?;
    Ok((applied == Applied::Replaced).then_some(wanted.rules.fingerprint))
}

/// The folder of the gateway's sockets, which is gone after each start of the Mac, and which the gateway can't make itself.
fn gateways_folder() -> Result<(), Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        Problem::new(Code::SETUP_PLACE, RUN, e.to_string(), "look at it: ls -lde /var/run/rcc")
    };
    let user = User::from_name(USER).ok().flatten().filter(|user| !user.uid.is_root());
    let Some(user) = user else { return Ok(()) };
    match DirBuilder::new().mode(0o755).create(RUN) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(&e)),
    }
    // Root's, or the gateway's already: nobody else could have made it a link to a place of root's.
    let facts = fs::symlink_metadata(RUN).map_err(|e| failed(&e))?;
    if !facts.is_dir() || (facts.uid() != 0 && facts.uid() != user.uid.as_raw()) {
        return Err(failed(&"it is no folder of root's or of the gateway's"));
    }
    if facts.uid() == 0 {
        chown(RUN, Some(Uid::from_raw(user.uid.as_raw())), Some(Gid::from_raw(user.gid.as_raw())))
            .map_err(|e| failed(&e))?;
        fs::set_permissions(RUN, fs::Permissions::from_mode(0o755)).map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// How long what was killed may take to be gone.
const END: Duration = Duration::from_secs(5);

fn stop(user: u32, group: u32) -> Result<(), Problem> {
    let failed = |why: String| {
        Problem::new(
            Code::FIREWALL_PF,
            "recover",
            why,
            "run this as root; stop the agents' machine by hand: podman machine stop",
        )
    };
    let all = bound(user, group).map_err(failed)?;
    for pid in &all {
        match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(failed(format!("process {pid}: {e}"))),
        }
    }
    // Those that launchd starts again are new: they have no connection.
    let end = Instant::now() + END;
    loop {
        let left = bound(user, group).map_err(failed)?;
        if !left.iter().any(|pid| all.contains(pid)) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(failed("what was killed does not end".to_owned()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn bound(user: u32, group: u32) -> Result<Vec<i32>, String> {
    let mut ps = Command::new("/bin/ps");
    ps.args(["-axww", "-o", "pid=,uid=,gid="]).env_clear().current_dir("/").stdin(Stdio::null());
    let output = ps.output().map_err(|e| format!("/bin/ps: {e}"))?;
    if !output.status.success() {
        return Err(format!("/bin/ps: {}", output.status));
    }
    processes::bound(&String::from_utf8_lossy(&output.stdout), user, group)
}
