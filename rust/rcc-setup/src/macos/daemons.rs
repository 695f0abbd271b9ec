//! launchd's daemons, as values: what launchd.plist(5) has, by the folder of the installed programs.

use super::plist::{self, Value};
use rcc_proto::macos::{
    FIREWALL_ARGUMENTS, FIREWALL_LABEL, GATEWAY_ARGUMENTS, GATEWAY_LABEL, GROUP, STATUS_ARGUMENTS, STATUS_LABEL,
    STATUS_SOCKET, USER,
};
use sha2::{Digest, Sha256};

/// Where they go.
pub const FOLDER: &str = "/Library/LaunchDaemons";
/// What a loaded job is known by: launchd shows its environment, so a job of an older file is told from one of this.
pub const UNIT: &str = "RCC_UNIT";
/// What the firewall says of what it did; root's, in a folder of root's. newsyslog keeps it short.
pub const FIREWALL_LOG: &str = "/var/log/rcc-firewall.log";

/// A daemon.
#[derive(Clone)]
pub struct Daemon {
    /// Its label.
    pub label: &'static str,
    /// Whether it runs all the time; else when it is called.
    pub stays: bool,
    /// What its job has in [`UNIT`].
    pub unit: String,
    /// Its file.
    pub text: String,
}

impl Daemon {
    /// The name of its file.
    pub fn file(&self) -> String {
        format!("{}.plist", self.label)
    }
}

/// In the order in which they are loaded: the firewall, which the gateway proves before each session, before it.
#[must_use]
pub fn all(programs: &str) -> Vec<Daemon> {
    vec![firewall(programs), gateway(programs), status(programs)]
}

/// The labels, in that order.
#[must_use]
pub fn enabled() -> [&'static str; 3] {
    rcc_proto::macos::LABELS
}

/// Root's. Comes up before anybody logs in, turns pf on, loads the anchor, and looks again every few seconds: another
/// program's reload of pf, a new network and a woken Mac are all seen so. It has the priority of what people wait for, since
/// launchd throttles others.
fn firewall(programs: &str) -> Daemon {
    let stays = [("RunAtLoad", Value::Yes), ("KeepAlive", Value::Yes), ("ThrottleInterval", Value::Number(1))];
    let log = [("StandardErrorPath", FIREWALL_LOG.into())];
    daemon(
        FIREWALL_LABEL,
        &format!("{programs}/rcc-firewall"),
        FIREWALL_ARGUMENTS,
        stays.into_iter().chain(log).collect(),
    )
}

/// The gateway, as a user of its own, with that user's group and no other. It makes its sockets by itself, in a folder that
/// the firewall's daemon gives it at each start of the Mac. It raises its own limit of files: launchd's key would raise the
/// whole system's.
fn gateway(programs: &str) -> Daemon {
    let more = vec![
        ("UserName", USER.into()),
        ("GroupName", GROUP.into()),
        ("InitGroups", Value::No),
        ("RunAtLoad", Value::Yes),
        ("KeepAlive", Value::Yes),
        ("ThrottleInterval", Value::Number(1)),
    ];
    daemon(GATEWAY_LABEL, &format!("{programs}/rcc-gateway"), GATEWAY_ARGUMENTS, more)
}

/// Root's. Called by whoever wants to know, eight at once; reads pf back and says it, and hears nothing.
fn status(programs: &str) -> Daemon {
    let socket = Value::Table(vec![
        ("SockPathName", STATUS_SOCKET.into()),
        // 0666: property lists have no octal numbers.
        ("SockPathMode", Value::Number(0o666)),
    ]);
    let more = vec![
        ("Sockets", Value::Table(vec![("status", socket)])),
        ("inetdCompatibility", Value::Table(vec![("Wait", Value::No), ("Instances", Value::Number(8))])),
        ("StandardErrorPath", "/dev/null".into()),
    ];
    daemon(STATUS_LABEL, &format!("{programs}/rcc-firewall"), STATUS_ARGUMENTS, more)
}

fn daemon(label: &'static str, program: &str, arguments: &[&str], more: Vec<(&'static str, Value)>) -> Daemon {
    let line = std::iter::once(program).chain(arguments.iter().copied()).map(Value::from).collect();
    let no_core = || Value::Table(vec![("Core", Value::Number(0))]);
    let stays = more.iter().any(|(key, value)| *key == "KeepAlive" && *value == Value::Yes);
    let mut table = vec![
        ("Label", label.into()),
        ("ProgramArguments", Value::List(line)),
        ("ProcessType", "Interactive".into()),
        ("WorkingDirectory", "/".into()),
        ("Umask", Value::Number(0o077)),
        ("SoftResourceLimits", no_core()),
        ("HardResourceLimits", no_core()),
    ];
    table.extend(more);
    let unit = unit(&plist::file(&Value::Table(table.clone())));
    table.push(("EnvironmentVariables", Value::Table(vec![(UNIT, unit.as_str().into())])));
    Daemon { label, stays, unit, text: plist::file(&Value::Table(table)) }
}

/// What a file is known by.
fn unit(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}
