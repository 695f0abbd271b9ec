//! The script: a fresh machine, setup, sessions, a restart, a flushed ruleset, a reboot, and uninstall. Its short form leaves
//! out what takes minutes of waiting.
//!
//! Each step says what it saw. What is done is done as the ordinary user, with sudo where README says so; root looks on,
//! and is the administrator who edits the policy.

use super::image::BUILT;
use super::state;
use crate::steps::Steps;
use anyhow::{Context as _, Result, ensure};
use rcc_machine::{Machine, PATIENCE, Who};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The log with what each step saw.
pub const LOG: &str = "what was seen";
/// What the service may be exposed by, as `systemd-analyze security` counts it.
const EXPOSURE: f64 = 1.5;
/// Setup, as a person calls it who has built rcc.
pub const SETUP: &str = "sudo /mnt/built/product/rcc setup";

/// Root's policy: the machine's internet has an authority of its own, and one host is allowed.
const POLICY: &str = "allow = [\"@claude\", \"allowed.example:80\"]\nusers = [\"dev\"]\nca_bundle = \
                      \"/run/rcc-world/ca.pem\"\n\n[credentials.anthropic]\n";
/// The key that the scripted model takes.
pub const KEY: &str = "export ANTHROPIC_API_KEY=$(python3 -c 'import json; \
                   print(json.load(open(\"/run/rcc-world/WORLD.json\"))[\"model_keys\"][\"api_key\"])')";
/// What the services said, for whoever looks for a failure's cause.
const DIAGNOSIS: &str =
    "journalctl -b --no-pager -o short-monotonic -u 'rcc-*' | tail -n 80; tail -n 30 /var/log/rcc/gateway.jsonl";
/// What the agent tries: a command, and whether it is to succeed. Each succeeds without rcc.
const ATTEMPTS: &[(&str, bool)] = &[
    ("echo written >> notes.txt && cat notes.txt", true),
    ("curl -sS -m 20 -o /dev/null http://allowed.example/", true),
    ("curl -sS -m 20 -o /dev/null http://denied.example/", false),
    ("curl -sS -m 20 -o /dev/null http://11.66.66.66/", false),
    ("curl -sS -m 20 -o /dev/null http://192.168.77.20/", false),
    ("curl -sS -m 20 -o /dev/null http://169.254.169.254/", false),
    ("cat /home/dev/.ssh/id_ed25519", false),
    ("ls /home/dev/other", false),
    ("test -e /var/log/journal", false),
];

/// How much of the script is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
    /// Setup, the agent, a reboot, the agent, uninstall.
    Short,
}

/// In order. Of what is looked at between setup, reboot and uninstall, each is, whatever came of the one before.
pub fn run(machine: &mut Machine, form: Form, steps: &Steps) -> Result<()> {
    steps.run("boot", || machine.await_boot())?;
    let before = steps.run("state before", || machine.succeeds(Who::Root, state::SCRIPT))?;
    steps.run("the person", || person(machine))?;
    steps.run("setup", || setup(machine, steps))?;
    let mut all = vec![
        steps.run("setup again", || setup_again(machine)),
        steps.run("status", || status(machine)),
        steps.run("units are out of the person's reach", || units(machine)),
        steps.run("exposure of the service", || exposure(machine, steps)),
        steps.run("the real agent", || agent(machine)),
        steps.run("confined workers", || confined(machine)),
    ];
    if form == Form::Whole {
        all.extend([
            steps.run("session", || session(machine)),
            steps.run("restart of the service", || restart(machine, steps)),
            steps.run("flushed ruleset", || flushed(machine, steps)),
            steps.run("status without the table", || status_without_the_table(machine)),
        ]);
    }
    if all.iter().any(Result::is_err) {
        steps.note(LOG, &machine.run(Who::Root, DIAGNOSIS, PATIENCE)?.out)?;
    }
    steps.run("reboot", || reboot(machine))?;
    all.push(steps.run("before any login", || before_logins(machine, steps)));
    all.push(steps.run("status after reboot", || status_in_a_minute(machine)));
    all.push(steps.run("agent after reboot", || agent(machine)));
    all.push(steps.run("uninstall", || uninstall(machine, steps, &before)));
    all.into_iter().collect()
}

/// A person with a project, and things that are none of the agent's business.
pub fn person(machine: &mut Machine) -> Result<()> {
    machine.succeeds(
        Who::Person,
        &format!(
            "mkdir -p project other .ssh .local/share/rcc && echo secret > .ssh/id_ed25519 && sudo cp -r \
             {BUILT}/agents .local/share/rcc/agents && sudo chown -R dev: .local/share/rcc && cd project && git init -q && echo hello > notes.txt"
        ),
    )?;
    let mut without = Vec::new();
    for (attempt, _) in ATTEMPTS {
        if machine.run(Who::Person, &format!("cd project && {attempt}"), PATIENCE)?.code != Some(0) {
            without.push(*attempt);
        }
    }
    ensure!(without.is_empty(), "without rcc these should succeed: {without:#?}");
    Ok(())
}

/// `rcc setup`, and the policy of this machine's administrator.
pub fn setup(machine: &mut Machine, steps: &Steps) -> Result<()> {
    let said = machine.succeeds(Who::Person, SETUP)?;
    steps.note(LOG, &format!("$ {SETUP}\n{said}"))?;
    machine.succeeds(Who::Root, &format!("cat > /etc/rcc/policy.toml <<'END'\n{POLICY}END\n"))?;
    machine.succeeds(Who::Person, SETUP).map(drop)
}

/// Nothing is left to do.
fn setup_again(machine: &mut Machine) -> Result<()> {
    let said = machine.succeeds(Who::Person, &format!("{SETUP} --json"))?;
    let report: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let steps = report["steps"].as_array().context("setup reports no steps")?;
    // The proof is made each time.
    let done: Vec<_> = steps.iter().filter(|s| s["state"] != "unchanged" && s["subject"] != "proof").collect();
    ensure!(steps.len() > 1 && done.is_empty(), "something was left to do: {done:#?}");
    Ok(())
}

/// What the ordinary user is told: the table as root's oneshot reads it back, and the gateway's proof, of one policy.
fn status(machine: &mut Machine) -> Result<()> {
    let said = machine.succeeds(Who::Person, "rcc status --json")?;
    let status: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let by_root = &status["firewall"]["details"];
    ensure!(status["usable"] == true && by_root["state"] == "in force", "{said}");
    let fingerprint = &by_root["fingerprint"];
    let same = ["gateway", "policy"].iter().all(|part| status[part]["details"]["fingerprint"] == *fingerprint);
    ensure!(fingerprint.is_string() && same, "not of one policy: {said}");
    Ok(())
}

/// The status once the links that came up after the table, which is there before the network, are in it: the unit that looks
/// each minute puts them there.
fn status_in_a_minute(machine: &mut Machine) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let result = status(machine);
        if result.is_ok() || Instant::now() > end {
            return result;
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

/// What the person may not do to the units, without sudo; each succeeds for root.
const ON_UNITS: &str = r#"cd /etc/systemd/system && for unit in rcc-*; do
    for try in 'echo x >> $unit' ': > $unit' 'rm -f $unit' 'mv $unit $unit.old' 'chmod 666 $unit' 'ln -sf /dev/null $unit'         'mkdir $unit.d' 'systemctl --no-ask-password stop $unit' 'systemctl --no-ask-password kill $unit'         'systemctl --no-ask-password disable $unit' 'systemctl --no-ask-password mask --runtime $unit'         'systemctl --no-ask-password set-property --runtime $unit IPAddressDeny='; do
      (eval "$try") > /dev/null 2>&1 < /dev/null && echo "DONE, $unit: $try"
    done
  done
  echo end"#;

fn units(machine: &mut Machine) -> Result<()> {
    let listing = "ls -l --time-style=full-iso /etc/systemd/system /run/systemd/system; sha256sum /etc/systemd/system/rcc-*; \
                   systemctl is-active rcc-firewall.timer rcc-gateway.socket rcc-status.socket";
    let before = machine.succeeds(Who::Root, listing)?;
    let said = machine.succeeds(Who::Person, ON_UNITS)?;
    ensure!(said == "end\n", "{said}");
    let after = machine.succeeds(Who::Root, listing)?;
    ensure!(before == after, "{before}\n---\n{after}");
    self::status(machine)
}

/// The status, while nothing brings the table back.
fn status_without_the_table(machine: &mut Machine) -> Result<()> {
    machine.succeeds(Who::Root, "systemctl stop rcc-firewall.timer rcc-firewall.path && nft flush ruleset")?;
    let said = machine.run(Who::Person, "rcc status --json", PATIENCE)?;
    machine.succeeds(
        Who::Root,
        "systemctl start rcc-firewall.timer rcc-firewall.path && systemctl restart rcc-firewall.service",
    )?;
    let status: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
    ensure!(said.code == Some(1) && status["usable"] == false, "{said:?}");
    ensure!(status["firewall"]["details"]["state"] == "absent", "{said:?}");
    self::status(machine)
}

/// Any program in a session: what is allowed works, all else does not.
pub fn session(machine: &mut Machine) -> Result<()> {
    let mut wrong = Vec::new();
    let tried: Vec<String> =
        ATTEMPTS.iter().map(|(attempt, _)| format!("({attempt}) >/dev/null 2>&1; echo result $?")).collect();
    let script = format!("cd project && {KEY}; rcc run -- /bin/bash -c '{}'", tried.join("; "));
    let said = machine.succeeds(Who::Person, &script)?;
    let results: Vec<bool> = said.lines().filter_map(|l| Some(l.strip_prefix("result ")? == "0")).collect();
    ensure!(results.len() == ATTEMPTS.len(), "{} of {} attempts ran:\n{said}", results.len(), ATTEMPTS.len());
    for ((attempt, should), did) in ATTEMPTS.iter().zip(results) {
        if *should != did {
            wrong.push(*attempt);
        }
    }
    ensure!(wrong.is_empty(), "not as it should be: {wrong:#?}");
    Ok(())
}

/// Under the unit's filter of system calls a worker still puts Landlock on itself.
fn confined(machine: &mut Machine) -> Result<()> {
    let log = machine.succeeds(Who::Root, "grep '\"event\":\"session\"' /var/log/rcc/gateway.jsonl")?;
    let confined = log.lines().filter(|l| l.contains("\"files\":\"confined by Landlock")).count();
    ensure!(confined > 0 && confined == log.lines().count(), "sessions without Landlock: {log}");
    Ok(())
}

/// The real Claude Code, with the scripted model behind the gateway; its own tool makes the attempts.
fn agent(machine: &mut Machine) -> Result<()> {
    let turns: Vec<Value> = ATTEMPTS
        .iter()
        .map(|(attempt, _)| {
            let command = format!("({attempt}) >/dev/null 2>&1; echo result $?");
            json!({ "tools": [{ "name": "Bash", "input": { "command": command, "timeout": 120_000 } }] })
        })
        .chain([json!({ "text": "finished as told" })])
        .collect();
    let script = serde_json::to_string(&turns)?;
    machine.succeeds(
        Who::Root,
        &format!("cat > /run/rcc-world/script/script.json <<'END'\n{script}\nEND\n: > /run/rcc-world/model.jsonl"),
    )?;
    let said = machine.succeeds(Who::Person, &format!("cd project && {KEY}; rcc claude -p 'do as you are told'"))?;
    ensure!(said.contains("finished as told"), "the agent said: {said}");
    let log = machine.succeeds(Who::Root, "cat /run/rcc-world/model.jsonl")?;
    let exchanges: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let results: Vec<&str> = exchanges
        .iter()
        .filter_map(|e| e["message"]["results"].as_array())
        .flatten()
        .filter_map(|r| r["text"].as_str()?.lines().find_map(|l| l.strip_prefix("result ")))
        .collect();
    ensure!(results.len() == ATTEMPTS.len(), "{} of {} attempts ran: {log}", results.len(), ATTEMPTS.len());
    let wrong: Vec<_> = ATTEMPTS.iter().zip(&results).filter(|((_, s), r)| *s != (**r == "0")).collect();
    ensure!(wrong.is_empty(), "not as it should be: {wrong:#?}");
    Ok(())
}

/// `systemd-analyze security`; the worst lines are printed, so that the unit's author sees what costs most.
fn exposure(machine: &mut Machine, steps: &Steps) -> Result<()> {
    let said = machine.succeeds(Who::Root, "systemd-analyze security --no-pager rcc-gateway.service")?;
    let overall = said.lines().find_map(|l| l.split_once("Overall exposure level for rcc-gateway.service: "));
    let overall = overall.and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok()).context(said.clone())?;
    let mut costly: Vec<(f64, &str)> = said
        .lines()
        .filter_map(|line| Some((line.split_whitespace().last()?.parse().ok()?, line)))
        .filter(|(cost, line)| *cost > 0.0 && !line.contains("Overall"))
        .collect();
    costly.sort_by(|a, b| b.0.total_cmp(&a.0));
    steps.note(LOG, &format!("exposure of rcc-gateway.service: {overall}"))?;
    for (_, line) in &costly {
        steps.note(LOG, &format!("  {line}"))?;
    }
    ensure!(overall <= EXPOSURE, "exposed by {overall}, more than {EXPOSURE}");
    Ok(())
}

/// Whoever connects while the service is restarted waits, and is served: the socket is the same one.
fn restart(machine: &mut Machine, steps: &Steps) -> Result<()> {
    let socket = "grep -E '/run/rcc/gateway.sock$' /proc/net/unix | awk '$6 == \"01\" { print $7 }'; stat -c %i \
                  /run/rcc/gateway.sock; systemctl show -P MainPID rcc-gateway.service";
    let before = machine.succeeds(Who::Root, socket)?;
    let restarting = machine.begin(
        Who::Root,
        "for i in 1 2 3; do systemctl reset-failed rcc-gateway.service; systemctl restart rcc-gateway.service || exit; done",
    )?;
    let during =
        machine.run(Who::Person, "cd project && for i in 1 2 3; do rcc run -- true; echo code $?; done", PATIENCE)?;
    let restarted = machine.end(restarting, PATIENCE)?;
    ensure!(restarted.code == Some(0), "{restarted:?}");
    // One that the old process had begun to serve ends with it, and says so (RCC-406): but none finds nobody to ask.
    let (refused, cut) = (during.out.matches("code 125").count(), during.err.matches("RCC-406").count());
    ensure!(refused == cut, "a session found no gateway during the restart: {during:?}");
    let after = machine.succeeds(Who::Root, socket)?;
    steps.note(LOG, &format!("socket and process before and after:\n{before}{after}"))?;
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    ensure!(before.len() == 3 && before[..2] == after[..2], "the socket is another: {before:?}, {after:?}");
    ensure!(before[2] != after[2], "the service was not restarted");
    machine.succeeds(Who::Person, "cd project && rcc run -- true").map(drop)
}

/// Somebody flushes all rules, twice: the session is held until the table is in force again, first by the unit that looks
/// each minute, then because nftables was restarted; and it goes on.
fn flushed(machine: &mut Machine, steps: &Steps) -> Result<()> {
    let looping = "cd project && rcc run -- /bin/bash -c 'until test -e stop; do curl -sS -m 3 -o /dev/null \
                   http://allowed.example/ && echo through || echo held; sleep 1; done' 2>&1; rm -f stop";
    let session = machine.begin(Who::Person, looping)?;
    std::thread::sleep(Duration::from_secs(20));
    let first = held_until(machine, "true", "that looks each minute")?;
    let second = held_until(machine, "systemctl restart nftables.service", "that follows nftables")?;
    std::thread::sleep(Duration::from_secs(10));
    machine.succeeds(Who::Person, "touch project/stop")?;
    let answer = machine.end(session, PATIENCE)?;
    let results = answer.out.lines().filter(|l| ["through", "held"].contains(l));
    let marks: String = results.map(|l| if l == "through" { '.' } else { 'x' }).collect();
    steps.note(
        LOG,
        &format!(
            "flushed in mid-session; in force again after {first:.0} s by the unit that looks, {second:.0} s by nftables' \
             restart; through is ., held is x: {marks}"
        ),
    )?;
    ensure!(answer.code == Some(0), "the session ended: {answer:?}");
    ensure!(marks.starts_with('.') && marks.ends_with('.'), "not through before and after: {marks}");
    ensure!(marks.contains('x'), "nothing was held though no table was in force: {marks}");
    Ok(())
}

/// Flushes all rules and does what is said after a while; gives the seconds until the table is in force again.
fn held_until(machine: &mut Machine, then: &str, unit: &str) -> Result<f64> {
    machine.succeeds(Who::Root, "nft flush ruleset")?;
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(8));
    machine.succeeds(Who::Root, then)?;
    while machine.run(Who::Root, "nft list table inet rcc", PATIENCE)?.code != Some(0) {
        ensure!(began.elapsed() < Duration::from_secs(180), "the unit {unit} did not bring the table back");
        std::thread::sleep(Duration::from_secs(2));
    }
    Ok(began.elapsed().as_secs_f64())
}

/// The machine starts anew.
fn reboot(machine: &mut Machine) -> Result<()> {
    // The answer may be lost on its way.
    machine.begin(Who::Person, "sudo systemctl reboot")?;
    machine.await_boot().map(drop)
}

/// Firewall and gateway were in force before anybody could log in.
fn before_logins(machine: &mut Machine, steps: &Steps) -> Result<()> {
    let mut when = Vec::new();
    for unit in ["rcc-firewall.service", "rcc-gateway.socket", "systemd-user-sessions.service"] {
        let said = machine.succeeds(Who::Root, &format!("systemctl show -P ActiveEnterTimestampMonotonic {unit}"))?;
        when.push((said.trim().parse::<u64>().with_context(|| format!("{unit}: {said}"))?, unit));
    }
    let journal = machine.succeeds(
        Who::Root,
        "journalctl -b --no-pager -o short-monotonic -u rcc-firewall.service -u rcc-gateway.socket -u \
         rcc-gateway.service -u systemd-user-sessions.service -u nftables.service",
    )?;
    steps.note(LOG, &format!("after the reboot, microseconds: {when:?}\n{journal}"))?;
    ensure!(when.iter().all(|(t, _)| *t > 0), "a unit is not active: {when:?}");
    ensure!(when[..2].iter().all(|(t, _)| *t < when[2].0), "a person could have been there first: {when:?}");
    machine.succeeds(Who::Root, "nft list table inet rcc > /dev/null").map(drop)
}

/// Nothing is left of rcc.
fn uninstall(machine: &mut Machine, steps: &Steps, before: &str) -> Result<()> {
    let said = machine.succeeds(Who::Person, "sudo rcc uninstall --purge")?;
    steps.note(LOG, &format!("$ sudo rcc uninstall --purge\n{said}"))?;
    let after = machine.succeeds(Who::Root, state::SCRIPT)?;
    let difference = state::difference(before, &after);
    ensure!(difference.is_empty(), "left, or gone:\n{}", difference.join("\n"));
    Ok(())
}
