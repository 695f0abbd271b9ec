//! Who the peer of a connection is: the user's name and groups, from the kernel and from /etc/passwd and /etc/group
//! (on a Mac from the directory service).
//!
//! Not by NSS: that would load and run other code in the supervisor. A user of a directory service is named in the
//! policy by number.

use crate::system;
use rcc_policy::Resolved;
use std::os::fd::OwnedFd;

/// A user who opened a connection.
#[derive(Debug)]
pub struct Person {
    /// The name, or the number where there is no name.
    pub name: String,
}

impl Person {
    /// The peer of a connection, whose uid is known, and whether the policy's `users` name them: by what they are, or by
    /// one of the groups that the connecting process had.
    pub fn of(uid: u32, connection: &OwnedFd, policy: &Resolved) -> (Self, bool) {
        let names = Names::read();
        let name = names.user(uid).unwrap_or_else(|| uid.to_string());
        let may = is_named(
            |groups| policy.may_open(&name, uid, groups),
            || system::peer_groups(connection).into_iter().filter_map(|gid| names.group(gid)),
        );
        (Self { name }, may)
    }
}

/// Asks for the name of a group only while it matters: on a Mac another process is asked, and nobody else is served meanwhile.
fn is_named<I: Iterator<Item = String>>(may: impl Fn(&[String]) -> bool, groups: impl FnOnce() -> I) -> bool {
    may(&[]) || groups().any(|group| may(&[group]))
}

/// Users and groups by number.
#[cfg(target_os = "linux")]
struct Names {
    users: String,
    groups: String,
}

#[cfg(target_os = "linux")]
impl Names {
    fn read() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { users: text("/etc/passwd"), groups: text("/etc/group") }
    }

    fn user(&self, uid: u32) -> Option<String> {
        entry(&self.users, uid)
    }

    fn group(&self, gid: u32) -> Option<String> {
        entry(&self.groups, gid)
    }
}

/// Users and groups by number. People are in the directory service alone there; the library asks it by a message, and loads
/// nothing into this process.
#[cfg(target_os = "macos")]
struct Names;

#[cfg(target_os = "macos")]
impl Names {
    fn read() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "as on Linux, where there are files")]
    fn user(&self, uid: u32) -> Option<String> {
        let user = nix::unistd::User::from_uid(uid.into()).ok()??;
        (!user.name.is_empty()).then_some(user.name)
    }

    #[expect(clippy::unused_self, reason = "as on Linux, where there are files")]
    fn group(&self, gid: u32) -> Option<String> {
        let group = nix::unistd::Group::from_gid(gid.into()).ok()??;
        (!group.name.is_empty()).then_some(group.name)
    }
}

/// The name of the line `name:…:number:…`.
#[cfg(any(target_os = "linux", test))]
fn entry(text: &str, number: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_asked_for_that_changes_nothing() {
        let asked = std::cell::Cell::new(0);
        let groups = || {
            ["staff", "devs", "admin"].into_iter().map(|name| {
                asked.set(asked.get() + 1);
                name.to_owned()
            })
        };
        assert!(is_named(|_| true, groups));
        assert_eq!(asked.get(), 0);
        assert!(is_named(|groups| groups.contains(&"devs".to_owned()), groups));
        assert_eq!(asked.take(), 2);
        assert!(!is_named(|groups| groups.contains(&"wheel".to_owned()), groups));
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn names_come_from_the_files() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\n\nbroken\n";
        assert_eq!(entry(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(entry(passwd, 1001), None);
    }
}
