//! The tables of a day's work, in a world: started by `cargo xtask daily`.

use anyhow::{Context, Result};
use rcc_rig::Rig;
use rcc_rig::daily::{self, Table};
use rcc_sessions::daily::{installs, refusals, terminal};
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
    let mut failed = Vec::new();
    // Each is shown as soon as it is there; what fails stops none of the others.
    let mut show = |what: &str, table: Result<Table>| {
        let held = table.and_then(|table| {
            println!("{table}");
            table.holds()
        });
        failed.extend(held.err().map(|e| e.context(what.to_owned())));
    };
    if world.at.machine_network {
        show("installing", installs::table(rig));
    } else {
        for folder in ["/usr/bin", "/usr/local/bin"].map(Path::new).into_iter().filter(|f| f.join("git").exists()) {
            show("git", daily::git::table(rig, folder));
            show("git in a worktree", daily::git::worktree(rig, folder));
        }
        show("hosts", daily::hosts::table(rig));
        show("keys", daily::key::table(rig));
        show("terminal", terminal::table(rig));
        show("choices", refusals::choices(rig));
        show("not there", refusals::not_there(rig));
        show("bad input", refusals::table(rig));
    }
    let failed: Vec<String> = failed.iter().map(|e| format!("{e:#}")).collect();
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
