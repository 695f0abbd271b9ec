//! The product's static release programs, as they would be installed.

use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
    build_tools(workspace, steps, "build rig", &["rcc-world", "rcc-rig", "xtask"])
}

/// Builds this program alone.
pub fn build_xtask(workspace: &Workspace, steps: &Steps) -> Result<()> {
    build_tools(workspace, steps, "build xtask", &["xtask"])
}

fn build_tools(workspace: &Workspace, steps: &Steps, step: &'static str, packages: &[&str]) -> Result<()> {
    let sh = workspace.shell()?;
    let triple = &workspace.triple;
    let mut cargo = Command::from(cmd!(sh, "cargo build --locked --bins --target {triple}"));
    cargo.args(packages.iter().map(|package| format!("--package={package}"))).env("RUSTFLAGS", STATIC);
    steps.command(step, cargo)
}

/// Builds the tests that run whole sessions, static too, and gives each by the name of its package and its own.
pub fn build_tests(workspace: &Workspace, steps: &Steps) -> Result<Vec<(String, PathBuf)>> {
    let triple = &workspace.triple;
    steps.run("build tests", || {
        let sh = workspace.shell()?;
        let mut cargo = Command::from(cmd!(sh, "cargo test --locked --no-run --target {triple} --test *"));
        cargo.args(["--package", "rcc-attacks", "--package", "rcc-sessions", "--message-format=json"]);
        cargo.env("RUSTFLAGS", STATIC).stdin(Stdio::null()).stderr(Stdio::null());
        let output = cargo.output()?;
        ensure!(output.status.success(), "cargo test --no-run ended with {}", output.status);
        let all = String::from_utf8(output.stdout)?;
        let tests: Vec<_> = all.lines().filter_map(|line| test_of(&serde_json::from_str(line).ok()?)).collect();
        ensure!(!tests.is_empty(), "cargo named no test program");
        Ok(tests)
    })
}

/// A line of cargo's that tells of a test program; it names the programs that tests run as well.
fn test_of(message: &serde_json::Value) -> Option<(String, PathBuf)> {
    message.pointer("/profile/test")?.as_bool()?.then_some(())?;
    let program = message.get("executable")?.as_str()?;
    let package = Path::new(message.get("manifest_path")?.as_str()?).parent()?.file_name()?.to_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((format!("{package}-{name}"), program.into()))
}
