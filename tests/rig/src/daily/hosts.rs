//! One more host, in a project that may reach none.

use super::{Inside, Row, Table};
use crate::{Rig, shown};
use anyhow::{Result, ensure};

/// What the person types outside first, and what comes of the request inside.
const STEPS: &[(&str, &[&str], bool)] = &[
    ("a host that nobody allowed", &[], false),
    ("after rcc allow --project", &["allow", "--project", "denied.example:80"], true),
    ("after rcc deny --project", &["deny", "--project", "denied.example"], false),
];
/// A request, and where it fails the line that says what to do.
const SCRIPT: &str = "curl -sf http://denied.example/ >/dev/null || { curl -s http://rcc.internal/why | grep -o 'rcc allow [^ ]*'; exit 1; }";

/// The rows. The rig's policy allows no host.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    for (what, typed, works) in STEPS {
        if !typed.is_empty() {
            let said = rig.rcc(*typed).output()?;
            ensure!(said.status.success(), "{}", shown(&said));
        }
        let control = rig.command("/usr/bin/curl").args(["-sf", "http://denied.example/"]).output()?;
        let outside = if control.status.success() { Ok(()) } else { Err(shown(&control)) };
        let output = rig.inside(SCRIPT)?;
        let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let inside = match (output.status.success(), works) {
            (true, true) => Inside::Works,
            (false, false) if line == "rcc allow denied.example" => Inside::Refused(line),
            _ => Inside::Fails(shown(&output)),
        };
        rows.push(Row { what: (*what).to_owned(), outside: Some(outside), inside });
    }
    Ok(Table { title: "one more host".to_owned(), rows })
}
