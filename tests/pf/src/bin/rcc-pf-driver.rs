//! The program under test: `FOLDER apply|status|remove|recover POLICY`. Prints what came of it.

// Where the pfctl crate does not compile, there is nothing to drive: docs/decisions/0030.
#[cfg(not(target_arch = "x86_64"))]
fn main() {}

#[cfg(target_arch = "x86_64")]
use rcc_pf::{Pf, Wanted, apply, recover, remove, status};
#[cfg(target_arch = "x86_64")]
use rcc_report::Problem;
#[cfg(target_arch = "x86_64")]
use rcc_rules::Found;
#[cfg(target_arch = "x86_64")]
use rcc_rules::pf::Ruleset;
#[cfg(target_arch = "x86_64")]
use std::path::PathBuf;

#[cfg(target_arch = "x86_64")]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, what, policy] = words.as_slice() else { panic!("three words") };
    let folder = PathBuf::from(folder);
    let pf = Pf::at(folder.join("pfctl"), folder.join("token"));
    let said = run(&folder, &pf, what, policy);
    println!("{}", said.unwrap_or_else(|problem| format!("{problem}")));
}

#[cfg(target_arch = "x86_64")]
fn run(folder: &std::path::Path, pf: &Pf, what: &str, policy: &str) -> Result<String, Problem> {
    let policy = rcc_packets::policy(policy);
    let (facts, mac) = (rcc_packets::facts(), rcc_packets::mac());
    let rules = Ruleset::new(&policy.egress(), policy.fingerprint(), &facts, &mac);
    let wanted = Wanted { rules, facts, mac };
    Ok(match what {
        "apply" => if apply(pf, &wanted)? { "applied" } else { "unchanged" }.to_owned(),
        "remove" => if remove(pf)? { "removed" } else { "nothing" }.to_owned(),
        "recover" => {
            recover(pf, &wanted, || {
                std::fs::write(folder.join("stopped"), "").expect("written");
                Ok(())
            })?;
            "recovered".to_owned()
        }
        _ => match status(pf, &wanted)? {
            Found::InForce => "in force".to_owned(),
            Found::Absent => "absent".to_owned(),
            Found::Foreign => "foreign".to_owned(),
            Found::Drifted(differences) => format!("drifted: {}", differences[0].place),
        },
    })
}
