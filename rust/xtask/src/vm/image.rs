//! The disk that a machine begins with: a fresh Debian with systemd, the distribution's packages that README names, and
//! an ordinary user who may use sudo. Nothing of rcc is on it.
//!
//! Invariant: `target/vm/KEY` is there whole or not at all, and KEY says all that it was made from: the suite, the
//! packages, and the files that this module writes.

use crate::prerequisites::{self, Purpose};
use crate::trees::tree::Trees;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, ensure};
use rcc_machine::Image;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// The person.
pub const USER: &str = "dev";
/// Where the second disk is: what the person has built, and what drives the machine.
pub const BUILT: &str = "/mnt/built";

const SUITE: &str = "trixie";
/// What makes a machine of a tree. debootstrap looks at no alternatives and nothing virtual, hence dbus.
const MACHINE: &[&str] =
    &["dbus", "dbus-user-session", "kmod", "libpam-systemd", "linux-image-cloud-amd64", "sudo", "systemd-sysv", "udev"];
/// There is no registry in the machine: the agent comes on the second disk.
const LEFT_OUT: &[&str] = &["npm"];

/// What is written into the tree. No name has rcc's in it, since what rcc leaves is looked for by that.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "devbox\n"),
    ("etc/hosts", "127.0.0.1 localhost devbox\n::1 localhost ip6-localhost\n"),
    ("etc/resolv.conf", "nameserver 192.168.77.1\n"),
    ("etc/fstab", "/dev/vda / ext4 defaults 0 1\n/dev/vdb /mnt/built ext4 ro 0 0\n"),
    ("etc/sudoers.d/dev", "dev ALL=(ALL) NOPASSWD: ALL\n"),
    ("etc/systemd/journald.conf.d/kept.conf", "[Journal]\nStorage=persistent\n"),
    (
        "etc/systemd/system/harness.service",
        "[Unit]\nDescription=Runs what the test asks for\nRequiresMountsFor=/mnt/built\nAfter=dev-virtio\\x2dports-harness.device \
         harness-internet.service\nWants=dev-virtio\\x2dports-harness.device\n[Service]\nExecStart=/mnt/built/programs/xtask vm inside\nTasksMax=infinity\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "etc/systemd/system/harness-internet.service",
        "[Unit]\nDescription=The machine's network, and a small internet behind it\nRequiresMountsFor=/mnt/built\n\
         After=network-pre.target\nBefore=network.target\nWants=network.target\n[Service]\nType=notify\nNotifyAccess=all\n\
         ExecStart=/mnt/built/programs/rcc-world surround\n[Install]\nWantedBy=multi-user.target\n",
    ),
];
const STARTED: &[&str] = &["harness.service", "harness-internet.service"];
/// What only takes time.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "serial-getty@ttyS0.service",
];

/// The image, made unless it is there.
pub fn ensure(workspace: &Workspace, mirror: Option<&str>, log: &Path) -> Result<Image> {
    let mut packages = prerequisites::packages(&[Purpose::Run, Purpose::Demo]);
    packages.retain(|p| !LEFT_OUT.contains(p));
    packages.extend(MACHINE);
    let key = key(&packages);
    let place = workspace.target.join("vm").join(&key);
    let image = Image { disk: place.join("disk.img"), kernel: place.join("vmlinuz"), initrd: place.join("initrd.img") };
    if place.is_dir() {
        return Ok(image);
    }
    ensure!(nix::unistd::geteuid().is_root(), "only root can make a machine's disk");
    let trees = Trees::new(&workspace.target, mirror)?;
    trees.remove(&key)?;
    trees.ensure_with(&key, SUITE, &packages, log)?;
    let tree = trees.place(&key);
    furnish(&tree)?;
    let beside = place.with_extension("new");
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    fs::create_dir_all(&beside)?;
    for name in ["vmlinuz", "initrd.img"] {
        let boot = tree.join("boot");
        let found = fs::read_dir(&boot)?.flatten().map(|e| e.path());
        let mut found = found.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name)));
        let from = found.next().with_context(|| format!("no {name} in {}", boot.display()))?;
        fs::copy(from, beside.join(name))?;
    }
    disk_of(&tree, &beside.join("disk.img"), "4G")?;
    fs::rename(&beside, &place)?;
    trees.remove(&key)?;
    Ok(image)
}

/// `trixie-vm-` and a hash of all that the disk is made from.
fn key(packages: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    (SUITE, packages, FILES, STARTED, MASKED).hash(&mut hasher);
    format!("{SUITE}-vm-{:016x}", hasher.finish())
}

/// Makes a tree a machine's.
fn furnish(tree: &Path) -> Result<()> {
    for (name, text) in FILES {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        // It may be a link to what isn't there.
        if fs::symlink_metadata(&path).is_ok() {
            fs::remove_file(&path)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    let units = tree.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    for unit in STARTED {
        symlink(Path::new("/etc/systemd/system").join(unit), wanted.join(unit))?;
    }
    for unit in MASKED {
        symlink("/dev/null", units.join(unit)).with_context(|| format!("masking {unit}"))?;
    }
    fs::create_dir_all(tree.join(BUILT.trim_start_matches('/')))?;
    let made = Command::new("chroot")
        .arg(tree)
        .args(["/usr/sbin/useradd", "--create-home", "--shell", "/bin/bash", USER])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()?;
    ensure!(made.status.success(), "useradd: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// An ext4 file system with what is in a folder.
pub fn disk_of(folder: &Path, disk: &Path, size: &str) -> Result<()> {
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .args([folder, disk])
        .arg(size)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .context("mkfs.ext4")?;
    ensure!(output.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
