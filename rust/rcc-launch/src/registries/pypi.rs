//! pip's index and uv's, and the hosts that the index says its files are at.

use super::{Found, ask};
use crate::machine::Person;
use serde_json::Value;
use std::path::Path;
use toml::Table;

/// pip's and uv's files for the whole machine, below the agent's own.
const PIP: &str = "/etc/pip.conf";
const UV: &str = "/etc/uv/uv.toml";
/// Nothing of pip's own about versions, and no refusal to look at a package because Debian manages the system's.
const QUIET: &[(&str, &str)] = &[
    // Python would run what lies in the person's own site-packages, and a link there may lead into a project.
    ("PYTHONNOUSERSITE", "1"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
    // A start doesn't wait longer for an index than this.
    ("PIP_RETRIES", "1"),
    ("PIP_TIMEOUT", "5"),
];
/// Looks up one package, pip itself, and fetches nothing of it but its description: that says where files are.
const LOOK: &[&str] = &[
    "install",
    "--dry-run",
    "--ignore-installed",
    "--no-deps",
    "--only-binary",
    ":all:",
    "--quiet",
    "--report",
    "-",
    "pip",
];

pub(super) fn read(person: &Person) -> Found {
    let mut found = Found::default();
    let Some(pip) = ask::program("pip3") else {
        found.unknown(
            "pip",
            "no pip that only root can write is here to be asked for its index",
            "sudo apt install python3-pip, or name the index's hosts in `allow` of the policy",
        );
        uv(person, &mut found);
        return found;
    };
    let run = |arguments: &[&str]| ask::output(&pip, arguments, QUIET, person);
    let (index, extra) = configured(&run(&["config", "list"]).unwrap_or_default());
    let given = !index.is_empty() || !extra.is_empty();
    let index = if index.is_empty() {
        run(&["install", "--help"]).and_then(|h| default(&h)).unwrap_or_default()
    } else {
        index
    };
    let index = found.add("pip's index-url", &index);
    let extra: Vec<String> = extra.iter().filter_map(|url| found.add("pip's extra-index-url", url)).collect();
    if given {
        found.files.push((PIP.into(), pip_conf(index.as_deref(), &extra)));
    }
    match run(LOOK).map(|report| files(&report)) {
        Some(files) => files.iter().for_each(|url| {
            found.add("pip's index", url);
        }),
        None => found.unknown(
            "pip",
            "its index did not answer, so it is not known at which hosts its files are",
            "look whether this works: pip download pip   # or name the hosts in `allow` of the policy",
        ),
    }
    let own = uv(person, &mut found);
    // uv takes the index of pip's settings for none of its own.
    if !own && given {
        found.files.push((UV.into(), uv_toml(index.as_deref(), &extra)));
    }
    found
}

/// `pip config list`: `section.key='value'`, several values in one being divided by white space.
fn configured(listed: &str) -> (String, Vec<String>) {
    let (mut index, mut extra) = (String::new(), Vec::new());
    for line in listed.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim_matches(['\'', '"']).replace("\\n", " ");
        match key.rsplit('.').next() {
            Some("index-url") => value.trim().clone_into(&mut index),
            Some("extra-index-url") => extra.extend(value.split_whitespace().map(str::to_owned)),
            _ => {}
        }
    }
    (index, extra)
}

/// What pip's help says of the index that it takes when none is set.
fn default(help: &str) -> Option<String> {
    let (_, rest) = help.split_once("--index-url")?;
    let (_, rest) = rest.split_once("(default")?;
    Some(rest.split_once(')')?.0.split_whitespace().collect())
}

/// The addresses of files in pip's report (pip's documentation, "Installation Report").
fn files(report: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let install = report["install"].as_array().into_iter().flatten();
    install.filter_map(|i| i["download_info"]["url"].as_str().map(str::to_owned)).collect()
}

fn pip_conf(index: Option<&str>, extra: &[String]) -> String {
    let index = index.map(|url| format!("index-url = {url}\n")).unwrap_or_default();
    let extra = if extra.is_empty() { String::new() } else { format!("extra-index-url = {}\n", extra.join(" ")) };
    format!("# As the person's pip has it; written by rcc.\n[global]\n{index}{extra}")
}

fn uv_toml(index: Option<&str>, extra: &[String]) -> String {
    let index = index.map(|url| format!("index-url = {url:?}\n")).unwrap_or_default();
    let extra = if extra.is_empty() { String::new() } else { format!("extra-index-url = {extra:?}\n") };
    format!("# As the person's uv or pip has it; written by rcc.\n{index}{extra}")
}

/// uv's own settings; whether there are any. uv itself is the person's program, and is not run.
fn uv(person: &Person, found: &mut Found) -> bool {
    let text = ask::file(person, ".config/uv/uv.toml").or_else(|| ask::plain(Path::new(UV))).unwrap_or_default();
    let table: Table = toml::from_str(&text).unwrap_or_default();
    let pip = table.get("pip").and_then(|pip| pip.as_table());
    let value = |key: &str| table.get(key).or_else(|| pip?.get(key));
    let listed = table.get("index").and_then(|i| i.as_array()).into_iter().flatten();
    let mut index = value("index-url").and_then(|url| url.as_str()).map(str::to_owned);
    let mut extra: Vec<String> = value("extra-index-url")
        .and_then(|urls| urls.as_array())
        .into_iter()
        .flatten()
        .filter_map(|url| url.as_str().map(str::to_owned))
        .collect();
    for one in listed {
        let Some(url) = one.get("url").and_then(|url| url.as_str()) else { continue };
        match one.get("default").and_then(toml::Value::as_bool) {
            Some(true) => index = Some(url.to_owned()),
            _ => extra.push(url.to_owned()),
        }
    }
    let given = index.is_some() || !extra.is_empty();
    let index = index.and_then(|url| found.add("uv's index", &url));
    let extra: Vec<String> = extra.iter().filter_map(|url| found.add("uv's index", url)).collect();
    if given {
        found.files.push((UV.into(), uv_toml(index.as_deref(), &extra)));
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_says_of_itself() {
        let listed = "global.cert='/x'\nglobal.extra-index-url='https://a.example/s https://b.example/s'\ninstall.index-url='https://i.example/simple'\n";
        let (index, extra) = configured(listed);
        assert_eq!(index, "https://i.example/simple");
        assert_eq!(extra, ["https://a.example/s", "https://b.example/s"]);
        let help = "  -i, --index-url <url>       Base URL of the Index (default\n                              https://d.example/simple). This should";
        assert_eq!(default(help).as_deref(), Some("https://d.example/simple"));
        assert_eq!(default("no such option"), None);
        let report = r#"{"version":"1","install":[{"download_info":{"url":"https://f.example/p.whl"}}]}"#;
        assert_eq!(files(report), ["https://f.example/p.whl"]);
        assert_eq!(
            pip_conf(Some("https://i.example/simple"), &extra),
            "# As the person's pip has it; written by rcc.\n[global]\nindex-url = https://i.example/simple\nextra-index-url = https://a.example/s https://b.example/s\n"
        );
    }
}
