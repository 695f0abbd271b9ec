//! A project's flake as the agent's toolchain, by real Nix: what the person approved is there, and nothing else of the
//! host's programs; nothing that an agent wrote is evaluated.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, shown};
use rcc_sessions::store::{NIX, Owner, Store, nix_calls};
use rcc_sessions::{Pty, SETUP, inside, refused, root, succeeds, user};
use rcc_world::inside_with;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Output;

const ASKS: &str = "[toolchain]\nroot = \"nix\"\nfiles = [\"nix/shell.nix\"]\n";
const DEV: &str = "NIX_SSL_CERT_FILE = \"/no-cert-file.crt\"; GREETING = \"hello\"; imported = import ./nix/shell.nix; shellHook = ''echo talk; touch \"$HOME/hook-ran\"; export HOOKED=1'';";

/// Writes a file of the user's into the project.
fn write(rig: &Rig<'_>, name: &str, text: &str) -> Result<()> {
    let path = rig.project.join(name);
    rcc_rig::make_folder(path.parent().context("a folder")?, &rig.user)?;
    fs::write(&path, text)?;
    Ok(chown(&path, Some(rig.user.id), Some(rig.user.id))?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The hash that a refusal names.
fn named(said: &str) -> Result<String> {
    let hash = said.split("--content ").nth(1).with_context(|| said.to_owned())?;
    Ok(hash.split_whitespace().next().unwrap_or_default().to_owned())
}

fn approve(rig: &Rig<'_>, content: &str) -> Result<Output> {
    Ok(rig.rcc(["toolchain", "approve", "--content", content]).output()?)
}

/// What is there to be approved, approved.
fn approve_now(rig: &Rig<'_>) -> Result<String> {
    let content = named(&refused(rig.rcc(["toolchain", "approve"]), "RCC-807")?)?;
    let output = approve(rig, &content)?;
    ensure!(output.status.success(), "{}", shown(&output));
    Ok(said(&output))
}

#[test]
fn an_approved_flake_is_the_toolchain_and_nothing_else_is() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let store = Store::make(&rig)?;
        write(&rig, "flake.nix", &store.flake("", DEV))?;
        write(&rig, "nix/shell.nix", "\"imported\"\n")?;
        // By itself a flake changes nothing; it is said that it could.
        let output = rig.inside("ls /usr/bin/env")?;
        succeeds(&output)?;
        ensure!(said(&output).contains("rcc toolchain approve"), "{}", shown(&output));
        write(&rig, "rcc.toml", ASKS)?;
        let first = refused(rig.rcc(["run", "--", "true"]), "RCC-807")?;
        ensure!(first.contains("+\"imported\"") && first.contains("+++ flake.nix"), "{first}");
        refused(rig.rcc(["plan", "--", "true"]), "RCC-807")?;
        assert_eq!(nix_calls()?, Vec::<String>::new());
        refused(rig.rcc(["toolchain", "approve", "--content", "00"]), "RCC-807")?;
        assert_eq!(nix_calls()?, Vec::<String>::new());

        succeeds(&approve(&rig, &named(&first)?)?)?;
        let calls = nix_calls()?.len();
        assert_eq!(calls, 3, "{:?}", nix_calls()?);
        user(
            &rig,
            &format!("{NIX}; cd ~; echo secret >other; /usr/libexec/real/nix store add-path --name other other"),
        )?;
        let script = "echo $GREETING $imported $HOOKED; type -p sed bash; ls ~/hook-ran; readlink /bin/sh
            for absent in /usr/bin/python3 /usr/bin/git /opt /usr/lib/x86_64-linux-gnu; do [ ! -e $absent ] || ls $absent; done
            ls /nix/store | cut -d- -f2- | sort
            cd /nix/store; for to in x $(ls -d *-bash)/x; do ( echo x >$to ) 2>&1 | grep -c 'Read-only'; done
            ls $SSL_CERT_FILE $NIX_SSL_CERT_FILE; echo $PATH | cut -d: -f1,2; echo $TMPDIR | cut -d. -f1; ls /.host /nix/store/.host 2>&1 | grep -c 'No such'";
        let output = rig.inside(script)?;
        let shown_inside = succeeds(&output)?.replace(&rig.user.home.display().to_string(), "~");
        let names: Vec<String> = shown_inside.lines().map(without_hash).collect();
        insta::assert_snapshot!("an_approved_flake", names.join("\n"));
        ensure!(said(&output).contains("talk"), "{}", shown(&output));
        ensure!(!rig.user.home.join("hook-ran").exists(), "the hook ran outside");
        let options = "grep ' /nix/store' /proc/self/mountinfo | cut -d' ' -f6 | sort -u";
        let options = inside(&rig, options)?;
        ensure!(
            !options.is_empty()
                && options.lines().all(|l| ["ro", "nosuid", "nodev"].iter().all(|o| l.split(',').any(|x| x == *o))),
            "{options}"
        );
        let nix = inside(&rig, "nix build 2>&1; echo $?")?;
        ensure!(
            nix.starts_with("rcc: RCC-813: nix: Nix does not run in this session") && nix.ends_with("\n127\n"),
            "{nix}"
        );
        let exit = rig.rcc(["run", "--", "sh", "-c", "exit 7"]).output()?;
        assert_eq!(exit.status.code(), Some(7), "{}", shown(&exit));
        assert_eq!(rig.rcc(["run", "--", "absent"]).output()?.status.code(), Some(127));
        let plan = succeeds(&rig.rcc(["plan", "--", "true"]).output()?)?;
        ensure!(plan.contains("ro /nix/store: ") && !plan.contains("ro /usr\n"), "{plan}");
        // Its word alone.
        write(&rig, "rcc.toml", "[toolchain]\nroot = \"host\"\n")?;
        succeeds(&rig.inside("test -e /usr/bin/python3; test ! -e /nix")?)?;
        write(&rig, "rcc.toml", "[toolchain]\nfiles = [\"nix/shell.nix\"]\n")?;
        succeeds(&rig.inside("test -d /nix/store")?)?;
        assert_eq!(nix_calls()?.len(), calls, "a start ran Nix");
        // A root against Nix's garbage collection.
        user(&rig, &format!("{NIX}; /usr/libexec/real/nix store gc"))?;
        succeeds(&rig.inside("echo $GREETING; test -d /nix/store")?)?;
        let forgotten = succeeds(&rig.rcc(["toolchain", "forget"]).output()?)?;
        ensure!(forgotten.contains("not the toolchain any more"), "{forgotten}");
        succeeds(&rig.inside("test ! -e /nix")?)?;
        user(&rig, &format!("{NIX}; /usr/libexec/real/nix store gc"))?;
        assert_eq!(user(&rig, "ls /nix/store")?, "");
        Ok(())
    });
}

/// A store path without what its hash is.
fn without_hash(line: &str) -> String {
    let mut parts = line.split("/nix/store/");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str("/nix/store/HASH");
        all.push_str(part.get(32..).unwrap_or(part));
    }
    all
}

#[test]
fn what_an_agent_writes_is_not_evaluated() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let store = Store::make(&rig)?;
        write(&rig, "flake.nix", &store.flake("", DEV))?;
        write(&rig, "flake.lock", "{\"nodes\":{\"root\":{}},\"root\":\"root\",\"version\":7}\n")?;
        write(&rig, "nix/shell.nix", "\"imported\"\n")?;
        write(&rig, ".envrc", "use rcc\n")?;
        write(&rig, "rcc.toml", ASKS)?;
        approve_now(&rig)?;
        let calls = nix_calls()?.len();
        // From inside, what counts can't be written; a file that it imports can.
        let script = "for file in flake.nix flake.lock .envrc rcc.toml; do ( echo x >>$file ) 2>&1 | grep -c 'Read-only'; mv $file x 2>&1 | grep -c busy; done
            echo 'builtins.throw \"evaluated\"' >nix/shell.nix; echo '\"evil\"' >nix/other.nix; echo $imported";
        assert_eq!(inside(&rig, script)?, "1\n1\n1\n1\n1\n1\n1\n1\nimported\n");
        let output = rig.inside("echo $imported")?;
        assert_eq!(succeeds(&output)?, "imported\n");
        let warned = said(&output);
        ensure!(warned.contains("RCC-808") && warned.contains("+builtins.throw \"evaluated\""), "{warned}");
        // As if by a checkout outside: each file, and more than a start shows.
        let evil = store.flake("", "imported = builtins.trace \"evaluated\" \"evil\"; GREETING = \"evil\";");
        write(&rig, "flake.nix", &format!("{evil}{}", "# \u{1b}[2J\n".repeat(100)))?;
        write(&rig, "flake.lock", "{}\n")?;
        write(&rig, ".envrc", "touch ~/direnv-ran\n")?;
        let output = rig.inside("echo $imported $GREETING")?;
        assert_eq!(succeeds(&output)?, "imported hello\n");
        let warned = said(&output);
        ensure!(warned.contains("more lines: rcc toolchain approve") && !warned.contains('\u{1b}'), "{warned}");
        // It goes, or becomes what rcc does not read.
        for spoil in [
            "mv flake.nix gone.nix",
            "ln -s gone.nix flake.nix",
            "rm flake.nix; mkfifo flake.nix",
            "rm flake.nix; mkdir flake.nix",
        ] {
            user(&rig, spoil)?;
            let output = rig.inside("echo $imported $GREETING")?;
            // A protected name that is a link keeps any session from starting.
            if !said(&output).contains("RCC-505") {
                assert_eq!(succeeds(&output)?, "imported hello\n", "{spoil}");
                ensure!(said(&output).contains("RCC-808"), "{spoil}: {}", shown(&output));
            }
        }
        user(&rig, "rmdir flake.nix; mv gone.nix flake.nix; echo '\"new\"' >nix/shell.nix; rm flake.lock")?;
        assert_eq!(nix_calls()?.len(), calls, "Nix ran: {:?}", nix_calls()?);
        // A word for other content than what is there by now is none.
        let content = named(&refused(rig.rcc(["toolchain", "approve"]), "RCC-807")?)?;
        write(&rig, "nix/shell.nix", "\"newer\"\n")?;
        let output = approve(&rig, &content)?;
        ensure!(!output.status.success() && said(&output).contains("RCC-807"), "{}", shown(&output));
        assert_eq!(nix_calls()?.len(), calls);
        // The first project's approval is no other project's.
        user(&rig, "cp -r ~/project ~/other")?;
        let mut other = rig.rcc(["run", "--project"]);
        other.arg(rig.user.home.join("other")).args(["--", "true"]);
        refused(other, "RCC-807")?;
        // The same by a person at a terminal: no, then yes.
        let mut pty = Pty::start(&rig, 50, 200)?;
        pty.command("rcc toolchain approve")?;
        let shown = pty.until("[y/N]")?;
        ensure!(
            shown.contains("+\"newer\"") && shown.contains("-\"imported\"") && !shown.contains("\u{1b}[2J"),
            "{shown}"
        );
        pty.keys("n\n")?;
        pty.prompt(125)?;
        assert_eq!(nix_calls()?.len(), calls);
        write(&rig, "flake.nix", &store.flake("", "imported = import ./nix/shell.nix;"))?;
        pty.command("rcc toolchain approve")?;
        pty.until("[y/N]")?;
        pty.keys("y\n")?;
        pty.prompt(0)?;
        // A first start asks, too.
        pty.command("cd ~/other")?;
        pty.prompt(0)?;
        pty.command("rcc run -- bash -c 'echo [$imported]'")?;
        pty.until("[y/N]")?;
        pty.keys("n\n")?;
        pty.prompt(125)?;
        pty.command("rcc run -- bash -c 'echo [$imported]'")?;
        pty.until("[y/N]")?;
        pty.keys("y\n")?;
        // Its flake is what was not approved in the first project.
        pty.until("[evil]")?;
        pty.prompt(0)?;
        let output = rig.inside("echo $imported $GREETING")?;
        assert_eq!(succeeds(&output)?, "newer\n");
        ensure!(!said(&output).contains("RCC-808"), "{}", said(&output));
        ensure!(!rig.user.home.join("direnv-ran").exists());
        Ok(())
    });
}

#[test]
fn what_a_flake_can_not_do_where_it_is_evaluated() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let store = Store::make(&rig)?;
        write(&rig, "rcc.toml", "[toolchain]\nroot = \"nix\"\n")?;
        user(
            &rig,
            "echo secret >~/secret; mkdir nix; echo 1 >nix/shell.nix; mkdir -p ~/.config/nix; echo 'sandbox = false' >~/.config/nix/nix.conf",
        )?;
        let home = rig.user.home.display().to_string();
        let refused_as = |flake: &str, code: &str| -> Result<String> {
            write(&rig, "flake.nix", flake)?;
            let content = named(&refused(rig.rcc(["toolchain", "approve"]), "RCC-807")?)?;
            refused(rig.rcc(["toolchain", "approve", "--content", &content]), code)
        };
        let of = |attributes: &str| store.flake("", attributes);
        // A file that was not approved, by its name.
        let said = refused_as(&of("x = import ./nix/shell.nix;"), "RCC-809")?;
        // Of a folder that is not there, Nix 2.8 says no more.
        let whole = said.contains("/project/nix/shell.nix: ") && said.contains("files = [\"nix/shell.nix\"]");
        ensure!(whole || (said.contains("/project/nix: ") && said.contains("files = [\"nix/FILE\"]")), "{said}");
        user(&rig, "echo 1 >shell.nix")?;
        let said = refused_as(&of("x = import ./shell.nix;"), "RCC-809")?;
        ensure!(said.contains("files = [\"shell.nix\"]"), "{said}");
        for reads in [
            "${~/secret}",
            "builtins.readFile \"HOME/secret\"",
            "builtins.readFile \"/etc/passwd\"",
            "import HOME/project/nix/shell.nix",
        ] {
            let reads = reads
                .replace("${~/secret}", "builtins.readFile (builtins.toPath \"HOME/secret\")")
                .replace("HOME", &home);
            let said = refused_as(&of(&format!("x = {reads};")), "RCC-811")?;
            ensure!(said.contains("pure") && !said.contains("secret\n"), "{reads}: {said}");
        }
        // An input that is not locked; a shell that is not there; what is no Nix.
        let unlocked = of("").replace("{ outputs = { self }", "{ inputs.x.url = \"github:a/b\"; outputs = { self, x }");
        refused_as(&unlocked, "RCC-811")?;
        refused_as("{ outputs = { self }: { }; }", "RCC-811")?;
        refused_as("\u{1b}[2J", "RCC-811")?;
        // What it builds runs in Nix's sandbox, whatever it or the person's configuration says.
        let builds = format!(
            "built = derivation {{ name = \"built\"; inherit system; builder = \"${{bash}}/bin/bash\"; args = [ \"-c\" \
             \"${{tools}}/bin/mkdir $out; ( ${{tools}}/bin/cat {home}/secret; ${{tools}}/bin/ls /home /usr; echo x >{home}/written ) >$out/saw 2>&1; exit 0\" ]; }};"
        );
        let flake = store.flake(&builds, "inherit built;");
        write(
            &rig,
            "flake.nix",
            &flake.replacen(
                '{',
                "{ nixConfig = { sandbox = false; substituters = [ \"http://allowed.example\" ]; };",
                1,
            ),
        )?;
        approve_now(&rig)?;
        let saw = inside(&rig, "cat $built/saw")?;
        ensure!(!saw.contains("secret\n") && saw.matches("No such file").count() >= 3, "{saw}");
        ensure!(!rig.user.home.join("written").exists());
        // Environment and impurity.
        write(
            &rig,
            "flake.nix",
            &of("x = builtins.getEnv \"HOME\"; y = builtins ? currentSystem; z = toString (builtins ? currentTime);"),
        )?;
        approve_now(&rig)?;
        assert_eq!(inside(&rig, "echo \"[$x$y$z]\"")?, "[]\n");
        Ok(())
    });
}

#[test]
fn stores_and_programs_that_are_not_trusted() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let store = Store::make(&rig)?;
        write(&rig, "rcc.toml", "[toolchain]\nroot = \"nix\"\n")?;
        write(&rig, "flake.nix", &store.flake("", ""))?;
        let content = named(&refused(rig.rcc(["toolchain", "approve"]), "RCC-807")?)?;
        let again = || rig.rcc(["toolchain", "approve", "--content", &content]);
        for (spoil, mend) in [
            ("chmod o+w /nix/store", "chmod o-w /nix/store"),
            ("chown daemon /nix/store", "chown dev /nix/store"),
            ("mv /nix/store /nix/s; ln -s s /nix/store", "rm /nix/store; mv /nix/s /nix/store"),
            ("chmod o+w /usr/bin/nix", "chmod o-w /usr/bin/nix"),
            ("chown dev /usr/bin/nix", "chown root /usr/bin/nix"),
            ("mv /usr/bin/nix /usr/bin/not", "mv /usr/bin/not /usr/bin/nix"),
        ] {
            root(spoil)?;
            refused(again(), "RCC-810").context(spoil)?;
            root(mend)?;
        }
        // Root's store, by a daemon whose sandbox is off, or on.
        root(
            "chown root /nix /nix/store /nix/var; chgrp daemon /nix/store; chmod 1775 /nix/store
            echo 'sandbox = false' >/etc/nix/nix.conf",
        )?;
        let said = refused(again(), "RCC-810")?;
        ensure!(said.contains("sandbox"), "{said}");
        root("echo 'sandbox = relaxed' >/etc/nix/nix.conf")?;
        refused(again(), "RCC-810")?;
        root("echo 'substituters =' >/etc/nix/nix.conf; chown dev /nix /nix/store /nix/var; chmod 755 /nix/store")?;
        assert!(
            !Path::new("/nix/store/.links").exists() || nix_calls()?.iter().all(|c| !c.starts_with("print-dev-env"))
        );
        succeeds(&approve(&rig, &content)?)?;
        succeeds(&rig.inside("true")?)?;
        // Afterwards.
        let bash = user(&rig, "ls -d /nix/store/*-bash")?;
        let bash = bash.trim();
        for (spoil, mend, code) in [
            (format!("mv {bash} /nix/away"), format!("mv /nix/away {bash}"), "RCC-812"),
            (format!("chown daemon {bash}"), format!("chown dev {bash}"), "RCC-812"),
            (format!("chmod g+w {bash}"), format!("chmod g-w {bash}"), "RCC-812"),
            ("chmod o+w /nix/store".into(), "chmod o-w /nix/store".into(), "RCC-810"),
            (
                "mv ~dev/.local/share/rcc/toolchains/project-*/*/environment /run/".into(),
                "mv /run/environment ~dev/.local/share/rcc/toolchains/project-*/*/".into(),
                "RCC-812",
            ),
            (
                "sed -i 's/-bash\"/-bash\\/..\"/' ~dev/.local/share/rcc/toolchains/project-*/approved.json".into(),
                "sed -i 's/-bash\\/..\"/-bash\"/' ~dev/.local/share/rcc/toolchains/project-*/approved.json".into(),
                "RCC-812",
            ),
        ] {
            root(&spoil)?;
            refused(rig.rcc(["run", "--", "true"]), code).context(spoil)?;
            root(&mend)?;
        }
        succeeds(&rig.inside("true")?)?;
        Ok(())
    });
}

#[test]
fn by_a_daemon_and_with_the_real_agent() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let store = Store::of(&rig, Owner::Daemon)?;
        write(&rig, "rcc.toml", "[toolchain]\nroot = \"nix\"\n")?;
        let builds = "built = derivation { name = \"built\"; inherit system; builder = \"${bash}/bin/bash\"; args = [ \"-c\" \"echo x >/home/dev/written; echo y >$out\" ]; };";
        let agent = "GREETING = \"hello\"; LD_LIBRARY_PATH = \"${glibc}/lib\"; inherit built;";
        write(&rig, "flake.nix", &store.flake(builds, agent))?;
        approve_now(&rig)?;
        assert_eq!(
            inside(&rig, "read line <$built; echo $GREETING $line; stat -c %U /nix/store/*-bash")?,
            "hello y\nnobody\n"
        );
        ensure!(!Path::new("/home/dev/written").exists());
        user(&rig, "NIX_REMOTE=daemon /usr/libexec/real/nix --extra-experimental-features nix-command store gc")?;
        let (output, results) =
            rig.agent(&["echo $GREETING; type -p sed; ls -d /usr/bin/git; readlink /lib*/ld-linux*"])?;
        succeeds(&output)?;
        let result: Vec<String> = results[0].lines().map(without_hash).collect();
        ensure!(result.contains(&"hello".to_owned()), "{result:?}");
        ensure!(result.contains(&"/nix/store/HASH-tools/bin/sed".to_owned()), "{result:?}");
        ensure!(result.iter().any(|l| l.contains("/usr/bin/git") && l.contains("No such file")), "{result:?}");
        ensure!(result.iter().any(|l| l.starts_with("/nix/store/HASH-glibc/lib/ld-linux-")), "{result:?}");
        Ok(())
    });
}

/// A devShell with Nix in it. Debian's looks for its helper of remote builds in /usr.
const WITH_NIX: &str = "PATH = \"${nix}/bin:${tools}/bin:${bash}/bin\"; LD_LIBRARY_PATH = \"${nix}/lib:${glibc}/lib\"; \
    shellHook = \"export NIX_CONFIG=\\\"$NIX_CONFIG\\nbuild-hook = ${nix}/bin/build-remote\\nsubstituters =\\\"\";";

#[test]
fn nix_inside_fetches_what_is_signed_through_the_gateway_and_only_there() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["@nix"], "")?;
        let store = Store::make(&rig)?;
        let files = world.at.files.display();
        root(&format!("cat {} >>/etc/ssl/certs/ca-certificates.crt", world.at.ca_pem.display()))?;
        // What the cache has, and what somebody else signed; neither stays in the user's own store.
        let made = user(
            &rig,
            &format!(
                "{NIX}; export PATH=/usr/libexec/real:$PATH; mkdir ~/cache; cd ~/cache
                for name in good bad; do nix-store --generate-binary-cache-key $name-1 $name.key $name.pub
                path=$(nix-build --no-out-link --option sandbox false -E \"derivation {{ name = \\\"$name\\\"; builder = \\\"/bin/bash\\\";
                    system = builtins.currentSystem; args = [ \\\"-c\\\" \\\"echo $name >\\$out\\\" ]; }}\"); echo $path; cat $name.pub; echo
                nix copy --to \"file://{files}/$name?compression=none&secret-key=$name.key\" $path >&2; nix store delete $path >&2; done"
            ),
        )?;
        let [good, key, bad, _] = &made.lines().filter(|l| !l.is_empty()).collect::<Vec<_>>()[..] else {
            anyhow::bail!("{made}")
        };
        write(&rig, "rcc.toml", "[toolchain]\nroot = \"nix\"\n")?;
        write(&rig, "flake.nix", &store.flake("", WITH_NIX))?;
        approve_now(&rig)?;
        let fetch = |name: &str, path: &str| {
            let from = format!("https://cache.nixos.org/files/{name}");
            rig.inside(&format!(
                "nix-store --option substituters {from} --option trusted-public-keys '{key}' --realise {path} && cat {path}"
            ))
        };
        let output = fetch("good", good)?;
        ensure!(succeeds(&output)?.ends_with("\ngood\n"), "{}", shown(&output));
        let output = fetch("bad", bad)?;
        ensure!(!output.status.success() && said(&output).contains("is not signed by any"), "{}", shown(&output));
        // Without the set the name is not there; what was fetched is.
        rig.policy(&rig.usual_policy(&[], ""))?;
        let output = fetch("good", good)?;
        ensure!(succeeds(&output)?.ends_with("good\n"), "{}", shown(&output));
        let output = fetch("good", bad)?;
        ensure!(!output.status.success() && said(&output).contains("resolve host"), "{}", shown(&output));
        Ok(())
    });
}

#[test]
fn nix_inside_has_a_store_of_the_projects_own() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let store = Store::make(&rig)?;
        write(&rig, "rcc.toml", "[toolchain]\nroot = \"nix\"\n")?;
        write(&rig, "flake.nix", &store.flake("", WITH_NIX))?;
        approve_now(&rig)?;
        let builds = "made = derivation { name = \"made\"; inherit system; builder = \"${bash}/bin/bash\"; args = [ \"-c\" \"echo made inside >$out\" ]; };";
        let inner = store
            .flake(builds, "GREETING = \"of the inner one\";")
            .replace("}; }; }\n", "}; packages.${system}.default = made; checks.${system}.made = made; }; }\n");
        write(&rig, "inner/flake.nix", &inner)?;
        let script = "set -e; cd inner; nix build path:. ; read line <result; echo $line
            nix develop path:. -c bash -c 'echo $GREETING'; nix flake check path:. ; echo checked
            nix store gc >/dev/null 2>&1; ls -d /nix/store/*-bash /nix/store/*-tools | wc -l; cat result";
        let output = rig.inside(script)?;
        assert_eq!(
            succeeds(&output)?,
            "made inside\nof the inner one\nchecked\n2\nmade inside\n",
            "{}",
            shown(&output)
        );
        // It is kept, is no other's, and what was approved is as read-only as ever.
        let again = "cat inner/result; cd /nix/store; for to in $(ls -d *-bash)/x; do ( echo x >$to ) 2>&1 | grep -c 'Read-only'; done
            mv $(ls -d /nix/store/*-tools) /nix/store/y 2>&1 | grep -c busy; rmdir /nix/store/*-bash 2>&1 | grep -c busy; umount /nix/store/*-bash 2>&1 | grep -c umount";
        assert_eq!(inside(&rig, again)?, "made inside\n1\n1\n1\n1\n");
        assert_eq!(user(&rig, "ls /nix/store | grep -c made || true")?, "0\n");
        // What an agent leaves in the way is not followed.
        inside(&rig, "cd /nix/store; ln -s /etc aaa; echo x >bbb")?;
        let name = user(&rig, "basename /nix/store/*-glibc")?;
        let own = user(&rig, "echo ~/.local/share/rcc/toolchains/project-*/*/nix/store")?;
        let (name, own) = (name.trim(), own.trim());
        for trap in [format!("ln -s ~/.ssh {name}"), format!("echo x >{name}"), format!("mkfifo {name}")] {
            user(&rig, &format!("mkdir -p ~/.ssh; cd {own}; rmdir {name}; {trap}"))?;
            let said = refused(rig.rcc(["run", "--", "true"]), "RCC-501")?;
            ensure!(said.contains(name), "{said}");
            user(&rig, &format!("cd {own}; rm {name}; mkdir {name}"))?;
        }
        succeeds(&rig.inside("true")?)?;
        ensure!(fs::read_dir(rig.user.home.join(".ssh"))?.count() == 0);
        succeeds(&rig.rcc(["toolchain", "forget"]).output()?)?;
        assert_eq!(user(&rig, "ls ~/.local/share/rcc/toolchains/project-*")?, "");
        Ok(())
    });
}
