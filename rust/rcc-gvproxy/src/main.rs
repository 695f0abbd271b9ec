//! What Podman's machine on a Mac starts as gvproxy: root's program with the bit of the group `_rccnet`, by which pf knows what
//! it sends. It checks what it was told, closes what pf can't see (`profile`), and becomes the pinned gvproxy beside it.
//!
//! Invariants: a process that goes on has the group as its real, effective and saved one, so that nothing it runs can leave it;
//! nothing of the caller's environment or descriptors reaches it; what it becomes, and every folder above, is root's alone.
//! Anybody may call it: the group is a fetter, not a right.
//!
//! Nothing of it has run on a Mac yet (docs/macos.md).

#[cfg(any(target_os = "macos", test))]
mod arguments;
#[cfg(any(target_os = "macos", test))]
mod group;
#[cfg(target_os = "macos")]
mod into;
#[cfg(any(target_os = "macos", test))]
mod probe;
#[cfg(any(target_os = "macos", test))]
mod profile;

use std::process::ExitCode;

#[cfg(target_os = "macos")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match into::run(&arguments) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("gvproxy: {problem}");
            ExitCode::from(rcc_report::EXIT_REFUSED)
        }
    }
}

#[cfg(not(target_os = "macos"))]
fn main() -> ExitCode {
    eprintln!("gvproxy: this is rcc's, for a Mac alone");
    ExitCode::from(rcc_report::EXIT_REFUSED)
}
