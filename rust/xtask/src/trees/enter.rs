//! Entering a tree: not by chroot, in which the kernel lets nobody make a user namespace, but by making the tree the root
//! of new mount, process, host name and IPC namespaces.
//!
//! Invariant: every mount is in that mount namespace, private from the machine's, and goes with its last process.
//! Process 1 is this program; when the one that started it dies, so do all.

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Variables that say how programs reach the network; compared without case. They go into a tree, and no others do.
const CARRIED: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "ssl_cert_file",
    "ssl_cert_dir",
    "curl_ca_bundle",
    "git_ssl_cainfo",
    "node_extra_ca_certs",
    "npm_config_registry",
    "npm_config_cafile",
    "cargo_http_cainfo",
    "cargo_http_proxy",
];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What process 1 is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The tree.
    tree: PathBuf,
    /// Folders of the machine's and their places in the tree.
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    read_only: Vec<PathBuf>,
    /// The same, writable.
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    writable: Vec<PathBuf>,
    /// Where the command begins.
    #[arg(long, default_value = "/")]
    folder: PathBuf,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// A command that is to run in a tree.
#[derive(Debug)]
pub struct Entry {
    tree: PathBuf,
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    path: String,
}

impl Entry {
    /// This program, as root, with a usual environment.
    pub fn new(tree: &Path, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { tree: tree.to_owned(), program, arguments: Vec::new(), variables: Vec::new(), path: PATH.to_owned() }
    }

    /// With a folder of the machine's, which can't be written to.
    pub fn read_only(self, from: &Path, to: &str) -> Self {
        self.option("--read-only", &[from.as_os_str(), to.as_ref()])
    }

    /// With a folder of the machine's.
    pub fn writable(self, from: &Path, to: &str) -> Self {
        self.option("--writable", &[from.as_os_str(), to.as_ref()])
    }

    /// Beginning in this folder of the tree.
    pub fn folder(self, folder: &str) -> Self {
        self.option("--folder", &[folder.as_ref()])
    }

    /// With a variable.
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// With a folder before the usual ones of PATH.
    pub fn path(mut self, folder: &str) -> Self {
        self.path = format!("{folder}:{}", self.path);
        self
    }

    fn option(mut self, name: &str, values: &[&OsStr]) -> Self {
        self.arguments.push(name.into());
        self.arguments.extend(values.iter().map(OsString::from));
        self
    }

    /// The command as it runs here.
    pub fn command(self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--"]);
        command.arg(env::current_exe()?).args(["trees", "inside"]).args(&self.arguments).arg(&self.tree);
        command.arg("--").arg(&self.program).args(arguments);
        command.env_clear().envs(carried(env::vars_os()));
        command.envs([("HOME", "/root"), ("USER", "root"), ("LANG", "C.UTF-8"), ("TERM", "xterm-256color")]);
        command.env("PATH", &self.path).envs(self.variables);
        command.stdin(Stdio::null());
        Ok(command)
    }
}

fn carried(all: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(|(name, _)| name.to_str().is_some_and(|n| CARRIED.contains(&n.to_ascii_lowercase().as_str())))
}

/// Makes the tree the root and runs the command; ends as it ended.
pub fn inside(args: &Args) -> Result<()> {
    ensure!(std::process::id() == 1, "only cargo xtask trees calls this, as process 1 of new namespaces");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("a private mount namespace")?;
    let tree = fs::canonicalize(&args.tree).with_context(|| args.tree.display().to_string())?;
    bind(&tree, &tree, false)?;
    for (pairs, read_only) in [(&args.read_only, true), (&args.writable, false)] {
        for pair in pairs.chunks_exact(2) {
            let to = tree.join(pair[1].strip_prefix("/").context("a place in the tree is absolute")?);
            fs::create_dir_all(&to)?;
            bind(&pair[0], &to, read_only)?;
        }
    }
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, place) in [("proc", "proc"), ("sysfs", "sys"), ("cgroup2", "sys/fs/cgroup")] {
        mount(Some(kind), &tree.join(place), Some(kind), hardened, none).with_context(|| format!("mounting {kind}"))?;
    }
    mount(Some("/dev"), &tree.join("dev"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none).context("mounting /dev")?;
    env::set_current_dir(&tree)?;
    // The old root is put on top of the new one, and taken away (pivot_root(2), "pivot_root(".", ".")").
    nix::unistd::pivot_root(".", ".").context("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).context("taking the machine's root away")?;
    env::set_current_dir("/")?;
    // Podman wants propagation, as systemd sets it up on a machine; the peers are all in this namespace.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)?;
    nix::unistd::sethostname("tree")?;
    let (program, arguments) = args.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    let status = command.args(arguments).current_dir(&args.folder).status();
    let status = status.with_context(|| format!("running {}", program.display()))?;
    std::process::exit(status.code().unwrap_or(1));
}

fn bind(from: &Path, to: &Path, read_only: bool) -> Result<()> {
    let (none, what) = (None::<&str>, || format!("binding {} to {}", from.display(), to.display()));
    mount(Some(from), to, none, MsFlags::MS_BIND, none).with_context(what)?;
    if read_only {
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, to, none, again, none).with_context(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_environment_only_ways_to_the_network_go_into_a_tree() {
        let all = [("HTTPS_PROXY", "a"), ("ANTHROPIC_API_KEY", "b"), ("no_proxy", "c"), ("HOME", "d")];
        let names: Vec<_> = carried(all.map(|(n, v)| (n.into(), v.into())).into_iter()).map(|(n, _)| n).collect();
        assert_eq!(names, ["HTTPS_PROXY", "no_proxy"]);
    }
}
