//! Known ways out of containers in the programs that rcc runs, and whether rcc's own use of them is open to each.
//!
//! rcc names crun as the runtime, whatever the machine's default is, so runc's (CVE-2024-21626, CVE-2025-31133,
//! CVE-2025-52565, CVE-2025-52881) are not here: it is never run. crun's author says of each of these that crun is not
//! affected (containers/crun pull 1412, issue 1906). Distributions also mend without a new number, so that an old number alone is
//! no failure: it is one where rcc's use is open to it.

/// A published way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape {
    /// Its number.
    pub cve: &'static str,
    /// The program.
    pub program: &'static str,
    /// The first version without it; absent while there is none.
    pub fixed: Option<(u32, u32, u32)>,
    /// Why what rcc does is not open to it; absent if it is.
    pub kept_away: Option<&'static str>,
}

/// All that are known to this version of rcc. Sources: docs/machines.md.
pub const ESCAPES: &[Escape] = &[
    Escape {
        cve: "CVE-2022-2989",
        program: "podman",
        // At the latest: its mending was brought to old branches in September 2022.
        fixed: Some((4, 3, 0)),
        kept_away: None,
    },
    Escape {
        cve: "CVE-2024-1753",
        program: "podman",
        fixed: Some((5, 0, 1)),
        kept_away: Some("it is in building images, and rcc builds none"),
    },
    Escape {
        cve: "CVE-2024-9675",
        program: "podman",
        fixed: Some((5, 2, 5)),
        kept_away: Some("it is in building images, and rcc builds none"),
    },
    Escape {
        cve: "CVE-2024-9676",
        program: "podman",
        fixed: Some((5, 2, 5)),
        kept_away: Some("it needs --userns=auto and an image; rcc uses keep-id and a root of its own"),
    },
    Escape {
        cve: "CVE-2025-9566",
        program: "podman",
        fixed: Some((5, 6, 1)),
        kept_away: Some("it is in `podman kube play`, which rcc does not call"),
    },
    Escape {
        cve: "CVE-2026-55686",
        program: "podman",
        fixed: Some((5, 7, 1)),
        kept_away: Some("it needs an image with a WORKDIR; rcc runs no image"),
    },
    Escape {
        cve: "CVE-2025-24965",
        program: "crun",
        fixed: Some((1, 20, 0)),
        kept_away: Some("it is in the krun handler, which rcc does not use"),
    },
    Escape {
        cve: "CVE-2026-88264",
        program: "crun",
        fixed: None,
        kept_away: Some("it needs a container without its own /dev; Podman mounts one"),
    },
    Escape {
        cve: "CVE-2026-88265",
        program: "crun",
        fixed: None,
        kept_away: Some("it needs a container without its own /dev; Podman mounts one"),
    },
];
