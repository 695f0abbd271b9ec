//! The package registries of the person: which hosts the person's own npm, pip, Cargo and Go fetch from, and the settings
//! by which the same tools do so inside.
//!
//! Read on the host, from the person's files and by programs that only root can write, with an environment made from
//! nothing; never from the project. Invariant: no credentials come along. What was read is asked for as grants, which
//! root's `may_allow` and `deny` bound; no host's name stands here.

mod ask;
mod cache;
mod cargo;
mod go;
mod npm;
mod pypi;

use crate::machine::Person;
use rcc_policy::Registry;
use rcc_report::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use url::Url;

/// What was read of one kind of registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Hosts with ports, in the notation of endpoints.
    pub endpoints: Vec<String>,
    /// Read-only configuration inside: place and text.
    pub files: Vec<(PathBuf, String)>,
    /// Variables inside.
    pub variables: Vec<(String, String)>,
    /// What the person should know.
    pub warnings: Vec<Problem>,
    /// Whether something that was asked did not answer.
    pub unsure: bool,
}

/// Reads each of these, side by side. What was read within a day, from the same configuration, is not read again.
#[must_use]
pub fn read(registries: &[Registry], person: &Person) -> Vec<(Registry, Found)> {
    let one = |registry: Registry| {
        cache::kept(registry, person, || match registry {
            Registry::Npm => npm::read(person),
            Registry::Pypi => pypi::read(person),
            Registry::Cargo => cargo::read(person),
            Registry::Go => go::read(person),
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = registries.iter().map(|r| (*r, scope.spawn(move || one(*r)))).collect();
        threads.into_iter().map(|(r, thread)| (r, thread.join().unwrap_or_default())).collect()
    })
}

impl Found {
    /// Adds the host of a URL; gives the URL as it may come along: without user, password, query and fragment. `None` if
    /// it is none that leads to a host.
    fn add(&mut self, what: &str, text: &str) -> Option<String> {
        let text = text.trim();
        let parsed = Url::parse(text.trim_start_matches("sparse+")).ok();
        let good = parsed.filter(|url| matches!(url.scheme(), "https" | "http") && url.host_str().is_some());
        let Some(mut url) = good else {
            if !text.is_empty() {
                self.warn(
                    what,
                    "it is set to something that is no http address, and is left out",
                    "name hosts in `allow` of the policy",
                );
            }
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            self.warn(
                what,
                "it has a user, a password or a token in its address; they stay outside, so private packages can't be fetched inside",
                "fetch those outside, into the project",
            );
        }
        let _has_host = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        if let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) {
            let endpoint = format!("{}:{port}", host.trim_end_matches('.'));
            if !self.endpoints.contains(&endpoint) {
                self.endpoints.push(endpoint);
            }
        }
        let prefix = if text.starts_with("sparse+") { "sparse+" } else { "" };
        Some(format!("{prefix}{url}"))
    }

    fn unknown(&mut self, subject: &str, what: &str, remedy: &str) {
        self.unsure = true;
        self.warn(subject, what, remedy);
    }

    fn warn(&mut self, subject: &str, what: &str, remedy: &str) {
        let problem = Problem::new(Code::REGISTRY_UNKNOWN, subject, what, remedy);
        if !self.warnings.contains(&problem) {
            self.warnings.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_along_without_credentials() {
        let mut found = Found::default();
        let add = |found: &mut Found, text: &str| found.add("x", text);
        assert_eq!(add(&mut found, "https://mirror.example/npm/").as_deref(), Some("https://mirror.example/npm/"));
        assert!(found.warnings.is_empty());
        let secret = add(&mut found, "https://user:s3cret@mirror.example:8443/simple?token=s3cret#s3cret").unwrap();
        assert_eq!(secret, "https://mirror.example:8443/simple");
        assert_eq!(found.warnings.len(), 1);
        assert!(!format!("{found:?}").contains("s3cret"));
        assert_eq!(
            add(&mut found, "sparse+https://crates.example/i/").as_deref(),
            Some("sparse+https://crates.example/i/")
        );
        for bad in ["file:///srv/mirror", "not an address", "git+ssh://x.example/y", "/srv"] {
            assert_eq!(add(&mut found, bad), None, "{bad}");
        }
        assert_eq!(found.endpoints, ["mirror.example:443", "mirror.example:8443", "crates.example:443"]);
    }
}
