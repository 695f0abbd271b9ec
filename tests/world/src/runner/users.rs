//! Users of the world's: entries in its own overlay of /etc, so no user of the machine's is made.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::User as Entry;

use crate::description::User;

const SYSTEM: (&str, u32) = ("rcc", 977);

fn append(file: &str, line: &str) -> Result<()> {
    let path = Path::new("/etc").join(file);
    let mut file = File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    Ok(file.write_all(format!("{line}\n").as_bytes())?)
}

/// The system user `rcc`, unless there is one.
pub fn system() -> Result<()> {
    let (name, id) = SYSTEM;
    if Entry::from_name(name)?.is_none() {
        append("passwd", &format!("{name}:x:{id}:{id}:rcc gateway:/nonexistent:/usr/sbin/nologin"))?;
        append("group", &format!("{name}:x:{id}:"))?;
    }
    Ok(())
}

/// A person with a home, a runtime folder and subordinate ids. One whom the machine has is taken as they are.
pub fn person(name: &str, id: u32, home: Option<&Path>) -> Result<User> {
    let known = Entry::from_name(name)?;
    let (id, home) = match (&known, home) {
        (Some(entry), None) => (entry.uid.as_raw(), entry.dir.clone()),
        (Some(entry), Some(home)) => (entry.uid.as_raw(), home.to_owned()),
        (None, Some(home)) => (id, home.to_owned()),
        (None, None) => (id, PathBuf::from("/home").join(name)),
    };
    if known.is_none() {
        append("passwd", &format!("{name}:x:{id}:{id}:a person:{}:/bin/bash", home.display()))?;
        append("group", &format!("{name}:x:{id}:"))?;
    }
    for file in ["subuid", "subgid"] {
        let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
        if !text.lines().any(|l| l.starts_with(&format!("{name}:"))) {
            let above = |l: &str| {
                let mut fields = l.split(':').skip(1).filter_map(|f| f.parse::<u32>().ok());
                fields.next()?.checked_add(fields.next()?)
            };
            let free = text.lines().filter_map(above).max().unwrap_or(0).max(3_000_000);
            append(file, &format!("{name}:{free}:65536"))?;
        }
    }
    let runtime_dir = PathBuf::from(format!("/run/user/{id}"));
    for (folder, mode) in [(&home, 0o750), (&runtime_dir, 0o700)] {
        if !folder.exists() {
            fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
        }
        // one that was given, and is still empty, becomes theirs
        if fs::read_dir(folder)?.next().is_none() {
            chown(folder, Some(id), Some(id)).with_context(|| folder.display().to_string())?;
        }
    }
    Ok(User { name: name.to_owned(), id, home, runtime_dir })
}
