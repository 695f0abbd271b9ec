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
