//! Cargo's registries: those of its configuration, and those that it has fetched from, whose own description says where
//! their files are. Cargo itself is often the person's program, and is not run.

use super::{Found, ask};
use crate::machine::Person;
use serde_json::Value;
use std::fs;
use toml::Table;

/// Cargo looks upwards from the project, to the root (The Cargo Book, "Configuration"); all that is nearer wins.
const FILE: &str = "/.cargo/config.toml";
/// Keys that say where, and none that says as whom.
const KEYS: &[(&str, &[&str])] = &[("source", &["registry", "replace-with"]), ("registries", &["index"])];

pub(super) fn read(person: &Person) -> Found {
    let mut found = Found::default();
    let text = ask::file(person, ".cargo/config.toml").or_else(|| ask::file(person, ".cargo/config"));
    if let Some(text) = text {
        settings(&text, &mut found);
    }
    // Named by the host and a hash of the whole address.
    let indexes = fs::read_dir(person.home.join(".cargo/registry/index")).into_iter().flatten().flatten();
    for index in indexes.take(100) {
        let name = index.file_name().to_string_lossy().into_owned();
        let description = ask::plain(&index.path().join("config.json"));
        let (Some((host, _hash)), Some(description)) = (name.rsplit_once('-'), description) else { continue };
        found.add("cargo's index", &format!("https://{host}/"));
        if let Some(files) = files(&description) {
            found.add("cargo's index", &files);
        }
    }
    if found.endpoints.is_empty() {
        found.unknown(
            "cargo",
            "it has fetched nothing here yet and has no registry configured, so its hosts are not known",
            "let it fetch something outside once: cargo fetch   # or name the hosts in `allow` of the policy",
        );
    }
    found
}

/// The host of an index's files (The Cargo Book, "Index Format": `dl`, in which `{crate}` and others are filled in).
fn files(description: &str) -> Option<String> {
    let description: Value = serde_json::from_str(description).ok()?;
    Some(description["dl"].as_str()?.replace(['{', '}'], ""))
}

fn settings(text: &str, found: &mut Found) {
    let Ok(table) = toml::from_str::<Table>(text) else {
        found.warn("~/.cargo/config.toml", "it is not valid TOML, and is left out", "cargo itself says where");
        return;
    };
    let mut kept = Table::new();
    for (section, keys) in KEYS {
        for (name, source) in table.get(*section).and_then(|s| s.as_table()).into_iter().flatten() {
            let mut entry = Table::new();
            for key in *keys {
                let Some(value) = source.get(*key).and_then(|v| v.as_str()) else { continue };
                let value = match *key {
                    "replace-with" => Some(value.to_owned()),
                    _ => found.add(&format!("cargo's {section}.{name}.{key}"), value),
                };
                entry.extend(value.map(|value| ((*key).to_owned(), value.into())));
            }
            if !entry.is_empty() {
                let section = kept.entry(*section).or_insert_with(|| Table::new().into());
                if let Some(section) = section.as_table_mut() {
                    section.insert(name.clone(), entry.into());
                }
            }
        }
    }
    if !kept.is_empty() {
        let text = format!("# As the person's Cargo has it; written by rcc.\n{kept}");
        found.files.push((FILE.into(), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_configuration_where_and_not_as_whom() {
        let mut found = Found::default();
        let text = r#"
            [build]
            rustc-wrapper = "/home/a/bin/wrapper"
            [source.crates-io]
            replace-with = "mirror"
            [source.mirror]
            registry = "sparse+https://mirror.example/index/"
            [registries.corp]
            index = "https://u:s3cret@crates.corp.example/git/index"
            token = "s3cret"
            credential-provider = "/home/a/bin/provider"
        "#;
        settings(text, &mut found);
        assert_eq!(found.endpoints, ["mirror.example:443", "crates.corp.example:443"]);
        let text = &found.files[0].1;
        let table: Table = toml::from_str(text).unwrap();
        assert_eq!(table["source"]["crates-io"]["replace-with"].as_str(), Some("mirror"));
        assert_eq!(table["source"]["mirror"]["registry"].as_str(), Some("sparse+https://mirror.example/index/"));
        assert_eq!(table["registries"]["corp"]["index"].as_str(), Some("https://crates.corp.example/git/index"));
        assert!(!text.contains("s3cret") && !text.contains("provider") && !text.contains("wrapper"), "{text}");
    }

    #[test]
    fn the_files_of_an_index() {
        assert_eq!(
            files(r#"{"dl":"https://f.example/c/{crate}/{version}","api":"https://a.example"}"#).as_deref(),
            Some("https://f.example/c/crate/version")
        );
        assert_eq!(files("{}"), None);
    }
}
