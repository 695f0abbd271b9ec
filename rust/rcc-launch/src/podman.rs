//! Calling Podman: by its absolute path, with an environment made from nothing and no configuration but rcc's.

use crate::machine::{CgroupManager, Machine};
use crate::spec::{ContainerSpec, Places, arguments, storage_arguments};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    let pid = fs::read_to_string(record).ok().and_then(|text| text.trim().parse::<u32>().ok());
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
fn forget(machine: &Machine, id: &str) {
    let Ok(runtime) = crate::machine::program("crun") else { return };
    let _failed_or_gone = Command::new(runtime)
        .arg(format!("--root={}", machine.runtime_dir.join("crun").display()))
        .args(["delete", "--force", id])
        .env_clear()
        .env("XDG_RUNTIME_DIR", &machine.runtime_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    monitor_ends(id);
    forget_exit(machine, id);
}

/// Waits for conmon's end: it writes down how a container ended even after Podman has removed it.
fn monitor_ends(id: &str) {
    let end = Instant::now() + CONMON_PATIENCE;
    while monitored(id) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Takes away what conmon wrote down: the first Podman does itself, unless a process of its own was killed in between; the
/// second, a folder, is left by Podman 5.8 in any case.
pub fn forget_exit(machine: &Machine, id: &str) {
    let _gone_already = fs::remove_file(exits(machine).join(id));
    let persisted = machine.runtime_dir.join("libpod/tmp/persist").join(id);
    if persisted.exists() {
        monitor_ends(id);
        let _gone_already = fs::remove_dir_all(persisted);
    }
}

/// How long conmon may take to follow its container.
const CONMON_PATIENCE: Duration = Duration::from_millis(500);

/// Whether a conmon has this container in its arguments.
fn monitored(id: &str) -> bool {
    let names = |line: Vec<u8>| {
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"conmon")) && words.any(|word| word == id.as_bytes())
    };
    let lines = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path().join("cmdline"));
    lines.filter_map(|line| fs::read(line).ok()).any(names)
}

/// Takes away what a Podman that was killed had half written of its books: it writes each anew under another name, while it
/// holds that folder's lock (containers/storage, `pkg/lockfile`: a lock of fcntl(2)). Whose lock is held is left alone.
fn forget_half_written(storage: &Path) {
    let below = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &Path, holds: fn(&str) -> bool| path.file_name().and_then(|n| n.to_str()).is_some_and(holds);
    for folder in below(storage).filter(|p| named(p, |n| n.starts_with("vfs-"))) {
        let halves: Vec<_> = below(&folder).filter(|p| named(p, |n| n.starts_with(".tmp-"))).collect();
        let Some(lock) =
            below(&folder).find(|p| p.extension().is_some_and(|e| e == "lock")).filter(|_| !halves.is_empty())
        else {
            continue;
        };
        let Ok(lock) = fs::File::options().write(true).open(lock) else { continue };
        #[expect(clippy::cast_possible_truncation, reason = "the kernel's constants, 0 to 2")]
        let whole = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        if fcntl(&lock, FcntlArg::F_OFD_SETLK(&whole)).is_ok() {
            for half in halves {
                let _gone_already = fs::remove_file(half);
            }
        }
    }
}

/// Where conmon writes down how containers ended, each in a file by its id.
#[must_use]
pub fn exits(machine: &Machine) -> PathBuf {
    machine.runtime_dir.join("libpod/tmp/exits")
}

/// The id that Podman gave a session's container; none where it did not come to that.
#[must_use]
pub fn container_id(places: &Places) -> Option<String> {
    let id = fs::read_to_string(places.container_id()).ok()?;
    id.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(id).filter(|id| !id.is_empty())
}

/// Removes a session's container that may be left; there is nobody to tell if it was not.
pub fn remove(machine: &Machine, spec: &ContainerSpec, name: &str, id: Option<&str>) {
    quietly(machine, spec, &["rm", "--force", "--ignore", "--time=0", name]);
    forget_half_written(&spec.storage);
    if let Some(id) = id {
        forget(machine, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_written_goes_unless_somebody_writes() {
        let storage = tempfile::tempdir().unwrap();
        let folder = storage.path().join("vfs-layers");
        fs::create_dir(&folder).unwrap();
        for name in ["layers.lock", "layers.json", ".tmp-layers.json123"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        let names = || fs::read_dir(&folder).unwrap().count();
        let writer = fs::File::options().write(true).open(folder.join("layers.lock")).unwrap();
        let mut lock = libc::flock { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        fcntl(&writer, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        forget_half_written(storage.path());
        assert_eq!(names(), 3);
        lock.l_type = 2;
        fcntl(&writer, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        forget_half_written(storage.path());
        assert_eq!(names(), 2);
        assert!(folder.join("layers.json").exists());
    }
}
