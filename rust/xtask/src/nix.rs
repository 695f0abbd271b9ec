//! `cargo xtask nix`: the flake by real Nix, offline, with the stand-ins for its inputs that lie in tests/nix.
//!
//! What is shown is the same everywhere: on this machine with the Nix that it has (`--here`, the test command's step), or
//! with 2.8, 2.26 and 2.34 in clean trees of the Debian releases that have them, there as root, as an ordinary user with a
//! store of their own, and through the daemon.

mod lint;
mod script;
mod sources;
mod work;

use crate::agent;
use crate::prerequisites::{self, Purpose};
use crate::product;
use crate::steps::Steps;
use crate::tools;
use crate::trees::enter::Entry;
use crate::trees::tree::{Copy, Trees};
use crate::workspace::Workspace;
use anyhow::{Result, ensure};
use sources::Sources;
use std::path::{Path, PathBuf};
use std::process::Command;
use work::Work;
use xshell::cmd;

/// Show the flake by real Nix, offline.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Only this version.
    #[arg(long, value_enum)]
    version: Option<Version>,
    /// With the Nix of this machine instead, in a store of its own.
    #[arg(long, conflicts_with = "version")]
    here: bool,
    /// With the real nix2container, nix-ld and nixpkgs' lib besides, which were brought to this folder: git repositories at
    /// OWNER+NAME/repo (nlewo+nix2container, gonum+gonum, nix-community+nix-ld, nix-community+nixpkgs.lib).
    #[arg(long, value_name = "DIR", requires = "here")]
    sources: Option<PathBuf>,
    /// Static programs of the product that were built already; built in the release profile unless told.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the trees' packages come from; where this machine's apt has them from unless told.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(clap::Subcommand, Debug)]
enum Inside {
    /// In a tree: run the script.
    #[command(hide = true)]
    Inside(InsideArgs),
}

#[derive(clap::Args, Debug)]
struct InsideArgs {
    /// What [`Work`] made.
    work: PathBuf,
    /// Whose store.
    #[arg(value_enum)]
    who: script::Who,
}

/// A version of Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Version {
    #[value(name = "2.8")]
    V2_8,
    #[value(name = "2.26")]
    V2_26,
    #[value(name = "2.34")]
    V2_34,
}

impl Version {
    const ALL: [Self; 3] = [Self::V2_8, Self::V2_26, Self::V2_34];

    /// The Debian that has it.
    const fn suite(self) -> &'static str {
        match self {
            Self::V2_8 => "bookworm",
            Self::V2_26 => "trixie",
            Self::V2_34 => "sid",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V2_8 => "2.8",
            Self::V2_26 => "2.26",
            Self::V2_34 => "2.34",
        }
    }
}

/// What a tree has besides minbase.
const PACKAGES: [&str; 4] = ["nix-bin", "git", "xz-utils", "ca-certificates"];
/// What the work is called in a tree.
const WORK: &str = "/mnt/work";
const PROGRAMS: &str = "/mnt/programs";

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Inside::Inside(args)) = &args.inside {
        let steps = Steps::new(std::env::temp_dir().join("logs"))?;
        let shown = script::run(&args.work, args.who, &steps);
        return steps.close().and(shown);
    }
    let workspace = Workspace::find()?;
    let programs = std::path::absolute(args.programs.clone().unwrap_or_else(|| workspace.release()))?;
    if args.here {
        return Steps::all(&workspace, "nix", |steps| {
            steps.run("prerequisites", || prerequisites::ensure(&[Purpose::Nix]))?;
            // The test command has made both.
            if args.programs.is_none() {
                product::build(&workspace, steps)?;
                steps.command("fetch agent", agent::install(&workspace, &workspace.agents())?)?;
            }
            style(&workspace, steps)?;
            let shown = here(&workspace, &programs, None, steps);
            let Some(brought) = &args.sources else { return shown };
            let sources = Sources::make(&std::path::absolute(brought)?, &workspace, steps)?;
            let with_lib = here(&workspace, &programs, Some(&sources), steps);
            let tested = sources.tests(&workspace, &programs, steps);
            shown.and(with_lib).and(tested).and(sources.remove())
        });
    }
    in_trees(args, &workspace, &programs)
}

/// All parts with this machine's Nix; with `sources`, nixpkgs' own lib and so its module system.
fn here(workspace: &Workspace, programs: &Path, sources: Option<&Sources>, steps: &Steps) -> Result<()> {
    let work = Work::new(workspace, programs.to_owned())?;
    if let Some(sources) = sources {
        work.real_lib(&sources.lib())?;
        println!("\nwith nixpkgs' own lib:");
    }
    let shown = script::run(work.path(), script::Who::Here, steps);
    shown.and(work.remove())
}

/// The test command's step: its table and whatever failed are in the step's log.
pub fn step(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let sh = workspace.shell()?;
    let (me, programs) = (std::env::current_exe()?, workspace.release());
    steps.command("nix", cmd!(sh, "{me} nix --here --programs {programs}"))
}

/// Form, what is declared and not used, and what is better said otherwise.
fn style(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let nixfmt = tools::ensure(&tools::NIXFMT, workspace, steps)?;
    let deadnix = tools::ensure(&tools::DEADNIX, workspace, steps)?;
    let sh = workspace.shell()?;
    let listed = cmd!(sh, "git ls-files --cached --others --exclude-standard *.nix").quiet().read()?;
    let files = || listed.lines().filter(|file| workspace.root.join(file).exists());
    let (formed, used) = (files(), files());
    let names: Vec<PathBuf> = files().map(PathBuf::from).collect();
    let formatted = steps.command("nixfmt", cmd!(sh, "{nixfmt} --check {formed...}"));
    let used = steps.command("deadnix", cmd!(sh, "{deadnix} --fail {used...}"));
    formatted.and(used).and(steps.run("lints", || lint::files(&workspace.root, &names)))
}

fn in_trees(args: &Args, workspace: &Workspace, programs: &Path) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "only root can make trees\nhint: cargo xtask nix --here, or sudo --preserve-env env PATH=\"$PATH\" cargo xtask nix"
    );
    prerequisites::ensure(&[Purpose::Trees, Purpose::Build])?;
    let folder = workspace.target.join("xtask/nix-trees");
    let steps = Steps::new(folder.join("build"))?;
    if args.programs.is_none() {
        product::build(workspace, &steps)?;
        steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
    }
    product::build_xtask(workspace, &steps)?;
    steps.close()?;
    let trees = Trees::new(&workspace.target, args.mirror.as_deref())?;
    let mut failed = Vec::new();
    for version in Version::ALL.into_iter().filter(|v| args.version.is_none_or(|only| only == *v)) {
        println!("\n════ Nix {} ════", version.name());
        let steps = Steps::new(folder.join(version.name()))?;
        let shown = in_tree(version, &trees, workspace, programs, &steps);
        if let Err(error) = steps.close().and(shown) {
            eprintln!("Nix {}: {error:#}", version.name());
            failed.push(version.name());
        }
    }
    ensure!(failed.is_empty(), "failed with {}", failed.join(", "));
    Ok(())
}

fn in_tree(version: Version, trees: &Trees, workspace: &Workspace, programs: &Path, steps: &Steps) -> Result<()> {
    let suite = version.suite();
    steps.run("tree", || trees.ensure(suite, &steps.place("debootstrap")))?;
    let copy = steps.run("copy of it", || trees.copy(suite))?;
    // Not by debootstrap: their configuration wants /proc.
    let apt = |words: &[&str]| {
        let entry = Entry::new(copy.path(), "apt-get").writable(&trees.packages(suite), "/var/cache/apt/archives");
        entry.command(&[&["--quiet=2", "--yes", "--no-install-recommends"], words].concat())
    };
    steps.command("apt-get update", apt(&["update"])?)?;
    steps.command("install nix", apt(&[&["install"], &PACKAGES[..]].concat())?)?;
    let work = Work::new(workspace, programs.to_owned())?;
    let mut result = Ok(());
    for who in script::Who::IN_A_TREE {
        let entered = enter(&copy, workspace, &work, who)?;
        result = result.and(steps.foreground(who.name(), entered));
    }
    result.and(work.remove()).and(steps.run("remove the copy", || copy.remove()))
}

fn enter(copy: &Copy, workspace: &Workspace, work: &Work, who: script::Who) -> Result<Command> {
    let entry = Entry::new(copy.path(), format!("{PROGRAMS}/xtask"));
    entry
        .read_only(&workspace.rig(), PROGRAMS)
        .writable(work.path(), WORK)
        .read_only(work.programs(), work::PROGRAMS_IN_A_TREE)
        .read_only(&workspace.agents(), work::AGENTS_IN_A_TREE)
        .command(&["nix", "inside", WORK, who.name()])
}
