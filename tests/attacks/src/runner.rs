//! Has the agent make every attempt of a class, judges it, and makes it again without the wall.

use crate::{Attack, Control, Expect, Trace};
use anyhow::{Context, Result, bail, ensure};
use rcc_rig::{Rig, make_folder};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output};

/// What the policy of these tests allows.
pub const ALLOWED: &[&str] = &[
    "allowed.example:443",
    "allowed.example:80",
    "*.wild.example:443",
    "site-a.cdn.example:443",
    "answers-metadata.example:80",
    "answers-lan.example:80",
    "answers-ten.example:80",
    "answers-cgnat.example:80",
];

/// How long an attempt may take on a machine that does other things as well; a denial itself takes a millisecond.
const QUICK_MS: u64 = 6000;

/// What the attempts are aimed at, besides what every world has.
pub struct Targets {
    victim: Child,
    _agent: UnixListener,
}

impl Targets {
    /// Puts them there.
    pub fn place(rig: &Rig<'_>) -> Result<Self> {
        let (home, id) = (&rig.user.home, rig.user.id);
        for folder in [".ssh", ".aws", ".config/gh", "other", "project/.git/hooks"] {
            make_folder(&home.join(folder), &rig.user)?;
        }
        for (path, text) in [
            ("project/probe.py", include_str!("probe.py")),
            ("project/.git/config", "[core]\n"),
            ("project/.git/HEAD", "ref: refs/heads/main\n"),
            (".bashrc", "\n"),
        ] {
            fs::write(home.join(path), text)?;
            chown(home.join(path), Some(id), Some(id))?;
        }
        fs::write("/etc/shadow", "root:!:1::::::\n")?;
        let setuid = Path::new("/usr/local/bin/setuid-id");
        fs::copy("/usr/bin/id", setuid)?;
        fs::set_permissions(setuid, fs::Permissions::from_mode(0o4755))?;
        let socket = home.join(".ssh/agent.sock");
        let agent = UnixListener::bind(&socket)?;
        chown(&socket, Some(id), Some(id))?;
        let victim =
            rig.command("/bin/bash").args(["-c", "while :; do sleep 100; done", "rcc-attack-victim"]).spawn()?;
        Ok(Self { victim, _agent: agent })
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let _gone = self.victim.kill();
        let _gone = self.victim.wait();
    }
}

/// What came of a class.
#[derive(Debug, Default)]
pub struct Tally {
    /// Attempts that were stood.
    pub stood: usize,
    /// Controls that succeeded.
    pub controls: usize,
    /// Attempts whose control reached only the kernel's own refusal.
    pub reached: usize,
    /// Attempts without any control.
    pub without: usize,
}

/// One attempt's run.
struct Ran {
    code: i32,
    ms: u64,
    text: String,
}

/// Has the agent make every attempt, then makes every control; fails with all that went wrong.
pub fn stand(rig: &Rig<'_>, attacks: &[Attack]) -> Result<Tally> {
    stand_by(rig, attacks, QUICK_MS, |commands| {
        Ok(rig.agent(&commands.iter().map(String::as_str).collect::<Vec<_>>())?.1)
    })
}

/// The same, made by whatever runs commands and gives what they printed, where a denial may take so many milliseconds.
pub fn stand_by(
    rig: &Rig<'_>,
    attacks: &[Attack],
    quick: u64,
    make: impl FnOnce(&[String]) -> Result<Vec<String>>,
) -> Result<Tally> {
    let mut wrong = String::new();
    let mut tally = Tally::default();
    let tokens = plant(rig, attacks)?;
    let commands: Vec<String> = attacks.iter().zip(&tokens).map(|(a, t)| command(a, t)).collect();
    let results = make(&commands)?;
    for (attack, token) in attacks.iter().zip(&tokens) {
        let judged = ran(attack, &results).and_then(|r| judge(rig, attack, token, &r, quick));
        match judged {
            Ok(()) => tally.stood += 1,
            Err(e) => writeln!(wrong, "{} ({}): {e:#}", attack.id, attack.what)?,
        }
    }
    let tokens = plant(rig, attacks)?;
    let in_podman = podman(rig, attacks, &tokens)?;
    for (attack, token) in attacks.iter().zip(&tokens) {
        let output = match attack.control {
            Control::User | Control::Reaches(_) => {
                rig.command("/bin/bash").args(["-c", &command(attack, token)]).output()?
            }
            Control::Root => {
                Command::new("/bin/bash").args(["-c", &command(attack, token)]).current_dir(&rig.project).output()?
            }
            Control::Podman => in_podman.clone().context("no container ran")?,
            Control::None(_) => {
                tally.without += 1;
                continue;
            }
        };
        let judged = ran(attack, &[text(&output)]).and_then(|r| succeeded(rig, attack, token, &r));
        match (judged, attack.control) {
            (Ok(()), Control::Reaches(_)) => tally.reached += 1,
            (Ok(()), _) => tally.controls += 1,
            (Err(e), _) => writeln!(wrong, "{} ({}) is VACUOUS, its control fails: {e:#}", attack.id, attack.what)?,
        }
    }
    println!("{tally:?}");
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(tally)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A fresh token for each, put where it is to be read.
fn plant(rig: &Rig<'_>, attacks: &[Attack]) -> Result<Vec<String>> {
    let tokens: Vec<String> = attacks.iter().map(|_| rig.world.token()).collect();
    let mut planted: Vec<&str> = Vec::new();
    for (attack, token) in attacks.iter().zip(&tokens) {
        let Trace::Planted(paths) = attack.trace else { continue };
        for path in paths {
            // two attempts at one file: both tokens are in it
            let earlier = planted.contains(path).then(|| fs::read_to_string(path)).transpose()?.unwrap_or_default();
            fs::write(path, format!("{earlier}{token}\n"))?;
            chown(*path, Some(rig.user.id), Some(rig.user.id))?;
            planted.push(path);
        }
    }
    Ok(tokens)
}

/// The attempt as a shell runs it. The token is written backwards: the command itself travels to the model and back, and
/// must not count as having carried it out.
#[must_use]
pub fn command(attack: &Attack, token: &str) -> String {
    // What is defined after its use in the table is to come first.
    let (call, definitions) =
        attack.command.split_once("\ndef ").map_or((attack.command, String::new()), |(c, d)| (c, format!("def {d}\n")));
    let token = if matches!(attack.trace, Trace::Planted(_)) { "nothing" } else { token };
    let backwards: String = token.chars().rev().collect();
    format!(
        "s={backwards}; T=; for ((i = ${{#s}}; i > 0; i--)); do T+=${{s:i-1:1}}; done
export T PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1; began=${{EPOCHREALTIME/./}}
/usr/bin/python3 - 2>&1 <<'END' | sed \"s/$T/<token>/g\"
from probe import *
{definitions}{call}
END
echo \"::{} exit=${{PIPESTATUS[0]}} ms=$(( (${{EPOCHREALTIME/./}} - began) / 1000 ))\"",
        attack.id
    )
}

fn ran(attack: &Attack, results: &[String]) -> Result<Ran> {
    let mark = format!("::{} exit=", attack.id);
    for result in results {
        let Some((before, after)) = result.split_once(&mark) else { continue };
        let line = after.lines().next().unwrap_or_default();
        let (code, ms) = line.split_once(" ms=").context("no time")?;
        let text = before.rsplit_once("\n::").map_or(before, |(_, own)| own);
        return Ok(Ran { code: code.parse()?, ms: ms.parse()?, text: text.to_owned() });
    }
    bail!("it did not end; {:?}", results.iter().find(|r| !r.contains("::")))
}

fn judge(rig: &Rig<'_>, attack: &Attack, token: &str, ran: &Ran, quick: u64) -> Result<()> {
    let said = || format!("exit {} after {} ms: {}", ran.code, ran.ms, ran.text.trim());
    ensure!(ran.ms < quick, "it took too long: {}", said());
    if let Some(words) = attack.denied.words() {
        ensure!(ran.code == 13, "it was not denied: {}", said());
        ensure!(
            ran.text.lines().any(|l| l == format!("denied: {words}")),
            "it was to be denied by {words}: {}",
            said()
        );
    } else {
        ensure!(matches!(ran.code, 0 | 13), "it ended strangely: {}", said());
    }
    rig.world.assert_unseen(token)?;
    match attack.trace {
        Trace::Planted(_) => ensure!(!ran.text.contains(token), "it has read the token"),
        Trace::File(path) => ensure!(!contains(path, token), "it has written {path}"),
        Trace::Wire | Trace::Success => {}
    }
    Ok(())
}

fn contains(path: &str, token: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|t| t.contains(token))
}

fn succeeded(rig: &Rig<'_>, attack: &Attack, token: &str, ran: &Ran) -> Result<()> {
    let said = || format!("exit {} after {} ms: {}", ran.code, ran.ms, ran.text.trim());
    if let Control::Reaches(errno) = attack.control {
        ensure!(ran.text.lines().any(|l| l == format!("denied: {errno}")), "{}", said());
        ensure!(!matches!(attack.denied, Expect::Errno(e) if e == errno), "the same errno with and without the wall");
        return Ok(());
    }
    ensure!(ran.code == 0, "{}", said());
    match attack.trace {
        Trace::Wire => {
            let seen = !rig.world.hits_with(token)?.is_empty() || !rig.world.packets_containing(token)?.is_empty();
            ensure!(seen, "nobody saw its token: {}", said());
        }
        Trace::Planted(_) => ensure!(ran.text.contains(token), "it did not read the token: {}", said()),
        Trace::File(path) => ensure!(contains(path, token), "{path} has not its token: {}", said()),
        Trace::Success => {}
    }
    Ok(())
}

/// Runs the controls that are for a plain container, all in one.
fn podman(rig: &Rig<'_>, attacks: &[Attack], tokens: &[String]) -> Result<Option<Output>> {
    let all: Vec<String> = attacks
        .iter()
        .zip(tokens)
        .filter(|(a, _)| matches!(a.control, Control::Podman))
        .map(|(a, t)| command(a, t))
        .collect();
    if all.is_empty() {
        return Ok(None);
    }
    let script = format!(
        "cd; r=$HOME/skeleton
        for d in usr proc sys dev tmp run var/tmp dev/shm etc home/dev/project; do mkdir -p $r/$d; done
        for l in bin lib lib64 sbin; do ln -sfn usr/$l $r/$l; done
        touch $r/etc/passwd $r/etc/hosts $r/etc/resolv.conf $r/etc/hostname $r/run/.containerenv
        exec podman --cgroup-manager=cgroupfs run --rm -i --userns=keep-id --network none -v /usr:/usr:ro \
            -v {project}:{project} -w {project} --rootfs $r /bin/bash -c \"$0\"",
        project = rig.project.display()
    );
    let output = rig
        .command("/bin/bash")
        .args(["-c", &script, &all.join("\n")])
        .env("XDG_RUNTIME_DIR", &rig.user.runtime_dir)
        .output()?;
    Ok(Some(output))
}
