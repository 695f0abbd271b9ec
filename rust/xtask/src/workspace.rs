//! Where things are: the checkout, its target folder, the machine's triple, the product's programs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// Packages that are tools of the workspace, never installed on a person's machine.
const NOT_THE_PRODUCT: &[&str] = &["xtask"];

/// The checkout that this program was built from, as cargo sees it.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The folder of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// Cargo's target folder; everything that xtask writes is below it.
    pub target: PathBuf,
    /// The triple of this machine's compiler.
    pub triple: String,
    /// Packages below `rust/` that have a program and belong to the product.
    pub product: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("xtask has moved")?.to_owned();
        let sh = Shell::new()?;
        sh.change_dir(&root);
        let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1").quiet().read()?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
        let target = metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?.into();
        let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
        let product: Vec<String> = packages.iter().filter_map(|p| product_name(p, &root)).collect();
        ensure!(!product.is_empty(), "no package below rust/ has a program");
        let verbose = cmd!(sh, "rustc --version --verbose").quiet().read()?;
        let triple = verbose.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc names no host")?.to_owned();
        Ok(Self { root, target, triple, product })
    }

    /// Where the product's static release programs are once they are built.
    pub fn release(&self) -> PathBuf {
        self.target.join(&self.triple).join("release")
    }

    /// Where [`crate::product::build_rig`] puts static programs.
    pub fn rig(&self) -> PathBuf {
        self.target.join(&self.triple).join("debug")
    }

    /// Where real agents are kept for tests.
    pub fn agents(&self) -> PathBuf {
        self.target.join("agents")
    }

    /// A shell in the checkout.
    pub fn shell(&self) -> Result<Shell> {
        let sh = Shell::new()?;
        sh.change_dir(&self.root);
        Ok(sh)
    }
}

/// The package's name if it lies below `rust/` and has a program for people.
fn product_name(package: &Value, root: &Path) -> Option<String> {
    let name = package["name"].as_str()?;
    let below_rust = Path::new(package["manifest_path"].as_str()?).starts_with(root.join("rust"));
    let is_bin = |t: &Value| t["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "bin"));
    let has_bin = package["targets"].as_array()?.iter().any(is_bin);
    (below_rust && has_bin && !NOT_THE_PRODUCT.contains(&name)).then(|| name.to_owned())
}
