//! `cargo xtask agent --into DIR`: the real agent, for tests.
//!
//! It runs rcc-launch's own installer as an example program rather than linking it, so that xtask stays quick to
//! build and works while the product does not compile.

use crate::workspace::Workspace;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use xshell::cmd;

/// Put the real agent into a folder.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder; target/agents unless told.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Installs the agent and prints its program's path on stdout.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let into = args.into.clone().unwrap_or_else(|| workspace.agents());
    let into = std::path::absolute(into)?;
    let status = install(&workspace, &into)?.status()?;
    anyhow::ensure!(status.success(), "the installer ended with {status}");
    Ok(())
}

/// The installer's command, not yet run.
pub fn install(workspace: &Workspace, into: &Path) -> Result<Command> {
    let sh = workspace.shell()?;
    Ok(cmd!(sh, "cargo run --locked --quiet --package rcc-launch --example install-agent -- {into}").into())
}
