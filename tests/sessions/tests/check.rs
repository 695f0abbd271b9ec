//! `rcc check` on machines that are made sick for real, within a world: what it says, its exit codes, and the remedy, which is
//! run as printed where it can be run here; then the check passes and a session starts.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, shown};
use rcc_sessions::{SETUP, inside, refused, root};
use rcc_world::inside_with;
use serde_json::Value;
use std::process::{Command, Output};

/// What `rcc check --json` prints, with its exit code.
fn check(rig: &Rig<'_>) -> Result<(i32, Value)> {
    read(&rig.rcc(["check", "--json"]).output()?)
}

fn read(output: &Output) -> Result<(i32, Value)> {
    let value = serde_json::from_slice(&output.stdout).with_context(|| shown(output))?;
    Ok((output.status.code().context("a signal")?, value))
}

/// The outcome of the check with this code, and its problems' remedies.
fn found(report: &Value, code: &str) -> Result<(String, Vec<String>)> {
    let checks = report["checks"].as_array().context("no checks")?;
    let check = checks.iter().find(|c| c["code"] == code).with_context(|| format!("no {code}"))?;
    let problems = check["problems"].as_array().context("no problems")?;
    let remedies = problems.iter().filter_map(|p| p["remedy"].as_str()).map(str::to_owned).collect();
    Ok((check["outcome"].as_str().context("no outcome")?.to_owned(), remedies))
}

/// A program at the place of sudo: the tests are root already. A world has its own /usr/local.
fn sudo() -> Result<()> {
    root("printf '#!/bin/sh\\nexec \"$@\"\\n' >/usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo").map(drop)
}

/// Runs what a remedy says, as it was printed: what has `sudo` in it as root, the rest as the user who reads it.
fn run_as_printed(rig: &Rig<'_>, remedy: &str) -> Result<()> {
    for part in remedy.split(" && ") {
        let mut shell = if part.contains("sudo ") { Command::new("/bin/sh") } else { rig.command("/bin/sh") };
        let output = shell.args(["-c", part]).env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").output()?;
        ensure!(output.status.success(), "{part}\n{}", shown(&output));
    }
    Ok(())
}

/// A machine is broken, the check fails with this code, a session does not start with it, the remedy is run, and all is well.
fn mended(rig: &Rig<'_>, code: &str, at_start: bool, breaking: &str) -> Result<()> {
    root(breaking)?;
    let (exit, report) = check(rig)?;
    let (outcome, remedies) = found(&report, code)?;
    ensure!(exit == 3 && outcome == "fail" && !remedies.is_empty(), "{code}: {exit}, {outcome}\n{report:#}");
    if at_start {
        refused(rig.rcc(["run", "--", "true"]), code)?;
    }
    for remedy in remedies {
        // Of several lines the last is for machines without systemd, as this one is.
        let line = remedy.lines().last().context("an empty remedy")?;
        run_as_printed(rig, line.strip_prefix("without systemd: ").unwrap_or(line))?;
    }
    let (_, report) = check(rig)?;
    let (outcome, remedies) = found(&report, code)?;
    ensure!(outcome == "pass", "{code} is still {outcome}: {remedies:?}");
    ensure!(inside(rig, "echo works")? == "works\n", "no session after {code}");
    Ok(())
}

#[test]
fn the_machine_of_the_tests_is_ready_with_warnings() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:443"], "")?;
        let (exit, report) = check(&rig)?;
        // The tests' own machine has no cgroup v2 and no systemd, or has both.
        ensure!(exit <= 1, "{exit}\n{report:#}");
        ensure!(report["version"] == 1, "{report:#}");
        ensure!(found(&report, "RCC-401")?.0 == "pass", "{report:#}");
        // Judged again from its own facts, by anybody, it is the same.
        let facts = world.at.files.join("facts.json");
        std::fs::write(&facts, serde_json::to_vec(&report)?)?;
        let (again_exit, again) = read(&rig.rcc(["check", "--json", "--facts"]).arg(&facts).output()?)?;
        ensure!(again_exit == exit && again == report, "{again:#}");
        std::fs::write(&facts, "{\"version\": 99}")?;
        refused(
            {
                let mut c = rig.rcc(["check", "--facts"]);
                c.arg(&facts);
                c
            },
            "RCC-020",
        )?;
        let output = rig.rcc(["check", "--explain", "RCC-301"]).output()?;
        ensure!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("by hand"),
            "{}",
            shown(&output)
        );
        // The gateway has it on record that a check opened a session, in which nothing ran.
        ensure!(rig.log()?.iter().any(|line| line["agent"] == "check"), "no line of the check's");
        Ok(())
    });
}

#[test]
fn what_is_broken_is_named_and_its_remedy_mends_it() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &["allowed.example:443"], "")?;
        sudo()?;
        mended(&rig, "RCC-302", true, "sed -i /^dev:/d /etc/subuid /etc/subgid")?;
        mended(&rig, "RCC-002", true, "awk -F: '/^dev:/ { print \"other:\" $2 \":\" $3 }' /etc/subuid >>/etc/subuid")?;
        mended(&rig, "RCC-001", true, "chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap")?;
        let runtime = rig.user.runtime_dir.display().to_string();
        mended(&rig, "RCC-303", true, &format!("chmod 755 {runtime}"))?;
        mended(&rig, "RCC-017", false, "rm -f /etc/resolv.conf || umount /etc/resolv.conf; rm -f /etc/resolv.conf")?;
        let home = rig.user.home.join(".local/share/rcc").display().to_string();
        mended(&rig, "RCC-010", false, &format!("mount --bind {home} {home} && mount -o remount,bind,noexec {home}"))?;
        // The firewall: the gateway says it, as it would to a start.
        root("nft delete table inet rcc")?;
        let (exit, report) = check(&rig)?;
        let (outcome, remedies) = found(&report, "RCC-401")?;
        ensure!(exit == 3 && outcome == "fail", "{report:#}");
        run_as_printed(&rig, remedies.first().context("no remedy")?)?;
        ensure!(found(&check(&rig)?.1, "RCC-401")?.0 == "pass", "the firewall is back");
        // The gateway.
        rig.kill_gateway()?;
        ensure!(found(&check(&rig)?.1, "RCC-401")?.0 == "fail", "no gateway");
        rig.start_gateway()?;
        ensure!(found(&check(&rig)?.1, "RCC-401")?.0 == "pass", "the gateway is back");
        Ok(())
    });
}

#[test]
fn what_is_broken_and_can_not_be_mended_here_is_named() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:443"], "")?;
        let home = rig.user.home.join(".local/share/rcc").display().to_string();
        let own = format!("-o uid={0},gid={0}", rig.user.id);
        // What is broken, the code, its outcome, whether a start says it too, and how it is put right again.
        for (breaking, code, outcome, at_start, mending) in [
            ("mv /usr/bin/podman /usr/bin/away", "RCC-301", "fail", true, "mv /usr/bin/away /usr/bin/podman"),
            ("mv /usr/bin/newuidmap /usr/bin/away", "RCC-301", "fail", true, "mv /usr/bin/away /usr/bin/newuidmap"),
            ("chmod o+w /usr/bin/crun", "RCC-301", "fail", true, "chmod o-w /usr/bin/crun"),
            ("mv /usr/sbin/nft /usr/sbin/away", "RCC-901", "fail", false, "mv /usr/sbin/away /usr/sbin/nft"),
            (
                "mv /etc/rcc/policy.toml /etc/rcc/away",
                "RCC-105",
                "fail",
                false,
                "mv /etc/rcc/away /etc/rcc/policy.toml",
            ),
            ("sed -i.bak s/^rcc:/gone:/ /etc/passwd", "RCC-904", "fail", false, "cp /etc/passwd.bak /etc/passwd"),
            (
                "cp -p /usr/bin/podman /tmp/podman; printf '#!/bin/sh\\necho podman version 3.4.4\\n' >/tmp/old; chmod 755 /tmp/old; mount --bind /tmp/old /usr/bin/podman",
                "RCC-006",
                "fail",
                false,
                "umount /usr/bin/podman",
            ),
            (
                "printf '#!/bin/sh\\nexec sleep 60\\n' >/tmp/slow; chmod 755 /tmp/slow; mount --bind /tmp/slow /usr/bin/crun",
                "RCC-006",
                "unknown",
                false,
                "umount /usr/bin/crun",
            ),
            (
                "printf 0 >/tmp/zero; mount --bind /tmp/zero /proc/sys/user/max_user_namespaces",
                "RCC-306",
                "fail",
                true,
                "umount /proc/sys/user/max_user_namespaces",
            ),
            (
                "printf 'kill log' >/tmp/few; mount --bind /tmp/few /proc/sys/kernel/seccomp/actions_avail",
                "RCC-004",
                "fail",
                true,
                "umount /proc/sys/kernel/seccomp/actions_avail",
            ),
            (
                &format!("mount -t tmpfs -o size=8m {own} tmpfs {home}"),
                "RCC-009",
                "fail",
                false,
                &format!("umount {home}"),
            ),
            (
                &format!("mount -t tmpfs -o size=64m {own} tmpfs {home}"),
                "RCC-009",
                "warn",
                false,
                &format!("umount {home}"),
            ),
            (
                "mkdir -p /etc/systemd/system/sysinit.target.wants; : >/etc/systemd/system/sysinit.target.wants/nftables.service; echo 'flush ruleset' >/etc/nftables.conf",
                "RCC-014",
                "warn",
                false,
                "rm /etc/systemd/system/sysinit.target.wants/nftables.service",
            ),
            ("ip addr add 198.18.0.9/32 dev lo", "RCC-015", "warn", false, "ip addr del 198.18.0.9/32 dev lo"),
            (
                "mkdir -p /nix/store /etc/nix; echo sandbox = false >/etc/nix/nix.conf",
                "RCC-011",
                "warn",
                false,
                "rm -r /nix /etc/nix",
            ),
        ] {
            root(breaking)?;
            let (_, report) = check(&rig)?;
            let seen = found(&report, code).with_context(|| breaking.to_owned())?;
            ensure!(seen.0 == outcome && !seen.1.is_empty(), "{breaking}: {code} is {}\n{report:#}", seen.0);
            if at_start {
                refused(rig.rcc(["run", "--", "true"]), code)?;
            }
            root(mending)?;
            ensure!(found(&check(&rig)?.1, code)?.0 == "pass", "{code} after {mending}");
        }
        let proxied =
            read(&rig.rcc(["check", "--json"]).env("https_proxy", "http://u:secret@p.example:3128").output()?)?;
        ensure!(
            found(&proxied.1, "RCC-016")?.0 == "warn" && !proxied.1.to_string().contains("secret"),
            "{:#}",
            proxied.1
        );
        // As root, what root would lack is of no interest.
        let output = Command::new("/usr/local/bin/rcc").args(["check", "--json"]).env_clear().output()?;
        let (exit, report) = read(&output)?;
        ensure!(exit == 3 && found(&report, "RCC-304")?.0 == "fail", "{report:#}");
        Ok(())
    });
}
