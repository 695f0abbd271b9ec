//! The way by Nix, from a machine that has never seen rcc: `nix run .#setup`, the line that it ends with, `nix run .#claude`.
//! Nix and Claude Code are real; nixpkgs is the stand-in of tests/nix, whose programs and agent are those of the tests.

use anyhow::{Context, Result, ensure};
use rcc_rig::{AGENTS, BINARIES, POLICY, Rig, make_folder, shown};
use rcc_sessions::fresh::fresh;
use rcc_sessions::{SETUP, root, succeeds};
use rcc_world::inside_with;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

const SETTINGS: &str = "experimental-features = nix-command flakes\nsandbox = false\nbuild-users-group =\nsubstituters =\n\
    flake-registry =\ndownload-attempts = 1\n";

/// The flake, and an ordinary user's Nix with a store of their own.
struct Nix {
    flake: PathBuf,
    stand_ins: PathBuf,
    own: PathBuf,
}

impl Nix {
    fn new(rig: &Rig<'_>) -> Result<Self> {
        let folder = rig.user.home.join("nix");
        let nix =
            Self { flake: folder.join("flake"), stand_ins: folder.join("flake/tests/nix"), own: folder.join("own") };
        make_folder(&folder, &rig.user)?;
        make_folder(&nix.own, &rig.user)?;
        let root_of = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("a workspace")?;
        root(&format!(
            "mkdir -p {0}/tests; cd {1}
            cp -r flake.nix flake.lock Cargo.toml Cargo.lock README.md docs nix apps checks modules templates rust {0}/
            cp -r tests/nix {0}/tests/; chmod -R a+rX {0}",
            nix.flake.display(),
            root_of.display()
        ))?;
        let variable = |name| std::env::var(name).context("use cargo xtask test");
        let host = format!(
            "{{ path = \"/usr/local/bin:/usr/bin:/bin\"; bash = \"/bin/bash\"; programs = {:?}; agents = {:?}; \
             cargoHome = \"\"; rustupHome = \"\"; cargoTarget = \"\"; }}\n",
            variable(BINARIES)?,
            variable(AGENTS)?
        );
        std::fs::write(nix.stand_ins.join("nixpkgs/host.nix"), host)?;
        Ok(nix)
    }

    fn run(&self, rig: &Rig<'_>, app: &str, words: &[&str]) -> Command {
        let mut command = rig.command("/usr/bin/nix");
        let own = |name| self.own.join(name);
        command.env("NIX_CONFIG", SETTINGS).env("NIX_USER_CONF_FILES", "/dev/null").envs([
            ("NIX_STORE_DIR", own("store")),
            ("NIX_STATE_DIR", own("var")),
            ("NIX_LOG_DIR", own("log")),
            ("NIX_CONF_DIR", own("etc")),
        ]);
        command.arg("run").arg(format!("path:{}#{app}", self.flake.display()));
        for input in ["nixpkgs", "nix2container"] {
            command.args(["--override-input", input, &format!("path:{}", self.stand_ins.join(input).display())]);
        }
        command.arg("--").args(words).env("ANTHROPIC_API_KEY", &rig.world.at.model_keys.api_key);
        command
    }
}

#[test]
fn what_nix_runs_is_set_up_by_the_line_that_it_prints_and_runs_claude_code() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        // The rig's agent, which the person would otherwise have.
        let agents = rig.user.home.join(".local/share/rcc/agents");
        root(&format!("umount {0} && rmdir {0}", agents.display()))?;
        let nix = Nix::new(&rig)?;
        let checked = nix.run(&rig, "setup", &[]).output()?;
        ensure!(checked.status.code() == Some(3), "nothing is set up: {}", shown(&checked));
        let said = String::from_utf8(checked.stdout)?;
        let line = said.lines().last().and_then(|l| l.strip_prefix("next: sudo ")).with_context(|| said.clone())?;
        ensure!(line.starts_with(nix.own.join("store").to_str().context("UTF-8")?), "not of the store: {line}");

        // As root, by sudo, as it was printed. The policy is the world's: its authority, and its model.
        root("mkdir -p /etc/rcc && chmod 755 /etc/rcc")?;
        std::fs::write(POLICY, rig.usual_policy(&["allowed.example:80"], ""))?;
        let words: Vec<&str> = line.split(' ').collect();
        let set_up = Command::new(words[0]).args(&words[1..]).env("SUDO_USER", rcc_rig::USER).output()?;
        ensure!(succeeds(&set_up)?.contains("done    proof"), "{}", shown(&set_up));
        // What setup installed is no part of the store.
        ensure!(!root("readlink -f /usr/local/bin/rcc")?.contains("store"), "the installed rcc is the store's");

        let script = json!([
            { "tools": [{ "name": "Bash", "input": {
                "command": "curl -sS -o /dev/null -w '%{http_code} ' http://allowed.example/; curl -sS http://denied.example/; ls ~/nix",
                "timeout": 60_000
            } }] },
            { "text": "done by nix" },
        ]);
        std::fs::write(&world.at.model_script, script.to_string())?;
        let claude = nix.run(&rig, "claude", &["-p", "do what the script says"]).output()?;
        ensure!(succeeds(&claude)?.contains("done by nix"), "{}", shown(&claude));
        let results: Vec<String> = world
            .exchanges()?
            .iter()
            .flat_map(|e| e.message.iter().flat_map(|m| &m.results))
            .map(|result| result.text.clone())
            .collect();
        let result = results.first().context("the agent ran nothing")?;
        ensure!(result.contains("200 ") && result.contains("Could not resolve host: denied.example"), "{result}");
        ensure!(result.contains("No such file or directory"), "the person's folder is there: {result}");
        ensure!(!agents.exists(), "the app brings its agent itself, and fetches none for the person");
        Ok(())
    });
}
