//! Trees on disk: made by debootstrap, kept clean, and copied for each run.
//!
//! Invariant: `trees/SUITE` is there whole or not at all: it is made beside itself and renamed. What this machine needs
//! to reach its mirrors (apt's settings, certificate authorities, the resolver) is put into copies only, each time as it
//! is now.

use crate::mounts;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Settings of apt's that say how, not what, it fetches.
const FETCHING: &[&str] = &[
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Check-Date ",
    "Acquire::Check-Valid-Until ",
    "Acquire::Retries ",
    "Acquire::ForceIPv4 ",
    "Acquire::ForceIPv6 ",
];
/// Authorities that the machine's administrator trusts: `update-ca-certificates` adds them to the bundle.
const AUTHORITIES: &str = "usr/local/share/ca-certificates";

/// Where trees are kept and what they are made from.
#[derive(Debug)]
pub struct Trees {
    root: PathBuf,
    mirror: String,
}

impl Trees {
    /// Asks this machine's apt where packages come from, unless told.
    pub fn new(target: &Path, mirror: Option<&str>) -> Result<Self> {
        let mirror = mirror.map_or_else(machines_mirror, |m| Ok(m.to_owned()))?;
        let root = target.join("trees");
        fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        Ok(Self { root, mirror })
    }

    /// A place of that name beside the trees.
    pub fn place(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a suite's packages are kept once they were fetched.
    pub fn packages(&self, suite: &str) -> PathBuf {
        self.root.join("packages").join(suite)
    }

    /// Makes the tree of a suite, unless it is there.
    pub fn ensure(&self, suite: &str, log: &Path) -> Result<()> {
        self.ensure_with(suite, suite, &[], log)
    }

    /// Makes the tree of that name, with more packages than minbase has, unless it is there.
    pub fn ensure_with(&self, name: &str, suite: &str, packages: &[&str], log: &Path) -> Result<()> {
        let named = suite.starts_with(|c: char| c.is_ascii_lowercase())
            && suite.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        ensure!(named && suite != "packages", "{suite} is no name of a release");
        let mut include = packages.to_vec();
        let (tree, beside) = (self.place(name), self.place(&format!("{name}.new")));
        let packages = self.packages(suite);
        fs::create_dir_all(packages.join("partial"))?;
        if tree.is_dir() {
            return Ok(());
        }
        remove_tree(&beside)?;
        // In a mount namespace of its own, as debootstrap mounts, and might be killed.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "--", "debootstrap", "--variant=minbase"]);
        if self.mirror.starts_with("https:") {
            include.push("ca-certificates");
        }
        if !include.is_empty() {
            command.arg(format!("--include={}", include.join(",")));
        }
        command.arg(format!("--cache-dir={}", packages.display())).arg(suite).arg(&beside).arg(&self.mirror);
        let said = File::create(log).with_context(|| log.display().to_string())?;
        let status = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).status()?;
        if !status.success() {
            let text = fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            bail!("debootstrap ended with {status}; {}\n{}", log.display(), last.join("\n"));
        }
        fs::rename(&beside, &tree).with_context(|| tree.display().to_string())
    }

    /// Takes the tree of that name away. Nothing of a run is mounted there, or it isn't touched.
    pub fn remove(&self, name: &str) -> Result<()> {
        remove_tree(&self.place(name))
    }

    /// A copy for one run, with this machine's ways to its mirrors.
    pub fn copy(&self, suite: &str) -> Result<Copy> {
        let copy = Copy { path: self.place(&format!("{suite}.run")) };
        remove_tree(&copy.path)?;
        let status = Command::new("cp")
            .args(["--archive", "--one-file-system", "--reflink=auto", "--"])
            .args([&self.place(suite), &copy.path])
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "cp ended with {status}");
        copy.reach_mirrors()?;
        Ok(copy)
    }
}

/// A tree that a run may change.
#[derive(Debug)]
pub struct Copy {
    path: PathBuf,
}

impl Copy {
    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is.
    pub fn keep(self) -> PathBuf {
        self.path
    }

    /// Takes it away. A run's mounts were in its own namespaces and are gone.
    pub fn remove(self) -> Result<()> {
        remove_tree(&self.path)
    }

    /// Cargo's own settings, such as another registry, for root in the tree. No credentials.
    pub fn cargo_configuration(&self) -> Result<()> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let Some(home) = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))) else { return Ok(()) };
        let to = self.path.join("root/.cargo");
        fs::create_dir_all(&to)?;
        for name in ["config.toml", "config"] {
            copy_if_there(&home.join(name), &to.join(name))?;
        }
        Ok(())
    }

    fn reach_mirrors(&self) -> Result<()> {
        let dump = Command::new("apt-config").arg("dump").stdin(Stdio::null()).output().context("apt-config")?;
        ensure!(dump.status.success(), "apt-config dump ended with {}", dump.status);
        let settings = fetching(&String::from_utf8_lossy(&dump.stdout));
        fs::write(self.path.join("etc/apt/apt.conf.d/90machine"), settings)?;
        // What is lost by a power cut is made anew.
        fs::write(self.path.join("etc/dpkg/dpkg.cfg.d/unsafe-io"), "force-unsafe-io\n")?;
        for name in ["resolv.conf", "hosts"] {
            let to = self.path.join("etc").join(name);
            // It may be a link to a place that is not in the tree.
            if fs::symlink_metadata(&to).is_ok() {
                fs::remove_file(&to)?;
            }
            copy_if_there(&Path::new("/etc").join(name), &to)?;
        }
        let (from, to) = (Path::new("/").join(AUTHORITIES), self.path.join(AUTHORITIES));
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from).into_iter().flatten() {
            let entry = entry?;
            if entry.path().extension().is_some_and(|e| e == "crt") {
                copy_if_there(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        Ok(())
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("copying {}", from.display()))
        }
        _ => Ok(()),
    }
}

/// The lines of `apt-config dump` that say how apt fetches.
fn fetching(dump: &str) -> String {
    let said = |line: &&str| FETCHING.iter().any(|key| line.starts_with(key)) && !line.ends_with(" \"\";");
    dump.lines().filter(said).flat_map(|line| [line, "\n"]).collect()
}

/// Where this machine, a Debian, has its own release's main packages from.
fn machines_mirror() -> Result<String> {
    let hint = "hint: name a mirror of Debian by --mirror";
    let os_release = fs::read_to_string("/etc/os-release").with_context(|| format!("no Debian\n{hint}"))?;
    let value = |key: &str| os_release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    ensure!(value("ID") == Some("debian"), "this machine is no Debian, so its apt knows no mirror of Debian\n{hint}");
    let codename = value("VERSION_CODENAME").unwrap_or("sid");
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(CODENAME) $(RELEASE) $(COMPONENT) $(SITE)", "Created-By: Packages"])
        .stdin(Stdio::null())
        .output()
        .context("apt-get indextargets")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let site = mirror_of(&text, codename);
    site.map(str::to_owned).with_context(|| format!("apt names no mirror of {codename}\n{hint}"))
}

/// The site of the line `CODENAME RELEASE COMPONENT SITE` whose release is this one, by either of its names.
fn mirror_of<'a>(targets: &'a str, codename: &str) -> Option<&'a str> {
    targets.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [names @ .., "main", site] = words.as_slice() else { return None };
        names.contains(&codename).then_some(*site)
    })
}

/// Removes a folder with all that is in it. Nothing is mounted there in this namespace, or it isn't touched.
fn remove_tree(path: &Path) -> Result<()> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    let real = fs::canonicalize(path)?;
    let below = mounts::below(&real)?;
    ensure!(below.is_empty(), "mounts are left: {}", below.join(", "));
    ensure!(about.uid() == 0, "{} is not root's", path.display());
    fs::remove_dir_all(path).with_context(|| format!("can't remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_release_itself() {
        let targets = "bookworm-updates bookworm-updates main http://a.example/debian\n\
                       bookworm-security bookworm-security main http://s.example/debian-security\n\
                       bookworm stable contrib http://c.example/debian\n\
                       bookworm stable main http://b.example/debian\n";
        assert_eq!(mirror_of(targets, "bookworm"), Some("http://b.example/debian"));
        assert_eq!(mirror_of(targets, "trixie"), None);
    }

    #[test]
    fn of_apts_settings_only_those_of_fetching_go_into_a_tree() {
        let dump = "APT::Update::Post-Invoke:: \"rm x\";\nAcquire::http::Proxy \"http://p.example:1\";\n\
                    Acquire::https \"\";\nAcquire::Check-Date \"false\";\nAcquire::https::Verify-Peer \"\";\n";
        assert_eq!(fetching(dump), "Acquire::http::Proxy \"http://p.example:1\";\nAcquire::Check-Date \"false\";\n");
    }
}
