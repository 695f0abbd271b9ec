use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use tar::EntryType;
use tempfile::TempDir;

/// A small package, and the installation of it.
struct Bench {
    dir: TempDir,
    tarball: PathBuf,
    integrity: String,
    fetched: AtomicUsize,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tarball, integrity) =
            unpack::tests::tarball(dir.path(), &[("package/bin", EntryType::Regular, 0o755, "a program")]);
        Self { dir, tarball, integrity, fetched: AtomicUsize::new(0) }
    }

    fn pin(&self) -> Pin<'_> {
        let Self { integrity, .. } = self;
        Pin { agent: "a", version: "1", arch: "any", package: "p", integrity, program: "bin", size: Some(9) }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("data home/agents")
    }

    fn install(&self, pin: &Pin<'_>) -> Result<Agent, Problem> {
        let fetch = |_: &Pin<'_>, scratch: &Path| {
            self.fetched.fetch_add(1, Ordering::SeqCst);
            let copy = scratch.join("tarball");
            fs::copy(&self.tarball, &copy).unwrap();
            Ok(copy)
        };
        install_pin(pin, &self.folder(), &fetch, &mut |_| {})
    }

    fn left_over(&self) -> Vec<String> {
        let names =
            fs::read_dir(self.folder().join("a")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn installing_twice_fetches_once() {
    let bench = Bench::new();
    assert_eq!(check(&bench.folder(), &bench.pin()), Ok(None));
    let agent = bench.install(&bench.pin()).unwrap();
    assert_eq!(fs::read(&agent.binary).unwrap(), b"a program");
    assert!(agent.binary.starts_with(&agent.folder) && agent.folder.is_absolute());
    assert_eq!(bench.install(&bench.pin()), Ok(agent.clone()));
    assert_eq!(check(&bench.folder(), &bench.pin()), Ok(Some(agent)));
    assert_eq!(bench.fetched.load(Ordering::SeqCst), 1);
    assert_eq!(bench.left_over(), [".lock", "1"]);
}

#[test]
fn a_wrong_hash_installs_nothing() {
    let bench = Bench::new();
    let pin = Pin { integrity: "sha512-AAAA", ..bench.pin() };
    let problem = bench.install(&pin).unwrap_err();
    assert_eq!(problem.code, Code::AGENT_INTEGRITY);
    assert!(problem.what.contains(&bench.integrity), "{problem}");
    assert_eq!(bench.left_over(), [".lock"]);
}

#[test]
fn an_interrupted_installation_is_no_installation() {
    let bench = Bench::new();
    let partial = bench.folder().join("a/.partial-1-0");
    fs::create_dir_all(partial.join("unpacked")).unwrap();
    fs::write(partial.join("unpacked/bin"), "half").unwrap();
    assert_eq!(check(&bench.folder(), &bench.pin()), Ok(None));
    bench.install(&bench.pin()).unwrap();
    assert_eq!(bench.left_over(), [".lock", "1"]);
}

#[test]
fn many_at_once_fetch_once() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| bench.install(&bench.pin()).unwrap());
        }
    });
    assert_eq!(bench.fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn what_was_altered_is_refused_and_replaced() {
    type Alter<'a> = &'a dyn Fn(&Path);
    let alterations: &[(&str, Alter<'_>)] = &[
        ("size", &|version| {
            fs::remove_file(version.join("bin")).unwrap();
            fs::write(version.join("bin"), "another program").unwrap();
            fs::set_permissions(version.join("bin"), fs::Permissions::from_mode(0o555)).unwrap();
        }),
        ("plain", &|version| {
            fs::rename(version.join("bin"), version.join("real")).unwrap();
            symlink("real", version.join("bin")).unwrap();
        }),
        ("plain", &|version| fs::set_permissions(version.join("bin"), fs::Permissions::from_mode(0o755)).unwrap()),
        ("plain", &|version| fs::set_permissions(version.join("bin"), fs::Permissions::from_mode(0o4555)).unwrap()),
        ("others can write", &|version| fs::set_permissions(version, fs::Permissions::from_mode(0o777)).unwrap()),
        ("not a folder", &|version| {
            fs::rename(version, version.with_extension("x")).unwrap();
            symlink("1.x", version).unwrap();
        }),
        ("No such file", &|version| fs::remove_file(version.join("bin")).unwrap()),
    ];
    for (why, alter) in alterations {
        let bench = Bench::new();
        let agent = bench.install(&bench.pin()).unwrap();
        alter(&agent.folder);
        let problem = check(&bench.folder(), &bench.pin()).unwrap_err();
        assert!(problem.what.contains(why), "{why}: {problem}");
        assert_eq!(bench.install(&bench.pin()), Ok(agent), "{why}");
    }
}

#[test]
fn the_folder_of_agents_may_be_reached_by_a_link() {
    let bench = Bench::new();
    let agent = bench.install(&bench.pin()).unwrap();
    let link = bench.dir.path().join("link");
    symlink(bench.folder(), &link).unwrap();
    assert_eq!(check(&link, &bench.pin()), Ok(Some(agent)));
}

#[test]
fn folders_that_others_write_are_refused_before_anything_is_fetched() {
    let bench = Bench::new();
    fs::create_dir_all(bench.folder()).unwrap();
    fs::set_permissions(bench.folder(), fs::Permissions::from_mode(0o775)).unwrap();
    assert_eq!(bench.install(&bench.pin()).unwrap_err().code, Code::AGENT_INTEGRITY);
    assert_eq!(bench.fetched.load(Ordering::SeqCst), 0);
}

#[test]
fn a_disk_that_is_too_small_is_told_beforehand() {
    let bench = Bench::new();
    let problem = bench.install(&Pin { size: Some(1 << 60), ..bench.pin() }).unwrap_err();
    assert!(problem.what.contains("MiB free"), "{problem}");
    assert_eq!(bench.fetched.load(Ordering::SeqCst), 0);
}

#[test]
fn an_old_version_stays_until_it_is_let_go() {
    let bench = Bench::new();
    let old = bench.install(&bench.pin()).unwrap();
    let new = Pin { version: "2", size: None, ..bench.pin() };
    let bad = Pin { integrity: "sha512-AAAA", ..new };
    assert_eq!(bench.install(&bad).unwrap_err().code, Code::AGENT_INTEGRITY);
    assert_eq!(versions(&bench.folder(), "a").unwrap(), ["1"]);
    assert_eq!(bench.install(&new).unwrap().size, 9);
    assert_eq!(versions(&bench.folder(), "a").unwrap(), ["1", "2"]);
    assert_eq!(check(&bench.folder(), &bench.pin()), Ok(Some(old)));
    // What lies there by another hash is not taken for it.
    assert_eq!(bench.install(&bad).unwrap_err().code, Code::AGENT_INTEGRITY);
    keep_only(&bench.folder(), "a", "2");
    assert_eq!(bench.left_over(), [".lock", "2"]);
    keep_only(&bench.folder(), "a", "2");
    // While something is being installed, nothing is removed.
    bench.install(&bench.pin()).unwrap();
    let held = lock(&bench.folder().join("a/.lock"), &mut |_| {}).unwrap();
    keep_only(&bench.folder(), "a", "2");
    assert_eq!(versions(&bench.folder(), "a").unwrap(), ["1", "2"]);
    drop(held);
}
