//! `rcc plan`: what would be started, without starting it.

use crate::Done;
use crate::prepare::{self, Place, What};
use crate::root_policy;
use clap::Args;
use rcc_launch::session;
use rcc_launch::spec::{ContainerSpec, arguments};
use rcc_policy::Resolved;
use rcc_report::escaped;
use std::ffi::OsString;

/// Show the policy in force, the container and the exact podman call; run nothing.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    place: Place,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    /// The program that would run; Claude Code if none is named.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn run(args: PlanArgs) -> Done {
    let what = if args.command.is_empty() {
        What::Claude { ask: false, key_file: None, bring: None, agents: None, arguments: Vec::new() }
    } else {
        What::Run(args.command)
    };
    let prepared = prepare::prepare(&args.place, what, prepare::Purpose::Look)?;
    let spec = session::plan(&prepared.launch(&args.place.folders)?, session::PLANNED_ID);
    let mut call: Vec<OsString> = vec![prepared.machine.podman.clone().into()];
    call.extend(arguments(&spec, &prepared.machine));
    if args.json {
        let call: Vec<String> = call.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        let plan = serde_json::json!({
            "version": 1,
            "policy": prepared.policy,
            "project": prepared.project_path,
            "container": spec,
            "argv": call,
        });
        println!("{plan:#}");
    } else {
        text(&prepared.policy, &spec, &call);
    }
    Ok(0)
}

fn text(policy: &Resolved, spec: &ContainerSpec, call: &[OsString]) {
    println!("policy {} of {}", policy.fingerprint, root_policy::POLICY_FILE);
    let list = |title: &str, items: Vec<String>| {
        let items = if items.is_empty() { "nothing".to_owned() } else { items.join(", ") };
        println!("  {title:<8} {}", escaped(&items));
    };
    list("allow", policy.allow.iter().map(ToString::to_string).collect());
    list("deny", policy.deny.iter().map(ToString::to_string).collect());
    list("private", policy.private.iter().map(ToString::to_string).collect());
    list("keys", policy.credentials.iter().map(|c| format!("{} (to {}:{})", c.endpoint, c.upstream, c.port)).collect());
    list("covered", policy.protect.read_only.clone());
    println!("container");
    for mount in &spec.mounts {
        let mode = if mount.writable { "rw" } else { "ro" };
        let (source, target) = (mount.source.display().to_string(), mount.target.display().to_string());
        let place = if source == target { target } else { format!("{target}  (from {source})") };
        println!("  {mode} {}", escaped(&place));
    }
    if !spec.store.is_empty() {
        println!("  ro /nix/store: {} paths of it", spec.store.len());
    }
    for tmpfs in &spec.tmpfs {
        println!("  memory {} ({} MiB)", tmpfs.target.display(), tmpfs.size >> 20);
    }
    for (name, value) in &spec.environment {
        println!("  env {}", escaped(&format!("{name}={value}")));
    }
    println!("  limits {} MiB memory, {} processes", spec.limits.memory >> 20, spec.limits.pids);
    println!("  in {}: {}", escaped(&spec.workdir.display().to_string()), escaped(&session::shown(&spec.command)));
    println!("podman");
    println!("  {}", escaped(&quoted(call)));
}

/// The call as one could paste it into a shell.
fn quoted(call: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+".contains(c);
    let quote = |a: &OsString| {
        let a = a.to_string_lossy();
        if !a.is_empty() && a.chars().all(plain) { a.into_owned() } else { format!("'{}'", a.replace('\'', "'\\''")) }
    };
    call.iter().map(quote).collect::<Vec<_>>().join(" ")
}
