//! What of a machine rcc could leave behind: packages, files, users, units, ruleset, processes; as lines to compare.

use std::collections::BTreeSet;

/// Prints them, one fact a line, each with the kind of fact in front. Run as root.
///
/// Left out: what changes by itself (logs, caches, systemd's own records, mtab-like files), homes (the person's, and the
/// agents' in them), and the backups that useradd and userdel keep beside passwd and its like.
pub const SCRIPT: &str = r#"
set -o pipefail
dpkg-query --show --showformat 'package ${Package} ${Version} ${db:Status-Abbrev}\n'
systemctl list-unit-files --no-legend --no-pager | awk '{ print "unit-file", $1, $2 }'
systemctl list-units --all --plain --no-legend --no-pager --type service,socket,timer,path |
    awk '/^(harness|run-|session-|user|session|init|systemd-)/ { next } { print "unit", $1, $3 == "failed" ? "failed" : "there" }'
for file in passwd group subuid subgid; do sed "s/^/$file /" /etc/$file; done
cut -d: -f1 /etc/shadow /etc/gshadow | sed 's/^/shadow /'
nft list ruleset | sed 's/^/ruleset /'
find / -xdev \( -path /tmp -o -path /var/tmp -o -path /var/log/journal -o -path /var/cache -o -path /home -o -path /var/lib/systemd \
        -o -path /etc/.pwd.lock -o -path '/etc/*-' \) -prune -o -printf 'file %p %y %m %U:%G %l\n'
find /etc /usr/local -xdev -type f ! -path '/etc/*-' ! -name passwd ! -name group ! -name shadow ! -name gshadow ! -name 'sub?id' -exec sha256sum {} + |
    sed 's/^/content /'
find /usr /opt /boot -xdev -path /usr/local -prune -o -type f -printf 'size %p %s %T@\n'
find /run -xdev -name '*rcc*' ! -path '/run/rcc-world*' ! -path '/run/user/*' -printf 'run %p %y\n'
find /sys/fs/cgroup -name '*rcc*' -printf 'cgroup %p\n'
ps -e -o user:32=,comm= | grep -E '^rcc |rcc-(gateway|firewall)' | sed 's/^/process /' || true
"#;

/// What is in one and not in the other, as `-` and `+` lines, in order.
pub fn difference(before: &str, after: &str) -> Vec<String> {
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), after.lines().collect());
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    let come = after.difference(&before).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_what_went_is_named() {
        assert_eq!(difference("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
        assert!(difference("b\na\n", "a\nb\n").is_empty());
    }
}
