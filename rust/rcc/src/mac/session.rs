//! `rcc claude`, `rcc shell`, `rcc run`, and what else is done in the machine: opened outside, run inside.

use super::machine;
use crate::{Done, root_policy};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcc_launch::gateway::{Gateway, Word};
use rcc_launch::grants::Remembered;
use rcc_launch::podman_machine::call::Terminal;
use rcc_launch::podman_machine::guest;
use rcc_launch::project::Project;
use rcc_launch::{beneath, key, terminal};
use rcc_policy::{Resolved, ToolchainRoot};
use rcc_proto::{Open, VERSION};
use rcc_report::{Code, Problem, escaped};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Child;

/// How often it is looked whether what runs in the machine has ended, in milliseconds.
const LOOK: u8 = 100;
/// What ssh ends with when it is ssh that failed.
const SSH_FAILED: i32 = 255;
/// The exit code when rcc ended the session.
const ENDED: u8 = 124;
/// The longest `rcc.toml` that is read.
const RCC_TOML: u64 = 64 << 10;
/// Options of rcc's on Linux that name something outside the project, which the machine does not see.
const OUTSIDE: [&str; 5] = ["--ro", "--rw", "--bring", "--agents", "--ticket"];

/// Where to run.
#[derive(Args)]
pub struct Place {
    /// The project's folder. Otherwise the nearest one upwards with rcc.toml or .git, or this folder.
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
}

/// Run Claude Code, isolated, in this project. Arguments that are not rcc's own go to it.
#[derive(Args)]
pub struct ClaudeArgs {
    #[command(flatten)]
    place: Place,
    /// Leave the agent's own permission questions on: it asks before it acts.
    #[arg(long)]
    ask: bool,
    /// A file with the API key or the subscription's token, readable by you alone.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Arguments of Claude Code, such as -p "add a test".
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// A shell where the agent would be; it gets no key.
#[derive(Args)]
pub struct ShellArgs {
    #[command(flatten)]
    place: Place,
}

/// Run a program in the same sandbox; it gets no key.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    place: Place,
    /// The program and its arguments, as found inside.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Done by the rcc in the machine; its own --help tells what there is.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct InsideArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

pub fn claude(args: ClaudeArgs) -> Done {
    let mut tail: Vec<OsString> = args.ask.then(|| "--ask".into()).into_iter().collect();
    tail.extend(args.arguments);
    start("claude", &args.place, Some(args.key_file.as_deref()), tail)
}

pub fn shell(args: &ShellArgs) -> Done {
    start("shell", &args.place, None, Vec::new())
}

pub fn run(args: RunArgs) -> Done {
    let tail = std::iter::once("--".into()).chain(args.command).collect();
    start("run", &args.place, None, tail)
}

/// A command without a session.
pub fn inside(name: &str, args: InsideArgs) -> Done {
    let person = rcc_launch::machine::person().map_err(one)?;
    let path = Project::find(None, &person).map_err(one)?;
    let _project = Project::open_for_machine(&path, &person).map_err(one)?;
    let (_, text) = root_policy::policy_and_text()?;
    let host = machine::host(&person).map_err(one)?;
    let _held = host.ready(&path, &text).map_err(one)?;
    let record = host.record().map_err(one)?;
    let arguments: Vec<OsString> = std::iter::once(name.into()).chain(args.arguments).collect();
    let (how, term) = terminals();
    let mut ssh = host.for_person(&record, how, &guest::rcc(&path, term.as_deref(), &arguments)).map_err(one)?;
    let status = ssh.status().map_err(|e| one(lost(&e.to_string())))?;
    ended(status.code()).map_err(one)
}

/// What a Mac does not have.
pub fn refuse(name: &str, instead: &str) -> Done {
    let what = "a session's own command can't be given to it from outside the machine yet";
    Err(one(Problem::new(Code::MAC_ARGUMENT, format!("rcc {name}"), what, instead)))
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

fn lost(what: &str) -> Problem {
    Problem::new(Code::MACHINE_PODMAN, "ssh to the agents' machine", what, "rcc machine status")
}

fn terminals() -> (Terminal, Option<String>) {
    if terminal::present() { (Terminal::Yes, std::env::var("TERM").ok()) } else { (Terminal::No, None) }
}

/// The exit code of what ran inside.
fn ended(code: Option<i32>) -> Result<u8, Problem> {
    match code {
        Some(SSH_FAILED) | None => Err(lost("the connection to it broke, or did not come about")),
        Some(code) => Ok(u8::try_from(code).unwrap_or(1)),
    }
}

/// Opens a session outside, and runs it in the machine. The key of the model goes to the gateway, and nowhere else.
fn start(name: &'static str, place: &Place, keyed: Option<Option<&Path>>, tail: Vec<OsString>) -> Done {
    outside(&tail).map_err(one)?;
    let person = rcc_launch::machine::person().map_err(one)?;
    let path = Project::find(place.project.as_deref(), &person).map_err(one)?;
    let project = Project::open_for_machine(&path, &person).map_err(one)?;
    root(&project)?;
    let (policy, text) = root_policy::policy_and_text()?;
    let (grants, forbidden) = policy.capped(&Remembered::of(&person).grants(&path).map_err(one)?);
    for problem in forbidden {
        eprintln!("rcc: warning: you granted this project what the policy forbids by now: {problem}");
    }
    let grants = grants.texts();
    let resolved: Resolved = policy.resolve(&grants)?;
    let credentials = match keyed {
        None => Vec::new(),
        Some(file) => {
            let sources = key::Sources { file, home: &person.home, project: &path };
            root_policy::key(&resolved, &sources)?.into_iter().collect()
        }
    };
    let host = machine::host(&person).map_err(one)?;
    let _held = host.ready(&path, &text).map_err(one)?;
    let record = host.record().map_err(one)?;
    let project = path.display().to_string();
    let open = Open { version: VERSION, project, agent: name.into(), grants, credentials, ticket: None };
    let gateway = Gateway::open(open).map_err(one)?;
    let ticket = gateway.forward().map_err(one)?;
    let file = host.hand_over(&record, ticket.expose()).map_err(one)?;
    let mut arguments: Vec<OsString> =
        vec![name.into(), "--ticket".into(), file.into(), "--project".into(), path.clone().into()];
    arguments.extend(tail);
    let workdir = std::env::current_dir().and_then(std::fs::canonicalize).ok().filter(|here| here.starts_with(&path));
    let (how, term) = terminals();
    let command = guest::rcc(workdir.as_deref().unwrap_or(&path), term.as_deref(), &arguments);
    let mut ssh = host.for_person(&record, how, &command).map_err(one)?;
    // Put back at the end, whatever becomes of the program inside.
    let terminal = terminal::Terminal::remember();
    let mut child = ssh.spawn().map_err(|e| one(lost(&e.to_string())))?;
    let outcome = watch(&gateway, &mut child);
    let summary = gateway.summary();
    drop(terminal);
    if let Some(summary) = summary {
        crate::ending::say(&summary);
    }
    match outcome {
        Ok(code) => ended(code).map_err(one),
        Err(problem) => {
            crate::say(&[problem]);
            Ok(ENDED)
        }
    }
}

/// Waits for the end, and tells what the gateway says meanwhile. An error is why the gateway ended the session.
fn watch(gateway: &Gateway, child: &mut Child) -> Result<Option<i32>, Problem> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status.code());
        }
        let mut fds = [PollFd::new(gateway.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(LOOK)).is_ok_and(|n| n == 0) || fds[0].any() != Some(true) {
            continue;
        }
        match gateway.hear() {
            Word::Held(problem) => eprint!("rcc: nothing of the session moves for now: {problem}\r\n"),
            Word::Released => eprint!("rcc: it moves again\r\n"),
            Word::Begun | Word::Grants(_) => {}
            Word::Farewell(problem) => {
                // The machine's side loses its session as well; its launcher ends what runs there.
                let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
                while std::time::Instant::now() < patience {
                    if let Ok(Some(status)) = child.try_wait() {
                        return if status.success() { Ok(status.code()) } else { Err(problem) };
                    }
                    std::thread::sleep(std::time::Duration::from_millis(LOOK.into()));
                }
                let _gone = child.kill().and_then(|()| child.wait().map(drop));
                return Err(problem);
            }
        }
    }
}

/// Refuses what names something of the Mac's outside the project.
fn outside(tail: &[OsString]) -> Result<(), Problem> {
    let named = |argument: &OsString| {
        let text = argument.to_string_lossy().into_owned();
        let option = text.split('=').next().unwrap_or_default().to_owned();
        OUTSIDE.contains(&option.as_str()).then_some(option)
    };
    // Behind the first `--` stands the program's own.
    match tail.iter().take_while(|argument| argument.as_os_str() != OsStr::new("--")).find_map(named) {
        None => Ok(()),
        Some(option) => {
            let what = "the machine sees the project alone, and nothing else of this Mac";
            Err(Problem::new(Code::MAC_ARGUMENT, option, what, "put what the agent needs into the project"))
        }
    }
}

/// Refuses a project that asks for the Mac's own programs.
fn root(project: &Project) -> Result<(), Vec<Problem>> {
    let text = match beneath::read(&project.folder, Path::new("rcc.toml"), RCC_TOML) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| one(toml(&e.to_string())))?,
    };
    let text = String::from_utf8(text).map_err(|e| one(toml(&e.to_string())))?;
    let asked = rcc_policy::parse_project(&text, "rcc.toml")?;
    if asked.toolchain_root == Some(ToolchainRoot::Host) {
        let what = "it asks for the host's own programs, and a Mac's don't run in a Linux session";
        let remedy = "leave root = \"host\" out, or ask for \"nix\"";
        return Err(one(Problem::new(Code::MAC_HOST_ROOT, "rcc.toml", what, remedy)));
    }
    Ok(())
}

fn toml(what: &str) -> Problem {
    Problem::new(Code::PROJECT_RCC_TOML, "rcc.toml", escaped(what), "make it a plain file of the project")
}
