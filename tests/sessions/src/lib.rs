//! What the system tests of sessions share: a session under way and its processes, and everything that sessions could
//! leave on a machine.
//!
//! Each test runs as root of a world of its own, with rcc set up in it as on a real machine; sessions are those of an
//! ordinary user there.

pub mod daily;
pub mod fake;
pub mod fresh;
pub mod killed;
pub mod nix;
mod processes;
mod pty;
mod session;
pub mod store;
mod tmux;
mod tools;
mod traces;

pub use processes::{Process, processes};
pub use pty::Pty;
pub use session::{Live, Part, agent, part};
pub use tmux::Tmux;
pub use tools::rustup;
pub use traces::Traces;

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, USER, shown};
use rcc_world::Setup;
use std::process::{Command, Output};

/// The world of each test: a user, and no record of packets, of which nothing here speaks.
pub const SETUP: Setup = Setup { user: Some(USER), as_user: false, private_tmp: false, no_wire: true, outside: false };

/// The exit code of a start that was refused.
pub const REFUSED: i32 = rcc_report::EXIT_REFUSED as i32;

/// Runs a command and demands that it was refused with `code`, a hint, and nothing on standard output; gives what was said.
pub fn refused(mut command: Command, code: &str) -> Result<String> {
    let output = command.output().context("starting rcc")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(REFUSED), "not refused by exit {REFUSED}, but {}", shown(&output));
    ensure!(said.contains(&format!("rcc: {code}: ")), "not {code}: {}", shown(&output));
    ensure!(said.contains("hint: "), "no remedy: {}", shown(&output));
    ensure!(output.stdout.is_empty(), "something ran: {}", shown(&output));
    Ok(said)
}

/// Demands that a command ended with 0; gives its standard output.
pub fn succeeds(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}", shown(output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A script in a session that must end with 0; gives its standard output.
pub fn inside(rig: &Rig<'_>, script: &str) -> Result<String> {
    succeeds(&rig.inside(script)?)
}

/// Root's shell in the world, outside of any session.
pub fn root(script: &str) -> Result<String> {
    let output = Command::new("/bin/bash").args(["-euc", script]).output()?;
    succeeds(&output).with_context(|| script.to_owned())
}

/// The user's shell in the world, outside of any session.
pub fn user(rig: &Rig<'_>, script: &str) -> Result<String> {
    let output = rig.command("/bin/bash").args(["-euc", script]).output()?;
    succeeds(&output).with_context(|| script.to_owned())
}
