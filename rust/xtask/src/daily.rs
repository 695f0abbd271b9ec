//! `cargo xtask daily`: what people do every day, without rcc and in a session, as tables.

use crate::product::{self, AGENTS, BINARIES};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{agent, demo, prerequisites};
use anyhow::Result;
use xshell::cmd;

/// Show a day's work in sessions.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Builds, and runs it in a world.
pub fn run(_: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "daily", |steps| everything(&workspace, steps))
}

fn everything(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_TESTS))?;
    product::build(workspace, steps)?;
    steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
    let sh = workspace.shell()?;
    steps.command(
        "build world",
        cmd!(sh, "cargo build --locked --bins --package rcc-world --package rcc-rig --package rcc-sessions"),
    )?;
    let programs = workspace.target.join("debug");
    // What is installed comes from the machine's registries; all else has a small internet of its own.
    for network in [&[][..], &["--machine-network"]] {
        let mut command = demo::as_root();
        command.arg(format!("{BINARIES}={}", workspace.release().display()));
        command.arg(format!("{AGENTS}={}", workspace.agents().display()));
        command.arg(programs.join("rcc-world")).args(["run", "--user", "dev", "--no-wire"]).args(network).arg("--");
        command.arg(programs.join("rcc-daily"));
        steps.foreground("daily", command)?;
    }
    Ok(())
}
