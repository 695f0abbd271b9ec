//! The `rcc` command. Flags become a validated request before anything happens; problems are printed and mapped to an
//! exit code here and nowhere else.

#[cfg(target_os = "linux")]
mod along;
#[cfg(target_os = "linux")]
mod approval;
mod commands;
mod ending;
mod explain;
#[cfg(target_os = "linux")]
mod habits;
#[cfg(target_os = "macos")]
mod mac;
#[cfg(target_os = "linux")]
mod prepare;
mod root_policy;

use clap::{Parser, Subcommand};
use rcc_report::{EXIT_REFUSED, Problem};
use std::process::ExitCode;

/// Runs AI coding agents at full speed without trusting them: the agent can change one project, reach the hosts that a
/// policy names, and can loosen neither.
#[derive(Parser)]
#[command(name = "rcc", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  the agent's own, or 128 + N when signal N ended it
  2    the command line is wrong
  124  rcc ended the session: the gateway went away, or a protected file appeared
  125  nothing was started; the problem has a code RCC-NNN and a remedy
  126  the program inside can't be run        127  it was not found inside
  rcc check has its own: see rcc check --help";

#[derive(Subcommand)]
enum Command {
    #[cfg(target_os = "macos")]
    Claude(mac::session::ClaudeArgs),
    #[cfg(target_os = "macos")]
    Shell(mac::session::ShellArgs),
    #[cfg(target_os = "macos")]
    Run(mac::session::RunArgs),
    #[cfg(target_os = "macos")]
    Machine(mac::machine::MachineArgs),
    #[cfg(target_os = "macos")]
    Plan(mac::session::InsideArgs),
    #[cfg(target_os = "macos")]
    Agent(mac::session::InsideArgs),
    #[cfg(target_os = "macos")]
    Toolchain(mac::session::InsideArgs),
    #[cfg(target_os = "macos")]
    Home(mac::session::InsideArgs),
    #[cfg(target_os = "macos")]
    Worktree(mac::session::InsideArgs),
    #[cfg(target_os = "macos")]
    Allow(mac::session::InsideArgs),
    #[cfg(target_os = "macos")]
    Deny(mac::session::InsideArgs),
    #[cfg(target_os = "linux")]
    Claude(commands::claude::ClaudeArgs),
    #[cfg(target_os = "linux")]
    Shell(commands::shell::ShellArgs),
    #[cfg(target_os = "linux")]
    Run(commands::run::RunArgs),
    #[cfg(target_os = "linux")]
    Plan(commands::plan::PlanArgs),
    Policy(commands::policy::PolicyArgs),
    Check(commands::check::CheckArgs),
    #[cfg(target_os = "linux")]
    Agent(commands::agent::AgentArgs),
    Login(commands::login::LoginArgs),
    Logout(commands::logout::LogoutArgs),
    #[cfg(target_os = "linux")]
    Toolchain(commands::toolchain::ToolchainArgs),
    #[cfg(target_os = "linux")]
    Home(commands::home::HomeArgs),
    #[cfg(target_os = "linux")]
    Worktree(commands::worktree::WorktreeArgs),
    #[cfg(target_os = "linux")]
    Allow(commands::allow::AllowArgs),
    #[cfg(target_os = "linux")]
    Deny(commands::deny::DenyArgs),
    Log(commands::log::LogArgs),
    Status(commands::status::StatusArgs),
    Setup(commands::setup::SetupArgs),
    Uninstall(commands::setup::UninstallArgs),
    Why(commands::why::WhyArgs),
}

/// Where a Mac's grants are, until a session there can be told of more.
#[cfg(target_os = "macos")]
const GRANTS_FILE: &str = "write it into ~/.config/rcc/grants.toml, for the next session";

/// What a command ended with; more than one problem where a file has several.
type Done = Result<u8, Vec<Problem>>;

fn main() -> ExitCode {
    // A key passes through this process: no other of the same user may read its memory.
    if let Err(error) = rcc_launch::process::close_to_others() {
        eprintln!("rcc: prctl: {error}");
        return ExitCode::from(EXIT_REFUSED);
    }
    let done = match Arguments::parse().command {
        #[cfg(target_os = "macos")]
        Command::Claude(args) => mac::session::claude(args),
        #[cfg(target_os = "macos")]
        Command::Shell(args) => mac::session::shell(&args),
        #[cfg(target_os = "macos")]
        Command::Run(args) => mac::session::run(args),
        #[cfg(target_os = "macos")]
        Command::Machine(args) => mac::machine::run(&args),
        #[cfg(target_os = "macos")]
        Command::Plan(args) => mac::session::inside("plan", args),
        #[cfg(target_os = "macos")]
        Command::Agent(args) => mac::session::inside("agent", args),
        #[cfg(target_os = "macos")]
        Command::Toolchain(args) => mac::session::inside("toolchain", args),
        #[cfg(target_os = "macos")]
        Command::Home(args) => mac::session::inside("home", args),
        #[cfg(target_os = "macos")]
        Command::Worktree(args) => mac::session::inside("worktree", args),
        #[cfg(target_os = "macos")]
        Command::Allow(_) => mac::session::refuse("allow", GRANTS_FILE),
        #[cfg(target_os = "macos")]
        Command::Deny(_) => mac::session::refuse("deny", GRANTS_FILE),
        #[cfg(target_os = "linux")]
        Command::Claude(args) => commands::claude::run(args),
        #[cfg(target_os = "linux")]
        Command::Shell(args) => commands::shell::run(&args),
        #[cfg(target_os = "linux")]
        Command::Run(args) => commands::run::run(args),
        #[cfg(target_os = "linux")]
        Command::Plan(args) => commands::plan::run(args),
        Command::Policy(args) => commands::policy::run(&args),
        Command::Check(args) => commands::check::run(&args),
        #[cfg(target_os = "linux")]
        Command::Agent(args) => commands::agent::run(args),
        Command::Login(args) => commands::login::run(&args),
        Command::Logout(args) => commands::logout::run(&args),
        #[cfg(target_os = "linux")]
        Command::Toolchain(args) => commands::toolchain::run(&args),
        #[cfg(target_os = "linux")]
        Command::Home(args) => commands::home::run(&args),
        #[cfg(target_os = "linux")]
        Command::Worktree(args) => commands::worktree::run(&args),
        #[cfg(target_os = "linux")]
        Command::Allow(args) => commands::allow::run(&args),
        #[cfg(target_os = "linux")]
        Command::Deny(args) => commands::deny::run(&args),
        Command::Log(args) => commands::log::run(&args),
        Command::Status(args) => Ok(commands::status::run(&args)),
        Command::Setup(args) => commands::setup::set_up(&args),
        Command::Uninstall(args) => commands::setup::uninstall(&args),
        Command::Why(args) => commands::why::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(problems) => {
            say(&problems);
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

/// Tells a person; standard output is for data.
fn say(problems: &[Problem]) {
    for problem in problems {
        eprintln!("rcc: {problem}");
    }
}
