//! The agent in a virtual machine and the gateway on its host: `rcc-remote` of `tests/attacks`, in a world.

use crate::demo::as_root;
use crate::product::{AGENTS, BINARIES};
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::Result;
use rcc_machine::Image;
use std::path::Path;
use std::process::Command;
use xshell::cmd;

/// What it is made of.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// The checkout.
    pub workspace: &'a Workspace,
    /// The product's static programs.
    pub programs: &'a Path,
    /// What the machine begins with.
    pub image: &'a Image,
    /// Its second disk.
    pub built: &'a Path,
    /// Without a network card: the program that is the host's end of its vsock.
    pub vsock: Option<&'a Path>,
}

impl Remote<'_> {
    /// All attempts.
    pub fn whole(self, steps: &Steps) -> Result<()> {
        steps.foreground("remote", self.command(steps, "whole")?)
    }

    /// What does not take minutes.
    pub fn short(self, steps: &Steps) -> Result<()> {
        steps.command("remote", self.command(steps, "short")?)
    }

    /// Builds what runs it, and gives that.
    fn command(self, steps: &Steps, form: &str) -> Result<Command> {
        let sh = self.workspace.shell()?;
        steps.command(
            "build remote",
            cmd!(sh, "cargo build --locked --bins --package rcc-world --package rcc-attacks"),
        )?;
        let (here, vm) = (self.workspace.target.join("debug"), self.workspace.target.join("vm/remote"));
        let mut command = as_root();
        command.arg(format!("{BINARIES}={}", self.programs.display()));
        command.arg(format!("{AGENTS}={}", self.workspace.agents().display()));
        command.arg(here.join("rcc-world")).args(["run", "--user", "dev", "--"]);
        command.arg(here.join("rcc-remote")).arg(form);
        let Image { disk, kernel, initrd } = self.image;
        command.args([disk, kernel, initrd, self.built, &vm]).args(self.vsock);
        Ok(command)
    }
}
