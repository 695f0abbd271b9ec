//! git in a session, and git on the host beside one.

use anyhow::{Context, Result, ensure};
use rcc_rig::daily;
use rcc_rig::{Rig, shown};
use rcc_sessions::daily::hostile::{self, OWN, nothing_of_the_agents_ran, something_ran};
use rcc_sessions::{Live, SETUP, inside, user};
use rcc_world::inside_with;
use std::path::Path;

#[test]
fn what_is_done_every_day_works_or_says_what_to_do() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        daily::git::table(&rig, Path::new("/usr/bin"))?.holds()?;
        daily::git::worktree(&rig, Path::new("/usr/bin"))?.holds()
    });
}

/// Where the machine has another git than the distribution's.
#[test]
fn the_same_with_the_newest_git_at_hand() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let newest = ["/usr/local/bin", "/usr/bin"].map(Path::new).into_iter().find(|f| f.join("git").exists());
        let newest = newest.unwrap_or(Path::new("/usr/bin"));
        daily::git::table(&rig, newest)?.holds()?;
        daily::git::worktree(&rig, newest)?.holds()
    });
}

/// What a hostile agent does with a repository so that git outside runs its program, short of names whose appearance ends
/// the session; each line by itself, as most of them are refused. `evil` says that it ran where only the host can see it.
const HOSTILE: &str = r#"
try() { bash -c "$1" </dev/null 2>/dev/null || :; }
printf '#!/bin/sh\necho ran >>/home/dev/evil-ran\ntest -t 0 || cat\n' >evil; chmod +x evil; e=$PWD/evil
set_all() {
    printf '[core]\nfsmonitor=%s\nsshCommand=%s\npager=%s\nhooksPath=%s\n[filter "x"]\nclean=%s\nsmudge=%s\n[diff "x"]\ntextconv=%s\ncommand=%s\n[diff]\nexternal=%s\n[pager]\nlog=%s\nstatus=%s\n' \
        "$e" "$e" "$e" "$PWD/hooks" "$e" "$e" "$e" "$e" "$e" "$e" "$e" >>"$1"
}
export -f set_all; export e
try 'set_all .git/config'
try 'cp .git/config c; set_all c; mv -f c .git/config'
try 'mkdir hooks; cp evil hooks/post-index-change; cp evil hooks/fsmonitor-watchman'
try 'cp evil .git/hooks/post-index-change; cp evil .git/hooks/post-checkout'
try 'echo "* filter=x diff=x" >.gitattributes'
try 'echo "* filter=x diff=x" >.git/info/attributes'
try 'mv .git g && git init -q . && set_all .git/config'
try 'rm -rf .git/hooks; ln -s ../hooks .git/hooks'
try 'git init -q --bare bare; set_all bare/config'
try 'mkdir sub; git init -q sub/bare --bare; set_all sub/bare/config'
try 'git init -q nested; set_all nested/.git/config; git -C nested commit -q --allow-empty -m x'
try 'git config --global core.fsmonitor "$e"'
echo changed >>file; echo new >new
"#;

#[test]
fn git_outside_runs_nothing_of_the_agents() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let also = "try 'set_all .git/modules/lib/config'; try 'echo gitdir: ../bare >lib/.git'; try 'rm lib/.git; cp -a bare lib/.git'
            try 'mv lib l; cp -a nested lib'; try 'set_all embedded/.git/config'; try 'mv embedded e; cp -a nested embedded'";
        // The same without rcc.
        user(&rig, OWN)?;
        user(&rig, &format!("{HOSTILE}{also}"))?;
        ensure!(something_ran(&rig, "project"), "without rcc nothing ran: this shows nothing");

        user(&rig, OWN)?;
        nothing_of_the_agents_ran(&rig, &["project"], false)?;
        let mut live = Live::start(&rig, &format!("{HOSTILE}{also}\necho done; read -r; exit 0"))?;
        let first = live.line()?;
        ensure!(first == "done", "{first:?}: {:?}", live.end()?);
        nothing_of_the_agents_ran(&rig, &["project"], false).context("during the session")?;
        drop(live.stdin.take());
        let (status, said) = live.end()?;
        ensure!(status.success(), "{status}: {said}");
        // What git would run if somebody went there is said.
        let place = rig.project.join("bare/config");
        ensure!(
            said.contains(&format!("RCC-509: {}: ", place.display())) && said.contains("; 4 others like it"),
            "{said}"
        );
        nothing_of_the_agents_ran(&rig, &["project"], false).context("after the session")
    });
}

#[test]
fn each_trick_by_itself() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let table = hostile::table(&rig)?;
        println!("{table}");
        table.holds()
    });
}

#[test]
fn a_repository_that_git_would_go_into_ends_the_session() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let nested =
            "git init -q new; git -C new commit -q --allow-empty -m x; git -C new config core.fsmonitor $PWD/evil";
        for (script, place) in [
            (format!("{nested}; git add new"), "new/.git"),
            (format!("{nested}; git update-index --split-index; git add new"), "new/.git"),
            (format!("{nested}; git update-index --index-version 4; git add new"), "new/.git"),
            (format!("cd embedded; {nested}; git add new"), "embedded/new/.git"),
            ("git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,later; sleep 1; git init -q later".to_owned(), "later/.git"),
            ("printf DIRC >.git/index".to_owned(), ".git/index"),
            ("mkdir -p .git/worktrees/w; echo $PWD/bare >.git/worktrees/w/commondir".to_owned(), ".git/worktrees/w"),
            ("ln -s ../new .git/worktrees".to_owned(), ".git/worktrees"),
            ("mkdir -p .git/modules/m; cp .git/HEAD .git/modules/m/".to_owned(), ".git/modules/m"),
            // What is found first ends the session, and the link is said all the same.
            ("ln -sf /home/dev/victim .git/logs/HEAD; touch .envrc".to_owned(), ".git"),
            ("mkdir -p .git/objects/info; ln -sf /home/dev/victim .git/objects/info/commit-graph; touch .envrc".to_owned(), ".git"),
        ] {
            user(&rig, OWN)?;
            let mut live = Live::start(&rig, &format!("{script}; sleep 1000"))?;
            let (status, said) = live.end()?;
            ensure!(status.code() == Some(124), "{script}: {status}: {said}");
            let place = rig.project.join(place);
            ensure!(said.contains(&format!("RCC-505: {}: ", place.display())) && said.contains("hint: "), "{said}");
        }
        Ok(())
    });
}

#[test]
fn an_index_with_a_hostile_path_is_refused() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        user(&rig, OWN)?;
        inside(&rig, "sed -i 's#embedded#../../..#' .git/index; exit 0").ok();
        let said = rcc_sessions::refused(rig.rcc(["run", "--", "/bin/true"]), "RCC-505")?;
        ensure!(said.contains(".git/index: it names a submodule at ../../.."), "{said}");
        Ok(())
    });
}

/// What rcc said of a session in the folder `tree` of the user's, in which `script` ran to its end.
fn in_tree(rig: &Rig<'_>, script: &str) -> Result<String> {
    let mut command = rig.rcc(["run", "--", "/bin/bash", "-euc", script]);
    let output = command.current_dir(rig.user.home.join("tree")).output()?;
    ensure!(output.status.success(), "{}", shown(&output));
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_worktrees_repository_comes_along_by_the_persons_word_alone() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        user(&rig, &format!("{OWN}; git worktree add -q ../tree; git worktree add -q ../other"))?;
        let without = "test ! -e /home/dev/project/.git/objects; test \"$(cat file)\" = 1; ! git status 2>/dev/null";
        let told = in_tree(&rig, without)?;
        let warned = |told: &str, what: &str, hint: &str| {
            let all = told.contains("warning: RCC-207: /home/dev/tree/.git: ") && told.contains(what);
            ensure!(all && told.contains(hint), "{told}");
            Ok(())
        };
        warned(
            &told,
            "/home/dev/project/.git,",
            "hint: let this worktree's sessions have it: rcc worktree allow '/home/dev/tree'",
        )?;
        user(
            &rig,
            "cd ~/tree && rcc worktree allow && rcc worktree list | grep -q '^/home/dev/tree  /home/dev/project/.git$'",
        )?;
        let told =
            in_tree(&rig, "git status -s; test ! -e /home/dev/project/file; test -d /home/dev/project/.git/objects")?;
        ensure!(!told.contains("RCC-207"), "{told}");

        // A file that an agent wrote: to another repository of the person's, and to another worktree of the same one.
        user(
            &rig,
            "git init -q ~/theirs; cd ~/theirs; git commit -q --allow-empty -m 1; git worktree add -q ../apart; echo secret >.git/secret",
        )?;
        for hostile in ["theirs/.git/worktrees/apart", "project/.git/worktrees/other"] {
            user(&rig, &format!("cp ~/tree/.git ~/kept; echo 'gitdir: /home/dev/{hostile}' >~/tree/.git"))?;
            let told = in_tree(
                &rig,
                "test ! -e /home/dev/theirs; test ! -e /home/dev/project/.git/objects; ! git status 2>/dev/null",
            )?;
            warned(&told, "does not point back here", "worktree repair '/home/dev/tree'")?;
            rcc_sessions::refused(rig.rcc(["worktree", "allow", "/home/dev/tree"]), "RCC-207")?;
            user(&rig, "mv ~/kept ~/tree/.git")?;
        }
        // The repository itself, a plain folder, and one in the project, whose configuration the agent could write.
        user(&rig, "cp ~/tree/.git ~/kept; echo 'gitdir: /home/dev/theirs/.git' >~/tree/.git")?;
        warned(&in_tree(&rig, "test ! -e /home/dev/theirs")?, "not that of a linked worktree", "git clone")?;
        user(&rig, "git init -q --bare ~/tree/own; echo 'gitdir: own' >~/tree/.git")?;
        let mut command = rig.rcc(["run", "--", "/bin/true"]);
        command.current_dir(rig.user.home.join("tree"));
        let said = rcc_sessions::refused(command, "RCC-210")?;
        ensure!(said.contains("in the project itself, /home/dev/tree/own"), "{said}");
        user(&rig, "rm -rf ~/tree/own; mv ~/kept ~/tree/.git")?;

        // Taken back; and the record of a repository that is gone.
        user(&rig, "rcc worktree deny ~/tree")?;
        warned(&in_tree(&rig, without)?, "/home/dev/project/.git,", "rcc worktree allow")?;
        user(&rig, "rcc worktree allow ~/tree; rm -rf .git")?;
        warned(&in_tree(&rig, "true")?, "is not there", "git worktree repair")?;
        rcc_sessions::refused(rig.rcc(["worktree", "allow", "/home/dev/theirs"]), "RCC-210")?;

        // In a folder that an agent can write with another project, the record could be its own.
        user(
            &rig,
            "cd ~; rm -rf tree; mkdir shared work; cd work; rcc run --rw ~/shared --remember -- /bin/true
            git init -q ~/shared/r; cd ~/shared/r; git commit -q --allow-empty -m 1; git worktree add -q ~/tree",
        )?;
        let said = rcc_sessions::refused(rig.rcc(["worktree", "allow", "/home/dev/tree"]), "RCC-210")?;
        ensure!(said.contains("it lies in /home/dev/shared, which an agent can write"), "{said}");

        // Dotfiles: what is committed there becomes the home folder's files.
        user(&rig, "rm -rf ~/tree; git init -q ~; cd ~; git commit -q --allow-empty -m 1; git worktree add -q tree")?;
        let said = rcc_sessions::refused(rig.rcc(["worktree", "allow", "/home/dev/tree"]), "RCC-210")?;
        ensure!(said.contains("it is the home folder"), "{said}");
        Ok(())
    });
}

#[test]
fn git_outside_runs_nothing_of_the_agents_in_a_worktree() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let tree = rig.user.home.join("tree");
        let own = format!(
            "rm -rf ~/tree ~/other; {OWN}; git worktree add -q ../tree; git worktree add -q ../other; cp lib/file ~/other/mine; git -C ~/other add mine"
        );
        user(&rig, &format!("{own}; rcc worktree allow ~/tree"))?;
        let everywhere = || nothing_of_the_agents_ran(&rig, &["project", "tree", "other"], false);
        everywhere()?;
        let also = r#"
            c=/home/dev/project/.git; o=$c/worktrees/tree
            export c o; try 'set_all $c/config'; try 'cp $c/config k; set_all k; mv -f k $c/config'; try 'set_all $c/modules/lib/config'
            try 'cp evil $c/hooks/post-index-change; cp evil $c/hooks/post-checkout'; try 'rm -rf $c/hooks; ln -s ../hooks $c/hooks'
            try 'echo "* filter=x diff=x" >$c/info/attributes'; try 'mv $c $c.old; git init -q --bare $c; set_all $c/config'
            try 'mv $c/worktrees $c/w; mkdir -p $c/worktrees'; try 'echo "$PWD/bare" >$o/commondir'
            try 'echo "$PWD/bare" >$c/worktrees/other/commondir'; try 'rm -rf $c/worktrees/other'; try 'echo x >$c/worktrees/other/HEAD'
            try 'echo "gitdir: $PWD/bare" >.git'; try 'rm .git; cp -a bare .git'; try 'git worktree prune --expire now'
            try 'git config --worktree core.fsmonitor "$e"'; try 'cp $c/config $c/worktrees/other/config.worktree'"#;
        let mut live = Live::start_in(&rig, &tree, &format!("{HOSTILE}{also}\necho done; read -r; exit 0"))?;
        let first = live.line()?;
        ensure!(first == "done", "{first:?}: {:?}", live.end()?);
        everywhere().context("during the session")?;
        drop(live.stdin.take());
        let (status, said) = live.end()?;
        ensure!(status.success(), "{status}: {said}");
        everywhere().context("after the session")?;
        // What the person had not committed in another worktree is there.
        user(&rig, "cd ~/other && test \"$(git diff --cached --name-only)\" = mine")?;

        // A worktree that the person adds meanwhile: left alone, it is nobody's affair.
        let script = "n=/home/dev/project/.git/worktrees/later; echo up; until test -s $n/commondir; do :; done; echo seen; read -r go; eval $go";
        for (meanwhile, ends) in [("exit 0", false), ("echo /home/dev/tree/bare >$n/commondir; sleep 1000", true)] {
            user(&rig, &format!("{own}; rm -rf ~/later"))?;
            let mut live = Live::start_in(&rig, &tree, script)?;
            ensure!(live.line()? == "up");
            user(&rig, "git worktree add -q ~/later")?;
            ensure!(live.line()? == "seen");
            nothing_of_the_agents_ran(&rig, &["later"], false)?;
            std::thread::sleep(std::time::Duration::from_millis(500));
            std::io::Write::write_all(
                &mut live.stdin.take().context("no input")?,
                format!("{meanwhile}\n").as_bytes(),
            )?;
            let (status, said) = live.end()?;
            let named = said.contains("RCC-505: /home/dev/project/.git/worktrees/later: ") && said.contains("hint: ");
            ensure!(named == ends && (status.code() == Some(124)) == ends, "{meanwhile}: {status}: {said}");
        }

        // What would make git outside go elsewhere ends the session.
        for (script, place) in [
            (
                "cd $c; GIT_DIR=$c git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,later",
                "/home/dev/project/.git/index: ",
            ),
            (
                "git init -q new; git -C new -c user.name=a -c user.email=a@b commit -q --allow-empty -m x; git add new",
                "/home/dev/tree/new/.git: ",
            ),
            ("echo ../.. >$c/commondir", "/home/dev/project/.git/commondir: "),
            ("echo x >$c/config.worktree", "/home/dev/project/.git/config.worktree: "),
        ] {
            user(&rig, &format!("{own}; rm -f .git/config.worktree .git/commondir"))?;
            // The agent's own settings have its program still.
            let script = format!("export GIT_CONFIG_GLOBAL=/dev/null; c=/home/dev/project/.git; {script}; sleep 1000");
            let (status, said) = Live::start_in(&rig, &tree, &script)?.end()?;
            ensure!(
                status.code() == Some(124) && said.contains(&format!("RCC-505: {place}")),
                "{script}: {status}: {said}"
            );
        }
        Ok(())
    });
}
