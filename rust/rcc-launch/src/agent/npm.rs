//! Fetches a package's tarball with the machine's own npm, so that the person's mirrors, proxies and certificates are
//! used as they are set up.
//!
//! npm is a program that only root can write; its environment is made from nothing but the home folder (for `.npmrc`)
//! and the person's settings of where and how to fetch. No script of any package runs. What comes back is not
//! trusted: the caller compares its hash.

use super::pins::Pin;
use rcc_report::{Code, Problem};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where npm and node are looked for, in this order: the distribution's, NixOS's, the machine's administrator's.
const PROGRAM_FOLDERS: &[&str] = &["/usr/bin", "/bin", "/run/current-system/sw/bin", "/usr/local/bin"];

/// The variables (compared without case) that say where and how npm fetches. Others could make it run something.
const SETTINGS: &[&str] = &[
    "npm_config_registry",
    "npm_config_userconfig",
    "npm_config_cafile",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "npm_config_noproxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "node_extra_ca_certs",
];

/// What npm is told about the person.
#[derive(Clone, Debug)]
pub struct Person {
    /// The home folder, for `.npmrc`.
    pub home: PathBuf,
    /// Settings from the environment.
    pub settings: Vec<(OsString, OsString)>,
}

impl Person {
    /// A person with this home and those settings among the variables that npm may have.
    pub fn new(home: PathBuf, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let known = |name: &OsStr| name.to_str().is_some_and(|n| SETTINGS.contains(&n.to_ascii_lowercase().as_str()));
        Self { home, settings: variables.into_iter().filter(|(name, _)| known(name)).collect() }
    }
}

/// Fetches the pinned package into `folder`, which is empty and private, and gives the tarball's path. What else npm
/// needs to write goes below `folder` too.
pub fn fetch(pin: &Pin<'_>, folder: &Path, person: &Person) -> Result<PathBuf, Problem> {
    let npm = find("npm").ok_or_else(missing)?;
    find("node").ok_or_else(missing)?;
    let packed = folder.join("packed");
    fs::create_dir(&packed).map_err(|e| super::io_problem(&packed, &e))?;
    let spec = format!("{}@{}", pin.package, pin.version);
    let output = command(&npm, &spec, folder, &packed, person).output();
    let output = output.map_err(|e| super::io_problem(&npm, &e))?;
    if !output.status.success() {
        return Err(failure(&spec, &String::from_utf8_lossy(&output.stderr)));
    }
    let mut found = fs::read_dir(&packed).map_err(|e| super::io_problem(&packed, &e))?.filter_map(Result::ok);
    match (found.next(), found.next()) {
        (Some(tarball), None) => Ok(tarball.path()),
        _ => Err(failure(&spec, "npm error npm pack left no tarball, or several")),
    }
}

fn command(npm: &Path, spec: &str, folder: &Path, packed: &Path, person: &Person) -> Command {
    let path = PROGRAM_FOLDERS.join(":");
    let mut command = Command::new(npm);
    command.env_clear().envs(person.settings.iter().map(|(name, value)| (name, value)));
    command.env("HOME", &person.home).env("PATH", path).env("LANG", "C.UTF-8").env("TMPDIR", folder);
    command.args(["pack", spec, "--ignore-scripts", "--loglevel=error", "--no-progress", "--no-color"]);
    command.args(["--no-update-notifier", "--no-audit", "--no-fund", "--no-dry-run", "--no-workspaces"]);
    // Without a network, the answer comes after seconds instead of minutes; a slow line has half an hour.
    command.args(["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=4000"]);
    command.arg("--fetch-timeout=1800000");
    // Its cache would keep another copy for good; a prefix of its own keeps other folders' .npmrc out.
    command.arg("--cache").arg(folder.join("cache")).arg("--prefix").arg(folder);
    command.arg("--pack-destination").arg(packed);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// A program that only root can write, at its end and in every folder on the way to it, links followed.
fn find(name: &str) -> Option<PathBuf> {
    let candidates = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    candidates.into_iter().find(|path| fs::canonicalize(path).is_ok_and(|real| only_root_writes(&real)))
}

fn only_root_writes(path: &Path) -> bool {
    path.ancestors().all(|p| fs::symlink_metadata(p).is_ok_and(|m| m.uid() == 0 && m.mode() & 0o022 == 0))
}

fn missing() -> Problem {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let what = "agents are fetched by npm, and no npm is installed where only root can write";
    Problem::new(Code::AGENT_INSTALL, "npm", what, install_command(&os_release))
}

/// The command that installs npm, by the distribution that os-release(5) names.
fn install_command(os_release: &str) -> &'static str {
    let values = os_release.lines().filter_map(|l| l.strip_prefix("ID=").or_else(|| l.strip_prefix("ID_LIKE=")));
    for id in values.flat_map(|v| v.trim_matches(['"', '\'']).split_whitespace()) {
        match id {
            "debian" | "ubuntu" => return "sudo apt-get install --no-install-recommends npm",
            "fedora" | "rhel" | "centos" => return "sudo dnf install nodejs-npm",
            "arch" => return "sudo pacman -S npm",
            "suse" | "opensuse" => return "sudo zypper install npm-default",
            "nixos" => return "environment.systemPackages = [ pkgs.nodejs ];   # in configuration.nix",
            _ => {}
        }
    }
    "install Node.js with npm from the distribution's packages"
}

/// What npm's own error code means to a person.
fn failure(spec: &str, stderr: &str) -> Problem {
    let lines = || stderr.lines().filter_map(|l| l.strip_prefix("npm error ").or_else(|| l.strip_prefix("npm ERR! ")));
    let code = lines().find_map(|l| l.strip_prefix("code ")).unwrap_or_default().trim();
    let install = |what: String, remedy: String| Problem::new(Code::AGENT_INSTALL, spec, what, remedy);
    match code {
        "ENOTFOUND" | "EAI_AGAIN" | "ECONNREFUSED" | "ECONNRESET" | "ETIMEDOUT" | "ENETUNREACH" | "EHOSTUNREACH"
        | "ERR_SOCKET_TIMEOUT" | "ENOTCACHED" => install(
            format!("npm could not reach its registry ({code})"),
            "npm ping   # is there a network? a mirror is named by: npm config set registry URL".into(),
        ),
        "E404" | "ETARGET" | "ENOVERSIONS" => install(
            format!("npm's registry does not have it ({code})"),
            format!("npm view {spec}   # a mirror may lag behind, or be named wrongly: npm config get registry"),
        ),
        "E401" | "E403" | "ENEEDAUTH" => {
            install(format!("npm's registry refused ({code})"), "npm login   # or correct the token in ~/.npmrc".into())
        }
        "ENOSPC" | "EDQUOT" => install("there is no space left for it".into(), "df -h ~/.local/share".into()),
        "EINTEGRITY" => Problem::new(
            Code::AGENT_INTEGRITY,
            spec,
            "npm got other bytes than its registry announced",
            "try again; if it stays so, ask whoever runs the mirror or proxy",
        ),
        _ if code.contains("CERT") || code.contains("UNABLE_TO_") => install(
            format!("npm does not trust its registry's certificate ({code})"),
            "npm config set cafile /path/to/your-company-ca.pem".into(),
        ),
        _ => {
            let said: Vec<_> = lines().filter(|l| !l.starts_with("A complete log")).take(4).collect();
            install(format!("npm failed: {}", said.join("; ")), format!("npm pack {spec}   # shows npm's own account"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_npm_become_problems() {
        let code = |code: &str| failure("p@1", &format!("npm warn x\nnpm error code {code}\nnpm error blah"));
        assert!(code("ENOTFOUND").what.contains("could not reach"));
        assert!(code("ETARGET").remedy.starts_with("npm view p@1"));
        assert!(code("SELF_SIGNED_CERT_IN_CHAIN").remedy.contains("cafile"));
        assert_eq!(code("EINTEGRITY").code, Code::AGENT_INTEGRITY);
        assert_eq!(failure("p@1", "npm ERR! code EWHAT\nnpm ERR! odd").what, "npm failed: code EWHAT; odd");
    }

    #[test]
    fn only_settings_of_where_to_fetch_reach_npm() {
        let all =
            ["NPM_CONFIG_REGISTRY", "npm_config_script_shell", "NODE_OPTIONS", "LD_PRELOAD", "HTTPS_PROXY", "PATH"];
        let person = Person::new("/home/x".into(), all.map(|n| (n.into(), "v".into())));
        let names: Vec<_> = person.settings.iter().map(|(n, _)| n.to_str().unwrap()).collect();
        assert_eq!(names, ["NPM_CONFIG_REGISTRY", "HTTPS_PROXY"]);
        let command = command(Path::new("/usr/bin/npm"), "p@1", Path::new("/f"), Path::new("/f/p"), &person);
        let mut names: Vec<_> = command.get_envs().map(|(n, _)| n.to_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "HTTPS_PROXY", "LANG", "NPM_CONFIG_REGISTRY", "PATH", "TMPDIR"]);
    }

    #[test]
    fn every_family_has_its_command() {
        assert!(install_command("ID=ubuntu\nID_LIKE=debian\n").contains("apt-get"));
        assert!(install_command("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n").contains("dnf"));
        assert!(install_command("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n").contains("zypper"));
        assert!(install_command("").starts_with("install Node.js"));
    }

    #[test]
    fn a_program_that_others_write_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!only_root_writes(&dir.path().join("absent")));
        // Below /tmp, which everybody writes.
        let program = dir.path().join("npm");
        fs::write(&program, "").unwrap();
        assert!(!only_root_writes(&program));
        assert!(only_root_writes(&fs::canonicalize("/usr/bin/env").unwrap()));
    }
}
