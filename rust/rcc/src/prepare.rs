//! From flags to a launch: the machine, the policy, the project, the agent and the key, each found or refused before
//! anything is started.

use crate::Done;
use crate::along::{self, Folders};
use crate::root_policy::policy;
use crate::{approval, habits};
use clap::Args;
use rcc_launch::agent::{self, choice::Choices};
use rcc_launch::beneath;
use rcc_launch::flake::{self, Package};
use rcc_launch::gitconfig;
use rcc_launch::grants::Remembered;
use rcc_launch::home::{self, FirstFile};
use rcc_launch::inside::{self, Inside};
use rcc_launch::key;
use rcc_launch::machine::{Machine, Person};
use rcc_launch::own::{self, Item};
use rcc_launch::project::Project;
use rcc_launch::session::{self, Launch};
use rcc_launch::spec::{INSIDE, Request};
use rcc_launch::{terminal, ticket};
use rcc_policy::{Policy, ProjectRequest, Resolved};
use rcc_proto::{ANTHROPIC_ENDPOINT, Credential, CredentialKind, REPORT_HOST};
use rcc_report::{Code, Problem, escaped};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where to run; common to all commands that start something.
#[derive(Args)]
pub struct Place {
    /// The project's folder. Otherwise the nearest one upwards with rcc.toml or .git, or this folder.
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
    /// A package in /nix/store whose closure is the agent's root: a program that lib.mkAgent of rcc's flake made, with what
    /// it asks for; or rcc's own tools, for where the project has no approved flake.
    #[arg(long, value_name = "DIR", overrides_with = "package")]
    package: Option<PathBuf>,
    #[command(flatten)]
    pub folders: Folders,
    /// In a virtual machine: the file with the ticket of a session that was opened on the host.
    #[arg(long, value_name = "FILE", hide = true)]
    ticket: Option<PathBuf>,
}

/// An option of other programs that rcc does not have, so that it can say so.
#[derive(Args)]
pub struct NotThere {
    /// Not there: ports are not published.
    #[arg(short = 'p', long = "publish", hide = true, value_name = "PORTS", value_parser = no_ports)]
    _publish: Option<String>,
}

fn no_ports(_: &str) -> Result<String, String> {
    Err("rcc publishes no ports: what listens inside is reached only from inside; run that program outside for now"
        .into())
}

/// What to run.
pub enum What {
    /// Claude Code.
    Claude {
        /// Leave its own questions on.
        ask: bool,
        /// A key file that the person named.
        key_file: Option<PathBuf>,
        /// What of theirs comes along, if not what they chose for good.
        bring: Option<Vec<Item>>,
        /// A folder of agents beside theirs.
        agents: Option<PathBuf>,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// A shell.
    Shell,
    /// Any program.
    Run(Vec<OsString>),
}

/// Whether something will be started, so that what is missing is fetched and a key is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Start it.
    Start,
    /// Look only.
    Look,
}

/// Everything found.
pub struct Prepared {
    /// The machine.
    pub machine: Machine,
    /// The policy.
    pub policy: Resolved,
    /// The project's real path.
    pub project_path: PathBuf,
    inside: Inside,
    request: Request,
    purpose: Purpose,
    package: Option<Package>,
    grants: Vec<String>,
    credentials: Vec<Credential>,
    first_files: Vec<FirstFile>,
    hook_program: PathBuf,
    agent_version: Option<String>,
}

impl Prepared {
    /// The launch, with the project and the folders beside it opened.
    pub fn launch(&self, folders: &Folders) -> Result<Launch<'_>, Vec<Problem>> {
        let project = Project::open(&self.project_path, &self.machine).map_err(one)?;
        let mut covered = self.policy.protect.read_only.clone();
        let asked = asked_for(&project)?;
        let place = project.path.join(RCC_TOML);
        let program = self.package.iter().filter_map(|package| package.request.as_ref());
        for (place, asked) in program.map(|(place, asked)| (place, asked)).chain([(&place, &asked)]) {
            say_not_granted(asked, place, &self.policy);
            covered.extend_from_slice(&asked.read_only);
        }
        let toolchain =
            approval::toolchain(&project, &asked, self.package.as_ref(), &self.machine, self.purpose).map_err(one)?;
        let mut request = self.request.clone();
        if let Some(toolchain) = &toolchain {
            flake::into_request(toolchain, &mut request);
        }
        let words = gitconfig::words(&project, &self.machine.person).unwrap_or_else(|problem| {
            eprintln!("rcc: warning: {problem}");
            gitconfig::Words::default()
        });
        request.gitconfig = gitconfig::text(&words);
        let writable =
            along::folders(&self.inside, folders, &project, &self.machine, &covered, &mut request).map_err(one)?;
        let worktree = along::worktree(&self.inside, &project, &self.machine, &mut request).map_err(one)?;
        Ok(Launch {
            worktree,
            writable,
            protect: covered,
            machine: &self.machine,
            policy: &self.policy,
            project,
            toolchain,
            request,
            grants: self.grants.clone(),
            credentials: Vec::new(),
            ticket: None,
            first_files: Vec::new(),
            hook_program: self.hook_program.clone(),
        })
    }
}

/// Where a project asks.
const RCC_TOML: &str = "rcc.toml";

/// What the project's own rcc.toml asks for.
pub fn asked_for(project: &Project) -> Result<ProjectRequest, Vec<Problem>> {
    let name = Path::new(RCC_TOML);
    let place = project.path.join(name).display().to_string();
    let unreadable = |what: String| {
        one(Problem::new(Code::PROJECT_RCC_TOML, &place, what, "make it a plain file of UTF-8 text, at most 64 KiB"))
    };
    let bytes = match beneath::read(&project.folder, name, 64 << 10) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(ProjectRequest::default()),
        other => other.map_err(|e| unreadable(e.to_string()))?,
    };
    let text = String::from_utf8(bytes).map_err(|e| unreadable(e.to_string()))?;
    rcc_policy::parse_project(&text, &place)
}

/// What the project or a program asks to reach needs the person's word for this project (`rcc allow --project`); it is said,
/// and not granted.
fn say_not_granted(asked: &ProjectRequest, place: &Path, policy: &Resolved) {
    let allowed: Vec<String> = policy.allow.iter().map(ToString::to_string).collect();
    let missing: Vec<String> = asked.grants().into_iter().filter(|g| !allowed.contains(g)).collect();
    if !missing.is_empty() {
        eprintln!(
            "rcc: {} asks for {}: not granted; if you want it to have them: rcc allow --project {}",
            escaped(&place.display().to_string()),
            escaped(&missing.join(", ")),
            // Endpoints have no quotes in them.
            escaped(&missing.iter().map(|m| format!("'{m}'")).collect::<Vec<_>>().join(" "))
        );
    }
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

/// Finds everything, starts it, and says how it ended.
pub fn start(place: &Place, what: What) -> Done {
    let mut prepared = prepare(place, what, Purpose::Start)?;
    let credentials = std::mem::take(&mut prepared.credentials);
    let first_files = std::mem::take(&mut prepared.first_files);
    let ticket = place.ticket.as_deref().map(ticket::take).transpose().map_err(one)?;
    let launch = Launch { credentials, ticket, first_files, ..prepared.launch(&place.folders)? };
    along::remember(&place.folders, &launch.project.path, &prepared.machine.person).map_err(one)?;
    along::say_missing(&launch, &prepared.inside, &prepared.machine.person, &prepared.request.command);
    let outcome = session::run(launch).map_err(one)?;
    crate::say(&outcome.problems);
    // It has run: the version before it, kept in case it did not, can go.
    if let Some(version) = prepared.agent_version.filter(|_| outcome.code == 0) {
        agent::keep_only(&agent::folder(&prepared.machine.person), agent::CLAUDE[0].agent, &version);
    }
    if let Some(summary) = &outcome.summary {
        crate::ending::say(summary);
    }
    Ok(outcome.code)
}

/// Finds everything that a launch needs.
pub fn prepare(place: &Place, what: What, purpose: Purpose) -> Result<Prepared, Vec<Problem>> {
    let machine = Machine::probe()?;
    let policy = policy()?;
    let project_path = Project::find(place.project.as_deref(), &machine.person).map_err(one)?;
    let package = Package::of(place.package.as_deref(), &machine.person)?;
    let mut grants = remembered(&machine, &policy, &project_path)?;
    let (registries, asked) = along::registries(&policy, &machine.person)?;
    grants.extend(asked);
    if place.ticket.is_some() {
        // The session has its grants already.
        grants.clear();
    }
    let policy = policy.resolve(&grants)?;
    let workdir = workdir(&project_path);
    let inside = inside::read(&machine.person).map_err(one)?;
    let (habits, terminfo) = habits::of(&machine.person);
    let mut prepared = Prepared {
        inside,
        request: Request {
            agent: what.name(),
            command: Vec::new(),
            workdir,
            terminal: terminal::present(),
            environment: habits,
            gitconfig: String::new(),
            read_only: Vec::new(),
            added: terminfo.into_iter().collect(),
            path: Vec::new(),
            brought: Vec::new(),
            files: Vec::new(),
        },
        agent_version: None,
        purpose,
        package,
        grants,
        credentials: Vec::new(),
        // Whatever runs first in a project, its home is ready for the agent.
        first_files: vec![FirstFile { path: ".claude.json", text: answers(&machine.person, &project_path) }],
        hook_program: hook_program(),
        machine,
        policy,
        project_path,
    };
    along::toolchains(&prepared.inside, &prepared.machine.person, &prepared.project_path, &mut prepared.request)
        .map_err(one)?;
    along::installing(registries, &prepared.machine.person, &mut prepared.request);
    match what {
        What::Claude { ask, key_file, bring, agents, arguments } => {
            let kind = match purpose {
                // With a ticket the session has its key already.
                Purpose::Start if place.ticket.is_none() => credential(&mut prepared, key_file.as_deref())?,
                _ => CredentialKind::ApiKey,
            };
            claude(
                &mut prepared,
                Options { ask, kind, bring: bring.as_deref(), agents: agents.as_deref(), arguments },
                purpose,
            )?;
        }
        What::Shell => prepared.request.command = vec!["/bin/bash".into(), "-l".into()],
        What::Run(command) => prepared.request.command = command,
    }
    Ok(prepared)
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Claude { .. } => "claude",
            Self::Shell => "shell",
            Self::Run(_) => "run",
        }
    }
}

/// What the person granted and denied this project for good. What root's policy no longer lets them grant is said, and
/// left out.
fn remembered(machine: &Machine, policy: &Policy, project: &Path) -> Result<Vec<String>, Vec<Problem>> {
    let grants = Remembered::of(&machine.person).grants(project).map_err(one)?;
    let (grants, problems) = policy.capped(&grants);
    for problem in problems {
        eprintln!("rcc: warning: you granted this project what the policy forbids by now: {problem}");
    }
    Ok(grants.texts())
}

/// The working directory, if it lies in the project; else the project.
fn workdir(project: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(fs::canonicalize);
    here.ok().filter(|h| h.starts_with(project)).unwrap_or_else(|| project.to_owned())
}

/// The installed pair lies side by side.
fn hook_program() -> PathBuf {
    let me = rcc_host::this_program().unwrap_or_default();
    me.with_file_name("rcc-hook")
}

/// How Claude Code is called.
struct Options<'a> {
    ask: bool,
    kind: CredentialKind,
    bring: Option<&'a [Item]>,
    agents: Option<&'a Path>,
    arguments: Vec<OsString>,
}

fn claude(prepared: &mut Prepared, options: Options<'_>, purpose: Purpose) -> Result<(), Vec<Problem>> {
    let Options { ask, kind, bring, agents: beside, arguments } = options;
    let person = &prepared.machine.person;
    let choices = Choices::read(&person.home).map_err(one)?;
    let pin = choices.pin(agent::pin().map_err(one)?);
    let agents = agent::folder(person);
    // A version that the person has chosen is not in a package's folder.
    let packaged = beside.map(|folder| agent::installed(folder, &pin)).transpose().map_err(one)?.flatten();
    let is_own = packaged.is_none();
    let own = || agent::installed(&agents, &pin).map_err(one);
    let agent = match (packaged.map_or_else(own, |agent| Ok(Some(agent)))?, purpose) {
        (None, Purpose::Start) => {
            Some(agent::install(&pin, &agents, &person.home, &mut |p| eprintln!("rcc: {p}")).map_err(one)?)
        }
        (agent, _) => agent,
    };
    let chosen = bring.unwrap_or(&choices.bring);
    let brought = own::bring(&person.home, &prepared.project_path, chosen).map_err(one)?;
    for omitted in &brought.omitted {
        eprintln!("rcc: not brought: {}", escaped(omitted));
    }
    prepared.request.brought = brought.copies;
    let program = format!("{INSIDE}/bin/claude");
    if let Some(agent) = agent {
        prepared.request.read_only.push((agent.binary, program.clone().into()));
        prepared.agent_version = is_own.then_some(agent.version);
    }
    prepared.request.command.push(program.into());
    // Its default is to let another model answer most of its questions. Its last argument of this name counts.
    let questions = if ask { "--permission-mode=manual" } else { "--dangerously-skip-permissions" };
    prepared.request.command.push(questions.into());
    prepared.request.command.extend(brought.arguments);
    prepared.request.command.extend(told(arguments));
    let (name, dummy) = match kind {
        CredentialKind::ApiKey => ("ANTHROPIC_API_KEY", key::DUMMY_API_KEY),
        CredentialKind::OauthToken => ("CLAUDE_CODE_OAUTH_TOKEN", key::DUMMY_OAUTH_TOKEN),
    };
    let variables = [
        (name, dummy.to_owned()),
        ("ANTHROPIC_BASE_URL", format!("http://{ANTHROPIC_ENDPOINT}")),
        // The agent is pinned by hash, and its other traffic is not allowed anyway.
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
    ];
    prepared.request.environment.extend(variables.map(|(k, v)| (k.to_owned(), v)));
    Ok(())
}

/// What the person named to bring.
pub fn items(names: &[String]) -> Result<Vec<Item>, Vec<Problem>> {
    let item = |name: &String| {
        name.parse().map_err(|what: String| {
            let what = format!("this can't be brought; {what}");
            one(Problem::new(Code::AGENT_CHOICE, name, what, "rcc agent bring claude-md commands skills"))
        })
    };
    names.iter().filter(|name| !name.is_empty()).map(item).collect()
}

/// The agent's arguments, with two sentences about where it is behind its system prompt, after what the person puts there.
/// Where they name a file for that, Claude Code takes no text beside it.
fn told(mut arguments: Vec<OsString>) -> Vec<OsString> {
    const OPTION: &str = "--append-system-prompt";
    let sentences = format!(
        "You run in a sandbox whose gateway lets only the hosts of a policy be reached; any other name does not resolve. \
         When something on the network fails, read http://{REPORT_HOST}/why (with curl), which says what was denied and \
         the exact `rcc allow` command, and tell the user that command: only they can run it, outside."
    );
    let end = arguments.iter().position(|a| a == "--").unwrap_or(arguments.len());
    let starts = |a: &OsString, with: &str| a.to_string_lossy().starts_with(with);
    let file = format!("{OPTION}-file");
    if arguments[..end].iter().any(|a| *a == *file || starts(a, &format!("{file}="))) {
        return arguments;
    }
    let given = arguments[..end].iter().rposition(|a| a == OPTION).map(|i| i + 1).filter(|i| *i < end);
    let joined = arguments[..end].iter().rposition(|a| starts(a, &format!("{OPTION}=")));
    match given.max(joined) {
        Some(i) => {
            arguments[i].push("\n\n");
            arguments[i].push(sentences);
        }
        None => drop(arguments.splice(0..0, [OPTION.into(), sentences.into()])),
    }
    arguments
}

/// Finds the key that goes along, and how the agent is to present its dummy. Root's own key file serves a session that
/// brings none.
fn credential(prepared: &mut Prepared, key_file: Option<&Path>) -> Result<CredentialKind, Vec<Problem>> {
    let (home, project) = (&prepared.machine.person.home, &prepared.project_path);
    let found = crate::root_policy::key(&prepared.policy, &key::Sources { file: key_file, home, project })?;
    let kind = found.as_ref().map_or(CredentialKind::ApiKey, |credential| credential.kind);
    prepared.credentials.extend(found);
    Ok(kind)
}

/// The agent's dialogs (theme, key, trust, permissions), answered beforehand: the sandbox is the permission.
///
/// What the person answered outside (the theme) is taken from there, when a project's first session begins. Another
/// project's home has no say.
fn answers(person: &Person, project: &Path) -> String {
    let tail = &key::DUMMY_API_KEY[key::DUMMY_API_KEY.len() - 20..];
    let mut answers = serde_json::json!({
        "hasCompletedOnboarding": true,
        "theme": "dark",
        "autoUpdates": false,
        "bypassPermissionsModeAccepted": true,
        "customApiKeyResponses": { "approved": [tail], "rejected": [] },
        "projects": {
            project.to_string_lossy(): { "hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true, "allowedTools": [] }
        },
    });
    // It is as large as the person's history: read only where it is wanted.
    if let Some(all) = answers.as_object_mut().filter(|_| !home::folder_for(person, project).exists()) {
        all.extend(own::answers(&person.home));
    }
    answers.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arguments: &[&str]) -> Vec<String> {
        let told = super::told(arguments.iter().map(OsString::from).collect());
        told.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn the_agent_is_told_where_it_is_and_what_the_person_says_stays() {
        let [option, text, p, x] = &told(&["-p", "x"])[..] else { panic!("not four") };
        assert_eq!((option.as_str(), p.as_str(), x.as_str()), ("--append-system-prompt", "-p", "x"));
        assert!(text.contains("http://rcc.internal/why") && text.contains("rcc allow"));
        for (given, at, before) in [
            (&["--append-system-prompt", "be brief", "-p", "x"][..], 1, "be brief"),
            (&["-p", "x", "--append-system-prompt=be brief"], 2, "--append-system-prompt=be brief"),
        ] {
            let all = told(given);
            assert_eq!(all.len(), given.len());
            assert_eq!(all[at], format!("{before}\n\n{text}"));
        }
        let file = ["--append-system-prompt-file", "f", "-p", "x"];
        assert_eq!(told(&file), file);
        assert_eq!(
            told(&["-p", "--", "--append-system-prompt", "x"]).len(),
            6,
            "words of the prompt are none of its options"
        );
    }
}
