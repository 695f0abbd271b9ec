//! `cargo xtask fuzz`: the targets of `tests/fuzz` under libFuzzer, with the stable compiler.
//!
//! The compiler's counters for libFuzzer are LLVM's own pass, which a stable compiler has as well; what it lacks is the
//! address sanitizer, of which safe Rust has less need. What an input reaches for the first time is kept below target
//! (`fuzz/corpus`), so that the next run goes on from there; the seeds are `tests/fuzz/seeds`. An input that breaks
//! something lies in `fuzz/findings`, and its path is in the output.

use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xshell::cmd;

/// Its flags, as cargo-fuzz has them: counters for each edge, comparisons that are traced, tables of places.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Seconds for each target in the test command.
const SHORT: u64 = 3;

/// Each target with the longest input that is worth trying, in bytes. A step's name is its own.
const TARGETS: &[(&str, u32)] = &[
    ("protocol", 4096),
    ("session", 4096),
    ("forwarded", 1024),
    ("policy", 4096),
    ("dns", 600),
    ("client-hello", 4096),
    ("http1", 2048),
    ("listing", 32768),
    ("git-index", 4096),
];

/// Feed what reads strangers' bytes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which; all, one after another, unless told.
    #[arg(value_parser = TARGETS.iter().map(|t| t.0).collect::<Vec<_>>())]
    targets: Vec<String>,
    /// Minutes for each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

/// Builds and runs.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "fuzz", |steps| {
        let engine = build(&workspace, steps)?;
        let chosen = |name: &str| args.targets.is_empty() || args.targets.iter().any(|t| t == name);
        let mut all = Ok(());
        for (name, longest) in TARGETS.iter().filter(|t| chosen(t.0)) {
            let ran = steps.foreground(name, command(&workspace, &engine, name, *longest, args.minutes * 60)?);
            all = all.and(ran);
        }
        all
    })
}

/// Builds the engine with the targets in it.
pub fn build(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let sh = workspace.shell()?;
    let (triple, folder) = (&workspace.triple, workspace.target.join("fuzz"));
    let mut cargo = Command::from(cmd!(sh, "cargo build --locked --profile fuzz --target {triple}"));
    cargo.args(["--package", "rcc-fuzz", "--features", "libfuzzer", "--bin", "rcc-fuzz"]);
    cargo.env("RUSTFLAGS", COVERAGE).env("CARGO_TARGET_DIR", &folder);
    steps.command("build fuzz", cargo)?;
    Ok(folder.join(triple).join("fuzz/rcc-fuzz"))
}

/// A few seconds of each target, a step each: what is found that quickly never gets further.
pub fn short(workspace: &Workspace, steps: &Steps, engine: &Path) -> Result<()> {
    steps.run("fuzz", || {
        for (name, longest) in TARGETS {
            steps.logged(&format!("fuzz {name}"), command(workspace, engine, name, *longest, SHORT)?)?;
        }
        Ok(())
    })
}

fn command(workspace: &Workspace, engine: &Path, name: &str, longest: u32, seconds: u64) -> Result<Command> {
    let folder = workspace.target.join("fuzz");
    let (corpus, findings) = (folder.join("corpus").join(name), folder.join("findings"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let seeds = workspace.root.join("tests/fuzz/seeds").join(name);
    ensure!(seeds.is_dir(), "{} has no seeds", seeds.display());
    let mut command = Command::new(engine);
    command.env("RCC_FUZZ_TARGET", name).current_dir(&folder);
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={longest}"), "-timeout=10".into()]);
    command.args(["-rss_limit_mb=2048", "-print_final_stats=1", "-use_value_profile=1", "-verbosity=1"]);
    command.arg(format!("-artifact_prefix={}/{name}-", findings.display())).arg(corpus).arg(seeds);
    Ok(command)
}
