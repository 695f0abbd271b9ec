//! npm's registry, and those of scopes, as npm itself resolves them.

use super::{Found, ask};
use crate::machine::Person;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// Where npm inside looks below the agent's own settings (`npm help npmrc`, "global config file").
const FILE: &str = "/etc/npmrc";

pub(super) fn read(person: &Person) -> Found {
    let mut found = Found::default();
    let listed = ask::program("npm").and_then(|npm| ask::output(&npm, &["config", "list", "--json"], &[], person));
    match listed {
        Some(listed) => settings(&listed, &mut found),
        None => found.unknown(
            "npm",
            "no npm that only root can write is here to be asked for its registry",
            "sudo apt install npm, or name the registry's host in `allow` of the policy",
        ),
    }
    let npmrc = ask::file(person, ".npmrc").unwrap_or_default();
    if npmrc.lines().any(|line| line.contains(":_auth") || line.contains(":_password") || line.starts_with("_auth")) {
        found.warn(
            "~/.npmrc",
            "its tokens stay outside, so private packages can't be fetched inside",
            "fetch those outside, into the project: npm ci",
        );
    }
    // A native module is built with Node's headers. They come with the distribution's package, or are fetched.
    if !Path::new("/usr/include/node/node.h").exists()
        && let Some(node) = ask::program("node")
        && let Some(headers) = ask::output(&node, &["-p", "process.release.headersUrl || ''"], &[], person)
    {
        found.add("node", &headers);
    }
    found
}

fn settings(listed: &str, found: &mut Found) {
    let settings: Value = serde_json::from_str(listed).unwrap_or_default();
    let mut text = String::from("# As the person's npm has it; written by rcc.\n");
    for (key, value) in settings.as_object().into_iter().flatten() {
        let scope =
            key.strip_suffix(":registry").filter(|scope| scope.starts_with('@') && !scope.contains(['\n', '=']));
        if let (true, Some(url)) = (key == "registry" || scope.is_some(), value.as_str())
            && let Some(url) = found.add(&format!("npm's {key}"), url)
        {
            let _never_fails = writeln!(text, "{key}={url}");
        }
    }
    found.files.push((FILE.into(), text));
    found.variables.push(("npm_config_globalconfig".into(), FILE.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_and_those_of_scopes() {
        let mut found = Found::default();
        let listed = r#"{"registry":"https://r.example/","@corp:registry":"https://u:s3cret@npm.corp.example:8443/x/",
            "cache":"/home/a/.npm","@evil\n:registry":"https://x.example","proxy":null}"#;
        settings(listed, &mut found);
        assert_eq!(found.endpoints, ["npm.corp.example:8443", "r.example:443"]);
        let text = &found.files[0].1;
        assert!(
            text.ends_with("@corp:registry=https://npm.corp.example:8443/x/\nregistry=https://r.example/\n"),
            "{text}"
        );
        assert_eq!(found.warnings.len(), 1);
    }
}
