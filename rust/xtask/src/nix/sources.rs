//! What this machine's network has not, where it was brought: the real nix2container, nix-ld and nixpkgs' lib, as git
//! repositories in folders `OWNER+NAME/repo`. Nothing of them is part of this repository.

use crate::product::{AGENTS, BINARIES};
use crate::steps::Steps;
use crate::test::Scratch;
use crate::tools;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the tests know of the folder.
const VARIABLE: &str = "RCC_TEST_NIX_SOURCES";
/// Debian's packages of what nix2container is built with, unpacked and not installed; its own list names newer ones.
const GO_PACKAGES: &[&str] = &[
    "golang-github-containers-image-dev",
    "golang-github-containers-ocicrypt-dev",
    "golang-github-docker-docker-dev",
    "golang-github-docker-libtrust-dev",
    "golang-github-opencontainers-go-digest-dev",
    "golang-github-opencontainers-image-spec-dev",
    "golang-github-sirupsen-logrus-dev",
    "golang-github-spf13-cobra-dev",
    "golang-github-spf13-pflag-dev",
    "golang-golang-x-sys-dev",
];
/// Go's graphs, which Debian has not; the last release that Debian's Go takes.
const GONUM: (&str, &str) = ("gonum+gonum", "v0.9.3");

/// The folder of trees and programs.
pub struct Sources {
    path: PathBuf,
}

impl Sources {
    /// Takes the trees out of `brought`, and builds what is built.
    pub fn make(brought: &Path, workspace: &Workspace, steps: &Steps) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("rcc-nix-sources-{}", std::process::id()));
        let this = Self { path };
        let tree = |name: &str, at: &str, to: &str| unpack(&brought.join(name).join("repo"), at, &this.path.join(to));
        steps.run("sources", || {
            tree("nix-community+nixpkgs.lib", "HEAD", "nixpkgs-lib")?;
            tree("nlewo+nix2container", "HEAD", "nix2container")?;
            tree("nix-community+nix-ld", "HEAD", "nix-ld")?;
            fs::create_dir_all(this.path.join("bin"))?;
            // The stand-in's packages of what has no static form here.
            std::os::unix::fs::symlink("/usr/bin/jq", this.path.join("bin/jq"))?;
            Ok(())
        })?;
        this.nix_ld(steps)?;
        this.nix2container(brought, workspace, steps)?;
        Ok(this)
    }

    /// nixpkgs' lib.
    pub fn lib(&self) -> PathBuf {
        self.path.join("nixpkgs-lib/lib")
    }

    fn nix_ld(&self, steps: &Steps) -> Result<()> {
        let folder = self.path.join("nix-ld");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--locked"]).current_dir(&folder).env_remove("RUSTFLAGS");
        // As its package does.
        cargo.env("RUSTC_BOOTSTRAP", "1").env("NIX_SYSTEM", format!("{}-linux", std::env::consts::ARCH));
        cargo.env("CARGO_TARGET_DIR", folder.join("target"));
        steps.command("build nix-ld", cargo)?;
        fs::copy(folder.join("target/release/nix-ld"), self.path.join("bin/nix-ld"))?;
        Ok(fs::remove_dir_all(folder)?)
    }

    fn nix2container(&self, brought: &Path, workspace: &Workspace, steps: &Steps) -> Result<()> {
        let (debs, packages) = (self.path.join("debs"), self.path.join("go"));
        fs::create_dir_all(&debs)?;
        let mut apt = Command::new("apt-get");
        apt.args(["download", "--quiet=2"]).args(GO_PACKAGES).current_dir(&debs);
        steps.command("Go's packages", apt)?;
        let workspace_go = packages.join("usr/share/gocode");
        let source = |name: &str| workspace_go.join("src").join(name);
        steps.run("unpack them", || {
            for deb in fs::read_dir(&debs)? {
                succeeds(Command::new("dpkg-deb").arg("--extract").arg(deb?.path()).arg(&packages))?;
            }
            let (name, version) = GONUM;
            unpack(&brought.join(name).join("repo"), version, &source("gonum.org/v1/gonum"))?;
            let mine = source("github.com/nlewo/nix2container");
            unpack(&brought.join("nlewo+nix2container/repo"), "HEAD", &mine)?;
            // The name that Debian's package of it has.
            let image = mine.join("nix/image.go");
            let text = fs::read_to_string(&image)?;
            ensure!(text.contains("\"go.podman.io/image/v5/"), "nix2container has changed");
            fs::write(image, text.replace("\"go.podman.io/image/v5/", "\"github.com/containers/image/v5/"))?;
            fs::create_dir_all(source("oci"))?;
            fs::copy(workspace.root.join("tests/nix/oci.go"), source("oci/main.go"))?;
            Ok(())
        })?;
        for (step, package, program) in
            [("build nix2container", "github.com/nlewo/nix2container", "nix2container"), ("build oci", "oci", "oci")]
        {
            let mut go = Command::new("go");
            // gonum's other way reads Go's maps as an older Go had them.
            go.args(["build", "-tags", "safe", "-o"]).arg(self.path.join("bin").join(program)).arg(package);
            go.env("GO111MODULE", "off").env("CGO_ENABLED", "0").env("GOPATH", &workspace_go).current_dir(&self.path);
            steps.command(step, go)?;
        }
        fs::remove_dir_all(&debs)?;
        Ok(fs::remove_dir_all(&packages)?)
    }

    /// The tests that need them, and those that have stand-ins else.
    pub fn tests(&self, workspace: &Workspace, programs: &Path, steps: &Steps) -> Result<()> {
        let nextest = tools::ensure(&tools::NEXTEST, workspace, steps)?;
        let scratch = Scratch::new()?;
        let mut build = Command::new("cargo");
        build
            .args(["build", "--locked", "-p", "rcc-world", "-p", "rcc-sessions", "--bins"])
            .current_dir(&workspace.root);
        steps.command("build worlds", build)?;
        let mut command = Command::new(nextest);
        command.args([
            "nextest",
            "run",
            "--locked",
            "-p",
            "rcc-sessions",
            "--test",
            "nix",
            "--test",
            "nix_image",
            "--test",
            "nix_installs",
        ]);
        command.args(["--run-ignored", "all"]).current_dir(&workspace.root);
        command.env(BINARIES, programs).env(AGENTS, workspace.agents()).env("TMPDIR", &scratch.path);
        command.env(VARIABLE, &self.path);
        let tested = steps.foreground("tests with them", command);
        tested.and(scratch.remove())
    }

    /// Takes it away.
    pub fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.path)?)
    }
}

/// A repository's files, as they are in a version.
fn unpack(repository: &Path, at: &str, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut archive = Command::new("git");
    archive.arg("-C").arg(repository).args(["archive", at]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut archive = archive.spawn()?;
    let out = archive.stdout.take().context("git's output")?;
    let taken = succeeds(Command::new("tar").arg("-xC").arg(to).stdin(out));
    let given = archive.wait()?;
    ensure!(given.success(), "git archive of {} ended with {given}", repository.display());
    taken
}

fn succeeds(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
