//! The agent in a virtual machine and the gateway on its host: `rcc-remote` of `tests/attacks`, in a world.

use super::built;
use crate::demo::as_root;
use crate::product::{AGENTS, BINARIES};
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::Result;
use rcc_machine::Image;
use std::path::Path;
use xshell::cmd;

/// How much of it, and by which way.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// All attempts; otherwise what does not take minutes.
    pub whole: bool,
    /// Without a network card, with this program as the host's end.
    pub vsock: Option<&'a Path>,
}

/// Builds what runs it, and runs it.
pub fn run(workspace: &Workspace, steps: &Steps, image: &Image, programs: &Path, form: Form<'_>) -> Result<()> {
    let sh = workspace.shell()?;
    steps.command("build remote", cmd!(sh, "cargo build --locked --bins --package rcc-world --package rcc-attacks"))?;
    let here = workspace.target.join("debug");
    let built = steps.run("second disk", || built(workspace, programs))?;
    let mut command = as_root();
    command.args([format!("{BINARIES}={}", programs.display()), format!("{AGENTS}={}", workspace.agents().display())]);
    command.arg(here.join("rcc-world")).args(["run", "--user", "dev", "--"]);
    command.arg(here.join("rcc-remote")).arg(if form.whole { "whole" } else { "short" });
    command.args([&image.disk, &image.kernel, &image.initrd, &built, &workspace.target.join("vm/remote")]);
    command.args(form.vsock);
    steps.foreground("remote", command)
}
