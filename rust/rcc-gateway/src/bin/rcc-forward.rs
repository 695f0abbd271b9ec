//! `rcc-forward GATEWAY`, in a virtual machine: stands where the gateway does, and passes everything on to the one on the host,
//! at `ADDRESS:PORT` or `vsock:CID:PORT`. `rcc-forward session …` is what it starts for each session.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("rcc-forward runs where agents do, on Linux alone; on a Mac that is the virtual machine");
    std::process::ExitCode::from(rcc_report::EXIT_REFUSED)
}

#[cfg(target_os = "linux")]
mod linux {
    use rcc_gateway::forward::{self, Gateway};
    use std::process::ExitCode;

    pub fn main() -> ExitCode {
        let args: Vec<String> = std::env::args().collect();
        match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [_, "session", supervisor, gateway] => forward::session::main(supervisor, gateway),
            [_, "--version"] => {
                println!("rcc-forward {} (protocol {})", env!("CARGO_PKG_VERSION"), rcc_proto::VERSION);
                ExitCode::SUCCESS
            }
            [_, gateway] if gateway.parse::<Gateway>().is_ok() => match forward::serve(gateway) {
                Ok(never) => match never {},
                Err(problem) => {
                    eprintln!("{problem}");
                    ExitCode::from(rcc_report::EXIT_REFUSED)
                }
            },
            _ => {
                eprintln!("usage: rcc-forward ADDRESS:PORT | vsock:CID:PORT | --version");
                ExitCode::from(rcc_report::EXIT_USAGE)
            }
        }
    }
}
