//! Keys: entered once for all projects, refused, taken away; each time the real agent says what came of it.

use super::{Inside, Row, Table};
use crate::{Rig, make_folder, shown};
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Does each row.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let keys = &rig.world.at.model_keys;
    let answer = rig.world.token();
    fs::write(&rig.world.at.model_script, json!([{ "text": answer }]).to_string())?;
    let wrong = keys.api_key[..keys.api_key.len() - 1].to_owned() + if keys.api_key.ends_with('A') { "B" } else { "A" };
    let variable = |name, key: &str| Some((name, key.to_owned()));
    let (api_key, token) = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN");
    let mut rows = Vec::new();
    for (what, entered, outside, says) in [
        ("an API key, in a new project", Some(&keys.api_key), variable(api_key, &keys.api_key), answer.as_str()),
        ("the same, in another one", None, variable(api_key, &keys.api_key), &answer),
        ("a subscription's token", Some(&keys.oauth_token), variable(token, &keys.oauth_token), &answer),
        ("a key that the API refuses", Some(&wrong), variable(api_key, &wrong), "Invalid API key"),
    ] {
        if let Some(key) = entered {
            login(rig, key)?;
        }
        let (outside, inside) = (bare(rig, outside)?, session(rig, &format!("key-{}", rows.len()))?);
        rows.push(Row {
            what: what.to_owned(),
            outside: Some(says_it(&outside, says)),
            inside: says_it(&inside, says).map_or_else(Inside::Fails, |()| Inside::Works),
        });
    }
    rcc(rig, &["logout"]).output()?;
    let (outside, inside) = (bare(rig, None)?, session(rig, "key-none")?);
    let said = String::from_utf8_lossy(&inside.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("RCC-601")).map(str::to_owned);
    rows.push(Row {
        what: "no key, after rcc logout".to_owned(),
        outside: Some(says_it(&outside, "Not logged in")),
        inside: line.map_or_else(|| Inside::Fails(shown(&inside)), Inside::Refused),
    });
    Ok(Table { title: "keys, by what the agent says".to_owned(), rows })
}

fn says_it(output: &Output, words: &str) -> Result<(), String> {
    if String::from_utf8_lossy(&output.stdout).contains(words) { Ok(()) } else { Err(shown(output)) }
}

fn rcc(rig: &Rig<'_>, arguments: &[&str]) -> Command {
    let mut command = rig.rcc(arguments);
    command.env_remove("ANTHROPIC_API_KEY");
    command
}

fn login(rig: &Rig<'_>, key: &str) -> Result<()> {
    let mut child = rcc(rig, &["login"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(key.as_bytes())?;
    child.wait()?;
    Ok(())
}

/// In a session, in a folder that rcc has not seen.
fn session(rig: &Rig<'_>, folder: &str) -> Result<Output> {
    let folder = rig.user.home.join(folder);
    make_folder(&folder, &rig.user)?;
    Ok(rcc(rig, &["claude", "-p", "hello"]).current_dir(folder).output()?)
}

/// The same program without rcc, with the key in its environment.
fn bare(rig: &Rig<'_>, key: Option<(&str, String)>) -> Result<Output> {
    let shelf = rig.user.home.join(".local/share/rcc/agents/claude");
    let version = fs::read_dir(&shelf)?.flatten().map(|e| e.path()).find(|p| p.join("claude").exists());
    let mut command = rig.command(&version.context("no agent")?.join("claude").display().to_string());
    command.args(["-p", "hello"]).envs(key).env("NODE_EXTRA_CA_CERTS", &rig.world.at.ca_pem);
    Ok(command.output()?)
}
