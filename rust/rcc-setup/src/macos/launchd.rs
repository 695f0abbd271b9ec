//! launchd, by `launchctl`.

use super::daemons::{Daemon, FOLDER};
use super::{Call, Mac, done, failed};
use crate::step::Look;
use rcc_host::macos::{Job, job};
use rcc_report::{Code, Problem};

const LAUNCHCTL: &str = "/bin/launchctl";
/// What launchctl ends with when launchd has no such job ("Could not find service").
const NO_SUCH: i32 = 113;
/// How often a job is looked at that is to come up or to go, a tenth of a second between.
const PATIENCE: usize = 100;

fn target(label: &str) -> String {
    format!("system/{label}")
}

/// The job, if it is loaded.
fn loaded(mac: &dyn Mac, label: &str) -> Result<Option<Job>, Problem> {
    let call = Call::new(LAUNCHCTL, &["print", &target(label)]);
    let said = mac.run(&call)?;
    match said.code {
        0 => Ok(Some(job(&said.out))),
        NO_SUCH => Ok(None),
        _ => Err(failed(&call, &said, Code::SETUP_LAUNCHD)),
    }
}

/// Whether launchd has this daemon as its file is now, and runs it.
pub fn look(mac: &dyn Mac, daemon: &Daemon) -> Result<Look, Problem> {
    Ok(match loaded(mac, daemon.label)? {
        None => Look::Todo("loaded, now and with each start".into()),
        Some(job) if !is(&job, daemon) => Look::Todo("loaded anew".into()),
        Some(job) if daemon.stays && !job.running => Look::Todo("started".into()),
        Some(_) => Look::Done,
    })
}

/// Whether a job is of this file: by what stands in its environment, since launchd shows little else of it.
fn is(job: &Job, daemon: &Daemon) -> bool {
    job.environment.get(super::daemons::UNIT) == Some(&daemon.unit)
        && job.path.as_deref() == Some(std::path::Path::new(FOLDER).join(daemon.file()).as_path())
}

pub fn load(mac: &dyn Mac, daemon: &Daemon) -> Result<(), Problem> {
    match loaded(mac, daemon.label)? {
        Some(job) if is(&job, daemon) => {
            done(mac, &Call::new(LAUNCHCTL, &["kickstart", &target(daemon.label)]), Code::SETUP_LAUNCHD)?;
        }
        found => {
            if found.is_some() {
                unload(mac, daemon.label)?;
            }
            // `launchctl disable` outlives a reinstallation.
            done(mac, &Call::new(LAUNCHCTL, &["enable", &target(daemon.label)]), Code::SETUP_LAUNCHD)?;
            let file = format!("{FOLDER}/{}", daemon.file());
            done(mac, &Call::new(LAUNCHCTL, &["bootstrap", "system", &file]), Code::SETUP_LAUNCHD)?;
        }
    }
    // It comes up by itself, and may take a moment.
    for _ in 0..PATIENCE {
        if look(mac, daemon)? == Look::Done {
            return Ok(());
        }
        mac.wait();
    }
    Ok(())
}

pub fn look_gone(mac: &dyn Mac, label: &str) -> Result<Look, Problem> {
    Ok(if loaded(mac, label)?.is_some() { Look::Todo("ended, and not started again".into()) } else { Look::Done })
}

/// Ends it, and waits until it is gone: launchctl may return before.
pub fn unload(mac: &dyn Mac, label: &str) -> Result<(), Problem> {
    let call = Call::new(LAUNCHCTL, &["bootout", &target(label)]);
    let said = mac.run(&call)?;
    for _ in 0..PATIENCE {
        if loaded(mac, label)?.is_none() {
            return Ok(());
        }
        mac.wait();
    }
    Err(failed(&call, &said, Code::SETUP_LAUNCHD))
}
