//! `rcc-firewall`: root's command for the host firewall.

use clap::{Parser, Subcommand};
use rcc_firewall::{Applied, Kernel, OBJECT, POLICY, apply, fingerprint, remove, report, status, wanted};
use rcc_report::{EXIT_REFUSED, Problem};
use rcc_rules::Found;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// The host firewall of rcc: what the gateway's user may reach, kept by the kernel (nftables, on a Mac pf).
///
/// Exit codes: 0 done, or in force; 3 absent; 4 drifted; 5 a table or anchor of that name that rcc did not make; 125 a problem.
#[derive(Parser)]
#[command(name = "rcc-firewall", version)]
struct Arguments {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// The policy.
    #[arg(long, global = true, default_value = POLICY, value_name = "FILE")]
    policy: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// Show the table that the policy and this machine make, and how it differs from what is in force. Changes nothing.
    Plan,
    /// Put that table in force, in one transaction, and read it back. Changes nothing if it is in force already.
    Apply,
    /// Tell whether it is in force, absent, drifted, or somebody else's.
    Status,
    /// Take the table away.
    Remove,
    /// Keep it in force, for good: what launchd runs.
    #[cfg(any(target_os = "macos", test))]
    #[command(hide = true)]
    Keep,
    /// End the gateway and what carries the agents' machine, and put everything in force anew: for rules that are shown and
    /// yet do not hold.
    #[cfg(target_os = "macos")]
    Recover,
}

/// How many seconds a caller by a socket may keep this program.
const CALLERS: u32 = 5;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // launchd starts it for whoever calls, a few at once: who reads nothing must not keep the others waiting.
    if matches!(arguments.what, What::Status) && is_called() {
        nix::unistd::alarm::set(CALLERS);
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(problems) => {
            if arguments.json {
                println!("{}", serde_json::json!({ "version": 1, "problems": problems }));
            } else {
                for problem in &problems {
                    eprintln!("rcc-firewall: {problem}");
                }
            }
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

/// Whether what it says goes to a socket.
fn is_called() -> bool {
    let out = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    out.and_then(|out| out.metadata()).is_ok_and(|about| about.file_type().is_socket())
}

fn run(arguments: &Arguments) -> Result<ExitCode, Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    #[cfg(target_os = "macos")]
    if matches!(arguments.what, What::Keep) {
        rcc_firewall::keep(&arguments.policy);
    }
    let kernel = Kernel::find().map_err(one)?;
    if matches!(arguments.what, What::Remove) {
        // Not by the policy: what is removed needs none.
        let removed = remove(&kernel).map_err(one)?;
        if arguments.json {
            println!("{}", serde_json::json!({ "version": 1, "removed": removed }));
        } else {
            println!("{}{OBJECT}", if removed { "removed: " } else { "there was no " });
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = wanted(&arguments.policy);
    // Where nothing is, it needs no policy to say so: who takes rcc away may have none any more.
    #[cfg(target_os = "macos")]
    if wanted.is_err() && matches!(arguments.what, What::Status) && rcc_firewall::absent(&kernel).map_err(one)? {
        tell(&Found::Absent);
        return Ok(ExitCode::from(3));
    }
    let wanted = wanted?;
    #[cfg(target_os = "macos")]
    if matches!(arguments.what, What::Recover) {
        rcc_firewall::recover(&kernel, &wanted).map_err(one)?;
        println!("in force anew: {OBJECT}; start the agents' machine again");
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(arguments.what, What::Apply) {
        let applied = apply(&kernel, &wanted).map_err(one)?;
        if arguments.json {
            let fingerprint = fingerprint(&wanted).to_string();
            let changed = applied == Applied::Replaced;
            println!("{}", serde_json::json!({ "version": 1, "changed": changed, "fingerprint": fingerprint }));
        } else {
            let how = if applied == Applied::Replaced { "now" } else { "already" };
            println!("in force {how}: {OBJECT}, policy {}", fingerprint(&wanted));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = status(&kernel, &wanted).map_err(one)?;
    if arguments.json {
        println!("{}", report(&wanted, &found));
    } else {
        if matches!(arguments.what, What::Plan) {
            print!("{wanted}");
        }
        tell(&found);
    }
    let code = match found {
        _ if matches!(arguments.what, What::Plan) => 0,
        Found::InForce => 0,
        Found::Absent => 3,
        Found::Drifted(_) => 4,
        Found::Foreign => 5,
    };
    Ok(ExitCode::from(code))
}

/// How a person looks at it.
#[cfg(target_os = "linux")]
const LOOK: &str = "nft list table inet rcc";
#[cfg(target_os = "macos")]
const LOOK: &str = "pfctl -a com.apple/000.rcc -s rules";

fn tell(found: &Found) {
    match found {
        Found::InForce => println!("in force"),
        Found::Absent => println!("absent: nothing holds the gateway's user; put it in force: rcc-firewall apply"),
        Found::Foreign => println!("foreign: {OBJECT} is not rcc's; look at it: {LOOK}"),
        Found::Drifted(differences) => {
            println!("drifted: {OBJECT} is another one, or not alone; put it in force: rcc-firewall apply");
            let text = |v: &Option<serde_json::Value>| v.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            for d in differences {
                println!("  {}\n    wanted: {}\n    found:  {}", d.place, text(&d.wanted), text(&d.found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_proto::macos::{FIREWALL_ARGUMENTS, STATUS_ARGUMENTS};

    #[test]
    fn what_launchd_starts_it_with_is_taken() {
        let read = |words: &[&str]| {
            let words = std::iter::once("rcc-firewall").chain(words.iter().copied());
            let arguments = Arguments::try_parse_from(words).unwrap_or_else(|e| panic!("{e}"));
            (arguments.what, arguments.json)
        };
        assert!(matches!(read(FIREWALL_ARGUMENTS), (What::Keep, false)));
        assert!(matches!(read(STATUS_ARGUMENTS), (What::Status, true)));
    }
}
