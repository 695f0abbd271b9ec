//! What the host side must not trust (DESIGN): the agent owns the project and its home, the caller's environment may be
//! hostile. Each line is broken on purpose, and the host has to stand; where it is cheap, the same is shown to succeed
//! without rcc.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rcc_rig::{Rig, make_folder, shown};
use rcc_sessions::{Live, SETUP, Traces, inside, refused, root, succeeds, user};
use rcc_world::inside_with;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the key file holds that no session may show.
const SECRET: &str = "the-persons-private-key";
/// How long a session may take to be ended for what appeared, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Exchanges two names in one step (renameat2(2), `RENAME_EXCHANGE`); with a third argument, again and again after so many seconds.
const EXCHANGE: &str = r#"
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
a, b = (name.encode() for name in sys.argv[1:3])
while True:
    if libc.renameat2(-100, a, -100, b, 2) != 0:
        sys.exit(": " + os.strerror(ctypes.get_errno()))
    if len(sys.argv) < 4:
        break
    time.sleep(float(sys.argv[3]))
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
        stopped(&rig, "mkdir v; ln -s ~/.ssh/id_ed25519 v/tasks.json; mv v .vscode; sleep 1000", ".vscode")?;
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

/// A script in a container of plain Podman's, as the person would start one: nothing of rcc's. `more` goes before the
/// root filesystem.
fn in_plain_podman(rig: &Rig<'_>, more: &str, script: &str) -> Command {
    let start = format!(
        "cd; r=$HOME/skeleton
        for d in usr proc sys dev tmp run var/tmp dev/shm etc home/dev/project opt mnt; do mkdir -p $r/$d; done
        for l in bin lib lib64 sbin; do ln -sfn usr/$l $r/$l; done
        touch $r/etc/passwd $r/etc/hosts $r/etc/resolv.conf $r/etc/hostname $r/run/.containerenv
        exec podman --cgroup-manager=cgroupfs run --rm --network none -v /usr:/usr:ro {more} --rootfs $r /bin/bash -c \"$0\""
    );
    let mut command = rig.command("/bin/bash");
    command.args(["-c", &start, script]).env("XDG_RUNTIME_DIR", &rig.user.runtime_dir);
    command
}

#[test]
fn a_swap_between_look_and_mount_gains_nothing() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        key(&rig)?;
        let project = rig.user.home.join("work/app");
        make_folder(&project, &rig.user)?;
        write_as_user(&rig, &project.join("exchange.py"), EXCHANGE)?;
        user(&rig, "cd ~/work/app; git init -q .; mkdir data; echo plain >data/id_ed25519; ln -s ~/.ssh other")?;
        let before = Traces::after_first_session(&rig)?;
        let mut starts = Starts { rig: &rig, project: &project, refused: 0 };

        // A name that is covered from now on, and in the session under way is not.
        let live = Live::start_in(&rig, &project, "exec python3 exchange.py data other 0")?;
        rig.policy(&rig.usual_policy(&[], "[protect]\nread_only = [\"data\"]"))?;
        for _ in 0..15 {
            starts.again("cat data/* other/* /proc/self/mountinfo")?;
        }
        ensure!(starts.refused > 0, "no start met the swap");
        end(live)?;

        // A folder above the project in the agent's home: a link to the keys, then a folder that looks like the project.
        rig.policy(&rig.usual_policy(&[], ""))?;
        // The hook has much to mask after it has compared, and before it covers.
        root("mkdir /opt/many")?;
        let many: Vec<UnixListener> =
            (0..700).map(|i| UnixListener::bind(format!("/opt/many/{i}"))).collect::<Result<_, _>>()?;
        for decoy in ["ln -s ../../../../../.ssh ~/decoy", "mkdir ~/decoy; cp -a . ~/decoy/app"] {
            user(&rig, "cd ~/.local/share/rcc/homes/app-*; rm -rf work decoy")?;
            let swap = format!("{decoy}; exec python3 exchange.py ~/work ~/decoy 0.002");
            let live = Live::start_in(&rig, &project, &swap)?;
            for _ in 0..12 {
                starts.again(
                    "cat /proc/self/mountinfo; for d in ~/work ~/decoy; do echo evil >>$d/app/.git/config; done",
                )?;
            }
            end(live)?;
        }
        drop(many);
        root("rm -r /opt/many")?;
        ensure!(user(&rig, "ls ~/.ssh")? == "id_ed25519\npre-commit\n", "something was made in ~/.ssh");
        let config = user(&rig, "cat ~/work/app/.git/config")?;
        ensure!(!config.contains("evil"), "what was covered was written: {config}");
        user(&rig, "rm -r ~/.local/share/rcc/homes/app-*")?;
        before.nothing_more(&rig)?;

        // The same swap, and a plain mount of that name.
        let mut swap = rig.command("/usr/bin/python3");
        let mut swapping = swap.args(["exchange.py", "data", "other", "0"]).current_dir(&project).spawn()?;
        let volume = format!("-v {}/data:/mnt:ro", project.display());
        let leaked = (0..40).any(|_| {
            let output = in_plain_podman(&rig, &volume, "cat /mnt/id_ed25519").output();
            output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(SECRET))
        });
        ensure!(leaked, "a plain mount of that name does not show the key: this race proves nothing");
        swapping.kill()?;
        swapping.wait()?;
        Ok(())
    });
}

/// Ends a session that would go on.
fn end(mut live: Live) -> Result<()> {
    live.signal(Signal::SIGTERM)?;
    live.end().map(drop)
}

/// Starts while an agent swaps.
struct Starts<'a> {
    rig: &'a Rig<'a>,
    project: &'a Path,
    refused: u32,
}

impl Starts<'_> {
    /// Starts once more. It may run, be refused, or be ended; the key is seen by nothing inside, and mounted nowhere.
    fn again(&mut self, script: &str) -> Result<()> {
        let mut command = self.rig.rcc(["run", "--project"]);
        command.arg(self.project).args(["--", "/bin/bash", "-c", script]);
        let output = command.output()?;
        let said = shown(&output);
        ensure!(!said.contains(SECRET) && !String::from_utf8_lossy(&output.stdout).contains("/.ssh"), "{said}");
        match output.status.code() {
            // The runtime itself finds its way gone: 126, 127.
            Some(125..=127) => self.refused += 1,
            Some(124 | 0 | 1) => {}
            _ => anyhow::bail!("{said}"),
        }
        Ok(())
    }
}

#[test]
fn what_appears_or_is_replaced_ends_the_session() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        // Made by the agent, in a folder without a repository.
        for (script, name) in [
            ("echo use flake >.envrc", ".envrc"),
            ("touch HEAD", "HEAD"),
            ("mkdir .git", ".git"),
            ("echo gitdir: elsewhere >.git", ".git"),
            ("ln -s /nowhere .git", ".git"),
            ("mkfifo .mcp.json", ".mcp.json"),
            ("mkdir .vscode", ".vscode"),
            ("mkdir .claude; echo '{}' >.claude/settings.json", ".claude/settings.json"),
            ("echo 'allow = [\"evil.example:443\"]' >rcc.toml", "rcc.toml"),
            ("git init -q .", ".git"),
        ] {
            stopped(&rig, &format!("{script}; sleep 1000"), name).with_context(|| script.to_owned())?;
            user(&rig, "find . -mindepth 1 -delete")?;
        }
        // In the last moment: the session's own end says it.
        let output = rig.inside("touch .envrc; exit 3")?;
        let said = shown(&output);
        ensure!(output.status.code() == Some(3) || output.status.code() == Some(124), "{said}");
        ensure!(said.contains("RCC-505: /home/dev/project/.envrc"), "{said}");
        // Made by the agent in a repository.
        user(&rig, "rm .envrc; git init -q .; git config user.name before; echo '{}' >.mcp.json")?;
        for (script, name) in [
            ("echo ../../elsewhere >.git/commondir", ".git/commondir"),
            ("echo '[core]' >.git/config.worktree", ".git/config.worktree"),
        ] {
            stopped(&rig, &format!("{script}; sleep 1000"), name).with_context(|| script.to_owned())?;
            user(&rig, &format!("rm {name}"))?;
        }
        // Replaced by the person's own programs: the kernel takes the cover away with the old file.
        for (outside, name) in [
            ("git config user.name after", ".git/config"),
            ("echo new >.n; mv .n .mcp.json", ".mcp.json"),
            ("rm .mcp.json", ".mcp.json"),
            ("mv .git/hooks .git/h; mkdir .git/hooks", ".git/hooks"),
        ] {
            let mut live = Live::idle(&rig)?;
            user(&rig, outside)?;
            let (status, said) = live.end().with_context(|| outside.to_owned())?;
            ensure!(status.code() == Some(124), "{outside}: {status} {said}");
            let place = format!("RCC-505: /home/dev/project/{name}: a program outside replaced it");
            ensure!(said.contains(&place) && said.contains("hint: "), "{outside}: {said}");
            live.is_dead_within(PATIENCE)?;
        }
        // A write into the file as it is changes nothing inside, and needs no end.
        let mut live = Live::start(&rig, "read -r; cat .git/config")?;
        user(&rig, "echo '# in place' >>.git/config")?;
        drop(live.stdin.take());
        let (status, said) = live.end()?;
        ensure!(status.success(), "{status}: {said}");
        let mut seen = String::new();
        std::io::Read::read_to_string(&mut live.stdout, &mut seen)?;
        ensure!(seen.contains("name = after") && !seen.contains("in place"), "{seen}");
        drop(live);
        before.nothing_more(&rig)
    });
}

/// Says in ~/heard who ran it.
const FAKE: &str = "#!/bin/sh\nexport PATH=/usr/bin:/bin\necho \"${0##*/}\" >>/home/dev/heard\nexit 1\n";
/// Says in ~/heard in which program it was loaded.
const LIBRARY: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void load(void) {
    char name[64] = "loaded into ";
    int comm = open("/proc/self/comm", O_RDONLY), heard = open("/home/dev/heard", O_WRONLY | O_APPEND | O_CREAT, 0666);
    read(comm, name + 12, 50);
    write(heard, name, strlen(name));
}
"#;
/// What a configuration of Podman's can make it run, mount and pass on.
const HOSTILE_CONF: &str = r#"
[containers]
env = ["LEAKED=by-configuration"]
volumes = ["/home/dev/.ssh:/mnt"]
[engine]
runtime = "evil"
conmon_path = ["/home/dev/fake/conmon"]
hooks_dir = ["/home/dev/hooks.d"]
helper_binaries_dir = ["/home/dev/fake", "/usr/lib/podman", "/usr/libexec/podman"]
[engine.runtimes]
evil = ["/home/dev/fake/crun"]
"#;

/// Puts everything in place by which a caller could have a say.
fn lay_traps(rig: &Rig<'_>) -> Result<()> {
    user(rig, "mkdir -p ~/fake ~/hooks.d ~/xdg/containers ~/.config/containers ~/tmp ~/run ~/elsewhere ~/libraries")?;
    let at = |name: &str| rig.user.home.join(name);
    for name in [
        "podman",
        "crun",
        "runc",
        "conmon",
        "newuidmap",
        "newgidmap",
        "rcc-hook",
        "bash",
        "sh",
        "hook",
        "catatonit",
        "fuse-overlayfs",
        "nft",
        "ip",
    ] {
        write_as_user(rig, &at("fake").join(name), FAKE)?;
    }
    let hook = r#"{"version":"1.0.0","hook":{"path":"/home/dev/fake/hook"},"when":{"always":true},"stages":["prestart","createRuntime"]}"#;
    for (path, text) in [
        ("hooks.d/evil.json", hook),
        ("xdg/containers/containers.conf", HOSTILE_CONF),
        (".config/containers/containers.conf", HOSTILE_CONF),
        (".config/containers/mounts.conf", "/home/dev/.ssh:/mnt\n"),
        (
            ".config/containers/storage.conf",
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"/home/dev/elsewhere/graph\"\nrunroot = \"/home/dev/elsewhere/run\"\n",
        ),
        (".config/containers/registries.conf", "not = [ TOML\n"),
        ("start", "echo \"start file of $0\" >>/home/dev/heard\n"),
        ("library.c", LIBRARY),
    ] {
        write_as_user(rig, &at(path), text)?;
    }
    user(
        rig,
        "chmod +x ~/fake/*; cc -shared -fPIC -o ~/libraries/evil.so ~/library.c
        for name in libseccomp.so.2 libyajl.so.2; do cp ~/libraries/evil.so ~/libraries/$name; done",
    )?;
    // The machine's own defaults go along with no session either.
    root(
        "mkdir -p /etc/containers /usr/share/containers/oci/hooks.d
        cp ~dev/.config/containers/mounts.conf /etc/containers/mounts.conf
        cp ~dev/.config/containers/mounts.conf /usr/share/containers/mounts.conf
        cp ~dev/hooks.d/evil.json /usr/share/containers/oci/hooks.d/",
    )?;
    Ok(())
}

/// Each channel by itself: what the caller sets, and who is known to hear it.
const CHANNELS: &[(&str, &str)] = &[
    ("CONTAINERS_CONF", "/home/dev/xdg/containers/containers.conf"),
    ("XDG_CONFIG_HOME", "/home/dev/xdg"),
    ("CONTAINERS_STORAGE_CONF", "/home/dev/.config/containers/storage.conf"),
    ("CONTAINERS_REGISTRIES_CONF", "/home/dev/.config/containers/registries.conf"),
    ("CONTAINER_HOST", "unix:///home/dev/podman.sock"),
    ("CONTAINERS_HELPER_BINARY_DIR", "/home/dev/fake"),
    ("PATH", "/home/dev/fake"),
    ("LD_PRELOAD", "/home/dev/libraries/evil.so"),
    ("LD_LIBRARY_PATH", "/home/dev/libraries"),
    ("BASH_ENV", "/home/dev/start"),
    ("ENV", "/home/dev/start"),
    ("HOME", "/home/dev/elsewhere"),
    ("TMPDIR", "/home/dev/tmp"),
    ("XDG_RUNTIME_DIR", "/home/dev/run"),
    ("XDG_DATA_HOME", "/home/dev/elsewhere"),
    ("XDG_STATE_HOME", "/home/dev/elsewhere"),
    ("STORAGE_DRIVER", "evil"),
    ("PODMAN_USERNS", "host"),
    ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/home/dev/bus"),
    ("SSH_AUTH_SOCK", "/home/dev/agent.sock"),
    ("SECRET_X", SECRET),
    ("GITHUB_TOKEN", SECRET),
    ("http_proxy", "http://secret@proxy.example:3128"),
    ("HTTPS_PROXY", "http://secret@proxy.example:3128"),
    ("GIT_DIR", "/home/dev/elsewhere"),
    ("NOTIFY_SOCKET", "/home/dev/notify"),
    ("LISTEN_FDS", "3"),
];

#[test]
fn nothing_of_the_callers_environment_is_heard() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        key(&rig)?;
        lay_traps(&rig)?;
        // Nothing ran before: Podman makes its namespaces in this call, with newuidmap.
        let all: Vec<(&str, &str)> = CHANNELS.to_vec();
        let mut said = String::new();
        for (what, channels) in [("all at once", &all[..]), ("no locale", &[("LC_ALL", "tlh_KX"), ("TERM", "a\x1bb")])]
        {
            let mut command = rig.rcc(["run", "--", "/usr/bin/env"]);
            command.envs(channels.iter().copied());
            let output = command.output()?;
            ensure!(output.status.success(), "{what}: {}", shown(&output));
            // Where Node's headers are depends on the machine.
            let lines = std::str::from_utf8(&output.stdout)?.lines().filter(|line| !line.contains("nodedir="));
            let mut lines: Vec<&str> = lines.collect();
            lines.sort_unstable();
            write!(said, "== {what}\n{}\n", lines.join("\n"))?;
        }
        insta::assert_snapshot!("environment", said);
        // The programs of a release are static, and not even they load a library; those of a test may be dynamic.
        ensure!(heard(&rig).iter().all(|line| line == "loaded into rcc"), "heard by {:?}", heard(&rig));
        ensure!(user(&rig, "find ~/elsewhere ~/run ~/tmp -mindepth 1")?.is_empty(), "something was made elsewhere");
        // The key in the mounts or files that a configuration asked for.
        let mut command = rig.rcc(["run", "--", "/bin/bash", "-c", "ls -A /mnt ~/.ssh; cat /proc/self/mountinfo"]);
        command.envs(all.iter().copied());
        let output = shown(&command.output()?);
        ensure!(!output.contains("/.ssh") || output.contains("cannot access '/home/dev/.ssh'"), "{output}");
        ensure!(!output.contains("id_ed25519"), "{output}");

        descriptors(&rig)?;
        controls(&rig)
    });
}

/// Descriptors that the caller left open lead to nothing inside.
fn descriptors(rig: &Rig<'_>) -> Result<()> {
    let inside = "ls -l /proc/self/fd /proc/1/fd; for i in 3 4 5 6 7 8 9; do cat /proc/self/fd/$i /proc/self/fd/$i/id_ed25519 /proc/1/fd/$i <&$i; done";
    let mut command = rig.command("/bin/bash");
    command.args([
        "-c",
        "exec 3<~/.ssh/id_ed25519 7<~/.ssh 8</; exec /usr/local/bin/rcc run -- /bin/bash -c \"$0\"",
        inside,
    ]);
    let said = shown(&command.output()?);
    ensure!(!said.contains(SECRET) && !said.contains(".ssh"), "{said}");
    ensure!(said.contains("Bad file descriptor"), "{said}");
    // Without rcc, a descriptor goes along.
    let mut command = rig.command("/bin/bash");
    let all = shown(&command.args(["-c", "exec 3<~/.ssh/id_ed25519; /bin/bash -c \"cat <&3\""]).output()?);
    ensure!(all.contains(SECRET), "a shell hears the descriptor: {all}");
    Ok(())
}

/// Each trap catches somebody.
fn controls(rig: &Rig<'_>) -> Result<()> {
    let podman = |variable: &str, value: &str| -> Result<(Vec<String>, String)> {
        user(rig, "rm -f ~/heard")?;
        let mut command = in_plain_podman(rig, "", "true");
        let output = command.env(variable, value).output()?;
        Ok((heard(rig), shown(&output)))
    };
    // Podman 4 passes over the conmon that it is told of, as it has no version; Podman 5 starts it.
    let configured: &[&str] = &["crun", "conmon"];
    for (variable, value, by) in [
        ("CONTAINERS_CONF", "/home/dev/xdg/containers/containers.conf", configured),
        ("XDG_CONFIG_HOME", "/home/dev/xdg", configured),
        // ~/.config alone.
        ("USER", "dev", configured),
        ("BASH_ENV", "/home/dev/start", &["start file"]),
        ("PATH", "/home/dev/fake:/usr/bin:/bin", &["podman"]),
        ("LD_PRELOAD", "/home/dev/libraries/evil.so", &["loaded into podman"]),
        ("LD_LIBRARY_PATH", "/home/dev/libraries", &["loaded into podman"]),
    ] {
        let (heard, said) = podman(variable, value)?;
        let is_by = |line: &String| by.iter().any(|program| line.contains(program));
        ensure!(heard.iter().any(is_by), "{variable} is a trap for nobody: {heard:?}: {said}");
    }
    // The machine's own hooks and mounts.
    user(rig, "rm ~/.config/containers/*")?;
    let (heard, said) = podman("USER", "dev")?;
    ensure!(heard == ["hook"], "a folder of hooks is a trap for nobody: {heard:?}: {said}");
    root(
        "rm /usr/share/containers/oci/hooks.d/evil.json; echo /home/dev/.ssh:/mnt >~dev/.config/containers/mounts.conf",
    )?;
    let said = shown(&in_plain_podman(rig, "", "cat /mnt/id_ed25519").output()?);
    ensure!(said.contains(SECRET), "mounts.conf is a trap for nobody: {said}");
    Ok(())
}

/// Who fell for a trap.
fn heard(rig: &Rig<'_>) -> Vec<String> {
    fs::read_to_string(rig.user.home.join("heard")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn sockets_and_mounts_below_what_is_read_only() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        root(
            "install -d -o dev /opt/daemon /opt/disk /opt/later /usr/local/disk /usr/local/run /usr/lib/deep/er/disk",
        )?;
        // Before the first session: Podman keeps the mounts that it finds then.
        root(
            "for d in /opt/disk /usr/local/disk /usr/lib/deep/er/disk; do
                mount -t tmpfs -o mode=777,suid,dev none $d; echo theirs >$d/file; chmod 666 $d/file
                cp /usr/bin/id $d/id; chmod 4755 $d/id; mknod -m 666 $d/null c 1 3
            done; mkdir /opt/disk/further; mount -t tmpfs -o mode=777 none /opt/disk/further",
        )?;
        let connect = |place: &str| {
            format!("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{place}\")' 2>&1 | tail -1")
        };

        // A daemon that listens before the start is masked, by whatever name it is reached.
        let place = "/opt/daemon/its.sock";
        let daemon = UnixListener::bind(place)?;
        fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        ensure!(user(&rig, &connect(place))?.is_empty(), "the person reaches the daemon");
        for way in [place, "/opt/../opt/daemon/its.sock", "/proc/1/root/opt/daemon/its.sock"] {
            let said = inside(&rig, &connect(way))?;
            ensure!(said.contains("Connection refused"), "{way}: {said}");
        }
        // One that begins to listen, or does so anew, during the session ends it: nothing masks it.
        let mut live = Live::start(&rig, "while :; do sleep 1000; done")?;
        drop(daemon);
        fs::remove_file(place)?;
        let daemon = UnixListener::bind(place)?;
        fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        ends_for_socket(&mut live, place)?;
        let mut live = Live::idle(&rig)?;
        let second = UnixListener::bind("/usr/local/run/second.sock")?;
        ends_for_socket(&mut live, "/usr/local/run/second.sock")?;
        drop((daemon, second));
        root("rm /opt/daemon/* /usr/local/run/*")?;

        // They are read-only with all below them, run no setuid program and open no device.
        let disks = ["/opt/disk", "/opt/disk/further", "/usr/local/disk", "/usr/lib/deep/er/disk"];
        for disk in disks {
            user(&rig, &format!("echo x >{disk}/new; rm {disk}/new"))?;
            let said = inside(
                &rig,
                &attempts(&[
                    &format!("echo x >{disk}/new"),
                    &format!("echo x >>{disk}/file"),
                    &format!("mkdir {disk}/folder"),
                ]),
            )?;
            ensure!(said.matches(": Read-only file system\n").count() == 3, "{said}");
        }
        let said = inside(&rig, "/opt/disk/id -u; cat /opt/disk/null 2>&1; :")?;
        ensure!(said == "4177\ncat: /opt/disk/null: Permission denied\n", "{said}");
        ensure!(user(&rig, "/opt/disk/id -u; cat /opt/disk/null")? == "0\n", "outside they work");
        let plain = in_plain_podman(&rig, "-v /opt:/opt:ro", "echo x >/opt/disk/new && echo written").output()?;
        ensure!(shown(&plain).contains("written"), "a plain read-only mount keeps it, too: {}", shown(&plain));
        root("rm /opt/disk/new")?;

        // What is mounted during a session does not come along.
        let mut live = Live::start(
            &rig,
            "read -r; ls -A /opt/later; echo x >/opt/later/new; grep -c /opt/later /proc/self/mountinfo",
        )?;
        root("mount -t tmpfs -o mode=777 none /opt/later; echo theirs >/opt/later/file")?;
        drop(live.stdin.take());
        ensure!(live.line()? == "0", "a later mount came along");
        live.end().map(drop)
    });
}

fn ends_for_socket(live: &mut Live, place: &str) -> Result<()> {
    let (status, said) = live.end()?;
    ensure!(status.code() == Some(124), "{status}: {said}");
    ensure!(said.contains(&format!("RCC-206: {place}: ")) && said.contains("hint: "), "{said}");
    live.is_dead_within(PATIENCE).map(drop)
}

#[test]
fn limits_hold_or_are_said_not_to() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "pids = 60\nsessions = 2")?;
        let before = Traces::after_first_session(&rig)?;
        // No cgroup controller is delegated in this world: memory can't be limited. It is said; or refused, which leaves
        // nothing, and lets the agent run not even for a moment.
        let output = rig.inside("true")?;
        ensure!(
            output.status.success() && shown(&output).contains("rcc: warning: RCC-305: memory: "),
            "{}",
            shown(&output)
        );
        let policy = rig.usual_policy(&[], "pids = 60\nsessions = 2");
        rig.policy(&policy.replace("\"warn\"", "\"refuse\""))?;
        let began = Instant::now();
        let mut command = rig.rcc(["run", "--", "/usr/bin/touch", "it-ran"]);
        command.stdin(std::process::Stdio::null());
        let said = refused(command, "RCC-305")?;
        ensure!(began.elapsed() < PATIENCE, "{:?}: {said}", began.elapsed());
        ensure!(!rig.project.join("it-ran").exists(), "the agent ran");
        rig.policy(&policy)?;
        before.nothing_more(&rig)?;

        // A session that takes all processes it can has its own share of them, and no more.
        let mut live = Live::start(&rig, "for i in {1..200}; do sleep 1000 & done 2>/dev/null; echo full; read -r")?;
        rig.wait_until("the session is full", PATIENCE, || Ok(all_processes() >= 55))?;
        let (taken, limit) = (all_processes(), 60);
        ensure!(taken <= limit, "{taken} processes");
        ensure!(user(&rig, "for i in {1..30}; do sleep 0.1 & done; wait; echo fine")? == "fine\n");
        ensure!(inside(&rig, "for i in {1..30}; do sleep 0.1 & done; wait; echo fine")? == "fine\n");

        // More sessions than the policy allows.
        let second = Live::idle(&rig)?;
        refused(start(&rig), "RCC-404")?;
        end(second)?;
        rig.wait_until("the second session's place is free", PATIENCE, || Ok(rig.inside("true")?.status.success()))?;
        live.signal(Signal::SIGTERM)?;
        live.end()?;
        drop(live);
        before.nothing_more(&rig)
    });
}

/// Processes of the one session that sleep.
fn all_processes() -> usize {
    rcc_sessions::processes().iter().filter(|p| p.line == "sleep 1000").count()
}

#[test]
fn a_crash_inside_runs_nothing_outside() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let before = Traces::after_first_session(&rig)?;
        // The value 1: with 0 the kernel would still run a handler that is a pipe (core(5)).
        let crash = "for folder in ~ /tmp ~/project; do
                cd $folder; ulimit -c unlimited; bash -c 'kill -SEGV $$'; python3 -c 'import os; os.abort()'
            done 2>/dev/null
            sed -n '/^Max core/s/  */ /gp' /proc/self/limits /proc/1/limits
            ls -A /tmp ~/project; find ~ -name '*core*'";
        for caller in ["ulimit -c unlimited", "ulimit -Sc 0"] {
            let mut command = rig.command("/bin/bash");
            command.args(["-c", &format!("{caller}; exec /usr/local/bin/rcc run -- /bin/bash -c \"$0\""), crash]);
            let said = succeeds(&command.output()?).context(caller)?;
            let line = "Max core file size 1 1 bytes \n";
            ensure!(said == format!("{line}{line}/home/dev/project:\n\n/tmp:\n"), "{caller}: {said}");
        }
        // A caller who may have none can't give one byte: nothing starts.
        let mut command = rig.command("/bin/bash");
        command.args(["-c", "ulimit -Hc 0; exec /usr/local/bin/rcc run -- /bin/true"]);
        refused(command, "RCC-504")?;
        // Outside, such a crash is written, unless the machine has a handler for it.
        let handler = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        if !handler.starts_with(['|', '/']) {
            let left = user(&rig, "mkdir ~/c; cd ~/c; ulimit -c unlimited; bash -c 'kill -SEGV $$' || ls")?;
            ensure!(!left.is_empty(), "no crash leaves anything here: this proves nothing");
        }

        // The container's user namespace has limits of its own, which the agent can't raise, and shares none.
        let limits = "cd /proc/sys/user; for name in max_user_namespaces max_inotify_instances max_inotify_watches; do
                cat $name; (echo 9999 >$name) 2>&1 | sed 's/.*: //'; done
            python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
n = 0
while libc.inotify_init() >= 0: n += 1
print(n, os.strerror(ctypes.get_errno()))'";
        let said = inside(&rig, limits)?;
        let read_only = "Read-only file system";
        let watches: u32 = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches")?.trim().parse()?;
        let watches = 262_144.min(watches / 2);
        ensure!(
            said == format!("0\n{read_only}\n64\n{read_only}\n{watches}\n{read_only}\n64 Too many open files\n"),
            "{said}"
        );
        before.nothing_more(&rig)
    });
}

#[test]
fn files_of_the_project_are_read_with_care() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        key(&rig)?;
        let before = Traces::after_first_session(&rig)?;
        let mut said = String::new();
        for (what, break_it, code) in [
            ("a FIFO", "mkfifo rcc.toml", "RCC-208"),
            ("a link", "ln -s ~/.ssh/id_ed25519 rcc.toml", "RCC-208"),
            ("a link to what never ends", "ln -s /dev/zero rcc.toml", "RCC-208"),
            ("a folder", "mkdir rcc.toml", "RCC-208"),
            ("a socket", "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"rcc.toml\")'", "RCC-208"),
            ("100 MiB", "truncate -s 100M rcc.toml", "RCC-208"),
            ("not for its owner", "touch rcc.toml; chmod 0 rcc.toml", "RCC-208"),
            ("not UTF-8", "printf '\\xff' >rcc.toml", "RCC-208"),
            ("keys of the policy", "echo 'users = [\"dev\"]' >rcc.toml", "RCC-208"),
            ("limits", "printf '[limits]\\nunenforceable = \"warn\"\\n' >rcc.toml", "RCC-208"),
            ("a cover outside", "printf '[protect]\\nread_only = [\"../../.ssh\"]\\n' >rcc.toml", "RCC-208"),
            ("a cover at the top", "printf '[protect]\\nread_only = [\"/etc\"]\\n' >rcc.toml", "RCC-208"),
            ("git's configuration, a FIFO", "git init -q .; rm .git/config; mkfifo .git/config", "RCC-505"),
            ("git's configuration, 100 MiB", "git init -q .; truncate -s 100M .git/config", "RCC-505"),
            (
                "git's configuration, a folder of FIFOs",
                "git init -q .; rm .git/config; mkdir .git/config; mkfifo .git/config/x",
                "RCC-505",
            ),
            ("3000 hooks", "git init -q .; mkdir -p .git/hooks; cd .git/hooks; seq 3000 | xargs touch", "RCC-505"),
            (
                "hooks of 1 GiB",
                "git init -q .; mkdir -p .git/hooks; cd .git/hooks; seq 256 | xargs truncate -s 4M",
                "RCC-505",
            ),
            ("hooks not for their owner", "git init -q .; mkdir -p .git/hooks; chmod 0 .git/hooks", "RCC-505"),
            ("modules in modules", "git init -q .; mkdir -p .git/modules/a/b/c/d/e/f/g/h/i/j/k", "RCC-505"),
            (
                "a name that draws on the terminal",
                "git init -q .; ln -s x \".git/$(printf '\\033]0;evil\\007\\033[2J')\"",
                "RCC-505",
            ),
        ] {
            user(&rig, &format!("chmod -R u+rwX .; find . -mindepth 1 -delete; {break_it}"))?;
            let began = Instant::now();
            let line = refused(start(&rig), code).with_context(|| what.to_owned())?;
            ensure!(began.elapsed() < PATIENCE, "{what}: {:?}", began.elapsed());
            ensure!(!line.contains(SECRET) && !line.contains('\x1b'), "{what}: {line}");
            write!(said, "== {what}\n{line}")?;
        }
        insta::assert_snapshot!("project_files", said);
        before.nothing_more(&rig)?;

        // What is no file or folder in a covered folder is left out; nobody waits for it.
        user(
            &rig,
            "find . -mindepth 1 -delete; git init -q .; mkdir -p .git/hooks; rm -f .git/hooks/*; mkfifo .git/hooks/pre-commit",
        )?;
        ensure!(inside(&rig, "ls -A .git/hooks")?.is_empty(), "a FIFO was carried over");
        // What a project asks for is not what it gets.
        user(&rig, "find . -mindepth 1 -delete; echo 'allow = [\"evil.example:443\"]' >rcc.toml")?;
        let output = rig.inside("getent hosts evil.example; curl -m 5 https://evil.example; cat /etc/resolv.conf")?;
        ensure!(shown(&output).contains("asks for evil.example:443: not granted"), "{}", shown(&output));
        ensure!(shown(&output).contains("Could not resolve host"), "{}", shown(&output));
        before.nothing_more(&rig)
    });
}
