//! A session runs under a key, and the key is nowhere but where the person put it and in the memory of that session's
//! worker in the gateway.

use anyhow::{Context, Result, ensure};
use rcc_attacks::search::{Question, Running, processes, read};
use rcc_rig::{Rig, USER};
use rcc_world::{Setup, inside_with};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

const WORLD: Setup = Setup { user: Some(USER), as_user: false, private_tmp: false, no_wire: false, outside: false };
/// Where the key is by right: what `rcc login` kept, the world's own description (root's), and the model's server.
const BY_RIGHT: &[&str] = &["/home/dev/.config/rcc/anthropic-key", "/run/rcc-world", "/run/current-system"];
const OUTSIDE: &[&str] = &["/run", "/home/dev", "/etc", "/var", "/root", "/opt", "/dev/shm"];
const WAIT: &str = "while ! test -e go-on; do read -t 0.1 < <(:) || :; done";

/// When the world was made, and with it the key.
fn since() -> Result<f64> {
    let about = fs::metadata(Path::new("/run/rcc-world"))?;
    let made = about.created().or_else(|_| about.modified())?;
    Ok(made.duration_since(UNIX_EPOCH)?.as_secs_f64() - 5.0)
}

/// `rcc claude` with the key that `rcc login` kept, and in no environment.
fn logged_in(rig: &Rig<'_>) -> Result<Command> {
    let rcc = |arguments: &[&str]| {
        let mut rcc = rig.rcc(arguments);
        rcc.env_remove("ANTHROPIC_API_KEY");
        rcc
    };
    let mut login = rcc(&["login"]).stdin(Stdio::piped()).spawn()?;
    login.stdin.take().context("no pipe")?.write_all(rig.world.at.model_keys.api_key.as_bytes())?;
    ensure!(login.wait()?.success(), "rcc login failed");
    Ok(rcc(&["claude", "-p", "do what the script says"]))
}

#[test]
fn a_key_is_nowhere_but_in_its_worker() {
    inside_with(WORLD, |world| {
        let rig = Rig::start(world, &[], "")?;
        let key = world.at.model_keys.api_key.as_str();
        let everywhere = Question { key, since: since()?, roots: &["/"], skip: &[], skip_pids: &[] };
        let mut session = Running::start(&rig, logged_in(&rig)?, &[&everywhere.command()?, WAIT])?;

        let began = Instant::now();
        let text = session.result(0)?;
        let inside = read(&text)?;
        println!("inside, in {:?}: {inside:?}", began.elapsed());
        ensure!(inside.found.is_empty(), "a session can read the key in {:?}", inside.found);
        ensure!(inside.searched > 1000 && inside.bytes > 50 << 20, "hardly anything was searched: {inside:?}");

        // The world's own servers have the key, and this test.
        let own = processes(|arguments, _| arguments.contains("rcc-world"))?;
        let skip_pids: Vec<u32> = own.into_iter().chain([std::process::id(), 1]).collect();
        let outside = Question { roots: OUTSIDE, skip: BY_RIGHT, skip_pids: &skip_pids, ..everywhere };
        let found = outside.here()?;
        println!("outside, in {:?}: {found:?}", began.elapsed());
        let gateway = rig.gateway_pid().context("a gateway")?;
        let workers = processes(|_, parent| parent == gateway)?;
        for pid in processes(|_, _| true)? {
            if found.found.contains(&format!("/proc/{pid}/mem")) {
                println!("in memory: {pid} {:?}", fs::read_to_string(format!("/proc/{pid}/cmdline")));
            }
        }
        let [worker] = workers[..] else { anyhow::bail!("workers: {workers:?}") };
        // That its worker's memory has it shows that the search finds what there is.
        ensure!(found.found.iter().eq([&format!("/proc/{worker}/mem")]), "the key is in {:?}", found.found);

        no_core_of(worker, &rig)?;
        rig.wait_until("the session ends without its worker", Duration::from_secs(20), || {
            Ok(session.launcher.try_wait()?.is_some())
        })?;
        let after = outside.here()?;
        println!("after: {after:?}");
        ensure!(after.found.is_empty(), "after the session the key is in {:?}", after.found);
        Ok(())
    });
}

/// As many bytes of core dumps as the machine allows.
const CORES: &str = "ulimit -S -c $(ulimit -H -c)";

/// Whether a process runs; a zombie doesn't.
fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

/// Lets it fail as hard as root can make it fail, with every limit lifted, and looks for a core dump.
fn no_core_of(pid: u32, rig: &Rig<'_>) -> Result<()> {
    let folders = ["/".to_owned(), rig.project.display().to_string(), format!("/proc/{pid}/cwd/")];
    let cores = || -> Result<usize> {
        let names = folders.iter().filter_map(|f| fs::read_dir(f).ok()).flatten().flatten().map(|e| e.file_name());
        Ok(names.filter(|n| n.to_string_lossy().starts_with("core")).count())
    };
    let before = cores()?;
    let fail = |pid: u32| -> Result<()> {
        // Where root may, the limits go as well; they are not what this depends on. A Rust program lets the first
        // SIGSEGV that comes from outside pass.
        let script = format!(
            "prlimit --pid {pid} --core=unlimited --fsize=unlimited 2>/dev/null
            kill -SEGV {pid}; for i in 1 2 3 4 5; do sleep 0.1; kill -SEGV {pid} || exit 0; done 2>/dev/null"
        );
        Command::new("/bin/bash").args(["-c", &script]).status()?;
        Ok(())
    };
    // What may not be dumped belongs to root in /proc, whoever runs it (proc_pid_environ(5)).
    ensure!(fs::metadata(format!("/proc/{pid}/environ"))?.uid() == 0, "{pid} can be dumped");
    fail(pid)?;
    rig.wait_until("it is gone", Duration::from_secs(10), || Ok(!alive(pid)))?;
    ensure!(cores()? == before, "it left a core dump");
    // The control: another process, in the project.
    let script = format!("{CORES}; echo; read -r forever");
    let mut other =
        rig.command("/bin/bash").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    other.stdout.take().context("no pipe")?.read_exact(&mut [0])?;
    fail(other.id())?;
    other.wait()?;
    let made = cores()?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    // Where a program takes core dumps (a pipe, an absolute path), their place is not this world's to look at.
    ensure!(made > before || pattern.starts_with(['|', '/']), "the control left no core dump either, by {pattern:?}");
    for entry in fs::read_dir(&rig.project)?.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("core")) {
        fs::remove_file(entry.path())?;
    }
    Ok(())
}

#[test]
fn the_same_search_finds_a_key_that_is_there() {
    inside_with(WORLD, |world| {
        let rig = Rig::start(world, &[], "")?;
        let key = world.at.model_keys.api_key.as_str();
        // A part of it is enough, in a file, in an environment, in a memory.
        let part = &key[30..60];
        fs::write(rig.project.join("notes"), format!("something {part} more"))?;
        let backwards: String = part.chars().rev().collect();
        let plant = format!("K=$(rev <<< {backwards}) nohup perl -e 'sleep 100' >/dev/null 2>&1 & echo planted $!");
        let question = Question { key, since: since()?, roots: &["/"], skip: &[], skip_pids: &[] };
        let mut session = Running::start(&rig, logged_in(&rig)?, &[&plant, &question.command()?])?;
        let planted = session.result(0)?;
        let pid = planted.split_whitespace().last().context("no number")?.to_owned();
        let found = read(&session.result(1)?)?;
        let notes = rig.project.join("notes").display().to_string();
        for place in [notes, format!("/proc/{pid}/environ"), format!("/proc/{pid}/mem")] {
            ensure!(found.found.contains(&place), "{place} was not found, but {:?}", found.found);
        }
        Ok(())
    });
}

#[test]
fn a_key_of_the_environment_goes_no_further_than_the_launcher() {
    inside_with(WORLD, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut rcc = rig.command("/bin/bash");
        rcc.args(["-c", &format!("{CORES}; exec rcc claude -p 'do what the script says'")]);
        rcc.env("ANTHROPIC_API_KEY", &world.at.model_keys.api_key);
        let mut session = Running::start(&rig, rcc, &["echo here", WAIT])?;
        session.result(0)?;
        let key = world.at.model_keys.api_key.as_bytes();
        let holders = processes(|_, _| true)?.into_iter().filter(|pid| {
            ["environ", "cmdline"].iter().any(|name| {
                let text = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                text.windows(key.len()).any(|w| w == key)
            })
        });
        let holders: Vec<u32> = holders.collect();
        ensure!(holders == [session.launcher.id()], "{holders:?}, and the launcher is {}", session.launcher.id());
        no_core_of(session.launcher.id(), &rig)
    });
}
