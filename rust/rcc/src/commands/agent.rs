//! `rcc agent`: which versions of Claude Code there are, which one runs, and what of the person's own comes along.

use crate::Done;
use crate::prepare;
use clap::{Args, Subcommand};
use rcc_launch::agent::choice::{Choices, Chosen, plausible};
use rcc_launch::agent::{self, Pin};
use rcc_launch::machine::{self, Person};
use rcc_report::{Code, Problem};

/// The agent's versions, and what of your own comes along into sessions.
#[derive(Args)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// List the versions: which one is used, which are installed.
    List,
    Update(UpdateArgs),
    Bring(BringArgs),
}

/// Install the version that this rcc was made with, or another that you name by its hash.
///
/// The version that was used before is kept until the new one has run a session that ended with 0.
#[derive(Args)]
struct UpdateArgs {
    /// Another version than the pinned one; it is used until the next `rcc agent update`.
    #[arg(long, requires = "integrity")]
    version: Option<String>,
    /// Its package's hash for this processor, as npm writes it: sha512-…
    #[arg(long, requires = "version", value_name = "sha512-…")]
    integrity: Option<String>,
}

/// Choose what of your own comes along into every session, read-only; without an item, say what does.
///
/// claude-md, commands, skills, agents: of ~/.claude. settings: harmless keys of ~/.claude/settings.json. mcp: the servers
/// of ~/.claude.json, without env and headers, where secrets are.
#[derive(Args)]
struct BringArgs {
    /// Nothing comes along.
    #[arg(long, conflicts_with = "items")]
    none: bool,
    /// claude-md, commands, skills, agents, settings, mcp.
    #[arg(value_name = "ITEM")]
    items: Vec<String>,
}

pub fn run(args: AgentArgs) -> Done {
    let person = machine::person().map_err(one)?;
    match args.command {
        AgentCommand::List => list(&person).map_err(one),
        AgentCommand::Update(args) => update(&person, args).map_err(one),
        AgentCommand::Bring(args) => bring(&person, &args),
    }
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

fn list(person: &Person) -> Result<u8, Problem> {
    let choices = Choices::read(&person.home)?;
    let pinned = agent::pin()?;
    let used = choices.pin(pinned);
    let folder = agent::folder(person);
    let mut versions = agent::versions(&folder, pinned.agent)?;
    for version in [pinned.version, used.version] {
        if !versions.iter().any(|v| v == version) {
            versions.push(version.to_owned());
        }
    }
    for version in versions {
        let is = |pin: &Pin<'_>| pin.version == version;
        let mut words = Vec::new();
        if is(&used) {
            words.push(if agent::installed(&folder, &used)?.is_some() { "used" } else { "used, not installed yet" });
        } else if is(pinned) && agent::installed(&folder, pinned)?.is_none() {
            words.push("not installed");
        } else {
            words.push("kept until the one that is used has run");
        }
        words.extend(is(pinned).then_some("pinned by this rcc"));
        words.extend(choices.claude.as_ref().filter(|chosen| chosen.version == version).map(|_| "chosen by you"));
        println!("{} {version:<12} {}", pinned.agent, words.join(", "));
    }
    Ok(0)
}

fn update(person: &Person, args: UpdateArgs) -> Result<u8, Problem> {
    let pinned = agent::pin()?;
    let folder = agent::folder(person);
    let mut choices = Choices::read(&person.home)?;
    let mut progress = |p: agent::Progress<'_>| eprintln!("rcc: {p}");
    let (version, chosen) = match (args.version, args.integrity) {
        (Some(version), Some(integrity)) => {
            plausible("rcc agent update", &version, &integrity)?;
            let pin = Pin { version: &version, integrity: &integrity, size: None, ..*pinned };
            let size = agent::install(&pin, &folder, &person.home, &mut progress)?.size;
            (version.clone(), Some(Chosen { version, integrity, size }))
        }
        (None, None) => (agent::install(pinned, &folder, &person.home, &mut progress)?.version, None),
        _ => {
            let what = "a version and its hash belong together";
            let remedy = "rcc agent update --version VERSION --integrity sha512-…";
            return Err(Problem::new(Code::AGENT_CHOICE, "rcc agent update", what, remedy));
        }
    };
    // Only what is installed is used.
    if choices.claude != chosen {
        choices.claude = chosen;
        choices.write(&person.home)?;
    }
    eprintln!("rcc: {} {version} is installed, and used from now on", pinned.agent);
    Ok(0)
}

fn bring(person: &Person, args: &BringArgs) -> Done {
    let mut choices = Choices::read(&person.home).map_err(one)?;
    if args.none || !args.items.is_empty() {
        choices.bring = prepare::items(&args.items)?;
        choices.bring.sort();
        choices.bring.dedup();
        choices.write(&person.home).map_err(one)?;
    }
    let names: Vec<&str> = choices.bring.iter().map(|item| item.name()).collect();
    println!("{}", if names.is_empty() { "nothing".to_owned() } else { names.join(" ") });
    Ok(0)
}
