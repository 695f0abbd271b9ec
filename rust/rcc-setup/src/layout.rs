//! Where everything is on a machine, and how it is reached.

use crate::place::{Folder, Writers};
use rcc_report::{Code, Problem};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;

/// The version that this program installs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// All versions' programs.
pub const PROGRAMS: &str = "/usr/local/libexec/rcc";
/// This version's programs.
pub const FOLDER: &str = concat!("/usr/local/libexec/rcc/", env!("CARGO_PKG_VERSION"));
/// Where the `rcc` link is.
pub const LINKS: &str = "/usr/local/bin";
/// Where the link leads from there.
pub const LINK: &str = concat!("../libexec/rcc/", env!("CARGO_PKG_VERSION"), "/rcc");
/// The policy's folder.
#[cfg(target_os = "linux")]
pub const ETC: &str = "/etc/rcc";
/// Where logs are.
pub const LOGS: &str = "/var/log";
/// The folder of the sockets.
#[cfg(target_os = "linux")]
pub const RUN: &str = "/run/rcc";
/// The policy's name in its folder.
pub const POLICY_NAME: &str = "policy.toml";

/// An installed program of this version.
#[cfg(target_os = "linux")]
#[must_use]
pub fn program(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// What is wrong with a place.
pub fn misplaced(path: &str, e: &std::io::Error) -> Problem {
    let remedy =
        "only root may be able to write it and the folders above it: sudo chown root: FOLDER && sudo chmod go-w FOLDER";
    Problem::new(Code::SETUP_PLACE, path, e.to_string(), remedy)
}

/// A folder, if it is there.
pub fn folder(path: &str) -> Result<Option<Folder>, Problem> {
    // macOS's /var/run is the group daemon's, too.
    let writers = if [LOGS, "/var/run"].contains(&path) { Writers::SystemGroup } else { Writers::Root };
    Folder::open(Path::new(path), writers).map_err(|e| misplaced(path, &e))
}

/// A folder, made with those above it if it is not there.
pub fn made(path: &str) -> Result<Folder, Problem> {
    if let Some(folder) = folder(path)? {
        return Ok(folder);
    }
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    made(if above.is_empty() { "/" } else { above })?.make(name, 0o755).map_err(|e| misplaced(path, &e))?;
    folder(path)?.ok_or_else(|| misplaced(path, &std::io::ErrorKind::NotFound.into()))
}

/// Whether a link leads to an installed program, of any version.
pub fn is_ours(target: &str) -> bool {
    target.starts_with("../libexec/rcc/") || target.starts_with("/usr/local/libexec/rcc/")
}

/// A link that setup did not make.
pub fn foreign_link(target: &str) -> Problem {
    Problem::new(
        Code::SETUP_PLACE,
        "/usr/local/bin/rcc",
        format!("it is a link to {target}, which setup did not make"),
        "if nobody needs it: sudo rm /usr/local/bin/rcc",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_setup_made_are_known() {
        assert!(is_ours(LINK) && is_ours("../libexec/rcc/0.0.9/rcc"));
        assert!(!is_ours("/opt/rcc/rcc"));
    }
}
