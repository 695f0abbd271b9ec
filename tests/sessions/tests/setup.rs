//! `rcc setup` and `rcc uninstall` for real, on a machine without systemd: a world, from which everything that the rig makes
//! by hand has been taken away before.

use anyhow::{Context, Result, ensure};
use rcc_rig::{POLICY, USER, shown};
use rcc_sessions::fresh::{built, everything, fresh, sudo};
use rcc_sessions::{Live, SETUP, refused, root, succeeds};
use rcc_world::{World, inside_with};
use std::process::Command;

fn settle(world: &World, more: &str) -> Result<()> {
    // The policy that setup would write, with the world's authority: a file that root has written before is kept.
    let text = format!(
        "users = [\"{USER}\"]\nallow = [\"allowed.example:80\"]\nca_bundle = \"{}\"\n[limits]\nunenforceable = \"warn\"\n{more}",
        world.at.ca_pem.display()
    );
    root("mkdir -p /etc/rcc && chmod 755 /etc/rcc")?;
    Ok(std::fs::write(POLICY, text)?)
}

#[test]
fn a_fresh_machine_is_set_up_runs_sessions_and_is_as_before_after_uninstall() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let built = built()?;
        let before = everything()?;
        ensure!(before.contains("  /etc/passwd") && before.contains("/usr/local/bin d 755"), "{before}");

        let planned = succeeds(&sudo(&built, &["setup", "--dry-run"])?)?;
        ensure!(planned.contains("to do   system user rcc") && !planned.contains("done"), "{planned}");
        root("rm -f /run/rcc-setup.lock")?;
        let after = everything()?;
        ensure!(after == before, "a dry run changed: {}", difference(&before, &after));

        let done = succeeds(&sudo(&built, &["setup"])?)?;
        ensure!(done.contains("done    proof") && done.contains("no systemd runs here"), "{done}");
        let policy = std::fs::read_to_string(POLICY)?;
        ensure!(policy.contains(&format!("users = [\"{USER}\"]")), "{policy}");
        // Twice changes nothing.
        let again = succeeds(&sudo(&built, &["setup", "--json"])?)?;
        let again: serde_json::Value = serde_json::from_str(&again)?;
        let changed: Vec<_> = again["steps"]
            .as_array()
            .context("steps")?
            .iter()
            .filter(|s| s["state"] != "unchanged" && s["subject"] != "proof")
            .collect();
        ensure!(changed.is_empty(), "{changed:?}");
        ensure!(again["problems"].as_array().is_some_and(Vec::is_empty), "{again}");

        // A session, with a policy of this world's.
        settle(world, "")?;
        succeeds(&sudo(&built, &["setup"])?)?;
        let output = rig.inside("curl -sS -o /dev/null -w '%{http_code}' http://allowed.example/")?;
        ensure!(succeeds(&output)? == "200", "{}", shown(&output));
        // The gateway is nobody's child and has no capability.
        let gateway = root(
            "pid=$(pgrep -u rcc -f 'rcc-gateway serve'); grep -E '^(Cap(Inh|Prm|Eff|Amb)|Groups)' /proc/$pid/status; readlink /proc/$pid/exe",
        )?;
        ensure!(
            gateway.lines().filter(|l| l.starts_with("Cap")).all(|l| l.ends_with("\t0000000000000000")),
            "{gateway}"
        );
        ensure!(gateway.contains("/usr/local/libexec/rcc/"), "{gateway}");

        // What the person is told, without any privilege.
        let status = |says: &str, code: i32| -> Result<()> {
            let output = rig.rcc(["status"]).output()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.code() == Some(code) && said.contains(says), "{says}: {}", shown(&output));
            Ok(())
        };
        status("is proven", 0)?;
        let json: serde_json::Value = serde_json::from_str(&succeeds(&rig.rcc(["status", "--json"]).output()?)?)?;
        ensure!(
            json["usable"] == true
                && json["gateway"]["details"]["fingerprint"] == json["policy"]["details"]["fingerprint"],
            "{json}"
        );
        root("nft delete table inet rcc")?;
        status("RCC-906", 1)?;
        root("pkill -u rcc -f 'rcc-gateway serve'; sleep 0.3")?;
        status("RCC-401", 1)?;
        // One more run heals both.
        succeeds(&sudo(&built, &["setup"])?)?;
        status("is proven", 0)?;

        let gone = succeeds(&sudo(std::path::Path::new("/usr/local/bin"), &["uninstall", "--purge"])?)?;
        ensure!(gone.contains("done    host firewall: removed"), "{gone}");
        let after = everything()?;
        ensure!(after == before, "{}", difference(&before, &after));
        let again = succeeds(&sudo(&built, &["uninstall", "--purge"])?)?;
        ensure!(!again.contains("done "), "{again}");
        // What one leaves that is killed between the policy and its folder.
        root("mkdir /etc/rcc")?;
        succeeds(&sudo(&built, &["uninstall", "--purge"])?)?;
        ensure!(!std::path::Path::new("/etc/rcc").exists(), "an empty /etc/rcc");
        Ok(())
    });
}

fn difference(before: &str, after: &str) -> String {
    let only = |a: &str, b: &str, sign: &str| -> Vec<String> {
        a.lines().filter(|l| !b.lines().any(|m| m == *l)).map(|l| format!("{sign} {l}")).collect()
    };
    [only(before, after, "-"), only(after, before, "+")].concat().join("\n")
}

#[test]
fn an_update_leaves_sessions_be_and_old_programs_while_they_run() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let built = built()?;
        settle(world, "")?;
        succeeds(&sudo(&built, &["setup"])?)?;
        // As if an older version had been installed, and runs: the gateway of a folder of its name.
        root(
            "cd /usr/local/libexec/rcc; mv [0-9]* 0.0.1; ln -sfn ../libexec/rcc/0.0.1/rcc /usr/local/bin/rcc
            mkdir 0.0.0; cp 0.0.1/rcc 0.0.0/",
        )?;
        let fetch = "curl -sS -o /dev/null -w '%{http_code}\\n' http://allowed.example/";
        let mut live = Live::start(&rig, &format!("{fetch}\nread line\n{fetch}"))?;
        ensure!(live.line()? == "200", "before");
        let said = succeeds(&sudo(&built, &["setup"])?)?;
        ensure!(said.contains("1 sessions run in the gateway of before"), "{said}");
        ensure!(said.contains("removed: 0.0.0") && !said.contains("0.0.1,"), "{said}");
        let link = std::fs::read_link("/usr/local/bin/rcc")?;
        ensure!(!link.to_string_lossy().contains("0.0.1"), "{link:?}");
        std::io::Write::write_all(&mut live.stdin.take().context("a pipe")?, b"\n")?;
        ensure!(live.line()? == "200", "the session goes on");
        let (status, _) = live.end()?;
        ensure!(status.success(), "{status}");
        let said = succeeds(&sudo(&built, &["setup"])?)?;
        ensure!(said.contains("restarted, as what is installed now") && said.contains("removed: 0.0.1"), "{said}");
        succeeds(&sudo(&built, &["uninstall"])?)?;
        root(
            "test -f /etc/rcc/policy.toml && test -f /var/log/rcc/gateway.jsonl
            test -z \"$(find /var/log/rcc -not -user root)\"; ! getent passwd rcc",
        )?;
        // One that is killed between the owner and the mode leaves the mode.
        root("chmod 750 /var/log/rcc")?;
        succeeds(&sudo(&built, &["uninstall"])?)?;
        ensure!(root("stat -c %a /var/log/rcc")? == "700\n", "the log's folder");
        // What was kept is taken up again.
        succeeds(&sudo(&built, &["setup"])?)?;
        let output = rig.inside("true")?;
        ensure!(output.status.success(), "{}", shown(&output));
        Ok(())
    });
}

#[test]
fn what_is_not_setups_is_left_alone() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let built = built()?;
        // Not by the person.
        let mut command = rig.command(built.join("rcc").to_str().context("a path")?);
        command.arg("setup");
        let output = command.output()?;
        ensure!(
            output.status.code() == Some(125) && String::from_utf8_lossy(&output.stderr).contains("RCC-910"),
            "{}",
            shown(&output)
        );
        let refuses = |prepare: &str, code: &str, undo: &str| -> Result<()> {
            root(prepare)?;
            let output = sudo(&built, &["setup"])?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.code() == Some(125) && said.contains(code), "{prepare}: {}", shown(&output));
            root(undo).map(drop)
        };
        refuses("useradd --create-home -s /bin/bash rcc", "RCC-913", "userdel -r rcc")?;
        refuses(
            "ln -s /opt/rcc /usr/local/bin/rcc",
            "RCC-912",
            "test \"$(readlink /usr/local/bin/rcc)\" = /opt/rcc; rm /usr/local/bin/rcc",
        )?;
        refuses("echo mine > /usr/local/bin/rcc", "RCC-912", "grep -q mine /usr/local/bin/rcc; rm /usr/local/bin/rcc")?;
        refuses("chmod 777 /usr/local/libexec", "RCC-912", "chmod 755 /usr/local/libexec")?;
        refuses("mkdir -p /etc/rcc; echo 'nonsense = 1' > /etc/rcc/policy.toml", "RCC-102", "rm /etc/rcc/policy.toml")?;
        // Either says what the system is; the remedy names the option.
        refuses("touch /etc/NIXOS", "RCC-914", "rm /etc/NIXOS")?;
        let nixos = "cp --remove-destination $(readlink -f /etc/os-release) /etc/os-release; sed -i s/^ID=.*/ID=nixos/ /etc/os-release";
        refuses(nixos, "services.rcc.enable = true", "sed -i s/^ID=.*/ID=debian/ /etc/os-release")?;
        // A link in the place of a folder of the log's: nothing behind it changes hands.
        refuses(
            "mkdir /opt/mine; touch /opt/mine/x; rm -rf /var/log/rcc; ln -s /opt/mine /var/log/rcc",
            "RCC-912",
            "test -z \"$(find /opt/mine -not -user root)\"; rm /var/log/rcc",
        )?;
        succeeds(&sudo(&built, &["setup"])?)?;
        // Without the programs beside it, or with one that is not static, nothing is installed.
        root(&format!("mkdir /opt/other && cp {0}/rcc {0}/rcc-setup /opt/other/", built.display()))?;
        let mut command = Command::new("/opt/other/rcc");
        command.arg("setup");
        let output = command.output()?;
        ensure!(String::from_utf8_lossy(&output.stderr).contains("RCC-911"), "{}", shown(&output));
        root(
            "cp /opt/other/rcc /opt/other/rcc-hook; cp /bin/true /opt/other/rcc-gateway; cp /bin/true /opt/other/rcc-firewall",
        )?;
        let mut command = Command::new("/opt/other/rcc");
        command.arg("setup");
        let output = command.output()?;
        ensure!(String::from_utf8_lossy(&output.stderr).contains("is not static"), "{}", shown(&output));
        root("rm /opt/other/rcc-setup")?;
        let mut command = Command::new("/opt/other/rcc");
        command.arg("uninstall");
        refused(command, "RCC-918")?;
        Ok(())
    });
}

/// Users that were there before: setup takes them as they are, and uninstall leaves them.
#[test]
fn a_user_that_setup_did_not_make_stays() {
    inside_with(SETUP, |world| {
        let _rig = fresh(world)?;
        let built = built()?;
        let kept = |before: &str, wanted: &str| -> Result<()> {
            root(before)?;
            succeeds(&sudo(&built, &["setup"])?)?;
            let said = succeeds(&sudo(&built, &["uninstall", "--purge"])?)?;
            let left = root("grep -hs ^rcc: /etc/passwd /etc/group | cut -d: -f1,3-5 || true")?;
            ensure!(left == wanted, "{before}: {left}");
            ensure!(said.contains("which rcc setup did not make") != wanted.is_empty(), "{before}: {said}");
            Ok(())
        };
        kept(
            "groupadd --system --gid 970 rcc; useradd --system --uid 971 -g rcc -c 'of ours' -s /usr/sbin/nologin rcc",
            "rcc:971:970:of ours\nrcc:970:\n",
        )?;
        // What a setup leaves that is killed between the two; and one that makes both.
        kept("userdel rcc; groupadd -f --system rcc", "")?;
        kept("true", "")?;
        // A group that others are in.
        kept(&format!("groupadd --system --gid 970 rcc; usermod -aG rcc {USER}"), &format!("rcc:970:{USER}\n"))?;
        Ok(())
    });
}

/// What locks /etc/passwd and /etc/group was killed, and is not quite gone.
#[test]
fn a_lock_on_users_and_groups_is_waited_for() {
    inside_with(SETUP, |world| {
        let _rig = fresh(world)?;
        let built = built()?;
        let locked = |file: &str| root(&format!("sleep 3 > /dev/null 2>&1 & printf %s $! > {file}"));
        locked("/etc/passwd.lock")?;
        root("! useradd --system other 2>&1").context("the control")?;
        succeeds(&sudo(&built, &["setup"])?)?;
        locked("/etc/group.lock")?;
        root("! groupadd --system other 2>&1").context("the control")?;
        succeeds(&sudo(&built, &["uninstall", "--purge"])?)?;
        Ok(())
    });
}
