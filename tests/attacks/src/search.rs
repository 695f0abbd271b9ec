//! The search for a key: every byte that a session can read, and every place outside where it must not be.

use anyhow::{Context, Result, ensure};
use rcc_rig::Rig;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

/// What a search found.
#[derive(Debug, Deserialize)]
pub struct Found {
    /// Files, and memories of processes.
    pub searched: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files older than the key.
    pub older: u64,
    /// What could not be read.
    pub closed: u64,
    /// Where a part of the key is.
    pub found: BTreeSet<String>,
}

/// What to search for, and where.
pub struct Question<'a> {
    /// The key.
    pub key: &'a str,
    /// When it was made, in seconds since the epoch.
    pub since: f64,
    /// Folders; all processes are searched in any case.
    pub roots: &'a [&'a str],
    /// Files and folders that are not.
    pub skip: &'a [&'a str],
    /// Processes that are not.
    pub skip_pids: &'a [u32],
}

const PROGRAM: &str = include_str!("search.py");

impl Question<'_> {
    /// The search as a shell runs it.
    ///
    /// The prefix of a key says what kind it is, and the agent's dummy has it as well: it is not searched for.
    pub fn command(&self) -> Result<String> {
        let secret = self.key.strip_prefix("sk-ant-api03-").context("an API key")?;
        let question = json!({
            "backwards": secret.chars().rev().collect::<String>(),
            "since": self.since,
            "roots": self.roots,
            "skip": self.skip,
            "skip_pids": self.skip_pids,
        });
        Ok(format!("QUESTION='{question}' /usr/bin/python3 - <<'END'\n{PROGRAM}END"))
    }

    /// Runs it here, as root.
    pub fn here(&self) -> Result<Found> {
        let output = Command::new("/bin/bash").args(["-c", &self.command()?]).output()?;
        read(&String::from_utf8_lossy(&output.stdout)).with_context(|| rcc_rig::shown(&output))
    }
}

/// What a search printed.
pub fn read(text: &str) -> Result<Found> {
    let line = text.lines().find(|l| l.starts_with('{')).with_context(|| format!("no answer in: {text}"))?;
    Ok(serde_json::from_str(line)?)
}

/// A run of the agent's that is still going on.
pub struct Running<'a> {
    rig: &'a Rig<'a>,
    /// The launcher.
    pub launcher: Child,
    before: usize,
}

impl<'a> Running<'a> {
    /// Starts the agent with `rcc claude`, and has it run these commands.
    pub fn start(rig: &'a Rig<'a>, mut rcc: Command, commands: &[&str]) -> Result<Self> {
        let mut turns: Vec<_> = commands
            .iter()
            .map(|c| json!({ "tools": [{ "name": "Bash", "input": { "command": c, "timeout": 120_000 } }] }))
            .collect();
        turns.push(json!({ "text": "done" }));
        fs::write(&rig.world.at.model_script, serde_json::to_vec(&turns)?)?;
        let before = rig.world.exchanges()?.len();
        Ok(Self { rig, launcher: rcc.spawn()?, before })
    }

    /// The result of a command, when it is there.
    pub fn result(&mut self, number: usize) -> Result<String> {
        let mut results = Vec::new();
        let (rig, before) = (self.rig, self.before);
        rig.wait_until("the agent's command has ended", Duration::from_secs(90), || {
            results = rig
                .world
                .exchanges()?
                .iter()
                .skip(before)
                .flat_map(|e| e.message.iter().flat_map(|m| m.results.clone()))
                .map(|r| r.text)
                .collect();
            ensure!(results.len() > number || self.launcher.try_wait()?.is_none(), "the session has ended");
            Ok(results.len() > number)
        })?;
        Ok(results.swap_remove(number))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _gone = self.launcher.kill();
        let _gone = self.launcher.wait();
    }
}

/// Processes by their parent, or by a word in their arguments.
pub fn processes(fits: impl Fn(&str, u32) -> bool) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(arguments) = fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if fits(&arguments, parent.unwrap_or(0)) {
            all.push(pid);
        }
    }
    Ok(all)
}
