//! Cargo's own tools, each of a pinned version, built from the crate registry below the target folder.
//!
//! A tool of exactly that version that is already on the PATH is used as it is. Nothing is put into `~/.cargo/bin`.

use crate::{steps::Steps, workspace::Workspace};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool and the version that the workspace was tried with.
#[derive(Debug)]
pub struct Tool {
    /// The crate.
    name: &'static str,
    /// Its program.
    program: &'static str,
    version: &'static str,
    features: &'static [&'static str],
    /// The step's name in the table.
    step: &'static str,
}

/// Licences, bans and sources of dependencies. Its default feature alone brings the system's certificates, which
/// nothing here uses.
pub const DENY: Tool = Tool {
    name: "cargo-deny",
    program: "cargo-deny",
    version: "0.20.2",
    features: &["--no-default-features"],
    step: "install cargo-deny",
};

/// Runs the tests.
pub const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    program: "cargo-nextest",
    version: "0.9.143",
    features: &["--no-default-features", "--features=default-no-update"],
    step: "install cargo-nextest",
};

/// The form of Nix files, as RFC 166 has it.
pub const NIXFMT: Tool =
    Tool { name: "nixfmt_rs", program: "nixfmt", version: "0.5.3", features: &[], step: "install nixfmt" };

/// What Nix files declare and don't use.
pub const DEADNIX: Tool =
    Tool { name: "deadnix", program: "deadnix", version: "1.3.1", features: &[], step: "install deadnix" };

/// The tool's program; built first if it isn't there. A build is a step of its own.
pub fn ensure(tool: &Tool, workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let root = workspace.target.join("tools");
    let built = root.join("bin").join(tool.program);
    for program in [Path::new(tool.program), &built] {
        if is_version(program, tool) {
            return Ok(program.to_owned());
        }
    }
    steps.run(tool.step, || {
        let scratch = root.join("build").join(tool.name);
        let version = format!("{}@{}", tool.name, tool.version);
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--locked", "--no-track", "--force", &version]).args(tool.features);
        // Used a few times and thrown away: what matters is how long the build takes.
        cargo.envs([
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
            ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
        ]);
        cargo.env_remove("RUSTFLAGS").env("CARGO_TARGET_DIR", &scratch).arg("--root").arg(&root);
        steps.logged(tool.step, cargo)?;
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch)?;
        }
        ensure!(is_version(&built, tool), "{} is not {version}", built.display());
        Ok(())
    })?;
    Ok(built)
}

/// Whether this program runs and says that it is the tool's version. Not being there counts as no.
fn is_version(program: &Path, tool: &Tool) -> bool {
    let mut command = Command::new(program);
    if tool.name == NEXTEST.name {
        command.arg("nextest");
    }
    let output = command.arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|o| {
        o.status.success() && String::from_utf8_lossy(&o.stdout).split_whitespace().nth(1) == Some(tool.version)
    })
}
