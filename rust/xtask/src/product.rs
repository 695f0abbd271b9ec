//! The product's static release programs, as they would be installed.

use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::Result;
use std::process::Command;
use xshell::cmd;

/// Tells tests, the demo and benches the folder of the product's static release programs.
pub const BINARIES: &str = "RCC_TEST_BINARIES";
/// Tells them the folder that the real agent is installed in (and may be installed into, under its lock).
pub const AGENTS: &str = "RCC_TEST_AGENTS";

const STATIC: &str = "-C target-feature=+crt-static";

/// Builds them, static. With `--target`, RUSTFLAGS reach them but neither build scripts nor procedural macros, which
/// can't be static.
pub fn build(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let sh = workspace.shell()?;
    let triple = &workspace.triple;
    let mut cargo = Command::from(cmd!(sh, "cargo build --locked --release --bins --target {triple}"));
    for package in &workspace.product {
        cargo.args(["--package", package]);
    }
    cargo.env("RUSTFLAGS", STATIC);
    steps.command("build product", cargo)
}

/// Builds the world, what runs in it, and this program, static too: for machines with another libc than this one's.
pub fn build_rig(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let sh = workspace.shell()?;
    let triple = &workspace.triple;
    let mut cargo = Command::from(cmd!(sh, "cargo build --locked --bins --target {triple}"));
    cargo.args(["--package", "rcc-world", "--package", "rcc-rig", "--package", "xtask"]);
    cargo.env("RUSTFLAGS", STATIC);
    steps.command("build rig", cargo)
}
