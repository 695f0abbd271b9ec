//! Asking the person's tools and files, without being held up or led astray by either.

use crate::machine::{self, Person};
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LONGEST: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// What of the person's environment says how the network is reached.
const NETWORK: &[&str] = &["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// A program where only root can write it.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    machine::program(name).ok()
}

/// What a program prints; `None` if it fails, prints more than 1 MiB or takes longer than 20 s. It runs in `/`, so that no
/// folder's own configuration counts.
pub(super) fn output(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    person: &Person,
) -> Option<String> {
    let network = NETWORK.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(network)
        .env("HOME", &person.home)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin")
        .env("LANG", "C.UTF-8")
        .envs(variables.iter().copied())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.take(LONGEST + 1).read_to_end(&mut text).ok().map(|_| text)
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break Some(status),
            None if Instant::now() > end || reader.is_finished() && Instant::now() > end => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    // Whatever of its family is left, too; the reader's end comes with it.
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill with numbers; the group is the child's own, and is not reaped where it has not ended.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    if status.is_none() {
        let _ended = child.wait();
    }
    let text = reader.join().ok().flatten()?;
    let whole = status?.success() && text.len() as u64 <= LONGEST;
    whole.then(|| String::from_utf8_lossy(&text).into_owned())
}

/// A file of the person's home folder, if it is a plain one of at most 1 MiB.
pub(super) fn file(person: &Person, relative: &str) -> Option<String> {
    plain(&person.home.join(relative))
}

/// Any plain file of at most 1 MiB.
pub(super) fn plain(path: &Path) -> Option<String> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()?;
    let mut text = String::new();
    let about = file.metadata().ok().filter(|about| about.is_file() && about.len() <= LONGEST)?;
    file.take(about.len()).read_to_string(&mut text).ok()?;
    Some(text)
}
