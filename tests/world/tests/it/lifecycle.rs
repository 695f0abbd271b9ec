//! Making and ending worlds: exit codes, signals, no way out, nothing left.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_world::{World, runner, token};

use crate::client::{connect, sh};

fn rcc_world(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcc-world"));
    command.args(arguments).env_remove("RCC_WORLD");
    command
}

#[test]
fn exit_codes_come_through() -> Result<()> {
    assert_eq!(rcc_world(&["run", "--", "sh", "-c", "exit 7"]).status()?.code(), Some(7));
    assert_eq!(rcc_world(&["run", "--", "sh", "-c", "kill -9 $$"]).status()?.code(), Some(137));
    let missing = rcc_world(&["run", "--", "/not/there"]).output()?;
    assert_eq!(missing.status.code(), Some(i32::from(runner::FAILED)));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/not/there"));
    assert_eq!(rcc_world(&["run", "--as-user", "--", "true"]).output()?.status.code(), Some(2));
    Ok(())
}

#[test]
fn streams_and_arguments_come_through() -> Result<()> {
    let mut child = rcc_world(&["run", "--", "sh", "-c", r#"cat; echo "$1" >&2"#, "sh", "a b\nc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("stdin")?, b"through")?;
    let done = child.wait_with_output()?;
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"through"[..], &b"a b\nc\n"[..]));
    Ok(())
}

#[test]
fn logs_are_kept_when_asked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let to = folder.path().join("logs");
    let done = rcc_world(&["run", "--private-tmp", "--keep-log"])
        .arg(&to)
        .args(["--", "curl", "-s", "http://allowed.example/"])
        .output()?;
    assert!(done.status.success());
    assert!(std::fs::read_to_string(to.join("witness.jsonl"))?.contains("allowed.example"));
    assert!(!rcc_world::wire::read(&to.join("wire-host.pcap"))?.is_empty());
    Ok(())
}

#[test]
fn there_is_no_way_out() -> Result<()> {
    let Some(world) = World::here() else {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        connect(listener.local_addr()?)?;
        let status = rcc_world(&["run", "--"])
            .arg(std::env::current_exe()?)
            .args(["--exact", "lifecycle::there_is_no_way_out", "--nocapture"])
            .env("OUTSIDE_PORT", listener.local_addr()?.port().to_string())
            .env("OUTSIDE_NET", std::fs::read_link("/proc/self/ns/net")?)
            .status()?;
        assert!(status.success());
        return Ok(());
    };
    let internet = world?.at.internet_pid;
    let port: u16 = std::env::var("OUTSIDE_PORT")?.parse()?;
    assert!(connect(("127.0.0.1", port)).is_err(), "the machine's loopback is another");
    for (who, enter) in [("self", String::new()), ("internet", format!("nsenter -t {internet} -n "))] {
        let pid = if who == "self" { "self".to_owned() } else { internet.to_string() };
        let here = std::fs::read_link(format!("/proc/{pid}/ns/net"))?;
        assert_ne!(here.to_str(), Some(std::env::var("OUTSIDE_NET")?.as_str()));
        // loopback and one end of the pair, whose other end is in the other's namespace
        let links = sh(&format!("{enter}ip -o link"))?;
        let names: BTreeSet<_> = links.lines().filter_map(|l| l.split(": ").nth(1)).collect();
        assert_eq!(names.len(), 2, "{links}");
        assert!(names.contains("lo") && names.iter().any(|n| n.starts_with("eth0@if")), "{links}");
        assert_eq!(links.matches("link-netnsid").count(), 1, "{links}");
    }
    // the pair's ends know each other's index
    let ours = sh("cat /sys/class/net/eth0/iflink")?;
    let theirs = sh(&format!("nsenter -t {internet} -n ip -o link show eth0"))?;
    assert!(theirs.starts_with(&format!("{}: eth0", ours.trim())), "{ours} {theirs}");
    Ok(())
}

/// A world that has said that it runs, with a mark in its command's arguments.
fn running(mark: &str) -> Result<Child> {
    let script = "setsid sleep 3000.$0 & cat /proc/self/cgroup; echo running; sleep 3000";
    let mut child =
        rcc_world(&["run", "--user", "agent-owner", "--", "sh", "-c", script, mark]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    for line in lines {
        if line? == "running" {
            return Ok(child);
        }
    }
    anyhow::bail!("the world didn't start")
}

fn processes(mark: &str) -> Vec<(i32, String)> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pid = |e: &std::fs::DirEntry| e.file_name().to_str()?.parse::<i32>().ok();
    all.filter_map(|e| Some((pid(&e)?, std::fs::read_to_string(e.path().join("cmdline")).ok()?)))
        .filter(|(_, line)| line.contains(mark))
        .collect()
}

fn gone(mark: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !processes(mark).is_empty() {
        anyhow::ensure!(Instant::now() < end, "left: {:?}", processes(mark));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn outside() -> Result<(String, String)> {
    let links = sh("ip -o link")?;
    Ok((std::fs::read_to_string("/proc/self/mountinfo")?, links))
}

#[test]
fn nothing_is_left_after_kill_9_of_the_runner() -> Result<()> {
    let before = outside()?;
    let mark = token::fresh();
    let mut child = running(&mark)?;
    assert!(processes(&mark).len() >= 4, "runner, janitor, init, command: {:?}", processes(&mark));
    child.kill()?;
    child.wait()?;
    gone(&mark)?;
    assert_eq!(outside()?, before);
    assert_eq!(runner::left_over()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_is_left_after_kill_9_of_any_process_of_it() -> Result<()> {
    let before = outside()?;
    for victim in 1..4 {
        let mark = token::fresh();
        let mut child = running(&mark)?;
        let mut all: Vec<_> = processes(&mark).into_iter().map(|(pid, _)| pid).collect();
        all.sort_unstable();
        kill(Pid::from_raw(all[victim]), Signal::SIGKILL)?;
        if all.len() > victim {
            // the janitor's death alone ends nothing
            std::thread::sleep(Duration::from_millis(50));
            let _ended_already = kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM);
        }
        child.wait()?;
        gone(&mark)?;
    }
    assert_eq!(outside()?, before);
    assert_eq!(runner::left_over()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_runner_and_janitor_both_leave_is_swept_by_the_next() -> Result<()> {
    let mark = token::fresh();
    let mut child = running(&mark)?;
    let init_and_others: Vec<_> = processes(&mark).into_iter().map(|(pid, _)| pid).collect();
    // the janitor first: a child of the runner in a session of its own
    for pid in init_and_others {
        let session = nix::unistd::getsid(Some(Pid::from_raw(pid)))?;
        if session.as_raw() == pid {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
    }
    child.kill()?;
    child.wait()?;
    gone(&mark)?;
    assert!(rcc_world(&["run", "--", "true"]).status()?.success());
    assert_eq!(runner::left_over()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn sigterm_reaches_the_command() -> Result<()> {
    let mut child =
        rcc_world(&["run", "--", "sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"])
            .stdout(Stdio::piped())
            .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    assert_eq!(lines.next().context("a line")??, "ready");
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    assert_eq!(lines.next().context("a line")??, "got");
    let status = child.wait()?;
    assert_eq!((status.code(), status.signal()), (Some(3), None));
    Ok(())
}

#[test]
fn worlds_stand_side_by_side() -> Result<()> {
    let worlds: Vec<_> = (0..6)
        .map(|i| {
            let script = format!(
                "curl -sS http://allowed.example/{i} && ! grep -q '/{}\"' /run/rcc-world/witness.jsonl",
                (i + 1) % 6
            );
            rcc_world(&["run", "--", "sh", "-c", &script]).stdout(Stdio::null()).spawn()
        })
        .collect::<Result<_, _>>()?;
    for mut world in worlds {
        assert!(world.wait()?.success());
    }
    Ok(())
}
