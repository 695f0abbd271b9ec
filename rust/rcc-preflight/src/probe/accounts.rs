//! Accounts: /etc/passwd, and for those that are elsewhere (LDAP, systemd-homed) `getent`, for a limited time.
//!
//! Not by the C library in this process: the installed program is static, and its look-ups load libraries, which crashed when
//! two threads did so at once (decision 0023).

use super::basics::{program, text};
use super::run::said;
use std::path::PathBuf;

/// A line of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home folder, as it is written there.
    pub home: PathBuf,
}

impl Account {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { name, uid, gid, home: fields.nth(1)?.into() })
    }

    fn is(&self, key: &str) -> bool {
        self.name == key || self.uid.to_string() == key
    }
}

/// The account with this name or user id, if there is one.
pub fn account(key: &str) -> Result<Option<Account>, String> {
    let local = text("/etc/passwd").unwrap_or_default();
    if let Some(found) = local.lines().filter_map(Account::parse).find(|account| account.is(key)) {
        return Ok(Some(found));
    }
    let Some(getent) = program("getent").filter(|p| p.writable_by_others.is_none()) else { return Ok(None) };
    // It ends with 2 where there is none.
    let (_, answer) = said(&getent.path, &["passwd", key])?;
    Ok(answer.lines().filter_map(Account::parse).find(|account| account.is(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_id() {
        let root = Account { name: "root".into(), uid: 0, gid: 0, home: "/root".into() };
        assert_eq!(account("root"), Ok(Some(root.clone())));
        assert_eq!(account("0"), Ok(Some(root)));
        assert_eq!(account("nobody-of-this-name"), Ok(None));
        assert_eq!(Account::parse("a:x:1:x:::"), None);
    }
}
