//! The `host` root filesystem: the host's own `/usr` and `/opt`, read-only, with those entries of `/etc` that programs
//! need and none that hold the machine's secrets or the person's.
//!
//! [`probe`] looks at the host (effects), [`compose`] decides (pure).

use crate::machine::Person;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Links or folders at the top that lead into `/usr` on a merged system.
const TOP: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Folders mounted whole.
const TREES: &[&str] = &["/usr", "/opt"];

/// Entries of `/etc` on every distribution.
const ETC: &[&str] = &[
    "bash.bashrc",
    "bashrc",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "magic.mime",
    "mime.types",
    "nanorc",
    "networks",
    "os-release",
    "profile.d",
    "protocols",
    "rpc",
    "services",
    "shells",
    "ssl",
    "terminfo",
    "timezone",
    "vimrc",
    "xattr.conf",
    "xdg",
    "zsh",
    "zshrc",
    "ImageMagick-6",
    "ImageMagick-7",
    "OpenCL",
    "vulkan",
    "glvnd",
    "php",
    "perl",
    "lsb-release",
];
/// Debian and what descends from it: `cc`, `awk` and `java` are links through alternatives.
const ETC_DEBIAN: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "debian_version",
    "java",
    "java-8-openjdk",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "maven",
    "gprofng.rc",
    "vim",
    "R",
    "lighttpd",
];
/// Fedora, RHEL and theirs: certificates and the crypto policy are links into these.
const ETC_FEDORA: &[&str] = &[
    "alternatives",
    "crypto-policies",
    "pki",
    "java",
    "fedora-release",
    "redhat-release",
    "system-release",
    "system-release-cpe",
    "locale.conf",
    "maven",
    "gprofng.rc",
    "DIR_COLORS",
    "jvm",
    "jvm-common",
    "vimrc",
    "virc",
];
/// Arch and what descends from it.
const ETC_ARCH: &[&str] =
    &["ca-certificates", "java-openjdk", "arch-release", "locale.conf", "java17-openjdk", "java21-openjdk"];
/// openSUSE and SLES.
const ETC_SUSE: &[&str] =
    &["alternatives", "crypto-policies", "pki", "java", "SUSE-brand", "DIR_COLORS", "locale.conf"];

/// A distribution family, by `ID` and `ID_LIKE` of os-release(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Debian, Ubuntu and theirs.
    Debian,
    /// Fedora, RHEL and theirs.
    Fedora,
    /// Arch and its.
    Arch,
    /// openSUSE and SLES.
    Suse,
    /// Any other with a usual `/usr`: the entries that all have.
    Other,
}

impl Family {
    /// The family that an os-release file tells.
    #[must_use]
    pub fn of(os_release: &str) -> Self {
        let value = |key: &str| {
            let line = os_release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let words = format!("{} {}", value("ID"), value("ID_LIKE"));
        for word in words.split_whitespace() {
            match word {
                "debian" | "ubuntu" => return Self::Debian,
                "fedora" | "rhel" | "centos" => return Self::Fedora,
                "arch" => return Self::Arch,
                "suse" | "opensuse" | "sles" => return Self::Suse,
                _ => {}
            }
        }
        Self::Other
    }

    fn etc(self) -> impl Iterator<Item = &'static str> {
        let own = match self {
            Self::Debian => ETC_DEBIAN,
            Self::Fedora => ETC_FEDORA,
            Self::Arch => ETC_ARCH,
            Self::Suse => ETC_SUSE,
            Self::Other => &[],
        };
        ETC.iter().chain(own).copied()
    }
}

/// What a path is, without following it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A symbolic link and where it points.
    Link(PathBuf),
    /// A folder.
    Folder,
    /// A regular file.
    File,
}

/// The host's root as far as the composition looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoot {
    /// Which family's list was looked up.
    pub family: Family,
    /// Each candidate that exists, absolute, with what it is.
    pub entries: Vec<(PathBuf, Kind)>,
}

/// Looks at the host.
#[must_use]
pub fn probe() -> HostRoot {
    let os_release = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let family = Family::of(&os_release.unwrap_or_default());
    let top = TOP.iter().map(|name| Path::new("/").join(name));
    let trees = TREES.iter().map(PathBuf::from);
    let etc = family.etc().map(|name| Path::new("/etc").join(name));
    let mut entries: Vec<_> = top.chain(trees).chain(etc).filter_map(|p| kind_of(&p).map(|k| (p, k))).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.dedup_by(|a, b| a.0 == b.0);
    HostRoot { family, entries }
}

fn kind_of(path: &Path) -> Option<Kind> {
    let about = fs::symlink_metadata(path).ok()?;
    if about.is_symlink() {
        return fs::read_link(path).ok().map(Kind::Link);
    }
    if about.is_dir() {
        return Some(Kind::Folder);
    }
    // Not readable for everybody: then it is not for the agent either.
    (about.is_file() && about.mode() & 0o004 != 0).then_some(Kind::File)
}

/// Something in the skeleton, the container's root before anything is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Entry {
    /// An empty folder: a mount point, or to hold others.
    Folder {
        /// Where, absolute inside.
        path: PathBuf,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: PathBuf,
        /// What it says.
        to: PathBuf,
    },
    /// A file with its text; an empty one is a mount point.
    File {
        /// Where.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// A file with the bytes that the host's has: one of `/etc`, small and root's, for which a mount would cost more.
    Copy {
        /// Where, inside and outside.
        path: PathBuf,
    },
}

/// The root: a skeleton, and what of the host is mounted read-only onto it at its own place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Root {
    /// Made afresh for each session.
    pub skeleton: Vec<Entry>,
    /// Places of the host, mounted read-only at the same place inside.
    pub read_only: Vec<PathBuf>,
    /// Names in /nix/store, each mounted read-only there; nothing else of the store is.
    pub store: Vec<String>,
    /// Places of this project's own, outside, mounted writable inside.
    pub own: Vec<(PathBuf, PathBuf)>,
}

/// Folders that are there whatever the host has.
pub(crate) const FOLDERS: &[&str] = &[
    "/proc", "/sys", "/dev", "/dev/shm", "/tmp", "/run", "/run/rcc", "/var", "/var/tmp", "/etc", "/home", "/root",
    "/mnt", "/usr", "/opt",
];

/// What a login shell reads. The distributions' own sets PATH anew, and so forgets the toolchains.
const PROFILE: &str = "\
for file in /etc/profile.d/*.sh; do
    [ -r \"$file\" ] && . \"$file\"
done
unset file
if [ -n \"${BASH-}\" ] && [ -n \"${PS1-}\" ]; then
    for file in /etc/bash.bashrc /etc/bashrc; do
        [ -r \"$file\" ] && . \"$file\"
    done
    unset file
fi
";

/// Composes the root for a person.
#[must_use]
pub fn compose(host: &HostRoot, person: &Person) -> Root {
    let mut root = Root::default();
    root.skeleton.extend(FOLDERS.iter().map(|p| Entry::Folder { path: p.into() }));
    for (path, kind) in &host.entries {
        match kind {
            // Links keep saying what they say on the host: they lead into /usr, or to an entry of the same list.
            Kind::Link(to) => root.skeleton.push(Entry::Link { path: path.clone(), to: to.clone() }),
            Kind::Folder => {
                root.skeleton.push(Entry::Folder { path: path.clone() });
                root.read_only.push(path.clone());
            }
            Kind::File => root.skeleton.push(Entry::Copy { path: path.clone() }),
        }
    }
    identity(&mut root, person);
    root
}

/// What every root has of rcc's own: who is who, where names are looked up, how a login shell begins.
pub(crate) fn identity(root: &mut Root, person: &Person) {
    root.skeleton.push(Entry::Link { path: "/etc/mtab".into(), to: "../proc/self/mounts".into() });
    let files = [
        ("/etc/passwd", passwd(person)),
        ("/etc/profile", PROFILE.to_owned()),
        ("/etc/group", format!("root:x:0:\n{}:x:{}:\nnogroup:x:65534:\n", person.name, person.gid)),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
                .to_owned(),
        ),
        ("/etc/resolv.conf", format!("nameserver {}\noptions timeout:2 attempts:2\n", rcc_proto::RESOLVER)),
        ("/etc/hostname", String::new()),
        ("/etc/machine-id", String::new()),
        ("/run/.containerenv", String::new()),
    ];
    root.skeleton.extend(files.map(|(path, text)| Entry::File { path: path.into(), text }));
}

fn passwd(person: &Person) -> String {
    let home = person.home.display();
    format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n{}:x:{}:{}::{home}:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        person.name, person.uid, person.gid
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person() -> Person {
        Person { name: "alice".into(), uid: 1000, gid: 1000, home: "/home/alice".into() }
    }

    #[test]
    fn families_by_os_release() {
        assert_eq!(Family::of("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n"), Family::Debian);
        assert_eq!(Family::of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Family::Fedora);
        assert_eq!(Family::of("ID=manjaro\nID_LIKE=arch\n"), Family::Arch);
        assert_eq!(Family::of("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n"), Family::Suse);
        assert_eq!(Family::of(""), Family::Other);
    }

    #[test]
    fn no_entry_of_etc_holds_secrets() {
        let secret = [
            "shadow",
            "gshadow",
            "sudoers",
            "ssh",
            "gitconfig",
            "environment",
            "apt",
            "NetworkManager",
            "wpa_supplicant",
            "krb5.keytab",
            "rcc",
            "subuid",
            "fstab",
            "machine-id",
        ];
        for family in [Family::Debian, Family::Fedora, Family::Arch, Family::Suse, Family::Other] {
            for name in family.etc() {
                assert!(!secret.contains(&name), "{name} of {family:?}");
            }
        }
    }

    #[test]
    fn a_merged_host() {
        let host = HostRoot {
            family: Family::Debian,
            entries: vec![
                ("/bin".into(), Kind::Link("usr/bin".into())),
                ("/etc/alternatives".into(), Kind::Folder),
                ("/etc/localtime".into(), Kind::Link("/usr/share/zoneinfo/UTC".into())),
                ("/etc/services".into(), Kind::File),
                ("/usr".into(), Kind::Folder),
            ],
        };
        let root = compose(&host, &person());
        assert_eq!(root.read_only, ["/etc/alternatives", "/usr"].map(PathBuf::from));
        assert!(root.skeleton.contains(&Entry::Copy { path: "/etc/services".into() }));
        assert!(root.skeleton.contains(&Entry::Link { path: "/bin".into(), to: "usr/bin".into() }));
        assert!(root.skeleton.contains(&Entry::Folder { path: "/etc/alternatives".into() }));
    }
}
