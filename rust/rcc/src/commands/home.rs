//! `rcc home list|du|rm`: the agents' homes, one a project.

use crate::Done;
use clap::{Args, Subcommand};
use rcc_launch::homes::{self, Size};
use rcc_launch::machine::Machine;
use rcc_report::{Problem, escaped};

/// Look at the agents' homes, and remove them.
///
/// An agent has a home for each project, kept between sessions in ~/.local/share/rcc/homes: its settings, histories,
/// caches, and what it installed.
#[derive(Args)]
pub struct HomeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List them; `live` where a session runs.
    List {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what each takes on its disk.
    Du {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove homes, each with all that is in it.
    Rm {
        /// Their names, as `rcc home list` has them.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub fn run(args: &HomeArgs) -> Done {
    let machine = Machine::probe()?;
    match &args.command {
        Command::List { json } => list(&machine, *json, false),
        Command::Du { json } => list(&machine, *json, true),
        Command::Rm { names } => return remove(&machine, names),
    }
    Ok(0)
}

fn list(machine: &Machine, json: bool, sizes: bool) {
    let mut all = Vec::new();
    for home in homes::list(machine) {
        let size = sizes.then(|| homes::size(&machine.person, &home.name));
        let state = if home.live { "live" } else { "" };
        match size {
            _ if json => {}
            Some(Size { bytes, more }) => {
                let least = if more { "more than " } else { "" };
                println!("{:<50} {:<5} {least}{}", escaped(&home.name), state, shown(bytes));
            }
            None => println!("{}", format!("{:<50} {state}", escaped(&home.name)).trim_end()),
        }
        all.push(serde_json::json!({ "name": home.name, "live": home.live, "size": size }));
    }
    if json {
        println!("{:#}", serde_json::json!({ "version": 1, "homes": all }));
    }
}

/// In the unit in which it has one to four digits.
fn shown(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x1_0000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// Each that can be; all that could not are said.
fn remove(machine: &Machine, names: &[String]) -> Done {
    let mut problems: Vec<Problem> = Vec::new();
    for name in names {
        match homes::remove(machine, name) {
            Ok(()) => println!("{}: removed", escaped(name)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(0) } else { Err(problems) }
}
