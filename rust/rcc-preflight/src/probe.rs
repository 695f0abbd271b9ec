//! Looks at the machine: all effects of this crate. Each probe is a thread with a time limit, and all run side by side; what
//! does not answer in time (a home folder on a server that is away) is unknown, and its thread is left behind.

mod accounts;
mod around;
mod basics;
mod macos;
mod run;

pub use accounts::account;
pub use basics::{family, only_root_writes, person, program, program_folders};

use crate::facts::{Answer, Fact, Facts, VERSION};
use rcc_report::Problem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long all probes together may take.
pub const LIMIT: Duration = Duration::from_secs(3);

/// Root's policy.
pub const POLICY: &str = "/etc/rcc/policy.toml";

/// A probe under way.
struct Asked<T>(Receiver<Result<T, String>>);

fn ask<T: Send + 'static>(probe: impl FnOnce() -> Result<T, String> + Send + 'static) -> Asked<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // Nobody waits any more when it is late.
        let _late = sender.send(probe());
    });
    Asked(receiver)
}

impl<T> Asked<T> {
    fn answer(self, until: Instant) -> Fact<T> {
        match self.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(result) => result.into(),
            Err(RecvTimeoutError::Timeout) => Fact::Unknown(format!("no answer within {} s", LIMIT.as_secs())),
            Err(RecvTimeoutError::Disconnected) => Fact::Unknown("the probe itself failed".into()),
        }
    }
}

/// What is looked at beside the machine itself.
pub struct Question {
    /// The project, whose file system is looked at.
    pub project: PathBuf,
    /// Root's policy, if it is not at [`POLICY`].
    pub policy: PathBuf,
    /// Opens a session with the gateway, and closes it again.
    pub gateway: Box<dyn FnOnce() -> Result<String, Problem> + Send>,
}

/// What a start looks at: on Linux files alone, no program is run.
#[must_use]
pub fn launch() -> Facts {
    if cfg!(target_os = "macos") { launch_mac() } else { launch_linux() }
}

fn launch_mac() -> Facts {
    let until = Instant::now() + LIMIT;
    let system = ask(macos::system);
    let person = basics::person();
    let home = person.as_ref().ok().and_then(|person| person.home.clone());
    let macos = macos::launch(home.as_deref(), until);
    Facts { system: system.answer(until), person: person.into(), macos, ..nothing("not looked at before a start") }
}

/// Facts of which none is known, for this reason.
fn nothing(why: &str) -> Facts {
    fn no<T>(why: &str) -> Fact<T> {
        Fact::Unknown(why.to_owned())
    }
    Facts {
        version: VERSION,
        system: no(why),
        person: no(why),
        programs: no(why),
        ids: no(why),
        runtime: no(why),
        user_namespaces: no(why),
        seccomp: no(why),
        versions: no(why),
        cgroup: no(why),
        nftables: no(why),
        surroundings: no(why),
        places: no(why),
        network: no(why),
        nix: no(why),
        policy: no(why),
        gateway: no(why),
        macos: None,
    }
}

fn launch_linux() -> Facts {
    let until = Instant::now() + LIMIT;
    let programs = ask(|| Ok(basics::programs()));
    let ids = ask(basics::ids);
    let person = ask(basics::person);
    let system = basics::system().into();
    let user_namespaces = Fact::Known(basics::user_namespaces());
    let seccomp = Fact::Known(basics::seccomp());
    let runtime = Fact::Known(basics::runtime_dir());
    Facts {
        system,
        person: person.answer(until),
        programs: programs.answer(until),
        ids: ids.answer(until),
        runtime,
        user_namespaces,
        seccomp,
        ..nothing("not looked at before a start")
    }
}

/// Everything.
#[must_use]
pub fn whole(question: Question) -> Facts {
    if cfg!(target_os = "macos") { whole_mac(question) } else { whole_linux(question) }
}

fn gateway_of(gateway: Box<dyn FnOnce() -> Result<String, Problem> + Send>) -> Asked<Answer> {
    ask(move || {
        Ok(match gateway() {
            Ok(fingerprint) => Answer::Opens { fingerprint },
            Err(problem) => Answer::Refuses(problem),
        })
    })
}

/// Everything that a Mac has; what only Linux has is unknown, and no check of a Mac's looks at it.
fn whole_mac(question: Question) -> Facts {
    let until = Instant::now() + LIMIT;
    let mut person = basics::person();
    if let Ok(person) = &mut person {
        person.groups = macos::groups();
    }
    let home = person.as_ref().ok().and_then(|person| person.home.clone());
    let pending = macos::pending(&question, home.as_deref());
    let Question { project, policy, gateway } = question;
    let gateway = gateway_of(gateway);
    let system = ask(macos::system);
    let places = ask(move || macos::places(&project, home.as_deref()));
    let nix = ask(|| Ok(around::nix()));
    let policy = ask(move || Ok(self::policy(&policy)));
    let system = system.answer(until);
    let (macos, mut network) = pending.answer(until);
    if let Fact::Known(network) = &mut network {
        network.proxies.extend(around::proxies());
    }
    Facts {
        system,
        person: person.into(),
        places: places.answer(until),
        network,
        nix: nix.answer(until),
        policy: policy.answer(until),
        gateway: gateway.answer(until),
        macos,
        ..nothing("macOS")
    }
}

fn whole_linux(question: Question) -> Facts {
    let until = Instant::now() + LIMIT;
    let Question { project, policy, gateway } = question;
    // The slow ones first: they start programs.
    let versions = ["podman", "crun", "conmon", "nft"].map(|name| (name, ask(move || around::version(name))));
    let nftables = ask(around::nftables);
    let gateway = gateway_of(gateway);
    let places = ask(move || around::places(&project));
    let surroundings = ask(around::surroundings);
    let cgroup = ask(around::cgroup);
    let network = ask(around::network);
    let nix = ask(|| Ok(around::nix()));
    let policy = ask(move || Ok(self::policy(&policy)));
    let mut facts = launch();
    if let (Fact::Known(runtime), Fact::Known(person)) = (&mut facts.runtime, &mut facts.person) {
        person.groups = basics::groups();
        let name = person.name.as_deref().unwrap_or_default();
        runtime.lingers = !name.is_empty() && Path::new("/var/lib/systemd/linger").join(name).exists();
    }
    facts.cgroup = cgroup.answer(until);
    facts.surroundings = surroundings.answer(until);
    facts.network = network.answer(until);
    facts.nix = nix.answer(until);
    facts.policy = policy.answer(until);
    facts.places = places.answer(until);
    facts.gateway = gateway.answer(until);
    facts.nftables = nftables.answer(until);
    let answered = versions.into_iter().map(|(name, asked)| (name, asked.answer(until)));
    facts.versions = versions_of(answered);
    facts
}

/// A program that is not there has no version; one that does not say it makes all unknown.
fn versions_of(
    all: impl Iterator<Item = (&'static str, Fact<Option<String>>)>,
) -> Fact<std::collections::BTreeMap<String, String>> {
    let mut found = std::collections::BTreeMap::new();
    for (name, fact) in all {
        match fact {
            Fact::Known(Some(version)) => drop(found.insert(name.to_owned(), version)),
            Fact::Known(None) => {}
            Fact::Unknown(why) => return Fact::Unknown(format!("{name}: {why}")),
        }
    }
    Fact::Known(found)
}

/// The line by which root sets rcc up: by the place of the programs that run now, since `rcc` may be installed nowhere yet,
/// and sudo may not look in /usr/local.
#[must_use]
pub fn setup_command() -> String {
    let program = rcc_host::this_program().unwrap_or_default().with_file_name("rcc").display().to_string();
    let plain = program.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c));
    format!("sudo {} setup", if plain { program } else { rcc_report::quoted(program) })
}

/// The text of root's policy, if only root can have written it.
pub fn policy(path: &Path) -> Result<String, Problem> {
    let unreadable = |what: String, remedy: &str| {
        Problem::new(rcc_report::Code::POLICY_UNREADABLE, path.display().to_string(), what, remedy)
    };
    let text = std::fs::read_to_string(path).map_err(|e| {
        unreadable(e.to_string(), &format!("{}    (writes a first one where there is none)", setup_command()))
    })?;
    only_root_writes(path).map_err(|place| {
        unreadable(
            format!("others than root can write {}", place.display()),
            "sudo chown root: /etc/rcc /etc/rcc/policy.toml && sudo chmod go-w /etc/rcc /etc/rcc/policy.toml",
        )
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_in_time_or_breaks_is_unknown() {
        let soon = || Instant::now() + Duration::from_millis(50);
        let hangs = ask(|| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        });
        assert!(matches!(hangs.answer(soon()), Fact::Unknown(why) if why.contains("no answer")));
        let breaks: Asked<()> = Asked(channel().1);
        assert!(matches!(breaks.answer(soon()), Fact::Unknown(_)));
        assert_eq!(ask(|| Ok(1)).answer(soon()), Fact::Known(1));
    }
}
