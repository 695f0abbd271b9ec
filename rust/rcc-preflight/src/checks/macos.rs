//! What a Mac must have. Podman runs a Linux machine there, so the checks of Linux are that machine's; these are of what is
//! around it: macOS, pf, launchd, the accounts, Podman, and what of the Mac the machine sees.

use super::{Check, Outcome, Part, fails, of, pass, shared, warns};
use crate::facts::{Accounts, Daemon, Facts, MacOs, Nix, Pf};
use crate::system::Family;
use crate::{probe, version};
use rcc_proto::macos::{
    ANCHOR, FIREWALL_LABEL, GATEWAY_LABEL, GROUP, GROUP_ID, GVPROXY, LABELS, NET_GROUP, NET_GROUP_ID, SSH_PORT, USER,
    USER_ID,
};
use rcc_report::{Code, Problem, quoted};
use std::path::Path;

/// The oldest macOS: Podman 5 and the Virtualization framework's file sharing want it.
const MACOS: (u32, u32, u32) = (13, 0, 0);
/// The oldest Podman: its machines were read. vfkit of before 0.6 makes its socket where gvproxy's profile lets nothing be sent to.
const PODMAN: (u32, u32, u32) = (5, 8, 0);

/// A volume that shares the disk's space, and tells spellings apart.
const OWN_VOLUME: &str = "diskutil apfs addVolume \"$(diskutil info / | awk '/APFS Container/ { print $3 }')\" 'Case-sensitive APFS' src, and have projects in /Volumes/src";

/// All of them, in the order of the report.
pub const CHECKS: &[Check] = &[
    shared::USER,
    Check {
        code: Code::CHECK_MACOS,
        name: "macOS",
        part: Part::Launch,
        setup: None,
        why: "The agents' Linux machine is run by Apple's Virtualization framework.",
        by_hand: "softwareupdate --install --all --restart; on an Apple processor, rcc of that processor.",
        judge: |facts| on_a_mac(facts, macos),
    },
    Check {
        code: Code::CHECK_MAC_PODMAN,
        name: "podman",
        part: Part::Launch,
        setup: None,
        why: "It makes and runs the machine, and the containers in it.",
        by_hand: "brew install podman, or Podman's own installer, whose program only root can write.",
        judge: |facts| on_a_mac(facts, podman),
    },
    Check {
        code: Code::CHECK_MAC_ACCOUNTS,
        name: "accounts",
        part: Part::Whole,
        setup: Some("makes the hidden user and both groups"),
        why: "pf tells the gateway by its user, and the machine's traffic by the group of the process that carries it. Who \
              shares one of these ids is taken for it.",
        by_hand: "Nothing: what setup does is bound together.",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.accounts, accounts)),
    },
    Check {
        code: Code::CHECK_MAC_DAEMONS,
        name: "launchd",
        part: Part::Whole,
        setup: Some("loads the daemons, now and with each start of the Mac"),
        why: "They put the firewall in force before anybody logs in, keep it so, and run the gateway.",
        by_hand: "sudo launchctl bootstrap system /Library/LaunchDaemons/dev.rcc.firewall.plist, and likewise the others.",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.daemons, |all| daemons(all))),
    },
    Check {
        code: Code::CHECK_PF,
        name: "pf",
        part: Part::Whole,
        setup: Some("turns pf on, and loads rcc's anchor"),
        why: "pf's anchor lets the machine's traffic reach the gateway and nothing else. Only root can ask pf, so its own \
              service reads it back; the gateway's canary proves it once more before each session.",
        by_hand: "sudo pfctl -E; and /etc/pf.conf must have the line: anchor \"com.apple/*\"",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.pf, pf)),
    },
    Check {
        code: Code::CHECK_GVPROXY,
        name: "gvproxy",
        part: Part::Launch,
        setup: Some("installs it with its group and bit"),
        why: "All that the machine sends leaves through this process. Without the group's bit, pf does not know it.",
        by_hand: "Nothing: it is installed with the version that was pinned.",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.shim, |found| shim(found.as_ref()))),
    },
    Check {
        code: Code::CHECK_MAC_BOUND,
        name: "bound traffic",
        part: Part::Launch,
        setup: Some("turns pf on, and loads rcc's anchor"),
        why: "Nobody but root can ask pf, so it is tried: gvproxy's group must be refused a port of this Mac's loopback at \
              which the same connection without the group comes about.",
        by_hand: "/usr/local/libexec/rcc/VERSION/gvproxy rcc-probe PORT, with a port at which somebody listens: 0 is refused.",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.bound, |bound| is_bound(*bound))),
    },
    Check {
        code: Code::CHECK_MACHINE,
        name: "machine",
        part: Part::Launch,
        setup: None,
        why: "The agents' machine is their own: another would have your other containers in it. Who is root in it sees what \
              it sees of the Mac, so that must be projects alone.",
        by_hand: "rcc makes it at the first start; the hint has the command that removes it.",
        judge: |facts| on_a_mac(facts, |mac| machine(facts, mac)),
    },
    shared::POLICY,
    shared::GATEWAY,
    shared::DISK,
    Check {
        code: Code::CHECK_FILE_SYSTEM,
        name: "file systems",
        part: Part::Whole,
        setup: None,
        why: "git, npm and compilers want links, modes and locks in the project. Where `.ENVRC` is `.envrc`, as on a Mac's usual \
              volume, what covers the one does not cover the other.",
        by_hand: "Have projects on a volume of case-sensitive APFS: Disk Utility, Add Volume.",
        judge: file_systems,
    },
    Check {
        code: Code::CHECK_MAC_FOLDERS,
        name: "folders",
        part: Part::Whole,
        setup: None,
        why: "What an agent writes into a folder that a cloud copies away leaves this Mac past the policy; and macOS asks \
              before a program may read Desktop, Documents, Downloads or another volume.",
        by_hand: "mkdir -p ~/src, and have projects there.",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.folders, |all| folders(all))),
    },
    shared::RESOLVERS,
    shared::MADE_UP,
    shared::PROXY,
    Check {
        code: Code::CHECK_MAC_NETWORK,
        name: "other filters",
        part: Part::Whole,
        setup: None,
        why: "A VPN, a filter or a split DNS decides beside pf what the gateway reaches, and whom it asks for names.",
        by_hand: "Allow the user _rcc in it; resolvers = […] in the policy for names of a VPN's.",
        judge: |facts| on_a_mac(facts, |mac| of(&mac.network, network)),
    },
    Check {
        code: Code::CHECK_NIX,
        name: "nix",
        part: Part::Whole,
        setup: None,
        why: "A store that one user owns can be changed by whatever runs as that user; who is trusted by the daemon is as \
              good as root. Nothing of a project's is built on the Mac itself.",
        by_hand: "The multi-user installation; no names in trusted-users.",
        judge: nix,
    },
];

fn on_a_mac(facts: &Facts, judge: impl FnOnce(&MacOs) -> Outcome) -> Outcome {
    facts.macos.as_ref().map_or_else(|| Outcome::Unknown("nothing was found out of macOS".into()), judge)
}

/// The line by which setup does all that it can.
fn setup() -> String {
    probe::setup_command()
}

fn macos(mac: &MacOs) -> Outcome {
    let mut problems = Vec::new();
    let mut problem = |what: &str, remedy: &str| {
        problems.push(Problem::new(Code::CHECK_MACOS, format!("macOS {}", mac.version), what, remedy));
    };
    match version::of(&mac.version) {
        None => return Outcome::Unknown(format!("macOS calls itself `{}`", mac.version)),
        Some(found) if found < MACOS => {
            problem("rcc needs macOS 13 or later", "softwareupdate --install --all --restart");
        }
        Some(_) => {}
    }
    match mac.hypervisor {
        // In a virtual machine the kernel may not even have the word for it.
        Some(false) | None if mac.virtual_machine => problem(
            "this is a virtual machine that can't run another one",
            "run rcc on the Mac itself; nested machines want an M3 or later, and macOS 15",
        ),
        None => return Outcome::Unknown("the kernel does not say whether it runs virtual machines".into()),
        Some(false) => problem("this processor can't run virtual machines", "use a Mac of 2018 or later"),
        Some(true) => {}
    }
    if mac.translated {
        problem("rcc runs translated by Rosetta", "install rcc for Apple processors: arch -arm64 brew reinstall rcc");
    }
    fails(problems, mac.version.clone())
}

fn podman(mac: &MacOs) -> Outcome {
    of(&mac.podman, |podman| {
        let Some(podman) = podman else {
            let what = "not found in /opt/podman/bin, /opt/homebrew/bin, /usr/local/bin";
            return Outcome::Fail(vec![Problem::new(
                Code::CHECK_MAC_PODMAN,
                "podman",
                what,
                Family::MacOs.install("podman"),
            )]);
        };
        match version::of(&podman.version) {
            None => return Outcome::Unknown(format!("podman says `{}`", podman.version)),
            Some(found) if found < PODMAN => {
                let what = "rcc was written for podman 5.8 and later";
                let remedy = Family::MacOs.upgrade("podman");
                return Outcome::Fail(vec![Problem::new(Code::CHECK_MAC_PODMAN, &podman.version, what, remedy)]);
            }
            Some(_) => {}
        }
        let place = podman.program.writable_by_others.as_ref().map(|place| {
            let whose = if podman.homebrew { "whoever installed Homebrew can replace it" } else { "others than root can replace it" };
            let remedy = "Podman's own installer has it where only root writes: sudo installer -pkg podman-installer-macos-*.pkg -target /";
            Problem::new(Code::CHECK_MAC_PODMAN, place.display().to_string(), format!("{whose}, and with it what starts the machine"), remedy)
        });
        warns(place.into_iter().collect(), format!("{}, {}", podman.program.path.display(), podman.version))
    })
}

fn accounts(found: &Accounts) -> Outcome {
    let mut problems = Vec::new();
    let mut problem = |subject: &str, what: String, remedy: String| {
        problems.push(Problem::new(Code::CHECK_MAC_ACCOUNTS, subject, what, remedy));
    };
    match &found.user {
        None => problem(USER, "there is no such user, which the gateway runs as".into(), setup()),
        Some(user) => {
            let no_shell = user.shell.as_deref().is_some_and(|shell| Path::new(shell).ends_with("false"));
            if (user.id, user.gid) != (Some(USER_ID), Some(GROUP_ID)) {
                problem(USER, format!("its ids are not {USER_ID} and {GROUP_ID}"), setup());
            } else if !user.hidden || !no_shell {
                problem(USER, "it is not hidden, or may log in".into(), setup());
            }
        }
    }
    for (name, id, group) in [(GROUP, GROUP_ID, &found.group), (NET_GROUP, NET_GROUP_ID, &found.net_group)] {
        match group {
            None => problem(name, "there is no such group".into(), setup()),
            Some(group) if group.id != Some(id) => problem(name, format!("its id is not {id}"), setup()),
            Some(group) if !group.members.is_empty() => problem(
                name,
                format!("it has members, whose programs may take it: {}", group.members.join(", ")),
                format!(
                    "sudo dscl . -delete /Groups/{name} GroupMembership && sudo dscl . -delete /Groups/{name} GroupMembers"
                ),
            ),
            Some(_) => {}
        }
    }
    for (kind, names) in [("user", &found.same_user_id), ("group", &found.same_group_id)] {
        for name in names {
            let record = if kind == "user" { "Users" } else { "Groups" };
            let remedy = format!(
                "see whose it is, and give it another id: dscl . -read {}",
                quoted(format!("/{record}/{name}"))
            );
            problem(name, format!("this {kind} has an id of rcc's"), remedy);
        }
    }
    fails(problems, format!("{USER}, {NET_GROUP}"))
}

fn daemons(all: &[Daemon]) -> Outcome {
    let mut problems = Vec::new();
    for label in LABELS {
        let mut problem =
            |what: String, remedy: String| problems.push(Problem::new(Code::CHECK_MAC_DAEMONS, label, what, remedy));
        let Some(daemon) = all.iter().find(|daemon| daemon.label == label) else {
            problem("launchd has not loaded it".into(), setup());
            continue;
        };
        let ours = |path: Option<&Path>, folder: &str| path.is_some_and(|path| path.starts_with(folder));
        if !ours(daemon.path.as_deref(), "/Library/LaunchDaemons") && !ours(daemon.path.as_deref(), "/nix/store") {
            problem(
                "it was not loaded from where setup has it".into(),
                format!("sudo launchctl bootout system/{label} && {}", setup()),
            );
        } else if !daemon.running && [FIREWALL_LABEL, GATEWAY_LABEL].contains(&label) {
            let ended = daemon.last_exit.map_or(String::new(), |code| format!("; it last ended with {code}"));
            problem(
                format!("it does not run{ended}"),
                format!(
                    "sudo launchctl kickstart system/{label}; tail /var/log/rcc-firewall.log /var/log/rcc/gateway.jsonl"
                ),
            );
        }
    }
    fails(problems, "firewall, gateway and status are loaded")
}

fn pf(found: &Pf) -> Outcome {
    match found {
        Pf::Silent(why) => Outcome::Fail(vec![Problem::new(
            Code::CHECK_PF,
            ANCHOR,
            format!("root's status service does not answer, so nobody here can tell what pf does: {why}"),
            setup(),
        )]),
        Pf::Answers { state, wrong } if state == "in force" && wrong.is_empty() => pass(format!("in force, {ANCHOR}")),
        Pf::Answers { state, wrong } => {
            let wrong = if wrong.is_empty() { state.clone() } else { wrong.join("; ") };
            Outcome::Fail(vec![Problem::new(Code::CHECK_PF, ANCHOR, wrong, setup())])
        }
    }
}

fn shim(found: Option<&crate::facts::Shim>) -> Outcome {
    let problem =
        |subject: String, what: String| Outcome::Fail(vec![Problem::new(Code::CHECK_GVPROXY, subject, what, setup())]);
    let Some(shim) = found else { return problem("gvproxy".into(), "rcc's is not installed".into()) };
    let path = shim.path.display().to_string();
    if (shim.uid, shim.gid, shim.mode) != (0, NET_GROUP_ID, 0o2755) {
        let is = format!("it is {}:{} {:o}", shim.uid, shim.gid, shim.mode);
        return problem(
            path,
            format!("{is}, and must be 0:{NET_GROUP_ID} 2755, or pf does not know what leaves through it"),
        );
    }
    match &shim.gvproxy {
        None => problem(path, "the pinned gvproxy beside it does not run".into()),
        Some(said) if !said.split(|c: char| !c.is_ascii_digit() && c != '.').any(|word| word == GVPROXY) => {
            problem(path, format!("gvproxy says `{said}`, and {GVPROXY} was pinned"))
        }
        Some(said) => pass(format!("{said}, group {NET_GROUP}")),
    }
}

fn is_bound(bound: bool) -> Outcome {
    if bound {
        return pass("pf refuses the machine what is not the gateway");
    }
    let what = "pf lets the machine's traffic through: what an agent sends could go anywhere";
    Outcome::Fail(vec![Problem::new(Code::CHECK_MAC_BOUND, NET_GROUP, what, setup())])
}

fn machine(facts: &Facts, mac: &MacOs) -> Outcome {
    of(&mac.machine, |machine| {
        let Some(machine) = machine else { return pass("none yet; the first session makes it") };
        let mut problems = Vec::new();
        let anew = "rcc machine remove    (with what agents keep in it; the next session makes it anew)";
        let mut problem = |subject: String, what: &str, remedy: &str| {
            problems.push(Problem::new(Code::CHECK_MACHINE, subject, what, remedy));
        };
        match machine.provider.as_deref() {
            Some("applehv") => {}
            other => {
                problem(other.unwrap_or("none").into(), "rcc was read for Apple's own framework alone (applehv)", anew);
            }
        }
        if machine.rootful {
            problem("rootful".into(), "its containers are root's in it", anew);
        }
        if machine.ssh_port.is_some_and(|port| port != u32::from(SSH_PORT)) {
            problem(
                format!("port {}", machine.ssh_port.unwrap_or_default()),
                "pf lets Podman's ssh in by another port",
                anew,
            );
        }
        let home = facts.person.get().ok().and_then(|person| person.home.clone());
        for mount in &machine.mounts {
            // The launcher takes no other as a project's.
            let why = home
                .as_ref()
                .map_or(Some("nobody knows your home folder"), |home| rcc_host::macos::no_project(&mount.source, home));
            if let Some(why) = why {
                let place = mount.source.display().to_string();
                let forget = format!("rcc machine forget {}", quoted(&place));
                problem(place, &format!("the machine sees it, and it is no project: {why}"), &forget);
            }
        }
        fails(
            problems,
            format!("{}, sees {} folders", machine.provider.as_deref().unwrap_or_default(), machine.mounts.len()),
        )
    })
}

fn file_systems(facts: &Facts) -> Outcome {
    of(&facts.places, |places| {
        let (mut lacking, mut odd) = (Vec::new(), Vec::new());
        for place in places {
            let path = place.path.display().to_string();
            let problem = |what: String, remedy: String| Problem::new(Code::CHECK_FILE_SYSTEM, &path, what, remedy);
            if place.read_only {
                lacking.push(problem(
                    format!("the {} can't be written", place.of),
                    format!("mount | grep -F {}", quoted(&path)),
                ));
            } else if place.kind != "apfs" {
                let what = match place.kind.as_str() {
                    "hfs" => "an old file system, which git and npm know",
                    "msdos" | "exfat" | "ntfs" => {
                        "it has no modes and no links: git and npm break, and every file can be run"
                    }
                    "smbfs" | "nfs" | "afpfs" | "webdav" => "another machine can write it unseen",
                    _ => "nothing is known of it",
                };
                odd.push(problem(
                    format!("the {} lies in {}; {what}", place.of, place.kind),
                    format!("git clone {} ~/src/project && cd ~/src/project", quoted(&path)),
                ));
            }
        }
        let folders = facts.macos.as_ref().and_then(|mac| mac.folders.get().ok()).into_iter().flatten();
        for folder in folders.filter(|folder| folder.of == "project" && folder.case_sensitive == Some(false)) {
            let what = "names that differ in case are one there, and the machine's kernel does not know it: a protected file could be written by another spelling";
            lacking.push(Problem::new(Code::CHECK_FILE_SYSTEM, folder.path.display().to_string(), what, OWN_VOLUME));
        }
        let kinds: Vec<String> = places.iter().map(|p| format!("{}: {}", p.of, p.kind)).collect();
        if lacking.is_empty() { warns(odd, kinds.join(", ")) } else { Outcome::Fail(lacking) }
    })
}

fn folders(all: &[crate::facts::AppleFolder]) -> Outcome {
    let mut problems = Vec::new();
    for folder in all {
        let path = folder.path.display().to_string();
        let elsewhere = || format!("mkdir -p ~/src && mv {} ~/src/", quoted(&path));
        if let Some(cloud) = &folder.synced {
            let what = format!("{cloud} copies what is written into this {} away, past the policy", folder.of);
            problems.push(Problem::new(Code::CHECK_MAC_FOLDERS, &path, what, elsewhere()));
        } else if let Some(place) = &folder.guarded {
            let what = format!(
                "it lies in {place}, so macOS asks you before the machine may read it, and an update asks again"
            );
            problems.push(Problem::new(Code::CHECK_MAC_FOLDERS, &path, what, elsewhere()));
        }
    }
    warns(problems, "neither guarded nor copied away")
}

fn network(found: &crate::facts::MacNetwork) -> Outcome {
    let mut problems = Vec::new();
    let mut problem = |subject: &str, what: &str, remedy: &str| {
        problems.push(Problem::new(Code::CHECK_MAC_NETWORK, subject, what, remedy));
    };
    for extension in &found.extensions {
        problem(
            extension,
            "this network extension is on: a filter may deny the gateway without a word, a VPN or DNS proxy may answer in its place",
            "if names or connections fail in sessions, allow the user _rcc in it; nothing else needs the network",
        );
    }
    for (domain, server) in &found.split {
        problem(
            domain,
            &format!(
                "only {server} answers these names (split DNS), and the gateway asks the machine's general resolvers"
            ),
            "if agents are to reach them: resolvers = [\"ADDRESS\"] in /etc/rcc/policy.toml",
        );
    }
    let tunnel = found.tunnel.iter().chain(&found.vpns).cloned().collect::<Vec<_>>();
    let note = match (tunnel.is_empty(), found.application_firewall) {
        (true, Some(1..)) => "none; the application firewall is on, which is of what comes in".to_owned(),
        (true, _) => "none".to_owned(),
        (false, _) => format!("VPN: {}", tunnel.join(", ")),
    };
    warns(problems, note)
}

fn nix(facts: &Facts) -> Outcome {
    // The sandbox is off by default here, and nothing of a project's is built on the Mac.
    let known = |nix: &Nix| Nix { sandbox: None, ..nix.clone() };
    of(&facts.nix, |nix| match nix.as_ref().map(known) {
        None => pass("not installed; sessions use an image"),
        Some(nix) => {
            let what = nix.version.clone().unwrap_or_else(|| "installed".to_owned());
            let kind = if nix.multi_user { "multi-user" } else { "one user's" };
            warns(super::around::weak(facts, &nix), format!("{what}, {kind}"))
        }
    })
}
