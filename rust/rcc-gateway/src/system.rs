//! What Linux and macOS say differently, each in a file of its own: kinds of sockets, who a peer is, waiting, what the
//! supervisor gives up. What a worker gives up is [`crate::worker::confine`]'s.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::*;
