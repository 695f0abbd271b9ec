//! git, as it is used every day, with each git of the machine.

use super::{Inside, Row, Table};
use crate::{Rig, shown};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Output;

/// Something done with git: a script that ends with 0 if it did all it should; and for what can't be done inside, words
/// of the line that says so.
struct Step {
    what: &'static str,
    script: &'static str,
    refused: Option<&'static str>,
}

const fn works(what: &'static str, script: &'static str) -> Step {
    Step { what, script, refused: None }
}

const fn refused(what: &'static str, script: &'static str, line: &'static str) -> Step {
    Step { what, script, refused: Some(line) }
}

const STEPS: &[Step] = &[
    works(
        "commit",
        "echo 2 >>file; git commit -qam two; test \"$(git log -1 --format='%an %ae')\" = 'Ann ann@example.org'",
    ),
    works(
        "commit in a subfolder",
        "cd sub/folder; echo 2 >new; git add .; git commit -qm two; test -z \"$(git status -s .)\"",
    ),
    works("the project's own hook", "echo 2 >>file; git commit -qam two; test \"$(cat hook-ran)\" = yes"),
    works("branch", "git branch topic; git rev-parse -q --verify topic >/dev/null"),
    works("switch -c", "git switch -qc topic; test \"$(git branch --show-current)\" = topic"),
    works("switch to a remote's branch", "git switch -q feature; test -f feature"),
    works("checkout -b from a remote's branch", "git checkout -qb topic origin/feature; test -f feature"),
    refused(
        "switch --track",
        "git switch -q -c topic --track origin/feature; test -f feature",
        "git switch -q -c topic --track origin/feature",
    ),
    works(
        "push of a new branch",
        "git switch -qc topic; echo 2 >>file; git commit -qam two; git push -q; test \"$(git -C .remote rev-parse topic)\" = \"$(git rev-parse HEAD)\"",
    ),
    works(
        "push",
        "echo 2 >>file; git commit -qam two; git push -q --force; test \"$(git -C .remote rev-parse main)\" = \"$(git rev-parse HEAD)\"",
    ),
    refused(
        "push -u",
        "git switch -qc topic; git push -qu origin topic; git -C .remote rev-parse -q --verify topic >/dev/null",
        "push needs none",
    ),
    works("fetch", "git fetch -q; test \"$(git log --format=%s -1 origin/main)\" = later"),
    works(
        "pull --rebase",
        "echo 2 >mine; git add mine; git commit -qm mine; git pull -q --rebase; test -f later; test -f mine",
    ),
    works("pull origin BRANCH on a new branch", "git switch -qc topic; git pull -q origin feature; test -f feature"),
    works(
        "stash",
        "echo 2 >>file; git stash -q; test \"$(cat file)\" = 1; git stash pop -q; test \"$(tail -1 file)\" = 2",
    ),
    works("merge", "git merge -q --no-edit origin/feature; test -f feature"),
    works("rebase", "git rebase -q origin/feature; test -f feature"),
    works("tag", "git tag -a -m one v1; git push -q origin v1"),
    works(
        "worktree add",
        "git worktree add -q -b topic .trees/topic; cd .trees/topic; echo 2 >>file; git commit -qam two",
    ),
    refused(
        "submodule update",
        "git -C lib checkout -q HEAD~; git submodule --quiet update; test -z \"$(git status -s lib)\"",
        "git submodule foreach 'git checkout $sha1'",
    ),
    works(
        "submodule foreach 'git checkout $sha1'",
        "git -C lib checkout -q HEAD~; git submodule --quiet foreach 'git checkout -q $sha1'; test -z \"$(git status -s lib)\"",
    ),
    works("commit in a submodule", "cd lib; echo 2 >>file; git commit -qam two; git log -1 --format=%an | grep -q Ann"),
    refused(
        "submodule init",
        "git submodule --quiet init other; git config submodule.other.url >/dev/null",
        "git submodule --quiet init other",
    ),
    refused(
        "submodule update --init",
        "git -c protocol.file.allow=always submodule --quiet update --init; test -f other/file",
        "a submodule's repository can't be made in a session",
    ),
    refused(
        "submodule add",
        "git -c protocol.file.allow=always submodule --quiet add \"$PWD/.lib.git\" third; test -f third/file",
        "a submodule's repository can't be made in a session",
    ),
    refused(
        "remote add",
        "git remote add mine ../mine; git remote get-url mine >/dev/null",
        "outside of it: git remote add mine ../mine",
    ),
    refused(
        "config --local",
        "git config --local user.name Bea; test \"$(git config user.name)\" = Bea",
        "for sessions alone: git config --global",
    ),
    works("config --global", "git config --global alias.st status; git st -s >/dev/null"),
    refused(
        "branch -u",
        "git branch -q -u origin/feature; git rev-parse -q --verify '@{u}' >/dev/null",
        "git branch -q -u origin/feature",
    ),
    works(
        "LFS: track, commit, push",
        "git lfs track '*.bin' >/dev/null; head -c 3000 /dev/zero >a.bin; git add .; git commit -qm big; git show HEAD:a.bin | grep -q oid; git push -q --force",
    ),
    refused("lfs install --local", "git lfs install --local >/dev/null", "outside of it: git lfs install --local"),
];

/// The person's repository: a remote with more than it has, a submodule that is there and one that is not, a hook.
const REPOSITORY: &str = r#"
cd ~/project; rm -rf ../template; find . -mindepth 1 -delete
git config --global user.name Ann; git config --global user.email ann@example.org
git config --global init.defaultBranch main; git config --global push.default current
git config --global protocol.file.allow always; git lfs install --skip-repo >/dev/null
git init -q .
git init -q --bare .remote; git clone -q .remote .lib 2>/dev/null
for n in 1 2; do echo $n >.lib/file; git -C .lib add file; git -C .lib commit -qm $n; done
git clone -q --bare .lib .lib.git; rm -rf .lib
printf '%s\n' .remote .lib.git .trees hook-ran >.gitignore; echo 1 >file; mkdir -p sub/folder
git submodule --quiet add "$PWD/.lib.git" lib; git submodule --quiet add "$PWD/.lib.git" other
git add .; git commit -qm first; git remote add origin "$PWD/.remote"; git push -q origin main
git switch -qc feature; echo f >feature; git add feature; git commit -qm feature; git push -q origin feature
git switch -q main; git branch -qD feature; git fetch -q; git branch -q -u origin/main
git submodule --quiet deinit -f other; rm -rf .git/modules/other
git clone -q .remote .later; (cd .later; echo l >later; git add later; git commit -qm later; git push -q); rm -rf .later
git lfs install --local >/dev/null; git config --remove-section filter.lfs
printf '#!/bin/sh\necho yes >hook-ran\n' >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit
cp -a . ../template
"#;

/// In a linked worktree beside the repository, which the person lets come along.
const IN_WORKTREE: &[Step] = &[
    works(
        "commit",
        "echo 2 >>file; git commit -qam two; test \"$(git log -1 --format='%an %ae')\" = 'Ann ann@example.org'",
    ),
    works("the repository's own hook", "echo 2 >>file; git commit -qam two; test \"$(cat hook-ran)\" = yes"),
    works("branch", "git branch later; git rev-parse -q --verify later >/dev/null"),
    works("switch -c", "git switch -qc later; test \"$(git branch --show-current)\" = later"),
    works(
        "push",
        "echo 2 >>file; git commit -qam two; git push -q origin tree; git -C .remote rev-parse -q --verify tree >/dev/null",
    ),
    works("fetch", "git fetch -q; test \"$(git log --format=%s -1 origin/main)\" = later"),
    works(
        "pull --rebase",
        "echo 2 >mine; git add mine; git commit -qm mine; git pull -q --rebase origin main; test -f later; test -f mine",
    ),
    works(
        "stash",
        "echo 2 >>file; git stash -q; test \"$(cat file)\" = 1; git stash pop -q; test \"$(tail -1 file)\" = 2",
    ),
    works("merge of the main worktree's branch", "git merge -q main; git log -1 --format=%s >/dev/null"),
    works(
        "worktree add, in the worktree",
        "git worktree add -q -b topic .trees/topic; cd .trees/topic; echo 2 >>file; git commit -qam two",
    ),
    refused("gc", "git gc -q", "outside of it: git gc -q"),
    refused(
        "config --local",
        "git config --local user.name Bea; test \"$(git config user.name)\" = Bea",
        "for sessions alone: git config --global",
    ),
    refused(
        "push -u",
        "git push -qu origin tree; git -C .remote rev-parse -q --verify tree >/dev/null",
        "push needs none",
    ),
];

/// The same repository, a remote in a linked worktree, and another worktree.
const WITH_WORKTREES: &str = r#"
cd ~/project; rm -rf ../template ../tree ../other; mkdir ../template
git worktree add -q -b tree ../tree; git worktree add -q -b other ../other
mv .remote ../tree/.remote; git remote set-url origin "$HOME/tree/.remote"
cp -a ../project ../tree ../other ../template
"#;

/// Does everything with the git in `folder`. The rig's project is used up.
pub fn table(rig: &Rig<'_>, folder: &Path) -> Result<Table> {
    steps(rig, folder, "project", &[REPOSITORY], STEPS)
}

/// The same in a linked worktree.
pub fn worktree(rig: &Rig<'_>, folder: &Path) -> Result<Table> {
    steps(rig, folder, "tree", &[REPOSITORY, WITH_WORKTREES, "rcc worktree allow ~/tree >&2"], IN_WORKTREE)
}

fn steps(rig: &Rig<'_>, folder: &Path, place: &str, make: &[&str], steps: &[Step]) -> Result<Table> {
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let place = rig.user.home.join(place);
    let outside = |script: &str, place: &Path| -> Result<Output> {
        let mut command = rig.command("/bin/bash");
        // Where rcc is comes last, as another git may be there.
        command.current_dir(place).env("PATH", format!("{path}:/usr/local/bin"));
        Ok(command.args(["-euo", "pipefail", "-c", script]).output()?)
    };
    for script in make {
        let made = outside(script, &rig.project)?;
        ensure!(made.status.success(), "the repository can't be made: {}", shown(&made));
    }
    let mut version = String::from_utf8(outside("git --version", &place)?.stdout)?.trim().to_owned();
    let several = place != rig.project;
    if several {
        version += ", in a worktree";
    }
    let again = if several {
        "cd ~; for f in project tree other; do find $f -mindepth 1 -delete; cp -a template/$f/. $f/; done"
    } else {
        "cd ~/project; find . -mindepth 1 -delete; cp -a ../template/. ."
    };
    let mut rows = Vec::new();
    for step in steps {
        let again = || -> Result<()> {
            let output = outside(again, &place)?;
            ensure!(output.status.success(), "{}", shown(&output));
            Ok(())
        };
        again()?;
        let control = outside(step.script, &place)?;
        again()?;
        let script = format!("PATH=$HOME/.local/bin:/run/rcc/bin:{path}; set -euo pipefail; {}", step.script);
        let mut command = rig.rcc(["run", "--", "/bin/bash", "-c", &script]);
        let output = command.current_dir(&place).output().context("starting rcc")?;
        rows.push(Row {
            what: step.what.to_owned(),
            outside: Some(if control.status.success() { Ok(()) } else { Err(shown(&control)) }),
            inside: judged(step, &output),
        });
    }
    Ok(Table { title: version, rows })
}

fn judged(step: &Step, output: &Output) -> Inside {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.starts_with("rcc: ") && !line.starts_with("rcc: warning: "));
    match (step.refused, line) {
        (Some(words), Some(line)) if line.contains(words) => Inside::Refused(line.to_owned()),
        (None, None) if output.status.success() => Inside::Works,
        _ => Inside::Fails(shown(output)),
    }
}
