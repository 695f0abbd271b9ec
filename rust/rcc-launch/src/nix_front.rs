//! `nix` and its like as the agent finds them first: one sentence that says that Nix does not run inside. A help, not a
//! wall: the store inside is read-only and has no database, and the host's daemon is out of reach by any name.

use rcc_report::{Code, Problem};

/// The names by which this program is one of them.
pub const NAMES: &[&str] = &[
    "nix",
    "nix-build",
    "nix-channel",
    "nix-collect-garbage",
    "nix-env",
    "nix-instantiate",
    "nix-prefetch-url",
    "nix-shell",
    "nix-store",
];

/// Says so; gives the exit code of a program that is not there.
#[must_use]
pub fn run(name: &str) -> u8 {
    let what = "Nix does not run inside: the store there is the approved toolchain alone, and read-only";
    let remedy = "use it outside; what the agent is to have belongs into the flake's devShell: rcc toolchain approve";
    eprintln!("rcc: {}", Problem::new(Code::TOOLCHAIN_NO_NIX, name, what, remedy));
    127
}
