//! A repository's index. Every gitlink that git itself sees in it must be seen, or the index be refused: git goes into
//! each of these repositories and obeys its configuration.

use rcc_launch::git_index::{Index, parse};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

static REPOSITORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(git(dir.path()).args(["init", "-q", "--object-format=sha1"]).status().expect("git runs").success());
    dir
});

pub fn feed(bytes: &[u8]) {
    let _ = parse(bytes, 32);
    let Ok(Index { links, shared: None, sparse: false }) = parse(bytes, 20) else { return };
    std::fs::write(REPOSITORY.path().join(".git/index"), bytes).expect("the index can be written");
    let listed = git(REPOSITORY.path()).args(["ls-files", "--stage", "-z"]).output().expect("git runs");
    // What git refuses it does not act on. What it said before counts.
    let ours: BTreeSet<&Path> = links.iter().map(PathBuf::as_path).collect();
    for entry in listed.stdout.split(|b| *b == 0).filter(|e| e.starts_with(b"160000 ")) {
        let path = entry.splitn(2, |b| *b == b'\t').nth(1).expect("a path behind a tab");
        // So it shows a path without a letter.
        let path = if path == b"./" { b"" } else { path };
        assert!(ours.contains(Path::new(OsStr::from_bytes(path))), "git sees {:?}", String::from_utf8_lossy(path));
    }
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent").stdin(Stdio::null()).stderr(Stdio::null());
    command
}
