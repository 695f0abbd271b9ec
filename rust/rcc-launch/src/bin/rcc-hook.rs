//! The small static program that goes along with a session: `rcc-hook hook SOCKET` is the OCI hook, `rcc-hook init
//! PROCESSES CMD…` the container's first process; called `git`, `docker` or `nix` it stands before these in the container. Not for people.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("rcc-hook goes along with a session, which runs on Linux alone; on a Mac that is the virtual machine");
    std::process::ExitCode::from(rcc_report::EXIT_REFUSED)
}

#[cfg(target_os = "linux")]
mod linux {
    use rcc_launch::{engine_front, git_front, nix_front};
    use std::ffi::{CString, OsString};
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;
    use std::process::ExitCode;

    pub fn main() -> ExitCode {
        let mut arguments = std::env::args_os();
        let name = arguments.next();
        let name =
            name.as_deref().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        if name == git_front::NAME {
            return ExitCode::from(git_front::run(&arguments.collect::<Vec<_>>()));
        }
        if engine_front::NAMES.contains(&name) {
            return ExitCode::from(engine_front::run(name));
        }
        if nix_front::NAMES.contains(&name) {
            return ExitCode::from(nix_front::run(name));
        }
        match arguments.next().as_ref().and_then(|a| a.to_str()) {
            Some("hook") => match arguments.next() {
                Some(socket) => hook(Path::new(&socket)),
                None => usage(),
            },
            Some("init") => match arguments.next().and_then(|a| a.to_str()?.parse().ok()) {
                Some(processes) => init(processes, arguments.collect()),
                None => usage(),
            },
            _ => usage(),
        }
    }

    fn hook(socket: &Path) -> ExitCode {
        match rcc_launch::hook::run(socket) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{problem}");
                ExitCode::FAILURE
            }
        }
    }

    fn init(processes: u32, command: Vec<OsString>) -> ExitCode {
        // An argument can't hold a zero byte, so none is lost here.
        let command: Vec<CString> = command.into_iter().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
        match rcc_launch::init::run(processes, &command) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("rcc: {error}");
                ExitCode::from(rcc_report::EXIT_REFUSED)
            }
        }
    }

    fn usage() -> ExitCode {
        eprintln!("usage: rcc-hook hook SOCKET | rcc-hook init PROCESSES COMMAND…");
        ExitCode::from(rcc_report::EXIT_USAGE)
    }
}
