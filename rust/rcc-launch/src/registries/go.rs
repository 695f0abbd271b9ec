//! Go's module proxy and checksum database, as `go env` has them.

use super::{Found, ask};
use crate::machine::Person;
use std::collections::BTreeMap;

const KEYS: &[&str] = &["GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB"];

pub(super) fn read(person: &Person) -> Found {
    let mut found = Found::default();
    let mut settings: BTreeMap<String, String> = BTreeMap::new();
    // Without a Go of root's, the defaults are read where Go 1.21 and later keep them.
    let own = [".local/go/go.env", ".config/go/env"].map(|file| ask::file(person, file).unwrap_or_default());
    for line in own.iter().flat_map(|text| text.lines()) {
        if let Some((key, value)) = line.split_once('=').filter(|(key, _)| KEYS.contains(key)) {
            settings.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    if let Some(go) = ask::program("go") {
        let arguments: Vec<&str> = ["env", "-json"].into_iter().chain(KEYS.iter().copied()).collect();
        let asked = ask::output(&go, &arguments, &[("GOTOOLCHAIN", "local"), ("GOFLAGS", "")], person);
        settings
            .extend(asked.and_then(|a| serde_json::from_str::<BTreeMap<String, String>>(&a).ok()).unwrap_or_default());
    }
    if settings.get("GOPROXY").is_none_or(String::is_empty) {
        found.unknown(
            "go",
            "no Go that only root can write is here to be asked for its proxy",
            "sudo apt install golang-go, or name the proxy's host in `allow` of the policy",
        );
    }
    apply(&settings, &mut found);
    found
}

fn apply(settings: &BTreeMap<String, String>, found: &mut Found) {
    for (key, value) in settings.iter().filter(|(_, value)| !value.is_empty()) {
        let value = match key.as_str() {
            "GOPROXY" => proxies(value, found),
            "GOSUMDB" => database(value, found),
            // Patterns of module paths.
            _ => value.clone(),
        };
        found.variables.push((key.clone(), value));
    }
}

/// A list divided by `,` and `|`, of addresses, `direct` and `off`.
fn proxies(value: &str, found: &mut Found) -> String {
    let mut all = String::new();
    for part in value.split_inclusive([',', '|']) {
        let (one, divider) = match part.strip_suffix([',', '|']) {
            Some(one) => (one, &part[one.len()..]),
            None => (part, ""),
        };
        let kept = match one.trim() {
            word @ ("direct" | "off") => Some(word.to_owned()),
            url => found.add("GOPROXY", url),
        };
        if let Some(kept) = kept {
            all += &kept;
            all += divider;
        }
    }
    all.trim_end_matches([',', '|']).to_owned()
}

/// `off`, a name, or a name with a key and then an address.
fn database(value: &str, found: &mut Found) -> String {
    let mut words = value.split_whitespace();
    let name = words.next().unwrap_or_default();
    if name == "off" {
        return name.to_owned();
    }
    if let Some(url) = words.next() {
        let url = found.add("GOSUMDB", url).unwrap_or_default();
        return format!("{name} {url}").trim().to_owned();
    }
    found.add("GOSUMDB", &format!("https://{}/", name.split('+').next().unwrap_or_default()));
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_and_the_database() {
        let mut found = Found::default();
        let settings = [
            ("GOPROXY", "https://u:s3cret@p.example|https://q.example/x,direct"),
            ("GOSUMDB", "sum.example"),
            ("GOPRIVATE", ""),
        ];
        apply(&settings.map(|(k, v)| (k.to_owned(), v.to_owned())).into(), &mut found);
        assert_eq!(found.endpoints, ["p.example:443", "q.example:443", "sum.example:443"]);
        let variables: BTreeMap<_, _> = found.variables.into_iter().collect();
        assert_eq!(variables["GOPROXY"], "https://p.example/|https://q.example/x,direct");
        assert_eq!(variables["GOSUMDB"], "sum.example");
        assert!(!variables.contains_key("GOPRIVATE"));
        let mut found = Found::default();
        assert_eq!(
            database("sum.example+hash+key https://mirror.example/sum", &mut found),
            "sum.example+hash+key https://mirror.example/sum"
        );
        assert_eq!(database("off", &mut found), "off");
        assert_eq!(found.endpoints, ["mirror.example:443"]);
    }
}
