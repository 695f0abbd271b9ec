//! The unprivileged user, and rootless Podman as they run it.

use anyhow::Result;
use rcc_world::{Setup, inside_with, token};

use crate::client::sh;

const PERSON: Setup =
    Setup { user: Some("agent-owner"), as_user: true, private_tmp: false, no_wire: false, outside: false };

/// A root filesystem of empty folders and links, as NOTES say, and how Podman is called.
const PODMAN: &str = r#"
    cd; r=$HOME/skeleton
    for d in usr proc sys dev tmp run var/tmp dev/shm etc home; do mkdir -p $r/$d; done
    for l in bin lib lib64 sbin; do ln -sfn usr/$l $r/$l; done
    touch $r/etc/passwd $r/etc/hosts $r/etc/resolv.conf $r/etc/hostname $r/run/.containerenv
    podman() { command podman --cgroup-manager=cgroupfs run --rm --userns=keep-id -v /usr:/usr:ro "$@"; }
"#;

#[test]
fn the_user_is_one() {
    inside_with(PERSON, |world| {
        let user = world.at.user.as_ref().unwrap();
        assert_eq!(
            sh("id -un; id -u; id -G; echo $HOME; pwd >/dev/null; stat -c %U:%a $XDG_RUNTIME_DIR")?,
            format!("agent-owner\n{0}\n{0}\n/home/agent-owner\nagent-owner:700\n", user.id)
        );
        assert!(sh("id rcc")?.contains("977"));
        sh("grep -q ^agent-owner: /etc/subuid && grep -q ^agent-owner: /etc/subgid && ! touch /etc/x 2>/dev/null")?;
        // the model's script can be replaced by them
        world.set_script(&rcc_world::model::script::Script::default())
    });
}

#[test]
fn rootless_podman_runs_with_no_network_at_all() {
    inside_with(PERSON, |world| {
        let token = token::fresh();
        let out = sh(&format!(
            "{PODMAN} podman --network none --rootfs $r sh -c '
            id -u; ls /sys/class/net; curl -sS -m3 http://11.66.66.66/{token} 2>&1 || echo denied'"
        ))?;
        assert!(out.starts_with("4177\nlo\n") && out.ends_with("denied\n"), "{out}");
        world.assert_unseen(&token)
    });
}

#[test]
fn the_same_container_on_the_hosts_network_reaches_everything() {
    inside_with(PERSON, |world| {
        let token = token::fresh();
        sh(&format!(
            "{PODMAN} podman --network host -v /etc/resolv.conf:/etc/resolv.conf:ro --rootfs $r sh -c '
            curl -sS -m3 http://denied.example/{token} && curl -sS -m3 http://169.254.169.254/{token} &&
            curl -sS -m3 http://127.0.0.1:8901/{token} && curl -sS -m3 http://192.168.77.20/{token}'"
        ))?;
        let hits: Vec<_> = world.hits_with(&token)?.into_iter().map(|h| h.server).collect();
        assert_eq!(hits, ["web", "metadata", "host:loopback", "printer"]);
        Ok(())
    });
}

#[test]
fn what_is_installed_in_a_world_stays_in_it() -> Result<()> {
    inside_with(Setup { user: Some("agent-owner"), ..Setup::default() }, |_| {
        sh("mkdir -p /etc/rcc /var/log/rcc /usr/local/libexec/rcc /home/other /opt/rcc-world-test
            echo x >/etc/rcc/policy.toml; touch /usr/local/bin/rcc-world-test; useradd -m world-test-person; id world-test-person")?;
        Ok(())
    });
    if rcc_world::World::here().is_none() {
        for path in ["/usr/local/bin/rcc-world-test", "/opt/rcc-world-test", "/home/agent-owner", "/run/rcc-world"] {
            assert!(!std::path::Path::new(path).exists(), "{path}");
        }
        assert!(!std::fs::read_to_string("/etc/passwd")?.contains("world-test-person"));
    }
    Ok(())
}
