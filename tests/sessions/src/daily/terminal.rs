//! A terminal, by keystrokes: each row without rcc and in a session.

use crate::Pty;
use anyhow::{Result, ensure};
use rcc_rig::Rig;
use rcc_rig::daily::{Inside, Row, Table};

type Act = fn(&mut Pty, &Rig<'_>, &str) -> Result<()>;

const ROWS: &[(&str, Act)] = &[
    ("resize", |pty, rig, before| {
        pty.resize(31, 97)?;
        pty.run_by(
            rig,
            before,
            "trap 'stty size; exit 5' WINCH; stty size; echo waiting; while :; do sleep 0.1; done",
        )?;
        ensure!(pty.until("waiting")?.contains("31 97"), "{}", pty.screen());
        pty.resize(44, 123)?;
        pty.until("44 123")?;
        pty.prompt(5).map(drop)
    }),
    ("Ctrl-C", |pty, rig, before| {
        pty.run_by(rig, before, "echo ready; sleep 1000; exit 3")?;
        pty.until("ready")?;
        pty.keys("\x03")?;
        pty.prompt(130).map(drop)
    }),
    ("Ctrl-Z, and fg", |pty, rig, before| {
        pty.run_by(rig, before, "echo ready; read -r line; echo \"got $line\"; exit 6")?;
        pty.until("ready")?;
        pty.keys("\x1a")?;
        pty.until("Stopped")?;
        pty.prompt(148)?;
        pty.command("fg")?;
        pty.until("./script")?;
        pty.keys("hello\n")?;
        pty.until("got hello")?;
        pty.prompt(6).map(drop)
    }),
    ("a paste, told apart from keys", |pty, rig, before| {
        pty.run_by(rig, before, "stty raw -echo; printf '\\e[?2004hready'; head -c 21 | od -An -c | tr -d ' \\n'; stty sane; printf '\\e[?2004l\\nend\\n'")?;
        pty.until("ready")?;
        pty.keys("\x1b[200~one\ntwo\t\u{fc}\x1b[201~")?;
        let came = pty.until("end")?;
        ensure!(came.contains("033[200~one\\ntwo\\t303274033[20"), "{came}");
        pty.prompt(0).map(drop)
    }),
    ("true colours", |pty, rig, before| {
        pty.run_by(
            rig,
            &format!("TERM=xterm-256color COLORTERM=truecolor {before}"),
            "echo \"[$COLORTERM $(tput colors)]\"; printf '\\e[38;2;1;2;3mX\\e[0m\\n'",
        )?;
        pty.until("[truecolor 256]")?;
        pty.until("\x1b[38;2;1;2;3mX")?;
        pty.prompt(0).map(drop)
    }),
    ("a TERM that nothing describes", |pty, rig, before| {
        let script = "if test -n \"${RCC:-}\"; then tput colors; else echo 256; fi; exit 0";
        pty.run_by(rig, &format!("TERM=no-such-terminal {before}"), script)?;
        pty.until("256")?;
        pty.prompt(0).map(drop)
    }),
];

/// All of them.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for (what, act) in ROWS {
        let tried = |before: &str| -> Result<(), String> {
            let mut pty = Pty::start(rig, 24, 80).map_err(|e| format!("{e:#}"))?;
            act(&mut pty, rig, before).map_err(|e| format!("{e:#}"))
        };
        let outside = tried("");
        let inside = tried("rcc run -- ").map_or_else(Inside::Fails, |()| Inside::Works);
        rows.push(Row { what: (*what).to_owned(), outside: Some(outside), inside });
    }
    Ok(Table { title: "a terminal".to_owned(), rows })
}
