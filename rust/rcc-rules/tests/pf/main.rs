//! pf's rules: what they say as text, that they decide as the policy does, and that nothing else is taken for them.

mod decide;
mod seen;
mod text;

use rcc_packets::{FULL, facts, mac, policy};
use rcc_rules::pf::{Call, Kernel, Line, Ruleset};

fn ruleset(text: &str) -> Ruleset {
    let policy = policy(text);
    Ruleset::new(&policy.egress(), policy.fingerprint(), &facts(), &mac())
}

/// pf with these rules, as macOS calls them, and others of the system's beside them.
fn kernel(rules: &Ruleset) -> Kernel {
    let call = |name: &str| Line::Anchor(Call { name: name.to_owned(), quick: false });
    Kernel {
        enabled: true,
        main: vec![call("com.apple/*")],
        anchors: [
            ("com.apple/000.rcc".to_owned(), rules.rules.iter().cloned().map(Line::Rule).collect()),
            ("com.apple/250.ApplicationFirewall".to_owned(), Vec::new()),
            ("elsewhere".to_owned(), Vec::new()),
        ]
        .into(),
        ..Kernel::default()
    }
}

fn full() -> Ruleset {
    ruleset(FULL)
}
