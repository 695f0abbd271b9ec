//! Calling Podman: by its absolute path, with an environment made from nothing and no configuration but rcc's.

use crate::machine::{CgroupManager, Machine};
use crate::spec::{ContainerSpec, arguments, storage_arguments};
use std::path::Path;
use std::process::{Command, Stdio};

/// Podman's whole configuration. No mounts, hooks, environment or runtime flags of the machine's or the person's.
pub const CONTAINERS_CONF: &str = "\
[containers]\n\
default_sysctls = []\n\
env = []\n\
volumes = []\n\
[engine]\n\
runtime = \"crun\"\n\
events_logger = \"none\"\n";

/// The storage's configuration; places are given as arguments. Nothing is ever stored: there is no image.
pub const STORAGE_CONF: &str = "[storage]\ndriver = \"vfs\"\n";

/// The variables that Podman gets, and no others.
#[must_use]
pub fn environment(spec: &ContainerSpec, machine: &Machine) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut all = vec![
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/run/wrappers/bin:/run/current-system/sw/bin".to_owned()),
        // Not the person's: Podman would read ~/.config/containers.
        ("HOME", text(&spec.storage)),
        ("XDG_RUNTIME_DIR", text(&machine.runtime_dir)),
        ("CONTAINERS_CONF", text(&spec.places.containers_conf())),
        ("CONTAINERS_STORAGE_CONF", text(&spec.places.storage_conf())),
        ("LANG", "C.UTF-8".to_owned()),
    ];
    if machine.cgroup_manager == CgroupManager::Systemd {
        all.push(("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", text(&machine.runtime_dir.join("bus")))));
    }
    all
}

/// `podman run …`
#[must_use]
pub fn run(spec: &ContainerSpec, machine: &Machine) -> Command {
    let mut command = Command::new(&machine.podman);
    command.args(arguments(spec, machine)).env_clear().envs(environment(spec, machine)).current_dir("/");
    command
}

/// Rootless Podman keeps one process a user, which holds its namespaces. It keeps the streams of whoever makes it open as
/// well, so that `rcc run … | cat` would never end: it is made beforehand, with streams that nobody waits for.
pub fn hold_namespaces(machine: &Machine, spec: &ContainerSpec) {
    let record = machine.runtime_dir.join("libpod/tmp/pause.pid");
    let pid = std::fs::read_to_string(record).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
        return;
    }
    quietly(machine, spec, &["unshare", "true"]);
}

/// Calls Podman where what it says concerns nobody; if it fails, the call that follows says why.
fn quietly(machine: &Machine, spec: &ContainerSpec, arguments: &[&str]) {
    let _ = Command::new(&machine.podman)
        .args(storage_arguments(spec))
        .arg(format!("--cgroup-manager={}", machine.cgroup_manager.name()))
        .args(["--events-backend=none", "--log-level=error"])
        .args(arguments)
        .env_clear()
        .envs(environment(spec, machine))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Takes away what the runtime itself keeps of a container: when conmon was killed, Podman no longer asks for it.
pub fn forget(machine: &Machine, id: &str) {
    let Ok(runtime) = crate::machine::program("crun") else { return };
    let _ = Command::new(runtime)
        .arg(format!("--root={}", machine.runtime_dir.join("crun").display()))
        .args(["delete", "--force", id])
        .env_clear()
        .env("XDG_RUNTIME_DIR", &machine.runtime_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Removes a container that may be left; there is nobody to tell if it was not.
pub fn remove(machine: &Machine, spec: &ContainerSpec, name: &str) {
    quietly(machine, spec, &["rm", "--force", "--ignore", "--time=0", name]);
}
