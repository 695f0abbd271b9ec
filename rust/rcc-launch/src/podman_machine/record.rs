//! Podman's record of the machine (`MachineConfig` of podman's pkg/machine/vmconfigs, version 1), and what rcc writes into it
//! while the machine is stopped: the port of its ssh, which `podman machine init` makes up, and its folders, which no command
//! changes later.
//!
//! Podman reads the whole of it at each start (`mc.Refresh`) and hands each folder to the machine's monitor. Everything that
//! rcc does not know stays as it was.

use crate::hex::hex;
use rcc_proto::macos::SSH_PORT;
use rcc_report::{Code, Problem};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The version that was read in source.
const VERSION: u64 = 1;

/// The record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    all: Map<String, Value>,
}

impl Record {
    /// Reads it. What it does not have in the form that was read in source is an error.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let value: Value = serde_json::from_str(text).map_err(|e| foreign(&format!("it is no JSON: {e}")))?;
        let Value::Object(all) = value else { return Err(foreign("it is no object")) };
        let this = Self { all };
        if this.all.get("Version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(foreign("it is of a version that rcc does not know"));
        }
        if !this.all.get("AppleHypervisor").is_some_and(Value::is_object) {
            return Err(foreign("the machine is not one of Apple's framework (applehv)"));
        }
        if !this.all.get("SSH").is_some_and(Value::is_object) {
            return Err(foreign("it has no SSH"));
        }
        this.folders()?;
        Ok(this)
    }

    /// As a file.
    #[must_use]
    pub fn text(&self) -> String {
        // An object of strings, numbers and the like always has a text.
        serde_json::to_string_pretty(&self.all).unwrap_or_default()
    }

    /// Where its ssh is on the Mac's loopback.
    #[must_use]
    pub fn port(&self) -> Option<u64> {
        self.all.get("SSH")?.get("Port")?.as_u64()
    }

    /// Who ssh comes in as.
    pub fn user(&self) -> Result<&str, Problem> {
        let user = self.all.get("SSH").and_then(|ssh| ssh.get("RemoteUsername")).and_then(Value::as_str);
        let plain = |name: &&str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        user.filter(plain).ok_or_else(|| foreign("it names no plain user"))
    }

    /// The folders that the machine sees, each at its own place.
    pub fn folders(&self) -> Result<Vec<PathBuf>, Problem> {
        let mounts = match self.all.get("Mounts") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(mounts)) => mounts,
            Some(_) => return Err(foreign("its Mounts are no list")),
        };
        let folder = |mount: &Value| {
            let text = |key: &str| mount.get(key).and_then(Value::as_str);
            let source = text("Source")?;
            let same = text("Target") == Some(source) && text("Type") == Some("virtiofs");
            let right =
                same && text("Tag") == Some(tag(source).as_str()) && mount.get("ReadOnly") == Some(&false.into());
            right.then(|| PathBuf::from(source))
        };
        let all = mounts.iter().map(folder).collect::<Option<Vec<_>>>();
        all.ok_or_else(|| foreign("it has a folder that rcc did not give it"))
    }

    /// Gives it rcc's port and these folders.
    pub fn give(&mut self, folders: &[PathBuf]) -> Result<(), Problem> {
        let mounts = folders.iter().map(|folder| mount(folder)).collect::<Result<Vec<_>, _>>()?;
        self.all.insert("Mounts".into(), mounts.into());
        if let Some(Value::Object(ssh)) = self.all.get_mut("SSH") {
            ssh.insert("Port".into(), SSH_PORT.into());
        }
        Ok(())
    }
}

/// One folder, as `NewVirtIoFsMount` and `ToMount` make it.
fn mount(folder: &Path) -> Result<Value, Problem> {
    let text =
        folder.to_str().filter(|t| folder.is_absolute() && !t.chars().any(char::is_control)).ok_or_else(|| {
            let what = "its path is not absolute, not UTF-8, or has a control character";
            Problem::new(Code::MACHINE_PROJECT, folder.display().to_string(), what, "rename the folder: mv OLD NEW")
        })?;
    // vfkit takes a device as options that commas divide.
    if text.contains(',') {
        let what = "its path has a comma, which the machine's monitor can't carry";
        return Err(Problem::new(Code::MACHINE_PROJECT, text, what, "rename the folder: mv OLD NEW"));
    }
    Ok(json!({
        "OriginalInput": "", "ReadOnly": false, "Source": text, "Tag": tag(text), "Target": text, "Type": "virtiofs",
        "VSockNumber": null,
    }))
}

/// By what the machine's kernel knows a folder: the first 36 digits of its path's SHA-256 (`generateTag`).
#[must_use]
pub fn tag(folder: &str) -> String {
    let mut text = hex(&Sha256::digest(folder.as_bytes()));
    text.truncate(36);
    text
}

fn foreign(what: &str) -> Problem {
    let remedy = "rcc machine remove    (takes it away with all that is in it; the next start makes it anew)";
    Problem::new(Code::MACHINE_FOREIGN, "Podman's record of the agents' machine", what, remedy)
}

/// What `podman machine inspect` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It does not.
    Stopped,
    /// On its way to either.
    Between,
}

/// Reads it.
pub fn state(inspected: &str) -> Result<State, Problem> {
    let value: Value = serde_json::from_str(inspected).map_err(|e| foreign(&format!("what Podman says of it: {e}")))?;
    let of = |value: &Value| {
        Some((value.get("State")?.as_str()?.to_owned(), value.get("SSHConfig")?.get("Port")?.as_u64()?))
    };
    match value.as_array().and_then(|all| all.first()).and_then(of) {
        Some((state, port)) if state == "running" && port == u64::from(SSH_PORT) => Ok(State::Running),
        Some((state, port)) if state == "running" => {
            Err(foreign(&format!("it runs with its ssh at {port}, not {SSH_PORT}")))
        }
        Some((state, _)) if state == "stopped" => Ok(State::Stopped),
        Some(_) => Ok(State::Between),
        None => Err(foreign("Podman does not say whether it runs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Podman 5.8 writes it, shortened.
    const MADE: &str = r#"{
 "Created": "2026-11-25T10:00:00+01:00",
 "HostUser": {"Rootful": false, "UID": 501, "HostUserModified": false},
 "LastUp": "0001-01-01T00:00:00Z",
 "Mounts": [],
 "Name": "rcc",
 "Resources": {"CPUs": 4, "DiskSize": 100, "Memory": 8192, "USBs": []},
 "SSH": {"IdentityPath": "/Users/alice/x/machine", "Port": 54321, "RemoteUsername": "core"},
 "Version": 1,
 "AppleHypervisor": {"Vfkit": {"Endpoint": "http://localhost:50000"}},
 "Starting": false,
 "SomethingNew": {"kept": [1, 2]}
}"#;

    #[test]
    fn port_and_folders_change_and_all_else_stays() {
        let mut record = Record::parse(MADE).unwrap();
        let before = record.clone();
        let folders = [PathBuf::from("/Users/alice/a b"), "/Users/alice/c:d".into()];
        record.give(&folders).unwrap();
        let again = Record::parse(&record.text()).unwrap();
        assert_eq!((again.port(), again.folders().unwrap()), (Some(47022), folders.to_vec()));
        assert_eq!(again.user(), Ok("core"));
        insta::assert_snapshot!(serde_json::to_string_pretty(&again.all["Mounts"][0]).unwrap(), @r#"
        {
          "OriginalInput": "",
          "ReadOnly": false,
          "Source": "/Users/alice/a b",
          "Tag": "dc5c618f1d68f1aebf1f3ccad7d7abe1c105",
          "Target": "/Users/alice/a b",
          "Type": "virtiofs",
          "VSockNumber": null
        }
        "#);
        for (key, value) in before.all.iter().filter(|(key, _)| !["Mounts", "SSH"].contains(&key.as_str())) {
            assert_eq!(again.all.get(key), Some(value), "{key}");
        }
        assert_eq!(again.all["SSH"]["IdentityPath"], before.all["SSH"]["IdentityPath"]);
    }

    #[test]
    fn what_rcc_did_not_make_is_no_record_of_its() {
        let mount = r#"{"Source": "/Users", "Target": "/Users", "Tag": "x", "Type": "virtiofs", "ReadOnly": false}"#;
        for (from, to) in [
            ("\"Version\": 1", "\"Version\": 2".to_owned()),
            ("\"AppleHypervisor\"", "\"QEMUHypervisor\"".to_owned()),
            ("\"SSH\": {", "\"ssh\": {".to_owned()),
            ("\"Mounts\": []", "\"Mounts\": 1".to_owned()),
            ("\"Mounts\": []", format!("\"Mounts\": [{mount}]")),
        ] {
            assert_eq!(Record::parse(&MADE.replace(from, &to)).unwrap_err().code, Code::MACHINE_FOREIGN, "{to}");
        }
        assert!(Record::parse("[]").is_err() && Record::parse("").is_err());
        let mut record = Record::parse(MADE).unwrap();
        for bad in ["relative", "/a,b", "/a\nb"] {
            assert_eq!(record.give(&[bad.into()]).unwrap_err().code, Code::MACHINE_PROJECT, "{bad}");
        }
        assert!(Record::parse(&MADE.replace("\"core\"", "\"-oProxyCommand=x\"")).unwrap().user().is_err());
    }

    #[test]
    fn a_machine_that_runs_elsewhere_is_not_ours() {
        let said = |state: &str, port: u16| format!(r#"[{{"State": "{state}", "SSHConfig": {{"Port": {port}}}}}]"#);
        assert_eq!(state(&said("running", 47022)), Ok(State::Running));
        assert_eq!(state(&said("stopped", 54321)), Ok(State::Stopped));
        assert_eq!(state(&said("starting", 47022)), Ok(State::Between));
        assert_eq!(state(&said("running", 54321)).unwrap_err().code, Code::MACHINE_FOREIGN);
        assert!(state("[]").is_err() && state("{").is_err());
    }
}
