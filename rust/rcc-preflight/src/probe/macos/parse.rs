//! What Apple's programs and Podman print, as values. Plain functions of text, so that they are tested on any system with
//! what was recorded on Macs.

use crate::facts::{Account, Accounts, GroupAccount, MacNetwork, Mount, Pf, PodmanMachine};
use rcc_host::macos::{record, with_id};
use rcc_proto::macos::{GROUP, GROUP_ID, NET_GROUP, NET_GROUP_ID, USER, USER_ID};
use serde_json::Value;
use std::collections::BTreeMap;

/// `NAME: VALUE` lines, as sysctl, `sw_vers`, route and scutil print them.
pub fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim())).collect()
}

/// What the directory service was asked: each answer absent where there is no such record.
pub struct Asked<'a> {
    /// `-read /Users/_rcc`.
    pub user: Option<&'a str>,
    /// `-read /Groups/_rcc`.
    pub group: Option<&'a str>,
    /// `-read /Groups/_rccnet`.
    pub net_group: Option<&'a str>,
    /// `-list /Users UniqueID`.
    pub users: &'a str,
    /// `-list /Groups PrimaryGroupID`.
    pub groups: &'a str,
}

/// The accounts.
pub fn accounts(asked: &Asked<'_>) -> Accounts {
    let group = |text: &str| {
        let record = record(text);
        let words = |name: &str| record.get(name).map(|v| v.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let members = ["GroupMembership", "GroupMembers", "NestedGroups"].into_iter().filter_map(words).flatten();
        GroupAccount { id: number(&record, "PrimaryGroupID"), members: members.collect() }
    };
    let others = |list, id, own: &str| with_id(list, id).into_iter().filter(|name| name != own).collect::<Vec<_>>();
    let mut same_group_id = others(asked.groups, GROUP_ID, GROUP);
    same_group_id.extend(others(asked.groups, NET_GROUP_ID, NET_GROUP));
    Accounts {
        user: asked.user.map(|text| {
            let record = record(text);
            Account {
                id: number(&record, "UniqueID"),
                gid: number(&record, "PrimaryGroupID"),
                shell: record.get("UserShell").cloned(),
                hidden: matches!(record.get("IsHidden").map(String::as_str), Some("1" | "YES" | "true")),
            }
        }),
        group: asked.group.map(group),
        net_group: asked.net_group.map(group),
        same_user_id: others(asked.users, USER_ID, USER),
        same_group_id,
    }
}

fn number(record: &BTreeMap<String, String>, name: &str) -> Option<u32> {
    record.get(name)?.parse().ok()
}

/// The answer of root's status service: `rcc-firewall --json status`.
pub fn pf(answer: &str) -> Result<Pf, String> {
    let answer: Value = serde_json::from_str(answer).map_err(|e| format!("the status service's answer: {e}"))?;
    let all = |list: &str, word: &str| {
        let said = |value: &Value| value[word].as_str().map_or_else(|| value.to_string(), str::to_owned);
        answer[list].as_array().into_iter().flatten().map(said).collect::<Vec<_>>()
    };
    let wrong = [all("problems", "what"), all("differences", "place")].concat();
    let state = answer["state"].as_str().unwrap_or("not readable").to_owned();
    Ok(Pf::Answers { state, wrong })
}

/// A machine's own file, as Podman 5 keeps it (`pkg/machine/vmconfigs/config.go`).
pub fn machine(text: &str) -> Result<PodmanMachine, String> {
    let all: Value = serde_json::from_str(text).map_err(|e| format!("the machine's file: {e}"))?;
    let providers = [("AppleHypervisor", "applehv"), ("LibKrunHypervisor", "libkrun"), ("QEMUHypervisor", "qemu")];
    let provider = providers.iter().find(|(key, _)| all[*key].is_object()).map(|(_, name)| (*name).to_owned());
    let rootful = all["HostUser"]["Rootful"].as_bool().ok_or("the machine's file does not say whose containers are")?;
    let mount = |mount: &Value| {
        let source = mount["Source"].as_str().ok_or("a mount of the machine's has no source")?.into();
        Ok(Mount { source, read_only: mount["ReadOnly"].as_bool() == Some(true) })
    };
    Ok(PodmanMachine {
        provider,
        rootful,
        ssh_port: all["SSH"]["Port"].as_u64().and_then(|port| port.try_into().ok()),
        mounts: all["Mounts"].as_array().into_iter().flatten().map(mount).collect::<Result<_, String>>()?,
        disk: all["Resources"]["DiskSize"].as_u64(),
    })
}

/// The resolvers of `scutil --dns`: those for every name, and those for some, with the names. Scoped ones are other
/// interfaces'; multicast's have no address.
pub fn resolvers(text: &str) -> (Vec<String>, Vec<(String, String)>) {
    let general = text.split("\nDNS configuration (for").next().unwrap_or_default();
    let (mut all, mut split) = (Vec::new(), Vec::new());
    for block in general.split("resolver #").skip(1) {
        let value = |line: &str, name: &str| {
            let (key, value) = line.split_once(':')?;
            key.trim().starts_with(name).then(|| value.trim().to_owned())
        };
        let domain = block.lines().find_map(|line| value(line, "domain"));
        for server in block.lines().filter_map(|line| value(line, "nameserver[")) {
            match &domain {
                None if !all.contains(&server) => all.push(server),
                None => {}
                Some(domain) => split.push((domain.clone(), server)),
            }
        }
    }
    (all, split)
}

/// The connected ones of `scutil --nc list`: `* (Connected)  UUID VPN (com.example) "Name"  [VPN:com.example]`.
pub fn vpns(text: &str) -> Vec<String> {
    let connected = text.lines().filter(|line| line.contains("(Connected)"));
    connected.filter_map(|line| Some(line.split('"').nth(1)?.to_owned())).collect()
}

/// The interface of the default route, if it is a tunnel (`route -n get default`).
pub fn tunnel(text: &str) -> Option<String> {
    let interface = fields(text).get("interface").copied()?;
    ["utun", "ppp", "ipsec", "tun"].iter().any(|kind| interface.starts_with(kind)).then(|| interface.to_owned())
}

/// Network extensions that are on, of `systemextensionsctl list`.
pub fn extensions(text: &str) -> Vec<String> {
    let mut network = false;
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(category) = line.strip_prefix("---") {
            network = category.contains("network_extension");
        } else if network && line.contains("[activated enabled]") {
            // enabled, active, team, identifier (version), name, [state]
            let name = line.split('\t').nth(4).unwrap_or(line).trim().to_owned();
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    all
}

/// `Firewall is enabled. (State = 1)`
pub fn application_firewall(text: &str) -> Option<u8> {
    text.split("State = ").nth(1)?.chars().next()?.to_digit(10)?.try_into().ok()
}

/// The proxies that are on, of `scutil --proxy`; names alone.
pub fn proxies(text: &str) -> Vec<String> {
    let on = |name: &str| fields(text).get(name) == Some(&"1");
    let all = [("HTTPEnable", "HTTP"), ("HTTPSEnable", "HTTPS"), ("SOCKSEnable", "SOCKS")];
    let mut on: Vec<String> = all.into_iter().filter(|(key, _)| on(key)).map(|(_, name)| name.to_owned()).collect();
    if fields(text).get("ProxyAutoConfigEnable") == Some(&"1") {
        on.push("automatic configuration".into());
    }
    on
}

/// Puts the network together.
pub fn network(listed: &str, route: &str, dns: &str, extended: &str, firewall: &str, proxied: &str) -> MacNetwork {
    MacNetwork {
        vpns: vpns(listed),
        tunnel: tunnel(route),
        split: resolvers(dns).1,
        extensions: extensions(extended),
        application_firewall: application_firewall(firewall),
        proxies: proxies(proxied),
    }
}

/// The place that macOS asks about, and the cloud, of a folder below a home; `synced_desktop` says whether Desktop and
/// Documents are iCloud Drive's.
pub fn apple_folder(path: &str, home: &str, synced_desktop: bool) -> (Option<String>, Option<String>) {
    let below = |folder: &str| {
        let folder = format!("{home}/{folder}");
        path == folder || path.starts_with(&format!("{folder}/"))
    };
    if below("Library/Mobile Documents") {
        return (Some("iCloud Drive".into()), Some("iCloud Drive".into()));
    }
    if below("Library/CloudStorage") {
        let rest = path.get(home.len() + "/Library/CloudStorage".len()..).unwrap_or_default();
        let provider = rest.trim_start_matches('/').split('/').next().filter(|p| !p.is_empty());
        let provider = provider.unwrap_or("a file provider").to_owned();
        return (Some(provider.clone()), Some(provider));
    }
    for place in ["Desktop", "Documents"] {
        if below(place) {
            return (Some(place.into()), synced_desktop.then(|| "iCloud Drive".into()));
        }
    }
    if below("Downloads") {
        return (Some("Downloads".into()), None);
    }
    (None, None)
}

#[cfg(test)]
mod tests;
