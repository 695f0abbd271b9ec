//! The user, the kernel, ids, control groups.

use super::{Outcome, fails, family, of, pass, policy};
use crate::facts::{Facts, IdFile, Person, Program};
use crate::system::Family;
use crate::{probe, version};
use rcc_policy::Unenforceable;
use rcc_report::{Code, Problem, quoted};
use std::path::PathBuf;

/// Gives every user's systemd the controllers that its containers need (systemd.resource-control(5), `Delegate=`).
pub const DELEGATE: &str = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/rcc.conf, then log in again";

/// Subordinate ids that make a system.
const ENOUGH: u64 = 65536;
/// The first kernel with what the gateway needs.
const KERNEL: (u32, u32, u32) = (5, 14, 0);

/// Whether agents may run for this person: an ordinary user with an account and a home folder.
pub fn person(person: &Person) -> Result<(String, PathBuf), Problem> {
    if person.uid == 0 || person.effective != person.uid {
        return Err(Problem::new(
            Code::RUNNING_AS_ROOT,
            "root",
            "agents run for an ordinary user, never for root or by setuid",
            "start rcc as the user whose project it is: su - USER -c 'cd PROJECT && rcc claude'",
        ));
    }
    let missing = |what: &str| {
        Problem::new(
            Code::RUNTIME_DIR,
            person.uid.to_string(),
            format!("this user id {what}"),
            "log in as a user of this machine",
        )
    };
    let name = person.name.clone().ok_or_else(|| missing("has no entry in the password database"))?;
    let home = person.home.clone().ok_or_else(|| missing("has no home folder"))?;
    Ok((name, home))
}

/// Whether a program was found where only root writes.
pub fn program(name: &str, found: Option<&Program>, family: Family) -> Result<PathBuf, Problem> {
    let found = found.ok_or_else(|| {
        Problem::new(
            Code::PODMAN_MISSING,
            name,
            format!("not found in {}", probe::program_folders()),
            family.install(name),
        )
    })?;
    if let Some(place) = &found.writable_by_others {
        return Err(Problem::new(
            Code::PODMAN_MISSING,
            place.display().to_string(),
            format!("others than root can write it, so {name} is not run from there"),
            // First closed, then brought anew: what lies there may have been replaced.
            format!(
                "sudo chown root {0} && sudo chmod go-w {0} && {1}",
                quoted(place.display()),
                family.reinstall(name)
            ),
        ));
    }
    Ok(found.path.clone())
}

pub fn user(facts: &Facts) -> Outcome {
    of(&facts.person, |found| match person(found) {
        Ok((name, _)) => pass(name),
        Err(problem) => Outcome::Fail(vec![problem]),
    })
}

pub fn kernel(facts: &Facts) -> Outcome {
    of(&facts.system, |system| match version::of(&system.kernel) {
        None => Outcome::Unknown(format!("the kernel calls itself `{}`", system.kernel)),
        Some(found) if found < KERNEL => Outcome::Fail(vec![Problem::new(
            Code::KERNEL_TOO_OLD,
            format!("Linux {}", system.kernel),
            "rcc needs Linux 5.14 or later (SO_NETNS_COOKIE)",
            match family(facts) {
                Family::Debian => format!("from Debian 12 or Ubuntu 24.04 on: {}", Family::Debian.kernel()),
                other => other.kernel().to_owned(),
            },
        )]),
        Some(_) => pass(format!("Linux {}", system.kernel)),
    })
}

/// Sets a kernel parameter now and for later.
fn sysctl(facts: &Facts, name: &str, value: u64) -> String {
    match family(facts) {
        Family::NixOs => {
            format!("in configuration.nix: boot.kernel.sysctl.\"{name}\" = {value}; then: sudo nixos-rebuild switch")
        }
        _ => {
            format!("echo '{name} = {value}' | sudo tee -a /etc/sysctl.d/60-rcc.conf && sudo sysctl -w {name}={value}")
        }
    }
}

pub fn user_namespaces(facts: &Facts) -> Outcome {
    of(&facts.user_namespaces, |found| {
        let denied = |subject: &str, what: &str, remedy: String| {
            Outcome::Fail(vec![Problem::new(Code::USERNS_DENIED, subject, what, remedy)])
        };
        match found.max {
            None => {
                return denied("user namespaces", "this kernel has none", family(facts).kernel().into());
            }
            Some(0) => {
                let name = "user.max_user_namespaces";
                return denied(name, "it is 0, so nobody can make any", sysctl(facts, name, 15000));
            }
            Some(_) => {}
        }
        if found.unprivileged == Some(0) {
            let name = "kernel.unprivileged_userns_clone";
            return denied(name, "it is 0, so only root can make any", sysctl(facts, name, 1));
        }
        if found.apparmor_restricts.is_some_and(|value| value != 0) && !found.podman_profile {
            let podman = facts.programs.get().ok().and_then(|p| p.get("podman"));
            let path = podman.map_or_else(|| "/usr/bin/podman".into(), |p| p.path.display().to_string());
            return denied(
                "kernel.apparmor_restrict_unprivileged_userns",
                "AppArmor lets only programs with a profile make any, and Podman has none",
                format!(
                    "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile podman {path} flags=(unconfined) {{\\n  userns,\\n}}\\n' | sudo tee /etc/apparmor.d/podman && sudo apparmor_parser -r /etc/apparmor.d/podman"
                ),
            );
        }
        pass("allowed")
    })
}

pub fn seccomp(facts: &Facts) -> Outcome {
    of(&facts.seccomp, |there| {
        if *there {
            return pass("there");
        }
        Outcome::Fail(vec![Problem::new(
            Code::CHECK_SECCOMP,
            "kernel",
            "/proc/sys/kernel/seccomp/actions_avail has no `errno`: system calls can't be filtered",
            family(facts).kernel(),
        )])
    })
}

fn mine<'a>(file: &'a IdFile, person: &Person) -> impl Iterator<Item = &'a crate::facts::IdRange> {
    let (name, uid) = (person.name.clone().unwrap_or_default(), person.uid.to_string());
    file.ranges.iter().filter(move |range| range.owner == name || range.owner == uid)
}

/// The first range of [`ENOUGH`] ids above every other in the file, above what distributions hand out to people.
fn free(file: &IdFile) -> u64 {
    let end = file.ranges.iter().map(|r| r.start.saturating_add(r.count)).max().unwrap_or(0);
    end.max(1_000_000_000)
}

pub fn subordinate_ids(facts: &Facts) -> Outcome {
    of(&facts.person, |person| {
        if person.uid == 0 {
            return pass("root needs none");
        }
        of(&facts.ids, |ids| {
            let name = person.name.clone().unwrap_or_else(|| person.uid.to_string());
            let missing = |(file, kind, option): (&IdFile, &str, &str)| {
                if mine(file, person).any(|range| range.count >= ENOUGH) {
                    return None;
                }
                let first = free(file);
                let remedy = match family(facts) {
                    Family::NixOs => format!(
                        "in configuration.nix: users.users.{name}.autoSubUidGidRange = true; then: sudo nixos-rebuild switch"
                    ),
                    Family::Alpine => format!("echo {name}:{first}:{ENOUGH} | sudo tee -a {kind}"),
                    _ => format!("sudo usermod {option} {first}-{} {name}", first + ENOUGH - 1),
                };
                let what = format!("{name} has no range of {ENOUGH} ids there");
                Some(Problem::new(Code::SUBIDS_MISSING, kind, what, remedy))
            };
            let both = [(&ids.uid, "/etc/subuid", "--add-subuids"), (&ids.gid, "/etc/subgid", "--add-subgids")];
            fails(both.into_iter().filter_map(missing).collect(), format!("{ENOUGH} or more"))
        })
    })
}

pub fn overlaps(facts: &Facts) -> Outcome {
    of(&facts.person, |person| {
        of(&facts.ids, |ids| {
            let name = person.name.clone().unwrap_or_default();
            let uid = person.uid.to_string();
            let mut problems = Vec::new();
            for (file, kind, letter) in [(&ids.uid, "/etc/subuid", 'u'), (&ids.gid, "/etc/subgid", 'g')] {
                for range in mine(file, person) {
                    let end = range.start.saturating_add(range.count);
                    let shares = |other: &&crate::facts::IdRange| {
                        other.owner != name
                            && other.owner != uid
                            && other.start < end
                            && range.start < other.start.saturating_add(other.count)
                    };
                    let with = file.ranges.iter().find(shares).map(|r| format!("the subordinate ids of {}", r.owner));
                    let account = file
                        .own
                        .iter()
                        .find(|(_, id)| (range.start..end).contains(id))
                        .map(|(n, id)| format!("{n} ({id})"));
                    let Some(with) = with.or(account) else { continue };
                    let (first, last) = (range.start, end.saturating_sub(1));
                    let new = free(file);
                    problems.push(Problem::new(
                        Code::CHECK_IDS_OVERLAP,
                        kind,
                        format!("{name}'s {first} to {last} are shared with {with}"),
                        match family(facts) {
                            Family::NixOs => format!(
                                "in configuration.nix: users.users.{name}.sub{0}idRanges = [ {{ start{1} = {new}; count = {ENOUGH}; }} ]; then: sudo nixos-rebuild switch",
                                if letter == 'u' { 'U' } else { 'G' },
                                if letter == 'u' { "Uid" } else { "Gid" }
                            ),
                            // usermod takes no range from a user who is logged in; Podman keeps a namespace with the old ids.
                            _ => format!(
                                "sudo sed -i 's/^{}:{first}:{}$/{}:{new}:{ENOUGH}/' {kind} && podman system migrate",
                                range.owner, range.count, range.owner
                            ),
                        },
                    ));
                }
            }
            fails(problems, "nobody else's")
        })
    })
}

pub fn runtime_dir(facts: &Facts) -> Outcome {
    of(&facts.person, |found| {
        let name = match person(found) {
            Ok((name, _)) => name,
            // Said elsewhere.
            Err(problem) if problem.code == Code::RUNNING_AS_ROOT => return pass("root has none of interest"),
            Err(problem) => return Outcome::Fail(vec![problem]),
        };
        of(&facts.runtime, |runtime| {
            if let Some(path) = &runtime.path {
                let lives = if runtime.lingers { "outlives a login" } else { "as long as a login" };
                return pass(format!("{}, {lives}", path.display()));
            }
            let (uid, gid) = (found.uid, found.gid);
            Outcome::Fail(vec![Problem::new(
                Code::RUNTIME_DIR,
                runtime.usual.display().to_string(),
                "missing, or not a folder of this user's alone",
                format!(
                    "log in by the console or ssh rather than by su, or: sudo loginctl enable-linger {name}\nwithout systemd: sudo install -d -o {uid} -g {gid} -m 700 /run/user/{uid}"
                ),
            )])
        })
    })
}

pub fn nftables(facts: &Facts) -> Outcome {
    of(&facts.nftables, |there| {
        if *there {
            return pass("there");
        }
        Outcome::Fail(vec![Problem::new(
            Code::CHECK_NFTABLES,
            "kernel",
            "it has no nf_tables, or not in a network namespace of yours",
            match family(facts) {
                Family::NixOs => {
                    "in configuration.nix: boot.kernelModules = [ \"nf_tables\" ]; then: sudo nixos-rebuild switch"
                }
                _ => "sudo modprobe nf_tables && echo nf_tables | sudo tee /etc/modules-load.d/rcc.conf",
            },
        )])
    })
}

/// As grave as the policy says.
fn limits_missing(facts: &Facts, problem: Problem) -> Outcome {
    let accepted = policy(facts)
        .and_then(|policy| policy.resolve(&[]).ok())
        .is_some_and(|policy| policy.limits.unenforceable == Unenforceable::Warn);
    if accepted { Outcome::Warn(vec![problem]) } else { Outcome::Fail(vec![problem]) }
}

const ACCEPT: &str = "or accept it: unenforceable = \"warn\" under [limits] in /etc/rcc/policy.toml";

/// Of the kernel's command line.
const UNIFIED: &str = "systemd.unified_cgroup_hierarchy=1";

pub fn cgroups(facts: &Facts) -> Outcome {
    of(&facts.cgroup, |cgroup| {
        if cgroup.unified {
            return pass("alone");
        }
        let wsl = facts.surroundings.get().is_ok_and(|s| s.wsl.is_some());
        let remedy = match family(facts) {
            _ if wsl => {
                "in %UserProfile%\\.wslconfig, under [wsl2]: kernelCommandLine = cgroup_no_v1=all, then in PowerShell: wsl --shutdown"
                    .to_owned()
            }
            Family::Debian => format!(
                "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{UNIFIED} /' /etc/default/grub && sudo update-grub && sudo reboot"
            ),
            Family::Fedora => format!("sudo grubby --update-kernel=ALL --args={UNIFIED} && sudo reboot"),
            Family::NixOs => {
                format!("in configuration.nix: boot.kernelParams = [ \"{UNIFIED}\" ]; then: sudo nixos-rebuild boot && sudo reboot")
            }
            Family::Alpine => {
                "sudo sed -i 's/^#*rc_cgroup_mode=.*/rc_cgroup_mode=\"unified\"/' /etc/rc.conf && sudo reboot".to_owned()
            }
            _ => format!("add {UNIFIED} to the kernel's command line, and start the machine again"),
        };
        limits_missing(
            facts,
            Problem::new(
                Code::CHECK_CGROUPS,
                "/sys/fs/cgroup",
                "it is not cgroup v2 alone, so no limit on memory can be kept",
                format!("{remedy}\n{ACCEPT}"),
            ),
        )
    })
}

pub fn limits(facts: &Facts) -> Outcome {
    of(&facts.cgroup, |cgroup| {
        let missing: Vec<&str> =
            ["memory", "pids"].into_iter().filter(|name| !cgroup.delegated.iter().any(|d| d == name)).collect();
        if !cgroup.unified {
            return pass("without cgroup v2 there are none");
        }
        if missing.is_empty() {
            return pass(cgroup.delegated.join(", "));
        }
        let systemd = facts.surroundings.get().is_ok_and(|s| s.systemd);
        let remedy = match (family(facts), systemd) {
            (Family::NixOs, _) => format!(
                "in configuration.nix: systemd.services.\"user@\".serviceConfig.Delegate = \"cpu memory pids\"; then: sudo nixos-rebuild switch\n{ACCEPT}"
            ),
            (_, true) => format!("{DELEGATE}\n{ACCEPT}"),
            (_, false) => format!("systemd would delegate them; {ACCEPT}"),
        };
        let what = "no such cgroup controller is delegated to this user, so the kernel does not keep the limit";
        limits_missing(facts, Problem::new(Code::LIMIT_UNENFORCEABLE, missing.join(", "), what, remedy))
    })
}
