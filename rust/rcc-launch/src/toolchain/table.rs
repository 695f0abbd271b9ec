//! The toolchains that people keep in their home folders, as data: where each lies, which parts of it run, and what the
//! inside needs to find them. Pure.
//!
//! Invariant: no part holds a token, a registry's credentials, a history or a cache. Where a tool keeps such things beside
//! what runs (`~/.cargo/credentials.toml`, `etc/npmrc` of a Node version, `pip.conf` of a Python version), its subfolders
//! are named one by one, and [`LEFT_OUT`] is left out of every list.

/// A toolchain. Paths are relative to the home folder unless they begin with `/`; `*` at the end of a name stands for
/// whatever may stand there, a `*` alone for each entry of a folder.
#[derive(Debug)]
pub struct Toolchain {
    /// Its name, as in `rcc toolchain add NAME`.
    pub name: &'static str,
    /// What it is for, for people.
    pub what: &'static str,
    /// It is installed where one of these is.
    pub proofs: &'static [&'static str],
    /// What is mounted, as far as it is there.
    pub parts: &'static [&'static str],
    /// What PATH has of it, the first before the others.
    pub path: &'static [Way],
    /// Variables; `~` at the beginning of a value is the home folder.
    pub variables: &'static [(&'static str, &'static str)],
}

/// How a folder of programs is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is always the same.
    At(&'static str),
    /// The highest version of what stands for the one `*`.
    Newest(&'static str),
    /// For each entry that stands for `*`: where the link `current` in it leads, and below that.
    Current(&'static str, &'static str),
    /// The version that nvm's file `alias/default` names, or the highest.
    NvmDefault,
}

/// Names that no `*` stands for: configuration that can hold tokens, repositories with their remotes, caches.
pub const LEFT_OUT: &[&str] = &[
    ".cache",
    ".git",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".yarnrc",
    ".yarnrc.yml",
    "cache",
    "credentials",
    "credentials.toml",
    "etc",
    "history",
    "npmrc",
    "pip.conf",
    "tmp",
    "uv.toml",
    "var",
];

/// All that rcc knows.
pub const TOOLCHAINS: &[Toolchain] = &[
    Toolchain {
        name: "rustup",
        what: "Rust: rustup's toolchains, and the programs in ~/.cargo/bin",
        proofs: &[".rustup/toolchains", ".cargo/bin"],
        parts: &[".cargo/bin", ".rustup/toolchains", ".rustup/settings.toml"],
        path: &[Way::At(".cargo/bin")],
        // The toolchains are read-only: rustup would fail half-way into fetching another.
        variables: &[("RUSTUP_AUTO_INSTALL", "0")],
    },
    Toolchain {
        name: "nvm",
        what: "Node.js: nvm's versions",
        proofs: &[".nvm/versions/node"],
        parts: &[".nvm/nvm.sh", ".nvm/nvm-exec", ".nvm/alias", ".nvm/versions/node/*/*"],
        path: &[Way::NvmDefault],
        variables: &[("NVM_DIR", "~/.nvm")],
    },
    Toolchain {
        name: "volta",
        what: "Node.js: volta's tools",
        proofs: &[".volta/bin"],
        parts: &[
            ".volta/bin",
            ".volta/tools/image/node/*/*",
            ".volta/tools/image/npm/*/*",
            ".volta/tools/image/pnpm/*/*",
            ".volta/tools/image/yarn/*/*",
            ".volta/tools/image/packages/*",
            ".volta/tools/user",
        ],
        path: &[Way::At(".volta/bin")],
        variables: &[("VOLTA_HOME", "~/.volta")],
    },
    Toolchain {
        name: "fnm",
        what: "Node.js: fnm's versions",
        proofs: &[".local/share/fnm/node-versions"],
        parts: &[".local/share/fnm/fnm", ".local/share/fnm/aliases", ".local/share/fnm/node-versions/*/installation/*"],
        path: &[
            Way::At(".local/share/fnm/aliases/default/bin"),
            Way::Newest(".local/share/fnm/node-versions/*/installation/bin"),
            Way::At(".local/share/fnm"),
        ],
        variables: &[("FNM_DIR", "~/.local/share/fnm")],
    },
    Toolchain {
        name: "uv",
        what: "Python: uv and its Pythons",
        proofs: &[".local/bin/uv", ".local/share/uv/python"],
        parts: &[".local/bin/uv", ".local/bin/uvx", ".local/share/uv/python"],
        // ~/.local/bin is in PATH anyway.
        path: &[Way::At(".local/bin")],
        variables: &[],
    },
    Toolchain {
        name: "pyenv",
        what: "Python: pyenv's versions",
        proofs: &[".pyenv/versions"],
        parts: &[
            ".pyenv/bin",
            ".pyenv/libexec",
            ".pyenv/completions",
            ".pyenv/shims",
            ".pyenv/version",
            ".pyenv/versions/*/*",
        ],
        path: &[Way::At(".pyenv/shims"), Way::At(".pyenv/bin")],
        variables: &[("PYENV_ROOT", "~/.pyenv")],
    },
    Toolchain {
        name: "mise",
        what: "many languages: mise's installations",
        proofs: &[".local/share/mise/installs"],
        parts: &[".local/bin/mise", ".local/share/mise/shims", ".local/share/mise/installs/*/*/*"],
        path: &[Way::At(".local/share/mise/shims")],
        variables: &[("MISE_YES", "1")],
    },
    Toolchain {
        name: "asdf",
        what: "many languages: asdf's installations",
        proofs: &[".asdf/installs"],
        parts: &[
            ".asdf/asdf.sh",
            ".asdf/bin",
            ".asdf/lib",
            ".asdf/libexec",
            ".asdf/shims",
            ".asdf/plugins/*/*",
            ".asdf/installs/*/*/*",
            ".tool-versions",
        ],
        path: &[Way::At(".asdf/shims"), Way::At(".asdf/bin")],
        variables: &[("ASDF_DATA_DIR", "~/.asdf")],
    },
    Toolchain {
        name: "bun",
        what: "JavaScript: bun",
        proofs: &[".bun/bin"],
        parts: &[".bun/bin"],
        path: &[Way::At(".bun/bin")],
        variables: &[],
    },
    Toolchain {
        name: "deno",
        what: "JavaScript: deno",
        proofs: &[".deno/bin"],
        parts: &[".deno/bin"],
        path: &[Way::At(".deno/bin")],
        variables: &[],
    },
    Toolchain {
        name: "go",
        what: "Go: ~/.local/go, ~/sdk, and the programs in ~/go/bin",
        proofs: &[".local/go/bin", "sdk/go*/bin", "go/bin"],
        parts: &[".local/go", "sdk/go*/*", "go/bin"],
        path: &[Way::At(".local/go/bin"), Way::Newest("sdk/go*/bin"), Way::At("go/bin")],
        variables: &[],
    },
    Toolchain {
        name: "sdkman",
        what: "Java and its kin: sdkman's candidates",
        proofs: &[".sdkman/candidates"],
        parts: &[
            ".sdkman/candidates/java/*/*",
            ".sdkman/candidates/*/*/bin",
            ".sdkman/candidates/*/*/boot",
            ".sdkman/candidates/*/*/lib",
            ".sdkman/candidates/*/*/libexec",
        ],
        path: &[Way::Current(".sdkman/candidates/*", "bin")],
        variables: &[],
    },
    Toolchain {
        name: "linuxbrew",
        what: "Homebrew's programs",
        proofs: &["/home/linuxbrew/.linuxbrew/Cellar"],
        parts: &[
            "/home/linuxbrew/.linuxbrew/bin",
            "/home/linuxbrew/.linuxbrew/sbin",
            "/home/linuxbrew/.linuxbrew/Cellar",
            "/home/linuxbrew/.linuxbrew/opt",
            "/home/linuxbrew/.linuxbrew/lib",
            "/home/linuxbrew/.linuxbrew/include",
            "/home/linuxbrew/.linuxbrew/share",
            "/home/linuxbrew/.linuxbrew/etc/ca-certificates",
        ],
        path: &[Way::At("/home/linuxbrew/.linuxbrew/bin"), Way::At("/home/linuxbrew/.linuxbrew/sbin")],
        variables: &[],
    },
];

/// A toolchain by its name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Toolchain> {
    TOOLCHAINS.iter().find(|t| t.name == name)
}

/// Versions in the order that people count: `v9` before `v10`.
#[must_use]
pub fn version_key(name: &str) -> Vec<(u64, String)> {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty());
    let key = |part: &str| {
        let digits = part.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        (digits[..end].parse().unwrap_or(0), part.to_owned())
    };
    parts.map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_one_word_and_each_once() {
        let names: BTreeSet<_> = TOOLCHAINS.iter().map(|t| t.name).collect();
        assert_eq!(names.len(), TOOLCHAINS.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn no_part_is_a_place_of_secrets_or_holds_one() {
        let secret = [
            ".cargo/credentials",
            ".cargo/credentials.toml",
            ".cargo/config.toml",
            ".cargo/registry",
            ".npmrc",
            ".npm/_logs",
            ".bash_history",
            ".node_repl_history",
            ".bun/install/cache",
            ".config/mise/config.toml",
            ".config/uv/uv.toml",
            ".local/share/uv/credentials",
            ".local/share/uv/tools",
            ".nvm/.cache",
            ".nvm/versions/node/v20.1.0/etc",
            ".pyenv/versions/3.12.1/pip.conf",
            ".pyenv/sources",
            ".sdkman/etc/config",
            ".sdkman/var",
            ".sdkman/candidates/maven/3.9.6/conf",
            ".local/share/mise/installs/node/20.1.0/etc",
            ".asdf/plugins/nodejs/.git",
            ".volta/tools/image/node/20.1.0/etc",
            ".docker/config.json",
            ".ssh",
            "go/pkg",
            "go/src",
        ];
        for toolchain in TOOLCHAINS {
            for part in toolchain.parts {
                for secret in secret {
                    assert!(!covers(part, secret), "{part} of {} shows {secret}", toolchain.name);
                }
            }
        }
    }

    /// Whether what matches the pattern is the place, or holds it.
    fn covers(pattern: &str, place: &str) -> bool {
        let (pattern, place): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), place.split('/').collect());
        let star = |p: &str, n: &str| p.strip_suffix('*').is_some_and(|p| n.starts_with(p)) && !LEFT_OUT.contains(&n);
        let one = |(p, n): (&&str, &&str)| p == n || star(p, n);
        pattern.len() <= place.len() && pattern.iter().zip(&place).all(one)
    }

    #[test]
    fn what_is_in_path_and_what_proves_is_mounted() {
        for toolchain in TOOLCHAINS {
            assert!(!toolchain.parts.is_empty() && !toolchain.path.is_empty());
            for way in toolchain.path {
                let (Way::At(place) | Way::Newest(place)) = way else { continue };
                let mounted = |part: &&str| {
                    covers(part, place)
                        || part.starts_with(place)
                        || place.starts_with(part)
                        || place.contains("aliases")
                };
                assert!(toolchain.parts.iter().any(mounted), "{place} of {}", toolchain.name);
            }
        }
    }

    #[test]
    fn ten_comes_after_nine() {
        assert!(version_key("v10.0.0") > version_key("v9.99.1"));
        assert!(version_key("go1.22.0") > version_key("go1.9.7"));
        assert!(version_key("21.0.2-tem") > version_key("17.0.10-tem"));
    }
}
