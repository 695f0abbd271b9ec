//! A package of the store as the root: rcc's own tools, or a program with what it needs, as `lib.mkAgent` makes it.
//!
//! Naming it is the person's word, on the command line: what is in the store as its owner put it there is not the agent's
//! to change. Nix's garbage collection leaves all of it alone, as the environment of the session's processes names it.

use super::found::Found;
use super::store::{self, STORE, owner};
use crate::machine::Person;
use rcc_policy::ProjectRequest;
use rcc_report::{Code, Problem};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Root's word for the package that agents have where nothing else is said: NixOS's module writes it, as there is no /usr.
const MACHINES: &str = "/etc/rcc/tools";
/// All store paths that its programs need, a line each.
const CLOSURE: &str = "share/rcc/closure";
/// What it asks for; without it, it asks for nothing and gives way to what the project has.
const REQUEST: &str = "share/rcc/rcc.toml";
/// Bytes of either.
const LIMIT: u64 = 4 << 20;

/// A package, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Where it lies.
    pub folder: PathBuf,
    /// Names in /nix/store: everything that its programs need.
    pub store: Vec<String>,
    /// What of it the root has links to.
    pub found: Found,
    /// Where it lies, and what it asks for, if it is a program that asks.
    pub request: Option<(PathBuf, ProjectRequest)>,
}

impl Package {
    /// The one that the person named, else the machine's, if root named one. A link of root's that leads nowhere is an error,
    /// and not passed over.
    pub fn of(named: Option<&Path>, person: &Person) -> Result<Option<Self>, Vec<Problem>> {
        let machines = Some(Path::new(MACHINES)).filter(|tools| tools.symlink_metadata().is_ok());
        named.or(machines).map(|folder| Self::read(folder, person)).transpose()
    }

    /// Reads it, and demands that each store path is there and its owner's.
    fn read(folder: &Path, person: &Person) -> Result<Self, Vec<Problem>> {
        let refuse = |what: String| {
            let remedy =
                "name one that rcc's flake makes: packages.tools, or of lib.mkAgent; it must lie in /nix/store";
            vec![Problem::new(Code::TOOLCHAIN_PACKAGE, folder.display().to_string(), what, remedy)]
        };
        let owner = owner(person).map_err(|p| vec![p])?;
        let folder = fs::canonicalize(folder).map_err(|e| refuse(e.to_string()))?;
        let name = store::name_of(&folder).filter(|name| Path::new(STORE).join(name) == folder);
        let name = name.ok_or_else(|| refuse(format!("it lies at {}, and is no store path", folder.display())))?;
        store::there(name, owner, person).map_err(|p| refuse(p.what))?;
        let closure = text(&folder.join(CLOSURE)).map_err(|e| refuse(format!("{CLOSURE}: {e}")))?;
        let names = closure.lines().map(|line| {
            let name = line.strip_prefix(STORE).and_then(|rest| rest.strip_prefix('/'));
            name.filter(|name| store::is_name(name)).map(str::to_owned)
        });
        let store: Option<Vec<String>> = names.collect();
        let store = store.ok_or_else(|| refuse(format!("{CLOSURE} names something that is no store path")))?;
        for name in &store {
            store::there(name, owner, person).map_err(|p| refuse(p.what))?;
        }
        let path = fs::canonicalize(folder.join("bin")).map_err(|e| refuse(format!("bin: {e}")))?;
        let found = Found::look(&store, &path.display().to_string()).map_err(|p| vec![p])?;
        if found.path.is_empty() {
            return Err(refuse("its bin is not within its closure".into()));
        }
        let place = folder.join(REQUEST);
        let request = match text(&place) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => {
                let text = other.map_err(|e| refuse(format!("{REQUEST}: {e}")))?;
                let request = rcc_policy::parse_project(&text, &place.display().to_string())?;
                Some((place, request))
            }
        };
        Ok(Self { folder, store, found, request })
    }
}

fn text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    if File::open(file)?.take(LIMIT + 1).read_to_string(&mut text)? as u64 > LIMIT {
        return Err(io::Error::other("it is too large"));
    }
    Ok(text)
}
