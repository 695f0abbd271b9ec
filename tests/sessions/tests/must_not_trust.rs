//! What the host side must not trust (DESIGN): the agent owns the project and its home, the caller's environment may be
//! hostile. Each line is broken on purpose, and the host has to stand; where it is cheap, the same is shown to succeed
//! without rcc.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, make_folder, shown};
use rcc_sessions::{Live, SETUP, Traces, inside, refused, succeeds, user};
use rcc_world::inside_with;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What the key file holds that no session may show.
const SECRET: &str = "the-persons-private-key";
/// How long a session may take to be ended for what appeared, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Exchanges two names in one step (renameat2(2), `RENAME_EXCHANGE`); with a third argument, again and again.
const EXCHANGE: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
a, b = (name.encode() for name in sys.argv[1:3])
while True:
    if libc.renameat2(-100, a, -100, b, 2) != 0:
        sys.exit(": " + os.strerror(ctypes.get_errno()))
    if len(sys.argv) < 4:
        break
"#;

fn write_as_user(rig: &Rig<'_>, path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(std::os::unix::fs::chown(path, Some(rig.user.id), Some(rig.user.id))?)
}

/// The person's key, outside of every project.
fn key(rig: &Rig<'_>) -> Result<()> {
    user(rig, &format!("mkdir -m 700 ~/.ssh; echo {SECRET} | tee ~/.ssh/id_ed25519 >~/.ssh/pre-commit")).map(drop)
}

/// A session that would say that it ran.
fn start(rig: &Rig<'_>) -> Command {
    rig.rcc(["run", "--", "/bin/echo", "it ran"])
}

/// A session whose script ends with whatever code; demands that the key is in nothing that it printed.
fn sees_no_key(rig: &Rig<'_>, script: &str) -> Result<String> {
    let output = rig.inside(script)?;
    let all = shown(&output);
    ensure!(!all.contains(SECRET), "the key is seen inside: {all}");
    Ok(all)
}

/// Runs each command by itself inside; gives a line for each with the error that it ended with, or `done`.
fn attempts(commands: &[&str]) -> String {
    let mut script = "try() { if said=$(LC_ALL=C bash -c \"$1\" 2>&1); then echo \"$1: done\"; else echo \"$1: ${said##*: }\"; fi; }\n".to_owned();
    for command in commands {
        let _infallible = writeln!(script, "try '{command}'");
    }
    script
}

#[test]
fn a_covered_file_is_not_changed_by_any_way_to_it() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        user(
            &rig,
            "git init -q .; git config core.hooksPath my-hooks; mkdir -p my-hooks .git/hooks .claude .vscode
            echo '{}' >.claude/settings.json; echo '{}' >.vscode/tasks.json; echo plain >plain
            echo true >my-hooks/pre-commit; echo use flake >.envrc; echo '[protect]' >rcc.toml
            git init -q lib; mkdir -p .git/modules .git/worktrees/w; mv lib/.git .git/modules/lib; rmdir lib
            echo ../.. >.git/worktrees/w/commondir",
        )?;
        write_as_user(&rig, &rig.project.join("exchange.py"), EXCHANGE)?;
        let commands = [
            // git's folder, and what lies in it
            "mv .git/hooks .git/h",
            "rm -rf .git/hooks/*",
            "touch .git/hooks/pre-commit",
            "echo x >>.git/config",
            "mv plain .git/config",
            "ln -sf plain .git/config",
            "ln .git/config linked",
            "rm -f .git/config",
            "chmod 777 .git/config",
            "touch .git/info/attributes",
            "mv .git/modules .git/m",
            "mv .git/modules/lib .git/modules/l",
            "echo x >>.git/modules/lib/config",
            "touch .git/modules/lib/hooks/post-checkout",
            "mv .git/worktrees/w .git/worktrees/v",
            "echo /tmp >.git/worktrees/w/commondir",
            // what git's configuration names
            "echo evil >my-hooks/pre-commit",
            "mv my-hooks hooks-of-mine",
            // what others act on
            "mv .claude .c",
            "echo x >.claude/settings.json",
            "rm -f .claude/settings.json",
            "mv .vscode .v",
            "touch .vscode/settings.json",
            "echo evil >>.envrc",
            "truncate -s 0 .envrc",
            "mv plain .envrc",
            "python3 exchange.py plain .envrc",
            "exec 3<.envrc; echo evil >/proc/self/fd/3",
            "echo evil >/proc/1/cwd/../../../$PWD/.envrc",
            "echo evil >/proc/1/root$PWD/.envrc",
            "echo allow >>rcc.toml",
        ];
        let state = "find . -printf '%p %y %m %n %l ' -type f -exec sha256sum {} + -o -printf '\\n' | sort";
        let before = user(&rig, state)?;
        let said = inside(&rig, &attempts(&commands))?;
        insta::assert_snapshot!("covered", said);
        ensure!(!said.contains(": done\n"), "{said}");
        ensure!(before == user(&rig, state)?, "the host's files are others now: {}", user(&rig, state)?);
        Ok(())
    });
}

#[test]
fn a_link_that_the_agent_leaves_shows_nothing_of_the_host() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        key(&rig)?;
        let before = Traces::after_first_session(&rig)?;
        // In place of a protected name: the session in which it appears is ended, the next does not start.
        for (name, link) in [
            (".envrc", "ln -s ~/.ssh/id_ed25519 .envrc"),
            (".vscode", "ln -s ~/.ssh .vscode"),
            (".claude/settings.json", "mkdir .claude; ln -s ../../.ssh/id_ed25519 .claude/settings.json"),
            ("rcc.toml", "ln -s ~/.ssh/id_ed25519 rcc.toml"),
            (".git", "mkdir -p store/hooks; ln -s store .git"),
            (".git", "echo gitdir: ../.ssh >.git"),
        ] {
            stopped(&rig, &format!("{link}; sleep 1000"), name).context(name)?;
            let again = start(&rig).output()?;
            let said = shown(&again);
            ensure!(!said.contains(SECRET), "{name}: {said}");
            // A `.git` that is a file, and no link, is covered as it is.
            ensure!(again.status.success() == link.starts_with("echo"), "{name}: {said}");
            user(&rig, "find . -mindepth 1 -delete")?;
        }
        // In a folder that is covered as a whole, a link is kept as a link: inside, it leads nowhere.
        stopped(&rig, "mkdir .vscode; ln -s ~/.ssh/id_ed25519 .vscode/tasks.json; sleep 1000", ".vscode")?;
        let said = sees_no_key(&rig, "readlink .vscode/tasks.json; cat .vscode/tasks.json")?;
        ensure!(said.contains("/home/dev/.ssh/id_ed25519\n") && said.contains("No such file"), "{said}");
        ensure!(user(&rig, "cat .vscode/tasks.json")?.contains(SECRET), "outside, the link leads to the key");
        user(&rig, "rm -r .vscode")?;
        // In git's folder: the session's end says so, the next does not start.
        user(&rig, "git init -q .")?;
        let links = "mkdir -p .git/modules/lib; touch .git/modules/lib/HEAD; ln -s ~/.ssh .git/modules/lib/hooks";
        let said = sees_no_key(&rig, links)?;
        ensure!(said.contains("RCC-505: /home/dev/project/.git: .git/modules/lib/hooks is a link"), "{said}");
        refused(start(&rig), "RCC-505")?;
        user(&rig, "find . -mindepth 1 -delete")?;

        // Names of the agent's home: what the host side makes or mounts there follows none of them.
        let deep = rig.user.home.join("work/app");
        make_folder(&deep, &rig.user)?;
        let at_deep = |script: &str| {
            let mut command = rig.rcc(["run", "--", "/bin/bash", "-c", script]);
            command.current_dir(&deep);
            command
        };
        succeeds(
            &at_deep(
                "cd; mv work w; ln -s ../../../../../.ssh work; ln -sf ../../../../../.ssh/id_ed25519 .claude.json",
            )
            .output()?,
        )?;
        let said = refused(at_deep("true"), "RCC-502")?;
        ensure!(said.contains("work"), "{said}");
        user(&rig, "rm ~/.local/share/rcc/homes/app-*/work")?;
        let said = succeeds(&at_deep("cat ~/.claude.json || echo nothing there").output()?)?;
        ensure!(said == "nothing there\n", "{said}");
        ensure!(
            user(&rig, "cat ~/.local/share/rcc/homes/app-*/.claude.json")?.contains(SECRET),
            "outside it leads there"
        );
        ensure!(user(&rig, "ls ~/.ssh")? == "id_ed25519\npre-commit\n", "something was made in ~/.ssh");

        // The home itself, swapped by another program of the person's.
        let homes = "cd ~/.local/share/rcc/homes; home=$(ls -d project-*)";
        user(&rig, &format!("{homes}; mv $home ../away; ln -s ~/.ssh $home"))?;
        refused(start(&rig), "RCC-503")?;
        user(&rig, &format!("{homes}; rm $home; mv ../away $home; rm -r app-*"))?;
        ensure!(inside(&rig, "echo fine")? == "fine\n");
        before.nothing_more(&rig)
    });
}

/// Demands that a session with this script is ended for the name that appears in its project.
fn stopped(rig: &Rig<'_>, script: &str, name: &str) -> Result<()> {
    let mut live = Live::start(rig, script)?;
    let (status, said) = live.end()?;
    ensure!(status.code() == Some(124), "{status}: {said}");
    let place = rig.project.join(name);
    ensure!(said.contains(&format!("RCC-505: {}: ", place.display())) && said.contains("hint: "), "{said}");
    live.is_dead_within(PATIENCE).map(drop)
}
