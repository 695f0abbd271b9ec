//! Calling Podman: by its absolute path, with an environment made from nothing and no configuration but rcc's.

use crate::machine::{CgroupManager, Machine};
use crate::process;
use crate::spec::{ContainerSpec, Places, arguments, storage_arguments};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Podman's whole configuration. No mounts, hooks, environment or runtime flags of the machine's or the person's.
pub const CONTAINERS_CONF: &str = "\
[containers]\n\
default_sysctls = []\n\
env = []\n\
volumes = []\n\
[engine]\n\
runtime = \"crun\"\n\
events_logger = \"none\"\n";

/// The storage's configuration; places are given as arguments. Nothing is ever stored: there is no image.
pub const STORAGE_CONF: &str = "[storage]\ndriver = \"vfs\"\n";

/// The variables that Podman gets, and no others.
#[must_use]
pub fn environment(spec: &ContainerSpec, machine: &Machine) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut all = vec![
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/run/wrappers/bin:/run/current-system/sw/bin".to_owned()),
        // Not the person's: Podman would read ~/.config/containers.
        ("HOME", text(&spec.storage)),
        ("XDG_RUNTIME_DIR", text(&machine.runtime_dir)),
        ("CONTAINERS_CONF", text(&spec.places.containers_conf())),
        ("CONTAINERS_STORAGE_CONF", text(&spec.places.storage_conf())),
        ("LANG", "C.UTF-8".to_owned()),
    ];
    if machine.cgroup_manager == CgroupManager::Systemd {
        all.push(("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", text(&machine.runtime_dir.join("bus")))));
    }
    all
}

/// `podman run …`
#[must_use]
pub fn run(spec: &ContainerSpec, machine: &Machine) -> Command {
    let mut command = Command::new(&machine.podman);
    command.args(arguments(spec, machine)).env_clear().envs(environment(spec, machine)).current_dir("/");
    command
}

/// Rootless Podman keeps one process a user, which holds its namespaces. It keeps the streams of whoever makes it open as
/// well, so that `rcc run … | cat` would never end: it is made beforehand, with streams that nobody waits for.
pub fn hold_namespaces(machine: &Machine, spec: &ContainerSpec) {
    if namespaces_holder(machine).is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
        return;
    }
    // If it fails, the call that follows says why.
    let _ended_well = quietly(machine, spec, &["unshare", "true"]);
}

/// Calls Podman where what it says concerns nobody; whether it ended well.
fn quietly(machine: &Machine, spec: &ContainerSpec, arguments: &[&str]) -> bool {
    let status = Command::new(&machine.podman)
        .args(storage_arguments(spec))
        .arg(format!("--cgroup-manager={}", machine.cgroup_manager.name()))
        .args(["--events-backend=none", "--log-level=error"])
        .args(arguments)
        .env_clear()
        .envs(environment(spec, machine))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Takes away what the runtime itself keeps of a container: when conmon was killed, Podman no longer asks for it.
fn forget(machine: &Machine, id: &str) {
    let Ok(runtime) = crate::machine::program("crun") else { return };
    let states = machine.runtime_dir.join("crun");
    let delete = || {
        let _failed_or_gone = Command::new(&runtime)
            .arg(format!("--root={}", states.display()))
            .args(["delete", "--force", id])
            .env_clear()
            .env("XDG_RUNTIME_DIR", &machine.runtime_dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    };
    delete();
    monitor_ends(id);
    // One that is still being created has no state yet that could be deleted.
    if end_calls("conmon", id) | end_calls("crun", id) {
        delete();
    }
    let state = states.join(id);
    if state.exists() && !state.join("status").exists() {
        let _gone_already = fs::remove_dir_all(state);
    }
    forget_exit(machine, id);
}

/// Waits for conmon's end: it writes down how a container ended even after Podman has removed it.
fn monitor_ends(id: &str) {
    within(CONMON_PATIENCE, || !monitored(id));
}

/// Takes away what conmon wrote down: the first Podman does itself, unless a process of its own was killed in between; the
/// second, a folder, is left by Podman 5.8 in any case.
pub fn forget_exit(machine: &Machine, id: &str) {
    let _gone_already = fs::remove_file(exits(machine).join(id));
    let persisted = persisted(machine).join(id);
    if persisted.exists() {
        monitor_ends(id);
        let _gone_already = fs::remove_dir_all(persisted);
    }
}

/// Takes away the empty folders that Podman 5 leaves of containers that did not start, such as the one of this name, when
/// nobody has written down its id. One is somebody's while a conmon has it, or while a Podman runs that may be about to
/// start one.
fn forget_unstarted(machine: &Machine, name: &str) {
    let empty = || entries(&persisted(machine)).filter(|folder| entries(folder).next().is_none());
    if empty().next().is_none() {
        return;
    }
    // It ends when the Podman has ended that it called to clear up.
    within(CONMON_PATIENCE, || calls("conmon", name).next().is_none());
    let found: Vec<PathBuf> = empty().collect();
    let holder = namespaces_holder(machine);
    if !within(CONMON_PATIENCE, || !processes().any(|pid| Some(pid) != holder && may_start_one(pid))) {
        return;
    }
    for folder in found.iter().filter(|folder| !monitored(file_name(folder))) {
        let _gone_or_used = fs::remove_dir(folder);
    }
}

/// Whether a process is a Podman; but not one of a session that has its container.
fn may_start_one(pid: i32) -> bool {
    let words = words(pid);
    let name = words.iter().find_map(|word| std::str::from_utf8(word).ok()?.strip_prefix("--name="));
    words.first().is_some_and(|first| is_program(first, "podman"))
        && name.is_none_or(|name| calls("conmon", name).next().is_none())
}

/// Waits until something is so, that long; whether it is.
fn within(patience: Duration, is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where Podman 5 has conmon write down how containers ended, each in a folder by its id.
fn persisted(machine: &Machine) -> PathBuf {
    machine.runtime_dir.join("libpod/tmp/persist")
}

/// The process that holds the person's namespaces for Podman.
fn namespaces_holder(machine: &Machine) -> Option<i32> {
    fs::read_to_string(machine.runtime_dir.join("libpod/tmp/pause.pid")).ok()?.trim().parse().ok()
}

/// How long conmon may take to follow its container.
const CONMON_PATIENCE: Duration = Duration::from_secs(2);

/// Whether a conmon has this container in its arguments.
fn monitored(id: &str) -> bool {
    calls("conmon", id).next().is_some()
}

/// The processes of a program that have this word among their arguments.
fn calls(program: &str, word: &str) -> impl Iterator<Item = i32> {
    processes().filter(move |pid| is_call(*pid, program, word))
}

fn processes() -> impl Iterator<Item = i32> {
    entries(Path::new("/proc")).filter_map(|process| file_name(&process).parse().ok())
}

fn is_call(pid: i32, program: &str, word: &str) -> bool {
    let words = words(pid);
    words
        .split_first()
        .is_some_and(|(first, more)| is_program(first, program) && more.iter().any(|w| w == word.as_bytes()))
}

fn is_program(first_word: &[u8], program: &str) -> bool {
    first_word.ends_with(program.as_bytes())
}

/// The words by which a process was started; none of one that has ended.
fn words(pid: i32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Kills the processes of a program that have this word among their arguments, and waits for their end; whether there were any.
fn end_calls(program: &str, word: &str) -> bool {
    let mut any = false;
    for pid in calls(program, word) {
        let Ok(process) = process::pidfd(pid) else { continue };
        // The number may have become another's before it was opened.
        if is_call(pid, program, word) {
            process::kill(&process);
            let _at_last =
                poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::from(END_PATIENCE));
            any = true;
        }
    }
    any
}

/// How long the kernel may take to end a process that was killed, in milliseconds.
const END_PATIENCE: u16 = 2000;

/// How long what a killed Podman left half done waits for another one to be done with the books.
const BOOKS_PATIENCE: Duration = Duration::from_secs(2);

/// Takes away what a Podman that was killed had half done to its books. It writes each anew under another name, and makes a
/// layer's or a container's folder before or behind its line in them; all that while it holds a lock (containers/storage,
/// `layers.go`, `containers.go` and `pkg/lockfile`: one of fcntl(2)). While somebody holds it, this waits; if it takes him long,
/// the next call of this tries again.
pub fn forget_half_written(storage: &Path, state: &Path) {
    for book in &BOOKS {
        if half_done(storage, state, book).next().is_none() {
            continue;
        }
        let lock = book.folder(storage).join(format!("{}.lock", book.name));
        let Some(_lock) = locked(&lock, BOOKS_PATIENCE) else { continue };
        for half in half_done(storage, state, book) {
            let _gone_already = if half.is_dir() { fs::remove_dir_all(&half) } else { fs::remove_file(&half) };
        }
    }
    // What is mounted is a list of its own, with a lock of its own.
    let mounts = state.join("vfs-layers");
    if begun(&mounts).next().is_some()
        && let Some(_lock) = locked(&mounts.join("mountpoints.lock"), BOOKS_PATIENCE)
    {
        for half in begun(&mounts) {
            let _gone_already = fs::remove_file(&half);
        }
    }
}

/// The files of a folder of books that were to become others.
fn begun(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    entries(folder).filter(|path| file_name(path).starts_with(".tmp-"))
}

/// One of Podman's books: a list, a second one of what does not outlive the machine's next start, and where what is in
/// them has its folders, in the storage or in its state.
struct Book {
    name: &'static str,
    items: &'static [&'static str],
}

const BOOKS: [Book; 3] = [
    Book { name: "layers", items: &["vfs/dir"] },
    Book { name: "containers", items: &["vfs-containers"] },
    Book { name: "images", items: &[] },
];

impl Book {
    fn folder(&self, storage: &Path) -> PathBuf {
        storage.join(format!("vfs-{}", self.name))
    }

    /// All that it has; none if it is not understood.
    fn list(&self, storage: &Path) -> Option<Vec<serde_json::Value>> {
        let folder = self.folder(storage);
        let mut all = list(&folder.join(format!("{}.json", self.name)))?;
        all.append(&mut list(&folder.join(format!("volatile-{}.json", self.name)))?);
        Some(all)
    }

    /// The ids in it; none if it is not understood.
    fn ids(&self, storage: &Path) -> Option<BTreeSet<String>> {
        self.list(storage)?.iter().map(|item| Some(item.get("id")?.as_str()?.to_owned())).collect()
    }
}

/// Files of a book that were to become others, and folders of what no book knows.
fn half_done(storage: &Path, state: &Path, book: &Book) -> impl Iterator<Item = PathBuf> + use<> {
    let files = begun(&book.folder(storage));
    let folders: Vec<_> = book.items.iter().flat_map(|items| [storage.join(items), state.join(items)]).collect();
    let strange = book.ids(storage).map(|known| {
        let all = folders.into_iter().flat_map(|folder| entries(&folder));
        all.filter(move |path| is_id(file_name(path)) && !known.contains(file_name(path)))
    });
    files.chain(strange.into_iter().flatten())
}

/// What one of the books has, nothing if it is not there; none if it is not understood.
fn list(book: &Path) -> Option<Vec<serde_json::Value>> {
    match fs::read(book) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        text => serde_json::from_slice(&text.ok()?).ok(),
    }
}

/// Takes a lock of containers/storage's to write, as soon as nobody has it; it is held until the file is closed.
fn locked(path: &Path, patience: Duration) -> Option<fs::File> {
    let file = fs::File::options().write(true).open(path).ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's constants, 0 to 2")]
    let whole =
        libc::flock { l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 };
    within(patience, || fcntl(&file, FcntlArg::F_OFD_SETLK(&whole)).is_ok()).then_some(file)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Where conmon writes down how containers ended, each in a file by its id.
#[must_use]
pub fn exits(machine: &Machine) -> PathBuf {
    machine.runtime_dir.join("libpod/tmp/exits")
}

/// The id that Podman gave a session's container; none where it did not come to that.
#[must_use]
pub fn container_id(places: &Places) -> Option<String> {
    fs::read_to_string(places.container_id()).ok().filter(|id| is_id(id))
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The id that Podman's books have for a container of this name.
#[must_use]
pub fn recorded(storage: &Path, name: &str) -> Option<String> {
    let [_, containers, _] = &BOOKS;
    let named =
        |item: &serde_json::Value| item["names"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    containers.list(storage)?.into_iter().find(named)?["id"].as_str().filter(|id| is_id(id)).map(str::to_owned)
}

/// How often Podman is told to remove a container.
const REMOVALS: u32 = 3;

/// Removes a session's container that may be left; there is nobody to tell if it was not.
pub fn remove(machine: &Machine, spec: &ContainerSpec, name: &str, id: Option<&str>) {
    // When Podman's first process was killed, its second, in the user namespace, lives on for a while, and would add to the
    // books and the session's folder what has just been taken away.
    end_calls("podman", &format!("--name={name}"));
    // One that was killed early has not written the id where it was told to.
    let id = id.map(str::to_owned).or_else(|| recorded(&spec.storage, name));
    // Podman 5 gives up the first time if conmon was killed, and has the container for stopped then.
    let _at_last = (0..REMOVALS).any(|_| quietly(machine, spec, &["rm", "--force", "--ignore", "--time=0", name]));
    forget_half_written(&spec.storage, &spec.storage_state);
    if let Some(id) = id {
        forget(machine, &id);
    }
    forget_unstarted(machine, name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_done_goes_unless_somebody_writes() {
        let (storage, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| storage.path().join(path);
        for folder in ["vfs-layers", "vfs/dir/aa/x", "vfs/dir/bb", "vfs/dir/cc/x", "vfs-containers/dd"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let books = [("layers.json", r#"[{"id":"aa","created":1}]"#), ("volatile-layers.json", r#"[{"id":"bb"}]"#)];
        for (name, text) in [("layers.lock", ""), (".tmp-layers.json123", "["), books[0], books[1]] {
            fs::write(at("vfs-layers").join(name), text).unwrap();
        }
        let there = || [".tmp-layers.json123", "layers.json"].map(|n| at("vfs-layers").join(n).exists());
        let layers = || ["aa", "bb", "cc"].map(|n| at("vfs/dir").join(n).exists());
        let lock = locked(&at("vfs-layers/layers.lock"), Duration::ZERO).unwrap();
        forget_half_written(storage.path(), state.path());
        assert_eq!((there(), layers()), ([true; 2], [true; 3]));
        drop(lock);
        // Books that are not understood say nothing of layers.
        fs::write(at("vfs-layers/layers.json"), "[{}]").unwrap();
        forget_half_written(storage.path(), state.path());
        assert_eq!((there(), layers()), ([false, true], [true; 3]));
        fs::write(at("vfs-layers/layers.json"), books[0].1).unwrap();
        forget_half_written(storage.path(), state.path());
        assert_eq!((there(), layers()), ([false, true], [true, true, false]));
        // What is mounted.
        let mounts = state.path().join("vfs-layers");
        fs::create_dir_all(&mounts).unwrap();
        let half = mounts.join(".tmp-mountpoints.json1");
        for name in ["mountpoints.lock", ".tmp-mountpoints.json1", "mountpoints.json"] {
            fs::write(mounts.join(name), "[]").unwrap();
        }
        let lock = locked(&mounts.join("mountpoints.lock"), Duration::ZERO).unwrap();
        forget_half_written(storage.path(), state.path());
        assert!(half.exists());
        drop(lock);
        forget_half_written(storage.path(), state.path());
        assert!(!half.exists() && mounts.join("mountpoints.json").exists());
        // A container's has its lock, and a part in the state.
        assert!(at("vfs-containers/dd").exists());
        fs::write(at("vfs-containers/containers.lock"), "").unwrap();
        fs::create_dir_all(state.path().join("vfs-containers/dd/userdata")).unwrap();
        forget_half_written(storage.path(), state.path());
        assert!(!at("vfs-containers/dd").exists() && !state.path().join("vfs-containers/dd").exists());
    }
}
