//! `rcc allow`: one more host, in the sessions that run here, and for good where that is asked for.

use crate::Done;
use crate::root_policy;
use clap::Args;
use rcc_launch::control;
use rcc_launch::folder::{self, Running};
use rcc_launch::grants::Remembered;
use rcc_launch::machine::Machine;
use rcc_launch::project::Project;
use rcc_policy::{Endpoint, Grants, Host, Policy};
use rcc_proto::ToSession;
use rcc_report::{Code, Problem, escaped};
use std::path::{Path, PathBuf};

/// Allow hosts to the sessions that run in this project, at once.
///
/// Type it outside, in the project's folder. A host without a port is allowed on 443 alone; `HOST:80,443` names ports,
/// `*.HOST` all below it. Root's policy says what a person may allow (`may_allow`; without a word there, public names on
/// 22, 80 and 443).
#[derive(Args)]
pub struct AllowArgs {
    /// HOST, HOST:PORT or *.HOST:PORT.
    #[arg(required = true, value_name = "HOST[:PORT]")]
    hosts: Vec<String>,
    #[command(flatten)]
    scope: Scope,
}

/// For how long.
#[derive(Args)]
pub struct Scope {
    /// For the sessions that run in this project, until they end (the default).
    #[arg(long, conflicts_with = "project")]
    session: bool,
    /// For them, and for every later session of this project.
    #[arg(long)]
    project: bool,
}

pub fn run(args: &AllowArgs) -> Done {
    let endpoints = named(&args.hosts, Grants::named)?;
    for endpoint in &endpoints {
        if let Host::Name(name) | Host::Below(name) = &endpoint.host
            && let Some(unicode) = name.unicode()
        {
            eprintln!("rcc: {name} is shown by other programs as {}: is that the name you mean?", escaped(&unicode));
        }
    }
    let wish = ToSession::Allow { endpoints: texts(&endpoints) };
    change(&args.scope, &wish, &format!("allowed {}", texts(&endpoints).join(", ")))
}

/// All endpoints that are named, or all that is wrong with them.
pub fn named(
    hosts: &[String],
    each: impl Fn(&str) -> Result<Vec<Endpoint>, Problem>,
) -> Result<Vec<Endpoint>, Vec<Problem>> {
    let (mut endpoints, mut problems) = (Vec::new(), Vec::new());
    for host in hosts {
        match each(host) {
            Ok(found) => endpoints.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(endpoints) } else { Err(problems) }
}

/// Endpoints in the policy's notation.
pub fn texts(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

/// Does what the person wants to the sessions that run here, and remembers it where that is asked for. What root's
/// policy forbids changes nothing anywhere.
pub fn change(scope: &Scope, wish: &ToSession, done: &str) -> Done {
    let machine = Machine::probe()?;
    let found = Project::find(None, &machine.person).map_err(one)?;
    let running = here(&machine, &found);
    // A session's project may be further up than the nearest repository; there is one, since live projects don't nest.
    let project = running.first().map_or(found, |session| session.project.clone());
    let policy = root_policy::policy()?;
    if scope.project {
        remember(&Remembered::of(&machine.person), &policy, &project, wish)?;
    } else {
        // A wish that no session can fulfil is said in one voice, before any is asked.
        if matches!(wish, ToSession::Allow { .. }) {
            let mut alone = Grants::default();
            control::apply(&mut alone, wish).map_err(one)?;
            policy.resolve(&alone.texts())?;
        }
        if running.is_empty() {
            return Err(one(no_session(&project, wish)));
        }
    }
    let (mut problems, mut cuts) = (Vec::new(), Vec::new());
    for session in &running {
        match control::ask(&session.places.control(), wish) {
            Ok(cut) => cuts.push(cut),
            // The file has its own record of denials; a session without this one needs nothing.
            Err(p)
                if scope.project
                    && matches!(wish, ToSession::Undeny { .. })
                    && p.code == Code::POLICY_NOT_GRANTABLE => {}
            Err(mut problem) => {
                problem.what = format!("{} (session {})", problem.what, session.id);
                problems.push(problem);
            }
        }
    }
    let facts = facts(cuts.len(), scope.project);
    if !facts.is_empty() {
        let cut = match cuts.iter().sum::<u32>() {
            0 => String::new(),
            1 => "; 1 connection was cut".to_owned(),
            n => format!("; {n} connections were cut"),
        };
        let place = escaped(&project.display().to_string());
        eprintln!("rcc: {done} in {place}: for {}{cut}", facts.join(" and "));
    }
    if problems.is_empty() { Ok(0) } else { Err(problems) }
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

/// For whom it holds now.
fn facts(sessions: usize, later: bool) -> Vec<String> {
    let running = match sessions {
        0 => None,
        1 => Some("1 running session".to_owned()),
        n => Some(format!("{n} running sessions")),
    };
    running.into_iter().chain(later.then(|| "every later one".to_owned())).collect()
}

/// Writes the wish into the person's file, unless root's policy forbids it.
fn remember(file: &Remembered, policy: &Policy, project: &Path, wish: &ToSession) -> Result<(), Vec<Problem>> {
    let asked = match wish {
        ToSession::Allow { endpoints } => endpoints.as_slice(),
        ToSession::Deny { .. } | ToSession::Undeny { .. } => &[],
    };
    let mut forbidden = Vec::new();
    let written = file.change(project, |grants| {
        control::apply(grants, wish)?;
        // What was remembered before and is no longer grantable is said at a start, not here.
        let (_, problems) = policy.capped(grants);
        forbidden = problems.into_iter().filter(|p| asked.contains(&p.subject)).collect();
        forbidden.first().cloned().map_or(Ok(()), Err)
    });
    if forbidden.is_empty() { written.map_err(one) } else { Err(forbidden) }
}

/// The sessions whose project this folder is, or is part of.
fn here(machine: &Machine, project: &Path) -> Vec<Running> {
    let folder = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_else(|_| PathBuf::from("/"));
    let mut all = folder::running(machine);
    all.retain(|session| session.project == project || folder.starts_with(&session.project));
    all
}

fn no_session(project: &Path, wish: &ToSession) -> Problem {
    let (command, endpoints) = match wish {
        ToSession::Allow { endpoints } => ("rcc allow", endpoints),
        ToSession::Deny { endpoints } => ("rcc deny", endpoints),
        ToSession::Undeny { endpoints } => ("rcc deny --undo", endpoints),
    };
    let quoted: Vec<String> =
        endpoints.iter().map(|e| if e.contains('*') { format!("'{e}'") } else { e.clone() }).collect();
    Problem::new(
        Code::SESSION_NONE,
        project.display().to_string(),
        "no session of yours runs in this project",
        format!("go to the project's folder; or say it for later sessions: {command} --project {}", quoted.join(" ")),
    )
}
