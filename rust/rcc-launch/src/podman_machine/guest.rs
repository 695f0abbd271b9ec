//! What is done in the machine, as its root, by scripts that its shell reads from ssh.

use super::record::tag;
use rcc_proto::macos::FORWARD_PORT;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The Mac's 127.0.0.1, as gvproxy shows it to the machine.
pub const HOST: &str = "192.168.127.254";
/// The programs of rcc's that the machine has, by their names beside the Mac's own, and in it.
pub const PROGRAMS: [(&str, &str); 3] =
    [("rcc.linux", "rcc"), ("rcc-hook.linux", "rcc-hook"), ("rcc-forward.linux", "rcc-forward")];
/// Where they are in the machine.
const FOLDER: &str = "/usr/local/libexec/rcc";

/// A word of the shell's, whatever is in it.
fn word(text: impl AsRef<std::ffi::OsStr>) -> String {
    format!("'{}'", text.as_ref().to_string_lossy().replace('\'', r"'\''"))
}

/// Whether the machine has these programs; each is named by its SHA-256. Ends with 0 if it has all.
#[must_use]
pub fn has(version: &str, hashes: &[(&str, String)]) -> String {
    let mut list = String::new();
    for (name, hash) in hashes {
        let _infallible = writeln!(list, "{hash}  {FOLDER}/{version}/{name}");
    }
    format!("sha256sum --check --status <<'END'\n{list}END\n")
}

/// Takes one program from the standard input.
#[must_use]
pub fn put(version: &str, name: &str) -> String {
    let path = format!("{FOLDER}/{version}/{name}");
    format!("sudo install -D -o root -g root -m 755 /dev/stdin {path}.new && sudo mv -f {path}.new {path}")
}

/// Makes the machine ready: rcc's command, its user, the policy that the Mac has, the forwarder, and the folders; then reads
/// back that each folder is there by the device that it should be.
#[must_use]
pub fn prepare(version: &str, policy: &str, folders: &[PathBuf]) -> String {
    let at = format!("{FOLDER}/{version}");
    let mut script = format!(
        "set -eu
id rcc >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin rcc
install -d -m 755 /etc/rcc /usr/local/bin
printf %s {policy} > /etc/rcc/policy.toml.new
chmod 644 /etc/rcc/policy.toml.new
mv -f /etc/rcc/policy.toml.new /etc/rcc/policy.toml
ln -sfn {at}/rcc /usr/local/bin/rcc
cat > /run/rcc-forward.service <<'END'
{unit}END
if ! cmp -s /run/rcc-forward.service /etc/systemd/system/rcc-forward.service; then
  mv -f /run/rcc-forward.service /etc/systemd/system/rcc-forward.service
  systemctl daemon-reload
  systemctl restart rcc-forward.service
fi
# Sessions hang on it: one that runs goes on.
systemctl start rcc-forward.service
",
        policy = word(policy),
        unit = unit(&at),
    );
    for folder in folders {
        let (place, tag) = (word(folder), tag(&folder.to_string_lossy()));
        let _infallible = write!(
            script,
            "if ! mountpoint -q {place}; then
  chattr -i / || true
  mkdir -p {place}
  chattr +i / || true
  mount -t virtiofs -o nosuid,nodev,context=system_u:object_r:nfs_t:s0 {tag} {place}
fi
test \"$(findmnt -n -o SOURCE,FSTYPE --mountpoint {place} | tr -s ' ')\" = '{tag} virtiofs'
"
        );
    }
    script.push_str("i=0; until test -S /run/rcc/gateway.sock; do i=$((i + 1)); test $i -lt 100; sleep 0.1; done\n");
    script
}

/// The forwarder's unit: the gateway's own user and folder, without capabilities.
fn unit(at: &str) -> String {
    format!(
        "[Unit]
Description=rcc's forwarder to the gateway on the Mac
After=network-online.target
[Service]
ExecStart={at}/rcc-forward {HOST}:{FORWARD_PORT}
User=rcc
RuntimeDirectory=rcc
Restart=always
RestartSec=1
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
[Install]
WantedBy=multi-user.target
"
    )
}

/// Tries to reach a port of the Mac's loopback on which somebody listens, as the machine's root; says `closed` or `open`, and
/// nothing where it could not be tried. bash ends with 1 if it is refused, `timeout` with 124 if nobody answers.
#[must_use]
pub fn canary(port: u16) -> String {
    format!(
        "sudo sh -c 'timeout 5 bash -c \"exec 3<>/dev/tcp/{HOST}/{port}\" 2>/dev/null; case $? in 0) echo open ;; 1|124) echo closed ;; esac'"
    )
}

/// Takes a ticket from the standard input, for this one session; says the name of the file.
#[must_use]
pub fn take_ticket() -> String {
    "umask 077 && file=$(mktemp \"$HOME/.rcc-ticket-XXXXXXXX\") && cat > \"$file\" && echo \"$file\"".to_owned()
}

/// A command of rcc's in the machine, in a folder.
#[must_use]
pub fn rcc(folder: &Path, term: Option<&str>, arguments: &[std::ffi::OsString]) -> String {
    let term = term.map_or(String::new(), |term| format!("TERM={} ", word(term)));
    let arguments: Vec<String> = arguments.iter().map(word).collect();
    format!("cd {} && {term}exec /usr/local/bin/rcc {}", word(folder), arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_script_of_one_machine() {
        let folders = [PathBuf::from("/Users/alice/it's one")];
        insta::assert_snapshot!(prepare("0.1.0", "users = [\"alice\"]\n# it's\n", &folders));
    }

    #[test]
    fn the_canary_says_nothing_where_it_could_not_try() {
        let folder = tempfile::tempdir().unwrap();
        let said = |port: u16, sudo: &str| {
            let program = folder.path().join("sudo");
            std::fs::write(&program, format!("#!/bin/sh\n{sudo}\n")).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let path = format!("{}:/usr/bin:/bin", folder.path().display());
            let script = canary(port).replace(HOST, "127.0.0.1");
            let output = Command::new("/bin/sh").args(["-c", &script]).env("PATH", path).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(said(port, "exec \"$@\""), "open\n");
        drop(listener);
        assert_eq!(said(port, "exec \"$@\""), "closed\n");
        assert_eq!(said(port, "exit 1"), "");
        // Nobody has bash there.
        assert_eq!(said(port, "PATH=/nonexistent exec \"$@\""), "");
    }

    #[test]
    fn shells_take_every_script_and_words_stay_words() {
        let odd = "a'b \"c\" $(touch /nonexistent/x) `x` \\ !\n; d";
        for script in [
            prepare("0.1.0", odd, &[PathBuf::from("/Users/alice").join("o'dd $(x)")]),
            has("0.1.0", &[("rcc", "0".repeat(64))]),
            put("0.1.0", "rcc"),
            canary(1),
            take_ticket(),
            rcc(Path::new("/p"), Some("xterm"), &[odd.into()]),
        ] {
            let taken = Command::new("/bin/sh").args(["-n", "-c", &script]).output().unwrap();
            assert!(taken.status.success(), "{script}\n{}", String::from_utf8_lossy(&taken.stderr));
        }
        let shown = Command::new("/bin/sh").args(["-c", &format!("printf %s {}", word(odd))]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout), odd);
    }

    #[test]
    fn programs_are_there_or_not_by_their_hash() {
        let list = has("0.1.0", &[("rcc", "0".repeat(64)), ("rcc-hook", "1".repeat(64))]);
        let checked = Command::new("/bin/sh").args(["-c", &list]).status().unwrap();
        assert!(!checked.success(), "nothing is there");
    }
}
