//! One file a subcommand: its arguments, and `run`.

pub mod agent;
pub mod allow;
pub mod check;
pub mod claude;
pub mod deny;
pub mod home;
pub mod log;
pub mod login;
pub mod logout;
pub mod plan;
pub mod policy;
pub mod run;
pub mod setup;
pub mod shell;
pub mod status;
pub mod toolchain;
pub mod why;
pub mod worktree;
