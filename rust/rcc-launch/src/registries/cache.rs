//! What was read is kept for a day, since some tools take seconds to ask. A cache: without it everything is read anew.

use super::{Found, ask};
use crate::hex::hex;
use crate::home::data_folder;
use crate::machine::Person;
use rcc_policy::Registry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The files that each kind's answer depends on, in the home folder or absolute, and the program that is asked.
fn sources(registry: Registry) -> (&'static [&'static str], &'static str) {
    match registry {
        Registry::Npm => (&[".npmrc", "/etc/npmrc", "/usr/etc/npmrc"], "npm"),
        Registry::Pypi => (
            &[".config/pip/pip.conf", ".pip/pip.conf", "/etc/pip.conf", ".config/uv/uv.toml", "/etc/uv/uv.toml"],
            "pip3",
        ),
        Registry::Cargo => (&[".cargo/config.toml", ".cargo/config"], "cargo"),
        Registry::Go => (&[".config/go/env", ".local/go/go.env"], "go"),
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    sources: String,
    at: u64,
    found: Found,
}

/// What is kept for these sources, or what `read` gives. An answer that lacks something is not kept.
pub(super) fn kept(registry: Registry, person: &Person, read: impl FnOnce() -> Found) -> Found {
    let sources = fingerprint(registry, person);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let path = data_folder(person).join("registries").join(&registry.set()[1..]);
    let kept = ask::plain(&path).and_then(|text| serde_json::from_str::<Kept>(&text).ok());
    if let Some(kept) = kept
        && kept.sources == sources
        && now.checked_sub(kept.at).is_some_and(|age| age < DAY.as_secs())
    {
        return kept.found;
    }
    let found = read();
    // Cargo's is read from files alone, which change without the configuration.
    if !found.unsure && registry != Registry::Cargo {
        let kept = Kept { sources, at: now, found: found.clone() };
        // A cache that can't be written is none.
        let _not_kept = write(&path, &serde_json::to_vec(&kept).unwrap_or_default());
    }
    found
}

fn write(path: &PathBuf, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text)?;
    fs::rename(fresh, path)
}

fn fingerprint(registry: Registry, person: &Person) -> String {
    let (files, program) = sources(registry);
    let mut digest = Sha256::new();
    for file in files {
        // An absolute one stays so.
        let text = ask::plain(&person.home.join(file));
        digest.update([u8::from(text.is_some())]);
        digest.update(Sha256::digest(text.unwrap_or_default()));
    }
    if let Some(about) = ask::program(program).and_then(|p| fs::metadata(p).ok()) {
        digest.update(about.mtime().to_le_bytes());
        digest.update(about.ino().to_le_bytes());
    }
    env!("CARGO_PKG_VERSION").to_owned() + &hex(&digest.finalize())
}
