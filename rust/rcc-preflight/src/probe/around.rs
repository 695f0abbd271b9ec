//! What `rcc check` looks at beyond a start: programs' versions, the file systems, the network, Nix, what is around.

use super::basics::{program, text};
use super::run::said;
use crate::facts::{Cgroup, FileSystem, Network, Nix, Surroundings};
use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;
use rcc_policy::Ipv4Net;
use rcc_proto::{GATEWAY_USER, STAND_IN_RANGE};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The first line of `NAME --version`; none where the program is not there, or others could have replaced it.
pub fn version(name: &str) -> Result<Option<String>, String> {
    let Some(program) = program(name).filter(|p| p.writable_by_others.is_none()) else { return Ok(None) };
    // Newer ones of crun want their folder of states even for this, and fail where it would have to be made; any folder does.
    let arguments: &[&str] = if name == "crun" { &["--root=/", "--version"] } else { &["--version"] };
    let (well, text) = said(&program.path, arguments)?;
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    if well && !line.is_empty() { Ok(Some(line)) } else { Err("it does not say its version".into()) }
}

/// Whether nft can list the tables of a network namespace that an ordinary user made. It is tried; where that is not
/// possible (Ubuntu lets only some programs), the kernel's modules are asked.
pub fn nftables() -> Result<bool, String> {
    let trusted = |name: &str| program(name).filter(|p| p.writable_by_others.is_none());
    if let (Some(unshare), Some(nft)) = (trusted("unshare"), trusted("nft")) {
        let nft = nft.path.to_string_lossy().into_owned();
        let tried = said(&unshare.path, &["--user", "--map-root-user", "--net", &nft, "list", "tables"]);
        if tried.is_ok_and(|(well, _)| well) {
            return Ok(true);
        }
    }
    let loaded = text("/proc/modules").unwrap_or_default();
    let uname = nix::sys::utsname::uname().map_err(|e| e.to_string())?;
    let folder = Path::new("/lib/modules").join(uname.release());
    let listed = ["modules.builtin", "modules.dep"].map(|name| fs::read_to_string(folder.join(name)).ok());
    let there = |t: &str| t.contains("/nf_tables.ko") || t.lines().any(|line| line.starts_with("nf_tables "));
    if listed.iter().flatten().map(String::as_str).chain([loaded.as_str()]).any(there) {
        return Ok(true);
    }
    // A kernel that lists its modules, without this one, has it not.
    if listed.iter().any(Option::is_some) {
        return Ok(false);
    }
    Err("nft could not be tried, and this kernel's modules are not listed".into())
}

/// The nearest folder that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(path)
}

pub fn places(project: &Path) -> Result<Vec<FileSystem>, String> {
    let mounts = text("/proc/self/mountinfo").ok_or("/proc/self/mountinfo can't be read")?;
    let mut all = vec![place("project", project, &mounts)?];
    if let Some(home) = super::person()?.home {
        all.push(place("home", &home.join(".local/share/rcc"), &mounts)?);
    }
    Ok(all)
}

fn place(of: &str, path: &Path, mounts: &str) -> Result<FileSystem, String> {
    let path = existing(path);
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let real = fs::canonicalize(path).map_err(|e| failed(&e))?;
    let facts = statvfs(&real).map_err(|e| failed(&e))?;
    let flags = facts.flags();
    // Its fields are 32 bits wide on some systems.
    #[expect(clippy::useless_conversion, reason = "u32 on some systems")]
    let free = u64::from(facts.blocks_available()).saturating_mul(u64::from(facts.fragment_size()));
    let kind = kind_at(mounts, &real).ok_or_else(|| failed(&"it lies on no mount"))?;
    Ok(FileSystem {
        of: of.into(),
        path: real,
        kind,
        free,
        // What macOS says of this by another call, is nothing that a Mac's checks look at.
        #[cfg(target_os = "linux")]
        noexec: flags.contains(nix::sys::statvfs::FsFlags::ST_NOEXEC),
        #[cfg(not(target_os = "linux"))]
        noexec: false,
        read_only: flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY),
    })
}

/// The type of the file system at a path: of the last mount on the longest way there (`proc_pid_mountinfo(5)`).
fn kind_at(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ").replace("\\134", "\\");
        Some((PathBuf::from(point), after.split(' ').next()?.to_owned()))
    });
    let around = mounts.filter(|(point, _)| path.starts_with(point));
    // Of equals, max_by_key takes the last, which lies on top.
    around.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

#[cfg(target_os = "linux")]
fn is_cgroup2(path: &str) -> bool {
    use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
    statfs(path).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_cgroup2(_: &str) -> bool {
    false
}

pub fn cgroup() -> Result<Cgroup, String> {
    const ROOT: &str = "/sys/fs/cgroup";
    let unified = is_cgroup2(ROOT);
    if !unified {
        return Ok(Cgroup { unified, delegated: Vec::new() });
    }
    let uid = Uid::current().as_raw();
    let own = text("/proc/self/cgroup").ok_or("/proc/self/cgroup can't be read")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    // A login's processes lie beside the person's systemd, which is who hands controllers on.
    let slice = format!("user-{uid}.slice");
    let delegated = match own.split_once(&slice) {
        Some((above, _)) => format!("{ROOT}/{above}{slice}/user@{uid}.service"),
        None => format!("{ROOT}/{own}"),
    };
    let controllers = text(&format!("{delegated}/cgroup.controllers")).unwrap_or_default();
    // Who can't make cgroups there has none of them.
    let writable = nix::unistd::access(delegated.as_str(), nix::unistd::AccessFlags::W_OK).is_ok();
    let delegated = if writable { controllers.split_whitespace().map(str::to_owned).collect() } else { Vec::new() };
    Ok(Cgroup { unified, delegated })
}

pub fn surroundings() -> Result<Surroundings, String> {
    let kernel = text("/proc/sys/kernel/osrelease").unwrap_or_default().to_lowercase();
    let wsl = kernel
        .contains("microsoft")
        .then(|| if kernel.contains("wsl2") || Path::new("/run/WSL").exists() { 2 } else { 1 });
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let services =
        [("GITHUB_ACTIONS", "GitHub Actions"), ("GITLAB_CI", "GitLab CI"), ("JENKINS_URL", "Jenkins"), ("CI", "CI")];
    Ok(Surroundings {
        systemd: Path::new("/run/systemd/system").exists(),
        wsl,
        container: container(),
        ci: services.iter().find(|(name, _)| set(name)).map(|(_, service)| (*service).to_owned()),
        modules: text("/sys/kernel/security/lsm")
            .unwrap_or_default()
            .trim()
            .split(',')
            .filter(|m| !m.is_empty())
            .map(str::to_owned)
            .collect(),
        selinux: text("/sys/fs/selinux/enforce").is_some_and(|t| t.trim() == "1"),
        firewalls: firewalls(),
        firewall_unit: Path::new("/etc/systemd/system/rcc-firewall.service").exists(),
        gateway_user: super::account(GATEWAY_USER)?.is_some(),
    })
}

/// As systemd-detect-virt(1) finds it out, without privilege.
fn container() -> Option<String> {
    if Path::new("/run/.containerenv").exists() {
        return Some("podman".into());
    }
    if Path::new("/.dockerenv").exists() {
        return Some("docker".into());
    }
    let word = text("/run/systemd/container").or_else(|| std::env::var("container").ok())?;
    let word = word.trim();
    (!word.is_empty() && word != "wsl").then(|| word.to_owned())
}

/// Those whose reload, or whose own rules, may touch what rcc's firewall needs.
fn firewalls() -> Vec<String> {
    let ufw = text("/etc/ufw/ufw.conf").is_some_and(|t| t.lines().any(|line| line.trim() == "ENABLED=yes"));
    let enabled = Path::new("/etc/systemd/system/sysinit.target.wants/nftables.service").exists()
        || Path::new("/etc/systemd/system/multi-user.target.wants/nftables.service").exists();
    let flushes = text("/etc/nftables.conf").is_some_and(|t| t.lines().any(|line| line.trim() == "flush ruleset"));
    let firewalld = Path::new("/run/firewalld").exists();
    [("ufw", ufw), ("firewalld", firewalld), ("nftables.service", enabled && flushes)]
        .into_iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| name.to_owned())
        .collect()
}

pub fn network() -> Result<Network, String> {
    let conf = text(rcc_host::resolv_conf::RESOLV_CONF);
    let resolvers: Vec<String> = conf
        .as_deref()
        .map_or_else(Vec::new, |t| rcc_host::resolv_conf::nameservers(t).iter().map(|a| a.ip().to_string()).collect());
    let own = rcc_host::net().map_err(|e| e.to_string())?.own;
    let own: Vec<IpAddr> = own.iter().map(rcc_policy::IpNet::addr).collect();
    let made_up = made_up(&resolvers, &own)?;
    Ok(Network {
        resolvers,
        resolv_conf: fs::canonicalize(rcc_host::resolv_conf::RESOLV_CONF).ok(),
        resolved: Path::new("/run/systemd/resolve/stub-resolv.conf").exists(),
        made_up,
        tunnels: tunnels(),
        proxies: proxies(),
    })
}

/// Resolvers and own addresses of the range that VPNs make addresses up from.
pub fn made_up(resolvers: &[String], own: &[IpAddr]) -> Result<Vec<String>, String> {
    let range = Ipv4Net::new(STAND_IN_RANGE.0, STAND_IN_RANGE.1).map_err(|e| e.to_string())?;
    let asked = resolvers.iter().filter_map(|resolver| resolver.parse().ok());
    let is = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if range.contains(&ip)).then(|| ip.to_string());
    Ok(asked.chain(own.iter().copied()).filter_map(is).collect())
}

/// The variables of the environment that name a proxy.
pub fn proxies() -> Vec<String> {
    let variables = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    variables.iter().filter(set).map(|name| (*name).to_owned()).collect()
}

/// Devices of type `ARPHRD_NONE` (65534: tun, `WireGuard`) and `ARPHRD_PPP` (512).
fn tunnels() -> Vec<String> {
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let tunnel = |device: &fs::DirEntry| {
        fs::read_to_string(device.path().join("type")).is_ok_and(|t| matches!(t.trim(), "65534" | "512"))
    };
    let mut names: Vec<_> =
        devices.filter(tunnel).map(|device| device.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub fn nix() -> Option<Nix> {
    if !Path::new("/nix/store").is_dir() {
        return None;
    }
    let places = ["/nix/var/nix/profiles/default/bin/nix", "/run/current-system/sw/bin/nix", "/usr/bin/nix"];
    // …/HASH-nix-2.24.9/bin/nix: its place has its version, so it need not be run.
    let version = places.iter().find_map(|place| {
        let real = fs::canonicalize(place).ok()?;
        let name = real.ancestors().nth(2)?.file_name()?.to_str()?.to_owned();
        name.split_once("-nix-").map(|(_, version)| version.to_owned())
    });
    let home = super::person().ok().and_then(|p| p.home).map(|home| home.join(".config/nix/nix.conf"));
    let mut config = text("/etc/nix/nix.conf").unwrap_or_default();
    if let Some(more) = home.and_then(|path| rcc_host::trusted::read_plain(&path).ok()) {
        config.push('\n');
        config.push_str(&String::from_utf8_lossy(&more));
    }
    let values = |name: &str| {
        let lines = config.lines().filter_map(|line| line.split_once('='));
        let of = lines.filter(|(key, _)| key.trim() == name || key.trim() == format!("extra-{name}"));
        of.flat_map(|(_, value)| value.split_whitespace()).map(str::to_owned).collect::<Vec<_>>()
    };
    Some(Nix {
        version,
        multi_user: Path::new("/nix/var/nix/daemon-socket/socket").exists(),
        flakes: values("experimental-features").iter().any(|f| f == "flakes"),
        sandbox: values("sandbox").pop(),
        trusted: values("trusted-users"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_on_top_counts() {
        let text = "\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /home rw - nfs4 server:/home rw
24 23 0:6 / /home/a\\040b rw - fuse.sshfs x rw
25 22 0:7 / /home rw - tmpfs tmpfs rw
";
        for (path, kind) in [("/etc", "ext4"), ("/home/u", "tmpfs"), ("/home/a b/c", "fuse.sshfs"), ("/homes", "ext4")]
        {
            assert_eq!(kind_at(text, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
    }
}
