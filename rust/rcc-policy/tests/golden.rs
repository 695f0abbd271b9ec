//! Golden cases: `cases/NAME/` holds `policy.toml` (with `grants.txt` and `ask.txt`, a line each) or `rcc.toml`, and what
//! comes of it in `expected.snap`.

use rcc_policy::{HostName, Resolved, Target, parse, parse_project};
use rcc_report::Problem;
use std::fmt::Write;
use std::path::Path;

fn problems(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One line for each `name:port` or `[address]:port` of `ask.txt`.
fn answers(resolved: &Resolved, ask: &str) -> String {
    let mut out = String::new();
    for line in ask.lines() {
        let (host, port) = line.rsplit_once(':').unwrap();
        let port = port.parse().unwrap();
        let name;
        let target = if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            Target::Address(ip)
        } else {
            name = HostName::parse(host).unwrap();
            Target::Name(&name)
        };
        writeln!(out, "{line} -> {}", serde_json::to_string(&resolved.decide(target, port)).unwrap()).unwrap();
    }
    out
}

#[expect(clippy::disallowed_methods, reason = "the cases are files; the crate under test reads none")]
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn outcome(case: &Path) -> String {
    if let Some(text) = read(&case.join("rcc.toml")) {
        return match parse_project(&text, "rcc.toml") {
            Ok(request) => serde_json::to_string_pretty(&request).unwrap(),
            Err(list) => problems(&list),
        };
    }
    let policy = match parse(&read(&case.join("policy.toml")).unwrap(), "policy.toml") {
        Ok(policy) => policy,
        Err(list) => return problems(&list),
    };
    let grants: Vec<String> = read(&case.join("grants.txt")).unwrap_or_default().lines().map(str::to_owned).collect();
    let resolved = match policy.resolve(&grants) {
        Ok(resolved) => resolved,
        Err(list) => return problems(&list),
    };
    match read(&case.join("ask.txt")) {
        Some(ask) => answers(&resolved, &ask),
        None => serde_json::to_string_pretty(&resolved).unwrap(),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the cases are files; the crate under test reads none")]
fn golden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10);
    for case in cases {
        insta::with_settings!({
            snapshot_path => &case,
            prepend_module_to_snapshot => false,
            omit_expression => true,
            description => case.file_name().unwrap().to_string_lossy(),
        }, {
            insta::assert_snapshot!("expected", outcome(&case));
        });
    }
}
