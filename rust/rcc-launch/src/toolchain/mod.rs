//! Toolchains of the person's home folder, for the `host` root filesystem: offered one by one, mounted read-only at their
//! own place, only the parts that run.
//!
//! [`table`] says what there may be (pure), [`find`] looks (effects), [`needs`] says what a project calls for.

pub mod needs;
pub mod table;

use crate::added::{Access, Added};
use crate::beneath;
use crate::machine::Person;
use nix::dir::{Dir, Type};
use rcc_report::{Code, Problem};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use table::{LEFT_OUT, Toolchain, Way, version_key};

/// Parts of all toolchains together; each is a mount of its own.
const MOST: usize = 500;

/// A toolchain as it lies on this machine.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub toolchain: &'static Toolchain,
    /// Its parts that are there, each opened.
    pub parts: Vec<Added>,
    /// What PATH gets.
    pub path: Vec<PathBuf>,
    /// What the environment gets.
    pub variables: Vec<(String, String)>,
}

/// Looks for a toolchain; `None` if it is not installed in its usual place.
pub fn find(toolchain: &'static Toolchain, person: &Person) -> Result<Option<Found>, Problem> {
    let wrong = |place: &Path, error: &io::Error| refusal(toolchain, place, error);
    let root = OwnedFd::from(File::open("/").map_err(|e| wrong(Path::new("/"), &e))?);
    let expand = |pattern: &str| {
        let mut all = Vec::new();
        let pattern = absolute(person, pattern);
        expand(&root, Path::new(""), &pattern.iter().skip(1).collect::<Vec<_>>(), &mut all)
            .map_err(|(place, e)| wrong(&Path::new("/").join(place), &e))?;
        Ok::<_, Problem>(all)
    };
    let mut proven = false;
    for proof in toolchain.proofs {
        proven = proven || !expand(proof)?.is_empty();
    }
    if !proven {
        return Ok(None);
    }
    let mut parts: Vec<Added> = Vec::new();
    for part in toolchain.parts {
        for place in expand(part)? {
            let place = Path::new("/").join(place);
            if parts.len() == MOST {
                let error = io::Error::other(format!("more than {MOST} parts"));
                return Err(wrong(&place, &error));
            }
            if parts.iter().any(|known| known.path == place) {
                continue;
            }
            let added = Added::open(&place, Access::ReadOnly).map_err(|e| wrong(&place, &e))?;
            if added.owner != person.uid && added.owner != 0 {
                return Err(wrong(&place, &io::Error::other("it is neither yours nor root's")));
            }
            parts.push(added);
        }
    }
    let path = path(toolchain, person);
    let home = person.home.display().to_string();
    let variable = |(name, value): &(&str, &str)| {
        ((*name).to_owned(), value.strip_prefix('~').map_or((*value).to_owned(), |rest| format!("{home}{rest}")))
    };
    let variables = toolchain.variables.iter().map(variable).collect();
    Ok(Some(Found { toolchain, parts, path, variables }))
}

fn absolute(person: &Person, place: &str) -> PathBuf {
    person.home.join(place)
}

fn refusal(toolchain: &Toolchain, place: &Path, error: &io::Error) -> Problem {
    let (name, place) = (toolchain.name, place.display().to_string());
    let (what, remedy) = match error.raw_os_error() {
        Some(libc::ELOOP) => (
            format!("{name} lies behind a link, and only a toolchain in its usual place is taken along"),
            format!(
                "move it to where the link is: rm '{place}' && mv OTHER '{place}'\nor add where it really is by --ro PATH, or leave it out: rcc toolchain remove {name}"
            ),
        ),
        _ => (format!("{name} can't be taken along: {error}"), format!("look at it: ls -ld '{place}'")),
    };
    Problem::new(Code::TOOLCHAIN_REFUSED, place, what, remedy)
}

/// Every place that a pattern stands for, relative to `root`, in order. A place that isn't there is none; one behind a
/// link is an error, but what a `*` finds to be a link is left out: it leads to a neighbour, or out.
fn expand(root: &OwnedFd, at: &Path, pattern: &[&OsStr], all: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let Some((first, rest)) = pattern.split_first() else {
        all.push(at.to_owned());
        return Ok(());
    };
    let Some(prefix) = first.as_bytes().strip_suffix(b"*") else {
        let place = at.join(first);
        return match beneath::open(root, &place, libc::O_PATH) {
            Ok(_) => expand(root, &place, rest, all),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
            Err(e) => Err((place, e)),
        };
    };
    for name in names(root, at, prefix).map_err(|e| (at.to_owned(), e))? {
        expand(root, &name, rest, all)?;
    }
    Ok(())
}

/// The files and folders in a folder whose names begin with `prefix`, without what is always left out.
fn names(root: &OwnedFd, at: &Path, prefix: &[u8]) -> io::Result<Vec<PathBuf>> {
    let folder = match beneath::open(root, at, libc::O_RDONLY | libc::O_DIRECTORY) {
        Err(e) if e.raw_os_error() == Some(libc::ENOTDIR) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in Dir::from_fd(folder)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let left_out = name == "." || name == ".." || LEFT_OUT.iter().any(|l| name == *l);
        if left_out || !name.as_bytes().starts_with(prefix) {
            continue;
        }
        let place = at.join(name);
        let kind = match entry.file_type() {
            // A file system that does not tell.
            None => kind(root, &place)?,
            kind => kind,
        };
        if matches!(kind, Some(Type::Directory | Type::File)) {
            names.push(place);
        }
        if names.len() > MOST {
            return Err(io::Error::other(format!("more than {MOST} entries")));
        }
    }
    names.sort();
    Ok(names)
}

fn kind(root: &OwnedFd, place: &Path) -> io::Result<Option<Type>> {
    let opened = beneath::open(root, place, libc::O_PATH | libc::O_NOFOLLOW)?;
    Ok(match nix::sys::stat::fstat(&opened)?.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Some(Type::Directory),
        libc::S_IFREG => Some(Type::File),
        _ => None,
    })
}

/// The folders of programs, as they are now. What is said here opens nothing: what is not mounted is not there inside.
fn path(toolchain: &Toolchain, person: &Person) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for way in toolchain.path {
        match way {
            Way::At(place) => all.extend(Some(absolute(person, place)).filter(|p| p.is_dir())),
            Way::Newest(pattern) => all.extend(newest(&absolute(person, pattern), |_| true)),
            Way::Current(pattern, inner) => {
                for folder in matching(&absolute(person, pattern)) {
                    // A name of a neighbour, and nothing that leads elsewhere.
                    let link = fs::read_link(folder.join("current")).ok();
                    let version = link.as_deref().and_then(Path::file_name).map(|version| folder.join(version));
                    all.extend(version.map(|v| v.join(inner)).filter(|p| p.is_dir()));
                }
            }
            Way::NvmDefault => all.extend(nvm_default(person)),
        }
    }
    all
}

/// nvm's `alias/default` holds a version, its beginning, or the name of another alias (`lts/*`, `node`, `stable`).
fn nvm_default(person: &Person) -> Option<PathBuf> {
    let pattern = absolute(person, ".nvm/versions/node/*/bin");
    let wanted = fs::read_to_string(person.home.join(".nvm/alias/default")).unwrap_or_default();
    let wanted = format!("v{}", wanted.trim().trim_start_matches('v'));
    let is_wanted = |version: &str| version == wanted || version.starts_with(&format!("{wanted}."));
    newest(&pattern, is_wanted).or_else(|| newest(&pattern, |_| true))
}

/// The highest version among what matches a pattern with one `*`.
fn newest(pattern: &Path, accepts: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let star = pattern.iter().position(|part| part.as_bytes().ends_with(b"*"))?;
    let version = |path: &PathBuf| path.iter().nth(star).map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
    matching(pattern).into_iter().filter(|p| accepts(&version(p))).max_by_key(|p| version_key(&version(p)))
}

fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Ok(root) = File::open("/").map(OwnedFd::from) {
        let _not_there = expand(&root, Path::new(""), &pattern.iter().skip(1).collect::<Vec<_>>(), &mut all);
    }
    all.into_iter().map(|place| Path::new("/").join(place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn home() -> (tempfile::TempDir, Person) {
        let dir = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(dir.path()).unwrap();
        let uid = nix::unistd::getuid().as_raw();
        (dir, Person { name: "alice".into(), uid, gid: uid, home })
    }

    fn make(person: &Person, files: &[&str]) {
        for file in files {
            let path = person.home.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    fn parts(name: &str, person: &Person) -> Vec<String> {
        let found = find(table::named(name).unwrap(), person).unwrap().unwrap();
        found.parts.iter().map(|p| p.path.strip_prefix(&person.home).unwrap().display().to_string()).collect()
    }

    #[test]
    fn of_rustup_what_runs_and_no_credentials() {
        let (_dir, person) = home();
        assert!(find(table::named("rustup").unwrap(), &person).unwrap().is_none());
        make(
            &person,
            &[
                ".cargo/bin/cargo",
                ".cargo/credentials.toml",
                ".cargo/config.toml",
                ".cargo/registry/cache/x",
                ".rustup/toolchains/stable/bin/cargo",
                ".rustup/settings.toml",
                ".rustup/tmp/x",
            ],
        );
        assert_eq!(parts("rustup", &person), [".cargo/bin", ".rustup/toolchains", ".rustup/settings.toml"]);
    }

    #[test]
    fn of_node_versions_all_but_their_configuration() {
        let (_dir, person) = home();
        make(
            &person,
            &[
                ".nvm/nvm.sh",
                ".nvm/alias/default",
                ".nvm/versions/node/v9.1.0/bin/node",
                ".nvm/versions/node/v10.2.0/bin/node",
                ".nvm/versions/node/v10.2.0/etc/npmrc",
                ".nvm/versions/node/v10.2.0/.npmrc",
                ".nvm/.cache/x",
            ],
        );
        symlink("v9.1.0", person.home.join(".nvm/versions/node/current")).unwrap();
        let nodes = [".nvm/versions/node/v10.2.0/bin", ".nvm/versions/node/v9.1.0/bin"];
        assert_eq!(parts("nvm", &person), [".nvm/nvm.sh", ".nvm/alias", nodes[0], nodes[1]]);
        let path = || find(table::named("nvm").unwrap(), &person).unwrap().unwrap().path;
        assert_eq!(path(), [person.home.join(nodes[0])]);
        fs::write(person.home.join(".nvm/alias/default"), "9\n").unwrap();
        assert_eq!(path(), [person.home.join(nodes[1])]);
        fs::write(person.home.join(".nvm/alias/default"), "lts/*\n").unwrap();
        assert_eq!(path(), [person.home.join(nodes[0])]);
    }

    #[test]
    fn the_current_candidate_of_sdkman() {
        let (_dir, person) = home();
        let java = ".sdkman/candidates/java";
        make(&person, &[&format!("{java}/21.0.2-tem/bin/java"), &format!("{java}/17.0.1-tem/bin/java")]);
        symlink("17.0.1-tem", person.home.join(java).join("current")).unwrap();
        let found = find(table::named("sdkman").unwrap(), &person).unwrap().unwrap();
        assert_eq!(found.path, [person.home.join(java).join("17.0.1-tem/bin")]);
    }

    #[test]
    fn a_link_elsewhere_is_refused() {
        let (_dir, person) = home();
        make(&person, &["elsewhere/toolchains/stable/bin/cargo"]);
        symlink("elsewhere", person.home.join(".rustup")).unwrap();
        let problem = find(table::named("rustup").unwrap(), &person).unwrap_err();
        assert_eq!(problem.code, Code::TOOLCHAIN_REFUSED);
        assert!(problem.subject.ends_with(".rustup"), "{problem}");
        fs::remove_file(person.home.join(".rustup")).unwrap();
        make(&person, &[".rustup/toolchains/stable/bin/cargo"]);
        symlink("/etc", person.home.join(".cargo")).unwrap();
        assert_eq!(find(table::named("rustup").unwrap(), &person).unwrap_err().code, Code::TOOLCHAIN_REFUSED);
    }
}
