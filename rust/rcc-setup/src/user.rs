//! The gateway's system user and its group.
//!
//! Invariant: uninstall removes no user that somebody else made. What setup makes has setup's comment, from the instant that
//! it is there: a record that no kill can separate from what it is about, and no file of state.

use crate::command;
use crate::step::Look;
use rcc_host::accounts::{self, User};
use rcc_proto::GATEWAY_USER;
use rcc_report::{Code, Problem};

/// The first id of a person (`UID_MIN` of login.defs(5), on every distribution that rcc knows).
const FIRST_PERSON: u32 = 1000;
/// The comment (GECOS) of the user that setup makes: by it uninstall knows that it is setup's to remove.
const COMMENT: &str = "rcc gateway";
/// Who has these can't log in.
const NO_SHELL: [&str; 2] = ["nologin", "false"];

fn wrong(what: impl Into<String>) -> Problem {
    let remedy = format!("see it: getent passwd {GATEWAY_USER}; getent group {GATEWAY_USER}");
    Problem::new(Code::SETUP_USER, GATEWAY_USER, what, remedy)
}

/// The user, and the id of the group of its name, as far as they are there.
fn there() -> Result<(Option<User>, Option<u32>), Problem> {
    let look = || Ok((accounts::user(GATEWAY_USER)?, accounts::group(GATEWAY_USER)?));
    look().map_err(|e: std::io::Error| wrong(e.to_string()))
}

/// The user's id, if it is there and is a system user's.
pub fn id() -> Result<Option<u32>, Problem> {
    there()?.0.map(|user| system(&user)).transpose()
}

fn system(user: &User) -> Result<u32, Problem> {
    let (id, shell) = (user.uid, user.shell.rsplit('/').next().unwrap_or_default());
    if id == 0 || id >= FIRST_PERSON || !NO_SHELL.contains(&shell) {
        return Err(wrong(format!("there is a user of this name that is not a system user (id {id}, shell {shell})")));
    }
    Ok(id)
}

/// The user's and its group's ids, if both are there and are a system user's.
pub fn ids() -> Result<Option<(u32, u32)>, Problem> {
    let (user, group) = there()?;
    let Some(user) = user else { return Ok(None) };
    let id = system(&user)?;
    match group {
        None => Ok(None),
        Some(group) if group == user.gid => Ok(Some((id, group))),
        Some(_) => Err(wrong("the user's group is not the group of its name")),
    }
}

/// The ids, which must be there by now.
pub fn existing() -> Result<(u32, u32), Problem> {
    ids()?.ok_or_else(|| wrong("it is not there"))
}

pub fn look() -> Result<Look, Problem> {
    Ok(if ids()?.is_some() { Look::Done } else { Look::Todo("made: no home, no shell, no password".into()) })
}

/// Makes it, whatever of it a run that was cut short has left.
pub fn make() -> Result<(), Problem> {
    let (has_user, has_group) = there()?;
    if let Some(groupadd) = command::find("groupadd").filter(|_| has_group.is_none()) {
        let id = has_user.as_ref().map(|u| u.gid.to_string());
        let mut arguments = vec!["--system"];
        if let Some(id) = &id {
            arguments.extend(["--gid", id]);
        }
        arguments.push(GATEWAY_USER);
        command::run_locking(&groupadd, &arguments, Code::SETUP_USER)?;
    }
    let shell = command::find("nologin").map_or("/usr/sbin/nologin".into(), |p| p.display().to_string());
    if let Some(useradd) = command::find("useradd") {
        if has_user.is_none() {
            let home = ["--no-create-home", "--home-dir", "/nonexistent"];
            let mut arguments = vec!["--system", "--gid", GATEWAY_USER, "--comment", COMMENT, "--shell", &shell];
            arguments.extend(home);
            arguments.push(GATEWAY_USER);
            command::run_locking(&useradd, &arguments, Code::SETUP_USER)?;
        }
        return Ok(());
    }
    let sysusers = command::find("systemd-sysusers")
        .ok_or_else(|| wrong("neither useradd nor systemd-sysusers is there to make it"))?;
    let line = format!("u {GATEWAY_USER} - \"{COMMENT}\" /nonexistent {shell}");
    command::run_locking(&sysusers, &["--inline", &line], Code::SETUP_USER).map(drop)
}

/// Whether there is a user or a group that uninstall leaves, since setup did not make it.
pub fn is_anothers() -> Result<bool, Problem> {
    let (user, group) = there()?;
    anothers(user.as_ref(), group)
}

fn anothers(user: Option<&User>, group: Option<u32>) -> Result<bool, Problem> {
    Ok(match (user, group) {
        (Some(user), _) => user.comment != COMMENT,
        // A group alone is what a run that was cut short leaves; one that somebody has a use for has members.
        (None, Some(_)) => accounts::has_members(GATEWAY_USER).map_err(|e| wrong(e.to_string()))?,
        (None, None) => false,
    })
}

pub fn look_gone() -> Result<Look, Problem> {
    let (user, group) = there()?;
    if user.is_none() && group.is_none() || anothers(user.as_ref(), group)? {
        return Ok(Look::Done);
    }
    // A person's is an error.
    ids()?;
    Ok(Look::Todo("removed".into()))
}

pub fn remove() -> Result<(), Problem> {
    let absent = || wrong("userdel and groupdel are not there to remove it");
    if there()?.0.is_some() {
        let userdel = command::find("userdel").ok_or_else(absent)?;
        command::run_locking(&userdel, &[GATEWAY_USER], Code::SETUP_USER)?;
    }
    // userdel removes the group of the same name, where login.defs says so.
    let (user, group) = there()?;
    if group.is_some() && !anothers(user.as_ref(), group)? {
        let groupdel = command::find("groupdel").ok_or_else(absent)?;
        command::run_locking(&groupdel, &[GATEWAY_USER], Code::SETUP_USER)?;
    }
    Ok(())
}
