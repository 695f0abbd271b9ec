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
    let mut all: Vec<Table> = Vec::new();
    if world.at.machine_network {
        all.push(installs::table(&rig)?);
    } else {
        for folder in ["/usr/bin", "/usr/local/bin"].map(Path::new).into_iter().filter(|f| f.join("git").exists()) {
            all.push(daily::git::table(&rig, folder)?);
            all.push(daily::git::worktree(&rig, folder)?);
        }
        all.extend([daily::hosts::table(&rig)?, daily::key::table(&rig)?, terminal::table(&rig)?]);
        all.extend([refusals::choices(&rig)?, refusals::not_there(&rig)?, refusals::table(&rig)?]);
    }
    for table in &all {
        println!("{table}");
    }
    all.iter().try_for_each(Table::holds)
}
