//! `cargo xtask darwin`: the product for macOS, as far as a Linux machine can show it.
//!
//! Every crate is checked for both of Apple's processors, the programs are linked for one and read back, and a type error
//! put into macOS-only code of a copy must be found. Nothing of it runs here: what only a Mac can show is in docs/macos.md.

mod macho;
mod toolchain;

use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use toolchain::Toolchain;
use xshell::cmd;

/// Apple's own processors, for which the programs are linked, too.
const ARM: &str = "aarch64-apple-darwin";
/// Intel's.
const INTEL: &str = "x86_64-apple-darwin";
/// The oldest macOS that Homebrew and Podman's machine still take.
const OLDEST: &str = "13.0";

/// What of `rust/` is of this workspace's development, and for Linux.
const NOT_FOR_A_MAC: &[&str] = &["xtask"];
/// Whose tests need no Linux: they are checked, too, as a Mac runs them.
const TESTED: &[&str] = &[
    "rcc",
    "rcc-gvproxy",
    "rcc-host",
    "rcc-launch",
    "rcc-pf",
    "rcc-policy",
    "rcc-preflight",
    "rcc-proto",
    "rcc-report",
    "rcc-rules",
];

/// The crate that the control breaks: one on which most others depend.
const BROKEN: &str = "rcc-host";

/// Check and link the product for macOS, on Linux.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these parts.
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// A part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// All crates, and tests, for Apple's own processors.
    Arm,
    /// The same for Intel's.
    Intel,
    /// That a mistake for macOS alone is found.
    Control,
    /// The programs, read back.
    Link,
}

const ALL: &[Part] = &[Part::Arm, Part::Intel, Part::Control, Part::Link];

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let parts = if args.parts.is_empty() { ALL } else { &args.parts };
    Steps::all(&workspace, "darwin", |steps| these(&workspace, steps, parts))
}

/// All of it, as the test command wants it.
pub fn step(workspace: &Workspace, steps: &Steps) -> Result<()> {
    these(workspace, steps, ALL)
}

/// Each part is tried whatever became of the one before.
fn these(workspace: &Workspace, steps: &Steps, parts: &[Part]) -> Result<()> {
    let mac = Mac::new(workspace, steps)?;
    let mut all = Ok(());
    for part in parts {
        let done = match part {
            Part::Arm => mac.check(steps, "check for macOS arm64", ARM),
            Part::Intel => mac.check(steps, "check for macOS x86_64", INTEL),
            Part::Control => steps.run("macOS control", || mac.control(steps)),
            Part::Link => steps.run("link for macOS arm64", || mac.link(steps)),
        };
        all = all.and(done);
    }
    all
}

/// What works on the product for a Mac.
struct Mac<'a> {
    workspace: &'a Workspace,
    toolchain: Toolchain,
    /// Below the target folder, and cargo's lock on it is its own.
    folder: PathBuf,
    /// The crates of the product, in order.
    packages: Vec<String>,
}

impl<'a> Mac<'a> {
    fn new(workspace: &'a Workspace, steps: &Steps) -> Result<Self> {
        let folder = workspace.target.join("darwin");
        let toolchain = steps.run("macOS toolchain", || Toolchain::ensure(&folder))?;
        let mut packages = Vec::new();
        for entry in fs::read_dir(workspace.root.join("rust"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !NOT_FOR_A_MAC.contains(&name.as_str()) {
                packages.push(name);
            }
        }
        packages.sort_unstable();
        for name in TESTED.iter().chain([&BROKEN]) {
            ensure!(packages.iter().any(|p| p == name), "{name} is no crate any more");
        }
        Ok(Self { workspace, toolchain, folder, packages })
    }

    /// Cargo, for a target, in a checkout.
    fn cargo(&self, subcommand: &str, target: &str, checkout: &Path) -> Command {
        let mut cargo = self.toolchain.cargo();
        cargo.args([subcommand, "--locked", "--keep-going", "-Zbuild-std", "--target", target]);
        cargo.current_dir(checkout).env("CARGO_TARGET_DIR", self.folder.join("build"));
        // Small and quick, for it is only looked at.
        cargo.envs([
            ("CARGO_PROFILE_DEV_DEBUG", "0"),
            // Taking symbols out of a Mach-O needs a tool that is not here.
            ("CARGO_PROFILE_DEV_STRIP", "none"),
            ("CARGO_INCREMENTAL", "0"),
            ("MACOSX_DEPLOYMENT_TARGET", OLDEST),
        ]);
        cargo.stdin(Stdio::null());
        cargo
    }

    /// Libraries and programs of all crates, then the tests of those that have some for a Mac.
    fn check(&self, steps: &Steps, step: &'static str, target: &str) -> Result<()> {
        steps.run(step, || {
            let root = &self.workspace.root;
            let mut all = self.cargo("check", target, root);
            all.args(["--lib", "--bins"]).args(self.packages.iter().map(|p| format!("--package={p}")));
            steps.logged(step, all)?;
            let mut tests = self.cargo("check", target, root);
            tests.args(["--lib", "--bins", "--tests"]).args(TESTED.iter().map(|p| format!("--package={p}")));
            steps.logged(step, tests)
        })
    }

    /// That a mistake in what only a Mac compiles is found: the same lines, once for Linux and once for macOS, in a copy.
    fn control(&self, steps: &Steps) -> Result<()> {
        let copy = self.folder.join("control");
        let sh = self.workspace.shell()?;
        let files = cmd!(sh, "git ls-files -z --cached --others --exclude-standard").quiet().read()?;
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        for file in files.split('\0').filter(|f| f.starts_with("rust/") || f.starts_with("tests/") || !f.contains('/'))
        {
            let (from, to) = (self.workspace.root.join(file), copy.join(file));
            if from.is_file() {
                fs::create_dir_all(to.parent().context("a file has a folder")?)?;
                fs::copy(&from, &to)?;
            }
        }
        let library = copy.join("rust").join(BROKEN).join("src/lib.rs");
        let whole = fs::read_to_string(&library)?;
        for (system, found) in [("linux", false), ("macos", true)] {
            let wrong = "const _: u8 = \"the control's type error\";";
            fs::write(&library, format!("{whole}\n#[cfg(target_os = \"{system}\")]\n{wrong}\n"))?;
            let output = self.cargo("check", ARM, &copy).args(["--lib", "--package", BROKEN]).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            steps.note("macOS control", &format!("with a mistake for {system} ({}):\n{said}", output.status))?;
            let as_expected = said.contains("error[E0308]") && said.contains("the control's type error");
            ensure!(output.status.success() != found, "with a mistake for {system} alone: {}\n{said}", output.status);
            ensure!(!found || as_expected, "it failed, but not for the mistake:\n{said}");
        }
        Ok(fs::remove_dir_all(&copy)?)
    }

    /// Links the programs, and reads back what they are.
    fn link(&self, steps: &Steps) -> Result<()> {
        let mut cargo = self.cargo("zigbuild", ARM, &self.workspace.root);
        cargo.arg("--bins").args(self.workspace.product.iter().map(|p| format!("--package={p}")));
        steps.logged("link for macOS arm64", cargo)?;
        let mut looked_at = 0;
        for entry in fs::read_dir(self.folder.join("build").join(ARM).join("debug"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let named = !name.contains('.') && (name.starts_with("rcc") || name == "gvproxy");
            if !named {
                continue;
            }
            let program = macho::read(&fs::read(&path)?).with_context(|| path.display().to_string())?;
            let name = path.display();
            ensure!(program.is_arm64_program, "{name} is no program for arm64");
            ensure!(program.is_signed, "{name} has no signature: Apple's processors run nothing without");
            for library in &program.libraries {
                ensure!(macho::is_systems_own(library), "{name} needs {library}, which macOS does not have");
            }
            steps.note(
                "link for macOS arm64",
                &format!("{name}: arm64, signed, with {}", program.libraries.join(", ")),
            )?;
            looked_at += 1;
        }
        ensure!(looked_at >= self.workspace.product.len(), "{looked_at} programs alone");
        Ok(())
    }
}
