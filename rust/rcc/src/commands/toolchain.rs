//! `rcc toolchain list|add|remove`: which toolchains of the home folder the agent sees.

use crate::{Done, along};
use clap::{Args, Subcommand};
use rcc_launch::inside::{self, Inside};
use rcc_launch::machine::{Person, person};
use rcc_launch::project::Project;
use rcc_launch::toolchain::table::{TOOLCHAINS, Toolchain, named};
use rcc_launch::toolchain::{self, Found};
use rcc_report::{Code, Problem, escaped};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Choose which toolchains of your home folder are there inside, read-only.
///
/// Without any, the agent has the programs of /usr and /opt. Of a toolchain it sees the parts that run, never credentials,
/// histories or caches. The choice is for all your projects, from the next session on.
#[derive(Args)]
pub struct ToolchainArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the toolchains that rcc knows, which are on this machine, and which are chosen.
    List {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the agent have one, and say what it will see.
    Add {
        /// Its name, as `rcc toolchain list` has it.
        name: String,
    },
    /// Take one away.
    Remove {
        /// Its name.
        name: String,
    },
}

pub fn run(args: &ToolchainArgs) -> Done {
    let person = person().map_err(|p| vec![p])?;
    let done = match &args.command {
        Command::List { json } => list(&person, *json),
        Command::Add { name } => add(&person, name),
        Command::Remove { name } => remove(&person, name),
    };
    done.map(|()| 0).map_err(|problem| vec![problem])
}

fn list(person: &Person, json: bool) -> Result<(), Problem> {
    let inside = inside::read(person)?;
    let mut all = Vec::new();
    for toolchain in TOOLCHAINS {
        let chosen = inside.toolchains.iter().any(|name| name == toolchain.name);
        let found = toolchain::find(toolchain, person);
        let state = match (&found, chosen) {
            (Err(_), _) => "refused",
            (Ok(None), true) => "chosen, but gone",
            (Ok(None), false) => "not there",
            (Ok(Some(_)), true) => "chosen",
            (Ok(Some(_)), false) => "there",
        };
        if json {
            let parts = found.iter().flatten().flat_map(|f| f.parts.iter().map(|p| p.path.clone()));
            let parts: Vec<PathBuf> = parts.collect();
            let problem = found.as_ref().err();
            all.push(serde_json::json!({
                "name": toolchain.name, "state": state, "chosen": chosen, "parts": parts, "problem": problem,
            }));
            continue;
        }
        println!("{:<10} {:<16} {}", toolchain.name, state, toolchain.what);
        if let Err(problem) = &found {
            eprintln!("rcc: {problem}");
        }
    }
    if json {
        println!("{:#}", serde_json::json!({ "version": 1, "toolchains": all }));
    }
    Ok(())
}

fn known(name: &str) -> Result<&'static Toolchain, Problem> {
    named(name).ok_or_else(|| {
        let names: Vec<_> = TOOLCHAINS.iter().map(|t| t.name).collect();
        let remedy = format!("rcc knows {}; another folder comes along by --ro PATH", names.join(", "));
        Problem::new(Code::TOOLCHAIN_UNKNOWN, escaped(name), "no toolchain has this name", remedy)
    })
}

fn add(person: &Person, name: &str) -> Result<(), Problem> {
    let toolchain = known(name)?;
    let found = toolchain::find(toolchain, person)?.ok_or_else(|| {
        let places: Vec<String> = toolchain.proofs.iter().map(|p| person.home.join(p).display().to_string()).collect();
        let what = format!("it is not installed in its usual place ({})", places.join(", "));
        Problem::new(Code::TOOLCHAIN_UNKNOWN, name, what, "install it there; rcc toolchain list shows what is there")
    })?;
    // Refused now rather than at the next start.
    if let Ok(project) = Project::find(None, person) {
        along::apart(&found, person, &project)?;
    }
    let names = |inside: &mut Inside| {
        if !inside.toolchains.iter().any(|own| own == name) {
            inside.toolchains.push(name.to_owned());
        }
        Ok(())
    };
    inside::change(person, names)?;
    println!("{name}: the agent will see, read-only, from the next session on");
    for line in shown(&found) {
        println!("  {}", escaped(&line));
    }
    Ok(())
}

/// The parts, those of one folder in one line.
fn shown(found: &Found) -> Vec<String> {
    let mut folders: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    for part in &found.parts {
        let (Some(folder), Some(name)) = (part.path.parent(), part.path.file_name()) else { continue };
        folders.entry(folder).or_default().push(name.to_string_lossy().into_owned());
    }
    let line = |(folder, names): (&Path, Vec<String>)| match names.as_slice() {
        [one] => folder.join(one).display().to_string(),
        many => format!("{}/{{{}}}", folder.display(), many.join(",")),
    };
    folders.into_iter().map(line).collect()
}

fn remove(person: &Person, name: &str) -> Result<(), Problem> {
    let mut was_there = false;
    inside::change(person, |inside| {
        was_there = inside.toolchains.iter().any(|own| own == name);
        inside.toolchains.retain(|own| own != name);
        Ok(())
    })?;
    if was_there {
        println!("{}: not there inside from the next session on", escaped(name));
        return Ok(());
    }
    // A misspelt name is not passed over; one that simply isn't chosen is as it should be.
    known(name).map(|_| println!("{name} was not chosen"))
}
