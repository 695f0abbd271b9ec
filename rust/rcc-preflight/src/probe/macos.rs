//! What is looked at on a Mac: Apple's own programs by absolute path, files, and root's status service. Compiled on every
//! system and called on macOS alone; what is printed is understood by [`parse`].

mod parse;

use super::basics::only_root_writes;
use super::run::{ended, said};
use super::{Asked, Question, ask};
use crate::facts::{
    AppleFolder, Daemon, Fact, FileSystem, MacOs, MacPodman, Network, Pf, PodmanMachine, Program, Shim, System,
};
use nix::sys::statvfs::{FsFlags, statvfs};
use rcc_host::macos::{Job, job};
use rcc_proto::macos::{GROUP, LABELS, MACHINE, MACHINE_FOLDER, NET_GROUP, PODMAN, PROGRAMS, STATUS_SOCKET, USER};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What Podman is to start as gvproxy, in its version's folder.
const SHIM: &str = "gvproxy";
/// How long the status service may take, each way.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked beside the other probes, to be answered later.
pub struct Pending {
    basics: Asked<(String, Option<bool>, bool, bool)>,
    accounts: Asked<crate::facts::Accounts>,
    daemons: Asked<Vec<Daemon>>,
    pf: Asked<Pf>,
    podman: Asked<Option<MacPodman>>,
    shim: Asked<Option<Shim>>,
    bound: Asked<bool>,
    machine: Asked<Option<PodmanMachine>>,
    network: Asked<(crate::facts::MacNetwork, Vec<String>)>,
    folders: Asked<Vec<AppleFolder>>,
}

/// Starts all of it.
pub fn pending(question: &Question, home: Option<&Path>) -> Pending {
    let (project, home) = (question.project.clone(), home.map(Path::to_owned));
    let homes = home.clone();
    Pending {
        basics: ask(basics),
        accounts: ask(accounts),
        daemons: ask(|| LABELS.iter().filter_map(|label| daemon(label).transpose()).collect()),
        pf: ask(|| pf(STATUS_SOCKET, 0)),
        podman: ask(podman),
        shim: ask(|| shim(Path::new(PROGRAMS))),
        bound: ask(|| bound(Path::new(PROGRAMS))),
        machine: ask(move || homes.map_or(Ok(None), |home| machine(&home))),
        network: ask(network),
        folders: ask(move || folders(&project, home.as_deref())),
    }
}

impl Pending {
    /// What came of it, and the machine's resolvers and proxies.
    pub fn answer(self, until: Instant) -> (Option<MacOs>, Fact<Network>) {
        let (network, resolvers) = match self.network.answer(until) {
            Fact::Known((network, resolvers)) => (Fact::Known(network), Fact::Known(resolvers)),
            Fact::Unknown(why) => (Fact::Unknown(why.clone()), Fact::Unknown(why)),
        };
        let general = match (&network, &resolvers) {
            (Fact::Known(found), Fact::Known(resolvers)) => own_addresses()
                .and_then(|own| super::around::made_up(resolvers, &own))
                .map(|made_up| Network {
                    tunnels: found.tunnel.iter().cloned().chain(found.vpns.clone()).collect(),
                    proxies: found.proxies.clone(),
                    resolvers: resolvers.clone(),
                    made_up,
                    ..Network::default()
                })
                .into(),
            (Fact::Unknown(why), _) | (_, Fact::Unknown(why)) => Fact::Unknown(why.clone()),
        };
        let Fact::Known((version, hypervisor, virtual_machine, translated)) = self.basics.answer(until) else {
            return (None, general);
        };
        let macos = MacOs {
            version,
            hypervisor,
            virtual_machine,
            translated,
            accounts: self.accounts.answer(until),
            daemons: self.daemons.answer(until),
            pf: self.pf.answer(until),
            podman: self.podman.answer(until),
            shim: self.shim.answer(until),
            bound: self.bound.answer(until),
            machine: self.machine.answer(until),
            network,
            folders: self.folders.answer(until),
        };
        (Some(macos), general)
    }
}

/// What a start looks at, and no more.
pub fn launch(home: Option<&Path>, until: Instant) -> Option<MacOs> {
    let home = home.map(Path::to_owned);
    let (basics, podman, shim) = (ask(basics), ask(podman), ask(|| shim(Path::new(PROGRAMS))));
    let bound = ask(|| bound(Path::new(PROGRAMS)));
    let machine = ask(move || home.map_or(Ok(None), |home| machine(&home)));
    let Fact::Known((version, hypervisor, virtual_machine, translated)) = basics.answer(until) else { return None };
    let later = || "not looked at before a start".to_owned();
    Some(MacOs {
        version,
        hypervisor,
        virtual_machine,
        translated,
        accounts: Fact::Unknown(later()),
        daemons: Fact::Unknown(later()),
        pf: Fact::Unknown(later()),
        podman: podman.answer(until),
        shim: shim.answer(until),
        bound: bound.answer(until),
        machine: machine.answer(until),
        network: Fact::Unknown(later()),
        folders: Fact::Unknown(later()),
    })
}

/// What a program prints, if it ends well.
fn printed(program: &str, arguments: &[&str]) -> Result<String, String> {
    let (well, text) = said(Path::new(program), arguments)?;
    if well { Ok(text) } else { Err(format!("{program} {} failed", arguments.join(" "))) }
}

/// The system.
pub fn system() -> Result<System, String> {
    let uname = nix::sys::utsname::uname().map_err(|e| e.to_string())?;
    let version = printed("/usr/bin/sw_vers", &[])?;
    let version = parse::fields(&version).get("ProductVersion").copied().unwrap_or_default().to_owned();
    Ok(System {
        os: "macos".into(),
        id: "macos".into(),
        like: Vec::new(),
        name: format!("macOS {version}"),
        kernel: uname.release().to_string_lossy().into_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
    })
}

/// The names of the person's groups.
pub fn groups() -> Vec<String> {
    let names = printed("/usr/bin/id", &["-Gn"]).unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

fn basics() -> Result<(String, Option<bool>, bool, bool), String> {
    let version = printed("/usr/bin/sw_vers", &[])?;
    let version = parse::fields(&version).get("ProductVersion").copied().ok_or("sw_vers names no version")?.to_owned();
    // It fails for what this processor does not have, and prints the rest.
    let names = ["kern.hv_support", "kern.hv_vmm_present", "sysctl.proc_translated"];
    let (_, text) = said(Path::new("/usr/sbin/sysctl"), &names)?;
    let fields = parse::fields(&text);
    let is = |name: &str| fields.get(name).map(|value| *value == "1");
    Ok((version, is(names[0]), is(names[1]) == Some(true), is(names[2]) == Some(true)))
}

fn accounts() -> Result<crate::facts::Accounts, String> {
    const DSCL: &str = "/usr/bin/dscl";
    // It fails where there is no such record.
    let read =
        |record: String| said(Path::new(DSCL), &[".", "-read", &record]).map(|(well, text)| well.then_some(text));
    let (user, group) = (read(format!("/Users/{USER}"))?, read(format!("/Groups/{GROUP}"))?);
    let net_group = read(format!("/Groups/{NET_GROUP}"))?;
    Ok(parse::accounts(&parse::Asked {
        user: user.as_deref(),
        group: group.as_deref(),
        net_group: net_group.as_deref(),
        users: &printed(DSCL, &[".", "-list", "/Users", "UniqueID"])?,
        groups: &printed(DSCL, &[".", "-list", "/Groups", "PrimaryGroupID"])?,
    }))
}

fn daemon(label: &str) -> Result<Option<Daemon>, String> {
    let (loaded, text) = said(Path::new("/bin/launchctl"), &["print", &format!("system/{label}")])?;
    Ok(loaded.then(|| {
        let Job { path, program, running, last_exit, environment: _ } = job(&text);
        Daemon { label: label.to_owned(), path, program, running, last_exit }
    }))
}

/// What root's service says of pf: launchd's, which is root, listens there.
fn pf(socket: &str, root: u32) -> Result<Pf, String> {
    let mut connection = match UnixStream::connect(socket) {
        Ok(connection) => connection,
        Err(e) => return Ok(Pf::Silent(format!("{socket}: {e}"))),
    };
    let failed = |e: std::io::Error| format!("{socket}: {e}");
    match rcc_host::packets::peer(&connection).map_err(failed)? {
        uid if uid == root => {}
        uid => return Ok(Pf::Silent(format!("{socket}: the user {uid} listens there, and only root can know"))),
    }
    connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut text = String::new();
    connection.by_ref().take(1 << 20).read_to_string(&mut text).map_err(failed)?;
    parse::pf(&text)
}

fn podman() -> Result<Option<MacPodman>, String> {
    let Some(path) = PODMAN.iter().map(Path::new).find(|path| path.exists()) else { return Ok(None) };
    let version = printed(&path.to_string_lossy(), &["--version"])?.trim().to_owned();
    let real = fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let homebrew = real.components().any(|part| part.as_os_str() == "Cellar");
    let program = Program {
        path: path.to_owned(),
        writable_by_others: only_root_writes(path).err(),
        setuid: false,
        capabilities: false,
    };
    Ok(Some(MacPodman { program, version, homebrew }))
}

/// The newest one of those that are installed.
fn shim_path(programs: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(programs).ok()?.flatten();
    versions.map(|entry| entry.path().join(SHIM)).filter(|path| path.exists()).max()
}

/// Whether pf binds what the machine sends: nobody but root can ask it, so it is tried. The shim takes its group and tries to
/// connect to a port of ours, which must be refused; the same connection without the group must come about.
fn bound(programs: &Path) -> Result<bool, String> {
    let shim = shim_path(programs).ok_or("gvproxy is not installed, so its group can't try")?;
    let failed = |e: std::io::Error| format!("a port of the loopback: {e}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    let (code, _) = ended(&shim, &["rcc-probe", &address.port().to_string()])?;
    // The control once more: what was refused in between was not refused to everybody.
    TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    match code {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        code => Err(format!("{} ended with {code:?}", shim.display())),
    }
}

fn shim(programs: &Path) -> Result<Option<Shim>, String> {
    let Some(path) = shim_path(programs) else { return Ok(None) };
    let about = fs::symlink_metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    // The pinned program beside it, not the shim, which would bind itself.
    let pinned = path.with_file_name("gvproxy.pinned");
    let gvproxy = match said(&pinned, &["-version"]) {
        Ok((true, text)) => Some(text.lines().next().unwrap_or_default().trim().to_owned()),
        _ => None,
    };
    let mode = about.permissions().mode() & 0o7777;
    Ok(Some(Shim { uid: about.uid(), gid: about.gid(), mode, path, gvproxy }))
}

/// The file of the agents' own machine, of whichever provider's.
fn machine(home: &Path) -> Result<Option<PodmanMachine>, String> {
    let folder = home.join(MACHINE_FOLDER).join("config/containers/podman/machine");
    let files = ["applehv", "libkrun"].map(|provider| folder.join(provider).join(format!("{MACHINE}.json")));
    let Some(file) = files.iter().find(|file| file.exists()) else { return Ok(None) };
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut machine = parse::machine(&text)?;
    // What it leads to is what the machine sees; one that is gone is judged by its name.
    for mount in &mut machine.mounts {
        mount.source = fs::canonicalize(&mount.source).unwrap_or_else(|_| mount.source.clone());
    }
    Ok(Some(machine))
}

fn network() -> Result<(crate::facts::MacNetwork, Vec<String>), String> {
    const SCUTIL: &str = "/usr/sbin/scutil";
    let dns = printed(SCUTIL, &["--dns"])?;
    // Where there is no route, or a program is missing, nothing is said; that is not what is judged here.
    let maybe = |program: &str, arguments: &[&str]| {
        said(Path::new(program), arguments).map(|(_, text)| text).unwrap_or_default()
    };
    let network = parse::network(
        &printed(SCUTIL, &["--nc", "list"])?,
        &maybe("/sbin/route", &["-n", "get", "default"]),
        &dns,
        &maybe("/usr/bin/systemextensionsctl", &["list"]),
        &maybe("/usr/libexec/ApplicationFirewall/socketfilterfw", &["--getglobalstate"]),
        &printed(SCUTIL, &["--proxy"])?,
    );
    Ok((network, parse::resolvers(&dns).0))
}

fn own_addresses() -> Result<Vec<std::net::IpAddr>, String> {
    let all = nix::ifaddrs::getifaddrs().map_err(|e| e.to_string())?;
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|a| a.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
    };
    Ok(all.filter_map(|interface| interface.address).filter_map(ip).collect())
}

fn folders(project: &Path, home: Option<&Path>) -> Result<Vec<AppleFolder>, String> {
    let agents = home.map(|home| home.join(".local/share/rcc"));
    let all = [Some(("project", project.to_owned())), agents.map(|path| ("home", path))];
    all.into_iter().flatten().map(|(of, path)| folder(of, &path, home)).collect()
}

fn folder(of: &str, path: &Path, home: Option<&Path>) -> Result<AppleFolder, String> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    let real = fs::canonicalize(there).map_err(|e| format!("{}: {e}", there.display()))?;
    let home = home.map(|home| home.display().to_string()).unwrap_or_default();
    // With "Desktop & Documents Folders" on, both lie in iCloud Drive's folder, too.
    let synced = Path::new(&home).join("Library/Mobile Documents/com~apple~CloudDocs/Desktop").exists();
    let (guarded, synced) = parse::apple_folder(&real.to_string_lossy(), &home, synced);
    Ok(AppleFolder { of: of.into(), case_sensitive: case_sensitive(&real), path: real, guarded, synced })
}

/// Whether names that differ in case are two (pathconf(2), `_PC_CASE_SENSITIVE`).
#[cfg(target_os = "macos")]
fn case_sensitive(path: &Path) -> Option<bool> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path is a C string that lives over the call.
    match unsafe { nix::libc::pathconf(path.as_ptr(), nix::libc::_PC_CASE_SENSITIVE) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(not(target_os = "macos"))]
fn case_sensitive(_: &Path) -> Option<bool> {
    None
}

/// The file systems in which the project and the agents' homes lie.
pub fn places(project: &Path, home: Option<&Path>) -> Result<Vec<FileSystem>, String> {
    let agents = home.map(|home| home.join(".local/share/rcc"));
    let all = [Some(("project", project.to_owned())), agents.map(|path| ("home", path))];
    all.into_iter().flatten().map(|(of, path)| place(of, &path)).collect()
}

fn place(of: &str, path: &Path) -> Result<FileSystem, String> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", there.display());
    let real = fs::canonicalize(there).map_err(|e| failed(&e))?;
    let facts = statvfs(&real).map_err(|e| failed(&e))?;
    // Its fields are 32 bits wide here.
    #[cfg_attr(not(target_os = "macos"), expect(clippy::useless_conversion, reason = "u32 on macOS"))]
    let free = u64::from(facts.blocks_available()).saturating_mul(u64::from(facts.fragment_size()));
    Ok(FileSystem {
        of: of.into(),
        kind: kind(&real)?,
        path: real,
        free,
        noexec: false,
        read_only: facts.flags().contains(FsFlags::ST_RDONLY),
    })
}

#[cfg(target_os = "macos")]
fn kind(path: &Path) -> Result<String, String> {
    let facts = nix::sys::statfs::statfs(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(facts.filesystem_type_name().to_owned())
}

#[cfg(not(target_os = "macos"))]
fn kind(path: &Path) -> Result<String, String> {
    Err(format!("{}: only macOS tells it so", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_newest_shim_is_looked_at_and_not_through_a_link() {
        let programs = tempfile::tempdir().unwrap();
        assert_eq!(shim(programs.path()), Ok(None));
        for version in ["0.1.0", "0.2.0"] {
            fs::create_dir(programs.path().join(version)).unwrap();
            fs::write(programs.path().join(version).join(SHIM), "").unwrap();
        }
        let newest = programs.path().join("0.2.0").join(SHIM);
        fs::set_permissions(&newest, fs::Permissions::from_mode(0o2755)).unwrap();
        let found = shim(programs.path()).unwrap().unwrap();
        assert_eq!((&found.path, found.mode, found.gvproxy), (&newest, 0o2755, None));
        fs::remove_file(&newest).unwrap();
        symlink("/bin/sh", &newest).unwrap();
        let link = shim(programs.path()).unwrap().unwrap();
        assert_eq!(link.mode & 0o2000, 0, "the link itself, which is no shim");
    }

    #[test]
    fn what_another_user_says_of_pf_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let me = nix::unistd::geteuid().as_raw();
        for root in [me, me + 1] {
            let said = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut caller, _) = listener.accept().unwrap();
                    // It may be gone.
                    let _ = std::io::Write::write_all(&mut caller, br#"{"version": 1, "state": "in force"}"#);
                });
                pf(path.to_str().unwrap(), root)
            });
            let believed = matches!(said, Ok(Pf::Answers { .. }));
            assert_eq!(believed, root == me, "{said:?}");
        }
    }

    /// Stand-ins for the shim's three ends; that pf makes it end so, only a Mac shows.
    #[test]
    fn what_the_shim_ends_with_is_the_answer() {
        let programs = tempfile::tempdir().unwrap();
        assert!(bound(programs.path()).is_err());
        fs::create_dir(programs.path().join("0.1.0")).unwrap();
        let shim = programs.path().join("0.1.0").join(SHIM);
        for (end, answer) in [
            ("exit 0", Some(true)),
            ("exit 1", Some(false)),
            ("exit 2", None),
            ("exit 125", None),
            ("kill -9 $$", None),
        ] {
            fs::write(&shim, format!("#!/bin/sh\ntest $1 = rcc-probe || exit 1\n{end}\n")).unwrap();
            fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(bound(programs.path()).ok(), answer, "{end}");
        }
    }

    #[test]
    fn the_machines_file_is_found_by_its_provider() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(machine(home.path()), Ok(None));
        let folder = home.path().join(MACHINE_FOLDER).join("config/containers/podman/machine/libkrun");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("rcc.json"), r#"{"HostUser":{"Rootful":true},"Mounts":[{"Source":"/Users"}]}"#).unwrap();
        let found = machine(home.path()).unwrap().unwrap();
        assert!(found.rootful && found.mounts.len() == 1);
    }
}
