//! The machine as the launcher finds it: who the person is, where Podman is, what the host's root looks like. Reads
//! only; judges nothing that the preflight checker will judge better.

use nix::unistd::{Uid, User};
use rcc_report::{Code, Problem};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The person who started rcc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The login name.
    pub name: String,
    /// The numeric user id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The home folder, with links resolved.
    pub home: PathBuf,
}

/// How Podman makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// By the person's systemd.
    Systemd,
    /// By writing to the file system itself, where no systemd runs for the person.
    Cgroupfs,
}

impl CgroupManager {
    /// As Podman's option has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

/// What a launch needs to know of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Who.
    pub person: Person,
    /// `XDG_RUNTIME_DIR`, a folder of the person's alone.
    pub runtime_dir: PathBuf,
    /// Podman's absolute path; only root can write it.
    pub podman: PathBuf,
    /// How cgroups are made.
    pub cgroup_manager: CgroupManager,
    /// Memory of the machine, in bytes.
    pub memory: u64,
    /// Processors that this process may use.
    pub cpus: u64,
}

/// Where a program is looked for, in this order: the distribution's, NixOS's wrappers and system profile. Never PATH.
const PROGRAM_FOLDERS: &[&str] = &["/usr/bin", "/usr/sbin", "/run/wrappers/bin", "/run/current-system/sw/bin"];

/// Where distributions have conmon, beside [`PROGRAM_FOLDERS`].
const CONMON: &[&str] = &["/usr/libexec/podman/conmon", "/usr/lib/podman/conmon"];

impl Machine {
    /// Looks at the machine.
    pub fn probe() -> Result<Self, Problem> {
        let person = person()?;
        subordinate_ids(&person, "/etc/subuid")?;
        subordinate_ids(&person, "/etc/subgid")?;
        let podman = program("podman")?;
        for helper in ["crun", "newuidmap", "newgidmap"] {
            program(helper)?;
        }
        // Podman finds it by itself, in folders that differ between distributions.
        if !CONMON.iter().any(|path| Path::new(path).exists()) {
            program("conmon")?;
        }
        let runtime_dir = runtime_dir(&person)?;
        let systemd = runtime_dir.join("systemd/private").exists();
        let cgroup_manager = if systemd { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Ok(Self { person, runtime_dir, podman, cgroup_manager, memory: memory(), cpus })
    }
}

/// Who started rcc; never root.
pub fn person() -> Result<Person, Problem> {
    let uid = Uid::current();
    if uid.is_root() || Uid::effective() != uid {
        return Err(Problem::new(
            Code::RUNNING_AS_ROOT,
            "root",
            "agents run for an ordinary user, never for root or by setuid",
            "start rcc as the user whose project it is: su - USER -c 'cd PROJECT && rcc claude'",
        ));
    }
    let missing = |what: &str| {
        Problem::new(
            Code::RUNTIME_DIR,
            uid.to_string(),
            format!("this user id {what}"),
            "log in as a user of this machine",
        )
    };
    let user = User::from_uid(uid).ok().flatten().ok_or_else(|| missing("has no entry in the password database"))?;
    let home = fs::canonicalize(&user.dir).map_err(|_| missing("has no home folder"))?;
    Ok(Person { name: user.name, uid: uid.as_raw(), gid: user.gid.as_raw(), home })
}

/// Finds a program where only root can write, with all folders above it.
pub fn program(name: &str) -> Result<PathBuf, Problem> {
    let found = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    let path = found.ok_or_else(|| {
        let package = if name.starts_with("new") { "uidmap" } else { name };
        Problem::new(
            Code::PODMAN_MISSING,
            name,
            format!("not found in {}", PROGRAM_FOLDERS.join(", ")),
            format!("sudo apt install {package}  (Debian, Ubuntu)\nsudo dnf install {package}  (Fedora; there newuidmap is in shadow-utils)"),
        )
    })?;
    only_root_writes(&path).map_err(|place| {
        Problem::new(
            Code::PODMAN_MISSING,
            place.display().to_string(),
            format!("others than root can write it, so {name} is not run from there"),
            "reinstall it from the distribution, or: sudo chown root FILE; sudo chmod go-w FILE",
        )
    })?;
    Ok(path)
}

/// Whether nobody but root can change what `path` leads to; else the first place where somebody can.
pub fn only_root_writes(path: &Path) -> Result<(), PathBuf> {
    let real = fs::canonicalize(path).map_err(|_| path.to_owned())?;
    for place in real.ancestors() {
        let about = fs::metadata(place).map_err(|_| place.to_owned())?;
        // A sticky folder (/nix/store) lets others add entries but not change ours.
        let others_write = about.mode() & 0o022 != 0 && about.mode() & 0o1000 == 0;
        if about.uid() != 0 || others_write {
            return Err(place.to_owned());
        }
    }
    Ok(())
}

fn subordinate_ids(person: &Person, file: &str) -> Result<(), Problem> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let uid = person.uid.to_string();
    let has = text.lines().any(|line| {
        let mut fields = line.split(':');
        let owner = fields.next().unwrap_or_default();
        let count = fields.nth(1).and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
        (owner == person.name || owner == uid) && count >= 65536
    });
    if has {
        return Ok(());
    }
    let option = if file.ends_with("uid") { "--add-subuids" } else { "--add-subgids" };
    Err(Problem::new(
        Code::SUBIDS_MISSING,
        file,
        format!("{} has no range of 65536 ids there", person.name),
        format!("sudo usermod {option} 1000000000-1000065535 {}", person.name),
    ))
}

/// The folder is found by the user id, as systemd makes it; the environment's word is taken only if it says a folder
/// that is the person's alone.
fn runtime_dir(person: &Person) -> Result<PathBuf, Problem> {
    let usual = PathBuf::from(format!("/run/user/{}", person.uid));
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    let private = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == person.uid && m.mode() & 0o077 == 0)
    };
    [Some(usual.clone()), named].into_iter().flatten().find(private).ok_or_else(|| {
        let uid = person.uid;
        Problem::new(
            Code::RUNTIME_DIR,
            usual.display().to_string(),
            "missing, or not a folder of this user's alone",
            format!(
                "log in by the console or ssh rather than by su, or: sudo loginctl enable-linger {}\nwithout systemd: sudo install -d -o {uid} -g {} -m 700 /run/user/{uid}",
                person.name, person.gid
            ),
        )
    })
}

fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
