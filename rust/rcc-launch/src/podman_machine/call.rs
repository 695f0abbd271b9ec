//! What Podman and ssh are called with.

use super::{PROVIDER, Places, Size};
use rcc_proto::macos::{MACHINE, SSH_PORT};
use std::ffi::OsString;
use std::path::Path;

/// What Podman is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To make it.
    Init(Size),
    /// To start it.
    Start,
    /// To stop it.
    Stop,
    /// To tell what it is.
    Inspect,
    /// To take it away, with all that is in it.
    Remove,
}

impl Act {
    /// The arguments.
    #[must_use]
    pub fn arguments(self) -> Vec<OsString> {
        let words: Vec<String> = match self {
            // An empty volume in place of the ones by default, which are all home folders. The machine's folders are in its
            // record ([`super::record`]), since a volume that is given here is fixed for the machine's whole life.
            Self::Init(size) => vec![
                "init".into(),
                format!("--cpus={}", size.cpus),
                format!("--memory={}", size.memory),
                format!("--disk-size={}", size.disk),
                "--rootful=false".into(),
                "--volume=".into(),
                MACHINE.into(),
            ],
            Self::Start => vec!["start".into(), "--quiet".into(), "--no-info".into(), MACHINE.into()],
            Self::Stop => vec!["stop".into(), MACHINE.into()],
            Self::Inspect => vec!["inspect".into(), MACHINE.into()],
            Self::Remove => vec!["rm".into(), "--force".into(), MACHINE.into()],
        };
        std::iter::once("machine".to_owned()).chain(words).map(OsString::from).collect()
    }
}

/// Podman's whole environment. `helpers` is the folder of rcc's `gvproxy`.
#[must_use]
pub fn environment(places: &Places, home: &Path, helpers: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("HOME", home.into()),
        // vfkit is found there where Podman's own folders don't have it; ssh-keygen makes the machine's key.
        ("PATH", "/opt/podman/bin:/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()),
        ("XDG_CONFIG_HOME", places.config().into()),
        ("XDG_DATA_HOME", places.data().into()),
        ("TMPDIR", places.run().into()),
        ("CONTAINERS_CONF", places.containers_conf().into()),
        ("CONTAINERS_HELPER_BINARY_DIR", helpers.into()),
        ("CONTAINERS_MACHINE_PROVIDER", PROVIDER.into()),
        ("LC_ALL", "C".into()),
    ]
}

/// The `containers.conf` that Podman reads alone. Its other folders of helpers have a gvproxy that pf does not know, so ours is
/// the only one; vfkit is looked for on the PATH.
#[must_use]
pub fn containers_conf(helpers: &Path) -> String {
    let helpers = toml::Value::Array(vec![helpers.to_string_lossy().into_owned().into()]);
    format!("[engine]\nhelper_binaries_dir = {helpers}\n\n[machine]\nprovider = \"{PROVIDER}\"\nvolumes = []\n")
}

/// Who comes by ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// A person, whose terminal the machine's program gets.
    Yes,
    /// rcc itself.
    No,
}

/// ssh's arguments for one command, which the machine's shell reads. Nothing of the person's configuration, agent or keys has
/// a part in it.
#[must_use]
pub fn ssh(places: &Places, user: &str, terminal: Terminal, command: &str) -> Vec<OsString> {
    let option = |text: String| ["-o".to_owned(), text];
    let mut all: Vec<OsString> = vec!["-F".into(), "/dev/null".into(), "-a".into(), "-x".into()];
    all.push(if terminal == Terminal::Yes { "-tt" } else { "-T" }.into());
    let known = format!("UserKnownHostsFile=\"{}\"", places.known_hosts().display());
    let options = [
        "BatchMode=yes".into(),
        "IdentitiesOnly=yes".into(),
        "IdentityAgent=none".into(),
        format!("IdentityFile=\"{}\"", places.identity().display()),
        known,
        "GlobalKnownHostsFile=/dev/null".into(),
        "HostKeyAlias=rcc-machine".into(),
        "StrictHostKeyChecking=accept-new".into(),
        "ClearAllForwardings=yes".into(),
        "PermitLocalCommand=no".into(),
        "ControlPath=none".into(),
        "EscapeChar=none".into(),
        "LogLevel=ERROR".into(),
        "ServerAliveInterval=15".into(),
    ];
    all.extend(options.into_iter().flat_map(option).map(OsString::from));
    all.extend([
        "-p".into(),
        SSH_PORT.to_string().into(),
        format!("{user}@127.0.0.1").into(),
        "--".into(),
        command.into(),
    ]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::of(Path::new("/Users/alice")).unwrap()
    }

    #[test]
    fn podman_is_called_as_it_is_written_here() {
        let all =
            [Act::Init(Size { cpus: 4, memory: 8192, disk: 100 }), Act::Start, Act::Stop, Act::Inspect, Act::Remove];
        let text: Vec<String> =
            all.iter().map(|act| act.arguments().join(" ".as_ref()).into_string().unwrap()).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        machine init --cpus=4 --memory=8192 --disk-size=100 --rootful=false --volume= rcc
        machine start --quiet --no-info rcc
        machine stop rcc
        machine inspect rcc
        machine rm --force rcc
        ");
    }

    #[test]
    fn podman_has_an_environment_of_rccs() {
        let helpers = Path::new("/usr/local/libexec/rcc/0.1.0");
        let all = environment(&places(), Path::new("/Users/alice"), helpers);
        let text: Vec<String> = all.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
        insta::assert_snapshot!(format!("{}\n\n{}", text.join("\n"), containers_conf(helpers)), @r#"
        HOME=/Users/alice
        PATH=/opt/podman/bin:/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
        XDG_CONFIG_HOME=/Users/alice/.local/share/rcc/machine/config
        XDG_DATA_HOME=/Users/alice/.local/share/rcc/machine/data
        TMPDIR=/Users/alice/.local/share/rcc/machine/run
        CONTAINERS_CONF=/Users/alice/.local/share/rcc/machine/containers.conf
        CONTAINERS_HELPER_BINARY_DIR=/usr/local/libexec/rcc/0.1.0
        CONTAINERS_MACHINE_PROVIDER=applehv
        LC_ALL=C

        [engine]
        helper_binaries_dir = ["/usr/local/libexec/rcc/0.1.0"]

        [machine]
        provider = "applehv"
        volumes = []
        "#);
    }

    #[test]
    fn ssh_uses_nothing_of_the_persons() {
        let all = ssh(&places(), "core", Terminal::Yes, "exec rcc run -- 'ls'");
        let text: Vec<String> = all.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        insta::assert_snapshot!(text.join(" ").replace(" -o ", "\n-o "), @r#"
        -F /dev/null -a -x -tt
        -o BatchMode=yes
        -o IdentitiesOnly=yes
        -o IdentityAgent=none
        -o IdentityFile="/Users/alice/.local/share/rcc/machine/data/containers/podman/machine/machine"
        -o UserKnownHostsFile="/Users/alice/.local/share/rcc/machine/known_hosts"
        -o GlobalKnownHostsFile=/dev/null
        -o HostKeyAlias=rcc-machine
        -o StrictHostKeyChecking=accept-new
        -o ClearAllForwardings=yes
        -o PermitLocalCommand=no
        -o ControlPath=none
        -o EscapeChar=none
        -o LogLevel=ERROR
        -o ServerAliveInterval=15 -p 47022 core@127.0.0.1 -- exec rcc run -- 'ls'
        "#);
    }
}
