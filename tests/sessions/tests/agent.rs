//! The agent itself: the person's answers to its dialogs, its own questions, what of the person's comes along, and its
//! versions.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, make_folder, shown};
use rcc_sessions::{Pty, REFUSED, SETUP, inside, refused, root, succeeds, user};
use rcc_world::inside_with;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file of the user's.
fn write(rig: &Rig<'_>, path: &str, text: &str) -> Result<PathBuf> {
    let file = rig.user.home.join(path);
    make_folder(file.parent().context("no folder")?, &rig.user)?;
    fs::write(&file, text)?;
    chown(&file, Some(rig.user.id), Some(rig.user.id))?;
    Ok(file)
}

fn read(rig: &Rig<'_>, project: &Path, path: &str) -> Result<Value> {
    let mut command = rig.rcc(["run", "--", "cat"]);
    command.arg(rig.user.home.join(path)).current_dir(project);
    Ok(serde_json::from_str(&succeeds(&command.output()?)?)?)
}

#[test]
fn the_persons_answers_come_from_the_host_and_from_no_other_project() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let secret = world.token();
        let state = |theme: &str| {
            json!({ "theme": theme, "verbose": true, "oauthAccount": { "name": secret }, "env": { "A": secret },
                "projects": { "/somewhere": { "history": [secret] } }, "apiKeyHelper": secret })
        };
        write(&rig, ".claude.json", &state("light").to_string())?;
        let (one, two) = (rig.user.home.join("one"), rig.user.home.join("two"));
        for project in [&one, &two] {
            make_folder(project, &rig.user)?;
            let theirs = read(&rig, project, ".claude.json")?;
            ensure!(theirs["theme"] == "light" && theirs["verbose"] == true, "{theirs}");
            ensure!(!theirs.to_string().contains(&secret), "{theirs}");
            // What an agent answers itself is for its own project alone.
            let mut command = rig.rcc(["run", "--", "/bin/sh", "-c", "sed -i 's/light/evil/' ~/.claude.json"]);
            succeeds(&command.current_dir(project).output()?)?;
            ensure!(read(&rig, project, ".claude.json")?["theme"] == "evil");
        }
        // A link is not followed: an agent may have had a hand in what it leads to.
        write(&rig, "one/state", &state("light").to_string())?;
        user(&rig, "rm ~/.claude.json; ln -s one/state ~/.claude.json; mkdir ~/three")?;
        ensure!(read(&rig, &rig.user.home.join("three"), ".claude.json")?["theme"] == "dark");
        Ok(())
    });
}

#[test]
fn its_own_questions_are_left_on_by_ask() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let turns =
            json!([{ "tools": [{ "name": "Bash", "input": { "command": "touch made" } }] }, { "text": "done" }]);
        fs::write(&world.at.model_script, turns.to_string())?;
        let made = rig.project.join("made");
        // Without a terminal, what it would ask about is not done.
        succeeds(&rig.rcc(["claude", "--ask", "-p", "go on"]).output()?)?;
        ensure!(!made.exists(), "it did not ask");
        succeeds(&rig.rcc(["claude", "-p", "go on"]).output()?)?;
        ensure!(made.exists(), "it asked");
        fs::remove_file(&made)?;
        // With one, the person answers; nothing else is asked.
        let mut pty = Pty::start(&rig, 40, 120)?;
        pty.command("rcc claude --ask")?;
        pty.until("manual mode on")?;
        pty.keys("go")?;
        pty.until("go")?;
        pty.keys("\r")?;
        pty.until("proceed?")?;
        ensure!(!made.exists(), "it did not wait for the answer");
        pty.until("No")?;
        // It is deaf to keys that were pressed before one could have read the question.
        for _ in 0..20 {
            pty.within(Duration::from_secs(1))?;
            if made.exists() {
                break;
            }
            pty.keys("1")?;
        }
        ensure!(made.exists(), "it did not heed the answer: {}", pty.screen());
        // The first Ctrl-C may end a turn or clear a key that came after the answer; the last two end the agent.
        for _ in 0..20 {
            pty.keys("\x03\x03")?;
            if pty.within(Duration::from_secs(1))?.contains("\n<0> ") {
                return Ok(());
            }
        }
        anyhow::bail!("it does not end: {}", pty.screen())
    });
}

#[test]
fn what_the_person_chose_comes_along_read_only() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let (secret, text) = (world.token(), world.token());
        write(&rig, ".claude/CLAUDE.md", &text)?;
        write(&rig, ".claude/commands/mine.md", &text)?;
        write(&rig, ".claude/skills/one/SKILL.md", &text)?;
        write(&rig, ".claude/.credentials.json", &secret)?;
        write(&rig, ".claude/projects/x/history.jsonl", &secret)?;
        let hook = json!({ "hooks": [{ "type": "command", "command": "touch hook-ran" }] });
        let settings =
            json!({ "model": "claude-sonnet-4-5", "env": { "SECRET": secret }, "hooks": { "Stop": [hook] } });
        write(&rig, ".claude/settings.json", &settings.to_string())?;
        let server =
            json!({ "command": "/bin/sh", "args": ["-c", "touch server-ran; cat"], "env": { "SECRET": secret } });
        write(&rig, ".claude.json", &json!({ "mcpServers": { "mine": server } }).to_string())?;
        // Nothing does unless it was chosen.
        let look = "cat ~/.claude/CLAUDE.md ~/.claude/commands/* ~/.claude/skills/*/* /run/rcc/claude/*; :";
        let (_, results) = rig.agent(&[look])?;
        ensure!(!results[0].contains(&text), "{results:?}");
        let said = succeeds(
            &rig.rcc(["agent", "bring", "claude-md", "commands", "skills", "agents", "settings", "mcp"]).output()?,
        )?;
        ensure!(said == "claude-md commands skills agents settings mcp\n", "{said}");
        let spoil = "for f in CLAUDE.md commands/mine.md commands/new skills/one/SKILL.md; do echo x >>~/.claude/$f && echo wrote $f; done
            rm -rf ~/.claude/skills && echo removed; mv ~/.claude/commands ~/.claude/away && echo moved; :";
        // Written so that it does not find itself in the agent's own record.
        let pattern = format!("{}[{}]{}", &secret[..9], &secret[9..10], &secret[10..]);
        let search = format!("grep -rl '{pattern}' ~ /run /tmp && echo found; env | grep '{pattern}'; :");
        let before = world.exchanges()?.len();
        let (output, results) = rig.agent(&[look, spoil, &search])?;
        ensure!(results[0].matches(&text).count() == 3, "{results:?}");
        ensure!(
            !results[1].contains("wrote") && !results[1].contains("removed") && !results[1].contains("moved"),
            "{results:?}"
        );
        ensure!(!results[2].contains("found") && !results[2].contains(&secret), "{results:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(told.contains("not brought: env, hooks of ~/.claude/settings.json"), "{told}");
        ensure!(told.contains("not brought: env (SECRET) of the MCP server mine"), "{told}");
        ensure!(rig.project.join("server-ran").exists(), "the MCP server was not started");
        ensure!(!rig.project.join("hook-ran").exists(), "a hook ran");
        let asked = world.exchanges()?.split_off(before);
        let model =
            asked.iter().filter_map(|e| e.message.as_ref()).any(|m| m.model.as_deref() == Some("claude-sonnet-4-5"));
        ensure!(model, "the settings were not read: {asked:?}");
        ensure!(fs::read_to_string(rig.user.home.join(".claude/CLAUDE.md"))? == text);
        // For one session, otherwise; and no more.
        let listed = |arguments: &[&str]| -> Result<String> {
            fs::write(&world.at.model_script, json!([{ "text": "done" }]).to_string())?;
            let output = rig.rcc([&["plan"], arguments].concat()).output()?;
            succeeds(&output)
        };
        ensure!(listed(&[])?.contains("/.claude/CLAUDE.md"));
        succeeds(&rig.rcc(["agent", "bring", "--none"]).output()?)?;
        ensure!(!listed(&[])?.contains("/.claude/CLAUDE.md"));
        Ok(())
    });
}

#[test]
fn what_can_not_be_brought_is_refused() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        write(&rig, ".claude/CLAUDE.md", "text")?;
        refused(rig.rcc(["agent", "bring", "everything"]), "RCC-704")?;
        refused(rig.rcc(["claude", "--bring=everything", "-p", "x"]), "RCC-704")?;
        succeeds(&rig.rcc(["agent", "bring", "claude-md"]).output()?)?;
        for (what, spoil, mend) in [
            (
                "a link",
                "mv CLAUDE.md ~/project/; ln -s ~/project/CLAUDE.md CLAUDE.md",
                "rm CLAUDE.md; mv ~/project/CLAUDE.md .",
            ),
            ("a second name", "ln CLAUDE.md ~/project/", "rm ~/project/CLAUDE.md"),
            ("too large", "truncate -s 5M CLAUDE.md", "truncate -s 0 CLAUDE.md"),
            ("a FIFO", "rm CLAUDE.md; mkfifo CLAUDE.md", "rm CLAUDE.md; echo >CLAUDE.md"),
            (
                "a bad choice",
                "echo 'bring = 5' >~/.config/rcc/agent.toml",
                "echo 'bring = [\"claude-md\"]' >~/.config/rcc/agent.toml",
            ),
            ("others' choice", "chmod 666 ~/.config/rcc/agent.toml", "chmod 600 ~/.config/rcc/agent.toml"),
        ] {
            user(&rig, &format!("cd ~/.claude; {spoil}"))?;
            refused(rig.rcc(["claude", "-p", "x"]), "RCC-704").with_context(|| what)?;
            user(&rig, &format!("cd ~/.claude; {mend}"))?;
        }
        Ok(())
    });
}

/// A package that npm can fetch, of a program that ends as it is told; gives its hash.
fn publish(rig: &Rig<'_>, version: &str) -> Result<String> {
    let arch = if cfg!(target_arch = "x86_64") { "x64" } else { "arm64" };
    let name = format!("@anthropic-ai/claude-code-linux-{arch}");
    let files = &rig.world.at.files;
    let hash = root(&format!(
        "cd $(mktemp -d); mkdir package; echo '{{\"name\":\"{name}\",\"version\":\"{version}\"}}' >package/package.json
        printf '#!/bin/sh\\necho version {version}; for last; do :; done; test \"$last\" != fail || exit 3\\n' >package/claude; chmod 755 package/claude
        tar -czf {0}/{version}.tgz package/package.json package/claude; openssl dgst -sha512 -binary {0}/{version}.tgz | base64 -w0",
        files.display()
    ))?;
    let integrity = format!("sha512-{}", hash.trim());
    let page = files.join(name.replace('/', "%2f"));
    let mut known: Value = fs::read(&page)
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or(json!({ "name": name, "dist-tags": {}, "versions": {} }));
    let tarball = format!("http://allowed.example/files/{version}.tgz");
    known["versions"][version] =
        json!({ "name": name, "version": version, "dist": { "tarball": tarball, "integrity": integrity } });
    known["dist-tags"]["latest"] = json!(version);
    fs::write(&page, known.to_string())?;
    Ok(integrity)
}

#[test]
fn a_version_is_kept_until_the_next_has_run() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        root("umount ~dev/.local/share/rcc/agents")?;
        let rcc = |arguments: &[&str]| {
            let mut command = rig.rcc(arguments);
            command.env("npm_config_registry", "http://allowed.example/files/");
            command
        };
        let update =
            |version: &str, integrity: &str| rcc(&["agent", "update", "--version", version, "--integrity", integrity]);
        let list = || succeeds(&rcc(&["agent", "list"]).output()?);
        let has = |version: &str| rig.user.home.join(".local/share/rcc/agents/claude").join(version).exists();
        ensure!(list()?.contains("used, not installed yet, pinned by this rcc"), "{}", list()?);
        let (first, second) = (publish(&rig, "2.1.998")?, publish(&rig, "2.1.999")?);
        succeeds(&update("2.1.998", &first).output()?)?;
        let said = succeeds(&rcc(&["claude", "-p", "x"]).output()?)?;
        ensure!(said == "version 2.1.998\n", "{said}");
        // Not what was named: nothing changes.
        let before = list()?;
        refused(update("2.1.999", &first), "RCC-702")?;
        refused(update("2.1.998", &second), "RCC-702")?;
        refused(update("2.1.997", &first), "RCC-703")?;
        refused(update("../../x", &first), "RCC-704")?;
        refused(update("2.1.999", "sha512-short"), "RCC-704")?;
        ensure!(rcc(&["agent", "update", "--version", "2.1.999"]).output()?.status.code() == Some(2));
        refused(rcc(&["agent", "update"]), "RCC-703").context("the registry has no pinned version")?;
        ensure!(list()? == before, "{} and before {before}", list()?);
        // The old one stays until the new one has run well.
        succeeds(&update("2.1.999", &second).output()?)?;
        let listed = list()?;
        ensure!(listed.lines().any(|l| l.contains("2.1.999") && l.contains("used, chosen by you")), "{listed}");
        ensure!(listed.lines().any(|l| l.contains("2.1.998") && l.contains("kept until")), "{listed}");
        let output = rcc(&["claude", "-p", "fail"]).output()?;
        ensure!(output.status.code() == Some(3) && has("2.1.998"), "{}", shown(&output));
        let said = succeeds(&rcc(&["claude", "-p", "x"]).output()?)?;
        ensure!(said == "version 2.1.999\n" && !has("2.1.998") && has("2.1.999"), "{said}");
        // One that was changed since is not run.
        root("cd ~dev/.local/share/rcc/agents/claude/2.1.999; chmod u+w claude; echo >>claude; chmod u-w claude")?;
        let output = rcc(&["claude", "-p", "x"]).output()?;
        ensure!(output.status.code() == Some(REFUSED), "{}", shown(&output));
        ensure!(inside(&rig, "echo others go on")? == "others go on\n");
        Ok(())
    });
}
