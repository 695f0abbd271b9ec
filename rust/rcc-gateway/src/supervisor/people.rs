//! Who the peer of a connection is: the user's name and groups, from the kernel and from /etc/passwd and /etc/group.
//!
//! Not by NSS: that would load and run other code in the supervisor. A user of a directory service is named in the
//! policy by number.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

/// A user who opened a connection.
#[derive(Debug)]
pub struct Person {
    /// The name, or the number where there is no name.
    pub name: String,
    /// The names of the groups that the connecting process had.
    pub groups: Vec<String>,
}

impl Person {
    /// The peer of a connection, whose uid is known.
    pub fn of(uid: u32, connection: &OwnedFd) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = entry(&passwd, uid).unwrap_or_else(|| uid.to_string());
        let group_file = fs::read_to_string("/etc/group").unwrap_or_default();
        let groups = peer_groups(connection).into_iter().filter_map(|gid| entry(&group_file, gid)).collect();
        Self { name, groups }
    }
}

/// The name of the line `name:…:number:…`.
fn entry(text: &str, number: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number) && !name.is_empty()).then(|| name.to_owned())
    })
}

/// All groups of the process that connected, its primary one included.
fn peer_groups(connection: &OwnedFd) -> Vec<u32> {
    let mut groups = vec![0u32; 65_536 / 4];
    let mut size = libc::socklen_t::try_from(groups.len() * 4).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to the buffer, which is that long, and sets `size`.
    let failed = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    } != 0;
    groups.truncate(if failed { 0 } else { size as usize / 4 });
    if let Ok(peer) = nix::sys::socket::getsockopt(connection, nix::sys::socket::sockopt::PeerCredentials) {
        groups.push(peer.gid());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_files() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\n\nbroken\n";
        assert_eq!(entry(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(entry(passwd, 1001), None);
    }
}
