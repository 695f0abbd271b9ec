//! The agents' own virtual machine on a Mac: a Podman machine of rcc's, with folders of its own, beside whatever machine the
//! person has.
//!
//! What Podman and ssh are called with is made by plain functions of values ([`call`], [`record`], [`guest`]), the same on any
//! system; [`host`] runs it. Nothing of it has run on a Mac yet (docs/macos.md).
//!
//! Invariants: the machine sees the projects that it was given, and nothing else of the Mac; its network is rcc's gvproxy or
//! none; no session starts in it before it was tried from within whether it reaches the Mac's loopback
//! (docs/decisions/0031).

pub mod call;
pub mod guest;
pub mod host;
pub mod record;

use rcc_proto::macos::{MACHINE, MACHINE_FOLDER};
use rcc_report::{Code, Problem};
use std::path::{Path, PathBuf};

/// The kind of machine that rcc was read for: Apple's own framework, by vfkit.
pub const PROVIDER: &str = "applehv";
/// The longest name that a socket in [`Places::run`] gets, by Podman or vfkit, with the folder `podman` before it.
const SOCKET: &str = "podman/vfkit-ffffffff-ffff.sock";
/// What a socket's path may have, in bytes (`sockaddr_un` of macOS).
const LONGEST_SOCKET: usize = 103;

/// Where things of the machine are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    root: PathBuf,
}

impl Places {
    /// Of a person.
    pub fn of(home: &Path) -> Result<Self, Problem> {
        let this = Self { root: home.join(MACHINE_FOLDER) };
        let longest = this.run().join(SOCKET);
        if longest.as_os_str().len() > LONGEST_SOCKET {
            let what = "its path is too long for the sockets in it";
            let remedy = "a home folder with a shorter path is needed";
            return Err(Problem::new(Code::MACHINE_FOREIGN, this.run().display().to_string(), what, remedy));
        }
        Ok(this)
    }

    /// All of it.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Podman's configuration (`XDG_CONFIG_HOME`).
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Podman's data (`XDG_DATA_HOME`): the machine's disk and its key.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Sockets (`TMPDIR`, which is where Podman's machine has them on a Mac).
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What Podman reads in place of every other `containers.conf`.
    #[must_use]
    pub fn containers_conf(&self) -> PathBuf {
        self.root.join("containers.conf")
    }

    /// Podman's own record of the machine.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.config().join("containers/podman/machine").join(PROVIDER).join(format!("{MACHINE}.json"))
    }

    /// The key by which ssh comes in.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.data().join("containers/podman/machine/machine")
    }

    /// By what the machine is known to ssh again.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.root.join("known_hosts")
    }

    /// Held by each session, and alone by who stops the machine.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions.lock")
    }
}

/// How large the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Processors.
    pub cpus: u64,
    /// MiB.
    pub memory: u64,
    /// GiB; what is not used takes no space.
    pub disk: u64,
}

impl Size {
    /// Half of a Mac with so many processors and so much memory, in bytes.
    #[must_use]
    pub fn half_of(cpus: u64, memory: u64) -> Self {
        Self { cpus: (cpus / 2).max(2), memory: (memory >> 21).clamp(2048, 32 << 10), disk: 100 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_folder_too_deep_for_sockets_is_refused() {
        assert!(Places::of(Path::new("/Users/alice")).is_ok());
        let deep = Path::new("/Volumes/a-disk-with-a-long-name/and-a-folder/Users/somebody");
        assert_eq!(Places::of(deep).unwrap_err().code, Code::MACHINE_FOREIGN);
    }

    #[test]
    fn it_takes_half_and_enough() {
        assert_eq!(Size::half_of(8, 16 << 30), Size { cpus: 4, memory: 8192, disk: 100 });
        assert_eq!(Size::half_of(1, 2 << 30), Size { cpus: 2, memory: 2048, disk: 100 });
    }
}
