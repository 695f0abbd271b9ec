//! The tables of a day's work, in a world: started by `cargo xtask daily`.

use anyhow::{Context, Result};
use rcc_rig::Rig;
use rcc_rig::daily;
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
    for folder in ["/usr/bin", "/usr/local/bin"].map(Path::new) {
        if folder.join("git").exists() {
            let table = daily::git::table(&rig, folder)?;
            println!("{table}");
            table.holds()?;
        }
    }
    for table in [daily::hosts::table(&rig)?, daily::key::table(&rig)?] {
        println!("{table}");
        table.holds()?;
    }
    Ok(())
}
