//! The named sets: few, and none with a package registry (those follow the person's own configuration: [`Registry`]).

use serde::Serialize;

/// A set's name, its endpoints, and what it is for.
pub const SETS: &[(&str, &[&str], &str)] = &[
    (
        "@claude",
        &["downloads.claude.ai:443/tls"],
        "What Claude Code's interactive mode fetches beyond its model: its own download host, which takes nothing from \
         strangers. The model itself is the credential endpoint's; login, plugins and telemetry are left out on purpose.",
    ),
    (
        "@github",
        &[
            "github.com:22,443",
            "ssh.github.com:443/raw",
            "codeload.github.com:443/tls",
            "raw.githubusercontent.com:443/tls",
            "objects.githubusercontent.com:443/tls",
            "release-assets.githubusercontent.com:443/tls",
            "media.githubusercontent.com:443/tls",
            "lfs.github.com:443/tls",
        ],
        "git, archives, releases and LFS of GitHub; not its API. Anyone can push to a repository of their own there.",
    ),
    (
        "@gitlab",
        &["gitlab.com:22,443"],
        "git of GitLab's own site. Anyone can push to a repository of their own there.",
    ),
    ("@codeberg", &["codeberg.org:22,443"], "git of Codeberg. Anyone can push to a repository of their own there."),
    ("@git", &["@github", "@gitlab", "@codeberg"], "The three above."),
    (
        "@nix",
        &["cache.nixos.org:443/tls", "channels.nixos.org:443/tls", "releases.nixos.org:443/tls"],
        "What Nix inside a session fetches built, and the registry and channels by which it knows names: hosts of NixOS's \
         own, which take nothing from strangers. Sources of a flake's inputs are mostly @github's.",
    ),
];

/// A kind of package registry. Its set, in the policy's `allow`, stands for no fixed hosts: the launcher reads them from
/// the configuration of the person's own tools and asks for them as grants, which `may_allow` and `deny` bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    /// npm's, for pnpm, yarn and bun as well.
    Npm,
    /// pip's and uv's.
    Pypi,
    /// Cargo's.
    Cargo,
    /// Go's module proxy and checksum database.
    Go,
}

impl Registry {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Npm, Self::Pypi, Self::Cargo, Self::Go];

    /// The set's name in `allow`.
    #[must_use]
    pub fn set(self) -> &'static str {
        match self {
            Self::Npm => "@npm",
            Self::Pypi => "@pypi",
            Self::Cargo => "@cargo",
            Self::Go => "@go",
        }
    }

    pub(crate) fn named(set: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|registry| registry.set() == set)
    }
}

/// A set's entries with sets in it expanded; `None` if there is no such set.
pub(crate) fn expand(name: &str) -> Option<Vec<&'static str>> {
    let (_, entries, _) = SETS.iter().find(|(own, _, _)| *own == name)?;
    let mut all = Vec::new();
    for entry in *entries {
        // A set's sets stand before it in the table and hold no sets themselves (a test says so).
        match SETS.iter().find(|(own, _, _)| own == entry) {
            Some((_, inner, _)) => all.extend_from_slice(inner),
            None => all.push(*entry),
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Place, parse_entry};

    #[test]
    fn every_set_is_made_of_good_endpoints() {
        for (name, _, _) in SETS {
            for entry in expand(name).unwrap() {
                assert!(!entry.starts_with('@'), "{name}: {entry}");
                let endpoints = parse_entry(entry, Place::Allow).unwrap();
                assert!(endpoints.iter().all(|e| !e.to_string().contains("api.anthropic.com")));
            }
        }
    }
}
