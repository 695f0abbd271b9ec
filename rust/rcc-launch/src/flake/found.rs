//! What the root has links to, found once in a closure: a shell, `env`, the loader by which other programs start.

use super::store::STORE;
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Libraries that programs from elsewhere (npm, uv, wheels) take for granted, besides the C library's own.
const LIBRARIES: &[&str] = &["libstdc++.so.6", "libz.so.1", "libssl.so.3", "libzstd.so.1", "liblzma.so.5"];

/// Places in the closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The shell that reads the devShell's script, and is `/bin/sh` and `/bin/bash`.
    pub bash: PathBuf,
    /// `/usr/bin/env`.
    pub env: Option<PathBuf>,
    /// The C library's loader, for programs that were not built by Nix.
    pub loader: Option<PathBuf>,
    /// Nix itself; with it, the session has a store of its own.
    pub nix: Option<PathBuf>,
    /// nix-ld, which takes the loader's place and finds libraries by a variable.
    pub nix_ld: Option<PathBuf>,
    /// Folders of libraries for it.
    pub libraries: Vec<PathBuf>,
    /// The toolchain's own PATH, as far as it lies in its closure.
    pub path: Vec<PathBuf>,
}

impl Found {
    /// Looks for them in a closure; `path` is the PATH that goes with it.
    pub(super) fn look(store: &[String], path: &str) -> Result<Self, Problem> {
        Self::below(Path::new(STORE), store, path)
    }

    fn below(root: &Path, store: &[String], path: &str) -> Result<Self, Problem> {
        let all: Vec<PathBuf> = store.iter().map(|name| root.join(name)).collect();
        let of_closure = |path: &PathBuf| {
            let upwards = path.components().any(|part| part == Component::ParentDir);
            !upwards && all.iter().any(|own| path.starts_with(own))
        };
        let path: Vec<PathBuf> = path.split(':').map(PathBuf::from).filter(of_closure).collect();
        let program = |name: &str| {
            let folders = path.iter().cloned().chain(all.iter().map(|own| own.join("bin")));
            folders.map(|folder| folder.join(name)).find(|file| is_program(file))
        };
        let bash = program("bash").ok_or_else(|| {
            let what = "it has no bash, which is to be /bin/sh and to read a devShell's variables";
            Problem::new(Code::TOOLCHAIN_BUILD, "the toolchain", what, "add it: packages = [ pkgs.bashInteractive ];")
        })?;
        let file = |relative: &str| all.iter().map(|own| own.join(relative)).rfind(|file| file.is_file());
        let nix_ld = file("libexec/nix-ld");
        let of_wanted = |own: &PathBuf| LIBRARIES.iter().any(|name| own.join("lib").join(name).is_file());
        let libraries = nix_ld.iter().flat_map(|_| all.iter().filter(|own| of_wanted(own)));
        Ok(Self {
            env: program("env"),
            nix: program("nix"),
            loader: file(&format!("lib/{}", loader_name())),
            libraries: libraries.map(|own| own.join("lib")).collect(),
            bash,
            nix_ld,
            path,
        })
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        let some = [&self.env, &self.loader, &self.nix, &self.nix_ld].into_iter().flatten();
        std::iter::once(&self.bash).chain(some).chain(&self.libraries).chain(&self.path).map(PathBuf::as_path)
    }
}

/// The name of the C library's loader on this machine.
pub(super) fn loader_name() -> &'static str {
    if cfg!(target_arch = "aarch64") { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" }
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devshells_own_programs_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let make = |place: &str| {
            let file = dir.path().join(place);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            file
        };
        let store: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert!(Found::below(dir.path(), &store, "").is_err(), "no bash");
        let (plain, own) = (make("a/bin/bash"), make("b/bin/bash"));
        make("elsewhere/bin/env");
        let loader = make(&format!("c/lib/{}", loader_name()));
        make("c/lib/libz.so.1");
        let at = |name: &str| dir.path().join(name).join("bin").display().to_string();
        let path = format!("{}:{}:{}/../../elsewhere/bin:bin::.", at("elsewhere"), at("b"), at("b"));
        let found = Found::below(dir.path(), &store, &path).unwrap();
        assert_eq!((found.bash, found.env, found.path), (own, None, vec![dir.path().join("b/bin")]));
        assert_eq!((found.loader, found.libraries), (Some(loader), vec![]));
        let ld = make("c/libexec/nix-ld");
        let found = Found::below(dir.path(), &store, "").unwrap();
        assert_eq!((found.bash, found.nix_ld), (plain, Some(ld)));
        assert_eq!(found.libraries, [dir.path().join("c/lib")]);
    }
}
