//! `rcc setup` and `rcc uninstall`: root's program does them, the `rcc-setup` that lies beside this one. Nothing of it is in
//! here: what a person runs each day holds no code that sets up or takes away.

use crate::Done;
use clap::Args;
use rcc_report::{Code, Problem};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set rcc up on this machine, as root: system user, programs, policy, host firewall, gateway. `--help` has its options.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct SetupArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<OsString>,
}

/// Take everything away that `rcc setup` made, as root; policy and log stay. `--help` has its options.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct UninstallArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<OsString>,
}

pub fn set_up(args: &SetupArgs) -> Done {
    become_setup("install", &args.arguments)
}

pub fn uninstall(args: &UninstallArgs) -> Done {
    become_setup("uninstall", &args.arguments)
}

fn become_setup(what: &str, arguments: &[OsString]) -> Done {
    let here = rcc_host::this_program().unwrap_or_default();
    let program = here.with_file_name("rcc-setup");
    let error = Command::new(&program).arg(what).args(arguments).exec();
    let remedy = "cargo build as README.md says builds all of rcc's programs into one folder";
    Err(vec![Problem::new(Code::SETUP_ABSENT, program.display().to_string(), error.to_string(), remedy)])
}
