//! `cargo xtask trees`: rcc on other releases of Debian, each in a clean tree on this machine's kernel.
//!
//! A tree is minbase as debootstrap makes it. Each run works on a copy of it that is thrown away, so that every run
//! begins as on a fresh machine: the distribution's packages come from the one table of `prerequisites`, by this same
//! program, and a requirement that the table lacks is found. All mounts are in private namespaces, and all that is
//! written is below the target folder.

pub mod enter;
pub mod tree;

use crate::agent;
use crate::prerequisites::{self, Purpose};
use crate::product::{self, AGENTS, BINARIES};
use crate::steps::{Steps, side_by_side};
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, ensure};
use enter::Entry;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use tree::{Copy, Trees};
use xshell::cmd;

/// The releases that rcc is shown on.
const SUITES: &[&str] = &["bookworm", "trixie", "sid"];
/// What README tells a newcomer to have: git to fetch this repository, a linker to build it, the authorities of the
/// registries. The Rust toolchain is this machine's.
const BEFOREHAND: &[&str] = &["git", "gcc", "libc6-dev", "ca-certificates"];

// Places in a tree.
const PROGRAMS: &str = "/mnt/programs";
const PRODUCT: &str = "/mnt/product";
const AGENT: &str = "/mnt/agents";
const CHECKOUT: &str = "/mnt/checkout";
const TOOLCHAIN: &str = "/opt/rust";
const TESTS: &str = "/mnt/tests";

/// What is about the Rust toolchain of a person, and rustup is no package of these distributions'. This machine's is another
/// place's.
const WITHOUT_RUSTUP: &[&str] = &[
    "rustup_is_there_when_it_is_chosen_and_only_what_runs_of_it",
    "toolchains_and_folders",
    "a_rust_project_with_a_dependency",
];

/// Show rcc on other releases of Debian, in clean trees.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The releases; bookworm, trixie and sid unless told.
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    /// A newcomer's whole way instead: clone this checkout's HEAD in the tree and run its demo as README says.
    #[arg(long)]
    fresh: bool,
    /// Where packages come from; where this machine's apt has them from unless told.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Leave the tree as the run left it, and print where it is.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(clap::Subcommand, Debug)]
enum Inside {
    /// As process 1 of new namespaces: make a tree the root, and run a command in it.
    #[command(hide = true)]
    Inside(enter::Args),
}

/// Runs each suite, whatever came of the one before.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Inside::Inside(args)) = &args.inside {
        return enter::inside(args);
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "only root can make trees\nhint: sudo --preserve-env env PATH=\"$PATH\" cargo xtask trees"
    );
    prerequisites::ensure(&[Purpose::Trees, Purpose::Build, Purpose::Run])?;
    let workspace = Workspace::find()?;
    let trees = Trees::new(&workspace.target, args.mirror.as_deref())?;
    let folder = workspace.target.join("xtask/trees");
    let shown = if args.fresh { None } else { Some(Shown::make(&workspace, &folder.join("build"))?) };
    let suites: Vec<&str> =
        if args.suites.is_empty() { SUITES.to_vec() } else { args.suites.iter().map(String::as_str).collect() };
    let mut failed = Vec::new();
    for suite in suites {
        println!("\n════ {suite} ════");
        let run = Run { suite, logs: folder.join(suite), trees: &trees, workspace: &workspace };
        let steps = Steps::new(run.logs.clone())?;
        let result = run.all(&steps, shown.as_ref(), args.keep);
        if let Err(error) = steps.close().and(result) {
            eprintln!("{suite}: {error:#}");
            failed.push(suite);
        }
    }
    ensure!(failed.is_empty(), "failed on {}", failed.join(", "));
    Ok(())
}

/// What is brought into the trees: built here, once, and static, so that nothing depends on a tree's libc.
struct Shown {
    programs: PathBuf,
    product: PathBuf,
    agents: PathBuf,
    /// The tests of whole sessions: a name and a program each.
    tests: Vec<(String, PathBuf)>,
}

impl Shown {
    fn make(workspace: &Workspace, logs: &Path) -> Result<Self> {
        let steps = Steps::new(logs.to_owned())?;
        let (mut tests, mut fetched) = (None, false);
        side_by_side(vec![
            Box::new(|| {
                product::build(workspace, &steps)?;
                product::build_rig(workspace, &steps)?;
                tests = Some(product::build_tests(workspace, &steps)?);
                Ok(())
            }),
            Box::new(|| {
                steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
                fetched = true;
                Ok(())
            }),
        ]);
        steps.close()?;
        let tests = tests.filter(|_| fetched).context("something that is to be shown could not be made")?;
        Ok(Self { programs: workspace.rig(), product: workspace.release(), agents: workspace.agents(), tests })
    }

    /// A program with all of it at hand.
    fn entry(&self, copy: &Copy, program: impl AsRef<OsStr>) -> Entry {
        Entry::new(copy.path(), program)
            .read_only(&self.programs, PROGRAMS)
            .read_only(&self.product, PRODUCT)
            .read_only(&self.agents, AGENT)
            .variable(BINARIES, PRODUCT)
            .variable(AGENTS, AGENT)
    }
}

/// One suite's run.
struct Run<'a> {
    suite: &'a str,
    logs: PathBuf,
    trees: &'a Trees,
    workspace: &'a Workspace,
}

impl Run<'_> {
    fn all(&self, steps: &Steps, shown: Option<&Shown>, keep: bool) -> Result<()> {
        steps.run("tree", || self.trees.ensure(self.suite, &self.logs.join("debootstrap.log")))?;
        let copy = steps.run("copy of it", || self.trees.copy(self.suite))?;
        let result = shown.map_or_else(|| self.newcomer(&copy, steps), |shown| self.show(&copy, shown, steps));
        if keep {
            println!("the tree: {}", copy.keep().display());
            return result;
        }
        result.and(steps.run("remove the copy", || copy.remove()))
    }

    /// The demo, the toolchains, and the tests of whole sessions, with what was built outside.
    fn show(&self, copy: &Copy, shown: &Shown, steps: &Steps) -> Result<()> {
        let enter = |program: &str, arguments: &[&str]| self.packages(shown.entry(copy, program)).command(arguments);
        let (xtask, world) = (format!("{PROGRAMS}/xtask"), format!("{PROGRAMS}/rcc-world"));
        let in_world = |program: &str| enter(&world, &["run", "--user", "dev", "--", &format!("{PROGRAMS}/{program}")]);
        // Exactly what the demo installs first, so that what the table lacks is missing here too.
        steps.command("prerequisites", enter(&xtask, &["prerequisites", "run", "demo"])?)?;
        for program in ["podman", "crun"] {
            steps.command("versions", enter(program, &["--version"])?)?;
        }
        let demo = steps.command("demo", in_world("rcc-demo")?);
        let toolchains = steps
            .command("install toolchains", enter(&xtask, &["prerequisites", "run", "demo", "build", "toolchains"])?)
            .and_then(|()| steps.command("toolchains", in_world("rcc-toolchains")?));
        let tests = steps
            .command("install for tests", enter(&xtask, &["prerequisites", "run", "demo", "test", "nix"])?)
            .and_then(|()| steps.run("tests", || self.tests(copy, shown, steps)));
        // What failed was shown when it did.
        for (log, passed) in [("versions", true), ("demo", demo.is_ok()), ("toolchains", toolchains.is_ok())] {
            if passed {
                self.print(log)?;
            }
        }
        demo.and(toolchains).and(tests)
    }

    /// The attempts at leaving, and the sessions' own tests, whatever came of the one before.
    fn tests(&self, copy: &Copy, shown: &Shown, steps: &Steps) -> Result<()> {
        // Goldens and documents are read where they lie.
        let root = self.workspace.root.to_str().context("the checkout's path is not UTF-8")?;
        let mut failed = Vec::new();
        for (name, program) in &shown.tests {
            let folder = program.parent().context("a program has a folder")?;
            let inside = Path::new(TESTS).join(program.file_name().context("a program has a name")?);
            let entry = shown
                .entry(copy, inside)
                .read_only(folder, TESTS)
                .read_only(&self.workspace.root, root)
                .variable("INSTA_WORKSPACE_ROOT", root)
                .variable("RCC_WORLD_BIN", &format!("{PROGRAMS}/rcc-world"));
            let mut arguments = vec!["--test-threads", "2", "--exact"];
            arguments.extend(WITHOUT_RUSTUP.iter().flat_map(|test| ["--skip", test]));
            if steps.logged(name, entry.command(&arguments)?).is_err() {
                failed.push(name.as_str());
            }
        }
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }

    /// From nothing but minbase, what README names, and a Rust toolchain.
    fn newcomer(&self, copy: &Copy, steps: &Steps) -> Result<()> {
        let bundle = self.trees.place(&format!("{}.checkout", self.suite));
        fs::create_dir_all(&bundle)?;
        let sh = self.workspace.shell()?;
        let file = bundle.join("rcc.bundle");
        steps.command("bundle HEAD", cmd!(sh, "git bundle create {file} HEAD"))?;
        let sysroot = PathBuf::from(cmd!(sh, "rustc --print sysroot").quiet().read()?);
        let enter = |folder: &str, program: &str, arguments: &[&str]| {
            let entry = Entry::new(copy.path(), program)
                .folder(folder)
                .read_only(&bundle, CHECKOUT)
                .read_only(&sysroot, TOOLCHAIN)
                .path(&format!("{TOOLCHAIN}/bin"));
            self.packages(entry).command(arguments)
        };
        steps.command("what README asks for", enter("/", "apt-get", &["--quiet=2", "update"])?)?;
        let mut install = vec!["--quiet=2", "--yes", "--no-install-recommends", "install"];
        install.extend(BEFOREHAND);
        steps.command("what README asks for", enter("/", "apt-get", &install)?)?;
        copy.cargo_configuration()?;
        steps.command("git clone", enter("/root", "git", &["clone", &format!("{CHECKOUT}/rcc.bundle"), "rcc"])?)?;
        steps.command("git log", enter("/root/rcc", "git", &["log", "-1", "--oneline"])?)?;
        let result = steps.command("cargo xtask demo", enter("/root/rcc", "cargo", &["xtask", "demo"])?);
        self.print("git-log")?;
        result.and_then(|()| self.print("cargo-xtask-demo"))
    }

    /// The packages that apt fetches are kept for the next run.
    fn packages(&self, entry: Entry) -> Entry {
        entry.writable(&self.trees.packages(self.suite), "/var/cache/apt/archives")
    }

    /// Prints a step's log, if there is one.
    fn print(&self, log: &str) -> Result<()> {
        let path = self.logs.join(format!("{log}.log"));
        if path.exists() {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            println!("──── {} ────\n{}", path.display(), text.trim_end());
        }
        Ok(())
    }
}
