//! `cargo xtask COMMAND`: what developers and CI do with this workspace.
//!
//! One file a subcommand, with its `Args` and its `run`. Nothing here is part of the product, and nothing here writes
//! outside the checkout's target folder, the distribution's package database and temporary folders of its own.

mod actionlint;
mod agent;
mod bench;
mod check;
mod daily;
mod darwin;
mod demo;
mod faults;
mod fuzz;
mod mounts;
mod nix;
mod prerequisites;
mod product;
mod steps;
mod test;
mod tools;
mod trees;
mod vm;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of the rcc workspace", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, then check, build and test everything: the one test command.
    Test(test::Args),
    /// The main job on a fresh machine: install, build, and run the real agent isolated.
    Demo(demo::Args),
    /// Format, lints, documentation and dependencies; no tests.
    Check(check::Args),
    /// Install the distribution's packages that running, testing or measuring rcc needs.
    Prerequisites(prerequisites::Args),
    /// Measure rcc beside what a user would run without it, as ratios.
    Bench(bench::Args),
    /// A day's work in a session, as tables: what works, and what is refused with which line.
    Daily(daily::Args),
    /// Feed what reads strangers' bytes with any bytes, guided by the code that they reach.
    Fuzz(fuzz::Args),
    /// Kill apply, setup and uninstall at every system call that changes something.
    Faults(faults::Args),
    /// Show rcc on other releases of Debian, in clean trees.
    Trees(trees::Args),
    /// Show the flake by real Nix, offline: 2.8, 2.26 and 2.34.
    Nix(nix::Args),
    /// Show setup, reboot, power cuts and uninstall in a virtual machine.
    Vm(vm::Args),
    /// Check and link the product for macOS, on Linux.
    Darwin(darwin::Args),
    /// Put the real agent into a folder, for tests.
    #[command(hide = true)]
    Agent(agent::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Prerequisites(args) => prerequisites::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Daily(args) => daily::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::Trees(args) => trees::run(&args),
        Command::Nix(args) => nix::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Darwin(args) => darwin::run(&args),
        Command::Agent(args) => agent::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
