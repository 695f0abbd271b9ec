//! Setting up and taking away on a Mac: accounts by the directory service, daemons by launchd, pf by rcc's own firewall
//! program.
//!
//! What is done is a list of steps over a [`Mac`], which runs Apple's programs and keeps files. Everything else here is pure,
//! and compiled and tested on every system: the steps run there against a model of a Mac, and are cut off at each call.

mod accounts;
mod daemons;
mod launchd;
#[cfg(test)]
mod model;
mod plist;
mod processes;
mod steps;
mod system;
#[cfg(test)]
mod tests;

pub use accounts::{anothers, declared};
pub use daemons::{all as daemons, enabled};
pub use steps::{Request, install, place, prove, sessions_of_before, uninstall, unlinked, unmanaged};
pub use system::System;

use rcc_report::{Code, Problem};

/// A call of one of the system's programs, by its absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Call {
    fn new(program: &str, arguments: &[&str]) -> Self {
        Self { program: program.to_owned(), arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
    }
}

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What it ended with.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A file or folder that setup keeps: where, whose, how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub folder: &'static str,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// Its permission bits.
    pub mode: u32,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file of this owner and mode, with these bytes.
    File(Vec<u8>),
    /// A link of root's, and where it leads.
    Link(String),
    /// A folder of this owner and mode.
    Folder,
    /// Something else: of another owner, mode or kind.
    Other,
}

/// A Mac: the one place through which this module acts.
pub trait Mac {
    /// Runs a program for what it says; an error if it can't be run.
    fn run(&self, call: &Call) -> Result<Said, Problem>;
    /// What there is.
    fn found(&self, place: Place, name: &str) -> Result<Found, Problem>;
    /// Puts a file there, in place of what had its name.
    fn write(&self, place: Place, name: &str, bytes: &[u8]) -> Result<(), Problem>;
    /// Puts a link there.
    fn link(&self, place: Place, name: &str, target: &str) -> Result<(), Problem>;
    /// Makes a folder, or gives the one that is there, with its plain files.
    fn make(&self, place: Place, name: &str) -> Result<(), Problem>;
    /// Removes a file, a link or a whole folder; its name may have one folder's before it.
    fn remove(&self, place: Place, name: &str) -> Result<(), Problem>;
    /// The names in a folder; none if it is not there.
    fn names(&self, folder: &str) -> Result<Vec<String>, Problem>;
    /// A file's bytes, whoever has it and whatever its mode; nothing if it is not there.
    fn bytes(&self, folder: &str, name: &str) -> Result<Option<Vec<u8>>, Problem>;
    /// Whether others than root can write a folder that is there, or change where its path leads.
    fn is_anothers(&self, folder: &str) -> bool;
    /// Whether somebody listens on a socket.
    fn listens(&self, socket: &str) -> bool;
    /// Lets some time pass: a tenth of a second.
    fn wait(&self);
}

/// Runs a program that must end well.
fn done(mac: &dyn Mac, call: &Call, code: Code) -> Result<Said, Problem> {
    let said = mac.run(call)?;
    if said.code == 0 { Ok(said) } else { Err(failed(call, &said, code)) }
}

fn failed(call: &Call, said: &Said, code: Code) -> Problem {
    let words: Vec<&str> = said.err.lines().chain(said.out.lines()).filter(|l| !l.trim().is_empty()).take(4).collect();
    let line = format!("sudo {} {}", call.program, call.arguments.join(" "));
    let remedy = match said.code {
        // eDSPermissionError, modulo 256: macOS lets only what has Full Disk Access change accounts (TCC).
        40 if call.program == accounts::DSCL => format!(
            "run it in Terminal with Full Disk Access (System Settings, Privacy & Security; over ssh: Sharing, Remote Login, Allow full disk access): {line}"
        ),
        _ => format!("run it by hand: {line}"),
    };
    Problem::new(code, call.program.clone(), format!("it ended with {}: {}", said.code, words.join(" | ")), remedy)
}
