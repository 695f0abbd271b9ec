//! `rcc worktree allow|deny|list`: which linked worktrees have their repository inside.

use crate::Done;
use clap::{Args, Subcommand};
use rcc_launch::inside;
use rcc_launch::machine::Machine;
use rcc_launch::project::Project;
use rcc_launch::worktree;
use rcc_report::{Problem, escaped};
use std::path::PathBuf;

/// Let sessions in a linked worktree (`git worktree add`) have its repository.
///
/// Its `.git` is a file that leads there, and an agent can write such a file; so it takes your word, once for each
/// worktree. Configuration and hooks of the repository, and its other worktrees, are read-only inside.
#[derive(Args)]
pub struct WorktreeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Let the repository come along from now on, if its own record points back to this worktree.
    Allow {
        /// The worktree; the one here if none is named.
        path: Option<PathBuf>,
    },
    /// Leave it out again.
    Deny {
        /// The worktree; the one here if none is named.
        path: Option<PathBuf>,
    },
    /// List those that have it.
    List {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &WorktreeArgs) -> Done {
    let machine = Machine::probe()?;
    match &args.command {
        Command::Allow { path } => {
            let place = Project::find(path.as_deref(), &machine.person).map_err(one)?;
            let project = Project::open(&place, &machine).map_err(one)?;
            let inside = inside::read(&machine.person).map_err(one)?;
            let pair = worktree::approve(&project, &machine, &inside).map_err(one)?;
            let said = format!("{}: its sessions have {}", pair.project.display(), pair.repository.display());
            inside::change(&machine.person, |inside| {
                inside.worktrees.retain(|known| known.project != pair.project);
                inside.worktrees.push(pair);
                Ok(())
            })
            .map_err(one)?;
            println!("{}", escaped(&said));
        }
        Command::Deny { path } => {
            // It may be gone by now.
            let place = match path {
                Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
                None => Project::find(None, &machine.person).map_err(one)?,
            };
            let real = std::fs::canonicalize(&place).unwrap_or(place);
            let mut known = false;
            inside::change(&machine.person, |inside| {
                let before = inside.worktrees.len();
                inside.worktrees.retain(|pair| pair.project != real);
                known = inside.worktrees.len() < before;
                Ok(())
            })
            .map_err(one)?;
            let state = if known { "its sessions have no repository from now on" } else { "they had none" };
            println!("{}: {state}", escaped(&real.display().to_string()));
        }
        Command::List { json } => {
            let pairs = inside::read(&machine.person).map_err(one)?.worktrees;
            if *json {
                println!("{:#}", serde_json::json!({ "version": 1, "worktrees": pairs }));
                return Ok(0);
            }
            for pair in pairs {
                println!(
                    "{}  {}",
                    escaped(&pair.project.display().to_string()),
                    escaped(&pair.repository.display().to_string())
                );
            }
        }
    }
    Ok(0)
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}
