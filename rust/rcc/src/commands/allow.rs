//! `rcc allow`: one more host, in the sessions that run here, and for good where that is asked for.

use crate::Done;
use crate::prepare;
use clap::Args;
use rcc_launch::control;
use rcc_launch::folder::{self, Running};
use rcc_launch::grants::Remembered;
use rcc_launch::machine::Machine;
use rcc_launch::project::Project;
use rcc_policy::{Endpoint, Grants, Host};
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

pub fn run(args: AllowArgs) -> Done {
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
    let one = |problem| vec![problem];
    let machine = Machine::probe().map_err(one)?;
    let project = Project::find(None, &machine.person).map_err(one)?;
    let running = here(&machine, &project);
    let (policy, remembered) = (prepare::policy()?, Remembered::of(&machine.person));
    if !scope.project {
        // A wish that no session can fulfil is said in one voice, before any is asked.
        let mut alone = Grants::default();
        if matches!(wish, ToSession::Allow { .. }) {
            control::apply(&mut alone, wish).map_err(one)?;
            policy.resolve(&alone.texts())?;
        }
        if running.is_empty() {
            return Err(one(no_session(&project, wish)));
        }
    } else {
        let mut capped = Ok(());
        let changed = remembered.change(&project, |grants| {
            control::apply(grants, wish)?;
            let (_, mut problems) = policy.capped(grants);
            let asked = match wish {
                ToSession::Allow { endpoints } => endpoints.as_slice(),
                _ => &[],
            };
            // What was remembered before and is no longer grantable is said at a start, not here.
            problems.retain(|p| asked.contains(&p.subject));
            match problems.first() {
                Some(first) => {
                    let first = first.clone();
                    capped = Err(problems);
                    Err(first)
                }
                None => Ok(()),
            }
        });
        capped?;
        changed.map_err(one)?;
    }
    let (mut problems, mut sessions, mut cut) = (Vec::new(), 0, 0);
    for session in &running {
        match control::ask(&session.places.control(), wish) {
            Ok(n) => (sessions, cut) = (sessions + 1, cut + n),
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
    if sessions > 0 || scope.project {
        let mut facts = Vec::new();
        match sessions {
            0 => {}
            1 => facts.push("1 running session".to_owned()),
            n => facts.push(format!("{n} running sessions")),
        }
        if scope.project {
            facts.push("every later one".to_owned());
        }
        let cut = match cut {
            0 => String::new(),
            1 => "; 1 connection was cut".to_owned(),
            n => format!("; {n} connections were cut"),
        };
        let place = escaped(&project.display().to_string());
        eprintln!("rcc: {done} in {place}: for {}{cut}", facts.join(" and "));
    }
    if problems.is_empty() { Ok(0) } else { Err(problems) }
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
