//! What a start looks at.

use super::accounts::account;
use crate::facts::{IdFile, IdRange, Person, Program, RuntimeDir, SubordinateIds, System, UserNamespaces};
use crate::system::Family;
use nix::unistd::{Gid, Uid};
use rcc_host::trusted::read_plain;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a program is looked for, in this order: the distribution's, NixOS's wrappers and system profile. Never PATH.
const PROGRAM_FOLDERS: &[&str] = &["/usr/bin", "/usr/sbin", "/run/wrappers/bin", "/run/current-system/sw/bin"];

/// Where distributions have conmon, beside [`PROGRAM_FOLDERS`]: Podman finds it by itself.
const CONMON_FOLDERS: &[&str] = &["/usr/libexec/podman", "/usr/lib/podman"];

/// The programs that are looked for.
const PROGRAMS: &[&str] = &["podman", "crun", "conmon", "newuidmap", "newgidmap", "nft"];

/// The folders that programs are looked for in, for people.
#[must_use]
pub fn program_folders() -> String {
    PROGRAM_FOLDERS.join(", ")
}

pub(super) fn text(path: &str) -> Option<String> {
    read_plain(Path::new(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn number(path: &str) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

pub(super) fn system() -> Result<System, String> {
    let uname = nix::sys::utsname::uname().map_err(|e| e.to_string())?;
    let release = text("/etc/os-release").or_else(|| text("/usr/lib/os-release")).unwrap_or_default();
    let field = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    };
    Ok(System {
        os: "linux".into(),
        id: field("ID").unwrap_or_default(),
        like: field("ID_LIKE").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        name: field("PRETTY_NAME").unwrap_or_default(),
        kernel: uname.release().to_string_lossy().into_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
    })
}

/// How this distribution installs.
#[must_use]
pub fn family() -> Family {
    system().as_ref().map_or(Family::Other, Family::of)
}

/// Who asks; an error if the account can't be looked up.
pub fn person() -> Result<Person, String> {
    let uid = Uid::current();
    let account = account(&uid.to_string())?;
    Ok(Person {
        uid: uid.as_raw(),
        effective: Uid::effective().as_raw(),
        name: account.as_ref().map(|a| a.name.clone()),
        gid: account.as_ref().map_or_else(|| Gid::current().as_raw(), |a| a.gid),
        groups: Vec::new(),
        home: account.and_then(|a| fs::canonicalize(a.home).ok()),
    })
}

/// The names of the groups of the process, of those in /etc/group.
pub(super) fn groups() -> Vec<String> {
    // macOS says of a process's groups sixteen at most; who is asked there is the directory service.
    #[cfg(target_os = "linux")]
    let mut ids = nix::unistd::getgroups().unwrap_or_default();
    #[cfg(not(target_os = "linux"))]
    let mut ids = Vec::new();
    ids.push(Gid::current());
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let id = fields.nth(1)?.parse().ok()?;
        ids.contains(&Gid::from_raw(id)).then_some(name)
    };
    text("/etc/group").unwrap_or_default().lines().filter_map(entry).collect()
}

pub(super) fn programs() -> BTreeMap<String, Program> {
    PROGRAMS.iter().filter_map(|name| Some(((*name).to_owned(), program(name)?))).collect()
}

/// Finds a program.
#[must_use]
pub fn program(name: &str) -> Option<Program> {
    let more = if name == "conmon" { CONMON_FOLDERS } else { &[] };
    let folders = PROGRAM_FOLDERS.iter().chain(more);
    let path = folders.map(|folder| Path::new(folder).join(name)).find(|path| path.exists())?;
    let about = fs::metadata(&path).ok();
    let mut value = [0; 64];
    Some(Program {
        writable_by_others: only_root_writes(&path).err(),
        setuid: about.is_some_and(|m| m.mode() & 0o4000 != 0 && m.uid() == 0),
        capabilities: capability(&path, &mut value),
        path,
    })
}

/// Whether a file has `security.capability` (capabilities(7)).
fn capability(path: &Path, value: &mut [u8]) -> bool {
    rcc_host::trusted::attribute(path, c"security.capability", value).is_ok_and(|length| length > 0)
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

pub(super) fn ids() -> Result<SubordinateIds, String> {
    Ok(SubordinateIds { uid: id_file("/etc/subuid", "/etc/passwd")?, gid: id_file("/etc/subgid", "/etc/group")? })
}

fn id_file(subordinate: &str, own: &str) -> Result<IdFile, String> {
    // Without the file nobody has any.
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?.to_owned();
        Some(IdRange { owner, start: fields.next()?.parse().ok()?, count: fields.next()?.trim().parse().ok()? })
    };
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    let own = text(own).ok_or_else(|| format!("{own} can't be read"))?;
    let ranges: Vec<IdRange> = text(subordinate).unwrap_or_default().lines().filter_map(range).collect();
    let handed_out = |id: &u64| ranges.iter().any(|r| (r.start..r.start.saturating_add(r.count)).contains(id));
    let own = own.lines().filter_map(entry).filter(|(_, id)| handed_out(id)).collect();
    Ok(IdFile { ranges, own })
}

/// The folder is found by the user id, as systemd makes it; the environment's word is taken only if it says a folder
/// that is the person's alone.
pub(super) fn runtime_dir() -> RuntimeDir {
    let uid = Uid::current().as_raw();
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    let private = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == uid && m.mode() & 0o077 == 0)
    };
    let path = [Some(usual.clone()), named].into_iter().flatten().find(private);
    let systemd = path.as_ref().is_some_and(|path| path.join("systemd/private").exists());
    RuntimeDir { path, usual, lingers: false, systemd }
}

pub(super) fn user_namespaces() -> UserNamespaces {
    let restricts = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    UserNamespaces {
        max: number("/proc/sys/user/max_user_namespaces"),
        unprivileged: number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restricts: restricts,
        podman_profile: restricts.is_some_and(|value| value != 0) && podman_profile(),
    }
}

/// Whether a profile that Ubuntu's apparmor package, or root, wrote lets Podman make user namespaces. What is loaded only
/// root can see.
fn podman_profile() -> bool {
    let gives = |profile: &str| {
        text(profile).is_some_and(|t| t.contains("/podman") && t.lines().any(|line| line.trim().starts_with("userns")))
    };
    ["/etc/apparmor.d/podman", "/etc/apparmor.d/usr.bin.podman"].into_iter().any(gives)
}

pub(super) fn seccomp() -> bool {
    text("/proc/sys/kernel/seccomp/actions_avail").is_some_and(|t| t.split_whitespace().any(|word| word == "errno"))
}
