//! `rcc machine`: the agents' virtual machine.

use crate::Done;
use clap::{Args, Subcommand};
use rcc_launch::machine::{self, Person, only_root_writes};
use rcc_launch::podman_machine::host::{Host, memory_and_cpus};
use rcc_launch::podman_machine::record::State;
use rcc_launch::podman_machine::{Places, Size};
use rcc_proto::macos::{PODMAN, PROGRAMS};
use rcc_report::{Code, Problem};
use std::path::{Path, PathBuf};

/// Apple's own.
const SSH: &str = "/usr/bin/ssh";

/// The agents' virtual machine: what it is, and ending it. It is made and started by the first session.
#[derive(Args)]
pub struct MachineArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Tell whether it runs, and which folders it sees.
    Status,
    /// Stop it. Refused while sessions run in it.
    Stop,
    /// Take a folder from those that it sees; it is stopped for that.
    Forget {
        /// The folder.
        folder: PathBuf,
    },
    /// Take it away with all that is in it: agents' homes, images, toolchains. Projects are not in it.
    Remove,
}

pub fn run(args: &MachineArgs) -> Done {
    let host = host(&machine::person().map_err(one)?).map_err(one)?;
    let said = match &args.what {
        What::Status => return status(&host).map_err(one),
        What::Stop => host.stop().map(|did| if did { "stopped" } else { "it did not run" }),
        What::Forget { folder } => {
            let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            host.forget(&folder)
                .map(|did| if did { "it does not see that folder any more" } else { "it did not see it" })
        }
        What::Remove => host.remove().map(|did| if did { "removed" } else { "there is none" }),
    };
    println!("{}", said.map_err(one)?);
    Ok(0)
}

fn status(host: &Host) -> Result<u8, Problem> {
    let state = host.state()?;
    let text = match state {
        None => "there is none; the first session makes it",
        Some(State::Running) => "it runs",
        Some(State::Stopped) => "it is stopped",
        Some(State::Between) => "it is starting or stopping",
    };
    println!("{text}");
    if state.is_some() {
        for folder in host.record()?.folders()? {
            println!("sees {}", rcc_report::escaped(&folder.display().to_string()));
        }
    }
    Ok(0)
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

/// The machine of this person.
pub fn host(person: &Person) -> Result<Host, Problem> {
    let absent = |what: &str| Problem::new(Code::MACHINE_PODMAN, "podman", what, "rcc check    (says what to install)");
    let podman = PODMAN
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .ok_or_else(|| absent("it is in none of the folders where its installer and Homebrew put it"))?;
    let programs = Path::new(PROGRAMS).join(env!("CARGO_PKG_VERSION"));
    // What carries the machine's traffic is root's, or pf's rule for its group means nothing.
    only_root_writes(&programs).map_err(|place| {
        let what = format!("{} is not there, or others than root can write it", place.display());
        Problem::new(Code::SHIM_TARGET, programs.display().to_string(), what, rcc_preflight::probe::setup_command())
    })?;
    let (memory, cpus) = memory_and_cpus();
    Ok(Host {
        places: Places::of(&person.home)?,
        home: person.home.clone(),
        podman,
        ssh: SSH.into(),
        programs,
        version: env!("CARGO_PKG_VERSION"),
        size: Size::half_of(cpus, memory),
        read: |path| rcc_host::trusted::read(path),
    })
}
