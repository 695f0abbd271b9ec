//! `rcc toolchain list|add|remove`: which toolchains of the home folder the agent sees. `rcc toolchain approve|env|forget`:
//! the project's own, from its flake.

use crate::prepare::asked_for;
use crate::{Done, along, approval};
use clap::{Args, Subcommand};
use rcc_launch::flake::{self, Approved, Files};
use rcc_launch::inside::{self, Inside};
use rcc_launch::machine::{Machine, Person, person};
use rcc_launch::project::Project;
use rcc_launch::toolchain::table::{TOOLCHAINS, Toolchain, named};
use rcc_launch::toolchain::{self, Found};
use rcc_report::{Code, Problem, escaped};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Choose which toolchains of your home folder are there inside, read-only; approve a project's flake.
///
/// Without any, the agent has the programs of /usr and /opt. Of a toolchain it sees the parts that run, never credentials,
/// histories or caches. The choice is for all your projects, from the next session on. With an approved flake, the agent has
/// the programs of its devShell instead of those of /usr.
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
    /// Have Nix evaluate this project's flake as it is now, and make its devShell the toolchain of this project's sessions.
    ///
    /// Shows what is new in flake.nix, flake.lock and the files that rcc.toml names (toolchain.files), and asks. Nothing of a
    /// flake is evaluated without this word; a start with a changed flake uses what was approved last.
    Approve {
        /// The project's folder, if not this one.
        #[arg(long, value_name = "PATH")]
        project: Option<PathBuf>,
        /// The content that you looked at, as the refusal names it: for where there is no terminal.
        #[arg(long, value_name = "SHA256")]
        content: Option<String>,
    },
    /// Print what gives a shell of yours the programs of the approved devShell: for `eval`, or by direnv's `use rcc`.
    ///
    /// It is what you approved last, whatever the project's files say by now: its PATH, and where its compilers find
    /// libraries. Its other variables and its shellHook take effect inside alone.
    Env {
        /// The project's folder, if not this one.
        #[arg(long, value_name = "PATH")]
        project: Option<PathBuf>,
        /// Print direnv's `use rcc` instead, for ~/.config/direnv/lib/rcc.sh.
        #[arg(long, conflicts_with = "project")]
        direnv: bool,
    },
    /// Take this project's approved flake away: sessions have the programs of /usr again.
    Forget {
        /// The project's folder, if not this one.
        #[arg(long, value_name = "PATH")]
        project: Option<PathBuf>,
    },
}

/// Called in the folder of an .envrc that direnv's user has allowed. What fails has been said, and gives no environment.
const DIRENV: &str = "\
use_rcc() {
  local environment
  environment=$(rcc toolchain env) || return
  eval \"$environment\"
}
";

pub fn run(args: &ToolchainArgs) -> Done {
    // Nobody's: a build prints it, too.
    if let Command::Env { direnv: true, .. } = &args.command {
        print!("{DIRENV}");
        return Ok(0);
    }
    let person = person().map_err(|p| vec![p])?;
    let done = match &args.command {
        Command::List { json } => list(&person, *json),
        Command::Add { name } => add(&person, name),
        Command::Remove { name } => remove(&person, name),
        Command::Approve { project, content } => return approve(project.as_deref(), content.as_deref()),
        Command::Forget { project } => return forget(project.as_deref()),
        Command::Env { project, .. } => env(&person, project.as_deref()),
    };
    done.map(|()| 0).map_err(|problem| vec![problem])
}

fn opened(path: Option<&Path>) -> Result<(Project, Machine), Vec<Problem>> {
    let machine = Machine::probe()?;
    let open = |path: PathBuf| Project::open(&path, &machine);
    let project = Project::find(path, &machine.person).and_then(open).map_err(|p| vec![p])?;
    Ok((project, machine))
}

fn approve(path: Option<&Path>, content: Option<&str>) -> Done {
    let (project, machine) = opened(path)?;
    let asked = asked_for(&project)?;
    let done = || {
        let files = Files::read(&project, &asked.toolchain_files)?.ok_or_else(|| approval::no_flake(&project))?;
        // What can't be compared is shown whole.
        let before = Approved::read(&machine.person, &project.path).ok().flatten();
        let before = before.and_then(|before| before.files().ok());
        approval::approve(&project, &files, before.as_ref(), &machine, content).map(|_| 0)
    };
    done().map_err(|problem| vec![problem])
}

fn forget(path: Option<&Path>) -> Done {
    let (project, machine) = opened(path)?;
    let was_there = flake::forget(&machine, &project).map_err(|problem| vec![problem])?;
    let state = if was_there { "its flake is not the toolchain any more" } else { "no flake was approved" };
    println!("{}: {state}", escaped(&project.path.display().to_string()));
    Ok(0)
}

/// Nothing of the project is read but its place.
fn env(person: &Person, path: Option<&Path>) -> Result<(), Problem> {
    let project = Project::find(path, person)?;
    let approved = Approved::read(person, &project)?.ok_or_else(|| {
        let what = "no flake of this project is approved, so there is no environment";
        let place = project.join(flake::FLAKE).display().to_string();
        Problem::new(Code::TOOLCHAIN_UNAPPROVED, place, what, "look at it, then: rcc toolchain approve")
    })?;
    approved.whole(person)?;
    print!("{}", approved.outside());
    Ok(())
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
