//! `rcc status`: what is in force on this machine, asked of the kernel and the gateway, without any privilege.

use crate::root_policy;
use clap::Args;
use rcc_launch::firewall;
use rcc_launch::gateway::Gateway;
use rcc_report::{Problem, escaped};
use serde_json::{Value, json};

/// Tell whether a session could start here now: policy, gateway, host firewall; and which sessions of yours run.
///
/// The gateway is asked to open a session, which it does only if the firewall is proven; nothing runs in it.
#[derive(Args)]
#[command(after_help = "\
Exit codes:
  0    a session could start
  1    one could not; what is wrong is said
  2    the command line is wrong")]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A part of the answer.
struct Part {
    name: &'static str,
    state: String,
    details: Value,
    problems: Vec<Problem>,
}

impl Part {
    fn good(name: &'static str, state: impl Into<String>, details: Value) -> Self {
        Self { name, state: state.into(), details, problems: Vec::new() }
    }

    fn bad(name: &'static str, problems: Vec<Problem>) -> Self {
        Self { name, state: "not usable".into(), details: Value::Null, problems }
    }
}

/// The exit code.
pub fn run(args: &StatusArgs) -> u8 {
    let parts = [
        policy(),
        gateway(),
        read_back(),
        #[cfg(target_os = "linux")]
        sessions(),
    ];
    let works = parts.iter().all(|part| part.problems.is_empty());
    if args.json {
        let mut all = json!({ "version": 1, "rcc": env!("CARGO_PKG_VERSION"), "usable": works });
        for part in &parts {
            all[part.name] = json!({ "state": part.state, "details": part.details, "problems": part.problems });
        }
        println!("{all:#}");
    } else {
        println!("rcc       {}", env!("CARGO_PKG_VERSION"));
        for part in &parts {
            println!("{:<9} {}", part.name, escaped(&part.state));
            for problem in &part.problems {
                println!("  {problem}");
            }
        }
    }
    u8::from(!works)
}

fn policy() -> Part {
    match root_policy::policy() {
        Ok(policy) => {
            let fingerprint = policy.fingerprint().to_string();
            Part::good("policy", format!("valid, {fingerprint}"), json!({ "fingerprint": fingerprint }))
        }
        Err(problems) => Part::bad("policy", problems),
    }
}

/// Whether a session would be opened, which takes the firewall's proof.
fn gateway() -> Part {
    match Gateway::probe("/".into(), "status") {
        Ok(gateway) => {
            let opened = &gateway.opened;
            let details = json!({ "protocol": opened.version, "fingerprint": opened.fingerprint });
            let state = format!(
                "answers, protocol {}; the firewall of policy {} is proven",
                opened.version, opened.fingerprint
            );
            Part::good("gateway", state, details)
        }
        Err(problem) => Part::bad("gateway", vec![problem]),
    }
}

fn read_back() -> Part {
    match firewall::read_back() {
        Ok(Some(answer)) if answer["state"] == "in force" => {
            Part::good("firewall", "in force, as root reads it back", answer)
        }
        Ok(Some(answer)) => {
            let state = answer["state"].as_str().unwrap_or("not readable").to_owned();
            let problems: Vec<Problem> = serde_json::from_value(answer["problems"].clone()).unwrap_or_default();
            let drift = || {
                let remedy = rcc_preflight::probe::setup_command();
                vec![Problem::new(rcc_report::Code::FIREWALL_DRIFTED, "inet rcc", state.clone(), remedy)]
            };
            Part {
                name: "firewall",
                problems: if problems.is_empty() { drift() } else { problems },
                state,
                details: answer,
            }
        }
        Ok(None) => Part::good("firewall", "not read back: systemd does not run here", Value::Null),
        Err(problem) => Part::bad("firewall", vec![problem]),
    }
}

#[cfg(target_os = "linux")]
fn sessions() -> Part {
    use rcc_launch::folder;
    use rcc_launch::machine::Machine;
    match Machine::probe() {
        Ok(machine) => {
            let running = folder::running(&machine);
            let all: Vec<Value> = running.iter().map(|s| json!({ "session": s.id, "project": s.project })).collect();
            let places: Vec<String> = running.iter().map(|s| s.project.display().to_string()).collect();
            let state = if places.is_empty() { "none of yours".into() } else { places.join(", ") };
            Part::good("sessions", state, Value::from(all))
        }
        Err(problems) => Part::bad("sessions", problems),
    }
}
