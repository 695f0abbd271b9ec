//! The project's flake as the agent's toolchain: whether it is, and the person's word for what Nix may evaluate.

use crate::prepare::Purpose;
use rcc_launch::flake::{self, Approved, FLAKE, Files, Package, Toolchain};
use rcc_launch::machine::Machine;
use rcc_launch::project::Project;
use rcc_launch::terminal;
use rcc_policy::{ProjectRequest, ToolchainRoot};
use rcc_report::{Code, Problem, escaped, quoted};
use std::io::{self, IsTerminal};

/// Lines of a difference that a start shows; `rcc toolchain approve` shows all.
const SHOWN: usize = 40;

/// What the session has as its root, if not the host's /usr. A program that asks brings its own; then comes the project's
/// flake, and then the package that asks for nothing.
pub fn toolchain(
    project: &Project,
    asked: &ProjectRequest,
    package: Option<&Package>,
    machine: &Machine,
    purpose: Purpose,
) -> Result<Option<Toolchain>, Problem> {
    if let Some(program) = package.filter(|package| package.request.is_some()) {
        return Ok(Some(Toolchain::Package(program.clone())));
    }
    if asked.toolchain_root == Some(ToolchainRoot::Host) {
        return Ok(None);
    }
    let approved = approved(project, asked, machine, purpose)?;
    Ok(approved.map(Toolchain::Approved).or_else(|| package.cloned().map(Toolchain::Package)))
}

/// The flake's devShell, where rcc.toml asks for it, or where the person approved one. What is not approved is asked for
/// where there is a terminal, else refused.
fn approved(
    project: &Project,
    asked: &ProjectRequest,
    machine: &Machine,
    purpose: Purpose,
) -> Result<Option<Approved>, Problem> {
    let approved = Approved::read(&machine.person, &project.path)?;
    let wanted = asked.toolchain_root == Some(ToolchainRoot::Nix);
    let files = Files::read(project, &asked.toolchain_files);
    let Some(approved) = approved else {
        return match files {
            _ if !wanted => {
                offer(&files, machine);
                Ok(None)
            }
            files => match (files?, purpose) {
                (None, _) => Err(no_flake(project)),
                (Some(files), Purpose::Look) => Err(unapproved(project, &files)),
                (Some(files), Purpose::Start) => approve(project, &files, None, machine, None).map(Some),
            },
        };
    };
    approved.whole(&machine.person)?;
    let changed = match files {
        Ok(Some(files)) if files.content() == approved.content => None,
        Ok(Some(files)) => Some(files.difference(Some(&approved.files()?))),
        Ok(None) => Some(vec![format!("{FLAKE} is not there any more")]),
        Err(problem) => Some(vec![problem.to_string()]),
    };
    if let Some(lines) = changed {
        show(&lines, SHOWN);
        let what = "it has changed since you approved it; the last approved toolchain is used";
        let remedy = "rcc toolchain approve";
        let problem =
            Problem::new(Code::TOOLCHAIN_CHANGED, project.path.join(FLAKE).display().to_string(), what, remedy);
        eprintln!("rcc: warning: {problem}");
    }
    Ok(Some(approved))
}

/// Says that there is a flake which could be the toolchain, where Nix is there.
fn offer(files: &Result<Option<Files>, Problem>, machine: &Machine) {
    if matches!(files, Ok(Some(_))) && flake::owner(&machine.person).is_ok() {
        eprintln!("rcc: {FLAKE} is there, and its devShell is not the agent's toolchain: rcc toolchain approve");
    }
}

/// Takes the person's word for these files, and has Nix evaluate them. `content` is that word where there is no terminal.
pub fn approve(
    project: &Project,
    files: &Files,
    before: Option<&Files>,
    machine: &Machine,
    content: Option<&str>,
) -> Result<Approved, Problem> {
    match content {
        Some(content) if content == files.content() => {}
        Some(_) => return Err(unapproved(project, files)),
        None => {
            show(&files.difference(before), usize::MAX);
            if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
                return Err(unapproved(project, files));
            }
            eprintln!(
                "rcc: Nix will evaluate these files of {} on this machine: it can fetch, and build in its own sandbox.",
                escaped(&project.path.display().to_string())
            );
            if !terminal::confirms("approve exactly this content as the agent's toolchain?") {
                return Err(unapproved(project, files));
            }
        }
    }
    let approved = flake::approve(files, project, machine, &mut |line| eprintln!("nix: {line}"))?;
    eprintln!("rcc: the toolchain of this project's sessions: {} store paths", approved.store.len());
    Ok(approved)
}

/// That there is nothing to approve.
pub fn no_flake(project: &Project) -> Problem {
    let what = "there is no flake whose devShell could be the toolchain";
    let remedy = "write one, or have `root = \"host\"` in rcc.toml, under [toolchain]";
    Problem::new(Code::TOOLCHAIN_UNAPPROVED, project.path.join(FLAKE).display().to_string(), what, remedy)
}

fn unapproved(project: &Project, files: &Files) -> Problem {
    let place = project.path.display();
    let what = "you have not approved it as it is now, so nothing of it was evaluated";
    let remedy = format!(
        "look at it, then: rcc toolchain approve\nwithout a terminal: rcc toolchain approve --project {} --content {}",
        quoted(place),
        files.content()
    );
    Problem::new(Code::TOOLCHAIN_UNAPPROVED, project.path.join(FLAKE).display().to_string(), what, remedy)
}

fn show(lines: &[String], most: usize) {
    for line in lines.iter().take(most) {
        eprintln!("  {line}");
    }
    if let Some(more @ 1..) = lines.len().checked_sub(most) {
        eprintln!("  … {more} more lines: rcc toolchain approve");
    }
}
