//! macOS: a sandbox profile (Seatbelt) in the place of Landlock and of a filter of system calls. It is coarser: it says what
//! the process may reach by name (files, services, sockets, other processes), not which system calls it makes, and it can't
//! keep an address from being connected to, which pf does. Nothing of it has run on a Mac yet (docs/macos.md).

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rcc_host::seatbelt::{Allow, Profile};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The supervisor, once it is known.
static SUPERVISOR: OnceLock<String> = OnceLock::new();

/// No dumps, no debugger, and the supervisor must be the parent; [`supervisor_lives`] tells when it is no more.
pub fn before_anything(supervisor: &str) -> io::Result<()> {
    crate::system::confine().map_err(io::Error::other)?;
    SUPERVISOR.get_or_init(|| supervisor.to_owned());
    if !supervisor_lives() {
        return Err(io::Error::other("not started by the supervisor"));
    }
    std::panic::set_hook(Box::new(|_| {}));
    Ok(())
}

/// Whether the supervisor is still the parent. macOS sends no signal when a parent ends.
pub fn supervisor_lives() -> bool {
    SUPERVISOR.get().is_some_and(|pid| nix::unistd::getppid().to_string() == *pid)
}

/// Bounds for a session with at most so many connections. Memory is not bounded: macOS takes no such limit.
pub fn limits(connections: u32) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = (u64::from(connections) * 4 + 256).min(crate::system::most_files(hard));
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    Ok(())
}

/// What [`system_calls`] left to do by the time that files were confined: nothing, the profile is one.
pub fn system_calls(_launcher: &OwnedFd) -> io::Result<()> {
    Ok(())
}

/// Files alone to read, and no network: for what reads the log to a person.
pub fn reader() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    let log = std::path::Path::new(crate::supervisor::journal::LOG);
    let folder = std::fs::canonicalize(log.parent().unwrap_or(log))?;
    rcc_host::seatbelt::apply(&Profile::new([Allow::ReadBelow(folder), Allow::FollowSystemLinks, Allow::SignalSelf]))
}

/// The profile in place of Landlock.
pub mod files {
    use super::{Allow, PathBuf, Profile, io};

    /// In force.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Landlock;

    impl std::fmt::Display for Landlock {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("confined by a sandbox profile of macOS")
        }
    }

    /// Confines this process to TCP and UDP, and to reading these files; those that do not exist are left out. No program is
    /// started, no service asked, no file written, nothing listened on.
    pub fn confine(readable: &[PathBuf]) -> io::Result<Landlock> {
        let mut all = vec![Allow::ConnectIp, Allow::FollowSystemLinks, Allow::SignalSelf, Allow::ReadSystemFacts];
        for path in readable.iter().chain(&[PathBuf::from("/dev/urandom"), PathBuf::from("/dev/random")]) {
            match std::fs::canonicalize(path) {
                Ok(real) => all.push(Allow::Read(real)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        rcc_host::seatbelt::apply(&Profile::new(all))?;
        Ok(Landlock)
    }
}
