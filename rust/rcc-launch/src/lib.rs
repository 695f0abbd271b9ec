//! Launching a session: request → container spec → argv (pure) → Podman, and the OCI hook that builds the walls.

pub mod added;
pub mod agent;
pub mod beneath;
pub mod cgroup;
pub mod folder;
pub mod freeze;
pub mod gateway;
pub mod home;
pub mod hook;
pub mod init;
pub mod inside;
pub mod key;
pub mod machine;
pub mod mountinfo;
pub mod packet;
pub mod personal;
pub mod podman;
pub mod process;
pub mod project;
pub mod protect;
pub mod rootfs;
pub mod seccomp;
pub mod session;
pub mod spec;
pub mod terminal;
pub mod toolchain;
