//! What is shown, by whichever Nix is found here.

use super::work::{AGENTS_IN_A_TREE, FLAKE, PROGRAMS_IN_A_TREE};
use crate::steps::Steps;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Who runs Nix, and so whose the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Who {
    /// Whoever runs this, with a store below the work's folder.
    Here,
    /// Root, without a daemon.
    Root,
    /// An ordinary user, through root's daemon.
    Daemon,
    /// An ordinary user with a store of their own.
    User,
}

impl Who {
    /// Root before the daemon, which takes root's store over.
    pub const IN_A_TREE: [Self; 3] = [Self::Root, Self::Daemon, Self::User];

    /// As the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Root => "root",
            Self::Daemon => "daemon",
            Self::User => "user",
        }
    }
}

const SETTINGS: &str = "\
experimental-features = nix-command flakes
sandbox = false
substituters =
flake-registry =
download-attempts = 1
warn-dirty = false
";
/// The ordinary user's number in a tree.
const USER: u32 = 4178;
const TEMPLATES: [&str; 6] = ["default", "claude", "python", "node", "rust", "go"];

type Part = fn(&Nix) -> Result<()>;

/// Runs it; each part, whatever came of the one before.
pub fn run(work: &Path, who: Who, steps: &Steps) -> Result<()> {
    let nix = steps.run("nix", || Nix::new(work, who))?;
    let mut parts: Vec<(&'static str, Part)> = vec![
        ("flake show", Nix::show),
        ("all systems", Nix::systems),
        ("flake check", Nix::check),
        ("build", Nix::build),
        ("run .#setup", Nix::setup),
        ("run .#claude", Nix::claude),
        ("mkAgent", Nix::agent),
        ("develop", Nix::develop),
        ("templates", Nix::templates),
        ("option errors", Nix::errors),
        ("what rebuilds", Nix::rebuilds),
        ("unfree by name", Nix::unfree),
    ];
    // Trees have no cargo.
    if who == Who::Here {
        parts.push(("source", Nix::source));
    }
    let mut failed = Vec::new();
    for (name, part) in parts {
        if steps.run(name, || part(&nix)).is_err() {
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Nix, as somebody.
struct Nix {
    user: Option<u32>,
    variables: Vec<(&'static str, String)>,
    version: (u32, u32),
    /// A folder of theirs.
    place: PathBuf,
    flake: PathBuf,
    stand_ins: PathBuf,
    daemon: Option<Child>,
}

impl Drop for Nix {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Nix {
    fn new(work: &Path, who: Who) -> Result<Self> {
        let place = work.join(who.name());
        fs::create_dir_all(place.join("home"))?;
        let stand_ins = place.join("stand-ins");
        copy(&work.join(FLAKE).join("tests/nix"), &stand_ins)?;
        write_host(&stand_ins, work, who)?;
        let mut variables = vec![
            ("HOME", place.join("home").display().to_string()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("LANG", "C.UTF-8".into()),
            ("NIX_USER_CONF_FILES", "/dev/null".into()),
            ("NIX_CONFIG", format!("{SETTINGS}build-users-group =\n")),
        ];
        if matches!(who, Who::Here | Who::User) {
            let own = |name| place.join("nix").join(name).display().to_string();
            variables.extend([
                ("NIX_STORE_DIR", own("store")),
                ("NIX_STATE_DIR", own("var")),
                ("NIX_LOG_DIR", own("log")),
                ("NIX_CONF_DIR", own("etc")),
            ]);
        }
        let mut daemon = None;
        if who == Who::Daemon {
            variables.pop();
            variables.extend([("NIX_REMOTE", "daemon".into()), ("NIX_CONFIG", SETTINGS.into())]);
            daemon = Some(start_daemon()?);
        }
        let user = matches!(who, Who::Daemon | Who::User).then_some(USER);
        if user.is_some() {
            // 2.8 wants a name.
            if nix::unistd::User::from_uid(USER.into())?.is_none() {
                ran(&["useradd", "--uid", &USER.to_string(), "--no-create-home", "dev"])?;
            }
            for path in [&place, &place.join("home")] {
                chown(path, user, user)?;
            }
        }
        let mut nix = Self { user, variables, version: (0, 0), place, flake: work.join(FLAKE), stand_ins, daemon };
        let said = succeeds(nix.command(["--version"]))?;
        println!("{} as {}", said.trim(), who.name());
        nix.version = version(&said).with_context(|| format!("`{said}` tells no version"))?;
        Ok(nix)
    }

    fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        self.program(Path::new("nix"), words)
    }

    /// Any program, as them.
    fn program<'a>(&self, program: &Path, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program);
        command.args(words).env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).current_dir(&self.place);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// The same with the stand-ins for the flake's inputs. `words` begin with the subcommand's.
    fn flake<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(words);
        for input in ["nixpkgs", "nix2container"] {
            command.args(["--override-input", input, &self.stand_in(input)]);
        }
        command
    }

    fn stand_in(&self, name: &str) -> String {
        format!("path:{}", self.stand_ins.join(name).display())
    }

    /// Makes a folder that is theirs.
    fn own_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path)?;
        if self.user.is_some() {
            chown(path, self.user, self.user)?;
        }
        Ok(())
    }

    /// An output of the flake's.
    fn output(&self, name: &str) -> String {
        format!("path:{}#{name}", self.flake.display())
    }

    fn show(&self) -> Result<()> {
        // Before 2.13 all systems were shown without being asked for.
        let all: &[&str] = if self.version >= (2, 13) { &["--all-systems"] } else { &[] };
        let flake = format!("path:{}", self.flake.display());
        let mut command = self.flake(["flake", "show", "--json"]);
        command.args(all).arg(flake);
        let shown: Value = serde_json::from_str(&succeeds(command)?)?;
        // 2.34's may have more around it.
        let at = |path: &str| shown.pointer(path).or_else(|| shown.pointer(&format!("/inventory{path}"))).is_some();
        for system in ["x86_64-linux", "aarch64-linux"] {
            for name in ["gateway", "image", "claude-code"] {
                ensure!(at(&format!("/packages/{system}/{name}")), "no package {name} for {system}: {shown}");
            }
        }
        for system in ["x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"] {
            for name in ["default", "rcc", "rcc-src", "docs"] {
                ensure!(at(&format!("/packages/{system}/{name}")), "no package {name} for {system}");
            }
            for name in ["default", "claude", "shell", "check", "setup"] {
                ensure!(at(&format!("/apps/{system}/{name}")), "no app {name} for {system}");
            }
            ensure!(at(&format!("/devShells/{system}/default")), "no devShell for {system}");
            ensure!(at(&format!("/formatter/{system}")), "no formatter for {system}");
        }
        for name in TEMPLATES {
            ensure!(at(&format!("/templates/{name}")), "no template {name}");
        }
        ensure!(at("/nixosModules/default") && at("/overlays/default"), "no module, or no overlay");
        ensure!(at("/darwinModules") || at("/darwinModules/default"), "no module for macOS");
        Ok(())
    }

    /// What there is for each system is evaluated down to what would be built, on whichever this is.
    fn systems(&self) -> Result<()> {
        for system in ["x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"] {
            for (output, names, each) in [
                ("packages", if system.ends_with("linux") { 8 } else { 3 }, "p: p.drvPath"),
                ("checks", if system.ends_with("linux") { 7 } else { 0 }, "c: c.drvPath"),
                ("devShells", 1, "s: s.drvPath"),
                ("apps", 5, "a: a.program"),
            ] {
                let apply = format!("builtins.mapAttrs (_: {each})");
                let said = succeeds(self.flake([
                    "eval",
                    "--json",
                    &self.output(&format!("{output}.{system}")),
                    "--apply",
                    &apply,
                ]))?;
                let made: BTreeMap<String, String> = serde_json::from_str(&said)?;
                ensure!(made.len() >= names, "{output} for {system}: {said}");
            }
            succeeds(self.flake(["eval", "--raw", &self.output(&format!("formatter.{system}.drvPath"))]))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let flake = format!("path:{}", self.flake.display());
        succeeds(self.flake(["flake", "check", &flake])).map(drop)
    }

    /// Builds an output and gives its path.
    fn built(&self, name: &str) -> Result<PathBuf> {
        let said = succeeds(self.flake(["build", "--no-link", "--json", &self.output(name)]))?;
        let said: Value = serde_json::from_str(&said)?;
        Ok(said[0]["outputs"]["out"].as_str().with_context(|| format!("{said}"))?.into())
    }

    fn build(&self) -> Result<()> {
        let rcc = self.built("default")?;
        for program in ["rcc", "rcc-gateway", "rcc-firewall", "rcc-setup"] {
            let said = succeeds(self.program(&rcc.join("bin").join(program), ["--version"]))?;
            ensure!(said.starts_with(program), "{said}");
        }
        ensure!(self.built("gateway")?.join("bin/rcc-gateway").is_file(), "no gateway");
        ensure!(self.built("docs")?.join("share/doc/rcc/docs/policy.md").is_file(), "no documents");
        Ok(())
    }

    /// A checker, which changes nothing and ends with the line that does.
    fn setup(&self) -> Result<()> {
        let rcc = self.built("default")?.join("bin/rcc");
        for app in ["setup", "check"] {
            let output = ended(self.flake(["run", &self.output(app)]))?;
            let said = String::from_utf8(output.stdout)?;
            let next = format!("next: sudo {} setup", rcc.display());
            ensure!(output.status.code() == Some(3), "{app} ended with {}: {said}", output.status);
            ensure!(said.lines().last() == Some(&next), "{app} ends otherwise than with `{next}`: {said}");
        }
        Ok(())
    }

    /// Where nothing is set up, nothing starts, and that is said with a code. `--` and what follows reach rcc.
    fn claude(&self) -> Result<()> {
        let output = ended(self.flake_run("claude", &["-p", "hello"]))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(125), "it ended with {}: {said}", output.status);
        ensure!(said.contains("rcc: RCC-"), "{said}");
        let help = succeeds(self.flake_run("claude", &["--help"]))?;
        ensure!(help.contains("Run Claude Code, isolated"), "{help}");
        Ok(())
    }

    fn flake_run(&self, app: &str, words: &[&str]) -> Command {
        let mut command = self.flake(["run", &self.output(app)]);
        command.arg("--").args(words);
        command
    }

    /// A person's own flake makes an agent of a package.
    fn agent(&self) -> Result<()> {
        let mine = self.place.join("agent");
        self.own_folder(&mine)?;
        let text = AGENT_FLAKE.replace("@RCC@", &self.flake.display().to_string());
        fs::write(mine.join("flake.nix"), text)?;
        let mut command = self.command(["run"]);
        for (input, name) in
            [("nixpkgs", "nixpkgs"), ("rcc/nixpkgs", "nixpkgs"), ("rcc/nix2container", "nix2container")]
        {
            command.args(["--override-input", input, &self.stand_in(name)]);
        }
        command.arg(format!("path:{}", mine.display()));
        let output = ended(command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(125) && said.contains("rcc: RCC-"), "{}: {said}", output.status);
        Ok(())
    }

    fn develop(&self) -> Result<()> {
        let mut command = self.flake(["develop", &self.output("")]);
        command.args(["-c", "sh", "-c", "command -v cargo && command -v git"]);
        self.tools_of(command, 2)
    }

    /// So many programs, all of them the store's.
    fn tools_of(&self, command: Command, count: usize) -> Result<()> {
        let said = succeeds(command)?;
        let store = self.variables.iter().find(|(name, _)| *name == "NIX_STORE_DIR").map(|(_, value)| value.as_str());
        let store = store.unwrap_or("/nix/store");
        let found = said.lines().filter(|line| line.starts_with(store)).count();
        ensure!(found == count, "{count} programs of {store} were expected: {said}");
        Ok(())
    }

    fn templates(&self) -> Result<()> {
        for (name, tool) in TEMPLATES.into_iter().zip(["git", "git", "python3", "node", "cargo", "go"]) {
            let project = self.place.join("projects").join(name);
            self.own_folder(&project)?;
            let init = || {
                let mut command = self.command(["flake", "init", "-t", &self.output(name)]);
                command.current_dir(&project);
                command
            };
            succeeds(init())?;
            for file in ["flake.nix", "rcc.toml", ".envrc", "README.md"] {
                ensure!(project.join(file).is_file(), "{name} has no {file}");
            }
            // A second time nothing of the person's is overwritten.
            fs::write(project.join("README.md"), "mine\n")?;
            let again = ended(init())?;
            ensure!(fs::read_to_string(project.join("README.md"))? == "mine\n", "{name}: {}", again.status);
            let mut command = self.command(["develop", "--override-input", "nixpkgs", &self.stand_in("nixpkgs")]);
            command.args(["-c", "sh", "-c", &format!("command -v {tool}")]).current_dir(&project);
            self.tools_of(command, 1)?;
        }
        Ok(())
    }

    /// What is wrong with a configuration is said by the option's name, at evaluation; what is wrong with what it means, by
    /// `rcc policy check`, when the policy is built.
    fn errors(&self) -> Result<()> {
        let file = self.stand_ins.join("errors.nix");
        let file = file.to_str().context("a path of UTF-8")?;
        let flake = self.flake.to_str().context("a path of UTF-8")?;
        let eval = |more: &[&str]| {
            let mut command = self.command(["eval", "--impure", "--json", "-f", file, "--argstr", "flake", flake]);
            command.args(more);
            command
        };
        let said = succeeds(eval(&["says"]))?;
        let says: BTreeMap<String, String> = serde_json::from_str(&said)?;
        ensure!(says.len() > 10, "{said}");
        for (name, says) in &says {
            let output = ended(eval(&[&format!("value.{name}")]))?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success(), "{name}: was accepted");
            ensure!(said.contains(says), "{name}: does not say `{says}`: {said}");
        }
        let build = ["build", "--impure", "--no-link", "-f", file, "--argstr", "flake", flake, "meaningless"];
        let output = ended(self.command(build))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("RCC-103"), "a policy without meaning: {said}");
        ensure!(said.contains("policy.toml:1:10"), "no line and column: {said}");
        Ok(())
    }

    /// Documents change nothing that is built of the source; the source does, but not the image.
    fn rebuilds(&self) -> Result<()> {
        let edited = self.place.join("edited");
        copy(&self.flake, &edited)?;
        let of = |name: &str| {
            let output = format!("path:{}#{name}.drvPath", edited.display());
            succeeds(self.flake(["eval", "--raw", &output]))
        };
        let (rcc, image) = (of("rcc-src")?, of("image")?);
        fs::write(edited.join("README.md"), "changed\n")?;
        fs::write(edited.join("docs/policy.md"), "changed\n")?;
        fs::write(edited.join("tests/nix/policy.toml"), "changed\n")?;
        ensure!(of("rcc-src")? == rcc, "a document is part of the programs' source");
        fs::write(edited.join("rust/rcc/src/main.rs"), "fn main() {}\n")?;
        ensure!(of("rcc-src")? != rcc, "a source is no part of the programs' source");
        ensure!(of("image")? == image, "the image changes with the programs");
        Ok(())
    }

    /// What the package is built of is a workspace that cargo takes, with its lock as it is.
    fn source(&self) -> Result<()> {
        let source = format!("path:{}#rcc-src.src", self.flake.display());
        let source = succeeds(self.flake(["eval", "--raw", &source]))?;
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--manifest-path"]);
        cargo.arg(Path::new(&source).join("Cargo.toml")).stdin(Stdio::null());
        let said: Value = serde_json::from_str(&succeeds(cargo)?)?;
        let members = said["workspace_members"].as_array().context("no members")?;
        ensure!(members.len() > 10, "{members:?}");
        Ok(())
    }

    /// Claude Code needs no setting; anything else that is not free is refused.
    fn unfree(&self) -> Result<()> {
        succeeds(self.flake(["eval", "--raw", &self.output("claude-code.drvPath")]))?;
        let renamed = "p: (p.overrideAttrs (_: { pname = \"other\"; })).drvPath";
        let output = ended(self.flake(["eval", &self.output("claude-code"), "--apply", renamed]))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("unfree"), "{said}");
        Ok(())
    }
}

fn ended(mut command: Command) -> Result<Output> {
    command.output().with_context(|| command.get_program().display().to_string())
}

/// What it prints, if it ends well.
fn succeeds(command: Command) -> Result<String> {
    let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let output = ended(command)?;
    ensure!(output.status.success(), "{}: {shown}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

const AGENT_FLAKE: &str = r#"{
  inputs.rcc.url = "path:@RCC@";
  inputs.nixpkgs.url = "github:NixOS/nixpkgs";
  outputs =
    { rcc, nixpkgs, ... }:
    let
      pkgs = nixpkgs.legacyPackages.x86_64-linux;
    in
    {
      packages.x86_64-linux.default = rcc.lib.mkAgent {
        inherit pkgs;
        inherit (rcc.packages.x86_64-linux) rcc;
        package = pkgs.git;
        request.allow = [ "git.example.org:443" ];
      };
    };
}
"#;

/// `nix (Nix) 2.8.0`
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().last()?.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What the stand-in can't ask.
fn write_host(stand_ins: &Path, work: &Path, who: Who) -> Result<()> {
    let (programs, agents) = match who {
        Who::Here => (fs::read_to_string(work.join("programs"))?, fs::read_to_string(work.join("agents"))?),
        _ => (PROGRAMS_IN_A_TREE.into(), AGENTS_IN_A_TREE.into()),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let text = format!(
        "{{\n  path = {path:?};\n  tools = {path:?};\n  nixLd = \"\";\n  bash = \"/bin/bash\";\n  programs = {programs:?};\n  agents = {agents:?};\n  libraries = \"\";\n  cargoHome = \"\";\n  rustupHome = \"\";\n  \
         cargoTarget = \"\";\n}}\n"
    );
    fs::write(stand_ins.join("nixpkgs/host.nix"), text)?;
    Ok(())
}

/// Runs root's program.
fn ran(words: &[&str]) -> Result<()> {
    let (program, words) = words.split_first().context("a program")?;
    let status = Command::new(program).args(words).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

/// In a tree, as root: builders of its own, as an installation has them.
fn start_daemon() -> Result<Child> {
    ran(&["groupadd", "--system", "--force", "nixbld"])?;
    for n in ["1", "2"] {
        let name = format!("nixbld{n}");
        if nix::unistd::User::from_name(&name)?.is_none() {
            ran(&["useradd", "--system", "--no-create-home", "--groups", "nixbld", &name])?;
        }
    }
    let mut command = Command::new("nix-daemon");
    command.env("NIX_CONFIG", format!("{SETTINGS}build-users-group = nixbld\n")).stdin(Stdio::null());
    let daemon = command.stderr(Stdio::null()).spawn().context("nix-daemon")?;
    let until = Instant::now() + Duration::from_secs(10);
    while !Path::new("/nix/var/nix/daemon-socket/socket").exists() {
        if Instant::now() > until {
            bail!("nix-daemon does not listen");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(daemon)
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").args(["--recursive", "--"]).args([from, to]).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "cp ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("nix (Nix) 2.8.0\n"), Some((2, 8)));
        assert!(version("nix (Nix) 2.26.3").unwrap() > version("nix (Nix) 2.8.0").unwrap());
        assert_eq!(version("nix (Nix)"), None);
    }
}
