//! A repository that an agent has made hostile: git on the host runs nothing of the agent's, by what `strace` sees of it.
//! Each trick is first done without rcc, where git does run it.

use crate::{Live, user};
use anyhow::{Context, Result, ensure};
use rcc_rig::daily::{Inside, Row, Table};
use rcc_rig::{Rig, shown};
use std::fs;
use std::path::Path;

/// What the agent does in the person's repository; `$e` says that it ran, `$q` too, without its input passed on.
struct Trick {
    what: &'static str,
    script: &'static str,
    /// Where the person runs git.
    folder: &'static str,
    /// The code by which the person is told; None where nothing came of it.
    told: Option<&'static str>,
}

const fn trick(what: &'static str, script: &'static str) -> Trick {
    Trick { what, script, folder: "project", told: None }
}

const TRICKS: &[Trick] = &[
    trick("core.fsmonitor", "set_in .git/config core fsmonitor $e"),
    trick("core.sshCommand", "set_in .git/config core sshCommand $q"),
    trick("core.pager", "set_in .git/config core pager $e"),
    trick(
        "a hook",
        "cp $q .git/hooks/pre-commit || { mv .git/hooks h; mkdir .git/hooks; cp $q .git/hooks/pre-commit; }",
    ),
    trick("core.hooksPath", "mkdir hooks; cp $q hooks/pre-commit; set_in .git/config core hooksPath $PWD/hooks"),
    trick(
        "a filter and attributes",
        "echo '* filter=x' >.gitattributes; set_in .git/config 'filter \"x\"' clean $e; echo changed >file",
    ),
    trick(
        "a diff driver and attributes in .git",
        "echo '* diff=x' >.git/info/attributes || echo '* diff=x' >.gitattributes
        set_in .git/config 'diff \"x\"' textconv $e; echo changed >file",
    ),
    trick("another .git in its place", "mv .git g; cp -a g .git; set_in .git/config core fsmonitor $e"),
    trick("a submodule's configuration", "set_in .git/modules/lib/config core fsmonitor $e"),
    trick(
        "a submodule that is another repository",
        "rm lib/.git; cp -a .git lib/.git; git -C lib config core.fsmonitor $e",
    ),
    Trick {
        told: Some("RCC-505"),
        ..trick(
            "a link to another repository's configuration",
            "cp -a .git other; set_in other/config core fsmonitor $e; echo ../other >.git/commondir",
        )
    },
    Trick {
        folder: "project/tree",
        told: Some("RCC-505"),
        ..trick(
            "a link in a worktree's record",
            "cp -a .git other; set_in other/config core fsmonitor $e; git worktree add -q tree; echo $PWD/other >.git/worktrees/tree/commondir",
        )
    },
    Trick {
        folder: "project/sub/bare",
        told: Some("RCC-509"),
        ..trick(
            "a bare repository in a subfolder",
            "mkdir sub; cp -a .git sub/bare; git config -f sub/bare/config core.bare false; git config -f sub/bare/config core.worktree ../..; set_in sub/bare/config core fsmonitor $e",
        )
    },
];

const PREPARE: &str = r#"
e=$PWD/evil q=$PWD/evil-quiet
printf '#!/bin/sh\necho ran >>/home/dev/evil-ran\ntest -t 0 || cat\n' >$e; printf '#!/bin/sh\necho ran >>/home/dev/evil-ran\n' >$q; chmod +x $e $q
set_in() { printf '[%s]\n%s=%s\n' "$2" "$3" "$4" >set; cat set >>$1 || { cat $1 set >set2; mv -f set2 $1; } || :; }
"#;

/// A repository of the person's with a submodule, an embedded repository that git goes into, and two commits.
pub const OWN: &str = "find . -mindepth 1 -delete; rm -f ~/.gitconfig; git config --global user.name Ann; git config --global user.email a@b
    git config --global protocol.file.allow always; git init -q .; echo 1 >file; git add .; git commit -qm 1
    git clone -q . ../lib; git submodule --quiet add ../lib lib; git -C lib remote set-url origin x
    git clone -q ../lib embedded; git add embedded 2>/dev/null; git commit -qm 2; rm -rf ../lib";

/// What an IDE, a prompt and a person do in a folder of the home, at a terminal's width; gives the programs that git
/// started. With `writes`, what changes the repository and asks its remote, too.
fn looked_at(rig: &Rig<'_>, folder: &str, writes: bool) -> Result<String> {
    let trace = rig.user.home.join("trace");
    fs::write(&trace, "")?;
    std::os::unix::fs::chown(&trace, Some(rig.user.id), None)?;
    let reads = ["status", "status --porcelain=2 --branch --untracked-files=all", "diff", "log -p -2"];
    // No such host is there: it is enough that git would start its ssh.
    let asks = ["fetch ssh://git@nowhere.example/x", "commit -q --allow-empty -m later"];
    for git in ["/usr/bin/git", "/usr/local/bin/git"].iter().filter(|git| Path::new(git).exists()) {
        for (arguments, must) in
            reads.map(|a| (a, true)).into_iter().chain(asks.map(|a| (a, false))).filter(|(_, must)| *must || writes)
        {
            let traced = format!("strace -f -A -o {} -e trace=execve {git} {arguments}", trace.display());
            let mut command = rig.command("/bin/bash");
            // With a terminal, git pages.
            command.args(["-c", "exec timeout -k 1 60 script -qec \"$1\" /dev/null", "-", &traced]).env("PAGER", "cat");
            let output = command.current_dir(rig.user.home.join(folder)).output()?;
            ensure!(output.status.success() || !must, "{arguments}: {}", shown(&output));
        }
    }
    fs::read_to_string(&trace).context("no trace")
}

/// Demands that git in these folders of the home runs what is the person's own.
pub fn nothing_of_the_agents_ran(rig: &Rig<'_>, folders: &[&str], writes: bool) -> Result<()> {
    for folder in folders {
        let ran = looked_at(rig, folder, writes)?;
        ensure!(ran.contains("execve(\"/usr/bin/git\""), "no trace: {ran}");
        let mark = rig.user.home.join("evil-ran").exists();
        ensure!(!ran.contains("evil") && !mark, "in {folder} the agent's program ran: {ran}");
    }
    Ok(())
}

/// Whether anything of the agent's ran, whatever git says.
#[must_use]
pub fn something_ran(rig: &Rig<'_>, folder: &str) -> bool {
    let _whatever_it_says = looked_at(rig, folder, true);
    fs::remove_file(rig.user.home.join("evil-ran")).is_ok()
}

/// All tricks.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for trick in TRICKS {
        let script = format!("{PREPARE}{}", trick.script);
        user(rig, OWN)?;
        // Whether a step of it fails is the trick's own matter.
        user(rig, &format!("set +e; {script}; :"))?;
        let outside = if something_ran(rig, trick.folder) { Ok(()) } else { Err("nothing ran".to_owned()) };
        user(rig, OWN)?;
        let inside = held(rig, trick, &script).map_or_else(|e| Inside::Fails(format!("{e:#}")), Inside::Refused);
        rows.push(Row { what: trick.what.to_owned(), outside: Some(outside), inside });
    }
    Ok(Table { title: "a hostile repository, and git outside".to_owned(), rows })
}

/// The line to show: what the person was told, or that nothing came of it.
fn held(rig: &Rig<'_>, trick: &Trick, script: &str) -> Result<String> {
    let folders = &["project"];
    let mut live = Live::start(rig, &format!("exec 2>/dev/null\n{script}\necho tried; read -r; exit 0"))?;
    // Where a name appears that must not, the session is stopped, perhaps before it says so.
    let goes_on = live.line()? == "tried" && trick.told != Some("RCC-505");
    if goes_on {
        nothing_of_the_agents_ran(rig, folders, true).context("during the session")?;
    }
    if goes_on {
        drop(live.stdin.take());
    }
    let (status, said) = live.end()?;
    let Some(code) = trick.told else {
        ensure!(status.success(), "{status}: {said}");
        nothing_of_the_agents_ran(rig, folders, true).context("after the session")?;
        return Ok("nothing ran, during the session and after".into());
    };
    ensure!(status.success() == goes_on, "{status}: {said}");
    if goes_on {
        nothing_of_the_agents_ran(rig, folders, true).context("after the session")?;
    }
    said.lines().find(|line| line.contains(code)).map(str::to_owned).with_context(|| format!("no {code}: {said}"))
}
