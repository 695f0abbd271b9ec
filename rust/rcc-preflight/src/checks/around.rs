//! What is around: systemd, disks, Nix, Windows, containers.

use super::{Outcome, family, of, pass, system, warns};
use crate::facts::{Facts, Nix};
use crate::system::Family;
use crate::version;
use rcc_report::{Code, Problem};

/// Less than this and no session starts, in bytes.
const NO_SPACE: u64 = 16 << 20;
/// Less than this is little.
const LITTLE_SPACE: u64 = 1 << 30;

pub fn systemd(facts: &Facts) -> Outcome {
    of(&facts.surroundings, |around| {
        if around.systemd {
            return pass("runs");
        }
        Outcome::Warn(vec![Problem::new(
            Code::CHECK_SYSTEMD,
            "systemd",
            "it did not start this machine, so gateway and firewall don't come back after the next start",
            "after each start of the machine: sudo /usr/local/bin/rcc setup",
        )])
    })
}

pub fn disk(facts: &Facts) -> Outcome {
    of(&facts.places, |places| {
        let (mut none, mut little) = (Vec::new(), Vec::new());
        for place in places {
            let problem = |what: &str| {
                let what = format!("{} MiB are free for the {}; {what}", place.free >> 20, place.of);
                let path = place.path.display().to_string();
                let look =
                    format!("rcc home du\nsudo du -xh --max-depth=2 {} | sort -h | tail", rcc_report::quoted(&path));
                Problem::new(Code::CHECK_DISK, path, what, look)
            };
            if place.free < NO_SPACE {
                none.push(problem("a session needs 16"));
            } else if place.free < LITTLE_SPACE {
                little.push(problem("an agent fills that soon"));
            }
        }
        if none.is_empty() { warns(little, free(facts)) } else { Outcome::Fail(none) }
    })
}

fn free(facts: &Facts) -> String {
    let places = facts.places.get().map(Vec::as_slice).unwrap_or_default();
    places.iter().map(|p| format!("{}: {} GiB free", p.of, p.free >> 30)).collect::<Vec<_>>().join(", ")
}

pub fn file_systems(facts: &Facts) -> Outcome {
    of(&facts.places, |places| {
        let (mut lacking, mut odd) = (Vec::new(), Vec::new());
        for place in places {
            let path = place.path.display().to_string();
            let problem = |what: &str, remedy: String| {
                let what = format!("the {} lies in {}; {what}", place.of, place.kind);
                Problem::new(Code::CHECK_FILE_SYSTEM, &path, what, remedy)
            };
            let quoted = rcc_report::quoted(&path);
            let remount =
                |option: &str| format!("sudo mount -o remount,{option} \"$(findmnt -n -o TARGET -T {quoted})\"");
            let elsewhere = || {
                match place.of.as_str() {
                "home" => "sudo install -d -o \"$USER\" /var/lib/rcc-homes/\"$USER\" && mkdir -p ~/.local/share/rcc && sudo mount --bind /var/lib/rcc-homes/\"$USER\" ~/.local/share/rcc".to_owned(),
                _ => format!("git clone {quoted} ~/project && cd ~/project"),
            }
            };
            if place.read_only {
                lacking.push(problem("nothing can be written there", remount("rw")));
            } else if place.noexec && place.of == "home" {
                lacking.push(problem("programs can't be run there, and the agent's lies there", remount("exec")));
            }
            let kind = place.kind.as_str();
            let what = match kind {
                "vfat" | "exfat" | "msdos" | "ntfs" | "ntfs3" | "fuseblk" => {
                    "it has no modes and no links: git and npm break, and every file can be run"
                }
                "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "afs" | "ceph" => {
                    "another machine can write it unseen, and its server knows no subordinate ids"
                }
                "ecryptfs" => "names longer than 143 letters fail",
                _ if kind.starts_with("fuse.") => "root of the user namespace may be kept out of it",
                _ => continue,
            };
            odd.push(problem(what, elsewhere()));
        }
        let kinds: Vec<String> = places.iter().map(|p| format!("{}: {}", p.of, p.kind)).collect();
        if lacking.is_empty() { warns(odd, kinds.join(", ")) } else { Outcome::Fail(lacking) }
    })
}

pub fn nix(facts: &Facts) -> Outcome {
    of(&facts.nix, |nix| match nix {
        None => pass("not installed; sessions use the host's /usr"),
        Some(nix) => warns(weak(facts, nix), nix.version.as_deref().unwrap_or("installed").to_owned()),
    })
}

/// What of it weakens rcc.
pub fn weak(facts: &Facts, nix: &Nix) -> Vec<Problem> {
    let nixos = family(facts) == Family::NixOs;
    let restart = match family(facts) {
        Family::MacOs => "sudo launchctl kickstart -k system/org.nixos.nix-daemon",
        _ => "sudo systemctl restart nix-daemon",
    };
    let setting = |line: &str, option: &str| {
        if nixos {
            format!("in configuration.nix: nix.settings.{option}; then: sudo nixos-rebuild switch")
        } else {
            format!("echo '{line}' | sudo tee -a /etc/nix/nix.conf && {restart}")
        }
    };
    let mut problems = Vec::new();
    let mut problem = |subject: &str, what: &str, remedy: String| {
        problems.push(Problem::new(Code::CHECK_NIX, subject, what, remedy));
    };
    if nix.version.as_deref().and_then(version::of).is_some_and(|v| v < (2, 8, 0)) {
        problem("nix", "it is older than any that flakes were tried with (2.8)", family(facts).upgrade("nix"));
    }
    if !nix.flakes {
        let (line, option) = (
            "extra-experimental-features = nix-command flakes",
            "experimental-features = [ \"nix-command\" \"flakes\" ]",
        );
        problem("flakes", "they are off, so a project's flake can't be its toolchain", setting(line, option));
    }
    if matches!(nix.sandbox.as_deref(), Some("false" | "relaxed")) {
        problem(
            "sandbox",
            "builds are not isolated: a project's code would run on the host",
            setting("sandbox = true", "sandbox = true"),
        );
    }
    if !nix.multi_user {
        let remedy = "curl -L https://nixos.org/nix/install | sh -s -- --daemon, after moving /nix away";
        problem("/nix/store", "its owner is a user, so that any program of theirs can change it", remedy.to_owned());
    }
    let person = facts.person.get().ok();
    let is_me = |entry: &&String| {
        let group = entry.strip_prefix('@');
        *entry == "*"
            || person.is_some_and(|p| match group {
                Some(group) => p.groups.iter().any(|g| g == group),
                None => p.name.as_deref() == Some(entry.as_str()),
            })
    };
    if let Some(entry) = nix.trusted.iter().find(is_me) {
        problem(
            "trusted-users",
            &format!("`{entry}` makes you as good as root to the Nix daemon, and what runs as you"),
            if nixos {
                "in configuration.nix: nix.settings.trusted-users = [ \"root\" ]; then: sudo nixos-rebuild switch"
                    .to_owned()
            } else {
                // BSD's sed wants a suffix, GNU's takes it: with one both do the same.
                format!(
                    "sudo sed -i.old -E 's/^(extra-)?trusted-users *=.*/trusted-users = root/' /etc/nix/nix.conf && {restart}"
                )
            },
        );
    }
    problems
}

pub fn wsl(facts: &Facts) -> Outcome {
    of(&facts.surroundings, |around| match around.wsl {
        None => pass("not in Windows"),
        Some(1) => Outcome::Fail(vec![Problem::new(
            Code::CHECK_WSL,
            "WSL 1",
            "it has no Linux kernel, so no namespaces and no firewall",
            format!("in PowerShell: wsl --set-version {} 2", distribution(facts)),
        )]),
        Some(_) if !around.systemd => Outcome::Warn(vec![Problem::new(
            Code::CHECK_WSL,
            "WSL 2",
            "systemd is off, so that there is no runtime folder, and gateway and firewall don't start by themselves",
            "printf '[boot]\\nsystemd=true\\n' | sudo tee -a /etc/wsl.conf, then in PowerShell: wsl --shutdown",
        )]),
        Some(_) => pass("WSL 2 with systemd"),
    })
}

fn distribution(facts: &Facts) -> String {
    let id = system(facts).id;
    let mut letters = id.chars();
    letters.next().map_or_else(|| "DISTRIBUTION".into(), |first| first.to_uppercase().chain(letters).collect())
}

pub fn container(facts: &Facts) -> Outcome {
    of(&facts.surroundings, |around| {
        let Some(kind) = &around.container else {
            return pass(around.ci.as_ref().map_or_else(|| "none".to_owned(), |ci| format!("none; a runner of {ci}")));
        };
        Outcome::Warn(vec![Problem::new(
            Code::CHECK_CONTAINER,
            kind,
            "what runs around this container is not protected: the firewall proven here is the container's own",
            "leave it (exit), and on the machine itself: rcc check",
        )])
    })
}
