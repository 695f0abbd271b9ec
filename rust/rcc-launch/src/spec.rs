//! A launch as a value: what was asked for, and the container that follows from it. Pure.

use crate::added::{Access, Added};
use crate::machine::Machine;
use crate::own::Copy;
use crate::rootfs::{Entry, Root};
use crate::{engine_front, git_front, nix_front};
use rcc_policy::{Cpus, Limits, Memory};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the init and the agent's package are inside.
pub const INSIDE: &str = "/run/rcc";
/// Where the hook has the host's store for a moment, before the agent's first instruction.
pub const HOST_STORE: &str = "/nix/.host";
/// The configuration of git inside, wherever the git that runs was built to look for it.
pub const GITCONFIG: &str = "/etc/gitconfig";

/// Where the host's programs are inside.
pub const SYSTEM_PATH: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a person asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What runs, for the log: `claude`, `shell`, `run`.
    pub agent: &'static str,
    /// The command and its arguments, as found inside.
    pub command: Vec<OsString>,
    /// The folder to begin in; lies in the project.
    pub workdir: PathBuf,
    /// Whether there is a terminal on both sides.
    pub terminal: bool,
    /// Variables for the agent besides the usual ones.
    pub environment: BTreeMap<String, String>,
    /// What git inside is told by [`GITCONFIG`].
    pub gitconfig: String,
    /// Folders and files mounted read-only besides the root: source outside, place inside.
    pub read_only: Vec<(PathBuf, PathBuf)>,
    /// Toolchains and folders of the person's choice, each at its own place.
    pub added: Vec<Added>,
    /// Folders of programs, for PATH, before the system's.
    pub path: Vec<PathBuf>,
    /// Copies of what is the person's own, mounted read-only.
    pub brought: Vec<Copy>,
    /// Files of the root with their text, read-only inside.
    pub files: Vec<(PathBuf, String)>,
}

/// The session's own folder and the places in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Places {
    /// The session's folder, of the person's alone.
    pub folder: PathBuf,
}

impl Places {
    /// The container's root before anything is mounted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }
    /// The folder of the hook's description.
    #[must_use]
    pub fn hooks(&self) -> PathBuf {
        self.folder.join("hooks")
    }
    /// The copy of the static program that is hook and init.
    #[must_use]
    pub fn hook_program(&self) -> PathBuf {
        self.folder.join("rcc-hook")
    }
    /// The seccomp profile.
    #[must_use]
    pub fn seccomp(&self) -> PathBuf {
        self.folder.join("seccomp.json")
    }
    /// Podman's only configuration.
    #[must_use]
    pub fn containers_conf(&self) -> PathBuf {
        self.folder.join("containers.conf")
    }
    /// Podman's only storage configuration.
    #[must_use]
    pub fn storage_conf(&self) -> PathBuf {
        self.folder.join("storage.conf")
    }
    /// Copies of protected files.
    #[must_use]
    pub fn copies(&self) -> PathBuf {
        self.folder.join("copies")
    }
    /// Copies of what is the person's own.
    #[must_use]
    pub fn brought(&self) -> PathBuf {
        self.folder.join("brought")
    }
    /// A file with nothing in it: Podman's list of mounts, and what covers a socket.
    #[must_use]
    pub fn empty_file(&self) -> PathBuf {
        self.folder.join("empty")
    }
    /// Where Podman writes its id of the container, before there is a process of it.
    #[must_use]
    pub fn container_id(&self) -> PathBuf {
        self.folder.join("container")
    }

    /// The names in /nix/store that the hook binds, a line each.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// The socket that the hook calls.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("launch.sock")
    }
    /// The socket that `rcc allow` calls.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.folder.join("allow.sock")
    }
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Outside.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
    /// Whether the agent may write.
    pub writable: bool,
}

/// A tmpfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tmpfs {
    /// Inside.
    pub target: PathBuf,
    /// Most it may hold, in bytes.
    pub size: u64,
    /// Mode, in octal as text.
    pub mode: &'static str,
}

/// Limits in the units that Podman takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerLimits {
    /// Bytes of memory and swap together.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Thousandths of one CPU; `None` for all there are.
    pub cpu: Option<u64>,
    /// Bytes of a core dump.
    pub core: u64,
}

impl ContainerLimits {
    /// The policy's limits on this machine.
    #[must_use]
    pub fn of(limits: &Limits, machine: &Machine) -> Self {
        let memory = match limits.memory {
            Memory::Percent(share) => machine.memory / 100 * u64::from(share),
            Memory::Bytes(bytes) => bytes,
        };
        let all = machine.cpus * 1000;
        let cpu = match limits.cpus {
            Cpus::Percent(100) => None,
            Cpus::Percent(share) => Some((all * u64::from(share) / 100).max(10)),
            Cpus::Milli(milli) => Some(u64::from(milli)).filter(|m| *m < all),
        };
        Self { memory, pids: limits.pids, cpu, core: limits.core }
    }
}

/// The container of a session, in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerSpec {
    /// Podman's name for it.
    pub name: String,
    /// The session's folder.
    pub places: Places,
    /// Podman's storage and its state, the person's for rcc alone.
    pub storage: PathBuf,
    /// See `storage`.
    pub storage_state: PathBuf,
    /// Made in the session's folder before anything is mounted.
    pub skeleton: Vec<Entry>,
    /// In mounting order.
    pub mounts: Vec<Mount>,
    /// Names in /nix/store, each of which the hook binds read-only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub store: Vec<String>,
    /// Memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// The agent's whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where it begins.
    pub workdir: PathBuf,
    /// What runs under the init.
    pub command: Vec<OsString>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// The person's ids, the same inside.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// Limits.
    pub limits: ContainerLimits,
}

/// Everything that a container spec is made from.
pub struct Inputs<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// The machine.
    pub machine: &'a Machine,
    /// The policy's limits.
    pub limits: &'a Limits,
    /// The root filesystem.
    pub root: &'a Root,
    /// The project's real path.
    pub project: &'a Path,
    /// The agent's home outside.
    pub home: &'a Path,
    /// rcc's data folder of the person.
    pub data: &'a Path,
    /// The session's folder.
    pub places: Places,
    /// The session's id.
    pub id: &'a str,
}

/// The container for a request.
#[must_use]
pub fn container(inputs: &Inputs<'_>) -> ContainerSpec {
    let person = &inputs.machine.person;
    let read_only = |source: &Path, target: PathBuf| Mount { source: source.to_owned(), target, writable: false };
    let mut mounts: Vec<Mount> = inputs.root.read_only.iter().map(|p| read_only(p, p.clone())).collect();
    let own = |(source, target): &(PathBuf, PathBuf)| Mount {
        source: source.clone(),
        target: target.clone(),
        writable: true,
    };
    mounts.extend(inputs.root.own.iter().map(own));
    mounts.push(read_only(&inputs.places.hook_program(), Path::new(INSIDE).join("init")));
    mounts.push(Mount { source: inputs.home.to_owned(), target: person.home.clone(), writable: true });
    let added =
        |a: &Added| Mount { source: a.path.clone(), target: a.path.clone(), writable: a.access == Access::Writable };
    mounts.extend(inputs.request.added.iter().map(added));
    mounts.extend(inputs.request.read_only.iter().map(|(source, target)| read_only(source, target.clone())));
    let brought = inputs.places.brought();
    mounts.extend(inputs.request.brought.iter().map(|copy| read_only(&brought.join(copy.name), copy.target.clone())));
    mounts.push(Mount { source: inputs.project.to_owned(), target: inputs.project.to_owned(), writable: true });
    let mut skeleton = inputs.root.skeleton.clone();
    let files = inputs.request.files.iter();
    skeleton.extend(files.map(|(path, text)| Entry::File { path: path.clone(), text: text.clone() }));
    skeleton.push(Entry::File { path: GITCONFIG.into(), text: inputs.request.gitconfig.clone() });
    // With a store of its own the session has Nix itself.
    let nix_names = if inputs.root.own.is_empty() { nix_front::NAMES } else { &[] };
    for name in std::iter::once(&git_front::NAME).chain(engine_front::NAMES).chain(nix_names) {
        skeleton.push(Entry::Link { path: Path::new(INSIDE).join("bin").join(name), to: "../init".into() });
    }
    for mount in &mounts {
        // Inside the agent's home the launcher makes mount points itself; elsewhere they belong to the skeleton.
        let in_home = mount.target != person.home && mount.target.starts_with(&person.home);
        let known = skeleton
            .iter()
            .any(|e| matches!(e, Entry::Folder { path } | Entry::File { path, .. } if *path == mount.target));
        if !in_home && !known && !mount.target.starts_with(INSIDE) {
            skeleton.push(Entry::Folder { path: mount.target.clone() });
        }
    }
    let tenth = inputs.machine.memory / 10;
    let tmpfs = |target: &str, size: u64, mode| Tmpfs { target: target.into(), size, mode };
    let limits = ContainerLimits::of(inputs.limits, inputs.machine);
    ContainerSpec {
        name: format!("rcc-{}", inputs.id),
        storage: inputs.data.join("podman"),
        storage_state: inputs.machine.runtime_dir.join("rcc/podman"),
        places: inputs.places.clone(),
        skeleton,
        mounts,
        store: inputs.root.store.clone(),
        tmpfs: vec![
            tmpfs("/tmp", tenth * 2, "1777"),
            tmpfs("/var/tmp", tenth, "1777"),
            tmpfs("/dev/shm", tenth, "1777"),
        ],
        environment: environment(inputs),
        workdir: inputs.request.workdir.clone(),
        command: inputs.request.command.clone(),
        terminal: inputs.request.terminal,
        uid: person.uid,
        gid: person.gid,
        limits,
    }
}

/// Nothing of the person's environment comes in but what was put into the request.
fn environment(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let person = &inputs.machine.person;
    let home = person.home.display().to_string();
    let mut path = vec![format!("{home}/.local/bin"), format!("{INSIDE}/bin")];
    path.extend(inputs.request.path.iter().map(|folder| text(folder)));
    path.extend(SYSTEM_PATH.iter().map(|folder| (*folder).to_owned()));
    path.dedup();
    let usual = [
        ("HOME", home),
        ("USER", person.name.clone()),
        ("LOGNAME", person.name.clone()),
        ("SHELL", "/bin/bash".to_owned()),
        ("PATH", path.join(":")),
        ("GIT_CONFIG_SYSTEM", GITCONFIG.to_owned()),
        ("RCC", "1".to_owned()),
    ];
    let mut all: BTreeMap<String, String> = usual.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    all.extend(inputs.request.environment.clone());
    all
}

/// Podman's arguments for a container, after its name.
#[must_use]
pub fn arguments(spec: &ContainerSpec, machine: &Machine) -> Vec<OsString> {
    let places = &spec.places;
    let mut args = storage_arguments(spec);
    let mut add = |name: &str, value: &str| args.push(format!("--{name}={value}").into());
    add("cgroup-manager", machine.cgroup_manager.name());
    add("events-backend", "none");
    add("log-level", "error");
    add("hooks-dir", &text(&places.hooks()));
    // Otherwise /etc/containers/mounts.conf and the distribution's add mounts of their own.
    add("default-mounts-file", &text(&places.empty_file()));
    args.push("run".into());
    let mut add = |name: &str, value: &str| args.push(format!("--{name}={value}").into());
    add("name", &spec.name);
    add("cidfile", &text(&places.container_id()));
    for name in ["rm", "interactive", "read-only", "no-hosts", "unsetenv-all"] {
        add(name, "true");
    }
    for name in ["read-only-tmpfs", "http-proxy", "passwd", "systemd"] {
        add(name, "false");
    }
    add("tty", if spec.terminal { "true" } else { "false" });
    // Otherwise Ctrl-P, Ctrl-Q would leave the agent running by itself.
    add("detach-keys", "");
    // With a terminal, signals come from inside it; Podman would catch even those of job control.
    add("sig-proxy", if spec.terminal { "false" } else { "true" });
    for (name, value) in [
        ("network", "none"),
        ("userns", "keep-id"),
        ("pid", "private"),
        ("ipc", "private"),
        ("uts", "private"),
        ("cgroupns", "private"),
        ("hostname", "rcc"),
        ("cap-drop", "all"),
        ("security-opt", "no-new-privileges"),
        ("log-driver", "none"),
        ("sdnotify", "ignore"),
        ("stop-timeout", "0"),
        ("umask", "0022"),
        // With SELinux, the project would have to be relabelled otherwise, which nobody asked for (DESIGN).
        ("security-opt", "label=disable"),
    ] {
        add(name, value);
    }
    add("security-opt", &format!("seccomp={}", text(&places.seccomp())));
    add("user", &format!("{}:{}", spec.uid, spec.gid));
    limits(spec, &mut add);
    for tmpfs in &spec.tmpfs {
        let target = text(&tmpfs.target);
        add("tmpfs", &format!("{target}:rw,size={},mode={},nosuid,nodev,notmpcopyup", tmpfs.size, tmpfs.mode));
    }
    for mount in &spec.mounts {
        add("mount", &mount_argument(mount));
    }
    for (name, value) in &spec.environment {
        add("env", &format!("{name}={value}"));
    }
    add("workdir", &text(&spec.workdir));
    add("entrypoint", "[]");
    args.push("--rootfs".into());
    args.push(places.root().into());
    args.push(format!("{INSIDE}/init").into());
    args.push("init".into());
    args.push(spec.limits.pids.to_string().into());
    args.extend(spec.command.iter().cloned());
    args
}

/// The arguments that name rcc's own storage, for every call of Podman.
#[must_use]
pub fn storage_arguments(spec: &ContainerSpec) -> Vec<OsString> {
    vec![
        format!("--root={}", text(&spec.storage)).into(),
        format!("--runroot={}", text(&spec.storage_state)).into(),
        "--storage-driver=vfs".into(),
    ]
}

fn limits(spec: &ContainerSpec, add: &mut impl FnMut(&str, &str)) {
    let limits = &spec.limits;
    add("pids-limit", &limits.pids.to_string());
    add("memory", &limits.memory.to_string());
    add("memory-swap", &limits.memory.to_string());
    if let Some(cpu) = limits.cpu {
        add("cpus", &format!("{}.{:03}", cpu / 1000, cpu % 1000));
    }
    add("ulimit", &format!("core={0}:{0}", limits.core));
}

/// CSV, as Podman reads it: a field with a comma or a quote is quoted.
fn mount_argument(mount: &Mount) -> String {
    let field = |name: &str, path: &Path| {
        let field = format!("{name}={}", text(path));
        if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
    };
    let read_only = if mount.writable { "false" } else { "true" };
    let (source, target) = (field("src", &mount.source), field("dst", &mount.target));
    format!("type=bind,{source},{target},ro={read_only},nosuid,nodev,bind-propagation=rprivate")
}

/// Paths are UTF-8 by now: the project's was checked, the others are rcc's own.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
