//! The documentation says what the programs say: policies in it are valid, problems are those that exist, links lead
//! somewhere.

use rcc_policy::{Protect, SETS};
use rcc_report::EXPLANATIONS;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The fenced blocks of one language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn every_policy_in_the_documentation_is_valid() {
    for path in ["README.md", "docs/policy.md"] {
        let document = text(path);
        let policies = blocks(&document, "toml");
        assert!(!policies.is_empty(), "{path} shows no policy");
        for policy in policies {
            let parsed = rcc_policy::parse(policy, path).unwrap_or_else(|p| panic!("{p:#?}"));
            assert!(
                !parsed.resolve(&[]).unwrap().allow.is_empty(),
                "{path}: a policy that allows nothing shows little"
            );
        }
    }
}

#[test]
fn the_sets_and_the_protected_paths_are_those_of_the_code() {
    let document = text("docs/policy.md");
    for (name, endpoints, _) in SETS {
        assert!(document.contains(&format!("| `{name}` |")), "{name}");
        for host in endpoints.iter().filter_map(|e| e.split_once(':')).map(|(host, _)| host) {
            assert!(document.contains(&format!("`{host}")), "{name}: {host}");
        }
    }
    for path in Protect::DEFAULT.iter().chain(Protect::ALWAYS) {
        assert!(document.contains(&format!("`{path}`")), "{path}");
    }
}

#[test]
fn every_problem_is_explained_in_its_own_words() {
    let document = text("docs/problems.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| RCC-"));
    let told: Vec<(String, String)> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let (code, meaning) = (cells.next().unwrap(), cells.next().unwrap());
            assert!(cells.next().is_some_and(|remedy| remedy.len() > 2), "RCC-{code} has no remedy");
            (format!("RCC-{code}"), meaning.to_owned())
        })
        .collect();
    let known: Vec<_> = EXPLANATIONS.iter().map(|(code, meaning)| (code.to_string(), (*meaning).to_owned())).collect();
    assert_eq!(told, known);
}

/// By each code's name in the programs' own sources, without their tests.
#[test]
fn what_no_program_says_is_marked() {
    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["tests", "target"].contains(&name.as_str()) {
                sources(&path, all);
            } else if name.ends_with(".rs") && !["tests.rs", "codes.rs"].contains(&name.as_str()) {
                let text = fs::read_to_string(&path).unwrap();
                all.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
            }
        }
    }
    let mut all = String::new();
    sources(&root().join("rust"), &mut all);
    let said: HashSet<&str> = all
        .split("Code::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap())
        .collect();
    let document = text("docs/problems.md");
    let codes = text("rust/rcc-report/src/codes.rs");
    let mut seen = 0;
    for line in codes.lines().filter_map(|line| line.strip_prefix("    ")) {
        let Some((name, rest)) = line.split_once(" = ") else { continue };
        let Some(number) = rest.split_once(", \"").and_then(|(number, _)| number.parse::<u16>().ok()) else { continue };
        let row = document.lines().find(|row| row.starts_with(&format!("| RCC-{number:03} |"))).unwrap();
        assert_eq!(said.contains(name), !row.contains("*Not raised yet*"), "{name}: {row}");
        seen += 1;
    }
    assert_eq!(seen, EXPLANATIONS.len());
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut documents = vec![root().join("README.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|e| e.unwrap().path());
        documents.extend(entries.filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    for document in documents {
        let content = fs::read_to_string(&document).unwrap();
        for rest in content.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            if !target.contains("://") && !target.is_empty() {
                assert!(document.with_file_name(target).exists(), "{}: {target}", document.display());
            }
        }
    }
}
