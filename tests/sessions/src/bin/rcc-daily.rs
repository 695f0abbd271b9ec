//! The tables of a day's work, in a world: started by `cargo xtask daily`. Arguments are names of tables, all unless told.

use anyhow::{Context, Result};
use rcc_rig::Rig;
use rcc_rig::daily::{self, Table};
use rcc_sessions::daily::{agent, hostile, installs, refusals, terminal};
use rcc_world::World;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match tables() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tables() -> Result<()> {
    let world = World::here().context("not in a world: use cargo xtask daily")??;
    let rig = Rig::start(&world, &[], "")?;
    let rig = &rig;
    rcc_sessions::rustup(rig)?;
    let mut failed = Vec::new();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // Each is shown as soon as it is there; what fails stops none of the others.
    let mut show = |what: &str, table: &dyn Fn() -> Result<Table>| {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == what) {
            return;
        }
        let held = table().and_then(|table| {
            println!("{table}");
            table.holds()
        });
        failed.extend(held.err().map(|e| e.context(what.to_owned())));
    };
    for folder in ["/usr/bin", "/usr/local/bin"].map(Path::new).into_iter().filter(|f| f.join("git").exists()) {
        show("git", &|| daily::git::table(rig, folder));
        show("worktree", &|| daily::git::worktree(rig, folder));
    }
    show("hostile", &|| hostile::table(rig));
    show("hosts", &|| daily::hosts::table(rig));
    show("keys", &|| daily::key::table(rig));
    show("agent", &|| agent::table(rig));
    show("terminal", &|| terminal::table(rig));
    show("choices", &|| refusals::choices(rig));
    show("not-there", &|| refusals::not_there(rig));
    show("refusals", &|| refusals::table(rig));
    show("installing", &|| installs::table(rig));
    let failed: Vec<String> = failed.iter().map(|e| format!("{e:#}")).collect();
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
