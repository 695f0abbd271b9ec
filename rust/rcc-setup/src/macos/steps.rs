//! The steps on a Mac, in order. Each finds out by itself what is left to do, as on Linux.
//!
//! Invariants: the firewall is in force before the gateway is loaded, and the gateway is what sessions start by; it is taken
//! away only when nothing that it binds is left and nothing of that kind can start: the carrier's program goes first.

use super::daemons::{self, Daemon, FIREWALL_LOG};
use super::processes::{self, Process, Role};
use super::{Call, Found, Mac, Place, accounts, done, launchd};
use crate::asker::Keep;
use crate::layout::{FOLDER, LINK, LINKS, LOGS, POLICY_NAME, PROGRAMS, VERSION};
use crate::source::Program;
use crate::step::{Look, Step};

use rcc_proto::macos::{
    ANCHOR, FIREWALL_LABEL, GATEWAY_LABEL, GATEWAY_SOCKET, GROUP_ID, NET_GROUP_ID, STATUS_LABEL, USER_ID,
};
use rcc_report::{Code, Problem};

/// The program that Podman starts as gvproxy: with its group's bit, so that pf knows what leaves through it.
pub const SHIM: &str = "gvproxy";
const ETC: &str = "/etc";
const POLICY_FOLDER: &str = "/etc/rcc";
const POLICY: &str = "/etc/rcc/policy.toml";
const NEWSYSLOG: &str = "/etc/newsyslog.d";
const RUN: &str = "/var/run";
/// Where rcc's firewall program has the token of its reference to pf, below /var/db.
const TOKEN: &str = "rcc-firewall.token";
const ROOT: (u32, u32) = (0, 0);
const GATEWAY: (u32, u32) = (USER_ID, GROUP_ID);
const GATEWAYS: [Role; 3] = [Role::Serve, Role::Worker, Role::Stray];
/// How long the firewall may take to come into force, in tenths of a second.
const PATIENCE: usize = 150;

/// Three old ones of 100 kB at most. `N`: nobody is told; the daemon opens it anew when it starts.
const ROTATION: &str =
    "# logfilename [owner:group] mode count size when flags\n/var/log/rcc-firewall.log root:wheel 640 3 100 * N\n";

/// What setup is asked for.
pub struct Request {
    /// The programs to install.
    pub programs: Vec<Program>,
    /// The text of a first policy.
    pub policy: String,
    /// Whether a running gateway is replaced although sessions run.
    pub restart: bool,
}

fn roots(folder: &'static str, mode: u32) -> Place {
    Place { folder, owner: ROOT, mode }
}

fn program_place(name: &str) -> Place {
    if name == SHIM { Place { folder: FOLDER, owner: (0, NET_GROUP_ID), mode: 0o2755 } } else { roots(FOLDER, 0o755) }
}

/// Whether nix-darwin's module sets rcc up here: its daemons run the store's programs.
pub fn unmanaged(mac: &dyn Mac) -> Result<(), Problem> {
    let file = format!("{FIREWALL_LABEL}.plist");
    // As the store has it, it can be written by nobody; setup's own can.
    match mac.bytes(daemons::FOLDER, &file)? {
        Some(bytes) if String::from_utf8_lossy(&bytes).contains("<string>/nix/store/") => Err(Problem::new(
            Code::SETUP_NIXOS,
            "nix-darwin",
            "this Mac is made from its configuration, and what setup writes would not stay",
            "services.rcc.enable = true; in it, and: sudo darwin-rebuild switch",
        )),
        _ => Ok(()),
    }
}

/// The steps of `rcc setup`.
pub fn install<'a>(mac: &'a dyn Mac, request: &'a Request) -> Vec<Step<'a>> {
    let mut steps = vec![
        Step::new("hidden user _rcc, groups _rcc and _rccnet", || accounts::look(mac), || accounts::make(mac)),
        Step::new(
            POLICY,
            || look_policy(mac),
            || mac.write(roots(POLICY_FOLDER, 0o644), POLICY_NAME, request.policy.as_bytes()),
        ),
        folder(mac, LOGS, 0o750),
    ];
    for new in &request.programs {
        steps.push(file(mac, program_place(new.name), new.name.to_owned(), new.bytes.clone()));
    }
    steps.push(link(mac));
    steps.push(file(mac, roots(NEWSYSLOG, 0o644), "rcc.conf".to_owned(), ROTATION.into()));
    // Emptied at each start of the Mac; the firewall's daemon makes it then.
    steps.push(folder(mac, RUN, 0o755));
    for daemon in daemons::all(FOLDER) {
        let text = daemon.text.clone().into_bytes();
        steps.push(file(mac, roots(daemons::FOLDER, 0o644), daemon.file(), text));
        let (label, again) = (daemon.label, daemon.clone());
        steps.push(Step::new(
            label,
            move || {
                if label == GATEWAY_LABEL {
                    look_gateway(mac, &daemon, request.restart)
                } else {
                    launchd::look(mac, &daemon)
                }
            },
            move || launchd::load(mac, &again),
        ));
        if label == FIREWALL_LABEL {
            steps.push(Step::new(format!("firewall ({ANCHOR})"), || look_firewall(mac), || await_firewall(mac)));
        }
    }
    steps.push(Step::new("older versions", || Ok(todo(&older(mac)?)), || remove_older(mac)));
    steps
}

/// What a Mac's configuration (nix-darwin) can't do by itself: folders of the gateway's, and the programs where people run
/// them, one with its group's bit, which no store keeps. Everything else is declared there.
pub fn place(mac: &dyn Mac, programs: Vec<Program>) -> Vec<Step<'_>> {
    let mut steps = vec![folder(mac, LOGS, 0o750), folder(mac, RUN, 0o755)];
    // The shim last: what it starts is there before.
    let mut programs = programs;
    programs.sort_by_key(|program| program.name == SHIM);
    for program in programs {
        steps.push(file(mac, program_place(program.name), program.name.to_owned(), program.bytes));
    }
    steps.push(link(mac));
    steps
}

/// The steps of `rcc uninstall`; `firewall` is the program that takes pf's anchor away.
pub fn uninstall<'a>(mac: &'a dyn Mac, keep: Keep, firewall: &'a str) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for label in [GATEWAY_LABEL, STATUS_LABEL] {
        steps.push(Step::new(label, move || launchd::look_gone(mac, label), move || launchd::unload(mac, label)));
    }
    steps.push(Step::new(
        "what carries agents' machines, of every version",
        || Ok(todo(&shims(mac)?)),
        || shims(mac)?.iter().try_for_each(|shim| mac.remove(roots(PROGRAMS, 0o755), shim)),
    ));
    steps.push(Step::new(
        "agents' machines",
        || look_none(mac, &[Role::Carrier], "lose their network"),
        || processes::end(mac, &[Role::Carrier]),
    ));
    steps.push(Step::new(
        "gateway",
        || look_none(mac, &GATEWAYS, "ended, sessions with it"),
        || processes::end(mac, &GATEWAYS),
    ));
    steps.push(Step::new(
        FIREWALL_LABEL,
        || launchd::look_gone(mac, FIREWALL_LABEL),
        || launchd::unload(mac, FIREWALL_LABEL),
    ));
    steps.push(Step::new(
        format!("firewall ({ANCHOR})"),
        || look_firewall_gone(mac),
        || done(mac, &Call::new(firewall, &["remove"]), Code::FIREWALL_DRIFTED).map(drop),
    ));
    // What is left is what the next run finishes by, where the firewall is still there.
    steps.extend(rest(mac, keep).into_iter().map(|step| step.only_if(move || firewall_is_gone(mac))));
    steps
}

/// What goes when nothing of pf's is rcc's any more.
fn rest(mac: &dyn Mac, keep: Keep) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for daemon in daemons::all(FOLDER) {
        let name = daemon.file();
        let again = name.clone();
        steps.push(Step::new(
            format!("{}/{name}", daemons::FOLDER),
            move || look_gone(mac, daemons::FOLDER, &name),
            move || mac.remove(roots(daemons::FOLDER, 0o644), &again),
        ));
    }
    for (folder, name) in [
        (NEWSYSLOG, "rcc.conf"),
        (LOGS, "rcc-firewall.log"),
        (RUN, "rcc"),
        (RUN, "rcc-status.sock"),
        ("/var/db", "rcc-firewall.lock"),
    ] {
        steps.push(gone(mac, folder, name));
    }
    steps.push(Step::new("/usr/local/bin/rcc", || look_link_gone(mac), || mac.remove(roots(LINKS, 0o755), "rcc")));
    steps.push(gone(mac, "/usr/local/libexec", "rcc"));
    let given = Place { folder: LOGS, owner: ROOT, mode: 0o700 };
    match keep {
        Keep::PolicyAndLog => {
            steps.push(Step::new("/var/log/rcc", move || look_given(mac, given), move || mac.make(given, "rcc")));
        }
        Keep::Nothing => {
            steps.push(gone(mac, LOGS, "rcc"));
            steps.push(gone(mac, ETC, "rcc"));
        }
    }
    steps.push(Step::new(
        "hidden user _rcc, groups _rcc and _rccnet",
        || accounts::look_gone(mac),
        move || {
            // What is still this user's would be the next one's of its id.
            for look in [look_none(mac, &GATEWAYS, ""), look_given(mac, given)] {
                if look? != Look::Done {
                    let what = "something is still this user's: the gateway runs, or the log was not given to root";
                    return Err(Problem::new(Code::SETUP_USER, "_rcc", what, "run rcc uninstall again"));
                }
            }
            accounts::remove(mac)
        },
    ));
    steps
}

/// What has to be so when all is done.
pub fn prove(mac: &dyn Mac) -> Result<(), Problem> {
    if let Look::Todo(what) = look_firewall(mac)? {
        let remedy = format!("see why: tail {FIREWALL_LOG}; find out what else writes pf's rules");
        return Err(Problem::new(
            Code::FIREWALL_DRIFTED,
            ANCHOR,
            format!("it was in force, and is not any more: {what}"),
            remedy,
        ));
    }
    for _ in 0..PATIENCE {
        if mac.listens(GATEWAY_SOCKET) {
            return Ok(());
        }
        mac.wait();
    }
    let remedy = format!("see why: launchctl print system/{GATEWAY_LABEL}");
    Err(Problem::new(Code::SETUP_GATEWAY, GATEWAY_SOCKET, "nobody listens there", remedy))
}

/// Sessions of a gateway that is not the installed one, and that goes on for their sake.
pub fn sessions_of_before(mac: &dyn Mac) -> Result<usize, Problem> {
    let all = processes::all(mac)?;
    let serving = |process: &&Process| process.role == Role::Serve;
    let old = all.iter().find(serving).is_some_and(|p| !p.command.starts_with(&format!("{FOLDER}/")));
    Ok(if old { all.iter().filter(|p| p.role == Role::Worker).count() } else { 0 })
}

fn file(mac: &dyn Mac, place: Place, name: String, bytes: Vec<u8>) -> Step<'_> {
    let (again, same) = (name.clone(), bytes.clone());
    Step::new(
        format!("{}/{name}", place.folder),
        move || {
            Ok(match mac.found(place, &name)? {
                Found::File(there) if there == bytes => Look::Done,
                Found::Nothing => Look::Todo("made".into()),
                _ => Look::Todo("replaced".into()),
            })
        },
        move || mac.write(place, &again, &same),
    )
}

fn folder<'a>(mac: &'a dyn Mac, above: &'static str, mode: u32) -> Step<'a> {
    let place = Place { folder: above, owner: GATEWAY, mode };
    Step::new(
        format!("{above}/rcc"),
        move || {
            Ok(match mac.found(place, "rcc")? {
                Found::Folder => Look::Done,
                Found::Nothing => Look::Todo("made, the gateway's".into()),
                _ => Look::Todo("given to the gateway's user".into()),
            })
        },
        move || mac.make(place, "rcc"),
    )
}

fn link(mac: &dyn Mac) -> Step<'_> {
    Step::new("/usr/local/bin/rcc", || look_link(mac), || mac.link(roots(LINKS, 0o755), "rcc", LINK))
}

fn look_policy(mac: &dyn Mac) -> Result<Look, Problem> {
    // Whatever root has there is root's word; the firewall says what is wrong with it.
    Ok(match mac.found(roots(POLICY_FOLDER, 0o644), POLICY_NAME)? {
        Found::Nothing => Look::Todo("written: what a first session needs".into()),
        _ => Look::Done,
    })
}

/// What there is to say where no link is made: by Homebrew on Intel's processors, /usr/local/bin is its owner's.
pub fn unlinked(mac: &dyn Mac) -> Option<String> {
    mac.is_anothers(LINKS).then(|| {
        format!("others than root can write {LINKS}, so there is no link in it; sessions start by {FOLDER}/rcc: alias rcc={FOLDER}/rcc")
    })
}

fn look_link(mac: &dyn Mac) -> Result<Look, Problem> {
    if mac.is_anothers(LINKS) {
        return Ok(Look::Done);
    }
    match mac.found(roots(LINKS, 0o755), "rcc")? {
        Found::Link(target) if target == LINK => Ok(Look::Done),
        Found::Nothing => Ok(Look::Todo(format!("made, to {LINK}"))),
        Found::Link(target) if crate::layout::is_ours(&target) => Ok(Look::Todo(format!("from {target} to {LINK}"))),
        Found::Link(target) => Err(crate::layout::foreign_link(&target)),
        _ => Err(crate::layout::foreign_link("a file")),
    }
}

fn look_link_gone(mac: &dyn Mac) -> Result<Look, Problem> {
    if mac.is_anothers(LINKS) {
        return Ok(Look::Done);
    }
    match mac.found(roots(LINKS, 0o755), "rcc")? {
        Found::Nothing => Ok(Look::Done),
        Found::Link(target) if crate::layout::is_ours(&target) => Ok(Look::Todo("removed".into())),
        Found::Link(target) => Err(crate::layout::foreign_link(&target)),
        _ => Err(crate::layout::foreign_link("a file")),
    }
}

/// A gateway of before is left alone while sessions run in it, unless it was said otherwise.
fn look_gateway(mac: &dyn Mac, daemon: &Daemon, restart: bool) -> Result<Look, Problem> {
    let look = launchd::look(mac, daemon)?;
    let sessions = processes::all(mac)?.iter().filter(|process| process.role == Role::Worker).count();
    Ok(if sessions > 0 && !restart && sessions_of_before(mac)? > 0 { Look::Done } else { look })
}

/// pf, as the installed program reads it back.
fn look_firewall(mac: &dyn Mac) -> Result<Look, Problem> {
    let program = roots(FOLDER, 0o755);
    if !matches!(mac.found(program, "rcc-firewall")?, Found::File(_)) {
        return Ok(Look::Todo("put in force".into()));
    }
    let said = mac.run(&Call::new(&format!("{FOLDER}/rcc-firewall"), &["status"]))?;
    let words = said.out.lines().chain(said.err.lines()).next().unwrap_or_default().to_owned();
    Ok(if said.code == 0 { Look::Done } else { Look::Todo(format!("put in force ({words})")) })
}

/// The daemon does it, as it will each time; here it is only waited for.
fn await_firewall(mac: &dyn Mac) -> Result<(), Problem> {
    let mut left = String::new();
    for _ in 0..PATIENCE {
        match look_firewall(mac)? {
            Look::Done => return Ok(()),
            Look::Todo(what) => left = what,
        }
        mac.wait();
    }
    let remedy = format!("see why: tail {FIREWALL_LOG}; or by hand: sudo {FOLDER}/rcc-firewall apply");
    Err(Problem::new(
        Code::FIREWALL_DRIFTED,
        ANCHOR,
        format!("the daemon runs, and there is still to do: {left}"),
        remedy,
    ))
}

/// Whether pf has nothing of rcc's: asked of pfctl itself, since what rcc's program says needs a policy and the accounts.
fn look_firewall_gone(mac: &dyn Mac) -> Result<Look, Problem> {
    // It complains of an anchor that is not there, and shows nothing.
    let said = mac.run(&Call::new("/sbin/pfctl", &["-a", ANCHOR, "-s", "rules"]))?;
    // The reference that keeps pf on is known by its token.
    if said.out.trim().is_empty() && look_gone(mac, "/var/db", TOKEN)? == Look::Done {
        return Ok(Look::Done);
    }
    let bound = processes::all(mac)?;
    if let Some(process) = bound.first() {
        let what = format!("process {} is still bound by it, so it stays: {}", process.pid, process.command);
        return Err(Problem::new(Code::SETUP_GATEWAY, ANCHOR, what, "run rcc uninstall again"));
    }
    Ok(Look::Todo("removed".into()))
}

fn firewall_is_gone(mac: &dyn Mac) -> Result<(), Problem> {
    match look_firewall_gone(mac)? {
        Look::Done => Ok(()),
        Look::Todo(_) => Err(Problem::new(
            Code::FIREWALL_DRIFTED,
            ANCHOR,
            "it is still there, so what it is taken away by stays as well",
            "see what went wrong with it, and run rcc uninstall again",
        )),
    }
}

fn look_none(mac: &dyn Mac, roles: &[Role], effect: &str) -> Result<Look, Problem> {
    let runs = processes::all(mac)?.iter().any(|process| roles.contains(&process.role));
    Ok(if runs { Look::Todo(effect.into()) } else { Look::Done })
}

fn gone<'a>(mac: &'a dyn Mac, folder: &'static str, name: &'static str) -> Step<'a> {
    Step::new(
        format!("{folder}/{name}"),
        move || look_gone(mac, folder, name),
        move || mac.remove(roots(folder, 0o755), name),
    )
}

fn look_gone(mac: &dyn Mac, folder: &str, name: &str) -> Result<Look, Problem> {
    let new = format!("{name}.rcc-new");
    let there = mac.names(folder)?.iter().any(|found| *found == name || *found == new);
    Ok(if there { Look::Todo("removed".into()) } else { Look::Done })
}

fn look_given(mac: &dyn Mac, roots: Place) -> Result<Look, Problem> {
    Ok(match mac.found(roots, "rcc")? {
        Found::Nothing | Found::Folder => Look::Done,
        _ => Look::Todo("kept, and given to root".into()),
    })
}

fn todo(names: &[String]) -> Look {
    if names.is_empty() { Look::Done } else { Look::Todo(format!("removed: {}", names.join(", "))) }
}

/// The carriers' programs, below the folder of all versions: an older one's group pf knows as well.
fn shims(mac: &dyn Mac) -> Result<Vec<String>, Problem> {
    let mut all = Vec::new();
    for version in mac.names(PROGRAMS)? {
        if look_gone(mac, &format!("{PROGRAMS}/{version}"), SHIM)? != Look::Done {
            all.push(format!("{version}/{SHIM}"));
        }
    }
    Ok(all)
}

/// Folders of versions from which nothing runs any more.
fn older(mac: &dyn Mac) -> Result<Vec<String>, Problem> {
    let running = processes::all(mac)?;
    let in_use = |name: &str| running.iter().any(|p| p.command.starts_with(&format!("{PROGRAMS}/{name}/")));
    Ok(mac.names(PROGRAMS)?.into_iter().filter(|name| name != VERSION && !in_use(name)).collect())
}

fn remove_older(mac: &dyn Mac) -> Result<(), Problem> {
    older(mac)?.iter().try_for_each(|name| mac.remove(roots(PROGRAMS, 0o755), name))
}
