//! Launching a session: request → container spec → argv (pure) → Podman, and the OCI hook that builds the walls.
//!
//! Sessions are Linux's. On a Mac they run in the agents' own virtual machine, by the Linux build of this crate; a Mac
//! compiles of it what the person's side needs: the gateway's conversation, keys, grants and the log.

pub mod added;
pub mod beneath;
pub mod firewall;
pub mod gateway;
pub mod grants;
mod hex;
pub mod key;
pub mod log;
pub mod machine;
pub mod mountinfo;
pub mod own;
pub mod packet;
pub mod personal;
pub mod podman_machine;
pub mod process;
pub mod project;
pub mod terminal;

// What a session is made of: namespaces, mounts, Podman, and watching over the project.
#[cfg(target_os = "linux")]
pub mod agent;
#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(target_os = "linux")]
pub mod control;
#[cfg(target_os = "linux")]
pub mod engine_front;
#[cfg(target_os = "linux")]
pub mod flake;
#[cfg(target_os = "linux")]
pub mod folder;
#[cfg(target_os = "linux")]
pub mod freeze;
#[cfg(target_os = "linux")]
pub mod git_front;
#[cfg(target_os = "linux")]
pub mod git_index;
#[cfg(target_os = "linux")]
pub mod gitconfig;
#[cfg(target_os = "linux")]
pub mod gitlinks;
#[cfg(target_os = "linux")]
pub mod grown;
#[cfg(target_os = "linux")]
pub mod home;
#[cfg(target_os = "linux")]
pub mod homes;
#[cfg(target_os = "linux")]
pub mod hook;
#[cfg(target_os = "linux")]
pub mod init;
#[cfg(target_os = "linux")]
pub mod inside;
#[cfg(target_os = "linux")]
pub mod leftovers;
#[cfg(target_os = "linux")]
pub mod nix_front;
#[cfg(target_os = "linux")]
pub mod notice;
#[cfg(target_os = "linux")]
pub mod podman;
#[cfg(target_os = "linux")]
pub mod protect;
#[cfg(target_os = "linux")]
pub mod registries;
#[cfg(target_os = "linux")]
pub mod rootfs;
#[cfg(target_os = "linux")]
pub mod seccomp;
#[cfg(target_os = "linux")]
pub mod session;
#[cfg(target_os = "linux")]
pub mod spec;
mod spelling;
#[cfg(target_os = "linux")]
pub mod ticket;
#[cfg(target_os = "linux")]
pub mod toolchain;
#[cfg(target_os = "linux")]
pub mod worktree;
