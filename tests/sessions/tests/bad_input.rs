//! Whatever is wrong before a session, or with what it is given: a code, a remedy, exit 125, nothing started and nothing
//! left over.

use anyhow::{Context, Result};
use rcc_proto::{VERSION, Version};
use rcc_rig::{POLICY, Rig, make_folder};
use rcc_sessions::{Live, SETUP, Traces, fake, inside, refused, root, user};
use rcc_world::inside_with;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// `rcc run -- true`, in the project or where it is said.
fn here(rig: &Rig<'_>) -> std::process::Command {
    rig.rcc(["run", "--", "/bin/echo", "it ran"])
}

fn at(rig: &Rig<'_>, project: impl AsRef<Path>) -> std::process::Command {
    let mut command = rig.rcc(["run"]);
    command.arg("--project").arg(project.as_ref()).args(["--", "/bin/echo", "it ran"]);
    command
}

#[test]
fn policies() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &["allowed.example:443"], "")?;
        let before = Traces::after_first_session(&rig)?;
        let usual = fs::read_to_string(POLICY)?;
        let mut said = String::new();
        let mut wrong = |rig: &Rig<'_>, what: &str, code: &str| -> Result<()> {
            write!(said, "== {what}\n{}", refused(here(rig), code).with_context(|| what.to_owned())?)?;
            Ok(())
        };
        for (what, text, code) in [
            ("an unknown key", "alow = [\"allowed.example:443\"]\nusers = [\"dev\"]\n", "RCC-102"),
            (
                "allowed and denied",
                "allow = [\"allowed.example:443\"]\ndeny = [\"allowed.example:443\"]\nusers = [\"dev\"]\n",
                "RCC-104",
            ),
            ("a bad endpoint", "allow = [\"https://allowed.example/path\"]\nusers = [\"dev\"]\n", "RCC-103"),
            ("an unknown set", "allow = [\"@clade\"]\nusers = [\"dev\"]\n", "RCC-103"),
            ("not TOML", "allow = [\n", "RCC-101"),
            ("a bad value", "users = [\"dev\"]\n[limits]\nmemory = \"900%\"\n", "RCC-107"),
            ("nobody's", "allow = [\"allowed.example:443\"]\n", "RCC-403"),
        ] {
            rig.policy(text)?;
            wrong(&rig, what, code)?;
        }
        rig.policy(&usual)?;
        for (what, break_it, mend_it) in [
            ("missing", "mv /etc/rcc/policy.toml /etc/rcc/away", "mv /etc/rcc/away /etc/rcc/policy.toml"),
            ("unreadable", "chmod 600 /etc/rcc/policy.toml", "chmod 644 /etc/rcc/policy.toml"),
            ("the user's own", "chown dev /etc/rcc/policy.toml", "chown root /etc/rcc/policy.toml"),
            ("everybody's", "chmod 666 /etc/rcc/policy.toml", "chmod 644 /etc/rcc/policy.toml"),
            ("in the user's folder", "chown dev /etc/rcc", "chown root /etc/rcc"),
            (
                "a link to the user's",
                "mv /etc/rcc/policy.toml ~dev/p; chown dev ~dev/p; ln -s ~dev/p /etc/rcc/policy.toml",
                "rm /etc/rcc/policy.toml; mv ~dev/p /etc/rcc/policy.toml; chown root /etc/rcc/policy.toml",
            ),
        ] {
            root(break_it)?;
            wrong(&rig, what, "RCC-105")?;
            root(mend_it)?;
        }
        insta::assert_snapshot!("policies", said);
        before.nothing_more(&rig)?;
        assert_eq!(inside(&rig, "echo works again")?, "works again\n");
        rig.kill_gateway()
    });
}

#[test]
fn folders_that_can_not_be_a_project() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        user(
            &rig,
            "cd ~; mkdir -p .config/nvim .ssh dotfiles/ssh dotfiles/nvim src/app/keys 'line
break'
            rmdir .ssh; ln -s dotfiles/ssh .ssh; ln -s dotfiles/bashrc .bashrc; echo >dotfiles/bashrc
            ln -s ~/dotfiles ~/innocent; ln -s /etc ~/project/etc; echo >file",
        )?;
        root("mkdir -p /var/lib/theirs; chmod 777 /var/lib/theirs")?;
        let before = Traces::after_first_session(&rig)?;
        let home = rig.user.home.clone();
        let mut said = String::new();
        for (place, code) in [
            (home.clone(), "RCC-201"),
            ("/home".into(), "RCC-201"),
            ("/".into(), "RCC-201"),
            ("/tmp".into(), "RCC-201"),
            ("/usr/src".into(), "RCC-201"),
            ("/proc/sys".into(), "RCC-201"),
            (home.join(".config"), "RCC-201"),
            (home.join(".config/nvim"), "RCC-201"),
            (home.join(".ssh"), "RCC-201"),
            (home.join("dotfiles"), "RCC-201"),
            (home.join("dotfiles/ssh"), "RCC-201"),
            (home.join("innocent"), "RCC-201"),
            (home.join("project/etc"), "RCC-201"),
            (home.join(".local/share/rcc/homes"), "RCC-201"),
            (home.join(".local/share/rcc"), "RCC-201"),
            (rig.user.runtime_dir.clone(), "RCC-201"),
            ("/var/lib/theirs".into(), "RCC-202"),
            (home.join("not-there"), "RCC-202"),
            (home.join("file"), "RCC-202"),
            (home.join("line\nbreak"), "RCC-203"),
        ] as [(PathBuf, &str); 20]
        {
            said += &refused(at(&rig, &place), code).with_context(|| place.display().to_string())?;
        }
        // From within, without naming it: the working directory is the project, or lies in one.
        let mut command = here(&rig);
        command.current_dir(&home);
        said += &refused(command, "RCC-201")?;
        let mut command = here(&rig);
        command.current_dir(home.join(".config/nvim"));
        said += &refused(command, "RCC-201")?;
        // Only the process's own number differs.
        insta::assert_snapshot!("folders", said);
        before.nothing_more(&rig)
    });
}

#[test]
fn odd_names_work() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        let names = [
            "with space",
            "comma,comma",
            "a:b",
            "\"quoted\"",
            "it's",
            "back\\slash",
            "ünïcödé-日本語-🦀",
            "-dash",
            "$HOME`id`",
            "a=b",
            "src=x,dst=y",
            "[]{}*?",
            "#hash",
            "%s%n",
            ".hidden",
            " leading and trailing ",
        ];
        for name in names {
            let project = rig.user.home.join("odd").join(name);
            make_folder(&project, &rig.user)?;
            let mut command = at(&rig, &project);
            command.current_dir(&project).args(["and wrote"]);
            let mut command =
                rig.rcc(["run", "--", "/bin/bash", "-c", "pwd -P; echo \"$PWD\" >written; ls -d \"$PWD/written\""]);
            command.current_dir(&project);
            let path = project.display();
            let said = rcc_sessions::succeeds(&command.output()?).with_context(|| name.to_owned())?;
            assert_eq!(said, format!("{path}\n{path}/written\n"));
            assert_eq!(fs::read_to_string(project.join("written"))?, format!("{path}\n"));
        }
        // A way through a link: the session works at the real place.
        user(&rig, "ln -s ~/odd/a=b ~/link")?;
        let mut command = rig.rcc(["run", "--", "/bin/pwd", "-P"]);
        command.current_dir(rig.user.home.join("link"));
        assert_eq!(rcc_sessions::succeeds(&command.output()?)?, "/home/dev/odd/a=b\n");
        // A home for each project, which is kept; nothing else.
        root("rm -r ~dev/.local/share/rcc/homes/*-*; mkdir -p ~dev/.local/share/rcc/homes")?;
        inside(&rig, "true")?;
        before.nothing_more(&rig)
    });
}

#[test]
fn machines_that_lack_something() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        let mut said = String::new();
        for (what, break_it, mend_it, code) in [
            ("no podman", "mv /usr/bin/podman /usr/bin/away", "mv /usr/bin/away /usr/bin/podman", "RCC-301"),
            ("no newuidmap", "mv /usr/bin/newuidmap /usr/bin/away", "mv /usr/bin/away /usr/bin/newuidmap", "RCC-301"),
            ("no newgidmap", "mv /usr/bin/newgidmap /usr/bin/away", "mv /usr/bin/away /usr/bin/newgidmap", "RCC-301"),
            (
                "the user's podman",
                "cp /usr/bin/podman /usr/bin/keep; chown dev /usr/bin/podman",
                "mv /usr/bin/keep /usr/bin/podman",
                "RCC-301",
            ),
            ("no conmon", "mv /usr/bin/conmon /usr/bin/away", "mv /usr/bin/away /usr/bin/conmon", "RCC-301"),
            ("no crun", "mv /usr/bin/crun /usr/bin/away", "mv /usr/bin/away /usr/bin/crun", "RCC-301"),
            (
                "no subuids",
                "mv /etc/subuid /etc/away; grep -v ^dev: /etc/away >/etc/subuid || :",
                "mv /etc/away /etc/subuid",
                "RCC-302",
            ),
            ("no subgids", "mv /etc/subgid /etc/away", "mv /etc/away /etc/subgid", "RCC-302"),
            (
                "few subuids",
                "cp /etc/subuid /etc/keep; sed -i 's/^\\(dev:.*\\):65536/\\1:1000/' /etc/subuid",
                "mv /etc/keep /etc/subuid",
                "RCC-302",
            ),
            ("no runtime folder", "mv /run/user/4177 /run/user/away", "mv /run/user/away /run/user/4177", "RCC-303"),
            ("everybody's runtime folder", "chmod 755 /run/user/4177", "chmod 700 /run/user/4177", "RCC-303"),
        ] {
            root(break_it)?;
            let line = refused(here(&rig), code).with_context(|| what.to_owned());
            root(mend_it)?;
            write!(said, "== {what}\n{}", line?)?;
        }
        rig.kill_gateway()?;
        write!(said, "== a dead gateway\n{}", refused(here(&rig), "RCC-401")?)?;
        fs::remove_file(rcc_proto::GATEWAY_SOCKET)?;
        write!(said, "== no gateway\n{}", refused(here(&rig), "RCC-401")?)?;
        rig.start_gateway()?;
        let mut second = std::process::Command::new("/usr/local/libexec/rcc/test/rcc-gateway");
        std::os::unix::process::CommandExt::uid(second.arg("serve").env_clear(), 977);
        let output = second.output()?;
        assert_eq!(output.status.code(), Some(125));
        write!(said, "== the gateway's place is taken\n{}", String::from_utf8_lossy(&output.stderr))?;
        insta::assert_snapshot!("machines", said);
        assert!(said.contains("RCC-409"), "{said}");
        let mut as_root = here(&rig);
        std::os::unix::process::CommandExt::uid(&mut as_root, 0);
        refused(as_root, "RCC-304")?;
        // The first gateway is another process now, and all else as before.
        Traces::after_first_session(&rig)?;
        rig.kill_gateway()?;
        before.nothing_more(&rig)
    });
}

#[test]
fn gateways_that_are_none() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        rig.kill_gateway()?;
        let version = |major, minor| Version { major, minor };
        let genuine = fake::Manner { version: VERSION, uid: 977, refuses_sockets: false };
        for far in [version(VERSION.major + 1, 0), version(VERSION.major, VERSION.minor + 2)] {
            fake::serve(fake::Manner { version: far, ..genuine })?;
            refused(here(&rig), "RCC-402")?;
        }
        fake::serve(fake::Manner { uid: rig.user.id, ..genuine })?;
        let said = refused(here(&rig), "RCC-407")?;
        assert!(said.contains("4177"), "{said}");
        // The hook stands, the agent would be next: no.
        fake::serve(fake::Manner { refuses_sockets: true, ..genuine })?;
        refused(here(&rig), "RCC-408")?;
        // One minor version apart works.
        fake::serve(fake::Manner { version: version(VERSION.major, VERSION.minor + 1), ..genuine })?;
        assert_eq!(inside(&rig, "echo works")?, "works\n");
        before.nothing_more(&rig)
    });
}

#[test]
fn disks() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        let mut said = String::new();
        let homes = "/home/dev/.local/share/rcc/homes";
        let state = "/run/user/4177/rcc";
        for (what, break_it, mend_it) in [
            (
                "no room in the homes",
                format!("mount -t tmpfs -o size=1m,uid=4177,mode=700 none {homes}"),
                format!("umount {homes}"),
            ),
            (
                "no inode in the homes",
                format!("mount -t tmpfs -o size=100m,nr_inodes=3,uid=4177,mode=700 none {homes}"),
                format!("umount {homes}"),
            ),
            (
                "read-only homes",
                format!("mount --bind -o ro {homes} {homes}; mount -o remount,bind,ro {homes}"),
                format!("umount {homes}"),
            ),
            (
                "homes of another",
                format!("chown root {homes}; mv {homes}/* /var/tmp/"),
                format!("mv /var/tmp/project-* {homes}/; chown dev {homes}"),
            ),
            (
                "no room for the session",
                format!("mount -t tmpfs -o size=100k,uid=4177,mode=700 none {state}"),
                format!("umount {state}"),
            ),
            (
                "read-only session",
                format!("mount -t tmpfs -o ro,uid=4177,mode=700 none {state}"),
                format!("umount {state}"),
            ),
        ] {
            root(&break_it)?;
            let line = refused(here(&rig), "RCC-503").with_context(|| what.to_owned());
            let left = root(&format!("find {state}/sessions -mindepth 1 2>/dev/null || :"));
            root(&mend_it)?;
            write!(said, "== {what}\n{}", line?)?;
            assert_eq!(left?, "", "{what}");
        }
        // The session's number is the only thing that is not the same each time.
        let masked: Vec<String> = said
            .split('/')
            .map(|part| {
                let (head, tail) = part.split_at_checked(16).unwrap_or((part, ""));
                if head.len() == 16 && head.bytes().all(|b| b.is_ascii_hexdigit()) {
                    format!("SESSION{tail}")
                } else {
                    part.to_owned()
                }
            })
            .collect();
        insta::assert_snapshot!("disks", masked.join("/"));
        before.nothing_more(&rig)
    });
}

#[test]
fn projects_that_are_not_alone() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let work = rig.user.home.join("work");
        make_folder(&work.join("a/deep"), &rig.user)?;
        let before = Traces::after_first_session(&rig)?;
        root("mkdir -p ~dev/project/sub/mnt; mount -t tmpfs none ~dev/project/sub/mnt")?;
        let said = refused(here(&rig), "RCC-204")?;
        assert!(said.contains("/home/dev/project/sub/mnt: a file system of kind tmpfs"), "{said}");
        root("umount ~dev/project/sub/mnt; mount --bind /etc ~dev/project/sub")?;
        refused(here(&rig), "RCC-204")?;
        root("umount ~dev/project/sub")?;

        let mut live = Live::start_in(&rig, &work.join("a"), "read -r; echo bye")?;
        refused(at(&rig, work.join("a/deep")), "RCC-205")?;
        refused(at(&rig, &work), "RCC-205")?;
        // The same one, and one beside it, may be live as well.
        let beside = rig.user.home.join("work-b");
        make_folder(&beside, &rig.user)?;
        for fine in [work.join("a"), beside] {
            let mut command = at(&rig, fine);
            rcc_sessions::succeeds(&command.output()?)?;
        }
        drop(live.stdin.take());
        assert_eq!(live.line()?, "bye");
        assert!(live.end()?.0.success());
        rcc_sessions::succeeds(&at(&rig, work.join("a/deep")).output()?)?;
        root("rm -r ~dev/.local/share/rcc/homes/{a,deep,work-b}-*")?;
        before.nothing_more(&rig)
    });
}

#[test]
fn sockets_of_others_below_the_project() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        user(&rig, "mkdir -p ~/project/data; ln -s ~/project/data ~/shortcut")?;
        let place = rig.project.join("data/.s.PGSQL.5432");
        // Bound by its own path, and by a way through a link. A relative name is not seen: docs/security.md.
        let bound: [&dyn Fn() -> Result<UnixListener>; 2] = [&|| Ok(UnixListener::bind(&place)?), &|| {
            Ok(UnixListener::bind(rig.user.home.join("shortcut/.s.PGSQL.5432"))?)
        }];
        for (i, bind) in bound.iter().enumerate() {
            let daemon = bind()?;
            let said = refused(here(&rig), "RCC-206").with_context(|| format!("way {i}"))?;
            assert!(said.contains("/home/dev/project/data/.s.PGSQL.5432"), "{said}");
            drop(daemon);
            // What a daemon leaves of itself accepts nobody.
            assert_eq!(inside(&rig, "echo fine")?, "fine\n");
            fs::remove_file(&place)?;

            let mut live = Live::idle(&rig)?;
            let daemon = bind()?;
            let (status, said) = live.end()?;
            assert_eq!(status.code(), Some(124), "way {i}: {said}");
            assert!(
                said.contains("RCC-206: /home/dev/project/data/.s.PGSQL.5432") && said.contains("hint: "),
                "{said}"
            );
            drop(daemon);
            fs::remove_file(&place)?;
        }
        // Names that only look like it: an abstract one, and another folder of that name.
        let name = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            "/home/dev/project/x",
        )
        .and_then(|a| UnixListener::bind_addr(&a))?;
        root("mkdir -p /run/elsewhere/home/dev/project")?;
        let elsewhere = UnixListener::bind("/run/elsewhere/home/dev/project/x")?;
        assert_eq!(inside(&rig, "echo fine")?, "fine\n");
        drop((name, elsewhere));
        // The agent's own are its own.
        inside(
            &rig,
            "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind(\"own.sock\"); s.listen(); import time; time.sleep(0.5)'",
        )?;
        before.nothing_more(&rig)
    });
}

#[test]
fn protected_names_behind_links() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        let mut said = String::new();
        for (what, break_it) in [
            ("hooks", "git init -q .; rm -rf .git/hooks; ln -s ../../.ssh .git/hooks"),
            ("config", "git init -q .; mv .git/config elsewhere; ln -s ../elsewhere .git/config"),
            ("a dangling link", "ln -s /nowhere .envrc"),
            ("a fifo", "mkfifo .envrc"),
            ("all of .git", "mkdir store; git init -q store; ln -s store/.git .git"),
        ] {
            user(&rig, &format!("find . -mindepth 1 -delete; {break_it}"))?;
            write!(said, "== {what}\n{}", refused(here(&rig), "RCC-505").with_context(|| what.to_owned())?)?;
        }
        insta::assert_snapshot!("protected", said);
        before.nothing_more(&rig)
    });
}

#[test]
fn command_lines() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        for wrong in [&["run"][..], &["run", "--"], &["fly"], &["run", "--porject", "/x", "--", "true"], &[]] {
            let output = rig.rcc(wrong).output()?;
            assert_eq!(output.status.code(), Some(2), "{wrong:?}");
            assert!(output.stdout.is_empty());
        }
        // No key: said before anything is started.
        let mut command = rig.rcc(["claude", "-p", "hello"]);
        command.env_remove("ANTHROPIC_API_KEY");
        let said = refused(command, "RCC-601");
        // Where the agent itself is not there and can't be fetched, that is said instead.
        if std::env::var_os(rcc_rig::AGENTS).is_some() {
            said?;
        }
        Ok(())
    });
}
