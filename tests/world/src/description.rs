//! WORLD.json: where everything of a running world is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::model::Keys;

/// The environment variable that holds the description's path, inside a world.
pub const VARIABLE: &str = "RCC_WORLD";
/// Where a world keeps its files; the folder exists inside that world only.
pub const FOLDER: &str = "/run/rcc-world";

/// A running world. Addresses and names are constants, in [`crate::map`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The certificate of the world's authority.
    pub ca_pem: PathBuf,
    /// Hits, one JSON line each.
    pub witness: PathBuf,
    /// Whether packets are recorded.
    pub watch_wire: bool,
    /// Packets at the host's interface (pcap).
    pub host_wire: PathBuf,
    /// Packets at the other end.
    pub internet_wire: PathBuf,
    /// The model's script: replace it at any time; its folder belongs to the world's user, if there is one.
    pub model_script: PathBuf,
    /// What is put here is served by every web server below `/files/`; the folder belongs to the world's user, too.
    pub files: PathBuf,
    /// The model's exchanges, one JSON line each.
    pub model_log: PathBuf,
    /// The credentials that the model's API takes.
    pub model_keys: Keys,
    /// What the metadata service gives away; a token, so it can be looked for.
    pub metadata_token: String,
    /// The unprivileged user, if one was asked for.
    pub user: Option<User>,
    /// The process in whose network namespace the internet is.
    #[serde(default)]
    pub internet_pid: u32,
    /// Whether the network is the machine's own, and nothing of the world's is in it.
    #[serde(default)]
    pub machine_network: bool,
    /// Whether names that the world does not have are those of the machine's own network.
    #[serde(default)]
    pub outside: bool,
    /// Milliseconds from the runner's start to the command's.
    #[serde(default)]
    pub setup_ms: u64,
}

/// An unprivileged user of the world's, who can use rootless Podman.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// User and group number.
    pub id: u32,
    /// The home folder.
    pub home: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: PathBuf,
}

impl Description {
    /// That of a world whose files are in `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ca_pem: folder.join("ca.pem"),
            witness: folder.join("witness.jsonl"),
            watch_wire: true,
            host_wire: folder.join("wire-host.pcap"),
            internet_wire: folder.join("wire-internet.pcap"),
            model_script: folder.join("script/script.json"),
            files: folder.join("files"),
            model_log: folder.join("model.jsonl"),
            model_keys: Keys::random(),
            metadata_token: crate::token::fresh(),
            user: None,
            internet_pid: 0,
            machine_network: false,
            outside: false,
            setup_ms: 0,
        }
    }

    /// Reads it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("the world's description {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("the world's description {}", path.display()))
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        Ok(std::fs::rename(new, path)?)
    }
}
