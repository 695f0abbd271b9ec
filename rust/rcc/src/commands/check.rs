//! `rcc check`: whether this machine is ready, and if not, what is missing and the exact command.

use crate::Done;
use crate::root_policy::POLICY_FILE;
use clap::Args;
use rcc_launch::gateway::Gateway;
use rcc_preflight::probe::{self, Question};
use rcc_preflight::{Facts, Report, VERSION, explain};
use rcc_report::{Code, Problem};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

/// Check whether this machine is ready for sessions: what is missing, why, and the exact command.
#[derive(Args)]
#[command(after_help = "\
Exit codes:
  0    ready
  1    ready with warnings
  3    not ready: something fails
  4    unknown: nothing fails, but something could not be found out, and no session starts")]
pub struct CheckArgs {
    /// Print it as JSON (version 1), with the facts that were found.
    #[arg(long)]
    json: bool,
    /// Judge a machine by its recorded facts: what `rcc check --json` printed there.
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// Say what a code means, why rcc needs it, and what to do by hand and by `rcc setup`.
    #[arg(long, value_name = "RCC-NNN")]
    explain: Option<String>,
}

pub fn run(args: &CheckArgs) -> Done {
    if let Some(code) = &args.explain
        && explain(code, None).is_none()
    {
        let what = "there is no such code";
        return Err(vec![Problem::new(Code::CHECK_FACTS_FILE, code, what, "rcc check --explain RCC-301")]);
    }
    let facts = match &args.facts {
        Some(file) => read(file).map_err(|p| vec![p])?,
        None => here(),
    };
    let report = Report::of(&facts);
    let text = match &args.explain {
        Some(code) => explain(code, Some(&report)).unwrap_or_default(),
        None if args.json => format!("{:#}\n", report.json(&facts)),
        None => report.text(),
    };
    // The one line that does all that setup can do.
    let next = (args.facts.is_none() && args.explain.is_none() && !args.json && report.setup_helps())
        .then(|| format!("next: {}\n", probe::setup_command()));
    let text = text + &next.unwrap_or_default();
    // Whoever closes the pipe has read enough; the exit code says the rest.
    let _closed = stdout().lock().write_all(text.as_bytes());
    Ok(if args.explain.is_some() { 0 } else { report.verdict().exit_code() })
}

/// This machine's.
fn here() -> Facts {
    let project = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let shown = project.display().to_string();
    probe::whole(Question {
        project,
        policy: POLICY_FILE.into(),
        gateway: Box::new(move || Gateway::probe(shown, "check").map(|gateway| gateway.opened.fingerprint.clone())),
    })
}

/// A report's JSON, or the facts alone.
fn read(file: &Path) -> Result<Facts, Problem> {
    let bad = |what: String| {
        let remedy = "make it anew there: rcc check --json > facts.json";
        Problem::new(Code::CHECK_FACTS_FILE, file.display().to_string(), what, remedy)
    };
    let text = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
    let mut value: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let facts = value.get_mut("facts").map(serde_json::Value::take).unwrap_or(value);
    let version = facts.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(VERSION.into()) {
        return Err(bad(format!("it is not of version {VERSION}")));
    }
    serde_json::from_value(facts).map_err(|e| bad(e.to_string()))
}
