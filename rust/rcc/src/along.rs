//! What comes along besides the project: the person's toolchains, and the folders that the person names. Each found or
//! refused before anything is started.

use clap::Args;
use rcc_launch::added::{Access, Added};
use rcc_launch::engine_front;
use rcc_launch::home;
use rcc_launch::inside::{self, Folder, Inside};
use rcc_launch::machine::{Machine, Person};
use rcc_launch::project::{Project, nested};
use rcc_launch::protect;
use rcc_launch::registries;
use rcc_launch::session::Launch;
use rcc_launch::spec::{Request, SYSTEM_PATH};
use rcc_launch::toolchain::needs;
use rcc_launch::toolchain::table::{TOOLCHAINS, named};
use rcc_launch::toolchain::{self, Found};
use rcc_launch::worktree::{self, Worktree};
use rcc_policy::Policy;
use rcc_report::{Code, Problem, escaped};
use std::ffi::OsString;
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

/// The repository of a project that is a linked worktree, if the person lets it come along; said if not.
pub fn worktree(
    inside: &Inside,
    project: &Project,
    machine: &Machine,
    request: &mut Request,
) -> Result<Option<Worktree>, Problem> {
    let worktree = match worktree::find(project, machine, inside)? {
        None => return Ok(None),
        Some(worktree::Found::Stays(problem)) => {
            eprintln!("rcc: warning: {problem}");
            return Ok(None);
        }
        Some(worktree::Found::Comes(worktree)) => worktree,
    };
    let common = &worktree.common.path;
    let refuse = |what: String| {
        let remedy = "leave that one out, or have no git inside: rcc worktree deny";
        Problem::new(Code::WORKTREE_REFUSED, common.display().to_string(), what, remedy)
    };
    if let Some(other) = request.added.iter().find(|a| a.path == *common || nested(&a.path, common)) {
        return Err(refuse(format!(
            "it is {}, which comes along too, or lies in it or holds it",
            other.path.display()
        )));
    }
    let added = Added::of(common, Access::Writable, &worktree.common.folder).map_err(|e| refuse(e.to_string()))?;
    request.added.push(added);
    Ok(Some(worktree))
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

/// The package registries that the policy lets follow the person's own configuration, and the grants that this asks for:
/// those that `may_allow` covers and `deny` does not forbid. The others are said, and not asked for.
pub fn registries(policy: &Policy, person: &Person) -> Result<(Vec<registries::Found>, Vec<String>), Vec<Problem>> {
    let wanted = policy.resolve(&[])?.registries;
    let mut grants = Vec::new();
    let mut all = Vec::new();
    for (registry, found) in registries::read(&wanted, person) {
        for warning in &found.warnings {
            eprintln!("rcc: warning: {warning}");
        }
        for endpoint in &found.endpoints {
            match policy.resolve(std::slice::from_ref(endpoint)) {
                Ok(_) => grants.push(endpoint.clone()),
                Err(problems) => problems.iter().for_each(|p| {
                    let subject = format!("{} ({})", p.subject, registry.set());
                    let warning = Problem::new(Code::REGISTRY_UNKNOWN, subject, p.what.clone(), p.remedy.clone());
                    eprintln!("rcc: warning: {warning}");
                }),
            }
        }
        all.push(found);
    }
    Ok((all, grants))
}

/// The machine's certificates, by distribution family.
const CERTIFICATES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// How node-gyp is told where Node's headers are. npm warns of the older name since node-gyp has the newer one.
fn node_gyp_variable(prefix: &Path) -> &'static str {
    let package = prefix.join("lib/node_modules/npm/node_modules/node-gyp/package.json");
    let text = fs::read_to_string(package).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let major = package["version"].as_str().and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 12) { "npm_package_config_node_gyp_nodedir" } else { "npm_config_nodedir" }
}

/// What installing needs: the settings of registries, and places of the agent's own for what tools would write into the
/// read-only toolchains.
pub fn installing(registries: Vec<registries::Found>, person: &Person, request: &mut Request) {
    let local = person.home.join(".local").display().to_string();
    let mut set = |name: &str, value: String| {
        request.environment.entry(name.to_owned()).or_insert(value);
    };
    set("GOBIN", format!("{local}/bin"));
    set("CARGO_INSTALL_ROOT", local.clone());
    // Its cache and the project are on two mounts.
    set("UV_LINK_MODE", "copy".to_owned());
    let path: Vec<PathBuf> = request.path.iter().cloned().chain(SYSTEM_PATH.iter().map(PathBuf::from)).collect();
    let node = path.iter().find(|folder| folder.join("node").exists());
    let nvm = request.path.iter().any(|folder| folder.starts_with(person.home.join(".nvm")));
    if node.is_some() && !nvm {
        // nvm refuses to work with it.
        set("npm_config_prefix", local);
    }
    let prefix = node.and_then(|folder| folder.parent()).filter(|p| p.join("include/node/node.h").exists());
    if let Some(prefix) = prefix {
        // Otherwise a native module's build fetches Node's headers.
        set(node_gyp_variable(prefix), prefix.display().to_string());
    }
    if !registries.is_empty()
        && let Some(bundle) = CERTIFICATES.iter().find(|file| Path::new(file).exists())
    {
        // Node and pip bring certificates of their own, and would not know a company's.
        for name in ["NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE"] {
            set(name, (*bundle).to_owned());
        }
    }
    for found in registries {
        request.environment.extend(found.variables);
        request.files.extend(found.files);
    }
}

/// Says what the project calls for and would not find, a line each.
pub fn say_missing(launch: &Launch<'_>, inside: &Inside, person: &Person, command: &[OsString]) {
    let project = &launch.project;
    let system = SYSTEM_PATH.iter().map(PathBuf::from).collect();
    let system: Vec<PathBuf> = launch.toolchain.as_ref().map_or(system, |toolchain| toolchain.found().path.clone());
    let path: Vec<PathBuf> = launch.request.path.iter().cloned().chain(system).collect();
    let others = TOOLCHAINS.iter().filter(|t| !inside.toolchains.iter().any(|name| name == t.name));
    let others: Vec<Found> = others.filter_map(|t| toolchain::find(t, person).ok().flatten()).collect();
    for (need, brought) in needs::missing(&needs::of(&project.folder), &path, &others) {
        let (file, program) = (need.file, need.program);
        match brought {
            Some(found) => eprintln!(
                "rcc: {file} calls for {program}, which is not there inside: rcc toolchain add {}",
                found.toolchain.name
            ),
            None if launch.toolchain.is_some() => {
                eprintln!("rcc: {file} calls for {program}, which is not in the session's toolchain");
            }
            None => eprintln!("rcc: {file} calls for {program}, which is neither in /usr nor in a toolchain of yours"),
        }
    }
    let program = command.first().and_then(|program| Path::new(program).file_name()?.to_str());
    let engine = engine_front::NAMES.iter().find(|engine| program == Some(**engine)).copied();
    if let Some(what) = engine.or_else(|| needs::compose(&project.folder)) {
        eprintln!("rcc: {what}: {}", engine_front::NONE);
    }
}
