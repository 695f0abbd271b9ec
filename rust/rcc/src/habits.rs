//! What a person's habits need inside: the terminal's name with its description, colours, language, time zone. Nothing
//! else of the caller's environment is heard.

use rcc_launch::added::{Access, Added};
use rcc_launch::machine::Person;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NAMES: &[&str] = &[
    "TERM",
    "COLORTERM",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
    "TZ",
    "NO_COLOR",
    "FORCE_COLOR",
];
/// Where descriptions of terminals are inside (terminfo(5)); all of the host's.
const TERMINFO: &[&str] = &["/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"];
/// Names that take the place of one that nothing describes, the first that is described.
const INSTEAD: &[&str] = &["xterm-256color", "xterm", "vt100"];

/// The variables, and the file of the person's own that describes the terminal, if only that does.
pub fn of(person: &Person) -> (BTreeMap<String, String>, Option<Added>) {
    let plain = |value: &String| value.len() < 200 && !value.chars().any(char::is_control);
    let value = |name: &str| std::env::var(name).ok().filter(plain);
    let mut all: BTreeMap<String, String> =
        NAMES.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect();
    let Some(term) = all.get("TERM").cloned() else { return (all, None) };
    if TERMINFO.iter().any(|folder| described(Path::new(folder), &term).is_some()) {
        return (all, None);
    }
    let own = described(&person.home.join(".terminfo"), &term);
    let own = own.and_then(|file| Added::open(&file, Access::ReadOnly).ok()).filter(|file| file.owner == person.uid);
    if own.is_some() {
        return (all, own);
    }
    let there = |name: &&&str| TERMINFO.iter().any(|folder| described(Path::new(folder), name).is_some());
    let instead = INSTEAD.iter().find(there).copied().unwrap_or("dumb");
    eprintln!(
        "rcc: nothing in /usr or ~/.terminfo describes the terminal `{}`; inside it is `{instead}`",
        rcc_report::escaped(&term)
    );
    all.insert("TERM".into(), instead.into());
    (all, None)
}

/// The file that describes a terminal, in a folder named by its first letter or that letter's number.
fn described(folder: &Path, term: &str) -> Option<PathBuf> {
    let first = term.bytes().next()?;
    // A name, and no path.
    let good = term.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b)) && first.is_ascii_alphanumeric();
    let folders = [char::from(first).to_string(), format!("{first:x}")];
    good.then(|| folders.map(|f| folder.join(f).join(term)).into_iter().find(|file| file.is_file()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_described_by_a_file_of_its_name() {
        let dir = std::env::temp_dir().join(format!("rcc-terminfo-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("x")).unwrap();
        std::fs::create_dir_all(dir.join("6b")).unwrap();
        std::fs::write(dir.join("x/xterm-mine"), "").unwrap();
        std::fs::write(dir.join("6b/kitty"), "").unwrap();
        assert_eq!(described(&dir, "xterm-mine"), Some(dir.join("x/xterm-mine")));
        assert_eq!(described(&dir, "kitty"), Some(dir.join("6b/kitty")));
        for bad in ["", "x", "../x/xterm-mine", "x/../x/xterm-mine", "other"] {
            assert_eq!(described(&dir, bad), None, "{bad}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
