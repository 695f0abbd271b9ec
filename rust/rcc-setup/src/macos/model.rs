//! A model of a Mac: the directory service, launchd, pf as rcc's program has it, and files. It can be cut off at any act.
//!
//! It knows what Apple's programs document and no more: an account is attributes, a job is what its file said when it was
//! loaded, pf's anchor is in force once the firewall's daemon runs, and stays until it is removed.

use super::daemons::UNIT;
use super::{Call, Found, Mac, Place, Said};
use crate::layout::FOLDER;
use rcc_proto::macos::{FIREWALL_LABEL, GATEWAY_LABEL, USER_ID};
use rcc_report::{Code, Problem};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    File { bytes: Vec<u8>, owner: (u32, u32), mode: u32 },
    Link(String),
    Folder { owner: (u32, u32), mode: u32 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `/Users/_rcc` -> attributes.
    pub records: BTreeMap<String, BTreeMap<String, String>>,
    /// Label -> (the file, its text when it was loaded, runs).
    pub jobs: BTreeMap<String, (String, String, bool)>,
    /// Path -> what is there.
    pub files: BTreeMap<String, Thing>,
    pub in_force: bool,
    /// pid, uid, gid, command.
    pub processes: Vec<(u32, u32, u32, String)>,
    /// Folders that others than root can write.
    pub anothers: Vec<&'static str>,
    /// What takes the anchor away fails.
    pub firewall_stuck: bool,
}

/// When it is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// Before the act of this number.
    Before(usize),
    /// After it: it happened, and nobody was told.
    After(usize),
}

pub struct Model {
    pub state: RefCell<State>,
    pub acts: Cell<usize>,
    pub cut: Cell<Cut>,
    /// Looked at after each act.
    pub holds: fn(&State),
}

impl Model {
    pub fn new(state: State, cut: Cut, holds: fn(&State)) -> Self {
        Self { state: RefCell::new(state), acts: Cell::new(0), cut: Cell::new(cut), holds }
    }

    /// One act: whole, or not at all.
    fn act(&self, change: impl FnOnce(&mut State)) -> Result<(), Problem> {
        let number = self.acts.get();
        self.acts.set(number + 1);
        let killed = || Err(Problem::new(Code::SETUP_UNVERIFIED, "setup", "killed", "run it again"));
        match self.cut.get() {
            Cut::Before(n) if number >= n => return killed(),
            Cut::After(n) if number > n => return killed(),
            _ => {}
        }
        change(&mut self.state.borrow_mut());
        (self.holds)(&self.state.borrow());
        if self.cut.get() == Cut::After(number) { killed() } else { Ok(()) }
    }

    fn dscl(&self, words: &[&str]) -> Result<Said, Problem> {
        match words {
            [".", "-read", path] => {
                let state = self.state.borrow();
                let Some(record) = state.records.get(*path) else {
                    let err = "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)".to_owned();
                    return Ok(Said { code: 56, err, ..Said::default() });
                };
                let mut out = String::new();
                for (key, value) in record {
                    let key = if key == "IsHidden" { "dsAttrTypeNative:IsHidden" } else { key };
                    // As dscl does with what has a blank in it.
                    let between = if value.contains(' ') { "\n " } else { " " };
                    let _always = writeln!(out, "{key}:{between}{value}");
                }
                Ok(Said { out, ..Said::default() })
            }
            [".", "-list", folder, key] => {
                let state = self.state.borrow();
                let under = format!("{folder}/");
                let mut out = String::new();
                for (path, record) in &state.records {
                    if let (Some(name), Some(value)) = (path.strip_prefix(&under), record.get(*key)) {
                        let _always = writeln!(out, "{name:<24} {value}");
                    }
                }
                Ok(Said { out, ..Said::default() })
            }
            [".", "-create", path, key, value] => {
                self.act(|state| {
                    let record = state.records.entry((*path).to_owned()).or_default();
                    record.insert((*key).to_owned(), (*value).to_owned());
                })?;
                Ok(Said::default())
            }
            [".", "-delete", path] => {
                self.act(|state| drop(state.records.remove(*path)))?;
                Ok(Said::default())
            }
            other => panic!("dscl {other:?}"),
        }
    }

    fn launchctl(&self, words: &[&str]) -> Result<Said, Problem> {
        let label = words.get(1).and_then(|target| target.strip_prefix("system/")).unwrap_or_default();
        let absent =
            || Said { code: 113, err: "Could not find service in domain for system".into(), ..Said::default() };
        match words {
            ["print", _] => {
                let state = self.state.borrow();
                let Some((file, text, runs)) = state.jobs.get(label) else { return Ok(absent()) };
                let table = plist::from_reader_xml(text);
                let unit = table["EnvironmentVariables"].as_dictionary().unwrap()[UNIT].as_string().unwrap().to_owned();
                let now = if *runs { "running" } else { "not running" };
                let out = format!(
                    "system/{label} = {{\n\tpath = {file}\n\tstate = {now}\n\tenvironment = {{\n\t\t{UNIT} => {unit}\n\t}}\n}}\n"
                );
                Ok(Said { out, ..Said::default() })
            }
            ["enable", _] => {
                self.act(|_| ())?;
                Ok(Said::default())
            }
            ["bootstrap", "system", file] => {
                let text = match self.state.borrow().files.get(*file) {
                    Some(Thing::File { bytes, owner: (0, 0), mode: 0o644 }) => {
                        String::from_utf8(bytes.clone()).unwrap()
                    }
                    other => panic!("launchd takes no {file}: {other:?}"),
                };
                let table = plist::from_reader_xml(&text);
                let label = table["Label"].as_string().unwrap().to_owned();
                if self.state.borrow().jobs.contains_key(&label) {
                    return Ok(Said {
                        code: 5,
                        err: "Bootstrap failed: 5: Input/output error".into(),
                        ..Said::default()
                    });
                }
                self.act(|state| {
                    let runs = table.get("RunAtLoad").and_then(plist::Value::as_boolean) == Some(true);
                    state.jobs.insert(label.clone(), ((*file).to_owned(), text, runs));
                    if label == FIREWALL_LABEL {
                        state.in_force = true;
                        let token = Thing::File { bytes: b"7".to_vec(), owner: (0, 0), mode: 0o600 };
                        state.files.insert("/var/db/rcc-firewall.token".into(), token);
                        let owner = (USER_ID, USER_ID);
                        state.files.insert("/var/run/rcc".into(), Thing::Folder { owner, mode: 0o755 });
                    }
                    if label == GATEWAY_LABEL {
                        let program = table["ProgramArguments"].as_array().unwrap()[0].as_string().unwrap();
                        state.processes.push((300, USER_ID, USER_ID, format!("{program} serve")));
                    }
                })?;
                Ok(Said::default())
            }
            ["kickstart", _] => {
                self.act(|state| {
                    if let Some(job) = state.jobs.get_mut(label) {
                        job.2 = true;
                    }
                })?;
                Ok(Said::default())
            }
            ["bootout", _] => {
                if !self.state.borrow().jobs.contains_key(label) {
                    return Ok(absent());
                }
                self.act(|state| {
                    state.jobs.remove(label);
                    if label == GATEWAY_LABEL {
                        // launchd ends the whole process group.
                        state
                            .processes
                            .retain(|(_, uid, _, command)| *uid != USER_ID || command.starts_with("/bin/sh"));
                    }
                })?;
                Ok(Said::default())
            }
            other => panic!("launchctl {other:?}"),
        }
    }
}

/// The crate's reader, for text.
mod plist {
    pub use ::plist::{Dictionary, Value};

    pub fn from_reader_xml(text: &str) -> Dictionary {
        Value::from_reader_xml(text.as_bytes()).unwrap().into_dictionary().unwrap()
    }
}

impl Mac for Model {
    fn run(&self, call: &Call) -> Result<Said, Problem> {
        let words: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
        let firewall = format!("{FOLDER}/rcc-firewall");
        match call.program.as_str() {
            "/usr/bin/dscl" => self.dscl(&words),
            "/bin/launchctl" => self.launchctl(&words),
            "/bin/ps" => {
                let line = |(pid, uid, gid, command): &(u32, u32, u32, String)| {
                    format!("{pid:>5} {uid:>5} {gid:>5} {command}\n")
                };
                let out = self.state.borrow().processes.iter().map(line).collect();
                Ok(Said { out, ..Said::default() })
            }
            "/sbin/pfctl" if self.state.borrow().in_force => {
                Ok(Said { out: "block return out quick proto tcp\n".into(), ..Said::default() })
            }
            "/sbin/pfctl" => {
                Ok(Said { code: 1, err: "pfctl: DIOCGETRULES: Invalid argument\n".into(), ..Said::default() })
            }
            "/bin/kill" => {
                self.act(|state| state.processes.retain(|(pid, _, _, _)| words[1] != pid.to_string()))?;
                Ok(Said::default())
            }
            program if program == firewall || program == "/tmp/rcc-firewall" => match words.as_slice() {
                ["status"] => {
                    // Without a policy and the accounts it can't tell.
                    let state = self.state.borrow();
                    let known =
                        state.files.contains_key("/etc/rcc/policy.toml") && state.records.contains_key("/Users/_rcc");
                    let code = if !known {
                        125
                    } else if state.in_force {
                        0
                    } else {
                        3
                    };
                    Ok(Said { code, out: "x\n".into(), ..Said::default() })
                }
                ["remove"] if self.state.borrow().firewall_stuck => {
                    Ok(Said { code: 125, err: "RCC-920".into(), ..Said::default() })
                }
                ["remove"] => {
                    // The rules first, then the reference.
                    self.act(|state| state.in_force = false)?;
                    self.act(|state| drop(state.files.remove("/var/db/rcc-firewall.token")))?;
                    Ok(Said::default())
                }
                other => panic!("rcc-firewall {other:?}"),
            },
            other => panic!("no such program: {other}"),
        }
    }

    fn found(&self, place: Place, name: &str) -> Result<Found, Problem> {
        assert!(!self.is_anothers(place.folder), "setup refuses what others can write");
        Ok(match self.state.borrow().files.get(&format!("{}/{name}", place.folder)) {
            None => Found::Nothing,
            Some(Thing::Link(target)) => Found::Link(target.clone()),
            Some(Thing::File { bytes, owner, mode }) if (*owner, *mode) == (place.owner, place.mode) => {
                Found::File(bytes.clone())
            }
            Some(Thing::Folder { owner, mode }) if (*owner, *mode) == (place.owner, place.mode) => Found::Folder,
            Some(_) => Found::Other,
        })
    }

    fn write(&self, place: Place, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let path = format!("{}/{name}", place.folder);
        let new = Thing::File { bytes: bytes.to_vec(), owner: place.owner, mode: place.mode };
        // Under another name first: what a kill between leaves.
        self.act(|state| drop(state.files.insert(format!("{path}.rcc-new"), new.clone())))?;
        self.act(|state| {
            state.files.remove(&format!("{path}.rcc-new"));
            state.files.insert(path.clone(), new);
        })
    }

    fn link(&self, place: Place, name: &str, target: &str) -> Result<(), Problem> {
        self.act(|state| drop(state.files.insert(format!("{}/{name}", place.folder), Thing::Link(target.into()))))
    }

    fn make(&self, place: Place, name: &str) -> Result<(), Problem> {
        let folder = Thing::Folder { owner: place.owner, mode: place.mode };
        self.act(|state| drop(state.files.insert(format!("{}/{name}", place.folder), folder)))
    }

    fn remove(&self, place: Place, name: &str) -> Result<(), Problem> {
        let path = format!("{}/{name}", place.folder);
        let under = format!("{path}/");
        let new = format!("{path}.rcc-new");
        self.act(|state| state.files.retain(|p, _| *p != path && *p != new && !p.starts_with(&under)))
    }

    fn bytes(&self, folder: &str, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        Ok(match self.state.borrow().files.get(&format!("{folder}/{name}")) {
            Some(Thing::File { bytes, .. }) => Some(bytes.clone()),
            _ => None,
        })
    }

    fn is_anothers(&self, folder: &str) -> bool {
        self.state.borrow().anothers.contains(&folder)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, Problem> {
        let under = format!("{folder}/");
        let state = self.state.borrow();
        let first = |path: &String| Some(path.strip_prefix(&under)?.split('/').next()?.to_owned());
        let mut names: Vec<String> = state.files.keys().filter_map(first).collect();
        names.dedup();
        Ok(names)
    }

    fn listens(&self, _: &str) -> bool {
        self.state.borrow().processes.iter().any(|(_, uid, _, _)| *uid == USER_ID)
    }

    fn wait(&self) {}
}
