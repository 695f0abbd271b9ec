//! How sessions end: by themselves, by signals, side by side, and by `kill -9` of any part.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rcc_rig::{Rig, make_folder, shown};
use rcc_sessions::{Live, Part, REFUSED, SETUP, Traces, inside};
use rcc_world::inside_with;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a part may take to follow another into its end, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn exit_codes_are_the_programs_own() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
            let output = rig.inside(script)?;
            ensure!(output.status.code() == Some(code), "{script}: {}", shown(&output));
        }
        for (program, code) in [("/not/there", 127), ("/etc/passwd", 126)] {
            let output = rig.rcc(["run", "--", program]).output()?;
            ensure!(output.status.code() == Some(code), "{program}: {}", shown(&output));
        }
        Ok(())
    });
}

#[test]
fn what_a_killed_launcher_left_goes_at_the_very_next_start() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        // More folders to watch: the kernel closes them before it lets go of the session's lock.
        rcc_sessions::user(&rig, "git init -q .; git commit -q --allow-empty -m 1 || :")?;
        let sessions = || rcc_sessions::user(&rig, "ls /run/user/*/rcc/sessions");
        for _ in 0..5 {
            let live = Live::idle(&rig)?;
            let before = sessions()?;
            live.kill(Part::Launcher)?;
            inside(&rig, "true")?;
            let left = sessions()?;
            ensure!(left.is_empty() && !before.is_empty(), "of {before}, there is still {left}");
        }
        Ok(())
    });
}

#[test]
fn bytes_pass_through_unchanged() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let mut child = rig.rcc(["run", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("no pipe")?;
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&sent));
        let output = child.wait_with_output()?;
        writer.join().expect("the writer does not panic")?;
        ensure!(output.status.success() && output.stdout == bytes, "{} bytes came back", output.stdout.len());
        Ok(())
    });
}

#[test]
fn a_slow_reader_gets_all() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        // More than a pipe holds, less than the agent is kept waiting for; the agent has long ended when it is read.
        let mut child = rig.rcc(["run", "--", "seq", "30000"]).stdout(Stdio::piped()).spawn()?;
        let mut stdout = child.stdout.take().context("no pipe")?;
        std::thread::sleep(Duration::from_secs(5));
        ensure!(child.try_wait()?.is_none(), "rcc ended before its output was read");
        let mut text = String::new();
        stdout.read_to_string(&mut text)?;
        let status = child.wait()?;
        ensure!(status.success() && text.lines().count() == 30000, "{status}, {} lines", text.lines().count());
        Ok(())
    });
}

#[test]
fn signals_end_a_session() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            // Bash waits for its child before it heeds a signal; `exec` leaves one program alone.
            let mut live = Live::start(&rig, "exec python3 -c 'import time; time.sleep(1000)'")?;
            live.signal(signal)?;
            let (status, said) = live.end().with_context(|| signal.to_string())?;
            ensure!(!status.success(), "{signal}: {status} {said}");
            live.is_dead_within(PATIENCE)?;
        }
        before.nothing_more(&rig)
    });
}

#[test]
fn many_sessions_side_by_side() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        let other = rig.user.home.join("another");
        make_folder(&other, &rig.user)?;
        let mut all = Vec::new();
        for i in 0..6 {
            let project = if i % 2 == 0 { &rig.project } else { &other };
            all.push(Live::start_in(&rig, project, "read line; echo \"got $line\"")?);
        }
        for (i, live) in all.iter_mut().enumerate() {
            writeln!(live.stdin.take().context("no stdin")?, "{i}")?;
            ensure!(live.line()? == format!("got {i}"), "session {i} got another's line");
            let (status, said) = live.end()?;
            ensure!(status.success(), "{status} {said}");
        }
        drop(all);
        std::fs::remove_dir_all(rig.user.home.join(".local/share/rcc/homes")).ok();
        before.nothing_more(&rig)
    });
}

#[test]
fn a_kill_of_any_part_leaves_nothing_after_the_next_start() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        for part in [
            Part::Launcher,
            Part::Podman,
            Part::Conmon,
            Part::Init,
            Part::Agent,
            Part::Watchdog,
            Part::Worker,
            Part::Supervisor,
        ] {
            killed(&mut rig, part).with_context(|| format!("{part:?} was killed"))?;
            inside(&rig, "true").with_context(|| format!("the start after {part:?} was killed"))?;
            if part != Part::Supervisor {
                before.nothing_more(&rig).with_context(|| format!("after {part:?} was killed"))?;
            }
        }
        Ok(())
    });
}

/// Kills one part of a session under way; the agent must not outlive it, and rcc must end.
fn killed(rig: &mut Rig<'_>, part: Part) -> Result<()> {
    let mut live = Live::idle(rig)?;
    live.kill(part)?;
    live.is_dead_within(PATIENCE)?;
    let (status, said) = live.end()?;
    ensure!(!status.success(), "rcc ended with {status}: {said}");
    if matches!(part, Part::Worker | Part::Supervisor) {
        ensure!(status.code() == Some(124) && said.contains("RCC-406"), "{status}: {said}");
    }
    if part == Part::Supervisor {
        rig.kill_gateway()?;
        rig.start_gateway()?;
    }
    Ok(())
}

/// systemd holds the sockets while the service is restarted: whom the old gateway leaves without an answer, the new one
/// serves. Who meets no gateway a second time is told so.
#[test]
fn a_gateway_that_restarts_while_a_session_is_opened_is_asked_again() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &[], "")?;
        rig.kill_gateway()?;
        // Goes without a word after so many calls, and is then what the service starts anew.
        let holder = "import os, socket, sys
listeners = []
for name in ('gateway.sock', 'log.sock'):
    path = '/run/rcc/' + name
    if os.path.exists(path): os.remove(path)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(path); os.chmod(path, 0o666); s.listen(9)
    listeners.append(s)
print('ready', flush=True)
for _ in range(int(sys.argv[1])): listeners[0].accept()[0].close()
for fd, s in zip((10, 11), listeners): os.dup2(s.fileno(), fd)
for fd, at in ((10, 3), (11, 4)): os.dup2(fd, at); os.close(fd)
os.execve(sys.argv[2], ['rcc-gateway', 'serve'], {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2'})";
        let id = nix::unistd::User::from_name(rcc_proto::GATEWAY_USER)?.context("the gateway's user")?.uid.as_raw();
        for (silent, code) in [("0", 0), ("1", 0), ("2", REFUSED)] {
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-c", holder, silent, &format!("{}/rcc-gateway", rcc_rig::INSTALLED)]).env_clear();
            let mut gateway = command.uid(id).gid(id).current_dir("/").stdout(Stdio::piped()).spawn()?;
            let mut line = String::new();
            BufReader::new(gateway.stdout.as_mut().context("a pipe")?).read_line(&mut line)?;
            let output = rig.inside("exit 0")?;
            gateway.kill()?;
            gateway.wait()?;
            let said = String::from_utf8_lossy(&output.stderr).contains("RCC-406");
            ensure!(output.status.code() == Some(code) && said == (code != 0), "{silent}: {}", shown(&output));
        }
        Ok(())
    });
}
