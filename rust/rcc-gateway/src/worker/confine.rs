//! What a worker, or a reader of the log, gives up before it reads anything: dumps, resources, files, and what it may ask of
//! the kernel.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

/// Which files can be opened.
#[cfg(target_os = "linux")]
pub mod files;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::*;
