//! What the person's account, and a gateway that was taken over, can do to setup, the log's rotation and uninstall: nothing
//! outside their own is changed, and when they are gone one more run completes.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, USER, make_folder, shown};
use rcc_sessions::fresh::{built, fresh, sudo};
use rcc_sessions::{SETUP, processes, root, succeeds, user};
use rcc_world::inside_with;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The programs, in a folder of the person's, as after a build.
fn persons_build(rig: &Rig<'_>) -> Result<PathBuf> {
    let folder = rig.user.home.join("build");
    make_folder(&folder, &rig.user)?;
    root(&format!(
        "cd {}; for p in rcc rcc-hook rcc-gateway rcc-firewall rcc-setup; do strip -o {1}/$p $p; done; chown -R {USER} {1}",
        built()?.display(),
        folder.display()
    ))?;
    Ok(folder)
}

#[test]
fn what_lies_in_the_build_folder_is_a_program_or_is_refused() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let folder = persons_build(&rig)?;
        let at = folder.display();
        root("mkdir /opt/secret; echo secret > /opt/secret/file; chmod -R go= /opt/secret")?;
        for trick in [
            "ln -s /opt/secret/file rcc-hook",
            "ln -s /usr/bin/true rcc-hook",
            "mkfifo rcc-hook",
            "mkdir rcc-hook",
            "truncate -s 1T rcc-hook",
            "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('rcc-hook')\"",
            ":",
        ] {
            user(&rig, &format!("cd {at}; mv rcc-hook kept; {trick}"))?;
            let output = sudo(&folder, &["setup"])?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success() && said.contains("RCC-911"), "{trick}: {}", shown(&output));
            ensure!(!said.contains("secret\n"), "{trick}: {said}");
            user(&rig, &format!("cd {at}; rm -rf rcc-hook; mv kept rcc-hook"))?;
        }
        // A second name of what the person can't read: what was read is no program, and is not told.
        root(&format!(
            "cd {at}; mv rcc-hook kept; cp /opt/secret/file on-this-disk; chmod 600 on-this-disk; chown root on-this-disk; ln on-this-disk rcc-hook"
        ))?;
        let output = sudo(&folder, &["setup"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains("RCC-911") && !said.contains("secret"), "{}", shown(&output));
        root(&format!("cd {at}; rm -f on-this-disk; mv -f kept rcc-hook"))?;
        root(
            "! getent passwd rcc; test ! -e /usr/local/libexec/rcc; test ! -e /etc/rcc; ! nft list table inet rcc 2>&1",
        )?;
        Ok(())
    });
}

#[test]
fn an_odd_environment_of_sudos_changes_nothing() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let folder = persons_build(&rig)?;
        let evil = rig.user.home.join("evil");
        user(&rig, &format!(
            "mkdir -p {0}; for p in nft useradd userdel groupadd groupdel nologin systemctl systemd-sysusers rcc-setup rcc-firewall rcc-gateway sh; do
                 printf '#!/bin/sh\\ntouch {0}/ran-%s\\nexit 0\\n' $p > {0}/$p; chmod +x {0}/$p; done
             printf 'void __attribute__((constructor)) f(void) {{ extern int creat(const char *, int); creat(\"{0}/ran-preload\", 0600); }}\\n' > {0}/x.c
             gcc -shared -fPIC -o {0}/x.so {0}/x.c; printf 'touch {0}/ran-env\\n' > {0}/env",
            evil.display()
        ))?;
        let run = |arguments: &[&str]| -> Result<()> {
            let mut command = Command::new(folder.join("rcc"));
            command.args(arguments).env("SUDO_USER", USER).current_dir(&evil);
            command.env("PATH", format!("{}:.", evil.display())).env("IFS", "/");
            for name in ["LD_PRELOAD", "LD_AUDIT"] {
                command.env(name, evil.join("x.so"));
            }
            for name in ["LD_LIBRARY_PATH", "GCONV_PATH", "LOCPATH", "TMPDIR", "HOME", "XDG_CONFIG_HOME", "NIX_LD"] {
                command.env(name, &evil);
            }
            for name in ["ENV", "BASH_ENV"] {
                command.env(name, evil.join("env"));
            }
            succeeds(&command.output()?)?;
            Ok(())
        };
        run(&["setup"])?;
        run(&["uninstall", "--purge"])?;
        let ran = user(&rig, &format!("ls {} | grep '^ran' || :", evil.display()))?;
        ensure!(ran.is_empty(), "{ran}");
        // The control: what is dynamic and heeds it runs it.
        user(&rig, &format!("LD_PRELOAD={0}/x.so /bin/true; test -e {0}/ran-preload", evil.display()))?;
        Ok(())
    });
}

/// Stands still as the installed gateway's program, before its first instruction.
const PRETENDER: &str = r"
import ctypes, os, sys
if os.fork() == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    os.execv(sys.argv[1], [sys.argv[1], 'serve'])
os.waitpid(-1, 0)
print('stands', flush=True)
sys.stdin.read()
";

#[test]
fn a_gateway_that_the_person_runs_is_not_taken_for_the_gateway() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let built = built()?;
        succeeds(&sudo(&built, &["setup"])?)?;
        let program = root("ls -d /usr/local/libexec/rcc/*/rcc-gateway")?;
        let mut command = rig.command("/usr/bin/python3");
        command.args(["-c", PRETENDER, program.trim()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut pretender = command.spawn()?;
        let mut line = [0; 7];
        std::io::Read::read_exact(pretender.stdout.as_mut().context("a pipe")?, &mut line)?;
        ensure!(processes().iter().filter(|p| p.line.ends_with("rcc-gateway serve")).count() == 2, "{:?}", processes());
        root("pkill -9 -u rcc; sleep 0.2")?;
        let said = succeeds(&sudo(&built, &["setup"])?)?;
        ensure!(said.contains("started as the user rcc"), "{said}");
        pretender.kill()?;
        pretender.wait()?;
        Ok(())
    });
}

#[test]
fn a_gateway_whose_socket_is_gone_is_started_again() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let built = built()?;
        succeeds(&sudo(&built, &["setup"])?)?;
        for trick in ["rm -f /run/rcc/gateway.sock", "ln -sf /opt/victim /run/rcc/gateway.sock"] {
            root(&format!("touch /opt/victim; {trick}; chown -h rcc /run/rcc/*"))?;
            let said = succeeds(&sudo(&built, &["setup"])?)?;
            ensure!(said.contains("restarted, as what is installed now"), "{trick}: {said}");
            root("test ! -s /opt/victim && test -S /run/rcc/gateway.sock && test ! -L /run/rcc/gateway.sock")?;
        }
        drop(rig);
        Ok(())
    });
}

/// Swaps what lies in the folders of the gateway's user for links to what is others', and makes the log look full.
const RACER: &str = r"
import os, itertools
LOG, RUN = '/var/log/rcc/', '/run/rcc/'
def attempt(f, *arguments):
    try: f(*arguments)
    except OSError: pass
def swap(make, target, path):
    attempt(os.unlink, path + '.swap'); attempt(make, target, path + '.swap'); attempt(os.rename, path + '.swap', path)
deep = os.open('/var/log/rcc', os.O_RDONLY)
for n in itertools.count():
    for folder, names in ((LOG, ('gateway.jsonl', 'gateway.jsonl.1', 'gateway.jsonl.5', 'x.rcc-new')), (RUN, ('gateway.sock', 'log.sock', 'status.sock'))):
        for name in names:
            swap(os.symlink, '/opt/victim/file', folder + name)
            swap(os.symlink, '/opt/victim', folder + name)
            swap(os.symlink, '/etc/shadow', folder + name)
            swap(os.link, '/opt/victim/open', folder + name)
        # Now and then: each of setup's looks would see it, and setup would come no further.
        if n % 50 == 0: attempt(os.chmod, folder, 0o777)
        elif n % 50 == 1: attempt(os.chmod, folder, 0o750 if folder == LOG else 0o755)
    attempt(os.unlink, LOG + 'gateway.jsonl')
    try:
        with open(LOG + 'gateway.jsonl', 'w') as f: f.truncate(1 << 40)
    except OSError: pass
    attempt(os.mkdir, LOG + 'd')
    attempt(os.rename, LOG + 'd', LOG + 'e')
    attempt(os.symlink, '/opt/victim', LOG + 'd')
    attempt(os.unlink, LOG + 'd')
    attempt(os.mkdir, b'/var/log/rcc/\xff')
    try:
        os.mkdir('deep', dir_fd=deep)
        inner = os.open('deep', os.O_RDONLY, dir_fd=deep); os.close(deep); deep = inner
    except OSError: pass
";

fn racer(id: u32) -> Result<Child> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", RACER]).env_clear().current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    Ok(command.uid(id).gid(id).spawn()?)
}

#[test]
fn links_that_are_swapped_while_root_works_lead_nowhere() {
    inside_with(SETUP, |world| {
        let rig = fresh(world)?;
        let built = persons_build(&rig)?;
        root(
            "mkdir -m 755 /opt/victim; cd /opt/victim; echo secret > file; chmod 600 file; touch open; chmod 666 open",
        )?;
        let victims = || {
            root(
                "find /opt/victim -printf '%p %y %m %U %G %s %T@\n' | sort; sha256sum /opt/victim/file; stat -c '%a %u %g' /etc/shadow",
            )
        };
        let before = victims()?;
        let until = Instant::now() + Duration::from_secs(12);
        let (mut rounds, mut refused) = (0, 0);
        while rounds < 3 || Instant::now() < until {
            succeeds(&sudo(&built, &["setup"])?).context("without the racer")?;
            let id: u32 = root("id -u rcc")?.trim().parse()?;
            let mut racer = racer(id)?;
            for _ in 0..4 {
                std::thread::sleep(Duration::from_millis(50));
                // It may be refused, by what the racer has put there.
                let output = sudo(&built, &["setup"])?;
                ensure!(output.status.success() || output.status.code() == Some(125), "{}", shown(&output));
                refused += u32::from(!output.status.success());
                ensure!(victims()? == before, "{}\n--- before\n{before}", victims()?);
            }
            let purge = if rounds % 2 == 0 { &["uninstall", "--purge"][..] } else { &["uninstall"] };
            let output = sudo(&built, purge)?;
            // It takes the racer with it: nothing of the gateway's user may outlive the table.
            let said = succeeds(&output).context("uninstall")?;
            ensure!(racer.wait()?.code().is_none() && !processes().iter().any(|p| p.uid == id), "{said}");
            ensure!(victims()? == before, "{}\n--- before\n{before}", victims()?);
            rounds += 1;
        }
        println!("{rounds} rounds, {refused} of {} refused", rounds * 4);
        succeeds(&sudo(&built, &["setup"])?).context("without the racer")?;
        succeeds(&sudo(&built, &["uninstall", "--purge"])?)?;
        ensure!(!Path::new("/var/log/rcc").exists(), "the log's folder");
        Ok(())
    });
}
