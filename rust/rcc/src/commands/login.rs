//! `rcc login`: a key, entered once for all projects; and what there is to say of it.

use crate::Done;
use crate::root_policy;
use clap::Args;
use rcc_launch::key::{self, stored};
use rcc_launch::{machine, terminal};
use rcc_report::{Code, Problem};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Keep an API key or a subscription's token, once for all projects.
///
/// It is typed or pasted at the terminal, which does not show it, or read from standard input, and kept in
/// ~/.config/rcc/anthropic-key, for you alone to read. `ANTHROPIC_API_KEY` and `CLAUDE_CODE_OAUTH_TOKEN`, where they are
/// set, come before it; the apiKeyHelper of ~/.claude/settings.json comes after it.
#[derive(Args)]
pub struct LoginArgs {
    /// Say where keys are, and which one is used; no part of them is shown.
    #[arg(long)]
    status: bool,
    /// A key here would be seen by every process and kept in the shell's history: refused.
    #[arg(hide = true)]
    never: Vec<OsString>,
}

pub fn run(args: &LoginArgs) -> Done {
    if !args.never.is_empty() {
        return Err(vec![Problem::new(
            Code::KEY_MALFORMED,
            "rcc login",
            "a key is never an argument: all processes could see it, and the shell keeps it",
            "rcc login   # asks for it\nif it was a key, revoke it, and delete that line of the shell's history",
        )]);
    }
    if args.status { status() } else { login() }.map_err(|problem| vec![problem])
}

fn login() -> Result<u8, Problem> {
    let person = machine::person()?;
    let (from, text) = entered()?;
    let Some(text) = text else {
        eprintln!("rcc: nothing was entered, nothing was changed");
        return Ok(rcc_report::EXIT_REFUSED);
    };
    let stored = stored::keep(&person.home, stored::check(from, &text)?)?;
    eprintln!("rcc: kept for all projects: {}", stored.describe());
    eprintln!("rcc: it was not tried; a session's own answer says whether the API takes it");
    for (name, _) in key::VARIABLES.iter().filter(|(name, _)| std::env::var_os(name).is_some()) {
        eprintln!("rcc: {name} is set in this shell, and comes before it: unset {name}");
    }
    Ok(0)
}

/// What is typed, or what comes on standard input.
fn entered() -> Result<(&'static str, Option<Zeroizing<String>>), Problem> {
    let failed = |e: io::Error| Problem::new(Code::KEY_MALFORMED, "input", e.to_string(), "rcc login   # again");
    if io::stdin().is_terminal() {
        let prompt = "API key, or token of `claude setup-token` (it is not shown): ";
        return Ok(("the terminal", terminal::hidden_line(prompt, key::LONGEST).map_err(failed)?));
    }
    let room = usize::try_from(key::LONGEST).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    // Not by way of the library's own buffer, which nobody wipes.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    input.take(key::LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(("standard input", Some(text)))
}

fn status() -> Result<u8, Problem> {
    let person = machine::person()?;
    let all = match key::standing(&person.home) {
        Err(problem) if problem.code == Code::KEY_MISSING && root_policy::root_has_a_key() => {
            println!("used   key_file of {}", root_policy::POLICY_FILE);
            return Ok(0);
        }
        other => other?,
    };
    let used = all.iter().position(|s| s.holds.is_some());
    for (i, standing) in all.iter().enumerate() {
        let mark = match &standing.holds {
            Some(_) if used == Some(i) => "used",
            Some(_) => "later",
            None => "-",
        };
        println!("{mark:<6} {:<28} {}", standing.place, standing.holds.as_deref().unwrap_or("none"));
    }
    if let Some(notice) = stored::read(&person.home)?.and_then(|stored| stored.notice(stored::today())) {
        eprintln!("rcc: {notice}");
    }
    Ok(0)
}
