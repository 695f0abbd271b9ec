//! `cargo xtask test`: the one test command, for people and for CI.
//!
//! Three lanes run side by side on the two cores of a small machine: this workspace's own code in the debug profile;
//! the dependencies' check with the tool it needs, then the product's static programs in the release profile and the
//! fuzzing engine; and the real agent, which is a download, with the disk of a virtual machine, and the product for a Mac. Then the tests run alone,
//! with everything built beforehand, and after them the machine, the flake by Nix, and each fuzzing target for some seconds.

use crate::{
    actionlint, agent, check, darwin, fuzz, mounts, nix, prerequisites,
    product::{self, AGENTS, BINARIES},
    steps::{Steps, side_by_side},
    tools, vm,
    workspace::Workspace,
};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};
use xshell::cmd;

/// Install what is missing, then check, build and test everything.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these tests (nextest's filters); the checks are left out.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filters: Vec<String>,
}

/// Runs everything.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "test", |steps| everything(args, &workspace, steps))
}

fn everything(args: &Args, workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_TESTS))?;
    let nextest = tools::ensure(&tools::NEXTEST, workspace, steps)?;
    let checks = args.filters.is_empty();
    let (mut built, mut released, mut rigged, mut fetched) = (false, false, false, false);
    let (mut engine, mut image) = (None, None);
    side_by_side(vec![
        Box::new(|| {
            // The tests run even if a check failed, so that one run shows all that is wrong.
            let checked = if checks { check::code(workspace, steps) } else { Ok(()) };
            let sh = workspace.shell()?;
            steps.command("build tests", cmd!(sh, "{nextest} nextest run --locked --workspace --no-run"))?;
            built = true;
            if checks {
                steps.command("doc tests", cmd!(sh, "cargo test --locked --workspace --doc"))?;
            }
            checked
        }),
        Box::new(|| {
            let checked = if checks { check::dependencies(workspace, steps) } else { Ok(()) };
            product::build(workspace, steps)?;
            released = true;
            if checks {
                product::build_rig(workspace, steps)?;
                rigged = true;
                engine = Some(fuzz::build(workspace, steps)?);
            }
            checked
        }),
        Box::new(|| {
            steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
            fetched = true;
            if checks {
                // What fails stands in the table.
                let _ = actionlint::check(workspace, steps);
                image = Some(vm::disk(workspace, steps, None)?);
                let _ = darwin::step(workspace, steps);
            }
            Ok(())
        }),
    ]);
    if !(built && released && fetched) {
        steps.not_run("tests", "something they need could not be made");
        bail!("the tests were not run");
    }
    // Alone: beside a machine that is emulated, sessions would wait for longer than their tests do.
    let tested = run_tests(args, workspace, steps, &nextest);
    if !checks {
        return tested;
    }
    let lacking = || anyhow!("it was not run: something it needs could not be made");
    let (mut fuzzed, mut shown, mut flake) = (Err(lacking()), Err(lacking()), Ok(()));
    side_by_side(vec![
        Box::new(|| {
            if let Some(engine) = &engine {
                fuzzed = fuzz::short(workspace, steps, engine);
            }
            Ok(())
        }),
        Box::new(|| {
            flake = nix::step(workspace, steps);
            Ok(())
        }),
        Box::new(|| {
            if let Some(image) = image.filter(|_| rigged) {
                shown = vm::short_form(workspace, steps, &image);
            }
            Ok(())
        }),
    ]);
    tested.and(fuzzed).and(shown).and(flake)
}

fn run_tests(args: &Args, workspace: &Workspace, steps: &Steps, nextest: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let sh = workspace.shell()?;
    let filters = &args.filters;
    let mut command = Command::from(cmd!(sh, "{nextest} nextest run --locked --workspace {filters...}"));
    command.env(BINARIES, workspace.release()).env(AGENTS, workspace.agents()).env("TMPDIR", &scratch.path);
    let tested = steps.foreground("tests", command);
    let cleaned = steps.run("temporary files", || scratch.remove());
    tested.and(cleaned)
}

/// A temporary folder for the tests that every user can reach, as some run as another one; below /tmp, as the path of
/// a Unix socket may have 107 bytes at most.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let path = tempfile::Builder::new().prefix("rcc-test-").tempdir_in(env::temp_dir())?.keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
        Ok(Self { path })
    }

    /// Removes the folder with all that killed tests left in it. A mount that was left is a failed test; it is never
    /// descended into, since what is mounted may be anything of this machine's.
    fn remove(&self) -> Result<()> {
        let mounts = mounts::below(&self.path)?;
        ensure!(mounts.is_empty(), "tests left mounts: {}", mounts.join(", "));
        fs::remove_dir_all(&self.path).with_context(|| format!("can't remove {}", self.path.display()))
    }
}
