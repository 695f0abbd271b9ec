//! A terminal, by keystrokes in a real tmux: each row without rcc and in a session.

use crate::Tmux;
use anyhow::{Result, ensure};
use rcc_rig::Rig;
use rcc_rig::daily::{Inside, Row, Table};

type Act = fn(&Tmux<'_>, &str) -> Result<()>;

const ROWS: &[(&str, Act)] = &[
    ("resize", |tmux, before| {
        tmux.resize(31, 97)?;
        tmux.run_by(before, "trap 'stty size; exit 5' WINCH; stty size; echo waiting; while :; do sleep 0.1; done")?;
        tmux.until("waiting")?;
        tmux.until("31 97")?;
        tmux.resize(44, 123)?;
        tmux.until("44 123")?;
        tmux.prompt(5)
    }),
    ("Ctrl-C", |tmux, before| {
        tmux.run_by(before, "echo ready; sleep 1000; exit 3")?;
        tmux.until("ready")?;
        tmux.key("C-c")?;
        tmux.prompt(130)
    }),
    ("Ctrl-Z, and fg", |tmux, before| {
        tmux.run_by(before, "echo ready; read -r line; echo \"got $line\"; exit 6")?;
        tmux.until("ready")?;
        tmux.key("C-z")?;
        tmux.until("Stopped")?;
        tmux.prompt(148)?;
        tmux.keys("fg")?;
        tmux.key("Enter")?;
        // As typed, as stopped, and as the shell says what goes on: before that, it would take the keys itself.
        tmux.until_times("./script", 3)?;
        tmux.keys("hello")?;
        tmux.key("Enter")?;
        tmux.until("got hello")?;
        tmux.prompt(6)
    }),
    ("a paste, told apart from keys", |tmux, before| {
        let script = "stty raw -echo; printf '\\e[?2004hready'; head -c 22 | od -An -c | tr -d ' \\n'; stty sane; printf '\\e[?2004l\\n'; exit 7";
        tmux.run_by(before, script)?;
        tmux.until("ready")?;
        tmux.paste("one\ntwo\t\u{fc}")?;
        tmux.until("033[200~one\\ntwo\\t303274033[201~")?;
        tmux.prompt(7)
    }),
    ("a paste into a program that knows none", |tmux, before| {
        tmux.run_by(before, "echo ready; read -r one; read -r two; echo \"[$one][$two]\"; exit 7")?;
        tmux.until("ready")?;
        tmux.paste("one\n\u{fc}ber\n")?;
        tmux.until("[one][\u{fc}ber]")?;
        tmux.prompt(7)
    }),
    ("true colours", |tmux, before| {
        tmux.run_by(
            &format!("TERM=tmux-256color COLORTERM=truecolor {before}"),
            "echo \"[$TERM $COLORTERM $(tput colors)]\"; printf '\\e[38;2;1;2;3mX\\e[0m\\n'; exit 8",
        )?;
        tmux.until("[tmux-256color truecolor 256]")?;
        tmux.prompt(8)?;
        let screen = tmux.screen()?;
        ensure!(screen.contains("\x1b[38;2;1;2;3mX"), "{}", screen.escape_debug());
        Ok(())
    }),
    ("a TERM that nothing describes", |tmux, before| {
        let script = "if test -n \"${RCC:-}\"; then echo \"[$(tput colors)]\"; else echo '[256]'; fi; exit 9";
        tmux.run_by(&format!("TERM=no-such-terminal {before}"), script)?;
        tmux.until("[256]")?;
        tmux.prompt(9)
    }),
];

/// All of them.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for (what, act) in ROWS {
        let tried = |before: &str| -> Result<(), String> {
            Tmux::start(rig, 24, 80).and_then(|tmux| act(&tmux, before)).map_err(|e| format!("{e:#}"))
        };
        let outside = tried("");
        let inside = tried("rcc run -- ").map_or_else(Inside::Fails, |()| Inside::Works);
        rows.push(Row { what: (*what).to_owned(), outside: Some(outside), inside });
    }
    Ok(Table { title: "a terminal (tmux)".to_owned(), rows })
}
