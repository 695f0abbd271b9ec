//! `cargo xtask check`: everything that can be said without running the product.

use crate::{
    actionlint,
    steps::{Steps, side_by_side},
    tools,
    workspace::Workspace,
};
use anyhow::Result;
use std::process::Command;
use xshell::cmd;

/// Format, lints, documentation and dependencies; no tests.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the checks.
pub fn run(_: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "check", |steps| {
        side_by_side(vec![
            Box::new(|| code(&workspace, steps)),
            Box::new(|| dependencies(&workspace, steps)),
            Box::new(|| actionlint::check(&workspace, steps)),
        ]);
        Ok(())
    })
}

/// What concerns this workspace's own code. Each step runs, whatever came of the one before.
pub fn code(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let sh = workspace.shell()?;
    let denied = "-Dwarnings";
    let formatted = steps.command("fmt", cmd!(sh, "cargo fmt --all --check"));
    let linted = steps.command("clippy", cmd!(sh, "cargo clippy --locked --workspace --all-targets -- {denied}"));
    let mut doc = Command::from(cmd!(sh, "cargo doc --locked --workspace --no-deps --document-private-items"));
    doc.env("RUSTDOCFLAGS", denied);
    let documented = steps.command("doc", doc);
    formatted.and(linted).and(documented)
}

/// What concerns the crates that it depends on.
pub fn dependencies(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let sh = workspace.shell()?;
    let deny = tools::ensure(&tools::DENY, workspace, steps)?;
    steps.command("deny", cmd!(sh, "{deny} --locked --workspace check bans licenses sources"))?;
    if has_advisories() {
        steps.command("deny advisories", cmd!(sh, "{deny} --locked --workspace check --disable-fetch advisories"))
    } else {
        let why = "no advisory database here; `cargo deny fetch db` brings one where the network allows it";
        steps.not_run("deny advisories", why);
        Ok(())
    }
}

/// Whether a copy of the advisory database was fetched before. It is a git repository, not a crate: a machine that
/// reaches package registries only can't have it.
fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    home.and_then(|h| h.join("advisory-dbs").read_dir().ok()).is_some_and(|mut found| found.next().is_some())
}
