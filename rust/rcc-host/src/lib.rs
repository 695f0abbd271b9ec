//! What this machine is, read by more than one part of rcc: its addresses and links, its resolvers and how they are asked,
//! its users, files of which only root is the author, and how its processes talk. Nothing here changes anything.

pub mod accounts;
pub mod dns;
pub mod macos;
pub mod net;
pub mod packets;
pub mod resolv_conf;
pub mod seatbelt;
pub mod trusted;

#[cfg(target_os = "linux")]
mod tables;
#[cfg(target_os = "linux")]
pub use tables::net;
#[cfg(target_os = "macos")]
mod interfaces;
#[cfg(target_os = "macos")]
pub use interfaces::net;

use std::io;
use std::path::PathBuf;

/// The place of this very program, with links resolved: what lies beside it is of its version. macOS gives the name that it
/// was called by, which may be Homebrew's link to it.
pub fn this_program() -> io::Result<PathBuf> {
    let named = std::env::current_exe()?;
    // Linux's is resolved by the kernel, and may be gone since.
    if cfg!(target_os = "linux") { Ok(named) } else { std::fs::canonicalize(named) }
}
