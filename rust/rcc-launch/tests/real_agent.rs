//! The pinned package as the machine's npm delivers it. Kept in the folder that `cargo xtask test` names, so that it
//! is fetched once.

#![cfg(target_os = "linux")]

use rcc_launch::agent;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    // Without `cargo xtask test`, beside cargo's own folder for tests.
    let beside = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("agents");
    std::env::var_os("RCC_TEST_AGENTS").map_or_else(beside, PathBuf::from)
}

#[test]
fn the_pinned_claude_code_installs_and_runs() {
    let (pin, person) = (agent::pin().unwrap(), std::env::home_dir().unwrap());
    let agent = agent::install(pin, &folder(), &person, &mut |progress| eprintln!("{progress}")).unwrap();
    assert_eq!(agent::installed(&folder(), pin).unwrap().as_ref(), Some(&agent));
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(&agent.binary);
    command.arg("--version").env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert_eq!(said.split_whitespace().next(), Some(agent.version.as_str()), "{said}");
}
