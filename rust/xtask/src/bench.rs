//! `cargo xtask bench start|egress|check|closures`: rcc beside what a user would run without it, as ratios of one run. The output is
//! kept in `bench/results`, where the numbers of README and docs come from.

use crate::product::{self, AGENTS, BINARIES};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{demo, prerequisites};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use xshell::cmd;

/// Measure rcc beside what a user would run without it.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// From the command to the end of `true`.
    Start,
    /// Downloads, requests and connections through the gateway.
    Egress,
    /// What a start checks of the machine, and all of `rcc check`.
    Check,
    /// From the command to the end of `true`, by the size of a flake's closure.
    Closures,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Egress => "egress",
            Self::Check => "check",
            Self::Closures => "closures",
        }
    }
}

/// Builds, measures, prints and keeps the result.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "bench", |steps| everything(args.what, &workspace, steps))
}

fn everything(what: What, workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_BENCH))?;
    product::build(workspace, steps)?;
    let sh = workspace.shell()?;
    let bench = cmd!(sh, "cargo build --locked --release --bins --package rcc-world --package rcc-rig");
    steps.command("build bench", bench)?;
    let programs = workspace.target.join("release");
    let mut command = demo::as_root();
    command.arg(format!("{BINARIES}={}", workspace.release().display()));
    command.arg(format!("{AGENTS}={}", workspace.agents().display()));
    command.arg(programs.join("rcc-world")).args(["run", "--user", "dev", "--no-wire", "--"]);
    command.arg(programs.join("rcc-bench")).arg(what.name());
    steps.run("bench", || {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{said}");
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let place = workspace.root.join("bench/results").join(format!("{}.txt", what.name()));
        fs::create_dir_all(place.parent().context("a folder")?)?;
        fs::write(&place, said).with_context(|| format!("can't write {}", place.display()))
    })
}
