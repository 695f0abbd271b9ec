//! The variables of a devShell, as data: what Nix has of them, and what the person's own shell gets (`use rcc`).
//!
//! Invariant: no text of a flake is run by a shell outside. Of the variables, those go out that nothing reads but nixpkgs'
//! own compilers and pkg-config; any other name may be one by which some program of the host's loads or runs something. Of
//! their values, what names a file goes out if that lies in the approved closure: elsewhere the agent may put another.

use super::store;
use rcc_report::{Code, Problem, escaped};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Names that go out.
const NAMES: &[&str] =
    &["NIX_CFLAGS_COMPILE", "NIX_LDFLAGS", "NIX_HARDENING_ENABLE", "NIX_ENFORCE_NO_NATIVE", "PKG_CONFIG_PATH"];
/// How names begin that go out: with what is said for which processor.
const BEGINNINGS: &[&str] =
    &["NIX_CC_WRAPPER_TARGET_", "NIX_BINTOOLS_WRAPPER_TARGET_", "NIX_PKG_CONFIG_WRAPPER_TARGET_"];

/// All exported variables that are text.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// From what `nix print-dev-env --json` prints.
    pub(super) fn parse(json: &str) -> Result<Self, Problem> {
        let bad = |what: String| {
            let remedy = "try it: nix print-dev-env --json";
            Problem::new(Code::TOOLCHAIN_BUILD, "the devShell's variables", what, remedy)
        };
        let mut all: Value = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        let variables = all.get_mut("variables").map(Value::take);
        let Some(Value::Object(all)) = variables else { return Err(bad("Nix named none".into())) };
        let text = |(name, about): (String, Value)| {
            let exported = about.get("type")? == "exported";
            let value = about.get("value")?.as_str().filter(|_| exported)?;
            Some((name, value.to_owned()))
        };
        Ok(Self(all.into_iter().filter_map(text).collect()))
    }

    /// Its PATH.
    pub(super) fn path(&self) -> &str {
        self.0.get("PATH").map_or("", String::as_str)
    }

    /// What the person's own shell gets besides PATH, of a closure's names.
    pub(super) fn outside(&self, closure: &[String]) -> BTreeMap<String, String> {
        let all = self.0.iter().filter(|(name, value)| goes_out(name) && escaped(value) == **value);
        let kept = all.map(|(name, value)| (name.clone(), of_the_closure(name, value, closure)));
        kept.filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// The words of a value that name nothing, or something in the closure.
fn of_the_closure(name: &str, value: &str, closure: &[String]) -> String {
    let within = |path: &str| store::name_of(Path::new(path)).is_some_and(|name| closure.iter().any(|n| n == name));
    if name == "PKG_CONFIG_PATH" {
        return value.split(':').filter(|folder| within(folder)).collect::<Vec<_>>().join(":");
    }
    let mut kept = Vec::new();
    let mut words = value.split_ascii_whitespace();
    while let Some(word) = words.next() {
        if FOLDER_FOLLOWS.contains(&word) {
            kept.extend(words.next().filter(|folder| within(folder)).into_iter().flat_map(|folder| [word, folder]));
        } else if FOLDER_BEGINNINGS.iter().any(|begin| word.strip_prefix(begin).is_some_and(within))
            || names_nothing(word)
        {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Words of compilers and linkers after which a folder comes.
const FOLDER_FOLLOWS: &[&str] = &["-isystem", "-idirafter", "-iquote", "-rpath", "-rpath-link"];
/// How their words begin that end in a folder.
const FOLDER_BEGINNINGS: &[&str] = &["-I", "-L", "-B"];

/// Whether a word is a plain one (`all`, `1`), the seed of the compiler's names, or a library by its name.
fn names_nothing(word: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b));
    let bare = |text: &str| plain(text) && !text.starts_with('-');
    bare(word) || ["-frandom-seed=", "-l"].iter().any(|begin| word.strip_prefix(begin).is_some_and(bare))
}

/// Whether a variable of this name goes out. A name is not quoted, so it has nothing that a shell would read.
pub(super) fn goes_out(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain && (NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_is_known_by_name() {
        let text = r#"{ "bashFunctions": { "evil": "touch x" }, "variables": {
            "PATH": { "type": "exported", "value": "/nix/store/a/bin:/b" },
            "PKG_CONFIG_PATH": { "type": "exported", "value": "/nix/store/a/lib/it's:./vendor:/nix/store/a/../b:/nix/store/b" },
            "NIX_CC_WRAPPER_TARGET_HOST_x86_64_unknown_linux_gnu": { "type": "exported", "value": "1" },
            "NIX_CC_WRAPPER_TARGET_$(touch x)": { "type": "exported", "value": "1" },
            "NIX_LDFLAGS": { "type": "exported", "value": "-L/x\n touch x" },
            "NIX_CFLAGS_COMPILE": { "type": "var", "value": "not exported" },
            "NIX_HARDENING_ENABLE": { "type": "array", "value": ["a"] },
            "LD_PRELOAD": { "type": "exported", "value": "/x" }, "LD_LIBRARY_PATH": { "type": "exported", "value": "/x" },
            "BASH_ENV": { "type": "exported", "value": "/x" }, "PROMPT_COMMAND": { "type": "exported", "value": "x" },
            "GIT_SSH_COMMAND": { "type": "exported", "value": "x" }, "NIX_CONFIG": { "type": "exported", "value": "x" },
            "NIX_PATH": { "type": "exported", "value": "x" }, "PYTHONPATH": { "type": "exported", "value": "/x" },
            "shellHook": { "type": "exported", "value": "touch x" }, "GREETING": { "type": "exported", "value": "hello" }
        } }"#;
        let all = Variables::parse(text).unwrap();
        assert_eq!(all.path(), "/nix/store/a/bin:/b");
        let names: Vec<String> = all.outside(&["a".to_owned()]).into_keys().collect();
        assert_eq!(names, ["NIX_CC_WRAPPER_TARGET_HOST_x86_64_unknown_linux_gnu", "PKG_CONFIG_PATH"]);
        assert_eq!(all.outside(&["a".to_owned()])["PKG_CONFIG_PATH"], "/nix/store/a/lib/it's");
        for bad in ["", "{}", "[]", r#"{"variables": []}"#] {
            assert!(Variables::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_names_a_file_goes_out_if_it_is_in_the_closure() {
        let closure = ["a".to_owned()];
        for (value, kept) in [
            (
                " -frandom-seed=ab1 -isystem /nix/store/a/include -isystem include -I/nix/store/a/x -I. -Ix",
                "-frandom-seed=ab1 -isystem /nix/store/a/include -I/nix/store/a/x",
            ),
            ("-fplugin=x.so -B./x -B/nix/store/b -wrapper x", "x"),
            ("-rpath /home/p/outputs/out/lib -L/nix/store/a/lib -L/lib -lz -l:x.a", "-L/nix/store/a/lib -lz"),
            ("bindnow format pic", "bindnow format pic"),
            ("@x -isystem", ""),
        ] {
            assert_eq!(of_the_closure("NIX_CFLAGS_COMPILE", value, &closure), kept, "{value}");
        }
    }
}
