//! The steps against the model, cut off at each act; and the daemons' files against what launchd documents.

use super::model::{Cut, Model, State, Thing};
use super::{Request, daemons, install, place, prove, uninstall, unmanaged};
use crate::asker::Keep;
use crate::layout::FOLDER;
use crate::source::Program;
use crate::step::{Mode, Outcome, Step};
use rcc_proto::macos::{FIREWALL_LABEL, GATEWAY_LABEL, GATEWAY_SOCKET, LABELS, NET_GROUP_ID, USER_ID};
use rcc_report::{Code, Problem};
use std::collections::BTreeMap;

const BESIDE: &str = "/tmp/rcc-firewall";

fn request() -> Request {
    let program = |name| Program { name, bytes: name.as_bytes().to_vec() };
    let own = ["rcc", "rcc-gateway", "rcc-firewall", "rcc-setup", "gvproxy", "gvproxy.pinned"];
    let guests = ["rcc.linux", "rcc-hook.linux", "rcc-forward.linux"];
    Request {
        programs: own.into_iter().chain(guests).map(program).collect(),
        policy: "users = []\n".into(),
        restart: false,
    }
}

/// What holds at every instant: who carries traffic or decides on it is bound by pf.
fn bound(state: &State) {
    let carried = state.processes.iter().any(|(_, uid, gid, _)| *uid == USER_ID || *gid == NET_GROUP_ID);
    let loaded = state.jobs.contains_key(GATEWAY_LABEL);
    assert!(state.in_force || !carried && !loaded, "open: {state:?}");
    for (path, thing) in &state.files {
        if let (true, Thing::File { owner, mode, .. }) = (path.ends_with("/gvproxy"), thing) {
            assert_eq!((*owner, *mode), ((0, NET_GROUP_ID), 0o2755), "a shim that pf does not know");
        }
    }
    // What pf tells traffic apart by is whole before there is anything to tell apart.
    if state.jobs.contains_key(FIREWALL_LABEL) {
        for path in ["/Users/_rcc", "/Groups/_rcc", "/Groups/_rccnet"] {
            let record = &state.records[path];
            assert!(record.contains_key("PrimaryGroupID") || state.processes.is_empty(), "{path}");
        }
    }
}

/// While rcc is taken away, also: where pf binds nothing any more, nobody can start what it would bind.
fn closing(state: &State) {
    bound(state);
    assert!(state.in_force || !state.files.keys().any(|path| path.ends_with("/gvproxy")), "open: {state:?}");
}

/// Every step, until one fails.
fn all(steps: &[Step<'_>], mode: Mode) -> Result<Vec<Outcome>, Problem> {
    steps.iter().map(|step| step.run(mode)).collect()
}

/// Every step, whatever became of those before.
fn each(steps: &[Step<'_>]) -> Vec<Problem> {
    steps.iter().filter_map(|step| step.run(Mode::Act).err()).collect()
}

/// A Mac as it comes, with what others have there.
fn fresh() -> State {
    let account = |id: &str| BTreeMap::from([("PrimaryGroupID".to_owned(), id.to_owned())]);
    let mut state = State::default();
    state.records.insert("/Groups/com.apple.access_ssh".into(), account("399"));
    let mut alice = account("20");
    alice.insert("UniqueID".into(), "501".into());
    state.records.insert("/Users/alice".into(), alice);
    state.processes.push((1, 0, 0, "/sbin/launchd".into()));
    state
}

fn set_up() -> State {
    let mac = Model::new(fresh(), Cut::Never, bound);
    all(&install(&mac, &request()), Mode::Act).unwrap();
    prove(&mac).unwrap();
    mac.state.into_inner()
}

#[test]
fn setup_does_all_once_and_then_nothing() {
    let request = request();
    let planned = Model::new(fresh(), Cut::Never, bound);
    let plan = all(&install(&planned, &request), Mode::Plan).unwrap();
    assert_eq!(planned.acts.get(), 0, "a plan changes nothing");
    assert_eq!(*planned.state.borrow(), fresh());
    assert!(plan.iter().filter(|outcome| matches!(outcome, Outcome::Planned(_))).count() > 15, "{plan:?}");

    let mac = Model::new(set_up(), Cut::Never, bound);
    let again = all(&install(&mac, &request), Mode::Act).unwrap();
    assert!(again.iter().all(|outcome| *outcome == Outcome::Unchanged), "{again:?}");
    assert_eq!(mac.acts.get(), 0);
    let state = mac.state.borrow();
    assert_eq!(state.jobs.keys().collect::<Vec<_>>().len(), LABELS.len());
    assert_eq!(state.records["/Users/_rcc"]["IsHidden"], "1");
}

#[test]
fn a_kill_at_any_act_of_setup_leaves_nothing_open_that_the_next_run_does_not_finish() {
    let whole = set_up();
    let mut acts = 0;
    for cut in 0.. {
        let (mut cut_off, mut last) = (0, 0);
        for how in [Cut::Before(cut), Cut::After(cut)] {
            let mac = Model::new(fresh(), how, bound);
            let request = request();
            cut_off += usize::from(all(&install(&mac, &request), Mode::Act).is_err());
            last = mac.acts.get();
            mac.cut.set(Cut::Never);
            all(&install(&mac, &request), Mode::Act).unwrap();
            prove(&mac).unwrap();
            let found = mac.state.into_inner();
            let found =
                State { files: found.files.into_iter().filter(|(p, _)| !p.ends_with(".rcc-new")).collect(), ..found };
            assert_eq!(found, whole, "{how:?}");
        }
        acts = last;
        if cut_off == 0 {
            break;
        }
    }
    println!("{acts} acts, each cut off before and after");
    assert!(acts > 40);
}

/// A Mac that is set up, on which an agent's machine runs.
fn in_use() -> State {
    let mut state = set_up();
    state.processes.push((400, 501, NET_GROUP_ID, format!("{FOLDER}/gvproxy.pinned -mtu 1500")));
    state.processes.push((401, USER_ID, USER_ID, format!("{FOLDER}/rcc-gateway worker")));
    state.processes.push((402, USER_ID, USER_ID, "/bin/sh -c something-taken-over".into()));
    // An older version's, whose machine still runs, and which calls itself something else.
    state.processes.push((403, 501, NET_GROUP_ID, "vfkit-net".into()));
    let shim = Thing::File { bytes: Vec::new(), owner: (0, NET_GROUP_ID), mode: 0o2755 };
    state.files.insert("/usr/local/libexec/rcc/0.0.9/gvproxy".into(), shim);
    state
}

#[test]
fn uninstall_leaves_what_was_before_and_a_kill_at_any_act_of_it_nothing_open() {
    let mut acts = 0;
    for (keep, cuts) in [(Keep::Nothing, 0..200), (Keep::PolicyAndLog, 0..200)] {
        for cut in cuts {
            let mut cut_off = 0;
            for how in [Cut::Before(cut), Cut::After(cut)] {
                let mac = Model::new(in_use(), how, closing);
                cut_off += each(&uninstall(&mac, keep, BESIDE)).len();
                acts = mac.acts.get();
                mac.cut.set(Cut::Never);
                let left = each(&uninstall(&mac, keep, BESIDE));
                assert!(left.is_empty(), "{how:?}: {left:?}");
                let found = mac.state.into_inner();
                assert_eq!((&found.records, &found.jobs), (&fresh().records, &fresh().jobs), "{how:?}");
                assert_eq!(found.processes, fresh().processes);
                assert!(!found.in_force);
                let kept: Vec<_> = found.files.keys().map(String::as_str).collect();
                match keep {
                    Keep::Nothing => assert!(kept.is_empty(), "{how:?}: {kept:?}"),
                    Keep::PolicyAndLog => {
                        assert_eq!(kept, ["/etc/rcc/policy.toml", "/var/log/rcc"], "{how:?}");
                        let roots = Thing::Folder { owner: (0, 0), mode: 0o700 };
                        assert_eq!(found.files["/var/log/rcc"], roots);
                    }
                }
            }
            if cut_off == 0 {
                break;
            }
        }
    }
    println!("{acts} acts, each cut off before and after");
    assert!(acts > 15);
}

#[test]
fn what_root_has_taken_away_by_hand_is_no_hindrance() {
    let mut state = set_up();
    state.files.remove("/etc/rcc/policy.toml");
    state.records.remove("/Users/_rcc");
    let mac = Model::new(state, Cut::Never, |_| ());
    let left = each(&uninstall(&mac, Keep::Nothing, BESIDE));
    assert!(left.is_empty(), "{left:?}");
    let state = mac.state.borrow();
    assert!(!state.in_force && state.files.is_empty(), "{:?}", state.files);
}

#[test]
fn the_firewall_stays_while_something_is_bound_by_it() {
    let mac = Model::new(in_use(), Cut::Never, bound);
    let steps = uninstall(&mac, Keep::Nothing, BESIDE);
    let firewall = steps.iter().find(|step| step.subject.starts_with("firewall")).unwrap();
    assert_eq!(firewall.run(Mode::Act).unwrap_err().code, Code::SETUP_GATEWAY);
    assert!(mac.state.borrow().in_force);
    let user = steps.last().unwrap();
    assert_eq!(user.run(Mode::Act).unwrap_err().code, Code::SETUP_GATEWAY);
}

#[test]
fn an_update_loads_the_new_daemons_and_not_over_sessions() {
    let old = |mut state: State| {
        for (label, job) in &mut state.jobs {
            let other = daemons("/usr/local/libexec/rcc/0.0.9").into_iter().find(|d| d.label == label).unwrap();
            job.1.clone_from(&other.text);
            state.files.insert(job.0.clone(), Thing::File { bytes: other.text.into(), owner: (0, 0), mode: 0o644 });
        }
        for process in &mut state.processes {
            process.3 = process.3.replace(FOLDER, "/usr/local/libexec/rcc/0.0.9");
        }
        let gone = "/usr/local/libexec/rcc/0.0.9/rcc".to_owned();
        state.files.insert(gone, Thing::File { bytes: Vec::new(), owner: (0, 0), mode: 0o755 });
        state
    };
    for (sessions, restart) in [(false, false), (true, false), (true, true)] {
        let mut state = old(set_up());
        if sessions {
            state.processes.push((401, USER_ID, USER_ID, "/usr/local/libexec/rcc/0.0.9/rcc-gateway worker".into()));
        }
        let mac = Model::new(state, Cut::Never, bound);
        let request = Request { restart, ..request() };
        all(&install(&mac, &request), Mode::Act).unwrap();
        let state = mac.state.borrow();
        let replaced = |label: &str| state.jobs[label].1.contains(&format!("<string>{FOLDER}/"));
        assert!(replaced(FIREWALL_LABEL));
        assert_eq!(replaced(GATEWAY_LABEL), !sessions || restart);
        let stays = state.files.keys().any(|path| path.contains("/0.0.9/"));
        assert_eq!(stays, sessions && !restart, "the folder of what runs stays");
    }
}

#[test]
fn what_others_made_is_neither_taken_over_nor_removed() {
    let with = |path: &str, pairs: &[(&str, &str)]| {
        let mut state = fresh();
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        state.records.insert(path.into(), pairs.collect());
        state
    };
    let exact = [("RealName", "somebody's"), ("Password", "*"), ("PrimaryGroupID", "392")];
    for (what, state) in [
        ("an id of ours", with("/Groups/theirs", &[("PrimaryGroupID", "392")])),
        ("a user of our id", with("/Users/theirs", &[("UniqueID", "391")])),
        ("our name with another id", with("/Groups/_rccnet", &[("RealName", "x"), ("PrimaryGroupID", "392392")])),
        (
            "a group with members",
            with("/Groups/_rccnet", &[exact[0], exact[1], exact[2], ("GroupMembership", "alice")]),
        ),
        ("a person's", with("/Users/_rcc", &[("RealName", "x"), ("UserShell", "/bin/zsh")])),
    ] {
        let before = state.clone();
        let mac = Model::new(state, Cut::Never, bound);
        let error = all(&install(&mac, &request()), Mode::Act).unwrap_err();
        assert_eq!(error.code, Code::SETUP_USER, "{what}: {error}");
        assert_eq!(mac.state.borrow().records, before.records, "{what}");
        assert!(each(&uninstall(&mac, Keep::Nothing, BESIDE)).is_empty(), "{what}");
        assert_eq!(mac.state.borrow().records, before.records, "{what}");
    }
    // One that does is used, and left.
    let mac = Model::new(with("/Groups/_rccnet", &exact), Cut::Never, bound);
    all(&install(&mac, &request()), Mode::Act).unwrap();
    assert!(each(&uninstall(&mac, Keep::Nothing, BESIDE)).is_empty());
    assert_eq!(super::anothers(&mac).unwrap(), ["/Groups/_rccnet"]);
}

#[test]
fn what_a_configuration_can_not_declare_is_placed() {
    let mac = Model::new(fresh(), Cut::Never, bound);
    all(&place(&mac, request().programs), Mode::Act).unwrap();
    let state = mac.state.borrow();
    let there = |path: &str| state.files.contains_key(path);
    assert!(there("/var/log/rcc") && there("/var/run/rcc") && there("/usr/local/bin/rcc"));
    assert!(request().programs.iter().all(|program| there(&format!("{FOLDER}/{}", program.name))));
    assert_eq!(state.files.len(), request().programs.len() + 3);
    assert_eq!((&state.records, &state.jobs), (&fresh().records, &fresh().jobs));
}

#[test]
fn a_mac_of_nix_darwins_is_left_to_it() {
    let mac = Model::new(set_up(), Cut::Never, bound);
    unmanaged(&mac).unwrap();
    let text = daemons("/nix/store/x-rcc/bin").remove(0).text.into_bytes();
    let path = format!("/Library/LaunchDaemons/{FIREWALL_LABEL}.plist");
    for mode in [0o644, 0o444] {
        let file = Thing::File { bytes: text.clone(), owner: (0, 0), mode };
        mac.state.borrow_mut().files.insert(path.clone(), file);
        assert_eq!(unmanaged(&mac).unwrap_err().code, Code::SETUP_NIXOS, "{mode:o}");
    }
}

#[test]
fn where_others_write_the_folder_of_links_there_is_none() {
    let on_intel = State { anothers: vec!["/usr/local/bin"], ..fresh() };
    let mac = Model::new(on_intel.clone(), Cut::Never, bound);
    all(&install(&mac, &request()), Mode::Act).unwrap();
    assert!(super::unlinked(&mac).unwrap().contains(&format!("{FOLDER}/rcc")));
    assert!(!mac.state.borrow().files.contains_key("/usr/local/bin/rcc"));
    assert!(each(&uninstall(&mac, Keep::Nothing, BESIDE)).is_empty());
    assert_eq!(*mac.state.borrow(), on_intel);
    assert_eq!(super::unlinked(&Model::new(fresh(), Cut::Never, bound)), None);
}

#[test]
fn what_the_firewall_is_taken_away_by_stays_as_long_as_it_does() {
    let mac = Model::new(State { firewall_stuck: true, ..in_use() }, Cut::Never, closing);
    let before = mac.state.borrow().clone();
    assert!(!each(&uninstall(&mac, Keep::Nothing, BESIDE)).is_empty());
    {
        let state = mac.state.borrow();
        assert!(state.in_force && state.records == before.records);
        let gone = |path: &&String| !state.files.contains_key(*path);
        let gone: Vec<_> = before.files.keys().filter(gone).collect();
        assert_eq!(gone, [&"/usr/local/libexec/rcc/0.0.9/gvproxy".to_owned(), &format!("{FOLDER}/gvproxy")]);
    }
    mac.state.borrow_mut().firewall_stuck = false;
    assert!(each(&uninstall(&mac, Keep::Nothing, BESIDE)).is_empty());
    assert_eq!(*mac.state.borrow(), fresh());
}

#[test]
fn a_link_that_setup_did_not_make_stays() {
    let mut state = fresh();
    state.files.insert("/usr/local/bin/rcc".into(), Thing::Link("../Cellar/rcc/1/bin/rcc".into()));
    let mac = Model::new(state, Cut::Never, bound);
    assert_eq!(all(&install(&mac, &request()), Mode::Act).unwrap_err().code, Code::SETUP_PLACE);
    assert!(matches!(mac.state.borrow().files["/usr/local/bin/rcc"], Thing::Link(_)));
}

#[test]
fn proof_wants_the_firewall_and_the_gateway() {
    let mac = Model::new(set_up(), Cut::Never, |_| ());
    prove(&mac).unwrap();
    mac.state.borrow_mut().in_force = false;
    assert_eq!(prove(&mac).unwrap_err().code, Code::FIREWALL_DRIFTED);
    mac.state.borrow_mut().in_force = true;
    mac.state.borrow_mut().processes.clear();
    let error = prove(&mac).unwrap_err();
    assert_eq!((error.code, error.subject.as_str()), (Code::SETUP_GATEWAY, GATEWAY_SOCKET));
}

#[test]
fn what_macos_does_not_let_root_do_has_a_remedy() {
    let call = super::Call::new("/usr/bin/dscl", &[".", "-create", "/Users/_rcc", "NFSHomeDirectory", "/var/empty"]);
    let said =
        super::Said { code: 40, err: "DS Error: -14120 (eDSPermissionError)\n".into(), ..super::Said::default() };
    let problem = super::failed(&call, &said, Code::SETUP_USER);
    assert!(problem.remedy.contains("Full Disk Access") && problem.what.contains("-14120"), "{problem}");
}

mod files {
    //! launchd reads what it knows and passes over the rest, so a misspelt key is a daemon that does not do what was meant.

    use super::super::daemons;
    use plist::{Dictionary, Value};
    use rcc_proto::macos::{FIREWALL_ARGUMENTS, GATEWAY_ARGUMENTS, STATUS_ARGUMENTS};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Type {
        Text,
        Number,
        Bool,
        Texts,
        Texts2Texts,
        Limits,
        Sockets,
        Inetd,
        /// `true`, or a dictionary of conditions.
        Keep,
        Word(&'static [&'static str]),
    }
    use Type::*;

    /// launchd.plist(5), all keys of daemons that rcc could have a use for, and their types.
    const KEYS: &[(&str, Type)] = &[
        ("Label", Text),
        ("UserName", Text),
        ("GroupName", Text),
        ("inetdCompatibility", Inetd),
        ("Program", Text),
        ("ProgramArguments", Texts),
        ("EnableGlobbing", Bool),
        ("EnableTransactions", Bool),
        ("EnablePressuredExit", Bool),
        ("KeepAlive", Keep),
        ("RunAtLoad", Bool),
        ("RootDirectory", Text),
        ("WorkingDirectory", Text),
        ("EnvironmentVariables", Texts2Texts),
        ("Umask", Number),
        ("TimeOut", Number),
        ("ExitTimeOut", Number),
        ("ThrottleInterval", Number),
        ("InitGroups", Bool),
        ("WatchPaths", Texts),
        ("QueueDirectories", Texts),
        ("StartOnMount", Bool),
        ("StartInterval", Number),
        ("StandardInPath", Text),
        ("StandardOutPath", Text),
        ("StandardErrorPath", Text),
        ("SoftResourceLimits", Limits),
        ("HardResourceLimits", Limits),
        ("Nice", Number),
        ("ProcessType", Word(&["Background", "Standard", "Adaptive", "Interactive"])),
        ("AbandonProcessGroup", Bool),
        ("LowPriorityIO", Bool),
        ("LowPriorityBackgroundIO", Bool),
        ("LaunchOnlyOnce", Bool),
        ("SessionCreate", Bool),
        ("Sockets", Sockets),
    ];
    const LIMITS: &[(&str, Type)] = &[
        ("Core", Number),
        ("CPU", Number),
        ("Data", Number),
        ("FileSize", Number),
        ("MemoryLock", Number),
        ("NumberOfFiles", Number),
        ("NumberOfProcesses", Number),
        ("ResidentSetSize", Number),
        ("Stack", Number),
    ];
    const SOCKET: &[(&str, Type)] = &[
        ("SockType", Word(&["stream", "dgram", "seqpacket"])),
        ("SockPassive", Bool),
        ("SockNodeName", Text),
        ("SockServiceName", Text),
        ("SockFamily", Word(&["IPv4", "IPv6", "IPv4v6"])),
        ("SockProtocol", Word(&["TCP", "UDP"])),
        ("SockPathName", Text),
        ("SockPathMode", Number),
        ("SockPathOwner", Number),
        ("SockPathGroup", Number),
    ];
    /// `Instances` is in no manual; Apple's own ssh.plist has it.
    const INETD: &[(&str, Type)] = &[("Wait", Bool), ("Instances", Number)];
    const CONDITIONS: &[(&str, Type)] =
        &[("SuccessfulExit", Bool), ("Crashed", Bool), ("NetworkState", Bool), ("AfterInitialDemand", Bool)];

    /// What is wrong with a dictionary, by these keys.
    fn wrong(table: &Dictionary, keys: &[(&str, Type)], place: &str) -> Vec<String> {
        let mut all = Vec::new();
        for (key, value) in table {
            let place = format!("{place}{key}");
            let Some((_, kind)) = keys.iter().find(|(name, _)| name == key) else {
                all.push(format!("{place}: launchd knows no such key"));
                continue;
            };
            let inner = |keys: &[(&str, Type)]| {
                value
                    .as_dictionary()
                    .map_or(vec![format!("{place}: no dictionary")], |t| wrong(t, keys, &format!("{place}.")))
            };
            let right = match kind {
                Text => value.as_string().is_some_and(|text| !text.is_empty()),
                Number => value.as_signed_integer().is_some_and(|number| number >= 0),
                Bool => value.as_boolean().is_some(),
                Texts => {
                    value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|v| v.as_string().is_some()))
                }
                Texts2Texts => value.as_dictionary().is_some_and(|all| all.values().all(|v| v.as_string().is_some())),
                Word(words) => value.as_string().is_some_and(|word| words.contains(&word)),
                Keep if value.as_boolean().is_some() => true,
                Keep => {
                    all.extend(inner(CONDITIONS));
                    true
                }
                Limits => {
                    all.extend(inner(LIMITS));
                    true
                }
                Inetd => {
                    all.extend(inner(INETD));
                    true
                }
                Sockets => {
                    let sockets = value.as_dictionary().into_iter().flat_map(|all| all.values());
                    for socket in sockets {
                        let table = socket.as_dictionary();
                        all.extend(table.map_or(vec![format!("{place}: no dictionary")], |t| wrong(t, SOCKET, &place)));
                    }
                    true
                }
            };
            if !right {
                all.push(format!("{place}: {value:?} is not {kind:?}"));
            }
        }
        all
    }

    fn table(text: &str) -> Dictionary {
        Value::from_reader_xml(text.as_bytes()).unwrap().into_dictionary().unwrap()
    }

    #[test]
    fn every_key_is_launchds_and_of_its_type() {
        for daemon in daemons("/usr/local/libexec/rcc/0.1.0") {
            let found = wrong(&table(&daemon.text), KEYS, "");
            assert!(found.is_empty(), "{}: {found:?}", daemon.label);
            assert_eq!(table(&daemon.text)["Label"].as_string(), Some(daemon.label));
        }
    }

    #[test]
    fn a_misspelt_key_and_a_wrong_type_are_seen() {
        for (from, to) in [
            ("<key>KeepAlive</key>", "<key>Keepalive</key>"),
            ("<key>UserName</key>", "<key>Username</key>"),
            ("<key>InitGroups</key>\n  <false/>", "<key>InitGroups</key>\n  <string>false</string>"),
            ("<key>Core</key>", "<key>core</key>"),
            ("<key>SockPathMode</key>", "<key>SockMode</key>"),
            ("<integer>438</integer>", "<string>0666</string>"),
            ("<string>Interactive</string>", "<string>interactive</string>"),
            ("<key>Wait</key>", "<key>wait</key>"),
            ("<key>ThrottleInterval</key>\n  <integer>1</integer>", "<key>ThrottleInterval</key>\n  <true/>"),
        ] {
            let all = daemons("/p");
            let with: Vec<_> = all.iter().filter(|daemon| daemon.text.contains(from)).collect();
            assert!(!with.is_empty(), "no daemon has {from}");
            for daemon in with {
                assert!(!wrong(&table(&daemon.text.replace(from, to)), KEYS, "").is_empty(), "{to} was not seen");
            }
        }
    }

    #[test]
    fn each_daemon_is_who_it_should_be() {
        let all = daemons("/p & <q>");
        let [firewall, gateway, status] = all.as_slice() else { panic!("three") };
        let (firewall, gateway, status) = (table(&firewall.text), table(&gateway.text), table(&status.text));
        let program =
            |table: &Dictionary| table["ProgramArguments"].as_array().unwrap()[0].as_string().unwrap().to_owned();
        // What has to be escaped is.
        assert_eq!(program(&firewall), "/p & <q>/rcc-firewall");
        assert_eq!(program(&gateway), "/p & <q>/rcc-gateway");
        for table in [&firewall, &gateway] {
            assert_eq!(table["KeepAlive"].as_boolean(), Some(true));
            assert_eq!(table["RunAtLoad"].as_boolean(), Some(true));
        }
        // Root's, both of them: nobody is named.
        assert!(!firewall.contains_key("UserName") && !status.contains_key("UserName"));
        assert_eq!(gateway["UserName"].as_string(), Some("_rcc"));
        assert_eq!(gateway["GroupName"].as_string(), Some("_rcc"), "never the carrier's group");
        assert_eq!(gateway["InitGroups"].as_boolean(), Some(false));
        let socket = status["Sockets"].as_dictionary().unwrap()["status"].as_dictionary().unwrap();
        assert_eq!(socket["SockPathMode"].as_signed_integer(), Some(0o666));
        assert_eq!(status["inetdCompatibility"].as_dictionary().unwrap()["Wait"].as_boolean(), Some(false));
        assert!(!status.contains_key("KeepAlive") && !status.contains_key("RunAtLoad"));
    }

    /// The firewall's are read by its own parser (its test); the gateway's are those that it has on Linux.
    #[test]
    fn each_daemon_is_started_with_what_its_program_takes() {
        let lines = daemons("/p").into_iter().map(|daemon| {
            let words = table(&daemon.text)["ProgramArguments"].as_array().unwrap().clone();
            words.iter().map(|word| word.as_string().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        });
        let line = |program: &str, arguments: &[&str]| format!("/p/{program} {}", arguments.join(" "));
        let gateway = line("rcc-gateway", GATEWAY_ARGUMENTS);
        let firewall = [FIREWALL_ARGUMENTS, STATUS_ARGUMENTS].map(|arguments| line("rcc-firewall", arguments));
        let [keep, status] = firewall;
        assert_eq!(lines.collect::<Vec<_>>(), [keep, gateway.clone(), status]);
        let units = crate::units::all("/p");
        assert!(units.iter().any(|(_, text)| text.contains(&format!("\nExecStart={gateway}\n"))));
    }

    #[test]
    fn a_changed_daemon_is_known_by_its_environment() {
        let units = |programs: &str| daemons(programs).into_iter().map(|daemon| daemon.unit).collect::<Vec<_>>();
        assert_eq!(units("/a"), units("/a"));
        assert!(units("/a").iter().zip(units("/b")).all(|(a, b)| *a != b));
        let all = units("/a");
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }
}
