//! The world's own view of the file system: system folders that can be written to without a trace.
//!
//! /proc, /sys and /run are new; /etc, /usr, /var and /opt are overlays, so that setup can install into them; /home is a
//! tmpfs into which the machine's homes are bound. /tmp is shared with the machine unless it was asked otherwise.
//! Invariant: all of it happens in this process's private mount namespace.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::description::FOLDER;
use crate::map::{HOST4, ROUTER4};

const OVERLAID: &[&str] = &["/etc", "/usr", "/var", "/opt"];
/// What a world needs of the machine's /run, where it exists: `NixOS` has its programs there.
const KEPT_OF_RUN: &[&str] = &["/run/current-system", "/run/booted-system", "/run/wrappers", "/run/opengl-driver"];
/// Where programs look for certificate authorities.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"];

fn none() -> Option<&'static str> {
    None
}

fn new_mount(kind: &str, target: &str, flags: MsFlags, data: Option<&str>) -> Result<()> {
    mount(Some(kind), target, Some(kind), flags, data).with_context(|| format!("mounting {kind} on {target}"))
}

/// Something that was opened before its place was covered.
struct Kept {
    path: PathBuf,
    fd: OwnedFd,
}

impl Kept {
    fn open(path: &Path) -> Option<Self> {
        let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path).ok()?;
        file.metadata().ok()?.is_dir().then(|| Self { path: path.to_owned(), fd: file.into() })
    }

    /// Brings it back to where it was, or elsewhere.
    fn bind(&self) -> Result<()> {
        fs::create_dir_all(&self.path)?;
        let from = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(from.as_str()), &self.path, none(), flags, none())
            .with_context(|| format!("bringing back {}", self.path.display()))
    }
}

/// Replaces what is to be replaced. `exposed` stays as it is.
pub fn replace(exposed: &[PathBuf], private_tmp: bool, machine_network: bool) -> Result<()> {
    // It may be a link into /run, which is about to be covered.
    let resolv_conf =
        if machine_network { fs::read("/etc/resolv.conf")? } else { format!("nameserver {ROUTER4}\n").into() };
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none())?;
    let exposed: Vec<PathBuf> = exposed.iter().filter_map(|p| p.canonicalize().ok()).collect();
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys")] {
        // it needn't have been a mount of its own
        let _not_mounted = umount2(target, MntFlags::MNT_DETACH);
        new_mount(kind, target, hardened, None)?;
    }
    new_mount("cgroup2", "/sys/fs/cgroup", hardened, None)?;

    let links: Vec<_> = KEPT_OF_RUN.iter().filter_map(|p| Some((*p, fs::read_link(p).ok()?))).collect();
    cover("/run", &kept_below("/run", KEPT_OF_RUN.iter().map(PathBuf::from)), || {
        new_mount("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
    })?;
    for (place, target) in links {
        std::os::unix::fs::symlink(target, place)?;
    }
    fs::DirBuilder::new().mode(0o755).create(FOLDER)?;
    for folder in ["/run/lock", "/run/user"] {
        fs::create_dir_all(folder)?;
    }
    let layers = Path::new(FOLDER).join(".layers");
    fs::DirBuilder::new().mode(0o700).create(&layers)?;
    for target in OVERLAID.iter().filter(|t| fs::symlink_metadata(t).is_ok_and(|m| m.is_dir())) {
        let layer = layers.join(target.trim_start_matches('/'));
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        let like = fs::metadata(target)?;
        fs::create_dir_all(&work)?;
        fs::create_dir(&upper)?;
        // the merged folder shows the upper's owner and mode
        chown(&upper, Some(like.uid()), Some(like.gid()))?;
        fs::set_permissions(&upper, like.permissions())?;
        let data = format!("lowerdir={target},upperdir={},workdir={}", upper.display(), work.display());
        cover(target, &kept_below(target, exposed.iter().cloned()), || {
            new_mount("overlay", target, MsFlags::empty(), Some(&data))
        })?;
    }
    homes()?;
    if private_tmp {
        cover("/tmp", &kept_below("/tmp", exposed.iter().cloned()), || {
            new_mount("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=1777"))
        })?;
    }
    etc(&resolv_conf)?;
    // Podman wants propagation; the peers of these mounts are all in this namespace
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_SHARED, none())?;
    Ok(())
}

fn kept_below(target: &str, paths: impl Iterator<Item = PathBuf>) -> Vec<Kept> {
    paths.filter(|p| p.starts_with(target) && p.as_path() != Path::new(target)).filter_map(|p| Kept::open(&p)).collect()
}

fn cover(what: &str, kept: &[Kept], with: impl FnOnce() -> Result<()>) -> Result<()> {
    with()?;
    kept.iter().try_for_each(Kept::bind).with_context(|| format!("covering {what}"))
}

/// /home becomes a tmpfs, where homes of the world's users can be made; the machine's homes are bound into it.
fn homes() -> Result<()> {
    let Ok(home) = fs::canonicalize("/home") else { return Ok(()) };
    let mut kept = Vec::new();
    for entry in fs::read_dir(&home)?.flatten() {
        kept.extend(Kept::open(&entry.path()));
    }
    mount(Some("tmpfs"), &home, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    kept.iter().try_for_each(Kept::bind)
}

fn etc(resolv_conf: &[u8]) -> Result<()> {
    let write = |name: &str, text: &[u8]| {
        let path = Path::new("/etc").join(name);
        // it may be a link to what isn't there any more
        let _absent = fs::remove_file(&path);
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write("resolv.conf", resolv_conf)?;
    write("hostname", b"devbox\n")?;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n{HOST4} devbox\n");
    write("hosts", hosts.as_bytes())?;
    fs::set_permissions("/etc/resolv.conf", fs::Permissions::from_mode(0o644))?;
    Ok(())
}

/// Adds a certificate to the bundles that the machine has.
pub fn trust(certificate: &Path) -> Result<()> {
    let pem = fs::read(certificate)?;
    for bundle in BUNDLES.iter().filter_map(|b| fs::canonicalize(b).ok()) {
        let mut file = File::options().append(true).open(&bundle).with_context(|| bundle.display().to_string())?;
        file.write_all(&[b"\n", &pem[..]].concat())?;
    }
    Ok(())
}
