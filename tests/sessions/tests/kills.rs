//! `kill -9` of any part at any time of a session's start, and many sessions at once: nothing is left over.
//!
//! The times are drawn anew in each run; a failure says the seed, and `RCC_TEST_SEED` repeats it.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_rig::{Rig, make_folder};
use rcc_sessions::{Live, Process, SETUP, Traces, inside, processes};
use rcc_world::inside_with;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long any session here may take to end, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A generator of numbers (Marsaglia's xorshift64) that begins with a number that can be said.
struct Chance(u64);

impl Chance {
    fn new() -> Result<Self> {
        let seed = match std::env::var("RCC_TEST_SEED") {
            Ok(seed) => seed.parse().context("RCC_TEST_SEED")?,
            Err(_) => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
        };
        Ok(Self(seed | 1))
    }

    /// A part of `most`, every one as likely as any other.
    fn part(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64(f64::from(u32::try_from(self.0 >> 32).unwrap_or(0)) / f64::from(u32::MAX))
    }
}

/// Kills one part of a session that has just been asked for, again and again, each time at another moment; `find` gives
/// the part's process, below the launcher `rcc`. After each, an ordinary session runs well and leaves nothing, neither of
/// its own nor of the killed one's.
fn killed_at_any_time(rig: &Rig<'_>, rounds: usize, find: impl Fn(i32, &[Process]) -> Option<i32>) -> Result<()> {
    let before = Traces::after_first_session(rig)?;
    let began = Instant::now();
    inside(rig, "true")?;
    let most = began.elapsed().mul_f64(1.2);
    let mut chance = Chance::new()?;
    let seed = chance.0;
    let mut hits = 0;
    for round in 0..rounds {
        let delay = chance.part(most);
        let mut child = rig.rcc(["run", "--", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let said = || format!("seed {seed}: round {round}, killed after {delay:?} of {most:?}");
        hits += usize::from(strike(&mut child, delay, &find).with_context(said)?);
        ended(&mut child).with_context(said)?;
        inside(rig, "true").context("the next start").with_context(said)?;
        before.nothing_more(rig).with_context(said)?;
    }
    ensure!(hits > 0, "seed {seed}: none of {rounds} rounds met the part alive");
    Ok(())
}

/// Kills the part `delay` after the start, or as soon as it is there. Whether it was met alive.
fn strike(child: &mut Child, delay: Duration, find: &impl Fn(i32, &[Process]) -> Option<i32>) -> Result<bool> {
    let rcc = i32::try_from(child.id())?;
    std::thread::sleep(delay);
    while child.try_wait()?.is_none() {
        if let Some(pid) = find(rcc, &processes()) {
            return Ok(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
    }
    Ok(false)
}

/// Waits for a launcher's end, however it ended.
fn ended(child: &mut Child) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            let alive = processes().iter().fold(String::new(), |mut text, p| {
                let _never_fails = writeln!(text, "{} below {}: {} {} {}", p.pid, p.parent, p.state, p.name, p.line);
                text
            });
            child.kill()?;
            anyhow::bail!("rcc did not end; there were\n{alive}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn the_launcher_at_any_time_of_a_start() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        killed_at_any_time(&rig, 12, |rcc, _| Some(rcc))
    });
}

#[test]
fn podman_at_any_time_of_a_start() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        killed_at_any_time(&rig, 12, |rcc, all| {
            all.iter().find(|p| p.parent == rcc && p.name == "podman").map(|p| p.pid)
        })
    });
}

#[test]
fn conmon_at_any_time_of_a_start() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        killed_at_any_time(&rig, 8, |_, all| all.iter().find(|p| p.name == "conmon").map(|p| p.pid))
    });
}

#[test]
fn the_hook_at_any_time_of_a_start() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        // It is the watchdog at last, under another name.
        killed_at_any_time(&rig, 8, |_, all| {
            all.iter().find(|p| p.line.starts_with("rcc-hook hook") || p.name == "rcc-watchdog").map(|p| p.pid)
        })
    });
}

#[test]
fn the_gateways_worker_at_any_time_of_a_start() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        killed_at_any_time(&rig, 8, |_, all| {
            let worker =
                |p: &&Process| p.line.contains("rcc-gateway worker") || p.line.starts_with("/proc/self/exe worker");
            all.iter().find(worker).map(|p| p.pid)
        })
    });
}

#[test]
fn twelve_sessions_at_once_in_three_projects() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        let mut projects = vec![rig.project.clone()];
        for name in ["second", "third"] {
            projects.push(rig.user.home.join(name));
            make_folder(&rig.user.home.join(name), &rig.user)?;
        }
        // All are alive at once: each waits for a line after its first word.
        let work = "read own; mkdir \"$own\"; for i in $(seq 100); do echo \"$own $i\" >\"$own/$i\"; done; \
                    cat \"$own\"/* | sort | sha256sum; getent hosts nowhere.example || echo none; exit \"$own\"";
        let sessions: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..12)
                .map(|i| {
                    let (rig, project) = (&rig, &projects[i % 3]);
                    scope.spawn(move || Live::start_in(rig, project, work))
                })
                .collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect::<Result<_>>()
        })?;
        let mut sums = std::collections::BTreeSet::new();
        let mut sessions: Vec<Live> = sessions;
        for (i, live) in sessions.iter_mut().enumerate() {
            writeln!(live.stdin.take().context("no stdin")?, "{i}")?;
        }
        for (i, live) in sessions.iter_mut().enumerate() {
            sums.insert(live.line()?);
            ensure!(live.line()? == "none", "session {i}");
            let (status, said) = live.end()?;
            ensure!(status.code() == i32::try_from(i).ok(), "session {i}: {status} {said}");
            ensure!(projects[i % 3].join(i.to_string()).join("100").exists(), "session {i} worked elsewhere");
        }
        ensure!(sums.len() == 12, "sessions share results: {sums:?}");
        drop(sessions);
        for home in std::fs::read_dir(rig.user.home.join(".local/share/rcc/homes"))?.flatten() {
            std::fs::remove_dir_all(home.path())?;
        }
        // The first project's home is of the first session's time.
        inside(&rig, "true")?;
        before.nothing_more(&rig)
    });
}
