//! `kill -9` before every system call that changes something, in `rcc-firewall apply`, in setup and in uninstall, by strace's
//! injection. After each the kernel has the old table or the new one, no file is a part of one, the gateway never runs
//! without the table, and one more run completes.
//!
//! What comes after one call is what comes before the next: so these points are those after each call, too. A point is a
//! name and a number, which strace counts in each process: those of setup itself are hit with its children left to go on,
//! and those of its children (nft, useradd) with all that reach the same number.
//!
//! The tests take a sample; `cargo xtask faults` takes all.

use anyhow::{Context, Result, ensure};
use rcc_rig::{POLICY, shown};
use rcc_sessions::fresh::{built, fresh, sudo};
use rcc_sessions::{SETUP, root, succeeds};
use rcc_world::{World, inside_with};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// System calls that change what others see; `openat` counts where it makes or empties a file.
const CHANGING: &str = "openat,open,creat,write,pwrite64,writev,ftruncate,fallocate,fchmod,fchmodat,chmod,fchown,fchownat,chown,\
    lchown,mkdir,mkdirat,symlink,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,\
    utimensat,sendmsg,sendto,setsid,setuid,setgid,setgroups,capset,execve,clone,clone3,vfork,fork,pidfd_send_signal,kill,flock";

/// Where a process is killed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    call: String,
    number: u32,
    /// Whether children are traced, and killed, too.
    children: bool,
}

/// All points of a command, by a run of it that nothing disturbs.
fn points(command: &[&str]) -> Result<Vec<Point>> {
    let trace = Path::new("/run/trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace={CHANGING}"), "-e", "signal=none", "-o"])
        .arg(trace)
        .args(command)
        .output()?;
    succeeds(&output)?;
    let text = std::fs::read_to_string(trace)?;
    let first = text.split_whitespace().next().context("an empty trace")?.to_owned();
    let (mut counts, mut found) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        let (process, call) = line.trim_start().split_once(' ').context("a trace line")?;
        let call = call.trim_start();
        let Some((name, arguments)) = call.split_once('(').filter(|_| !call.starts_with('<')) else { continue };
        let count = counts.entry((process.to_owned(), name.to_owned())).or_insert(0u32);
        *count += 1;
        let says = matches!(name, "write" | "writev") && ["1,", "2,"].iter().any(|fd| arguments.starts_with(fd));
        let reads =
            matches!(name, "open" | "openat") && !arguments.contains("O_CREAT") && !arguments.contains("O_TRUNC");
        if !says && !reads {
            found.insert(Point { call: name.into(), number: *count, children: process != first });
        }
    }
    Ok(found.into_iter().collect())
}

/// Runs a command that is killed at a point; returns when all that it started is gone or goes on for good.
fn killed(point: &Point, command: &[&str]) -> Result<()> {
    let mut strace = Command::new("strace");
    if point.children {
        strace.arg("-f");
    }
    // Without the children it would be traced to the end of the gateway, which does not end.
    // -I1: or it would not hear the signal that ends it, and hold on to the gateway that it follows.
    strace.args(["-I1", "-qq", "-e", "trace=none", "-e"]);
    strace.arg(format!("inject={}:signal=KILL:when={}", point.call, point.number));
    let stray = std::fs::File::create("/run/said")?;
    let mut child = strace.args(["-o", "/dev/null"]).args(command).stdout(stray.try_clone()?).stderr(stray).spawn()?;
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        // With -f strace stays as long as the gateway that it follows: that one is let go.
        let over = child.try_wait()?.is_some() || root("pgrep -x 'rcc-setup|rcc-firewall' || true")?.trim().is_empty();
        let busy = !root("pgrep -x 'nft|useradd|userdel|groupadd|groupdel' || true")?.trim().is_empty();
        if over && !busy {
            break;
        }
        ensure!(Instant::now() < until, "{point:?}: it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    // What is traced is let go of.
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal);
        for _ in 0..100 {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
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

fn whole(built: &Path, point: &Point) -> Result<()> {
    let serving = !root("pgrep -f 'rcc-gateway serve' || true")?.trim().is_empty();
    let known = !root("getent passwd rcc || true")?.trim().is_empty() && Path::new(POLICY).exists();
    let table = if known { table(built)? } else { 3 };
    ensure!(matches!(table, 0 | 3), "{point:?}: the table is neither the old nor the new one: {table}");
    ensure!(!serving || table == 0, "{point:?}: the gateway runs without the table");
    for name in ["rcc", "rcc-hook", "rcc-gateway", "rcc-firewall", "rcc-setup"] {
        let installed = Path::new("/usr/local/libexec/rcc").join(env!("CARGO_PKG_VERSION")).join(name);
        if installed.exists() {
            root(&format!("cmp {} {}", installed.display(), built.join(name).display()))
                .with_context(|| format!("{point:?}"))?;
        }
    }
    if Path::new(POLICY).exists() {
        let text = std::fs::read_to_string(POLICY)?;
        ensure!(text.ends_with("[credentials.anthropic]\n"), "{point:?}: a part of a policy: {text}");
    }
    Ok(())
}

/// Every so-manieth, so that there are about so many.
fn sample(all: Vec<Point>, most: usize) -> Vec<Point> {
    let step = all.len().div_ceil(most).max(1);
    all.into_iter().step_by(step).collect()
}

fn setup_and_uninstall(world: &World, most: usize) -> Result<()> {
    let _rig = fresh(world)?;
    // Beside nothing that a person owns, and short in the trace.
    let built = built()?;
    let program: PathBuf = built.join("rcc-setup");
    let program = program.to_str().context("a path")?;
    let (install, uninstall) = ([program, "install"], [program, "uninstall", "--purge"]);
    let clean = state()?;
    succeeds(&sudo(&built, &["setup"])?)?;
    let installed = state()?;
    let steps_back = points(&uninstall)?;
    ensure!(state()? == clean, "uninstall leaves: {}", state()?);
    // The gateway that a traced setup starts is traced with it: so it is killed there, and started by the next run.
    let steps = {
        let mut all = points_of_install(&install)?;
        all.retain(|p| p.call != "flock");
        all
    };
    succeeds(&sudo(&built, &["uninstall", "--purge"])?)?;
    let (counted, counted_back) = (steps.len(), steps_back.len());
    let mut tried = 0;
    for point in sample(steps, most) {
        killed(&point, &install)?;
        whole(&built, &point)?;
        succeeds(&sudo(&built, &["setup"])?).with_context(|| format!("{point:?}: one more setup"))?;
        ensure!(state()? == installed, "{point:?}: {}\n--- wanted\n{installed}", state()?);
        succeeds(&sudo(&built, &["uninstall", "--purge"])?).with_context(|| format!("{point:?}: uninstall"))?;
        ensure!(state()? == clean, "{point:?}: uninstall leaves: {}", state()?);
        tried += 1;
    }
    for point in sample(steps_back, most) {
        succeeds(&sudo(&built, &["setup"])?)?;
        killed(&point, &uninstall)?;
        whole(&built, &point)?;
        succeeds(&sudo(&built, &["uninstall", "--purge"])?)
            .with_context(|| format!("{point:?}: one more uninstall"))?;
        ensure!(state()? == clean, "{point:?}: {}\n--- wanted\n{clean}", state()?);
        tried += 1;
    }
    println!("setup: {counted} points; uninstall: {counted_back} points; {tried} tried");
    ensure!(tried > 0, "no points");
    Ok(())
}

/// Of setup: the trace would not end before the gateway does.
fn points_of_install(install: &[&str]) -> Result<Vec<Point>> {
    let end = std::thread::spawn(|| -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            // Once setup itself is over, the gateway is all that is left.
            if !root("pgrep -f 'rcc-gateway serve' || true")?.trim().is_empty()
                && root("pgrep -x rcc-setup || true")?.trim().is_empty()
            {
                return root("pkill -f 'rcc-gateway serve'").map(drop);
            }
            ensure!(Instant::now() < until, "setup does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let all = points(install)?;
    end.join().map_err(|_| anyhow::anyhow!("the thread"))??;
    Ok(all)
}

fn apply(world: &World, most: usize) -> Result<()> {
    let rig = fresh(world)?;
    let built = built()?;
    succeeds(&sudo(&built, &["setup"])?)?;
    root("pkill -f 'rcc-gateway serve'")?;
    let program = built.join("rcc-firewall");
    let command = [program.to_str().context("a path")?, "apply"];
    let listing = || root("nft list table inet rcc | sed 's/packets [0-9]* bytes [0-9]*//'");
    let old = std::fs::read_to_string(POLICY)?;
    let new = old.replace("\"@github\", ", "\"git.example:9418\", ");
    ensure!(old != new);
    let old_table = listing()?;
    std::fs::write(POLICY, &new)?;
    let all = points(&command)?;
    let new_table = listing()?;
    ensure!(old_table != new_table);
    let counted = all.len();
    let mut tried = 0;
    for point in sample(all, most) {
        std::fs::write(POLICY, &old)?;
        succeeds(&rig_apply(&built)?)?;
        std::fs::write(POLICY, &new)?;
        killed(&point, &command)?;
        let now = listing().with_context(|| format!("{point:?}: no table"))?;
        ensure!(now == old_table || now == new_table, "{point:?}: {now}");
        succeeds(&rig_apply(&built)?)?;
        ensure!(listing()? == new_table, "{point:?}: one more run");
        tried += 1;
    }
    println!("apply: {counted} points; {tried} tried");
    ensure!(tried > 0, "no points");
    drop(rig);
    Ok(())
}

fn rig_apply(built: &Path) -> Result<std::process::Output> {
    Ok(Command::new(built.join("rcc-firewall")).arg("apply").output()?)
}

#[test]
#[ignore = "not yet run to its end; `cargo xtask faults` has all points"]
fn some_points_of_setup_and_uninstall() {
    inside_with(SETUP, |world| setup_and_uninstall(world, 3));
}

#[test]
fn some_points_of_apply() {
    inside_with(SETUP, |world| apply(world, 12));
}

#[test]
#[ignore = "takes many minutes; `cargo xtask faults` runs it"]
fn all_points_of_setup_and_uninstall() {
    inside_with(SETUP, |world| setup_and_uninstall(world, usize::MAX));
}

#[test]
#[ignore = "takes minutes; `cargo xtask faults` runs it"]
fn all_points_of_apply() {
    inside_with(SETUP, |world| apply(world, usize::MAX));
}
