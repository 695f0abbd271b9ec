//! Recorded machines and what is said of them (docs/machines.md says where each fact is from); and for each check a machine
//! on which it does not pass, with the remedy of each distribution.

use rcc_preflight::checks::of_system;
use rcc_preflight::{Checked, Facts, Family, Outcome, Report, Verdict, explain};
use rcc_report::Code;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

fn recorded(name: &str) -> Value {
    let path = format!("{}/tests/cases/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut machine: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    agree(&mut machine);
    machine
}

/// The gateway of a machine that is set up has the policy that is there.
fn agree(machine: &mut Value) {
    let policy = machine.pointer("/policy/known/Ok").and_then(Value::as_str).map(str::to_owned);
    let place = machine.pointer_mut("/gateway/known/opens/fingerprint");
    if let (Some(policy), Some(place)) = (policy, place) {
        *place = json!(rcc_policy::parse(&policy, "p").unwrap().fingerprint().to_string());
    }
}

fn facts(value: Value) -> Facts {
    serde_json::from_value(value).unwrap()
}

fn golden(name: &str) -> Verdict {
    let facts = facts(recorded(name));
    let report = Report::of(&facts);
    // The line that sets up names this program's own folder.
    let text = report.text().replace(&rcc_preflight::probe::setup_command(), "sudo …/rcc setup");
    insta::assert_snapshot!(name.replace('.', "_"), text);
    report.verdict()
}

#[test]
fn debian_that_is_set_up() {
    assert_eq!(golden("debian-13-ready"), Verdict::Ready);
}

#[test]
fn ubuntu_as_it_comes() {
    assert_eq!(golden("ubuntu-24.04-fresh"), Verdict::NotReady);
}

#[test]
fn fedora_as_it_comes() {
    assert_eq!(golden("fedora-41-fresh"), Verdict::NotReady);
}

#[test]
fn arch_as_it_comes() {
    assert_eq!(golden("arch-fresh"), Verdict::NotReady);
}

#[test]
fn nixos_as_it_comes() {
    assert_eq!(golden("nixos-23.05-fresh"), Verdict::NotReady);
}

#[test]
fn windows_subsystem_as_it_comes() {
    assert_eq!(golden("wsl2-ubuntu-24.04-fresh"), Verdict::NotReady);
}

#[test]
fn macos_as_it_comes() {
    assert_eq!(golden("macos-14-arm64"), Verdict::NotReady);
}

#[test]
fn macos_that_is_set_up() {
    assert_eq!(golden("macos-15-ready"), Verdict::Ready);
}

/// What makes a ready machine sick: where, and what stands there.
fn sick() -> Vec<(&'static str, Code, &'static str, Value)> {
    let program = |path: &str, setuid: bool| json!({ "path": path, "writable_by_others": null, "setuid": setuid, "capabilities": false });
    let theirs =
        json!({ "path": "/usr/bin/podman", "writable_by_others": "/usr/bin", "setuid": false, "capabilities": false });
    let place = |of: &str, kind: &str, free: u64, noexec: bool, read_only: bool| json!([{ "of": of, "path": "/home/alice/it's", "kind": kind, "free": free, "noexec": noexec, "read_only": read_only }]);
    let much = 40_u64 << 30;
    let range = |owner: &str, start: u64| json!({ "owner": owner, "start": start, "count": 65536 });
    let nix = |version: &str, multi_user: bool, flakes: bool, sandbox: &str, trusted: &str| json!({ "version": version, "multi_user": multi_user, "flakes": flakes, "sandbox": sandbox, "trusted": [trusted] });
    let refuses = |code: u32| json!({ "refuses": { "code": code, "subject": "s", "what": "w", "remedy": "r" } });
    vec![
        ("root", Code::RUNNING_AS_ROOT, "/person/known/uid", json!(0)),
        ("setuid", Code::RUNNING_AS_ROOT, "/person/known/effective", json!(0)),
        ("no account", Code::RUNTIME_DIR, "/person/known/name", json!(null)),
        ("no home", Code::RUNTIME_DIR, "/person/known/home", json!(null)),
        ("no runtime folder", Code::RUNTIME_DIR, "/runtime/known/path", json!(null)),
        ("old kernel", Code::KERNEL_TOO_OLD, "/system/known/kernel", json!("5.10.0-30-amd64")),
        ("no user namespaces in the kernel", Code::USERNS_DENIED, "/user_namespaces/known/max", json!(null)),
        ("no user namespaces allowed", Code::USERNS_DENIED, "/user_namespaces/known/max", json!(0)),
        ("user namespaces for root alone", Code::USERNS_DENIED, "/user_namespaces/known/unprivileged", json!(0)),
        ("AppArmor without a profile", Code::USERNS_DENIED, "/user_namespaces/known/apparmor_restricts", json!(1)),
        ("no seccomp", Code::CHECK_SECCOMP, "/seccomp/known", json!(false)),
        ("no podman", Code::PODMAN_MISSING, "/programs/known/podman", json!(null)),
        ("no crun", Code::PODMAN_MISSING, "/programs/known/crun", json!(null)),
        ("no conmon", Code::PODMAN_MISSING, "/programs/known/conmon", json!(null)),
        ("no newuidmap", Code::PODMAN_MISSING, "/programs/known/newuidmap", json!(null)),
        ("a podman that others write", Code::PODMAN_MISSING, "/programs/known/podman", theirs),
        (
            "newuidmap without its bit",
            Code::CHECK_MAP_BITS,
            "/programs/known/newuidmap",
            program("/usr/bin/newuidmap", false),
        ),
        ("no subordinate ids", Code::SUBIDS_MISSING, "/ids/known/uid/ranges", json!([])),
        ("too few subordinate ids", Code::SUBIDS_MISSING, "/ids/known/gid/ranges/0/count", json!(65535)),
        (
            "ids of another's",
            Code::CHECK_IDS_OVERLAP,
            "/ids/known/uid/ranges",
            json!([range("alice", 100_000), range("bob", 165_535)]),
        ),
        ("an account in the range", Code::CHECK_IDS_OVERLAP, "/ids/known/gid/own", json!([["devs", 100_000]])),
        ("old podman", Code::CHECK_VERSIONS, "/versions/known/podman", json!("podman version 3.4.4")),
        ("old crun", Code::CHECK_VERSIONS, "/versions/known/crun", json!("crun version 0.17")),
        ("no nft", Code::FIREWALL_NFT, "/programs/known/nft", json!(null)),
        ("no nftables", Code::CHECK_NFTABLES, "/nftables/known", json!(false)),
        ("cgroup v1", Code::CHECK_CGROUPS, "/cgroup/known/unified", json!(false)),
        ("nothing delegated", Code::LIMIT_UNENFORCEABLE, "/cgroup/known/delegated", json!(["cpu"])),
        ("no systemd", Code::CHECK_SYSTEMD, "/surroundings/known/systemd", json!(false)),
        ("full disk", Code::CHECK_DISK, "/places/known", place("home", "ext4", 1 << 20, false, false)),
        ("nearly full disk", Code::CHECK_DISK, "/places/known", place("project", "ext4", 100 << 20, false, false)),
        ("read-only home", Code::CHECK_FILE_SYSTEM, "/places/known", place("home", "ext4", much, false, true)),
        ("home without exec", Code::CHECK_FILE_SYSTEM, "/places/known", place("home", "tmpfs", much, true, false)),
        ("NFS home", Code::CHECK_FILE_SYSTEM, "/places/known", place("home", "nfs4", much, false, false)),
        ("FUSE project", Code::CHECK_FILE_SYSTEM, "/places/known", place("project", "fuse.sshfs", much, false, false)),
        ("exFAT project", Code::CHECK_FILE_SYSTEM, "/places/known", place("project", "exfat", much, false, false)),
        ("encrypted home", Code::CHECK_FILE_SYSTEM, "/places/known", place("home", "ecryptfs", much, false, false)),
        (
            "no policy",
            Code::POLICY_UNREADABLE,
            "/policy/known",
            json!({ "Err": { "code": 105, "subject": "s", "what": "w", "remedy": "r" } }),
        ),
        ("a policy with a mistake", Code::POLICY_UNKNOWN_KEY, "/policy/known", json!({ "Ok": "alow = []\n" })),
        ("no system user", Code::FIREWALL_USER, "/surroundings/known/gateway_user", json!(false)),
        ("no gateway", Code::GATEWAY_ABSENT, "/gateway/known", refuses(401)),
        ("no firewall", Code::FIREWALL_UNPROVEN, "/gateway/known", refuses(906)),
        (
            "another policy's firewall",
            Code::FIREWALL_UNPROVEN,
            "/gateway/known/opens/fingerprint",
            json!("0123456789abcdef"),
        ),
        (
            "nftables.service",
            Code::CHECK_FIREWALLS,
            "/surroundings/known/firewalls",
            json!(["ufw", "nftables.service"]),
        ),
        ("no resolver", Code::CHECK_RESOLVERS, "/network/known/resolvers", json!([])),
        ("a VPN's own address", Code::CHECK_MADE_UP, "/network/known/made_up", json!(["198.18.0.1"])),
        ("a proxy", Code::CHECK_PROXY, "/network/known/proxies", json!(["https_proxy"])),
        ("old nix without flakes", Code::CHECK_NIX, "/nix/known", nix("2.4", true, false, "true", "root")),
        ("nix without a sandbox", Code::CHECK_NIX, "/nix/known", nix("2.24.9", true, true, "false", "root")),
        ("nix of one user", Code::CHECK_NIX, "/nix/known", nix("2.24.9", false, true, "true", "root")),
        ("a trusted user", Code::CHECK_NIX, "/nix/known", nix("2.24.9", true, true, "true", "@alice")),
        ("WSL 1", Code::CHECK_WSL, "/surroundings/known/wsl", json!(1)),
        ("a container", Code::CHECK_CONTAINER, "/surroundings/known/container", json!("lxc")),
    ]
}

/// The same of a Mac.
fn sick_macs() -> Vec<(&'static str, Code, &'static str, Value)> {
    let pf = |state: &str, wrong: &[&str]| json!({ "answers": { "state": state, "wrong": wrong } });
    let mut all = vec![
        ("root", Code::RUNNING_AS_ROOT, "/person/known/uid", json!(0)),
        ("old macOS", Code::CHECK_MACOS, "/macos/version", json!("12.7.6")),
        ("a Mac without virtual machines", Code::CHECK_MACOS, "/macos/hypervisor", json!(false)),
        ("translated", Code::CHECK_MACOS, "/macos/translated", json!(true)),
        ("no podman", Code::CHECK_MAC_PODMAN, "/macos/podman/known", json!(null)),
        ("old podman", Code::CHECK_MAC_PODMAN, "/macos/podman/known/version", json!("podman version 4.9.4")),
        (
            "a podman of somebody's",
            Code::CHECK_MAC_PODMAN,
            "/macos/podman/known/program/writable_by_others",
            json!("/opt/homebrew/Cellar/podman/5.8.0/bin/podman"),
        ),
        (
            "a podman of Homebrew's",
            Code::CHECK_MAC_PODMAN,
            "/macos/podman/known/program/writable_by_others",
            json!("/opt/homebrew"),
        ),
        ("no user", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/user", json!(null)),
        ("a user of another id", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/user/id", json!(501)),
        ("a user of the network's group", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/user/gid", json!(392)),
        ("a user that is shown", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/user/hidden", json!(false)),
        ("a user with a shell", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/user/shell", json!("/bin/zsh")),
        ("no group", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/net_group", json!(null)),
        ("a group of another id", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/net_group/id", json!(20)),
        (
            "a group with members",
            Code::CHECK_MAC_ACCOUNTS,
            "/macos/accounts/known/net_group",
            json!({ "id": 392, "members": ["alice"] }),
        ),
        ("another's id", Code::CHECK_MAC_ACCOUNTS, "/macos/accounts/known/same_group_id", json!(["o'hare"])),
        ("no daemons", Code::CHECK_MAC_DAEMONS, "/macos/daemons/known", json!([])),
        ("a firewall that ended", Code::CHECK_MAC_DAEMONS, "/macos/daemons/known/0/running", json!(false)),
        (
            "a gateway of somebody's file",
            Code::CHECK_MAC_DAEMONS,
            "/macos/daemons/known/1/path",
            json!("/Users/alice/gateway.plist"),
        ),
        ("nobody tells of pf", Code::CHECK_PF, "/macos/pf/known", json!({ "silent": "Connection refused" })),
        ("no anchor", Code::CHECK_PF, "/macos/pf/known", pf("absent", &[])),
        ("pf off", Code::CHECK_PF, "/macos/pf/known", pf("drifted", &["pf is off"])),
        ("in force, with something wrong", Code::CHECK_PF, "/macos/pf/known", pf("in force", &["a rule differs"])),
        ("no shim", Code::CHECK_GVPROXY, "/macos/shim/known", json!(null)),
        ("a shim without its bit", Code::CHECK_GVPROXY, "/macos/shim/known/mode", json!(0o755)),
        ("a shim of another group", Code::CHECK_GVPROXY, "/macos/shim/known/gid", json!(0)),
        ("a shim of alice's", Code::CHECK_GVPROXY, "/macos/shim/known/uid", json!(501)),
        ("no gvproxy", Code::CHECK_GVPROXY, "/macos/shim/known/gvproxy", json!(null)),
        ("another gvproxy", Code::CHECK_GVPROXY, "/macos/shim/known/gvproxy", json!("gvproxy version v0.8.90")),
        ("pf that lets it through", Code::CHECK_MAC_BOUND, "/macos/bound/known", json!(false)),
        ("a machine in qemu", Code::CHECK_MACHINE, "/macos/machine/known/provider", json!("qemu")),
        ("a rootful machine", Code::CHECK_MACHINE, "/macos/machine/known/rootful", json!(true)),
        ("a machine with another port", Code::CHECK_MACHINE, "/macos/machine/known/ssh_port", json!(22)),
        (
            "a machine that sees the home folder",
            Code::CHECK_MACHINE,
            "/macos/machine/known/mounts",
            json!([{ "source": "/Users/alice", "read_only": true }]),
        ),
        (
            "a machine that sees keys by another spelling",
            Code::CHECK_MACHINE,
            "/macos/machine/known/mounts",
            json!([{ "source": "/users/alice/.SSH", "read_only": true }]),
        ),
        (
            "a machine that sees the disk by another name",
            Code::CHECK_MACHINE,
            "/macos/machine/known/mounts",
            json!([{ "source": "/System/Volumes/Data", "read_only": true }]),
        ),
        (
            "a machine as Podman makes it",
            Code::CHECK_MACHINE,
            "/macos/machine/known/mounts",
            json!([{ "source": "/Users", "read_only": false }, { "source": "/private", "read_only": false }]),
        ),
    ];
    all.extend(sick_macs_around());
    all
}

/// What is wrong around one.
fn sick_macs_around() -> Vec<(&'static str, Code, &'static str, Value)> {
    let place = |kind: &str, free: u64, read_only: bool| json!([{ "of": "project", "path": "/Volumes/it's", "kind": kind, "free": free, "noexec": false, "read_only": read_only }]);
    let folder = |guarded: Value, synced: Value| json!([{ "of": "project", "path": "/Users/alice/Desktop/it's", "guarded": guarded, "synced": synced, "case_sensitive": true }]);
    let refuses = |code: u32| json!({ "refuses": { "code": code, "subject": "s", "what": "w", "remedy": "r" } });
    let nix = |version: &str, multi_user: bool, trusted: &str| json!({ "version": version, "multi_user": multi_user, "flakes": true, "sandbox": "false", "trusted": [trusted] });
    vec![
        (
            "no policy",
            Code::POLICY_UNREADABLE,
            "/policy/known",
            json!({ "Err": { "code": 105, "subject": "s", "what": "w", "remedy": "r" } }),
        ),
        ("no gateway", Code::GATEWAY_ABSENT, "/gateway/known", refuses(401)),
        ("full disk", Code::CHECK_DISK, "/places/known", place("apfs", 1 << 20, false)),
        ("read-only project", Code::CHECK_FILE_SYSTEM, "/places/known", place("apfs", 40 << 30, true)),
        ("exFAT project", Code::CHECK_FILE_SYSTEM, "/places/known", place("exfat", 40 << 30, false)),
        ("a project on a server", Code::CHECK_FILE_SYSTEM, "/places/known", place("smbfs", 40 << 30, false)),
        (
            "a project in iCloud",
            Code::CHECK_MAC_FOLDERS,
            "/macos/folders/known",
            folder(json!("Desktop"), json!("iCloud Drive")),
        ),
        (
            "a project on the desktop",
            Code::CHECK_MAC_FOLDERS,
            "/macos/folders/known",
            folder(json!("Desktop"), json!(null)),
        ),
        (
            "a project on a Mac's usual volume",
            Code::CHECK_FILE_SYSTEM,
            "/macos/folders/known/0/case_sensitive",
            json!(false),
        ),
        ("no resolver", Code::CHECK_RESOLVERS, "/network/known/resolvers", json!([])),
        ("a VPN's own address", Code::CHECK_MADE_UP, "/network/known/made_up", json!(["198.18.0.1"])),
        ("a proxy", Code::CHECK_PROXY, "/network/known/proxies", json!(["HTTPS"])),
        ("a filter", Code::CHECK_MAC_NETWORK, "/macos/network/known", json!({ "extensions": ["Little Snitch"] })),
        (
            "split DNS",
            Code::CHECK_MAC_NETWORK,
            "/macos/network/known",
            json!({ "split": [["corp.example.", "10.0.0.1"]] }),
        ),
        ("nix of one user", Code::CHECK_NIX, "/nix/known", nix("2.24.9", false, "root")),
        ("a trusted user", Code::CHECK_NIX, "/nix/known", nix("2.24.9", true, "@staff")),
    ]
}

/// A ready machine with one thing wrong.
fn with(path: &str, value: &Value) -> Value {
    one_wrong("debian-13-ready", path, value)
}

fn one_wrong(ready: &str, path: &str, value: &Value) -> Value {
    let mut machine = recorded(ready);
    *machine.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
    // An absent program is absent.
    if let Some(programs) = machine.pointer_mut("/programs/known").and_then(Value::as_object_mut) {
        programs.retain(|_, program| !program.is_null());
    }
    machine
}

type Sick = Vec<(&'static str, Code, &'static str, Value)>;

/// The codes of the checks that did not pass on one of them.
fn not_passed(ready: &str, sick: Sick) -> BTreeSet<Code> {
    let mut not_passed = BTreeSet::new();
    for (what, code, path, value) in sick {
        let report = Report::of(&facts(one_wrong(ready, path, &value)));
        let found: Vec<_> = report.checks.iter().filter(|c| !matches!(c.outcome, Outcome::Pass(_))).collect();
        let codes: BTreeSet<_> = found.iter().flat_map(|c| c.problems()).map(|p| p.code).collect();
        assert!(codes.contains(&code), "{what}: {codes:?}");
        assert_ne!(report.verdict(), Verdict::Ready, "{what}");
        not_passed.extend(found.iter().map(|c| c.check.code));
    }
    not_passed
}

#[test]
fn each_check_has_machines_on_which_it_does_not_pass() {
    for (ready, family, sick) in
        [("debian-13-ready", Family::Debian, sick()), ("macos-15-ready", Family::MacOs, sick_macs())]
    {
        let all: BTreeSet<_> = of_system(family).iter().map(|check| check.code).collect();
        assert_eq!(not_passed(ready, sick), all, "a check of {ready} that nothing fails");
    }
}

#[test]
fn what_is_unknown_of_a_mac_blocks() {
    let facts_of_it = ["accounts", "daemons", "pf", "podman", "shim", "bound", "machine", "network", "folders"];
    for fact in facts_of_it {
        let value = json!({ "unknown": "no answer within 3 s" });
        let machine = one_wrong("macos-15-ready", &format!("/macos/{fact}"), &value);
        assert_eq!(Report::of(&facts(machine.clone())).verdict(), Verdict::Unknown, "{fact}");
        let starts = rcc_preflight::checks::launch(&facts(machine));
        assert_eq!(starts.is_err(), ["podman", "shim", "bound", "machine"].contains(&fact), "{fact}: {starts:?}");
    }
    let mut machine = recorded("macos-15-ready");
    machine["macos"]["hypervisor"] = json!(null);
    assert_eq!(Report::of(&facts(machine.clone())).verdict(), Verdict::Unknown);
    // As GitHub's runners with Apple's processors are.
    machine["macos"]["virtual_machine"] = json!(true);
    assert_eq!(Report::of(&facts(machine.clone())).verdict(), Verdict::NotReady);
    machine.as_object_mut().unwrap().remove("macos");
    assert_eq!(Report::of(&facts(machine)).verdict(), Verdict::Unknown);
}

#[test]
fn each_remedy_of_a_mac_is_a_command() {
    let mut said = String::new();
    for (what, _, path, value) in sick_macs() {
        let report = Report::of(&facts(one_wrong("macos-15-ready", path, &value)));
        writeln!(said, "== {what}").unwrap();
        for problem in report.checks.iter().flat_map(Checked::problems) {
            // The line that sets up names this program's own folder.
            let remedy = problem.remedy.replace(&rcc_preflight::probe::setup_command(), "sudo …/rcc setup");
            writeln!(said, "{}: {}\n    {remedy}", problem.subject, problem.what).unwrap();
        }
    }
    insta::assert_snapshot!("remedies_of_a_mac", said);
}

#[test]
fn each_remedy_is_a_command_of_the_distribution_at_hand() {
    let mut said = String::new();
    for (what, _, path, value) in sick() {
        writeln!(said, "== {what}").unwrap();
        for id in ["debian", "fedora", "arch", "opensuse-tumbleweed", "alpine", "nixos", "gentoo"] {
            let mut machine = with(path, &value);
            machine["system"]["known"]["id"] = json!(id);
            machine["system"]["known"]["like"] = json!([]);
            let report = Report::of(&facts(machine));
            let remedies: Vec<_> = report.checks.iter().flat_map(Checked::problems).map(|p| p.remedy).collect();
            assert!(remedies.iter().all(|r| !r.trim().is_empty()), "{what} on {id}");
            writeln!(said, "{id}: {}", remedies.join("\n    ")).unwrap();
        }
    }
    insta::assert_snapshot!("remedies", said);
}

#[test]
fn a_policy_that_accepts_it_makes_missing_limits_a_warning() {
    let mut machine = with("/cgroup/known", &json!({ "unified": false, "delegated": [] }));
    assert_eq!(Report::of(&facts(machine.clone())).verdict(), Verdict::NotReady);
    let text = machine["policy"]["known"]["Ok"].as_str().unwrap().to_owned();
    machine["policy"]["known"]["Ok"] = json!(text + "[limits]\nunenforceable = \"warn\"\n");
    agree(&mut machine);
    assert_eq!(Report::of(&facts(machine)).verdict(), Verdict::Warnings);
}

#[test]
fn a_flush_is_no_matter_where_the_unit_brings_the_table_back() {
    let mut machine = with("/surroundings/known/firewalls", &json!(["nftables.service"]));
    assert_eq!(Report::of(&facts(machine.clone())).verdict(), Verdict::Warnings);
    machine["surroundings"]["known"]["firewall_unit"] = json!(true);
    assert_eq!(Report::of(&facts(machine)).verdict(), Verdict::Ready);
}

#[test]
fn a_resolver_that_makes_addresses_up_blocks_and_a_policy_that_counts_them_does_not() {
    let mut machine = with("/network/known/made_up", &json!(["198.18.0.2"]));
    machine["network"]["known"]["resolvers"] = json!(["198.18.0.2"]);
    assert_eq!(Report::of(&facts(machine.clone())).verdict(), Verdict::NotReady);
    let text = machine["policy"]["known"]["Ok"].as_str().unwrap().to_owned();
    machine["policy"]["known"]["Ok"] = json!(format!("fake_ip = \"198.18.0.0/15\"\n{text}"));
    agree(&mut machine);
    assert_eq!(Report::of(&facts(machine)).verdict(), Verdict::Ready);
}

#[test]
fn what_is_unknown_blocks_a_start_and_the_report() {
    let ready = recorded("debian-13-ready");
    rcc_preflight::checks::launch(&facts(ready.clone())).unwrap();
    for fact in ["person", "programs", "ids", "runtime", "user_namespaces", "seccomp", "system"] {
        let mut machine = ready.clone();
        machine[fact] = json!({ "unknown": "no answer within 3 s" });
        let problems = rcc_preflight::checks::launch(&facts(machine.clone())).unwrap_err();
        assert!(problems.iter().all(|p| p.code == Code::CHECK_UNKNOWN), "{fact}: {problems:?}");
        assert_eq!(Report::of(&facts(machine)).verdict(), Verdict::Unknown, "{fact}");
    }
    for fact in ["versions", "cgroup", "nftables", "surroundings", "places", "network", "nix", "policy", "gateway"] {
        let mut machine = ready.clone();
        machine[fact] = json!({ "unknown": "no answer within 3 s" });
        assert_eq!(Report::of(&facts(machine)).verdict(), Verdict::Unknown, "{fact}");
    }
}

#[test]
fn a_report_can_be_judged_again_and_every_code_is_explained() {
    let facts = facts(recorded("ubuntu-24.04-fresh"));
    let report = Report::of(&facts);
    let again: Facts = serde_json::from_value(report.json(&facts)["facts"].clone()).unwrap();
    assert_eq!(again, facts);
    for (code, _) in rcc_report::EXPLANATIONS {
        assert!(explain(&code.to_string(), Some(&report)).is_some());
    }
    assert_eq!(explain("RCC-099", None), None);
    insta::assert_snapshot!("explain_versions", explain("rcc-006", Some(&report)).unwrap());
    insta::assert_snapshot!("explain_programs", explain("RCC-301", Some(&report)).unwrap());
}

#[test]
fn an_old_podman_is_refused_with_the_escape_it_is_open_to() {
    let report = Report::of(&facts(with("/versions/known/podman", &json!("podman version 4.1.0"))));
    let text = report.text();
    assert!(text.contains("CVE-2022-2989") && text.contains("rcc was tried with podman 4.3"), "{text}");
}
