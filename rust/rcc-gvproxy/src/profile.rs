//! What the pinned gvproxy may do: the one way to the gateway, the one way in for ssh, and files of the machine's own folder.
//!
//! pf says the first of these, too, and knows gvproxy's sockets by their group; it sees neither names that another process
//! looks up for gvproxy (mDNSResponder), nor Unix sockets, nor files. The guest's root can ask gvproxy for all of these, by the
//! API that gvproxy offers to every guest at its own address (`/services/forwarder/expose` of `cmd/gvproxy/main.go`).

use crate::arguments::Call;
use rcc_host::seatbelt::{Allow, Profile};
use rcc_proto::macos::{FORWARD_PORT, SSH_PORT};
use std::path::{Path, PathBuf};

/// The profile for a call whose folder's real place is `folder`, and whose key's is `identity`.
pub fn of(call: &Call, pinned: &Path, folder: &Path, identity: Option<PathBuf>) -> Profile {
    let mut all = vec![
        Allow::SystemLibraries,
        Allow::ReadSystemFacts,
        Allow::SignalSelf,
        Allow::Start(pinned.to_owned()),
        Allow::Read("/dev/null".into()),
        Allow::Read("/dev/urandom".into()),
        Allow::ReadBelow(folder.to_owned()),
        // Each by its name: the guest can have gvproxy remove what a Unix socket is made in the place of.
        Allow::Write(folder.join(name(&call.pid_file))),
        Allow::Write(folder.join(name(&call.log_file))),
        Allow::UnixSocketsBelow(folder.to_owned()),
        Allow::ConnectLoopback(FORWARD_PORT),
        Allow::ListenLoopback(SSH_PORT),
    ];
    let sockets = [Some(&call.frames), call.api.as_ref().map(|api| &api.socket)];
    all.extend(sockets.into_iter().flatten().map(|socket| Allow::Write(folder.join(name(socket)))));
    all.extend(identity.map(Allow::Read));
    Profile::new(all)
}

fn name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Api;

    #[test]
    fn the_profile_of_podmans_call() {
        let run = PathBuf::from("/Users/alice/run/podman");
        let call = Call {
            mtu: 1500,
            frames: run.join("rcc-gvproxy.sock"),
            pid_file: run.join("gvproxy.pid"),
            log_file: run.join("gvproxy.log"),
            api: Some(Api {
                socket: run.join("rcc-api.sock"),
                target: "/run/user/501/podman/podman.sock".into(),
                user: "core".into(),
                identity: "/Users/alice/machine".into(),
            }),
        };
        let pinned = Path::new("/usr/local/libexec/rcc/0.1.0/gvproxy.pinned");
        let profile = of(&call, pinned, Path::new("/real/run/podman"), Some("/real/machine".into()));
        let expected = "\
(version 1)
(deny default)
(allow file-read* file-map-executable (subpath \"/usr/lib\") (subpath \"/System/Library\")
  (subpath \"/System/Volumes/Preboot/Cryptexes/OS\"))
(allow file-read-metadata)
(allow sysctl-read)
(allow signal (target self))
(allow process-exec (literal \"/usr/local/libexec/rcc/0.1.0/gvproxy.pinned\"))
(allow file-read* file-map-executable (literal \"/usr/local/libexec/rcc/0.1.0/gvproxy.pinned\"))
(allow file-read* (literal \"/dev/null\"))
(allow file-read* (literal \"/dev/urandom\"))
(allow file-read* (subpath \"/real/run/podman\"))
(allow file-write* (literal \"/real/run/podman/gvproxy.pid\"))
(allow file-write* (literal \"/real/run/podman/gvproxy.log\"))
(allow network-bind (local unix-socket (subpath \"/real/run/podman\")))
(allow network-inbound (local unix-socket (subpath \"/real/run/podman\")))
(allow network-outbound (remote unix-socket (subpath \"/real/run/podman\")))
(allow network-outbound (remote tcp \"localhost:47081\"))
(allow network-bind (local tcp \"localhost:47022\"))
(allow network-inbound (local tcp \"localhost:47022\"))
(allow file-write* (literal \"/real/run/podman/rcc-gvproxy.sock\"))
(allow file-write* (literal \"/real/run/podman/rcc-api.sock\"))
(allow file-read* (literal \"/real/machine\"))
";
        assert_eq!(profile.text().unwrap(), expected);
    }
}
