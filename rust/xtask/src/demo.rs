//! `cargo xtask demo`: the main job on a fresh machine, by one command: install what is missing, build, and watch the
//! real Claude Code work in a sample project while everything outside it and its policy is out of reach.
//!
//! With a key in the environment and the network there, the model is the real one; otherwise a scripted one of this
//! repository's plays its side. It runs in a world: a private mount, process and network namespace with a small internet of its own (with the real model, the machine's network), where an
//! ordinary user, root's policy and the gateway's system user are made. Nothing of it is left on the machine.

use crate::product::{self, AGENTS, BINARIES};
use crate::steps::{Steps, side_by_side};
use crate::workspace::Workspace;
use crate::{agent, prerequisites};
use anyhow::{Result, ensure};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::Command;
use std::time::Duration;
use xshell::cmd;

/// Watch the real Claude Code work in a project while all else is out of its reach.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Installs, builds, runs.
pub fn run(_: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "demo", |steps| everything(&workspace, steps))
}

fn everything(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_DEMO))?;
    let (mut built, mut fetched) = (false, false);
    side_by_side(vec![
        Box::new(|| {
            product::build(workspace, steps)?;
            let sh = workspace.shell()?;
            steps.command(
                "build world",
                cmd!(sh, "cargo build --locked --bins --package rcc-world --package rcc-rig"),
            )?;
            built = true;
            Ok(())
        }),
        Box::new(|| {
            steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
            fetched = true;
            Ok(())
        }),
    ]);
    ensure!(built && fetched, "something the demo needs could not be made");
    let programs = workspace.target.join("debug");
    let mut command = as_root();
    command.args([
        format!("{BINARIES}={}", workspace.release().display()),
        format!("{AGENTS}={}", workspace.agents().display()),
    ]);
    command.arg(programs.join("rcc-world")).args(["run", "--user", "dev"]);
    if the_real_model_is_there() {
        command.arg("--machine-network");
    }
    command.arg("--").arg(programs.join("rcc-demo"));
    steps.foreground("demo", command)
}

/// Where a key for the real model can be.
const KEYS: [&str; 2] = ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"];

/// A key, and the network. The network is only asked where there is a key.
fn the_real_model_is_there() -> bool {
    let key = KEYS.iter().any(|name| std::env::var_os(name).is_some_and(|key| !key.is_empty()));
    let reached = |address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok();
    key && ("api.anthropic.com", 443).to_socket_addrs().is_ok_and(|mut addresses| addresses.any(reached))
}

/// Only root can make a world.
pub fn as_root() -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new("/usr/bin/env");
    }
    let mut command = Command::new("sudo");
    command.args([&format!("--preserve-env={}", KEYS.join(",")), "--", "/usr/bin/env"]);
    command
}
