//! What rcc needs from the distribution, in one table, and its installation where this program knows how.
//!
//! Only what is missing is installed, without recommended packages and without a question. As root directly, else by
//! sudo where that asks for no password.

use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// Running agents.
    Run,
    /// Building the workspace.
    Build,
    /// The demo's world; the tests' too.
    Demo,
    /// The test command.
    Test,
    /// `cargo xtask bench`.
    Bench,
    /// Trees of other releases.
    Trees,
    /// A virtual machine; its disk is made from a tree.
    Vm,
    /// The flake, by the machine's own Nix.
    Nix,
    /// What programmers have, for showing that it works in a session.
    Toolchains,
}

/// What the demo needs.
pub const FOR_DEMO: &[Purpose] = &[Purpose::Run, Purpose::Build, Purpose::Demo];
/// What the benches need.
pub const FOR_BENCH: &[Purpose] = &[Purpose::Run, Purpose::Build, Purpose::Demo, Purpose::Bench, Purpose::Nix];
/// What the virtual machine needs.
pub const FOR_VM: &[Purpose] = &[Purpose::Run, Purpose::Build, Purpose::Demo, Purpose::Trees, Purpose::Vm];
/// What the test command needs.
pub const FOR_TESTS: &[Purpose] =
    &[Purpose::Run, Purpose::Build, Purpose::Demo, Purpose::Test, Purpose::Trees, Purpose::Vm, Purpose::Nix];

/// How one knows that something is there.
#[derive(Clone, Copy, Debug)]
enum Proof {
    /// A program in one of [`PROGRAM_FOLDERS`].
    Program(&'static str),
    /// A file.
    File(&'static str),
}

/// Where the distribution's programs are: not PATH, since rcc itself runs no program that others than root can write.
const PROGRAM_FOLDERS: &[&str] =
    &["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin", "/run/current-system/sw/bin"];

/// One thing that is needed.
#[derive(Debug)]
struct Requirement {
    purpose: Purpose,
    proof: Proof,
    /// The package in Debian, Ubuntu and their descendants.
    apt: &'static str,
}

const fn program(purpose: Purpose, name: &'static str, apt: &'static str) -> Requirement {
    Requirement { purpose, proof: Proof::Program(name), apt }
}

const fn file(purpose: Purpose, path: &'static str, apt: &'static str) -> Requirement {
    Requirement { purpose, proof: Proof::File(path), apt }
}

/// What a package would start where systemd runs, and so close this machine's ports or change what it forwards.
const UNITS: &[(&str, &[&str])] =
    &[("firewalld", &["firewalld.service"]), ("docker.io", &["docker.service", "docker.socket", "containerd.service"])];

/// Everything, by purpose.
const REQUIREMENTS: &[Requirement] = &[
    program(Purpose::Run, "podman", "podman"),
    program(Purpose::Run, "crun", "crun"),
    program(Purpose::Run, "conmon", "conmon"),
    program(Purpose::Run, "newuidmap", "uidmap"),
    // Podman looks for it at its start, though rcc's containers have no network of Podman's.
    file(Purpose::Run, "/usr/lib/podman/netavark", "netavark"),
    program(Purpose::Run, "nsenter", "util-linux"),
    // Agents come from npm, and npm alone: their programs need no Node.
    program(Purpose::Run, "npm", "npm"),
    file(Purpose::Run, "/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    program(Purpose::Run, "git", "git"),
    program(Purpose::Build, "cc", "gcc"),
    file(Purpose::Build, "/usr/include/stdio.h", "libc6-dev"),
    program(Purpose::Run, "nft", "nftables"),
    program(Purpose::Demo, "ip", "iproute2"),
    // Other firewalls, beside which rcc's must stand; none does anything until it is told to ([`keep_still`]).
    program(Purpose::Test, "iptables-nft", "iptables"),
    program(Purpose::Test, "firewalld", "firewalld"),
    program(Purpose::Test, "dockerd", "docker.io"),
    program(Purpose::Test, "dbus-daemon", "dbus-daemon"),
    program(Purpose::Test, "ufw", "ufw"),
    program(Purpose::Test, "ps", "procps"),
    program(Purpose::Test, "rev", "bsdextrautils"),
    program(Purpose::Test, "useradd", "passwd"),
    program(Purpose::Test, "tmux", "tmux"),
    program(Purpose::Test, "git-lfs", "git-lfs"),
    program(Purpose::Test, "strace", "strace"),
    program(Purpose::Demo, "curl", "curl"),
    program(Purpose::Test, "openssl", "openssl"),
    program(Purpose::Demo, "python3", "python3"),
    program(Purpose::Bench, "nginx", "nginx-light"),
    program(Purpose::Trees, "debootstrap", "debootstrap"),
    program(Purpose::Vm, "qemu-system-x86_64", "qemu-system-x86"),
    program(Purpose::Vm, "qemu-img", "qemu-utils"),
    program(Purpose::Vm, "mkfs.ext4", "e2fsprogs"),
    program(Purpose::Nix, "nix", "nix-bin"),
    // Static: what is in a store of the tests'.
    program(Purpose::Nix, "bash-static", "bash-static"),
    program(Purpose::Nix, "busybox", "busybox-static"),
    program(Purpose::Nix, "direnv", "direnv"),
    program(Purpose::Test, "go", "golang-go"),
    program(Purpose::Test, "g++", "g++"),
    program(Purpose::Test, "make", "make"),
    program(Purpose::Test, "pip3", "python3-pip"),
    program(Purpose::Test, "python3-config", "python3-dev"),
    file(Purpose::Test, "/usr/share/doc/python3-venv", "python3-venv"),
    program(Purpose::Toolchains, "java", "default-jre-headless"),
    // The whole of Perl; `perl` itself is there without.
    program(Purpose::Toolchains, "corelist", "perl"),
    program(Purpose::Toolchains, "awk", "mawk"),
    program(Purpose::Toolchains, "tput", "ncurses-bin"),
    program(Purpose::Toolchains, "fc-list", "fontconfig"),
    file(Purpose::Toolchains, "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"),
    file(Purpose::Toolchains, "/etc/services", "netbase"),
    file(Purpose::Toolchains, "/usr/share/zoneinfo/Asia/Tokyo", "tzdata"),
    file(Purpose::Toolchains, "/usr/share/i18n/locales/de_DE", "locales"),
];

/// Install the distribution's packages that running, testing or measuring rcc needs.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What for; all that the test command needs unless told.
    #[arg(value_enum)]
    purposes: Vec<Purpose>,
}

/// Installs what is missing and says what that was.
pub fn run(args: &Args) -> Result<()> {
    let purposes = if args.purposes.is_empty() { FOR_TESTS } else { &args.purposes };
    ensure(purposes)
}

/// Installs what is missing for these purposes. An error names what stayed missing.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    let missing = missing(purposes);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|r| r.proof.name()).collect();
    let os_release = fs::read_to_string("/etc/os-release").context("can't tell the distribution")?;
    if !is_apt(&os_release) {
        bail!("missing: {}; install them with this distribution's own tool (only apt is known here)", names.join(", "));
    }
    let mut packages: Vec<_> = missing.iter().map(|r| r.apt).collect();
    packages.sort_unstable();
    packages.dedup();
    eprintln!("installing {}", packages.join(" "));
    for (_, units) in UNITS.iter().filter(|(package, _)| packages.contains(package)) {
        units.iter().try_for_each(|unit| keep_still(unit))?;
    }
    apt_install(&packages)?;
    let still: Vec<_> = self::missing(purposes).iter().map(|r| format!("{} ({})", r.proof.name(), r.apt)).collect();
    ensure!(still.is_empty(), "installed, but not found: {}", still.join(", "));
    Ok(())
}

/// The packages for these purposes, each once, in order.
pub fn packages(purposes: &[Purpose]) -> Vec<&'static str> {
    let mut packages: Vec<_> = REQUIREMENTS.iter().filter(|r| purposes.contains(&r.purpose)).map(|r| r.apt).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

impl Proof {
    const fn name(self) -> &'static str {
        match self {
            Self::Program(name) | Self::File(name) => name,
        }
    }

    fn holds(self) -> bool {
        match self {
            Self::Program(name) => PROGRAM_FOLDERS.iter().any(|folder| Path::new(folder).join(name).is_file()),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

fn missing(purposes: &[Purpose]) -> Vec<&'static Requirement> {
    REQUIREMENTS.iter().filter(|r| purposes.contains(&r.purpose) && !r.proof.holds()).collect()
}

/// Whether os-release(5) names Debian or Ubuntu, or a descendant of theirs.
fn is_apt(os_release: &str) -> bool {
    let values = os_release.lines().filter_map(|l| l.strip_prefix("ID=").or_else(|| l.strip_prefix("ID_LIKE=")));
    values.flat_map(|v| v.trim_matches(['"', '\'']).split_whitespace()).any(|id| matches!(id, "debian" | "ubuntu"))
}

/// Fetches apt's lists.
pub fn update_lists() -> Result<()> {
    apt(&["update"]).or_else(|_| apt(&["update"]))
}

/// The lists are fetched first: a fresh machine has none, an old one's name versions that are gone. A second try after
/// another update is for a mirror that changed in between ("held broken packages", 404).
fn apt_install(packages: &[&str]) -> Result<()> {
    update_lists()?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// Masks a unit that a package is about to bring. One that is there already is this machine's own, and stays as it is.
fn keep_still(unit: &str) -> Result<()> {
    let folders = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    let is_there = |folder: &&str| Path::new(folder).join(unit).symlink_metadata().is_ok();
    if !Path::new("/run/systemd/system").is_dir() || folders.iter().any(is_there) {
        return Ok(());
    }
    eprintln!("masking {unit}, which only tests need (systemctl unmask {unit} undoes it)");
    let status = as_root("ln")?.args(["-s", "/dev/null", &format!("/etc/systemd/system/{unit}")]).status();
    ensure!(status.context("can't run ln")?.success(), "{unit} can't be masked");
    Ok(())
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = as_root("apt-get")?;
    command.args(["--quiet=2", "--option=DPkg::Lock::Timeout=300", "--option=Dpkg::Use-Pty=0"]).args(args);
    let output = command.stdin(Stdio::null()).output().context("can't run apt-get")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "apt-get {} ended with {}\n{out}{err}", args.join(" "), output.status);
    Ok(())
}

/// A command as root, with no question asked: `env` carries what sudo would drop.
fn as_root(program: &str) -> Result<Command> {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output().context("can't run id")?;
    let mut command = if id.stdout.trim_ascii() == b"0" {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        // On a terminal a person may type a password (sudo reads it from there, not from stdin).
        if env::var_os("CI").is_some() {
            sudo.arg("--non-interactive");
        }
        sudo.arg("env");
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_apart() {
        assert!(is_apt("NAME=x\nID=debian\n"));
        assert!(is_apt("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_apt("ID=fedora\nPRETTY_NAME=\"not debian\"\n"));
    }

    #[test]
    fn the_table_names_each_thing_once() {
        let mut names: Vec<_> = REQUIREMENTS.iter().map(|r| r.proof.name()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
