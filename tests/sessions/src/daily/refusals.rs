//! What is refused, each with its code and a remedy, and nothing changed; and what rcc doesn't do.

use crate::{REFUSED, rustup, user};
use anyhow::{Result, ensure};
use rcc_rig::daily::{Inside, Row, Table};
use rcc_rig::{Rig, shown};
use std::process::{Command, Output};

/// What the person did before, what is typed in which folder, and the code that is said.
struct Refusal {
    what: &'static str,
    before: &'static str,
    folder: &'static str,
    typed: &'static [&'static str],
    code: &'static str,
}

const fn refusal(
    what: &'static str,
    before: &'static str,
    folder: &'static str,
    typed: &'static [&'static str],
    code: &'static str,
) -> Refusal {
    Refusal { what, before, folder, typed, code }
}

const RUN: &[&str] = &["run", "--", "true"];

const REFUSALS: &[Refusal] = &[
    refusal("a host that root denies", "", "project", &["allow", "--project", "never.example.org"], "RCC-106"),
    refusal("a port that may_allow lacks", "", "project", &["allow", "--project", "x.example.org:8443"], "RCC-106"),
    refusal("a wildcard on a public suffix", "", "project", &["allow", "--project", "*.co.uk:443"], "RCC-103"),
    refusal("a name with a control character", "", "project", &["allow", "--project", "x\u{7}.example.org"], "RCC-103"),
    refusal("a name with a look-alike letter", "", "project", &["allow", "--project", "p\u{430}ypal.com"], "RCC-103"),
    refusal("the metadata service", "", "project", &["allow", "--project", "169.254.169.254:80"], "RCC-103"),
    refusal("a key that is none", "", "project", &["login"], "RCC-603"),
    refusal(
        "a toolchain folder that is a link",
        "mkdir -p ~/elsewhere/bin; touch ~/elsewhere/bin/bun; chmod +x ~/elsewhere/bin/bun; ln -sfn elsewhere ~/.bun",
        "project",
        &["toolchain", "add", "bun"],
        "RCC-802",
    ),
    refusal("a submodule with a hostile path", HOSTILE_INDEX, "hostile", RUN, "RCC-505"),
    refusal(
        "a repository in the project, behind a file",
        "git init -q --bare ~/link/own; echo 'gitdir: own' >~/link/.git",
        "link",
        RUN,
        "RCC-210",
    ),
    refusal("a worktree of another repository", WORKTREE, "theirs", &["worktree", "allow"], "RCC-207"),
    refusal("the folder of the Go that the person runs", "mkdir -p ~/sdk/go1.22.0/bin", "sdk", RUN, "RCC-201"),
    refusal("the home folder as a project", "", ".", RUN, "RCC-201"),
    refusal("a folder to write that holds the project", "", "project", &["run", "--rw", "..", "--", "true"], "RCC-804"),
];

/// What starts, with one sentence and its code.
const WARNINGS: &[Refusal] = &[
    refusal("a broken gitconfig", "mkdir -p ~/broken/.git; echo '[user' >~/.gitconfig", "broken", RUN, "RCC-209"),
    refusal(
        "a worktree whose repository is gone",
        "rm -f ~/.gitconfig; mkdir -p ~/gone; echo 'gitdir: /home/dev/away/.git/worktrees/gone' >~/gone/.git",
        "gone",
        RUN,
        "RCC-207",
    ),
    refusal(
        "a worktree that nobody approved",
        "mv ~/theirs/.git ~/theirs/.git-hostile; mv ~/theirs/.git-own ~/theirs/.git",
        "theirs",
        RUN,
        "RCC-207",
    ),
];

const HOSTILE_INDEX: &str = "git init -q ~/hostile; cd ~/hostile; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1
    git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,embedded; sed -i 's#embedded#../../..#' .git/index";

const WORKTREE: &str =
    "for r in a b; do git init -q ~/$r; git -C ~/$r -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1; done
    git -C ~/a worktree add -q ~/theirs; git -C ~/b worktree add -q ~/of-b; cp ~/theirs/.git ~/theirs/.git-own
    echo \"gitdir: $HOME/b/.git/worktrees/of-b\" >~/theirs/.git";

/// All that the issue names. The policy is changed.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    rig.policy(&format!("deny = [\"never.example.org\"]\n{}", rig.usual_policy(&[], "")))?;
    user(rig, "mkdir -p ~/link")?;
    let mut rows = Vec::new();
    for (all, starts) in [(REFUSALS, false), (WARNINGS, true)] {
        for Refusal { what, before, folder, typed, code } in all {
            user(rig, before)?;
            let mut command = rig.rcc(*typed);
            command.current_dir(rig.user.home.join(folder));
            rows.push(Row { what: (*what).to_owned(), outside: None, inside: judged(&mut command, code, starts)? });
        }
    }
    Ok(Table { title: "bad input".to_owned(), rows })
}

fn judged(command: &mut Command, code: &str, starts: bool) -> Result<Inside> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.contains(code)).map(str::to_owned);
    let ended = if starts { output.status.success() } else { output.status.code() == Some(REFUSED) };
    Ok(match line {
        Some(line) if ended && said.contains("hint: ") => Inside::Refused(line),
        _ => Inside::Fails(shown(&output)),
    })
}

/// What rcc doesn't do yet: one sentence says so.
pub fn not_there(rig: &Rig<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    let docker = rig.inside("docker ps")?;
    let podman = rig.inside("podman run alpine")?;
    let ports = rig.rcc(["run", "-p", "8080:80", "--", "true"]).output()?;
    let database = rig.inside("! curl -s http://localhost:5432 && curl -s http://rcc.internal/why")?;
    for (what, output, words) in [
        ("docker inside", &docker, "containers don't run inside"),
        ("podman inside", &podman, "containers don't run inside"),
        ("a published port", &ports, "rcc publishes no ports"),
        ("a database of the host's", &database, "are out of reach"),
    ] {
        rows.push(Row { what: what.to_owned(), outside: None, inside: sentence(output, words) });
    }
    Ok(Table { title: "what rcc doesn't do yet".to_owned(), rows })
}

fn sentence(output: &Output, words: &str) -> Inside {
    let said = [&output.stderr[..], &output.stdout].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().find(|line| line.contains(words)).map(|line| line.trim().to_owned());
    line.map_or_else(|| Inside::Fails(shown(output)), Inside::Refused)
}

/// Toolchains and folders of the person's choice, homes, and where a session is started from.
pub fn choices(rig: &Rig<'_>) -> Result<Table> {
    rustup(rig)?;
    user(rig, "mkdir -p ~/read ~/write; echo there >~/read/file")?;
    let mut rows = Vec::new();
    for (what, typed, script) in [
        (
            "rcc toolchain add rustup",
            &["toolchain", "add", "rustup"][..],
            "cargo --version && ! cat ~/.cargo/credentials.toml",
        ),
        (
            "--ro and --rw, remembered",
            &["run", "--ro", "../read", "--rw", "../write", "--remember", "--", "true"],
            "cat ~/read/file && ! touch ~/read/new && touch ~/write/new",
        ),
        ("rcc home list", &["home", "list"], "true"),
        ("rcc toolchain remove rustup", &["toolchain", "remove", "rustup"], "! command -v cargo"),
    ] {
        let typed = rig.rcc(typed).output()?;
        ensure!(typed.status.success(), "{what}: {}", shown(&typed));
        let output = rig.inside(script)?;
        let inside = if output.status.success() { Inside::Works } else { Inside::Fails(shown(&output)) };
        rows.push(Row { what: what.to_owned(), outside: None, inside });
    }
    user(rig, "git init -q .; mkdir -p sub/folder")?;
    let home = rig.user.home.clone();
    let found = "test \"$PWD\" = ~/project/sub/folder && touch ../../found && test ! -e ~/read/new";
    let named = "test \"$PWD\" = ~/project && touch found";
    for (what, place, typed, script) in [
        ("from a subfolder, the project is found", "project/sub/folder", &["run"][..], found),
        ("from elsewhere, by --project", "read", &["run", "--project", "../project"], named),
    ] {
        let mut command = rig.rcc(typed.iter().chain(&["--", "/bin/bash", "-c", script]));
        let output = command.current_dir(home.join(place)).output()?;
        let inside = if output.status.success() { Inside::Works } else { Inside::Fails(shown(&output)) };
        rows.push(Row { what: what.to_owned(), outside: None, inside });
    }
    Ok(Table { title: "toolchains and folders".to_owned(), rows })
}
