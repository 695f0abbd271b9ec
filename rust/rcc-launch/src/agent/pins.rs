//! The one table of agents: which version, and the hash its package must have. Pure.
//!
//! An agent's npm package is a front for one package a platform, which holds one native program. That one is fetched:
//! no Node runs, and nothing of the front's.

/// One platform's package of one version of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Pin<'a> {
    /// The agent's name in rcc and in paths.
    pub agent: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The processor, as `std::env::consts::ARCH` names it. The system is Linux with glibc.
    pub arch: &'a str,
    /// The npm package.
    pub package: &'a str,
    /// The tarball's hash as npm writes it (Subresource Integrity: `sha512-` and base64).
    pub integrity: &'a str,
    /// The program's path below the package.
    pub program: &'a str,
    /// The program's size in bytes; none before the first installation of a version that the person named.
    pub size: Option<u64>,
}

/// Claude Code. How to move it: `npm view @anthropic-ai/claude-code version`, then for each package
/// `npm view PACKAGE@VERSION dist.integrity` and `npm pack PACKAGE@VERSION` (which shows the program's size).
pub const CLAUDE: &[Pin<'static>] = &[
    Pin {
        agent: "claude",
        version: "2.1.330",
        arch: "x86_64",
        package: "@anthropic-ai/claude-code-linux-x64",
        integrity: "sha512-9Gn+V7DtJ8M1nztP9CeDVl9g3RtrepI7rOFTyPRRnZe8D6zebIHKmC7OvBauucuAP0X0k85SDN/LPVZyjsGezQ==",
        program: "claude",
        size: Some(381_121_040),
    },
    Pin {
        agent: "claude",
        version: "2.1.330",
        arch: "aarch64",
        package: "@anthropic-ai/claude-code-linux-arm64",
        integrity: "sha512-V4yanAY5EA5UpwwRPtjSfqDbNqAlUJeVn3NYZw2AgmRHjdpSsLtHAzbxRXfkAnbjwTXzE0uedjQxUY02ARPcsA==",
        program: "claude",
        size: Some(379_971_000),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    #[test]
    fn every_pin_is_whole() {
        for pin in CLAUDE {
            let hash = STANDARD.decode(pin.integrity.strip_prefix("sha512-").unwrap()).unwrap();
            assert_eq!(hash.len(), 64, "{}", pin.package);
            assert_eq!(pin.version, CLAUDE[0].version, "one version on every platform");
            assert!(!pin.program.starts_with('/') && !pin.program.contains(".."), "{}", pin.program);
        }
    }
}
