//! The agent itself after `rcc login`: in a new project it asks nothing, and its key is nowhere in its session.

use crate::{Pty, succeeds};
use anyhow::{Context, Result, ensure};
use rcc_attacks::search::{Question, Running, read};
use rcc_rig::daily::{Inside, Row, Table};
use rcc_rig::{Rig, make_folder};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

/// `rcc ARGS…` without a key in the environment.
#[must_use]
pub fn rcc(rig: &Rig<'_>, arguments: &[&str]) -> Command {
    let mut command = rig.rcc(arguments);
    command.env_remove("ANTHROPIC_API_KEY");
    command
}

/// `rcc login`, with the key on its standard input.
pub fn login(rig: &Rig<'_>, key: &str) -> Result<std::process::Output> {
    let mut child = rcc(rig, &["login"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(key.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// `rcc claude` at a terminal in a folder: a prompt, an answer, and its end, with no question in between.
pub fn begins_without_a_question(rig: &Rig<'_>, folder: &Path) -> Result<()> {
    let answer = rig.world.token();
    fs::write(&rig.world.at.model_script, json!([{ "text": answer }]).to_string())?;
    let mut pty = Pty::start(rig, 40, 120)?;
    pty.command(&format!("unset ANTHROPIC_API_KEY; cd {}; rcc claude", folder.display()))?;
    // Its prompt, with permissions off; a dialog would stand in its place.
    pty.until("shift+tab")?;
    pty.keys("hello")?;
    pty.until("hello")?;
    pty.keys("\r")?;
    pty.until(&answer)?;
    // The first ends what it may still be at; two in a row end it, and one more while it ends gives it another code.
    let mut said = String::new();
    for _press in 0..60 {
        pty.keys("\x03")?;
        said += &pty.within(Duration::from_millis(300))?;
        if said.contains("\n<0> ") || said.contains("\n<1> ") || said.contains("\n<130> ") {
            return Ok(());
        }
    }
    anyhow::bail!("it does not end: {said}")
}

/// Searches all that a session can read for any part of the key, by the agent's Bash tool.
fn finds_no_key(rig: &Rig<'_>) -> Result<()> {
    let about = fs::metadata("/run/rcc-world")?;
    let made = about.created().or_else(|_| about.modified())?.duration_since(UNIX_EPOCH)?;
    let key = rig.world.at.model_keys.api_key.as_str();
    let question = Question { key, since: made.as_secs_f64() - 5.0, roots: &["/"], skip: &[], skip_pids: &[] };
    let command = rcc(rig, &["claude", "-p", "do what the script says"]);
    let mut session = Running::start(rig, command, &[&question.command()?])?;
    let found = read(&session.result(0)?)?;
    session.launcher.wait()?;
    ensure!(found.searched > 1000 && found.bytes > 50 << 20, "hardly anything was searched: {found:?}");
    ensure!(found.found.is_empty(), "a session can read the key in {:?}", found.found);
    Ok(())
}

/// A key entered once; then two new projects, and the search.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let key = rig.world.at.model_keys.api_key.as_str();
    succeeds(&login(rig, key)?)?;
    let mut rows = Vec::new();
    for name in ["new", "newer"] {
        let folder = rig.user.home.join(name);
        make_folder(&folder, &rig.user)?;
        rows.push((format!("rcc claude in a {name} project, no question"), begins_without_a_question(rig, &folder)));
    }
    rows.push(("the search for the key finds nothing".to_owned(), finds_no_key(rig)));
    succeeds(&rcc(rig, &["logout"]).output()?)?;
    let row = |(what, result): (String, Result<()>)| {
        let inside = result.map_or_else(|e| Inside::Fails(format!("{e:#}")), |()| Inside::Works);
        Row { what, outside: None, inside }
    };
    Ok(Table { title: "the agent, after rcc login".to_owned(), rows: rows.into_iter().map(row).collect() })
}
