//! The hidden user and the two groups, by `dscl`.
//!
//! Invariants: the act that makes a record gives it setup's name, so one that a kill has left half made is known as setup's;
//! uninstall removes no other. Nobody else has one of the ids: pf would take their traffic for rcc's.

use super::{Call, Mac, done};
use crate::step::Look;
use rcc_host::macos::{record, with_id};
use rcc_proto::macos::{GROUP, GROUP_ID, NET_GROUP, NET_GROUP_ID, USER, USER_ID};
use rcc_report::{Code, Problem};
use std::collections::BTreeMap;

/// The directory service's command.
pub const DSCL: &str = "/usr/bin/dscl";
/// The name (`RealName`) of what setup makes: by it uninstall knows that it is setup's to remove.
const MADE: [(&str, &str); 3] = [("user", "rcc gateway"), ("group", "rcc gateway"), ("net", "rcc network")];

/// A record, as it must be.
struct Wanted {
    /// `/Users/_rcc`.
    path: String,
    name: &'static str,
    id: (&'static str, u32),
    made: &'static str,
    /// Its attributes, in the order in which they are written: the first act makes the record, the last gives it its id.
    attributes: Vec<(&'static str, String)>,
}

fn wanted() -> [Wanted; 3] {
    let group = |name: &'static str, id: u32, made: &'static str| Wanted {
        path: format!("/Groups/{name}"),
        name,
        id: ("PrimaryGroupID", id),
        made,
        attributes: vec![
            ("RealName", made.to_owned()),
            ("Password", "*".to_owned()),
            ("PrimaryGroupID", id.to_string()),
        ],
    };
    let [(_, user_made), (_, group_made), (_, net_made)] = MADE;
    let user = Wanted {
        path: format!("/Users/{USER}"),
        name: USER,
        id: ("UniqueID", USER_ID),
        made: user_made,
        attributes: vec![
            ("RealName", user_made.to_owned()),
            ("IsHidden", "1".to_owned()),
            ("Password", "*".to_owned()),
            ("UserShell", "/usr/bin/false".to_owned()),
            ("NFSHomeDirectory", "/var/empty".to_owned()),
            ("PrimaryGroupID", GROUP_ID.to_string()),
            ("UniqueID", USER_ID.to_string()),
        ],
    };
    [group(GROUP, GROUP_ID, group_made), group(NET_GROUP, NET_GROUP_ID, net_made), user]
}

/// For who declares them elsewhere: a line each, with kind, name, ids and the name by which setup knows its own.
#[must_use]
pub fn declared() -> String {
    let line = |wanted: &Wanted| {
        let value = |name: &str| wanted.attributes.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
        let kind = if wanted.path.starts_with("/Users/") { "user" } else { "group" };
        let own = if kind == "user" { format!(" {}", value("UniqueID")) } else { String::new() };
        format!("{kind} {}{own} {} {}\n", wanted.name, value("PrimaryGroupID"), wanted.made)
    };
    wanted().iter().map(line).collect()
}

fn wrong(name: &str, what: impl Into<String>, remedy: String) -> Problem {
    Problem::new(Code::SETUP_USER, name, what, remedy)
}

fn read(mac: &dyn Mac, wanted: &Wanted) -> Result<Option<BTreeMap<String, String>>, Problem> {
    let said = mac.run(&Call::new(DSCL, &[".", "-read", &wanted.path]))?;
    // 56: eDSRecordNotFound, modulo 256.
    match said.code {
        0 => Ok(Some(record(&said.out))),
        56 => Ok(None),
        _ => Err(super::failed(&Call::new(DSCL, &[".", "-read", &wanted.path]), &said, Code::SETUP_USER)),
    }
}

/// The calls that are left to make it all so.
fn left(mac: &dyn Mac) -> Result<Vec<Call>, Problem> {
    let mut calls = Vec::new();
    for wanted in wanted() {
        let (key, id) = wanted.id;
        let folder = wanted.path.split('/').nth(1).unwrap_or_default();
        let list = done(mac, &Call::new(DSCL, &[".", "-list", &format!("/{folder}"), key]), Code::SETUP_USER)?;
        if let Some(other) = with_id(&list.out, id).into_iter().find(|name| name != wanted.name) {
            let remedy = format!("see whose it is: dscl . -read /{folder}/{other}");
            return Err(wrong(&other, format!("it has the id {id}, which pf tells {} by", wanted.name), remedy));
        }
        let found = read(mac, &wanted)?.unwrap_or_default();
        let see = || format!("see it: dscl . -read {}", wanted.path);
        if found.get(key).is_some_and(|value| *value != id.to_string()) {
            return Err(wrong(wanted.name, format!("it is there, and its id is not {id}"), see()));
        }
        // One that somebody else made is left as it is if it does.
        let theirs = found.get("RealName").is_some_and(|name| name != wanted.made);
        let members = ["GroupMembership", "GroupMembers", "NestedGroups"];
        if members.iter().any(|key| found.get(*key).is_some_and(|value| !value.is_empty())) {
            return Err(wrong(wanted.name, "it has members, whose programs pf would take for rcc's", see()));
        }
        for (key, value) in &wanted.attributes {
            if found.get(*key) == Some(value) || theirs && *key == "RealName" {
                continue;
            }
            if theirs {
                return Err(wrong(wanted.name, format!("somebody made it, and its {key} is not {value}"), see()));
            }
            calls.push(Call::new(DSCL, &[".", "-create", &wanted.path, key, value]));
        }
    }
    Ok(calls)
}

pub fn look(mac: &dyn Mac) -> Result<Look, Problem> {
    let calls = left(mac)?;
    Ok(match calls.len() {
        0 => Look::Done,
        n => Look::Todo(format!("made: hidden, no home, no shell, no password, no members ({n} changes)")),
    })
}

pub fn make(mac: &dyn Mac) -> Result<(), Problem> {
    for call in left(mac)? {
        done(mac, &call, Code::SETUP_USER)?;
    }
    Ok(())
}

/// Records that setup made, of those that are there; and those of the same names that it did not make.
fn there(mac: &dyn Mac) -> Result<(Vec<String>, Vec<String>), Problem> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for wanted in wanted() {
        if let Some(found) = read(mac, &wanted)? {
            let is_ours = found.get("RealName").is_some_and(|name| name == wanted.made);
            if is_ours { &mut ours } else { &mut theirs }.push(wanted.path);
        }
    }
    // The user before the group that is its own.
    ours.sort_by_key(|path| !path.starts_with("/Users/"));
    Ok((ours, theirs))
}

/// What uninstall leaves.
pub fn anothers(mac: &dyn Mac) -> Result<Vec<String>, Problem> {
    there(mac).map(|(_, theirs)| theirs)
}

pub fn look_gone(mac: &dyn Mac) -> Result<Look, Problem> {
    Ok(if there(mac)?.0.is_empty() { Look::Done } else { Look::Todo("removed".into()) })
}

pub fn remove(mac: &dyn Mac) -> Result<(), Problem> {
    for path in there(mac)?.0 {
        done(mac, &Call::new(DSCL, &[".", "-delete", &path]), Code::SETUP_USER)?;
    }
    Ok(())
}
