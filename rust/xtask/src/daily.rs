//! `cargo xtask daily`: what people do every day, without rcc and in a session, as tables.

use crate::product::{self, AGENTS, BINARIES};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{agent, demo, prerequisites};
use anyhow::Result;
use xshell::cmd;

/// Show a day's work in sessions.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these tables: git, worktree, hostile, hosts, keys, agent, terminal, choices, not-there, installing, refusals.
    tables: Vec<String>,
}

/// Builds, and runs it in a world.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "daily", |steps| everything(args, &workspace, steps))
}

fn everything(args: &Args, workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_TESTS))?;
    product::build(workspace, steps)?;
    steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
    let sh = workspace.shell()?;
    steps.command(
        "build world",
        cmd!(sh, "cargo build --locked --bins --package rcc-world --package rcc-rig --package rcc-sessions"),
    )?;
    let programs = workspace.target.join("debug");
    let mut command = demo::as_root();
    command.arg(format!("{BINARIES}={}", workspace.release().display()));
    command.arg(format!("{AGENTS}={}", workspace.agents().display()));
    // What is installed comes from the machine's registries; all else is a small internet of its own.
    command.arg(programs.join("rcc-world")).args(["run", "--user", "dev", "--no-wire", "--outside", "--"]);
    command.arg(programs.join("rcc-daily")).args(&args.tables);
    steps.foreground("daily", command)
}
