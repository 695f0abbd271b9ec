//! Toolchains of the person's home folder, and folders besides the project: what is chosen is there inside, read-only and
//! without what is secret; what would be a hole is refused.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, shown};
use rcc_sessions::{Live, SETUP, Traces, inside, refused, root, rustup, succeeds, user};
use rcc_world::inside_with;
use std::fs;
use std::path::Path;

fn rcc(rig: &Rig<'_>, arguments: &[&str]) -> Result<String> {
    succeeds(&rig.rcc(arguments).output()?)
}

/// A session's whole answer.
fn run(rig: &Rig<'_>, more: &[&str], script: &str) -> Result<std::process::Output> {
    let mut command = rig.rcc(["run"]);
    command.args(more).args(["--", "/bin/bash", "-c", script]);
    Ok(command.output()?)
}

#[test]
fn rustup_is_there_when_it_is_chosen_and_only_what_runs_of_it() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        rustup(&rig)?;
        user(
            &rig,
            "mkdir src; printf '[package]\\nname = \"p\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n' >Cargo.toml
            echo 'fn main() { println!(\"built inside\"); }' >src/main.rs",
        )?;
        let before = run(&rig, &[], "command -v cargo || echo no cargo")?;
        let said = String::from_utf8_lossy(&before.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&before.stdout), "no cargo\n");
        ensure!(
            said.contains("Cargo.toml calls for cargo, which is not there inside: rcc toolchain add rustup"),
            "{said}"
        );
        let listed = rcc(&rig, &["toolchain", "list"])?;
        ensure!(listed.lines().any(|l| l.starts_with("rustup     there")), "{listed}");
        ensure!(listed.lines().any(|l| l.starts_with("pyenv      not there")), "{listed}");

        let said = rcc(&rig, &["toolchain", "add", "rustup"])?;
        ensure!(said.contains(".cargo/bin") && said.contains(".rustup/{toolchains,settings.toml}"), "{said}");
        ensure!(rcc(&rig, &["toolchain", "list"])?.contains("rustup     chosen"));
        // Adding twice changes nothing.
        let file = fs::read(rig.user.home.join(".config/rcc/inside.toml"))?;
        rcc(&rig, &["toolchain", "add", "rustup"])?;
        assert_eq!(fs::read(rig.user.home.join(".config/rcc/inside.toml"))?, file);

        let after = run(&rig, &[], "cargo run --quiet --offline && bash -lc 'command -v cargo'")?;
        let cargo = rig.user.home.join(".cargo/bin/cargo");
        assert_eq!(succeeds(&after)?, format!("built inside\n{}\n", cargo.display()));
        ensure!(!String::from_utf8_lossy(&after.stderr).contains("calls for"), "{}", shown(&after));
        for path in ["~/.cargo/credentials.toml", "~/.cargo/config.toml"] {
            assert_eq!(inside(&rig, &format!("[ -e {path} ] || echo absent"))?, "absent\n", "{path}");
        }
        root("chown dev ~dev/.rustup/settings.toml ~dev/.cargo/bin/rustup")?;
        let tries = "for to in ~/.cargo/bin/x ~/.cargo/bin/rustup ~/.rustup/toolchains/x ~/.rustup/settings.toml; do
            ( echo x >>$to ) 2>&1 | grep -c 'Read-only file system'; done";
        assert_eq!(inside(&rig, tries)?, "1\n1\n1\n1\n");
        let options = "grep -E ' [^ ]+/(\\.cargo|\\.rustup)/' /proc/self/mountinfo | cut -d' ' -f6 | sort -u";
        let options = inside(&rig, options)?;
        ensure!(
            options.lines().all(|l| ["ro", "nosuid", "nodev"].iter().all(|o| l.split(',').any(|x| x == *o))),
            "{options}"
        );

        rcc(&rig, &["toolchain", "remove", "rustup"])?;
        assert_eq!(inside(&rig, "command -v cargo || echo no cargo")?, "no cargo\n");
        Ok(())
    });
}

/// Where each keeps a program, and what else makes it one. The programs are stand-ins of their names: what is shown is the
/// layout, PATH and what is kept out.
const LAYOUTS: &[(&str, &str, &str)] = &[
    ("nvm", "~/.nvm/versions/node/v20.1.0/bin/of-nvm", "echo s3cret >~/.nvm/versions/node/v20.1.0/.npmrc"),
    ("volta", "~/.volta/bin/of-volta", ":"),
    ("fnm", "~/.local/share/fnm/node-versions/v20.1.0/installation/bin/of-fnm", ":"),
    ("uv", "~/.local/bin/uv", "echo s3cret >~/.local/bin/own-script"),
    (
        "pyenv",
        "~/.pyenv/shims/of-pyenv",
        "mkdir -p ~/.pyenv/versions/3.12.1/bin; echo s3cret >~/.pyenv/versions/3.12.1/pip.conf",
    ),
    ("mise", "~/.local/share/mise/shims/of-mise", "mkdir -p ~/.local/share/mise/installs/node/20/bin"),
    (
        "asdf",
        "~/.asdf/shims/of-asdf",
        "mkdir -p ~/.asdf/installs/node/20/bin ~/.asdf/installs/node/20/etc; echo s3cret >~/.asdf/installs/node/20/etc/npmrc",
    ),
    ("bun", "~/.bun/bin/of-bun", "mkdir -p ~/.bun/install/cache; echo s3cret >~/.bun/install/cache/x"),
    ("deno", "~/.deno/bin/of-deno", ":"),
    ("go", "~/.local/go/bin/of-go", ":"),
    ("sdkman", "~/.sdkman/candidates/java/17/bin/of-sdkman", "ln -s 17 ~/.sdkman/candidates/java/current"),
    (
        "linuxbrew",
        "/home/linuxbrew/.linuxbrew/bin/of-linuxbrew",
        "mkdir -p /home/linuxbrew/.linuxbrew/{Cellar,etc}; echo s3cret >/home/linuxbrew/.linuxbrew/etc/npmrc",
    ),
];

#[test]
fn each_runs_inside_once_it_is_chosen_and_none_before() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        root(
            "mkdir -p /home/linuxbrew /opt/own/bin; chown dev /home/linuxbrew; printf '#!/bin/sh\necho from /opt\n' >/opt/own/bin/own; chmod +x /opt/own/bin/own",
        )?;
        for (name, program, more) in LAYOUTS {
            let program = program.replacen('~', "$HOME", 1);
            user(
                &rig,
                &format!(
                    "p={program}; mkdir -p ${{p%/*}}; printf '#!/bin/sh\\necho {name} runs\\n' >$p; chmod +x $p; {more}"
                ),
            )?;
        }
        let programs: Vec<&str> = LAYOUTS.iter().filter_map(|(_, path, _)| path.rsplit('/').next()).collect();
        let run = format!(
            "for p in {}; do $p 2>/dev/null | grep -x '.* runs' || echo none; done; /opt/own/bin/own",
            programs.join(" ")
        );
        assert_eq!(inside(&rig, &run)?, "none\n".repeat(LAYOUTS.len()) + "from /opt\n");
        for (name, ..) in LAYOUTS {
            rcc(&rig, &["toolchain", "add", name])?;
        }
        let all: Vec<String> = LAYOUTS.iter().map(|(name, ..)| format!("{name} runs\n")).collect();
        assert_eq!(inside(&rig, &run)?, all.concat() + "from /opt\n");
        let wrong = format!(
            "for p in {}; do echo x 2>/dev/null >>$(command -v $p) && echo wrote $p; done; grep -rl s3cret ~ /home/linuxbrew 2>/dev/null; :",
            programs.join(" ")
        );
        assert_eq!(inside(&rig, &wrong)?, "");
        for (name, ..) in LAYOUTS {
            rcc(&rig, &["toolchain", "remove", name])?;
        }
        assert_eq!(inside(&rig, &run)?, "none\n".repeat(LAYOUTS.len()) + "from /opt\n");
        Ok(())
    });
}

#[test]
fn toolchains_that_are_refused() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        rcc_sessions::inside(&rig, "true")?;
        let add = |name: &str| rig.rcc(["toolchain", "add", name]);
        let mut said = refused(add("rustop"), "RCC-801")?;
        said += &refused(add("deno"), "RCC-801")?;
        // A link elsewhere: of the whole, and of a part.
        user(
            &rig,
            "cd ~; mkdir -p away/bin .pyenv/versions/3.12.1/bin; touch away/bin/deno; ln -s away .deno
            mkdir -p elsewhere; ln -s ../elsewhere .pyenv/shims",
        )?;
        said += &refused(add("deno"), "RCC-802")?;
        said += &refused(add("pyenv"), "RCC-802")?;
        // Somebody else's.
        root("mkdir -p ~dev/.bun/bin; chown -R daemon ~dev/.bun/bin")?;
        said += &refused(add("bun"), "RCC-802")?;
        assert!(!rig.user.home.join(".config/rcc").exists() || !rig.user.home.join(".config/rcc/inside.toml").exists());

        // It becomes a link after it was chosen.
        user(&rig, "cd ~; rm .deno; mkdir -p .deno/bin; touch .deno/bin/deno")?;
        rcc(&rig, &["toolchain", "add", "deno"])?;
        let before = Traces::after_first_session(&rig)?;
        user(&rig, "cd ~; mv .deno was; ln -s was .deno")?;
        said += &refused(rig.rcc(["run", "--", "true"]), "RCC-802")?;
        user(&rig, "cd ~; rm .deno; mkdir .deno; ln -s ../was/bin .deno/bin")?;
        said += &refused(rig.rcc(["run", "--", "true"]), "RCC-802")?;
        // It goes.
        user(&rig, "cd ~; rm -r .deno")?;
        let output = rig.rcc(["run", "--", "true"]).output()?;
        ensure!(String::from_utf8_lossy(&output.stderr).contains("rcc toolchain remove deno"), "{}", shown(&output));
        succeeds(&output)?;
        // What the person runs is no project.
        user(&rig, "mkdir -p ~/.volta/bin/p")?;
        for place in [".volta/bin/p", ".volta/bin", ".volta"] {
            let mut command = rig.rcc(["run", "--project"]);
            command.arg(rig.user.home.join(place)).args(["--", "true"]);
            said += &refused(command, "RCC-201")?;
        }
        // The file of the choice.
        let file = rig.user.home.join(".config/rcc/inside.toml");
        for (break_it, mend_it) in [
            ("mv inside.toml away; ln -s away inside.toml", "rm inside.toml; mv away inside.toml"),
            ("chmod 666 inside.toml", "chmod 600 inside.toml"),
            ("mv inside.toml away; mkfifo inside.toml", "rm inside.toml; mv away inside.toml"),
            ("cp inside.toml away; echo 'toolchain = []' >>inside.toml", "mv away inside.toml"),
            ("cd ..; mv rcc away; ln -s away rcc", "cd ..; rm rcc; mv away rcc"),
        ] {
            let at = |what: &str| user(&rig, &format!("cd ~/.config/rcc; {what}"));
            at(break_it)?;
            // Of a bad folder, the first who reads a file in it speaks: that of grants.
            let code = if break_it.starts_with("cd ..") { "RCC-108" } else { "RCC-803" };
            said += &refused(rig.rcc(["run", "--", "true"]), code).context(break_it)?;
            said += &refused(add("volta"), "RCC-803").context(break_it)?;
            at(mend_it)?;
        }
        root(&format!("chown daemon {}", file.display()))?;
        said += &refused(rig.rcc(["run", "--", "true"]), "RCC-803")?;
        root(&format!("chown dev {}; echo 'toolchains = [\"x\\u001b[31m\"]' >{}", file.display(), file.display()))?;
        said += &refused(rig.rcc(["run", "--", "true"]), "RCC-801")?;
        ensure!(!said.contains('\u{1b}'), "an escape sequence");
        before.nothing_more(&rig)?;
        insta::assert_snapshot!("refused_toolchains", said);
        Ok(())
    });
}

#[test]
fn folders_besides_the_project() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let home = rig.user.home.clone();
        user(&rig, "cd ~; mkdir -p lib/sub out 'with, comma'; echo read me >lib/sub/file")?;
        let (lib, out) = (home.join("lib"), home.join("out"));
        let (lib, out) = (lib.to_str().unwrap(), out.to_str().unwrap());
        let script = format!(
            "cat {lib}/sub/file; echo x 2>/dev/null >{lib}/new || echo read-only; echo written >{out}/new; echo x 2>/dev/null >../new; ls .."
        );
        let output = run(&rig, &["--ro", lib, "--rw", out], &script)?;
        ensure!(succeeds(&output)?.starts_with("read me\nread-only\n"), "{}", shown(&output));
        assert_eq!(fs::read_to_string(format!("{out}/new"))?, "written\n");
        assert!(!home.join("new").exists() && !Path::new(&format!("{lib}/new")).exists());
        // Not remembered, and then remembered for this project alone.
        let absent = |what: &str| format!("[ -e {what} ] || echo absent");
        assert_eq!(inside(&rig, &absent(&format!("{lib}/sub")))?, "absent\n");
        succeeds(&run(&rig, &["--ro", lib, "--rw", out, "--remember"], "true")?)?;
        assert_eq!(inside(&rig, &format!("cat {lib}/sub/file; echo again >{out}/new"))?, "read me\n");
        assert_eq!(fs::read_to_string(format!("{out}/new"))?, "again\n");
        user(&rig, "mkdir ~/other")?;
        let mut other = rig.rcc(["run", "--project"]);
        other.arg(home.join("other")).args(["--", "/bin/bash", "-c", &absent(&format!("{lib}/sub"))]);
        assert_eq!(succeeds(&other.output()?)?, "absent\n");
        // What is named now wins over what is remembered.
        let narrower = run(&rig, &["--ro", out], &format!("echo x 2>/dev/null >{out}/new || echo read-only"))?;
        assert_eq!(succeeds(&narrower)?, "read-only\n");
        let commas = home.join("with, comma");
        let output = run(&rig, &["--rw", commas.to_str().unwrap()], "echo x >'../with, comma/f'")?;
        succeeds(&output)?;
        assert!(commas.join("f").exists());

        // A name that programs outside act on appears there: the session ends.
        let mut live = Live::command(&rig, &rig.project, &format!("mkdir {out}/.git; sleep 1000"), |_| {})?;
        let (status, said) = live.end()?;
        assert_eq!(status.code(), Some(124), "{said}");
        ensure!(said.contains("RCC-505") && said.contains("out/.git"), "{said}");
        Ok(())
    });
}

#[test]
fn folders_that_are_refused() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        user(
            &rig,
            "cd ~; mkdir -p .ssh .config/nvim project/sub repository/.git lib/sub envrc; touch envrc/.envrc file
            ln -s ~/.ssh keys; ln -s project/sub sub",
        )?;
        root("mkdir -p /srv-theirs; chown daemon /srv-theirs; mkdir ~dev/mounted ~dev/mounted/at; chown -R dev ~dev/mounted
            mount -t tmpfs none ~dev/mounted/at")?;
        let home = &rig.user.home;
        let mut said = String::new();
        let both = ["--ro", "--rw"].as_slice();
        for (flags, path) in [
            (both, ""),
            (both, ".ssh"),
            (both, "keys"),
            (both, ".config/nvim"),
            (both, ".config/rcc"),
            (both, ".local/share/rcc/homes"),
            (both, "project"),
            (both, "project/sub"),
            (both, "sub"),
            (both, "file"),
            (both, "nothing"),
            (both, "mounted"),
            (both, "/"),
            (both, "/etc"),
            (both, "/proc/1"),
            (both, "/run/rcc"),
            (both, "/srv-theirs"),
            (&["--rw"], "repository"),
            (&["--rw"], "envrc"),
            (&["--rw"], "/usr/local/bin"),
        ] {
            for flag in flags {
                let path = home.join(path);
                let mut command = rig.rcc(["run", flag]);
                command.arg(&path).args(["--remember", "--", "/bin/echo", "it ran"]);
                said += &refused(command, "RCC-804").with_context(|| format!("{flag} {}", path.display()))?;
            }
        }
        // A daemon's socket, a folder in another, another live session's project.
        let daemon = std::os::unix::net::UnixListener::bind(home.join("lib/sub/daemon"))?;
        let with = |arguments: &[&str]| {
            let mut command = rig.rcc(["run"]);
            for argument in arguments {
                command.arg(argument.replace('~', home.to_str().unwrap()));
            }
            command.args(["--", "/bin/echo", "it ran"]);
            command
        };
        said += &refused(with(&["--rw", "~/lib"]), "RCC-804")?;
        user(&rig, "mkdir -p ~/a/b ~/live/sub")?;
        said += &refused(with(&["--ro", "~/a", "--rw", "~/a/b"]), "RCC-804")?;
        said += &refused(with(&["--remember"]), "RCC-804")?;
        drop(daemon);
        root("umount ~dev/mounted/at")?;
        before.nothing_more(&rig)?;
        assert!(!home.join(".config/rcc/inside.toml").exists());
        let live = Live::start_in(&rig, &home.join("live"), "sleep 1000")?;
        said += &refused(with(&["--ro", "~/live/sub"]), "RCC-205")?;
        drop(live);
        insta::assert_snapshot!("refused_folders", said);
        Ok(())
    });
}

/// The person's own configuration of four tools, with mirrors that the world has, and secrets.
fn registries(rig: &Rig<'_>) -> Result<()> {
    user(
        rig,
        "cd ~; mkdir -p .config/pip .config/go .cargo
        printf 'registry=https://allowed.example/npm/\\n//allowed.example/npm/:_authToken=s3cret-npm\\n' >.npmrc
        printf '@corp:registry=https://also-allowed.example/\\n' >>.npmrc
        printf '[global]\\nindex-url = https://u:s3cret-pip@site-a.cdn.example/simple\\n' >.config/pip/pip.conf
        printf '[source.crates-io]\\nreplace-with = \"m\"\\n[source.m]\\nregistry = \"sparse+https://site-b.cdn.example/i/\"\\n' >.cargo/config.toml
        printf '[registries.corp]\\nindex = \"sparse+https://git.example/i/\"\\ntoken = \"s3cret-cargo\"\\n' >>.cargo/config.toml
        printf 'GOPROXY=https://u:s3cret-go@x.wild.example,direct\\nGOSUMDB=off\\n' >.config/go/env",
    )
    .map(drop)
}

#[test]
fn registries_follow_the_persons_own_configuration() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["@npm", "@pypi", "@cargo", "@go"], "")?;
        registries(&rig)?;
        // The policy lets none be granted: each is said, nothing is reached, and sessions start.
        let policy = rig.usual_policy(&["@npm", "@pypi", "@cargo", "@go"], "");
        rig.policy(&format!("may_allow = []\n{policy}"))?;
        let denied = run(&rig, &[], "curl -sS -o /dev/null https://allowed.example/ 2>&1 || true")?;
        let said = String::from_utf8_lossy(&denied.stderr).into_owned();
        for host in
            ["allowed.example", "also-allowed.example", "site-a.cdn.example", "site-b.cdn.example", "x.wild.example"]
        {
            ensure!(said.contains(&format!("RCC-806: {host}:443 (@")), "{host}: {said}");
        }
        ensure!(succeeds(&denied)?.contains("Could not resolve host"), "{}", shown(&denied));

        rig.policy(&policy)?;
        let script = "for host in allowed also-allowed site-a.cdn site-b.cdn x.wild git denied; do
                getent hosts $host.example >/dev/null && echo $host; done
            npm config get registry; npm config get @corp:registry; pip3 config list; go env GOPROXY; go env GOSUMDB
            cat /.cargo/config.toml; cat /etc/uv/uv.toml
            ls -d /etc/npmrc /etc/pip.conf /.cargo/config.toml | while read f; do ( echo x >$f ) 2>&1 | grep -c 'ead-only'; done
            cat /etc/npmrc /etc/pip.conf /.cargo/config.toml; echo == environment; env";
        let output = run(&rig, &[], script)?;
        let (inside, said) = (succeeds(&output)?, String::from_utf8_lossy(&output.stderr).into_owned());
        insta::assert_snapshot!("registries", inside.split("== environment").next().unwrap_or_default());
        ensure!(!inside.contains("s3cret") && !said.contains("s3cret"), "{}", shown(&output));
        ensure!(said.contains("~/.npmrc") && said.contains("pip's index-url") && said.contains("GOPROXY"), "{said}");
        let log = rig.log()?;
        let grants = |line: &serde_json::Value| line["grants"].as_str().map(str::to_owned).filter(|g| !g.is_empty());
        let granted = log.iter().rev().find_map(grants).context("no grants in the log")?;
        ensure!(granted.contains("allowed.example:443") && granted.contains("x.wild.example:443"), "{granted}");
        // The project has no say: its own .npmrc asks for nothing.
        user(
            &rig,
            "printf 'registry=https://denied.example/\\n' >.npmrc; printf '[global]\\nindex-url=https://denied.example\\n' >pip.conf",
        )?;
        assert_eq!(rcc_sessions::inside(&rig, "getent hosts denied.example || echo denied")?, "denied\n");
        Ok(())
    });
}

#[test]
fn homes_are_listed_and_removed_but_not_while_they_are_lived_in() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let mut live = Live::start(
            &rig,
            "cd; mkdir -p .cache/shut/in deep; head -c 3000000 /dev/zero >.cache/shut/in/file; ln -s /home out; ln -s ../../../../../kept up
            chmod 0 .cache/shut/in .cache/shut; at=deep; for i in $(seq 200); do mkdir $at/x; at=$at/x; done; echo made; sleep 1000",
        )?;
        assert_eq!(live.line()?, "made");
        user(&rig, "mkdir -p ~/kept ~/other; echo kept >~/kept/file")?;
        let mut other = rig.rcc(["run", "--project"]);
        succeeds(&other.arg(rig.user.home.join("other")).args(["--", "true"]).output()?)?;
        let listed = rcc(&rig, &["home", "list"])?;
        let lines: Vec<&str> = listed.lines().collect();
        ensure!(lines.len() == 2 && lines[0].starts_with("other-") && !lines[0].contains("live"), "{listed}");
        ensure!(lines[1].starts_with("project-") && lines[1].ends_with(" live"), "{listed}");
        let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        let (other, home) = (name(lines[0]), name(lines[1]));
        let taken = rcc(&rig, &["home", "du"])?;
        ensure!(taken.lines().any(|l| l.starts_with(&home) && l.contains("more than")), "{taken}");

        let before = fs::read_dir(rig.user.home.join(".local/share/rcc/homes").join(&home))?.count();
        let mut said = refused(rig.rcc(["home", "rm", &home]), "RCC-805")?;
        assert_eq!(fs::read_dir(rig.user.home.join(".local/share/rcc/homes").join(&home))?.count(), before);
        for name in ["nothing", "..", "../agents", ".", ""] {
            said += &refused(rig.rcc(["home", "rm", name]), "RCC-805")?;
        }
        ensure!(said.contains("a session lives in it"), "{said}");
        live.kill(rcc_sessions::Part::Launcher)?;
        live.end()?;
        live.is_dead_within(std::time::Duration::from_secs(10))?;
        rcc(&rig, &["home", "rm", &home, &other])?;
        assert_eq!(fs::read_dir(rig.user.home.join(".local/share/rcc/homes"))?.count(), 0);
        assert_eq!(rcc(&rig, &["home", "list"])?, "");
        assert_eq!(fs::read_to_string(rig.user.home.join("kept/file"))?, "kept\n");
        // The next session has a new one.
        assert_eq!(inside(&rig, "ls -d ~/deep 2>/dev/null || echo new")?, "new\n");
        Ok(())
    });
}

#[test]
fn a_persons_terminal_language_and_time() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        user(&rig, "infocmp xterm-256color | sed 's/^xterm-256color[^,]*,/mine-77|my own,/; s/colors#[^,]*,/colors#77,/' >~/mine.ti
            tic -x -o ~/.terminfo ~/mine.ti; ln -s /etc/passwd ~/.terminfo/l")?;
        let ask = |term: &str| -> Result<(String, String)> {
            let mut command = rig.rcc([
                "run",
                "--",
                "/bin/bash",
                "-c",
                "echo $TERM; tput colors; echo $COLORTERM $LC_PAPER; date -d @0 +%H",
            ]);
            command.envs([
                ("TERM", term),
                ("COLORTERM", "truecolor"),
                ("LC_PAPER", "de_DE.UTF-8"),
                ("TZ", "Asia/Tokyo"),
            ]);
            let output = command.output()?;
            Ok((succeeds(&output)?, String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let (known, said) = ask("xterm-256color")?;
        assert_eq!(known, "xterm-256color\n256\ntruecolor de_DE.UTF-8\n09\n");
        ensure!(!said.contains("describes the terminal"), "{said}");
        // Described only by the person's own file.
        let (own, said) = ask("mine-77")?;
        assert_eq!(own, "mine-77\n77\ntruecolor de_DE.UTF-8\n09\n");
        ensure!(!said.contains("describes the terminal"), "{said}");
        for unknown in ["no-such-terminal", "../mine-77", "l", "m/mine-77"] {
            let (instead, said) = ask(unknown)?;
            assert_eq!(instead.lines().next(), Some("xterm-256color"), "{unknown}");
            assert_eq!(said.matches("describes the terminal").count(), 1, "{unknown}: {said}");
        }
        Ok(())
    });
}

#[test]
fn what_is_not_there_is_said_in_a_sentence() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        for arguments in [["run", "-p", "8080:80", "--", "true"], ["run", "--publish", "80", "--", "true"]] {
            let output = rig.rcc(arguments).output()?;
            assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
            ensure!(String::from_utf8_lossy(&output.stderr).contains("rcc publishes no ports"), "{}", shown(&output));
        }
        let said = |arguments: &[&str]| -> Result<String> {
            Ok(String::from_utf8_lossy(&rig.rcc(arguments).output()?.stderr).into_owned())
        };
        for engine in ["docker", "podman", "docker-compose"] {
            let output = rig.inside(&format!("{engine} ps"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(
                output.status.code() == Some(127)
                    && said.contains(&format!("rcc: {engine}: containers don't run inside")),
                "{said}"
            );
        }
        ensure!(said(&["run", "--", "docker", "ps"])?.contains("docker: containers don't run inside"));
        ensure!(!said(&["run", "--", "true"])?.contains("containers"));
        user(&rig, "touch compose.yaml")?;
        ensure!(said(&["run", "--", "true"])?.contains("compose.yaml: containers don't run inside"));
        Ok(())
    });
}
