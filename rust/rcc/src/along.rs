//! What comes along besides the project: the person's toolchains, and the folders that the person names. Each found or
//! refused before anything is started.

use clap::Args;
use rcc_launch::added::{Access, Added};
use rcc_launch::home;
use rcc_launch::inside::{self, Folder, Inside};
use rcc_launch::machine::{Machine, Person};
use rcc_launch::project::{Project, nested};
use rcc_launch::protect;
use rcc_launch::spec::{Request, SYSTEM_PATH};
use rcc_launch::toolchain::needs;
use rcc_launch::toolchain::table::{TOOLCHAINS, named};
use rcc_launch::toolchain::{self, Found};
use rcc_report::{Code, Problem, escaped};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders besides the project.
#[derive(Args, Default)]
pub struct Folders {
    /// Another folder that the agent can read, at its own place. Can be given again.
    #[arg(long, value_name = "PATH")]
    ro: Vec<PathBuf>,
    /// Another folder that the agent can read and write. What it leaves there is not watched as in the project.
    #[arg(long, value_name = "PATH")]
    rw: Vec<PathBuf>,
    /// Take these folders along in each session of this project from now on (~/.config/rcc/inside.toml has them).
    #[arg(long)]
    remember: bool,
}

/// Puts the chosen toolchains into the request.
pub fn toolchains(inside: &Inside, person: &Person, project: &Path, request: &mut Request) -> Result<(), Problem> {
    for name in &inside.toolchains {
        let Some(known) = named(name) else {
            let remedy = format!("take it out: rcc toolchain remove {}", escaped(name));
            return Err(Problem::new(
                Code::TOOLCHAIN_UNKNOWN,
                inside::place(person).display().to_string(),
                format!("it names a toolchain `{}`, which rcc does not know", escaped(name)),
                remedy,
            ));
        };
        let Some(found) = toolchain::find(known, person)? else {
            eprintln!("rcc: {name} was chosen and is not there any more: rcc toolchain remove {name}");
            continue;
        };
        apart(&found, person, project)?;
        request.path.extend(found.path);
        request.environment.extend(found.variables);
        for part in found.parts {
            if !request.added.contains(&part) {
                request.added.push(part);
            }
        }
    }
    Ok(())
}

/// A toolchain that an agent writes is the agent's word for what runs; it must be the person's.
pub fn apart(found: &Found, person: &Person, project: &Path) -> Result<(), Problem> {
    let data = home::data_folder(person);
    let overlaps = |a: &Path, b: &Path| a == b || nested(a, b);
    for part in &found.parts {
        if let Some(place) = [project, &data].into_iter().find(|place| overlaps(&part.path, place)) {
            let name = found.toolchain.name;
            return Err(Problem::new(
                Code::TOOLCHAIN_REFUSED,
                part.path.display().to_string(),
                format!("{name} lies where an agent writes: {}", place.display()),
                format!(
                    "leave it out: rcc toolchain remove {name}\nor work in a folder of its own: mkdir ~/work && cd ~/work"
                ),
            ));
        }
    }
    Ok(())
}

/// The folders that go along with this project, opened: those remembered, and those named now. `read_only` are the names
/// that a writable one may not have. Gives the writable ones, each with the names to watch for.
pub fn folders(
    inside: &Inside,
    named: &Folders,
    project: &Project,
    machine: &Machine,
    read_only: &[String],
    request: &mut Request,
) -> Result<Vec<(Project, Vec<PathBuf>)>, Problem> {
    let mut all: Vec<(PathBuf, Access)> = Vec::new();
    for (path, access) in wanted(inside, named, &project.path)? {
        match all.iter_mut().find(|(known, _)| *known == path) {
            Some(known) => known.1 = access,
            None => all.push((path, access)),
        }
    }
    let mut writable = Vec::new();
    for (path, access) in &all {
        if let Some((other, _)) = all.iter().find(|(other, _)| nested(other, path)) {
            let what = format!("it lies in {}, which comes along too, or holds it", other.display());
            return Err(refusal(path, &what));
        }
        let folder = Project::open_beside(path, *access, &project.path, machine)?;
        request.added.push(Added::of(path, *access, &folder.folder).map_err(|e| refusal(path, &e.to_string()))?);
        if *access == Access::Writable {
            let watched = protect::beside(&folder, read_only)?;
            writable.push((folder, watched));
        }
    }
    Ok(writable)
}

fn refusal(path: &Path, what: &str) -> Problem {
    Problem::new(Code::FOLDER_REFUSED, path.display().to_string(), what, "name a folder that exists, each only once")
}

/// Remembered ones first, so that what is named now wins.
fn wanted(inside: &Inside, named: &Folders, project: &Path) -> Result<Vec<(PathBuf, Access)>, Problem> {
    let remembered = inside.folders.iter().filter(|f| f.project == project).map(|f| (f.path.clone(), f.access()));
    let mut all: Vec<_> = remembered.collect();
    for (paths, access) in [(&named.ro, Access::ReadOnly), (&named.rw, Access::Writable)] {
        for path in paths {
            let real = fs::canonicalize(path).map_err(|e| refusal(path, &e.to_string()))?;
            all.push((real, access));
        }
    }
    Ok(all)
}

/// Keeps what was named now for this project, after all of it was found good.
pub fn remember(named: &Folders, project: &Path, person: &Person) -> Result<(), Problem> {
    if !named.remember {
        return Ok(());
    }
    let fresh = wanted(&Inside::default(), named, project)?;
    if fresh.is_empty() {
        let remedy = "name them: --ro PATH --remember, or --rw PATH --remember";
        return Err(Problem::new(
            Code::FOLDER_REFUSED,
            "--remember",
            "no folder is named that it could be for",
            remedy,
        ));
    }
    inside::change(person, |inside| {
        for (path, access) in &fresh {
            inside.folders.retain(|f| f.project != project || f.path != *path);
            let writable = *access == Access::Writable;
            inside.folders.push(Folder { project: project.to_owned(), path: path.clone(), writable });
        }
        Ok(())
    })
}

/// Says what the project calls for and would not find, a line each.
pub fn say_missing(project: &Project, inside: &Inside, person: &Person, request: &Request) {
    let system = SYSTEM_PATH.iter().map(PathBuf::from);
    let path: Vec<PathBuf> = request.path.iter().cloned().chain(system).collect();
    let others = TOOLCHAINS.iter().filter(|t| !inside.toolchains.iter().any(|name| name == t.name));
    let others: Vec<Found> = others.filter_map(|t| toolchain::find(t, person).ok().flatten()).collect();
    for (need, brought) in needs::missing(&needs::of(&project.folder), &path, &others) {
        let (file, program) = (need.file, need.program);
        match brought {
            Some(found) => eprintln!(
                "rcc: {file} calls for {program}, which is not there inside: rcc toolchain add {}",
                found.toolchain.name
            ),
            None => eprintln!("rcc: {file} calls for {program}, which is neither in /usr nor in a toolchain of yours"),
        }
    }
    if let Some(file) = needs::compose(&project.folder) {
        eprintln!("rcc: {file}: containers don't run inside, and the host's are out of reach; start them outside");
    }
}
