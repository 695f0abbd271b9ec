//! Installs the real agent into a folder and prints its program's path: for tests (`cargo xtask agent`).

use rcc_launch::agent;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: install-agent DIR");
        return ExitCode::from(rcc_report::EXIT_USAGE);
    };
    let home = std::env::home_dir().unwrap_or_default();
    match agent::pin().and_then(|pin| agent::install(pin, &folder, &home, &mut |progress| eprintln!("{progress}"))) {
        Ok(agent) => {
            println!("{}", agent.binary.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(rcc_report::EXIT_REFUSED)
        }
    }
}
