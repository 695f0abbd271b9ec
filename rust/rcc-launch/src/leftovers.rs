//! What a session leaves that git would act on as soon as somebody goes there: repositories in the project, other than
//! the project's own, whose configuration runs a program and was changed since the session began.
//!
//! A file's change time (`st_ctime`) is the kernel's, so the agent can't set it back. The walk is bounded; where it did
//! not come to an end it says so.

use crate::beneath;
use crate::project::Project;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Files and folders that are looked at.
const ENTRY_LIMIT: usize = 200_000;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How deep folders are searched.
const DEPTH: usize = 64;
/// Bytes of a configuration that are looked at; a longer one is named in any case.
const FILE_LIMIT: u64 = 1 << 20;
/// How coarse the kernel's clock for files may be.
const COARSE: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Configurations, and folders of hooks, relative to the project.
    pub configurations: Vec<PathBuf>,
    /// Not everything was looked at.
    pub unfinished: bool,
}

/// Walks the project. `known` are the files and folders that were covered.
#[must_use]
pub fn find(project: &Project, since: SystemTime, known: impl Fn(&Path) -> bool) -> Leftovers {
    let since = since.checked_sub(COARSE).and_then(|s| s.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let (began, mut seen, mut found) = (Instant::now(), 0, Leftovers::default());
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let Ok(descriptor) = open_folder(project, &folder) else { continue };
        let Ok(mut entries) = nix::dir::Dir::from_fd(descriptor) else { continue };
        for entry in entries.iter().flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            seen += 1;
            if seen > ENTRY_LIMIT || began.elapsed() > PATIENCE {
                found.unfinished = true;
                return found;
            }
            let path = folder.join(name);
            let is_folder = match entry.file_type() {
                Some(nix::dir::Type::Directory) => name != "." && name != "..",
                None => name != "." && name != ".." && open_folder(project, &path).is_ok(),
                Some(_) => false,
            };
            if is_folder && depth == DEPTH {
                found.unfinished = true;
            } else if is_folder && path == Path::new(".git/objects") {
                // Nobody goes there, and it has the most files of all.
            } else if is_folder {
                if name == "hooks" && !known(&path) && hooks_act(project, &path, since) {
                    found.configurations.push(path.clone());
                }
                open.push((path, depth + 1));
            } else if (name == "config" || name == "config.worktree") && !known(&path) && acts(project, &path, since) {
                found.configurations.push(path);
            }
        }
    }
    found.configurations.sort();
    found
}

fn open_folder(project: &Project, path: &Path) -> std::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    beneath::open(&project.folder, path, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Whether there is a repository around a file.
fn in_repository(project: &Project, path: &Path) -> bool {
    beneath::open(&project.folder, &path.with_file_name("HEAD"), libc::O_PATH | libc::O_NOFOLLOW).is_ok()
}

fn changed(about: &nix::sys::stat::FileStat) -> Duration {
    Duration::new(u64::try_from(about.st_ctime).unwrap_or(0), u32::try_from(about.st_ctime_nsec).unwrap_or(0))
}

/// Whether a repository has a hook that is newer than the session. Git runs those that can be run, and are no samples.
fn hooks_act(project: &Project, path: &Path, since: Duration) -> bool {
    if !in_repository(project, path) {
        return false;
    }
    let Ok(mut entries) = open_folder(project, path).and_then(|fd| Ok(nix::dir::Dir::from_fd(fd)?)) else {
        return true;
    };
    entries.iter().flatten().take(ENTRY_LIMIT).any(|entry| {
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        let sample = name.extension().is_some_and(|e| e == "sample");
        let about = beneath::open(&project.folder, &path.join(name), libc::O_PATH | libc::O_NOFOLLOW)
            .and_then(|fd| Ok(nix::sys::stat::fstat(fd)?));
        // Behind a link there may be anything.
        let runs = |about: &nix::sys::stat::FileStat| match about.st_mode & libc::S_IFMT {
            libc::S_IFREG => about.st_mode & 0o111 != 0,
            kind => kind == libc::S_IFLNK,
        };
        !sample && about.is_ok_and(|about| runs(&about) && changed(&about) >= since)
    })
}

/// Whether a file lies in a repository, is newer than the session, and tells git to run something.
fn acts(project: &Project, path: &Path, since: Duration) -> bool {
    if !in_repository(project, path) {
        return false;
    }
    let Ok(opened) = beneath::open(&project.folder, path, libc::O_PATH) else { return false };
    let Ok(about) = nix::sys::stat::fstat(&opened) else { return false };
    if changed(&about) < since {
        return false;
    }
    match beneath::read(&project.folder, path, FILE_LIMIT) {
        Ok(text) => runs_something(&String::from_utf8_lossy(&text)),
        Err(_) => true,
    }
}

/// Keys whose value git runs, or that bring in more configuration (git-config(1)), in lower case and without their section;
/// `git init`, `clone`, `remote add` and `submodule` write none of them.
const RUN: &[&str] = &[
    "askpass",
    "clean",
    "cmd",
    "command",
    "driver",
    "editor",
    "external",
    "fsmonitor",
    "gitproxy",
    "helper",
    "hookspath",
    "packobjectshook",
    "pager",
    "path",
    "process",
    "program",
    "sequenceeditor",
    "smudge",
    "sshcommand",
    "textconv",
    "uploadpack",
    "receivepack",
    "update",
];

/// Whether a configuration has a key that runs a program. Rather too often than too seldom: a key may stand on its
/// section's line, and a whole section of aliases or pagers counts.
fn runs_something(text: &str) -> bool {
    text.to_lowercase().lines().any(|line| {
        let line = line.trim();
        let after_section = line.rsplit(']').next().unwrap_or(line);
        let key = after_section.split(['=', '#', ';']).next().unwrap_or_default().trim();
        let section = line.strip_prefix('[').map(str::trim_start).unwrap_or_default();
        RUN.contains(&key)
            || section.starts_with("alias")
            || section.starts_with("pager")
            || section.starts_with("include")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn new_repositories_that_run_something_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        let project = Project {
            path: dir.path().to_owned(),
            device: 0,
            inode: 0,
            folder: fs::File::open(dir.path()).unwrap().into(),
        };
        for (place, text) in [
            (".git", "[core]\n\tfsmonitor = x\n"),
            ("plain/.git", "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = x\n"),
            ("nested/.git", "[core]\n\tfsMonitor = ./x\n"),
            ("deep/bare", "[core] sshCommand=./x\n"),
            (".git/modules/m", "[ALIAS]\n\tst = !x\n"),
            ("old/.git", "[core]\n\tpager = x\n"),
        ] {
            fs::create_dir_all(at(place)).unwrap();
            fs::write(at(place).join("HEAD"), "").unwrap();
            fs::write(at(place).join("config"), text).unwrap();
        }
        for (hook, mode) in
            [("hooked/hooks/post-checkout", 0o755), ("still/hooks/x.sample", 0o755), ("still/hooks/x", 0o644)]
        {
            fs::create_dir_all(at(hook).parent().unwrap()).unwrap();
            fs::write(at(hook).parent().unwrap().with_file_name("HEAD"), "").unwrap();
            fs::write(at(hook), "").unwrap();
            fs::set_permissions(at(hook), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        fs::create_dir(at("none")).unwrap();
        fs::write(at("none/config"), "[core]\nfsmonitor = x\n").unwrap();
        let known = |path: &Path| path == Path::new(".git/config");
        let found = find(&project, SystemTime::now() - Duration::from_secs(100), known);
        let expected =
            [".git/modules/m/config", "deep/bare/config", "hooked/hooks", "nested/.git/config", "old/.git/config"];
        assert_eq!(found, Leftovers { configurations: expected.map(PathBuf::from).to_vec(), unfinished: false });
        assert_eq!(find(&project, SystemTime::now() + Duration::from_secs(100), known), Leftovers::default());
    }
}
