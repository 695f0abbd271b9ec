//! What Nix works on: a copy of the checkout's files and of the stand-ins, which know this machine.

use crate::workspace::Workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use xshell::cmd;

/// The flake, in the work's folder.
pub const FLAKE: &str = "flake";
/// Where a tree has the product's programs.
pub const PROGRAMS_IN_A_TREE: &str = "/mnt/product";

/// Where a tree has the real agent.
pub const AGENTS_IN_A_TREE: &str = "/mnt/agents";

/// A folder below /tmp that goes with [`Work::remove`].
#[derive(Debug)]
pub struct Work {
    path: PathBuf,
    programs: PathBuf,
}

impl Work {
    /// Copies what git has or would have, so that a flake of this folder is the one that is looked at, and no more.
    pub fn new(workspace: &Workspace, programs: PathBuf) -> Result<Self> {
        let path = tempfile::Builder::new().prefix("rcc-nix-").tempdir_in(std::env::temp_dir())?.keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let sh = workspace.shell()?;
        let listed = cmd!(sh, "git ls-files -z --cached --others --exclude-standard").quiet().read()?;
        for file in listed.split('\0').filter(|file| !file.is_empty()) {
            let (from, to) = (workspace.root.join(file), path.join(FLAKE).join(file));
            // One that was removed and not committed.
            if !from.is_file() {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
        for (name, place) in [("programs", &programs), ("agents", &workspace.agents())] {
            fs::write(path.join(name), place.to_str().context("a path of UTF-8")?)?;
        }
        Ok(Self { path, programs })
    }

    /// Puts a lib in the place of the stand-in's.
    pub fn real_lib(&self, lib: &Path) -> Result<()> {
        let nixpkgs = self.path.join(FLAKE).join("tests/nix/nixpkgs");
        let (real, sh) = (nixpkgs.join("real"), xshell::Shell::new()?);
        cmd!(sh, "cp --recursive {lib} {real}").quiet().run()?;
        Ok(fs::write(nixpkgs.join("lib.nix"), "import ./real\n")?)
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The product's programs, here.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Takes it away.
    pub fn remove(self) -> Result<()> {
        // What is in a store can't be written, whoever owns it.
        let sh = xshell::Shell::new()?;
        let path = &self.path;
        cmd!(sh, "chmod -R u+w {path}").quiet().run()?;
        fs::remove_dir_all(path).with_context(|| path.display().to_string())
    }
}
