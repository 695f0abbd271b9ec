//! Accounts: /etc/passwd, and for those that are elsewhere (LDAP, systemd-homed) `getent`, for a limited time; on macOS
//! `id`, since people are nowhere but in the directory service there.
//!
//! Not by the C library in this process: the installed program is static, and its look-ups load libraries, which crashed when
//! two threads did so at once (decision 0023).

use super::basics::program;
use super::run::said;
use rcc_host::accounts::{User, users};
use std::path::Path;

/// The account with this name or user id, if there is one.
pub fn account(key: &str) -> Result<Option<User>, String> {
    let is = |user: &User| user.name == key || user.uid.to_string() == key;
    if cfg!(target_os = "macos") {
        // The directory service's, by a program of Apple's; it fails where there is none.
        let (_, answer) = said(Path::new("/usr/bin/id"), &["-P", key])?;
        return Ok(answer.lines().find_map(rcc_host::macos::account).filter(is));
    }
    if let Some(found) = users().unwrap_or_default().into_iter().find(is) {
        return Ok(Some(found));
    }
    let Some(getent) = program("getent").filter(|p| p.writable_by_others.is_none()) else { return Ok(None) };
    // It ends with 2 where there is none.
    let (_, answer) = said(&getent.path, &["passwd", key])?;
    Ok(answer.lines().filter_map(User::parse).find(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_id() {
        for key in ["root", "0"] {
            let root = account(key).unwrap().unwrap();
            assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
            assert_eq!(root.home, std::path::Path::new("/root"));
        }
        assert_eq!(account("nobody-of-this-name"), Ok(None));
        assert_eq!(User::parse("a:x:1:x:::"), None);
    }
}
