//! On a Mac: that pfctl reads the text that people are shown, and prints of it what rcc reads again. It needs no root, as
//! `-n` loads nothing.
#![cfg(target_os = "macos")]

use rcc_packets::{FULL, facts, mac, policy};
use rcc_rules::pf::{ANCHOR, Line, Ruleset, Services, lines};
use std::process::Command;

#[test]
fn pfctl_reads_the_text_and_what_it_prints_is_read_again() {
    let file = std::env::temp_dir().join(format!("rcc-pf-{}.conf", std::process::id()));
    let services = std::fs::read_to_string("/etc/services").unwrap();
    for text in [FULL, "", "allow = [\"a.example:443\"]\nupstream_proxy = \"http://10.0.0.3:3128\"\n"] {
        let policy = policy(text);
        let rules = Ruleset::new(&policy.egress(), policy.fingerprint(), &facts(), &mac());
        std::fs::write(&file, rules.to_string()).unwrap();
        // Without its optimizer, which may put rules together.
        let mut pfctl = Command::new("/sbin/pfctl");
        pfctl.args(["-n", "-v", "-o", "none", "-a", ANCHOR, "-f"]).arg(&file);
        let output = pfctl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("syntax error"), "{said}");
        let printed = String::from_utf8_lossy(&output.stdout);
        let wanted: Vec<Line> = rules.rules.into_iter().map(Line::Rule).collect();
        assert_eq!(lines(&printed, &Services::parse(&services)), wanted, "{printed}");
    }
    std::fs::remove_file(&file).unwrap();
}
