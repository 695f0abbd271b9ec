//! `cargo xtask faults`: `kill -9` at every system call that changes something, in apply, setup and uninstall.

use crate::product::{self, BINARIES};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{demo, prerequisites};
use anyhow::Result;
use std::path::PathBuf;
use xshell::cmd;

/// Kill apply, setup and uninstall at each point, and see that one more run completes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Static programs of the product that were built already; built in the release profile unless told.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Builds, and runs the ignored tests of `tests/sessions/tests/faults.rs`, each in a world.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "faults", |steps| everything(args, &workspace, steps))
}

fn everything(args: &Args, workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_TESTS))?;
    if args.programs.is_none() {
        product::build(workspace, steps)?;
    }
    let programs = args.programs.clone().unwrap_or_else(|| workspace.release());
    let programs = std::path::absolute(programs)?;
    let sh = workspace.shell()?;
    steps.command("build world", cmd!(sh, "cargo build --locked --bins --package rcc-world"))?;
    steps.command("build tests", cmd!(sh, "cargo test --locked --package rcc-sessions --test faults --no-run"))?;
    let mut command = demo::as_root();
    command.arg(format!("{BINARIES}={}", programs.display()));
    command.arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--locked", "--package", "rcc-sessions", "--test", "faults", "--"]);
    command.args(["all_points", "--ignored", "--nocapture", "--test-threads=2"]).current_dir(&workspace.root);
    steps.foreground("faults", command)
}
