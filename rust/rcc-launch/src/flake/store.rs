//! Whose /nix/store is, and what names in it look like.

use crate::machine::Person;
use rcc_report::{Code, Problem};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

/// Nix's store. Another place would need every program built anew, so there is no other.
pub const STORE: &str = "/nix/store";

/// Who writes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Root, by Nix's daemon.
    Root,
    /// The person alone: a single-user installation.
    Person,
}

/// Whose the store is; an error if others than root, or than the person alone, can write it.
pub fn owner(person: &Person) -> Result<Owner, Problem> {
    let refuse = |what: String, remedy: &str| Problem::new(Code::TOOLCHAIN_NIX, STORE, what, remedy);
    let others = "ls -ld /nix /nix/store; it must be root's, or yours, and nobody else may write it";
    let about = fs::symlink_metadata(STORE).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => refuse("Nix is not installed".into(), "https://nixos.org/download"),
        _ => refuse(e.to_string(), others),
    })?;
    // A group of builders may write where the sticky bit leaves to each what is its own.
    if rcc_host::trusted::place(Path::new(STORE)).is_ok_and(|place| place == Path::new(STORE)) {
        return Ok(Owner::Root);
    }
    let mine = |about: &fs::Metadata| about.is_dir() && about.uid() == person.uid && about.mode() & 0o022 == 0;
    let above = fs::symlink_metadata("/nix").map_err(|e| refuse(e.to_string(), others))?;
    let roots = above.is_dir() && above.uid() == 0 && above.mode() & 0o022 == 0;
    if mine(&about) && (mine(&above) || roots) {
        return Ok(Owner::Person);
    }
    Err(refuse("others than root, or than you alone, can write it".into(), others))
}

/// Demands that a store path is there and the owner's.
pub(super) fn there(name: &str, owner: Owner, person: &Person) -> Result<(), Problem> {
    let path = Path::new(STORE).join(name);
    let refuse = |what: String| {
        let remedy = "make it again: rcc toolchain approve";
        Problem::new(Code::TOOLCHAIN_GONE, path.display().to_string(), what, remedy)
    };
    let about = fs::symlink_metadata(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => refuse("a path of the approved toolchain is not in the store any more".into()),
        _ => refuse(e.to_string()),
    })?;
    let good = about.uid() == 0 || (owner == Owner::Person && about.uid() == person.uid);
    let written_by_others = !about.is_symlink() && about.mode() & 0o022 != 0;
    if good && !written_by_others { Ok(()) } else { Err(refuse("others than the store's owner can write it".into())) }
}

/// Whether this is the name of a store path: 32 characters of Nix's base 32, a dash, and a name (Nix manual, "Store path").
pub(super) fn is_name(name: &str) -> bool {
    let Some((hash, rest)) = name.split_at_checked(32) else { return false };
    let base32 = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'z') && !b"eotu".contains(&b);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
    let Some(rest) = rest.strip_prefix('-') else { return false };
    hash.bytes().all(base32) && !rest.is_empty() && rest.len() <= 211 && rest.bytes().all(plain)
}

/// The name of the store path in which something lies.
pub(super) fn name_of(path: &Path) -> Option<&str> {
    let mut parts = path.strip_prefix(STORE).ok()?.components();
    let name = match parts.next()? {
        Component::Normal(name) => name.to_str()?,
        _ => return None,
    };
    parts.all(|part| matches!(part, Component::Normal(_))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_store_paths() {
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        assert!(is_name(&format!("{hash}-bash-5.2+x?=_.drv")));
        for bad in [
            String::new(),
            hash.to_owned(),
            format!("{hash}-"),
            format!("{hash}-a/b"),
            format!("{hash}-a\nb"),
            format!("{}e-x", &hash[1..]),
            "../../etc/passwd".to_owned(),
            "ä".repeat(40),
        ] {
            assert!(!is_name(&bad), "{bad}");
        }
        assert_eq!(name_of(Path::new("/nix/store/x/bin/y")), Some("x"));
        for bad in ["/nix/store", "/nix/x", "/nix/store/../x", "/nix/store/x/../y", "nix/store/x"] {
            assert_eq!(name_of(Path::new(bad)), None, "{bad}");
        }
    }
}
