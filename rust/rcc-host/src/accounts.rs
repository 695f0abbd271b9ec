//! Users and groups of this machine, by its own files.
//!
//! Not by NSS: rcc's programs are static, and glibc loads the modules of nsswitch.conf into them all the same; `libnss_systemd`
//! then crashes the process when it is asked for a name that the files don't have (tried: Debian 12).

use std::io;
use std::path::{Path, PathBuf};

/// A line of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The comment (GECOS).
    pub comment: String,
    /// The home folder, as it is written there.
    pub home: PathBuf,
    /// The login shell.
    pub shell: String,
}

impl User {
    /// The user of a whole line; of any other, none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let &[name, _, uid, gid, comment, home, shell] = fields(line).as_slice() else { return None };
        Self::of([name, uid, gid, comment, home, shell])
    }

    /// Of these fields, in this order; none if an id is none.
    pub(crate) fn of([name, uid, gid, comment, home, shell]: [&str; 6]) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            comment: comment.to_owned(),
            home: home.into(),
            shell: shell.to_owned(),
        })
    }
}

/// All users of /etc/passwd.
pub fn users() -> io::Result<Vec<User>> {
    Ok(users_in(&text("/etc/passwd")?))
}

/// The user of this name, if /etc/passwd has one.
pub fn user(name: &str) -> io::Result<Option<User>> {
    Ok(users()?.into_iter().find(|user| user.name == name))
}

/// The id of the group of this name, if /etc/group has one.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let text = text("/etc/group")?;
    Ok(text.lines().map(fields).find(|f| f.first() == Some(&name)).and_then(|f| f.get(2)?.parse().ok()))
}

/// Whether the group of this name has members in /etc/group (those whose primary group it is not counted).
pub fn has_members(group: &str) -> io::Result<bool> {
    let text = text("/etc/group")?;
    Ok(text
        .lines()
        .map(fields)
        .any(|f| f.first() == Some(&group) && f.get(3).is_some_and(|members| !members.is_empty())))
}

/// The names of the groups that a user is in: by primary group or as a member.
pub fn groups_of(user: &User) -> io::Result<Vec<String>> {
    Ok(groups_in(&text("/etc/group")?, user))
}

fn text(path: &str) -> io::Result<String> {
    match crate::trusted::read_plain(Path::new(path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        bytes => Ok(String::from_utf8_lossy(&bytes?).into_owned()),
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn users_in(text: &str) -> Vec<User> {
    text.lines().filter_map(User::parse).collect()
}

fn groups_in(text: &str, user: &User) -> Vec<String> {
    let is_in = |fields: &[&str]| {
        let primary = fields.get(2).and_then(|id| id.parse().ok()) == Some(user.gid);
        primary || fields.get(3).is_some_and(|members| members.split(',').any(|m| m == user.name))
    };
    text.lines().map(fields).filter(|f| f.len() == 4 && is_in(f)).map(|f| f[0].to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_not_at_all() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nrcc:x:977:976:rcc gateway:/nonexistent:/usr/sbin/nologin\nbad:x:a:1::/:\nshort:x:1\n";
        let user = |name: &str| users_in(passwd).into_iter().find(|user| user.name == name);
        let rcc = user("rcc").unwrap();
        assert_eq!((rcc.uid, rcc.gid, rcc.shell.as_str()), (977, 976, "/usr/sbin/nologin"));
        assert_eq!(rcc.comment, "rcc gateway");
        for name in ["bad", "short", "rc", "", "x"] {
            assert_eq!(user(name), None, "{name}");
        }
        let groups = groups_in("rcc:x:976:\ndevs:x:5:alice,rcc\nother:x:6:rccs\n", &rcc);
        assert_eq!(groups, ["rcc", "devs"]);
    }
}
