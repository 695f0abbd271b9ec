//! The person's terminal: what passes through it, and how it is found afterwards.

use anyhow::{Context, ensure};
use rcc_rig::{Rig, shown};
use rcc_sessions::{Part, Process, Pty, SETUP, Traces};
use rcc_world::inside_with;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// Runs until it is told to end, and says so when it is ready.
const IDLE: &str = "echo ready; while :; do sleep 1000; done";

#[test]
fn the_size_is_the_terminals_and_follows_it() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut pty = Pty::start(&rig, 31, 97)?;
        pty.run(&rig, "stty size; trap 'stty size; exit 5' WINCH; echo waiting; while :; do sleep 0.1; done")?;
        let said = pty.until("waiting")?;
        ensure!(said.contains("31 97"), "{said}");
        pty.resize(44, 123)?;
        pty.until("44 123")?;
        pty.prompt(5)?;
        Ok(())
    });
}

#[test]
fn ctrl_c_is_the_programs() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut pty = Pty::start(&rig, 24, 80)?;
        // A program that takes it for a reason to work on, and ends by itself. The first Ctrl-C may come while it still says
        // that it is ready, where Python's print can't be called again.
        let script = r#"exec python3 -c '
import os, signal
count = 0
def heed(*_):
    global count
    count += 1
    os.write(1, b"once\n")
    if count == 2: os._exit(7)
signal.signal(signal.SIGINT, heed)
os.write(1, b"ready\n")
while True: signal.pause()
'"#;
        pty.run(&rig, script)?;
        pty.until("ready")?;
        pty.keys("\x03")?;
        pty.until("once")?;
        pty.rcc().context("rcc ended before the program")?;
        pty.keys("\x03")?;
        pty.prompt(7)?;
        // One that it ends, and Ctrl-\ likewise.
        for (key, code) in [("\x03", 130), ("\x1c", 131)] {
            // Bash itself would be deaf to the second.
            pty.run(&rig, "exec python3 -c 'print(\"ready\", flush=True); import time; time.sleep(1000)'")?;
            pty.until("ready")?;
            pty.keys(key)?;
            pty.prompt(code)?;
        }
        Ok(())
    });
}

fn all_stopped(agent: &[Process]) -> bool {
    !agent.is_empty() && agent.iter().all(|p| p.state == 'T')
}

fn none_stopped(agent: &[Process]) -> bool {
    !agent.is_empty() && agent.iter().all(|p| p.state != 'T')
}

#[test]
fn ctrl_z_stops_all_of_it_and_fg_goes_on() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut pty = Pty::start(&rig, 24, 80)?;
        let before = pty.ask("stty -g")?;
        // Another process of the agent's is in no foreground group and hears no Ctrl-Z; it stops as well.
        pty.run(
            &rig,
            "set -m; (exec -a \"other $1\" sleep 1000) & set +m; echo ready; read line; echo \"got $line\"; exit 6",
        )?;
        pty.until("ready")?;
        for _ in 0..2 {
            pty.keys("\x1a")?;
            pty.until("Stopped")?;
            pty.prompt(148)?;
            pty.agent_becomes("stopped", all_stopped)?;
            ensure!(pty.agent().len() > 1, "{:?}", pty.agent());
            ensure!(pty.ask("stty -g")? == before, "the shell's terminal is not as it was");
            // In the background it has no terminal, and stops again, as an editor does.
            pty.command("bg")?;
            pty.prompt(0)?;
            pty.within(Duration::from_millis(500))?;
            pty.agent_becomes("stopped", all_stopped)?;
            ensure!(pty.ask("stty -g")? == before, "bg took the shell's terminal");
            ensure!(pty.ask("jobs -s | grep -c rcc")? == "1", "{}", pty.screen());
            pty.command("fg")?;
            pty.agent_becomes("going on", none_stopped)?;
        }
        pty.keys("hello\n")?;
        pty.until("got hello")?;
        pty.prompt(6)?;
        ensure!(pty.ask("stty -g")? == before, "the terminal is not as it was");
        Ok(())
    });
}

#[test]
fn a_stopped_session_can_be_killed() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let traces = Traces::after_first_session(&rig)?;
        let mut pty = Pty::start(&rig, 24, 80)?;
        let before = pty.ask("stty -g")?;
        for signal in ["TERM", "HUP", "KILL"] {
            pty.run(&rig, IDLE)?;
            pty.until("ready")?;
            pty.keys("\x1a")?;
            pty.until("Stopped")?;
            pty.prompt(148)?;
            pty.command(&format!("kill -{signal} %%"))?;
            pty.prompt(0)?;
            pty.agent_becomes("gone", <[Process]>::is_empty).with_context(|| signal)?;
            pty.all_end().with_context(|| signal)?;
            ensure!(pty.ask("stty -g")? == before, "{signal}: the terminal is not as it was");
        }
        drop(pty);
        rcc_sessions::inside(&rig, "true")?;
        traces.nothing_more(&rig)
    });
}

#[test]
fn the_terminal_is_left_as_it_was_found() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut pty = Pty::start(&rig, 24, 80)?;
        let before = pty.ask("stty -g")?;
        let modes = "\\e[?1049h\\e[?25l\\e[?1000h\\e[?1002h\\e[?1003h\\e[?1006h\\e[?1004h\\e[?2004h\\e[?1h\\e=\\e[>1u\\e[>4;2m\\e[?7l\\e[31m";
        let undone = [
            "?1047l", "?25h", "?1000l", "?1002l", "?1003l", "?1006l", "?1004l", "?2004l", "?1l", "=0u", ">4m", "?7h",
            "0m",
        ];
        // A string that never ends would swallow what follows.
        let script = format!("stty raw -echo; printf '{modes}'; printf '\\e]0;title'; printf LEFT");
        for (part, after, code) in [
            (None, "exit 3", 3),
            (Some(Part::Agent), "while :; do sleep 1000; done", 137),
            (Some(Part::Podman), "while :; do sleep 1000; done", 137),
            (Some(Part::Launcher), "while :; do sleep 1000; done", 137),
            (Some(Part::Init), "while :; do sleep 1000; done", 137),
            (Some(Part::Worker), "while :; do sleep 1000; done", 124),
        ] {
            pty.run(&rig, &format!("{script}; {after}"))?;
            pty.until("LEFT")?;
            if let Some(part) = part {
                pty.kill(part)?;
            }
            let end = pty.prompt(code).with_context(|| format!("{part:?}"))?;
            // Nobody is left who could reset the screen; the modes of the line are put back by shells themselves.
            if part != Some(Part::Launcher) {
                for sequence in undone {
                    ensure!(end.contains(&format!("\x1b[{sequence}")), "{part:?}: no {sequence} in {end:?}");
                }
                ensure!(end.contains("\x18\x1b\\"), "{part:?}: the string goes on: {end:?}");
            }
            // Until Podman has followed, it may still read the terminal.
            pty.all_end()?;
            ensure!(pty.ask("stty -g")? == before, "{part:?}: the terminal is not as it was");
        }
        Ok(())
    });
}

#[test]
fn late_answers_of_the_terminal_are_not_typed_at_the_prompt() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut pty = Pty::start(&rig, 24, 80)?;
        for late in [0, 100, 300] {
            pty.answer_after(Some(Duration::from_millis(late)));
            // The last one comes with the program's last breath.
            pty.run(&rig, "stty raw -echo; printf '\\e[c\\e[6n'; printf '\\e[c'; printf '\\e[6nASKED'")?;
            pty.until("ASKED")?;
            let end = pty.prompt(0)?;
            let typed = pty.within(Duration::from_millis(700))?;
            ensure!(typed.is_empty(), "{late} ms late, typed at the prompt: {typed:?}");
            ensure!(!end.contains("^["), "{late} ms late, shown: {end:?}");
            ensure!(pty.ask("echo clean")? == "clean");
        }
        Ok(())
    });
}

#[test]
fn the_question_is_answered_by_the_person() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut pty = Pty::start(&rig, 24, 80)?;
        let before = pty.ask("stty -g")?;
        for (keys, accepted) in [("y\n", true), ("n\n", false), ("\n", false), ("\x04", false), ("yessir\n", false)] {
            // What it writes to the terminal beforehand is no answer.
            pty.run(&rig, "echo ready; touch .envrc; read line; echo \"got $line\"; exit 4")?;
            pty.until("let it go on? [y/N] ").with_context(|| format!("{keys:?}"))?;
            pty.agent_becomes("stopped", all_stopped)?;
            pty.keys(keys)?;
            if accepted {
                pty.agent_becomes("going on", none_stopped)?;
                pty.keys("hello\n")?;
                pty.until("got hello")?;
                pty.prompt(4)?;
            } else {
                let said = pty.prompt(124).with_context(|| format!("{keys:?}"))?;
                ensure!(said.contains(".envrc") && !said.contains("got"), "{keys:?}: {said}");
                pty.agent_becomes("gone", <[Process]>::is_empty)?;
            }
            ensure!(pty.ask("stty -g")? == before, "{keys:?}: the terminal is not as it was");
            fs::remove_file(rig.project.join(".envrc"))?;
        }
        Ok(())
    });
}

#[test]
fn without_a_terminal_on_both_sides_there_is_none_inside() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let tty = || rig.rcc(["run", "--", "tty"]);
        let from_null = tty().stdin(Stdio::null()).output()?;
        let from_pipe = tty().stdin(Stdio::piped()).output()?;
        for output in [from_null, from_pipe] {
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(said == "not a tty\n" && output.status.code() == Some(1), "{}", shown(&output));
        }
        let mut pty = Pty::start(&rig, 24, 80)?;
        let before = pty.ask("stty -g")?;
        for then in [" | cat", " </dev/null", " < <(sleep 0.1) | cat"] {
            pty.run_then(&rig, "tty; test -t 0 || echo none; exit 0", then)?;
            let said = pty.prompt(0).with_context(|| then)?;
            ensure!(said.contains("not a tty\r\nnone"), "{then}: {said}");
            ensure!(pty.ask("stty -g")? == before, "{then}: the terminal is not as it was");
        }
        pty.run_then(&rig, "tty; test -t 0 && echo one", "")?;
        let said = pty.prompt(0)?;
        ensure!(said.contains("/dev/pts/") || said.contains("/dev/console"), "{said}");
        // Lines typed at a terminal reach a program that has none, and Ctrl-C ends it.
        pty.run_then(&rig, "read line; echo \"got $line\"; exec sleep 1000", " | cat")?;
        pty.until("hint: ")?;
        pty.keys("hello\n")?;
        pty.until("got hello")?;
        pty.keys("\x03")?;
        pty.prompt(130)?;
        pty.agent_becomes("gone", <[Process]>::is_empty)
    });
}

#[test]
fn closing_the_window_ends_the_session() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let traces = Traces::after_first_session(&rig)?;
        let deaf = "trap '' HUP INT TERM; echo ready; while :; do sleep 1000; done";
        for (script, stopped) in [(IDLE, false), (IDLE, true), (deaf, false)] {
            let mut pty = Pty::start(&rig, 24, 80)?;
            pty.run(&rig, script)?;
            pty.until("ready")?;
            if stopped {
                pty.keys("\x1a")?;
                pty.until("Stopped")?;
            }
            pty.hang_up();
            pty.agent_becomes("gone", <[Process]>::is_empty).with_context(|| format!("{script} {stopped}"))?;
            drop(pty);
            traces.nothing_more(&rig).with_context(|| format!("{script} {stopped}"))?;
        }
        Ok(())
    });
}
