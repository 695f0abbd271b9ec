//! `rcc-setup uninstall`: the steps, each tried whatever became of those before.

use crate::asker::Keep;
use crate::gateway::{self, is_gateways};
use crate::layout::{ETC, LINKS, LOGS, POLICY_NAME, folder, foreign_link, is_ours, misplaced};
use crate::step::{Look, Step};
use crate::{systemd, units, user};
use rcc_firewall::{Nft, POLICY};
use rcc_report::{Code, Problem};

/// The steps. The firewall stays while anything of the gateway's runs, and its user while anything is that user's.
pub fn steps(keep: Keep, with_systemd: bool) -> Vec<Step<'static>> {
    let mut steps = Vec::new();
    if with_systemd {
        steps.push(Step::new("rcc's units", systemd::look_stopped, systemd::stop));
    }
    steps.push(Step::new("gateway", || look_gateway("ended, sessions with it"), gateway::end));
    for (name, _) in units::all("") {
        steps.push(gone(units::FOLDER, name));
    }
    if with_systemd {
        steps.push(Step::new("systemd's list of units", look_forgotten, systemd::reload));
    }
    steps.push(Step::new("host firewall", look_firewall, || rcc_firewall::remove(&Nft::find()?).map(drop)));
    steps.push(Step::new("/usr/local/bin/rcc", look_link, || remove(LINKS, "rcc")));
    steps.push(gone("/usr/local/libexec", "rcc"));
    steps.push(gone("/run", "rcc"));
    steps.push(gone("/run", "rcc-firewall.lock"));
    match keep {
        Keep::PolicyAndLog => steps.push(Step::new("/var/log/rcc", look_log, give_log)),
        Keep::Nothing => {
            steps.push(gone(LOGS, "rcc"));
            steps.push(Step::new(POLICY, look_policy, remove_policy));
        }
    }
    steps.push(Step::new("system user rcc", user::look_gone, move || {
        look_gateway("").and_then(|look| must_be_done(&look))?;
        if keep == Keep::PolicyAndLog {
            look_log().and_then(|look| must_be_done(&look))?;
        }
        user::remove()
    }));
    steps
}

fn must_be_done(look: &Look) -> Result<(), Problem> {
    match look {
        Look::Done => Ok(()),
        Look::Todo(_) => Err(Problem::new(
            Code::SETUP_USER,
            "rcc",
            "something is still this user's: the gateway runs, or the log was not given to root",
            "run rcc uninstall again",
        )),
    }
}

fn look_gateway(effect: &str) -> Result<Look, Problem> {
    let runs = gateway::processes()?.iter().any(is_gateways);
    Ok(if runs { Look::Todo(effect.into()) } else { Look::Done })
}

fn gone(place: &'static str, name: &'static str) -> Step<'static> {
    Step::new(format!("{place}/{name}"), move || look_gone(place, name), move || remove(place, name))
}

fn look_gone(place: &'static str, name: &str) -> Result<Look, Problem> {
    let wrong = |e: std::io::Error| misplaced(place, &e);
    let Some(folder) = folder(place)? else { return Ok(Look::Done) };
    let there = folder.has(name).map_err(wrong)? || folder.has(&format!("{name}.rcc-new")).map_err(wrong)?;
    Ok(if there { Look::Todo("removed".into()) } else { Look::Done })
}

fn remove(place: &'static str, name: &str) -> Result<(), Problem> {
    let wrong = |e: std::io::Error| misplaced(place, &e);
    let Some(folder) = folder(place)? else { return Ok(()) };
    folder.remove(name).map_err(wrong)?;
    folder.remove(format!("{name}.rcc-new")).map_err(wrong)
}

fn look_forgotten() -> Result<Look, Problem> {
    systemd::look_forgotten(units::all("").into_iter().map(|(name, _)| name))
}

fn look_firewall() -> Result<Look, Problem> {
    if Nft::find()?.list()?.is_none() {
        return Ok(Look::Done);
    }
    if gateway::processes()?.iter().any(is_gateways) {
        let what = "the gateway still runs, so the table stays";
        return Err(Problem::new(Code::SETUP_GATEWAY, "host firewall", what, "run rcc uninstall again"));
    }
    Ok(Look::Todo("removed".into()))
}

fn look_link() -> Result<Look, Problem> {
    let Some(folder) = folder(LINKS)? else { return Ok(Look::Done) };
    match folder.link("rcc").map_err(|e| misplaced("/usr/local/bin/rcc", &e))? {
        None => look_gone(LINKS, "rcc"),
        Some(target) if is_ours(&target) => Ok(Look::Todo("removed".into())),
        Some(target) => Err(foreign_link(&target)),
    }
}

fn look_log() -> Result<Look, Problem> {
    let wrong = |e: std::io::Error| misplaced("/var/log/rcc", &e);
    let Some(logs) = folder(LOGS)? else { return Ok(Look::Done) };
    let Some(log) = logs.inner("rcc").map_err(wrong)? else { return Ok(Look::Done) };
    let owner = log.owner().map_err(wrong)?;
    Ok(if owner == (0, 0, 0o700) { Look::Done } else { Look::Todo("kept, and given to root".into()) })
}

fn give_log() -> Result<(), Problem> {
    let wrong = |e: std::io::Error| misplaced("/var/log/rcc", &e);
    let Some(log) = folder(LOGS)?.map(|logs| logs.inner("rcc")).transpose().map_err(wrong)?.flatten() else {
        return Ok(());
    };
    let (uid, _, _) = log.owner().map_err(wrong)?;
    log.give(uid, (0, 0), 0o700).map_err(wrong)
}

/// The folder goes with the policy, and an empty one is what a run that was cut short has left.
fn look_policy() -> Result<Look, Problem> {
    let Some(etc) = folder(ETC)? else { return Ok(Look::Done) };
    let empty = etc.names().map_err(|e| misplaced(ETC, &e))?.is_empty();
    if empty { Ok(Look::Todo("removed".into())) } else { look_gone(ETC, POLICY_NAME) }
}

fn remove_policy() -> Result<(), Problem> {
    remove(ETC, POLICY_NAME)?;
    // What else root put there, such as key files, stays.
    let wrong = |e: std::io::Error| misplaced(ETC, &e);
    let Some(etc) = folder(ETC)? else { return Ok(()) };
    if etc.names().map_err(wrong)?.is_empty()
        && let Some(above) = folder("/etc")?
    {
        above.remove("rcc").map_err(wrong)?;
    }
    Ok(())
}
