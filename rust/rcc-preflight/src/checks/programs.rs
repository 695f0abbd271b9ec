//! Podman and what it needs.

use super::{Outcome, fails, family, machine, of, pass};
use crate::escapes::ESCAPES;
use crate::facts::Facts;
use crate::system::Family;
use crate::version;
use rcc_report::{Code, Problem};

/// Without these no container starts.
const NEEDED: &[&str] = &["podman", "crun", "conmon", "newuidmap", "newgidmap"];

/// The oldest that rcc was tried with (docs/machines.md).
const OLDEST: &[(&str, (u32, u32, u32))] = &[("podman", (4, 3, 0)), ("crun", (1, 8, 0))];

pub fn present(facts: &Facts) -> Outcome {
    of(&facts.programs, |programs| {
        let judged = NEEDED.iter().map(|name| machine::program(name, programs.get(*name), family(facts)));
        let mut problems: Vec<Problem> = judged.filter_map(Result::err).collect();
        // One package brings both.
        problems.dedup_by(|later, earlier| later.remedy == earlier.remedy);
        fails(problems, NEEDED.join(", "))
    })
}

pub fn map_bits(facts: &Facts) -> Outcome {
    of(&facts.programs, |programs| {
        let without = ["newuidmap", "newgidmap"].into_iter().filter_map(|name| {
            // That it is missing is said elsewhere.
            let program = programs.get(name).filter(|p| !p.setuid && !p.capabilities)?;
            let path = program.path.display();
            let remedy = match family(facts) {
                Family::NixOs => {
                    "in configuration.nix: virtualisation.podman.enable = true; then: sudo nixos-rebuild switch"
                        .to_owned()
                }
                _ => format!("sudo chmod u+s {path}"),
            };
            let what = "it has neither root's setuid bit nor file capabilities";
            Some(Problem::new(Code::CHECK_MAP_BITS, path.to_string(), what, remedy))
        });
        fails(without.collect(), "they have root's bit")
    })
}

pub fn versions(facts: &Facts) -> Outcome {
    of(&facts.versions, |versions| {
        let mut problems = Vec::new();
        for (name, oldest) in OLDEST {
            let Some(text) = versions.get(*name) else { continue };
            let Some(found) = version::of(text) else {
                return Outcome::Unknown(format!("{name} says `{text}`"));
            };
            let family = family(facts);
            let upgrade = match family {
                Family::Debian => format!("{}, from Debian 12, Ubuntu 24.04 or later", family.upgrade(name)),
                family => family.upgrade(name),
            };
            if found < *oldest {
                let (major, minor, _) = oldest;
                let what = format!("rcc was tried with {name} {major}.{minor} and later");
                problems.push(Problem::new(Code::CHECK_VERSIONS, text, what, &upgrade));
            }
            let open = ESCAPES.iter().filter(|e| e.program == *name && e.kept_away.is_none());
            for escape in open.filter(|e| e.fixed.is_none_or(|fixed| found < fixed)) {
                let what = format!("{} lets what runs inside out", escape.cve);
                problems.push(Problem::new(Code::CHECK_VERSIONS, text, what, &upgrade));
            }
        }
        let all: Vec<&str> = versions.values().map(String::as_str).collect();
        fails(problems, all.join(", "))
    })
}

pub fn nft(facts: &Facts) -> Outcome {
    of(&facts.programs, |programs| match machine::program("nft", programs.get("nft"), family(facts)) {
        Ok(path) => pass(path.display().to_string()),
        Err(problem) => Outcome::Fail(vec![Problem { code: Code::FIREWALL_NFT, ..problem }]),
    })
}
