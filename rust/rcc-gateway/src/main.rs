//! `rcc-gateway serve` is the supervisor; `rcc-gateway worker …` is what it starts for each session,
//! `rcc-gateway log …` for each person who reads the log.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "serve"] => match rcc_gateway::supervisor::serve() {
            Ok(never) => match never {},
            Err(problem) => {
                eprintln!("{problem}");
                ExitCode::from(rcc_report::EXIT_REFUSED)
            }
        },
        // The uid is there for people who look at the list of processes.
        [_, "worker", supervisor, session, _uid] => rcc_gateway::worker::main(supervisor, session),
        [_, "log", supervisor, uid] => rcc_gateway::reader::main(supervisor, uid),
        [_, "--version"] => {
            println!("rcc-gateway {} (protocol {})", env!("CARGO_PKG_VERSION"), rcc_proto::VERSION);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: rcc-gateway serve | --version");
            ExitCode::from(rcc_report::EXIT_USAGE)
        }
    }
}
