//! systemd, by systemctl.

use crate::command;
use crate::step::Look;
use crate::units::{ENABLED, GATEWAY};
use rcc_report::{Code, Problem};
use std::path::{Path, PathBuf};

/// Whether it runs this system (`sd_booted(3)`).
#[must_use]
pub fn runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn systemctl(arguments: &[&str]) -> Result<String, Problem> {
    command::run(&program()?, arguments, Code::SETUP_SYSTEMD)
}

fn program() -> Result<PathBuf, Problem> {
    command::find("systemctl").ok_or_else(|| {
        let what = "systemd runs this system, and its systemctl is not there";
        Problem::new(Code::SETUP_SYSTEMD, "systemctl", what, "reinstall systemd")
    })
}

/// One property of a unit.
fn property(unit: &str, name: &str) -> Result<String, Problem> {
    Ok(systemctl(&["show", "--property", name, "--value", "--", unit])?.trim().to_owned())
}

/// Has systemd read its units.
pub fn reload() -> Result<(), Problem> {
    systemctl(&["daemon-reload"]).map(drop)
}

/// Whether what systemd has of these units is older than their files.
pub fn look_reloaded<'a>(units: impl Iterator<Item = &'a str>) -> Result<Look, Problem> {
    for unit in units.filter(|u| !u.contains('@')) {
        // Not loaded as its file: it was never read, or another file hides ours.
        if property(unit, "NeedDaemonReload")? != "no" || property(unit, "LoadState")? != "loaded" {
            return Ok(Look::Todo("read anew by systemd".into()));
        }
    }
    Ok(Look::Done)
}

/// Whether a unit starts with the machine and runs now.
pub fn look_enabled(unit: &str) -> Result<Look, Problem> {
    let state = (property(unit, "UnitFileState")?, property(unit, "ActiveState")?);
    Ok(match (state.0.as_str(), state.1.as_str()) {
        ("enabled", "active") => Look::Done,
        _ => Look::Todo("started, now and with the machine".into()),
    })
}

pub fn enable(unit: &str) -> Result<(), Problem> {
    systemctl(&["enable", "--quiet", "--now", "--", unit]).map(drop)
}

/// The gateway's main process, if it runs.
pub fn gateway() -> Result<Option<u32>, Problem> {
    Ok(property(GATEWAY, "MainPID")?.parse().ok().filter(|pid| *pid != 0))
}

pub fn start_gateway() -> Result<(), Problem> {
    systemctl(&["start", "--", GATEWAY]).map(drop)
}

pub fn restart_gateway() -> Result<(), Problem> {
    systemctl(&["restart", "--", GATEWAY]).map(drop)
}

/// Has the gateway end when no session is left.
pub fn retire_gateway() -> Result<(), Problem> {
    systemctl(&["reload", "--", GATEWAY]).map(drop)
}

/// Whether none of rcc's units runs or is enabled.
pub fn look_stopped() -> Result<Look, Problem> {
    for unit in ENABLED.into_iter().chain([GATEWAY, "rcc-firewall-apply.service"]) {
        let (active, file) = (property(unit, "ActiveState")?, property(unit, "UnitFileState")?);
        if !matches!(active.as_str(), "inactive" | "failed") || matches!(file.as_str(), "enabled" | "enabled-runtime") {
            return Ok(Look::Todo("stopped, sessions with it, and not started again".into()));
        }
    }
    Ok(Look::Done)
}

pub fn stop() -> Result<(), Problem> {
    // The sockets first: else somebody's call starts what was just stopped.
    let order = [
        "rcc-gateway.socket",
        "rcc-status.socket",
        "rcc-firewall.path",
        "rcc-firewall.timer",
        GATEWAY,
        "rcc-firewall-apply.service",
        "rcc-firewall.service",
    ];
    let mut first = Ok(());
    for unit in order {
        if property(unit, "LoadState")? == "not-found" {
            continue;
        }
        let stopped = systemctl(&["stop", "--", unit]).map(drop);
        let disabled =
            if ENABLED.contains(&unit) { systemctl(&["disable", "--quiet", "--", unit]).map(drop) } else { Ok(()) };
        first = first.and(stopped).and(disabled);
    }
    first
}

/// Whether systemd still has units whose files are gone.
pub fn look_forgotten<'a>(units: impl Iterator<Item = &'a str>) -> Result<Look, Problem> {
    for unit in units.filter(|u| !u.contains('@')) {
        if property(unit, "LoadState")? != "not-found" {
            return Ok(Look::Todo("forgotten".into()));
        }
    }
    Ok(Look::Done)
}
