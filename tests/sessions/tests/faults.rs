//! `kill -9` before every system call that changes something, in `rcc-firewall apply`, in setup, in an update and in
//! uninstall: of the process that makes the call, and, where that is one that rcc has started (nft, useradd), of all of
//! them, too. After each the kernel has the old table or the new one, no file is a part of one, the gateway never runs
//! without the table, policy and log are there, and one more run completes.
//!
//! What comes after one call is what comes before the next: so these points are those after each call, too.
//!
//! The tests take a sample; `cargo xtask faults` takes all.

use anyhow::{Context, Result, ensure};
use rcc_rig::{LOG, POLICY, shown};
use rcc_sessions::fresh::{built, fresh, sudo};
use rcc_sessions::killed::{Whom, calls, killed};
use rcc_sessions::{SETUP, processes, root, succeeds};
use rcc_world::{World, inside_with};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many points are tried.
#[derive(Clone, Copy)]
enum Share {
    /// About so many of each command.
    Some(usize),
    All,
}

/// A command that is killed at each of its points, and what makes the machine ready for it.
struct Subject<'a> {
    name: &'static str,
    command: &'a dyn Fn() -> Command,
    /// What comes before each.
    prepare: &'a dyn Fn() -> Result<()>,
    /// What must hold after each.
    after: &'a dyn Fn() -> Result<()>,
}

impl Subject<'_> {
    fn kill_if(&self, names: &[&str], share: Share) -> Result<()> {
        if names.contains(&self.name) { self.kill(share) } else { Ok(()) }
    }

    /// Kills it at its points; says how many there are.
    fn kill(&self, share: Share) -> Result<()> {
        (self.prepare)()?;
        let all = calls((self.command)())?;
        (self.after)().with_context(|| format!("{}, not disturbed", self.name))?;
        let points: Vec<_> = all
            .iter()
            .flat_map(|call| {
                let whom = if call.child { &[Whom::Caller, Whom::All][..] } else { &[Whom::Caller] };
                whom.iter().map(move |whom| (call, *whom))
            })
            .collect();
        let step = match share {
            Share::Some(most) => points.len().div_ceil(most).max(1),
            Share::All => 1,
        };
        let (mut tried, mut other) = (0, 0);
        for (call, whom) in points.iter().step_by(step) {
            (self.prepare)().with_context(|| format!("before {call:?}"))?;
            let met = killed((self.command)(), call.number, *whom)?;
            (self.after)().with_context(|| format!("{}, {whom:?} killed at {met:?}, before: {call:?}", self.name))?;
            tried += 1;
            if tried % 50 == 0 {
                println!("{}: {tried} points", self.name);
            }
            other += usize::from(met.is_none_or(|met| met.what != call.what));
        }
        // A call more or less in a run (userdel's, the gateway's end) shifts those after it: each number is still a point.
        let children = all.iter().filter(|call| call.child).count();
        println!(
            "{}: {} calls, {children} of them by what it starts; {} points, {tried} tried, {other} at another call than before",
            self.name,
            all.len(),
            points.len()
        );
        ensure!(tried > 0, "no points");
        Ok(())
    }
}

/// The built programs without what debuggers need: they are copied often.
fn lean() -> Result<PathBuf> {
    let to = Path::new("/opt/built");
    root(&format!(
        "mkdir -p {1}; for p in rcc rcc-hook rcc-gateway rcc-firewall rcc-setup; do strip -o {1}/$p {0}/$p; done",
        built()?.display(),
        to.display()
    ))?;
    Ok(to.to_owned())
}

fn of(program: PathBuf, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("SUDO_USER", rcc_rig::USER).current_dir("/");
    command
}

fn serving() -> bool {
    processes().iter().any(|p| p.line.contains("rcc-gateway serve"))
}

/// Ends the gateway as nothing of rcc's does.
fn end_gateway() -> Result<()> {
    root("pkill -9 -x rcc-gateway || true; while pgrep -x rcc-gateway >&2; do sleep 0.01; done").map(drop)
}

/// What stands on the machine, but for the log's lines.
fn state() -> Result<String> {
    root("cat /etc/passwd /etc/group | grep -v '^$'
        find /etc/rcc /usr/local/bin/rcc* /usr/local/libexec /var/log/rcc /run/rcc /run/rcc-*.lock -printf '%p %y %m %u %l\\n' 2>/dev/null | sort
        find /etc/rcc /usr/local/libexec/rcc -type f -exec sha256sum {} + 2>/dev/null | sort
        nft list table inet rcc 2>/dev/null | sed 's/packets [0-9]* bytes [0-9]*//' || true")
}

/// The table's state, as rcc-firewall of the built programs says it.
fn table(built: &Path) -> Result<i32> {
    let output = Command::new(built.join("rcc-firewall")).arg("status").output()?;
    output.status.code().with_context(|| shown(&output))
}

/// No part of anything, at whatever instant it was.
fn whole(built: &Path) -> Result<()> {
    let known = !root("getent passwd rcc || true")?.trim().is_empty() && Path::new(POLICY).exists();
    let table = if known { table(built)? } else { 3 };
    ensure!(matches!(table, 0 | 3), "the table is neither the old nor the new one: {table}");
    ensure!(!serving() || table == 0, "the gateway runs without the table");
    for name in ["rcc", "rcc-hook", "rcc-gateway", "rcc-firewall", "rcc-setup"] {
        let installed = Path::new("/usr/local/libexec/rcc").join(env!("CARGO_PKG_VERSION")).join(name);
        if installed.exists() {
            root(&format!("cmp {} {}", installed.display(), built.join(name).display()))?;
        }
    }
    Ok(())
}

/// `names`: which of its subjects.
fn setup_and_uninstall(world: &World, share: Share, names: &[&str]) -> Result<()> {
    let _rig = fresh(world)?;
    let built = lean()?;
    let setup = || succeeds(&sudo(&built, &["setup"])?).map(drop).context("setup");
    let purge = || succeeds(&sudo(&built, &["uninstall", "--purge"])?).map(drop).context("uninstall --purge");
    let clean = state()?;
    setup()?;
    let installed = state()?;
    let is = |wanted: &str| -> Result<()> {
        let now = state()?;
        let only = |a: &str, b: &str| a.lines().filter(|l| !b.lines().any(|m| m == *l)).collect::<Vec<_>>().join("\n");
        ensure!(
            now == wanted,
            "not as it should be; there is\n{}\n--- not\n{}",
            only(&now, wanted),
            only(wanted, &now)
        );
        Ok(())
    };
    purge()?;
    is(&clean).context("uninstall --purge")?;

    Subject {
        name: "setup",
        command: &|| of(built.join("rcc-setup"), &["install"]),
        prepare: &purge,
        after: &|| {
            whole(&built)?;
            setup().context("one more setup")?;
            is(&installed)
        },
    }
    .kill_if(names, share)?;
    Subject {
        name: "uninstall --purge",
        command: &|| of(built.join("rcc-setup"), &["uninstall", "--purge"]),
        prepare: &setup,
        after: &|| {
            whole(&built)?;
            purge().context("one more uninstall")?;
            is(&clean)
        },
    }
    .kill_if(names, share)?;

    // Now with a policy of root's own, and lines in the log.
    let mine = "# mine\nusers = []\nallow = [\"a.example:80\"]\n";
    let line = "{\"event\":\"mine\"}\n";
    let kept = || -> Result<()> {
        ensure!(std::fs::read_to_string(POLICY)? == mine, "the policy");
        ensure!(std::fs::read_to_string(LOG)?.starts_with(line), "the log");
        Ok(())
    };
    let ours = || -> Result<()> {
        setup()?;
        std::fs::write(POLICY, mine)?;
        end_gateway()?;
        std::fs::write(LOG, line)?;
        setup()
    };
    ours()?;
    let installed = state()?;
    succeeds(&sudo(&built, &["uninstall"])?)?;
    kept()?;
    let gone = state()?;
    Subject {
        name: "uninstall",
        command: &|| of(built.join("rcc-setup"), &["uninstall"]),
        prepare: &ours,
        after: &|| {
            whole(&built)?;
            kept()?;
            succeeds(&sudo(&built, &["uninstall"])?).context("one more uninstall")?;
            kept()?;
            is(&gone)
        },
    }
    .kill_if(names, share)?;
    Subject {
        name: "update",
        command: &|| of(built.join("rcc-setup"), &["install"]),
        // As if another version were installed, and its gateway ran.
        prepare: &|| {
            ours()?;
            root(
                "cd /usr/local/libexec/rcc; rm -rf 0.0.1; mv [0-9]* 0.0.1; ln -sfn ../libexec/rcc/0.0.1/rcc /usr/local/bin/rcc",
            )
            .map(drop)
        },
        after: &|| {
            whole(&built)?;
            kept()?;
            ensure!(table(&built)? == 0, "an update takes the table away");
            ensure!(Path::new("/usr/local/bin/rcc").exists(), "the link leads nowhere");
            setup().context("one more setup")?;
            kept()?;
            is(&installed)
        },
    }
    .kill_if(names, share)
}

fn apply(world: &World, share: Share) -> Result<()> {
    let _rig = fresh(world)?;
    let built = lean()?;
    succeeds(&sudo(&built, &["setup"])?)?;
    end_gateway()?;
    let apply = || of(built.join("rcc-firewall"), &["apply"]);
    let listing = || root("nft list table inet rcc | sed 's/packets [0-9]* bytes [0-9]*//'");
    let old = std::fs::read_to_string(POLICY)?;
    let new = old.replace("\"@github\", ", "\"git.example:9418\", ");
    ensure!(old != new);
    let put = |policy: &str| -> Result<String> {
        std::fs::write(POLICY, policy)?;
        succeeds(&apply().output()?)?;
        listing()
    };
    let (old_table, new_table) = (put(&old)?, put(&new)?);
    ensure!(old_table != new_table);
    let after = |before: &dyn Fn(&str) -> bool| -> Result<()> {
        let now = root("nft list table inet rcc 2>/dev/null | sed 's/packets [0-9]* bytes [0-9]*//' || true")?;
        ensure!(now == new_table || before(&now), "{now}");
        succeeds(&apply().output()?)?;
        ensure!(listing()? == new_table, "one more run");
        Ok(())
    };
    Subject {
        name: "apply, over another policy's table",
        command: &apply,
        prepare: &|| {
            put(&old)?;
            Ok(std::fs::write(POLICY, &new)?)
        },
        after: &|| after(&|now| now == old_table),
    }
    .kill(share)?;
    Subject {
        name: "apply, the first",
        command: &apply,
        prepare: &|| root("nft delete table inet rcc").map(drop),
        after: &|| after(&|now| now.is_empty()),
    }
    .kill(share)
}

#[test]
fn some_points_of_setup_and_uninstall() {
    let all = ["setup", "uninstall --purge", "uninstall", "update"];
    inside_with(SETUP, |world| setup_and_uninstall(world, Share::Some(4), &all));
}

#[test]
fn some_points_of_apply() {
    inside_with(SETUP, |world| apply(world, Share::Some(8)));
}

#[test]
#[ignore = "takes many minutes; `cargo xtask faults` runs it"]
fn all_points_of_setup() {
    inside_with(SETUP, |world| setup_and_uninstall(world, Share::All, &["setup"]));
}

#[test]
#[ignore = "takes many minutes; `cargo xtask faults` runs it"]
fn all_points_of_uninstall() {
    inside_with(SETUP, |world| setup_and_uninstall(world, Share::All, &["uninstall"]));
}

#[test]
#[ignore = "takes many minutes; `cargo xtask faults` runs it"]
fn all_points_of_uninstall_and_purge() {
    inside_with(SETUP, |world| setup_and_uninstall(world, Share::All, &["uninstall --purge"]));
}

#[test]
#[ignore = "takes many minutes; `cargo xtask faults` runs it"]
fn all_points_of_an_update() {
    inside_with(SETUP, |world| setup_and_uninstall(world, Share::All, &["update"]));
}

#[test]
#[ignore = "takes minutes; `cargo xtask faults` runs it"]
fn all_points_of_apply() {
    inside_with(SETUP, |world| apply(world, Share::All));
}
