//! `rcc-setup install`: the steps, in order. Each finds out by itself what is left to do.

use crate::asker::{root, usual_policy};
use crate::gateway::{self, Role};
use crate::layout::{
    ETC, FOLDER, LINK, LINKS, LOGS, POLICY_NAME, PROGRAMS, RUN, VERSION, folder, foreign_link, is_ours, made,
    misplaced, program,
};
use crate::source::Program;
use crate::step::{Look, Step};
use crate::{systemd, units, user};
use rcc_firewall::{Nft, POLICY};
use rcc_host::accounts::{self, User};
use rcc_policy::Policy;
use rcc_report::{Code, Problem};
use rcc_rules::Found;
use std::path::Path;

/// What setup is asked for.
pub struct Request {
    /// The programs to install.
    pub programs: Vec<Program>,
    /// The person who called, if root did not by itself.
    pub person: Option<User>,
    /// Whether a running gateway is restarted although sessions run.
    pub restart: bool,
    /// Whether systemd runs this system.
    pub systemd: bool,
}

/// What must hold before anything is changed.
pub fn check() -> Result<(), Problem> {
    root()?;
    let release = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|p| std::fs::read_to_string(p).ok());
    let named = release.is_some_and(|text| text.lines().any(|l| l.trim() == "ID=nixos"));
    if named || Path::new("/etc/NIXOS").exists() {
        return Err(Problem::new(
            Code::SETUP_NIXOS,
            "NixOS",
            "this system is made from its configuration, and what setup writes would not stay",
            "add rcc's module to the system's configuration, and: services.rcc.enable = true;",
        ));
    }
    Ok(())
}

/// The steps.
pub fn steps(request: &Request) -> Vec<Step<'_>> {
    let mut steps = vec![
        Step::new("system user rcc", user::look, user::make),
        Step::new(POLICY, look_policy, || make_policy(request.person.as_ref())),
        Step::new("/var/log/rcc", look_log, make_log),
    ];
    for new in &request.programs {
        steps.push(Step::new(
            program(new.name).display().to_string(),
            || look_file(FOLDER, new.name, &new.bytes, 0o755),
            || write_file(FOLDER, new.name, &new.bytes, 0o755),
        ));
    }
    steps.push(Step::new("/usr/local/bin/rcc", look_link, || {
        made(LINKS)?.make_link("rcc", LINK).map_err(|e| misplaced(LINKS, &e))
    }));
    steps.push(Step::new("host firewall", look_firewall, apply_firewall));
    if request.systemd {
        with_systemd(&mut steps, request);
    } else {
        steps.push(Step::new(RUN, look_run, make_run));
        steps.push(Step::new("gateway, without systemd", || look_gateway(request), restart_gateway));
    }
    steps.push(Step::new("older versions", || Ok(todo(&older()?)), remove_older));
    steps
}

fn with_systemd<'a>(steps: &mut Vec<Step<'a>>, request: &'a Request) {
    // Was made for a gateway without systemd.
    steps.push(Step::new(RUN, look_run_of_systemd, make_run_of_systemd));
    for (name, text) in units::all(FOLDER) {
        let again = text.clone();
        steps.push(Step::new(
            format!("{}/{name}", units::FOLDER),
            move || look_file(units::FOLDER, name, text.as_bytes(), 0o644),
            move || write_file(units::FOLDER, name, again.as_bytes(), 0o644),
        ));
    }
    let names = || units::all(FOLDER).into_iter().map(|(name, _)| name);
    steps.push(Step::new("systemd", move || systemd::look_reloaded(names()), systemd::reload));
    for unit in units::ENABLED {
        steps.push(Step::new(unit, move || systemd::look_enabled(unit), move || systemd::enable(unit)));
    }
    steps.push(Step::new(
        units::GATEWAY,
        || look_gateway(request),
        || {
            if systemd::gateway()?.is_some() { systemd::restart_gateway() } else { systemd::start_gateway() }
        },
    ));
}

fn todo(names: &[String]) -> Look {
    if names.is_empty() { Look::Done } else { Look::Todo(format!("removed: {}", names.join(", "))) }
}

fn look_file(place: &'static str, name: &str, bytes: &[u8], mode: u32) -> Result<Look, Problem> {
    let Some(folder) = folder(place)? else { return Ok(Look::Todo("made".into())) };
    let there = folder.read(name, mode).map_err(|e| misplaced(place, &e))?;
    Ok(match there {
        Some(there) if there == bytes => Look::Done,
        Some(_) => Look::Todo("replaced".into()),
        None if folder.has(name).map_err(|e| misplaced(place, &e))? => Look::Todo("replaced".into()),
        None => Look::Todo("made".into()),
    })
}

fn write_file(place: &'static str, name: &str, bytes: &[u8], mode: u32) -> Result<(), Problem> {
    made(place)?.write(name, bytes, mode).map_err(|e| misplaced(place, &e))
}

/// The policy as it is; `None` if there is none.
pub fn policy() -> Result<Option<Policy>, Problem> {
    let Some(folder) = folder(ETC)? else { return Ok(None) };
    if !folder.has(POLICY_NAME).map_err(|e| misplaced(POLICY, &e))? {
        return Ok(None);
    }
    let bytes = rcc_host::trusted::read(Path::new(POLICY)).map_err(|e| misplaced(POLICY, &e))?;
    let text = String::from_utf8(bytes).map_err(|e| misplaced(POLICY, &std::io::Error::other(e)))?;
    rcc_policy::parse(&text, POLICY).map(Some).map_err(first)
}

fn look_policy() -> Result<Look, Problem> {
    Ok(if policy()?.is_some() { Look::Done } else { Look::Todo("written: what a first session needs".into()) })
}

fn make_policy(person: Option<&User>) -> Result<(), Problem> {
    made(ETC)?.write(POLICY_NAME, usual_policy(person).as_bytes(), 0o644).map_err(|e| misplaced(POLICY, &e))
}

fn look_log() -> Result<Look, Problem> {
    let (Some(ids), Some(logs)) = (user::ids()?, folder(LOGS)?) else { return Ok(Look::Todo("made".into())) };
    let wrong = |e: std::io::Error| misplaced("/var/log/rcc", &e);
    let Some(log) = logs.inner("rcc").map_err(wrong)? else { return Ok(Look::Todo("made, the gateway's".into())) };
    let owner = log.owner().map_err(wrong)?;
    let is_his = owner == (ids.0, ids.1, 0o750);
    Ok(if is_his { Look::Done } else { Look::Todo("given to the gateway's user".into()) })
}

fn make_log() -> Result<(), Problem> {
    let ids = user::existing()?;
    let log = made(LOGS)?.make("rcc", 0o750);
    log.and_then(|log| log.give(0, ids, 0o750)).map_err(|e| misplaced("/var/log/rcc", &e))
}

fn look_link() -> Result<Look, Problem> {
    let Some(folder) = folder(LINKS)? else { return Ok(Look::Todo(format!("made, to {LINK}"))) };
    match folder.link("rcc").map_err(|e| misplaced("/usr/local/bin/rcc", &e))? {
        Some(target) if target == LINK => Ok(Look::Done),
        None => Ok(Look::Todo(format!("made, to {LINK}"))),
        Some(target) if is_ours(&target) => Ok(Look::Todo(format!("from {target} to {LINK}"))),
        Some(target) => Err(foreign_link(&target)),
    }
}

fn look_firewall() -> Result<Look, Problem> {
    if user::ids()?.is_none() || policy()?.is_none() {
        return Ok(Look::Todo("put in force".into()));
    }
    let wanted = rcc_firewall::wanted(Path::new(POLICY)).map_err(first)?;
    match rcc_firewall::status(&Nft::find()?, &wanted)? {
        Found::InForce => Ok(Look::Done),
        Found::Absent => Ok(Look::Todo("put in force".into())),
        Found::Drifted(_) => Ok(Look::Todo("replaced".into())),
        // Nothing is applied over it: this only says what it is.
        Found::Foreign => rcc_firewall::apply(&Nft::find()?, &wanted).map(|_| Look::Done),
    }
}

fn apply_firewall() -> Result<(), Problem> {
    let wanted = rcc_firewall::wanted(Path::new(POLICY)).map_err(first)?;
    rcc_firewall::apply(&Nft::find()?, &wanted).map(drop)
}

fn first(problems: Vec<Problem>) -> Problem {
    let more = problems.len().saturating_sub(1);
    let mut problems = problems.into_iter();
    let unknown = || Problem::new(Code::POLICY_SYNTAX, POLICY, "the policy is not valid", "rcc plan");
    let mut one = problems.next().unwrap_or_else(unknown);
    if more > 0 {
        one.what = format!("{} (and {more} more)", one.what);
    }
    one
}

fn run_owner() -> Result<Option<(u32, u32, u32)>, Problem> {
    let wrong = |e: std::io::Error| misplaced(RUN, &e);
    let Some(run) = folder("/run")? else { return Ok(None) };
    run.inner("rcc").map_err(wrong)?.map(|f| f.owner()).transpose().map_err(wrong)
}

fn look_run() -> Result<Look, Problem> {
    let (Some(ids), owner) = (user::ids()?, run_owner()?) else { return Ok(Look::Todo("made".into())) };
    Ok(if owner == Some((ids.0, ids.1, 0o755)) { Look::Done } else { Look::Todo("made, the gateway's".into()) })
}

fn make_run() -> Result<(), Problem> {
    let ids = user::existing()?;
    let run = made("/run")?.make("rcc", 0o755);
    run.and_then(|run| run.give(0, ids, 0o755)).map_err(|e| misplaced(RUN, &e))
}

fn look_run_of_systemd() -> Result<Look, Problem> {
    Ok(match run_owner()? {
        None | Some((0, 0, 0o755)) => Look::Done,
        Some(_) => Look::Todo("given back to root".into()),
    })
}

fn make_run_of_systemd() -> Result<(), Problem> {
    let (uid, _, _) = run_owner()?.unwrap_or_default();
    // Its sockets were another gateway's, which would be asked instead of systemd's.
    gateway::end()?;
    let run = made("/run")?.make("rcc", 0o755);
    run.and_then(|run| run.give(uid, (0, 0), 0o755)).map_err(|e| misplaced(RUN, &e))
}

/// Whether the installed gateway runs. One of before is left alone while sessions run in it, unless it was said otherwise.
fn look_gateway(request: &Request) -> Result<Look, Problem> {
    let all = gateway::processes()?;
    let installed = program("rcc-gateway");
    let Some(serving) = all.iter().find(|p| p.role == Role::Serve) else {
        return Ok(Look::Todo("started as the user rcc".into()));
    };
    // Its user owns the sockets' folder: one that was taken over may have removed its own.
    if gateway::is_installed(serving.pid, &installed) && gateway::listens() {
        return Ok(Look::Done);
    }
    let sessions = all.iter().filter(|p| p.role == Role::Worker).count();
    if sessions == 0 || request.restart {
        return Ok(Look::Todo("restarted, as what is installed now".into()));
    }
    Ok(Look::Done)
}

/// What lies in the sockets' folder when nothing of its user's runs is dead, or was put there to be in the way.
fn restart_gateway() -> Result<(), Problem> {
    gateway::end()?;
    let wrong = |e: std::io::Error| misplaced(RUN, &e);
    let run = made("/run")?.inner("rcc").map_err(wrong)?;
    if let Some(run) = run {
        run.names().and_then(|names| names.iter().try_for_each(|name| run.remove(name))).map_err(wrong)?;
    }
    gateway::start(&program("rcc-gateway"), user::existing()?)
}

/// Sessions of a gateway that is not the installed one, and that goes on for their sake.
pub fn sessions_of_before() -> Result<usize, Problem> {
    let all = gateway::processes()?;
    let serving = all.iter().find(|p| p.role == Role::Serve);
    let old = serving.is_some_and(|p| !gateway::is_installed(p.pid, &program("rcc-gateway")));
    Ok(if old { all.iter().filter(|p| p.role == Role::Worker).count() } else { 0 })
}

/// The firewall as the kernel has it, and the gateway's answer.
pub fn prove(request: &Request) -> Result<(), Problem> {
    match look_firewall()? {
        Look::Done => {}
        Look::Todo(_) => {
            let what = "it was put in force, and is not so any more";
            return Err(Problem::new(Code::FIREWALL_DRIFTED, "inet rcc", what, "find out what else writes to it"));
        }
    }
    // A gateway of before goes by itself when its last session ends.
    if request.systemd && sessions_of_before()? > 0 {
        systemd::retire_gateway()?;
    }
    gateway::prove()
}

/// What the person should know.
pub fn notes(request: &Request) -> Result<Vec<String>, Problem> {
    let mut notes = Vec::new();
    let sessions = sessions_of_before()?;
    if sessions > 0 {
        let then =
            if request.systemd { "the next one then starts what is installed" } else { "run rcc setup again then" };
        notes.push(format!("{sessions} sessions run in the gateway of before; it stays until they end, and {then}"));
    }
    if !request.systemd {
        notes.push("no systemd runs here: the gateway and the firewall do not start with the machine; run rcc setup again after each start, and sudo rcc-firewall apply when networks or resolvers change".into());
    }
    let Some(policy) = policy()? else { return Ok(notes) };
    let resolved = policy.resolve(&[]).map_err(first)?;
    match &request.person {
        Some(person) => {
            let groups = accounts::groups_of(person).unwrap_or_default();
            if !resolved.may_open(&person.name, person.uid, &groups) {
                notes.push(format!("`users` of {POLICY} does not name {}: add it there", person.name));
            }
        }
        None => notes.push(format!("who may start sessions stands in `users` of {POLICY}")),
    }
    Ok(notes)
}

/// Folders of versions from which nothing runs any more.
fn older() -> Result<Vec<String>, Problem> {
    let Some(folder) = folder(PROGRAMS)? else { return Ok(Vec::new()) };
    let running = gateway::processes()?;
    let in_use = |name: &str| running.iter().any(|p| p.program.starts_with(Path::new(PROGRAMS).join(name)));
    let names = folder.names().map_err(|e| misplaced(PROGRAMS, &e))?;
    let names = names.into_iter().map(|name| name.to_string_lossy().into_owned());
    Ok(names.filter(|name| name != VERSION && !in_use(name)).collect())
}

fn remove_older() -> Result<(), Problem> {
    let folder = made(PROGRAMS)?;
    older()?.iter().try_for_each(|name| folder.remove(name)).map_err(|e| misplaced(PROGRAMS, &e))
}
