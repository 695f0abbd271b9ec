//! The way by Nix, from a machine that has never seen rcc: `nix run .#setup`, the line that it ends with, `nix run .#claude`;
//! and what of an agent's edits direnv and rcc run on the host: nothing.
//! Nix and Claude Code are real; nixpkgs is the stand-in of tests/nix, whose programs and agent are those of the tests.

use anyhow::{Context, Result, ensure};
use rcc_rig::{AGENTS, BINARIES, POLICY, Rig, make_folder, shown};
use rcc_sessions::fresh::fresh;
use rcc_sessions::nix::{Nix, approve};
use rcc_sessions::store::{Store, nix_calls};
use rcc_sessions::{SETUP, inside, refused, root, succeeds, user};
use rcc_world::inside_with;
use serde_json::json;
use std::os::unix::fs::chown;
use std::process::{Command, Output};

#[test]
fn what_nix_runs_is_set_up_by_the_line_that_it_prints_and_runs_claude_code() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        // The rig's agent, which the person would otherwise have.
        let agents = rig.user.home.join(".local/share/rcc/agents");
        root(&format!("umount {0} && rmdir {0}", agents.display()))?;
        let _store = Store::make(&rig)?;
        let nix = Nix::new(&rig)?;
        let variable = |name| std::env::var(name).context("use cargo xtask test");
        nix.host("/usr/local/bin:/usr/bin:/bin", &variable(BINARIES)?, &variable(AGENTS)?)?;
        let checked = nix.run(&rig, "setup", &[]).output()?;
        ensure!(checked.status.code() == Some(3), "nothing is set up: {}", shown(&checked));
        let said = String::from_utf8(checked.stdout)?;
        let line = said.lines().last().and_then(|l| l.strip_prefix("next: sudo ")).with_context(|| said.clone())?;
        ensure!(line.starts_with("/nix/store/"), "not of the store: {line}");

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
                "command": "type -p rg; get() { $(readlink -f $(type -p sed)) wget $*; }; get -qO /dev/null http://allowed.example/ && echo reached; get http://denied.example/; ls ~/nix /usr/bin/git",
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
        reached_and_refused(result)?;
        // rcc's own tools, and nothing of the person's folder or of the machine's programs.
        ensure!(result.contains("-rcc-tools-env/bin/rg\n"), "{result}");
        ensure!(result.matches("No such file or directory").count() == 2, "{result}");
        made_by_mk_agent(&rig, &nix)?;
        ensure!(!agents.exists(), "the app brings its agent itself, and fetches none for the person");
        Ok(())
    });
}

/// By name, inside.
fn reached_and_refused(said: &str) -> Result<()> {
    ensure!(said.contains("reached\n") && said.contains("bad address 'denied.example'"), "{said}");
    Ok(())
}

/// A flake of the person's that makes an agent of a package.
const AGENT: &str = r#"{
  inputs.rcc.url = "path:@RCC@";
  inputs.nixpkgs.url = "github:NixOS/nixpkgs";
  outputs =
    { rcc, nixpkgs, ... }:
    let
      system = "@SYSTEM@";
      pkgs = nixpkgs.legacyPackages.${system};
    in
    {
      packages.${system}.default = rcc.lib.mkAgent {
        inherit pkgs;
        inherit (rcc.packages.${system}) rcc;
        package = pkgs.writeShellScriptBin "agent" ''
          echo "$1 $2 $(tool)"; type -p rg tool; echo "package $RCC_PACKAGE"
          get() { $(readlink -f $(type -p sed)) wget $*; }
          get -qO /dev/null http://allowed.example/ && echo reached
          get http://denied.example/ 2>&1
          get -qO /dev/null http://also-allowed.example/ && echo reached
          ls ~/nix/flake 2>&1
          echo x >$0 || true
        '';
        toolchain = [ (pkgs.writeShellScriptBin "tool" "echo of the toolchain") ];
        arguments = [ "an argument" ];
        request.allow = [ "also-allowed.example:80" "db.example:5432" ];
        request.protect.read_only = [ "Makefile" ];
      };
    };
}
"#;

/// `lib.mkAgent`: its program has its closure, its arguments and the policy's hosts; of what it asks for, what the person
/// grants; and nothing of the person's or of the machine's programs.
fn made_by_mk_agent(rig: &Rig<'_>, nix: &Nix) -> Result<()> {
    let folder = rig.user.home.join("agent");
    make_folder(&folder, &rig.user)?;
    let text = AGENT.replace("@RCC@", &nix.flake.display().to_string());
    let text = text.replace("@SYSTEM@", &format!("{}-linux", std::env::consts::ARCH));
    std::fs::write(folder.join("flake.nix"), text)?;
    let inputs = ["nixpkgs", "rcc/nixpkgs", "rcc/nix2container"];
    let run = || {
        Ok::<_, anyhow::Error>(nix.run_of(rig, &format!("path:{}", folder.display()), &inputs, &["another"]).output()?)
    };
    let output = run()?;
    let (said, talk) = (succeeds(&output)?, String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(said.contains("an argument another of the toolchain"), "{}", shown(&output));
    ensure!(said.contains("-root-env/bin/rg\n") && said.contains("-root-env/bin/tool\n"), "{said}");
    reached_and_refused(&said)?;
    // Nix's collector finds the whole closure by what runs.
    let package =
        said.lines().find_map(|line| line.strip_prefix("package ")).context("no package in the environment")?;
    ensure!(user(rig, &format!("cat {package}/share/rcc/closure"))?.contains("-bash"), "{package}");
    ensure!(said.contains("No such file") && talk.contains("Read-only file system"), "{}", shown(&output));
    // What it asks for is said, and granted by the line that is said, as far as root's policy has it.
    ensure!(talk.contains("bad address 'also-allowed.example'"), "{talk}");
    let asks = "-root/share/rcc/rcc.toml asks for also-allowed.example:80, db.example:5432: not granted";
    let line = "rcc allow --project 'also-allowed.example:80' 'db.example:5432'";
    ensure!(talk.contains(asks) && talk.contains(line), "{talk}");
    refused(rig.rcc(["allow", "--project", "also-allowed.example:80", "db.example:5432"]), "RCC-106")?;
    succeeds(&rig.rcc(["allow", "--project", "also-allowed.example:80"]).output()?)?;
    let granted = run()?;
    let talk = String::from_utf8_lossy(&granted.stderr).into_owned();
    ensure!(!talk.contains("'also-allowed.example'") && talk.contains("asks for db.example:5432: not"), "{talk}");
    // The same without its request, by root's word for the machine; what the project says comes first.
    root("ln -s $(ls -d /nix/store/*-rcc-tools) /etc/rcc/tools")?;
    ensure!(inside(rig, "type -p rg; ls -d /usr/bin/git || true")?.ends_with("-rcc-tools-env/bin/rg\n"));
    std::fs::write(rig.project.join("rcc.toml"), "[toolchain]\nroot = \"host\"\n")?;
    ensure!(inside(rig, "ls -d /usr/bin/git")? == "/usr/bin/git\n");
    root("ln -sfn /nix/store/x /etc/rcc/tools")?;
    refused(rig.rcc(["run", "--", "true"]), "RCC-814")?;
    root("rm /etc/rcc/tools")?;
    // Not of this form, or not of the store.
    for package in [format!("{}", folder.display()), "/usr".into(), "/nix/store/x".into()] {
        refused(rig.rcc(["run", "--package", &package, "--", "true"]), "RCC-814")?;
    }
    let bash = user(rig, "ls -d /nix/store/*-bash | head -1")?;
    refused(rig.rcc(["run", "--package", bash.trim(), "--", "true"]), "RCC-814")?;
    Ok(())
}

/// The person's direnv, in the project.
fn direnv(rig: &Rig<'_>, script: &str) -> Result<Output> {
    Ok(rig.command("/usr/bin/direnv").args(["exec", ".", "/bin/bash", "-c", script]).output()?)
}

#[test]
fn what_an_agent_writes_into_a_flake_or_an_envrc_runs_nowhere_on_the_host() {
    inside_with(SETUP, |world| {
        // Here the person lets the agent write what is covered else.
        let rig = Rig::start(world, &[], "[protect]\nread_only = []")?;
        let store = Store::make(&rig)?;
        let home = rig.user.home.display();
        let file = |name: &str, text: &str| -> Result<()> {
            let path = rig.project.join(name);
            std::fs::write(&path, text)?;
            Ok(chown(&path, Some(rig.user.id), Some(rig.user.id))?)
        };
        file("rcc.toml", "[toolchain]\nroot = \"nix\"\nfiles = [\"shell.nix\"]\n")?;
        file("shell.nix", "\"imported\"\n")?;
        let attributes = "GREETING = \"approved\"; imported = import ./shell.nix; PKG_CONFIG_PATH = \"./vendor:${tools}/it's $(touch evil0):/x\"; \
            BASH_ENV = \"/x\"; shellHook = \"touch ~/evil0\";";
        file("flake.nix", &store.flake("", attributes))?;
        file(".envrc", "use rcc\n")?;
        user(
            &rig,
            "mkdir -p ~/.config/direnv/lib; rcc toolchain env --direnv >~/.config/direnv/lib/rcc.sh; direnv allow",
        )?;
        let before = direnv(&rig, "true")?;
        ensure!(String::from_utf8_lossy(&before.stderr).contains("RCC-807"), "not approved: {}", shown(&before));
        approve(&rig, &rig.project)?;
        // Outside it is programs and where compilers look, as data; inside everything, and the shellHook has run.
        let outside =
            "type -p sed; echo \"[$GREETING$BASH_ENV] $PKG_CONFIG_PATH\"; ls ~/evil* evil* 2>/dev/null || true";
        let given = |output: &Output| -> Result<bool> {
            let said = succeeds(output)?;
            let (program, rest) = said.split_once("/bin/sed\n").context("no sed")?;
            // Of the folders, the one in the closure.
            Ok(program.starts_with("/nix/store/") && rest == format!("[] {program}/it's $(touch evil0)\n"))
        };
        let output = direnv(&rig, outside)?;
        ensure!(given(&output)?, "direnv has the devShell's programs: {}", shown(&output));

        let evil = format!("builtins.trace \"evil\" (builtins.readFile {home}/.bashrc)");
        succeeds(&rig.inside(&format!(
            "sed -i 's/approved/evil/; s|GREETING|shellHook = \"touch {home}/evil1\"; GREETING|' flake.nix
            echo '{{ \"nodes\": {{}}, \"root\": \"evil\", \"version\": 7 }}' >flake.lock; echo '{evil}' >shell.nix
            grep -q evil flake.nix && grep -q evil shell.nix"
        ))?)?;
        let calls = nix_calls()?.len();
        let after = direnv(&rig, outside)?;
        ensure!(given(&after)?, "direnv: {}", shown(&after));
        let session = rig.inside("echo $GREETING $imported; ls ~/evil0")?;
        ensure!(String::from_utf8_lossy(&session.stdout).starts_with("approved imported\n/"), "{}", shown(&session));
        ensure!(String::from_utf8_lossy(&session.stderr).contains("RCC-808"), "{}", shown(&session));
        for app in [&["check"][..], &["plan", "--", "true"], &["toolchain", "env"]] {
            let _ = rig.rcc(app).output()?;
        }
        ensure!(nix_calls()?.len() == calls, "Nix was run: {:?}", nix_calls()?);

        // An .envrc that the agent wrote: direnv asks its user anew.
        succeeds(&rig.inside(&format!("echo 'touch {home}/evil2' >>.envrc"))?)?;
        let blocked = direnv(&rig, outside)?;
        ensure!(String::from_utf8_lossy(&blocked.stderr).contains("is blocked"), "{}", shown(&blocked));
        ensure!(user(&rig, "ls ~/evil* 2>/dev/null || true")?.is_empty(), "something of it ran");
        Ok(())
    });
}

/// Each template with a tool that it is for.
const TEMPLATES: &[(&str, &str)] =
    &[("claude", "sed"), ("python", "uv"), ("node", "npm"), ("rust", "cargo"), ("go", "go")];

#[test]
fn each_template_is_the_agents_toolchain_once_it_is_approved() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let _store = Store::make(&rig)?;
        let nix = Nix::new(&rig)?;
        // A sandboxed build reaches what is in the store.
        nix.host("${./static}/bin", "", "")?;
        let hash = nix.locked(&rig)?;
        for (name, tool) in TEMPLATES {
            let folder = rig.user.home.join("projects").join(name);
            nix.template(&rig, &folder, name, tool, &hash)?;
            let rcc = |words: &[&str]| {
                let mut command = rig.rcc(words);
                command.current_dir(&folder);
                command
            };
            approve(&rig, &folder)?;
            let script = format!("type -p {tool} bash ls; ls -d /usr/bin/python3 || true");
            let inside = succeeds(&rcc(&["run", "--", "bash", "-c", &script]).output()?)?;
            let of_store = inside.lines().filter(|line| line.starts_with("/nix/store/")).count();
            ensure!(of_store == 3 && inside.lines().count() == 3, "{name}: {inside}");
        }
        // The agent itself, in the last of them.
        let script = json!([
            { "tools": [{ "name": "Bash", "input": {
                "command": "type -p go; ls -d /usr/bin/python3 2>&1",
                "timeout": 60_000
            } }] },
            { "text": "done in the devShell" },
        ]);
        std::fs::write(&world.at.model_script, script.to_string())?;
        let mut claude = rig.rcc(["claude", "-p", "do what the script says"]);
        let claude = claude.current_dir(rig.user.home.join("projects/go")).output()?;
        ensure!(succeeds(&claude)?.contains("done in the devShell"), "{}", shown(&claude));
        let exchanges = world.exchanges()?;
        let results = exchanges.iter().flat_map(|e| e.message.iter().flat_map(|m| &m.results));
        let results: Vec<_> = results.map(|result| result.text.clone()).collect();
        let good = |text: &String| text.contains("/nix/store/") && text.contains("No such file");
        ensure!(results.iter().any(good), "{results:?}");
        Ok(())
    });
}
