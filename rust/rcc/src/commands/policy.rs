//! `rcc policy check FILE`: whether a text is a policy, without a machine: in a build, an editor or a commit's hook.

use crate::Done;
use clap::{Args, Subcommand};
use rcc_report::{Code, Problem};
use std::path::{Path, PathBuf};

/// Look at a policy's text; nothing of this machine is asked.
#[derive(Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Check a policy that may not be in force, such as one that is still to be installed. Every problem has its line and
    /// column.
    Check(CheckArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// The policy.
    file: PathBuf,
    /// It is a project's rcc.toml, which only asks.
    #[arg(long)]
    project: bool,
}

pub fn run(args: &PolicyArgs) -> Done {
    let What::Check(args) = &args.what;
    let origin = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file).map_err(|e| vec![unreadable(&args.file, &e)])?;
    if args.project {
        rcc_policy::parse_project(&text, &origin)?;
        println!("a project's request");
    } else {
        println!("policy {}", rcc_policy::parse(&text, &origin)?.fingerprint());
    }
    Ok(0)
}

fn unreadable(file: &Path, e: &std::io::Error) -> Problem {
    let remedy = "name a file of UTF-8 text";
    Problem::new(Code::POLICY_UNREADABLE, file.display().to_string(), e.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, project: bool) -> Done {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, text).unwrap();
        run(&PolicyArgs { what: What::Check(CheckArgs { file, project }) })
    }

    #[test]
    fn a_policy_and_a_projects_request_are_told_apart() {
        let users = "users = [\"alice\"]\n";
        assert_eq!(check(users, false).unwrap(), 0);
        let problems = check(users, true).unwrap_err();
        assert_eq!(problems[0].code, Code::PROJECT_RCC_TOML);
        assert_eq!(check("allow = [\"a.example:443\"]\n", true).unwrap(), 0);
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_refused() {
        let absent = PathBuf::from("/nonexistent/policy.toml");
        let problems = run(&PolicyArgs { what: What::Check(CheckArgs { file: absent, project: false }) }).unwrap_err();
        assert_eq!(problems[0].code, Code::POLICY_UNREADABLE);
        let problems = check("alow = []\n", false).unwrap_err();
        assert!(problems[0].subject.ends_with("policy.toml:1:1"), "{}", problems[0]);
    }
}
