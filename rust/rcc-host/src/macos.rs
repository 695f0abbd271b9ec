//! What the directory service and launchd of a Mac print, as values: plain functions of text.

use crate::accounts::User;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The account of a line of `id -P`: as passwd(5) has it on BSDs, with class, change and expiry before the comment. A Mac's
/// /etc/passwd has nobody but the system's.
#[must_use]
pub fn account(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let &[name, _, uid, gid, _, _, _, comment, home, shell] = fields.as_slice() else { return None };
    User::of([name, uid, gid, comment, home, shell])
}

/// A record as `dscl . -read` prints it: a value on its name's line, or on lines of its own that begin with a blank.
#[must_use]
pub fn record(text: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            let value = all.entry(last.clone()).or_default();
            if !value.is_empty() {
                value.push('\n');
            }
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            // `dsAttrTypeNative:IsHidden: 1`
            let (name, value) = match name {
                "dsAttrTypeNative" | "dsAttrTypeStandard" => value.split_once(':').unwrap_or((value, "")),
                _ => (name, value),
            };
            name.trim().clone_into(&mut last);
            all.insert(last.clone(), value.trim().to_owned());
        }
    }
    all
}

/// The names that have an id, of `dscl . -list /Users UniqueID`.
#[must_use]
pub fn with_id(list: &str, id: u32) -> Vec<String> {
    let entry = |line: &str| {
        let (name, number) = line.trim_end().rsplit_once(char::is_whitespace)?;
        (number.parse() == Ok(id)).then(|| name.trim().to_owned())
    };
    list.lines().filter_map(entry).collect()
}

/// A process, as `ps` shows whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// Its number.
    pub pid: u32,
    /// Its effective user's id. Ids are signed there: nobody's is -2.
    pub uid: i64,
    /// Its effective group's id.
    pub gid: i64,
    /// What was asked for besides, such as its arguments; one that has ended may have none.
    pub rest: &'a str,
}

/// The processes of `ps -axww -o pid=,uid=,gid=…`. An error if a line is none of ps's: then nobody knows.
pub fn processes(text: &str) -> Result<Vec<Process<'_>>, String> {
    fn word(text: &str) -> (&str, &str) {
        let text = text.trim_start();
        text.split_once(char::is_whitespace).unwrap_or((text, ""))
    }
    fn one(line: &str) -> Option<Process<'_>> {
        let (pid, rest) = word(line);
        let (uid, rest) = word(rest);
        let (gid, rest) = word(rest);
        Some(Process { pid: pid.parse().ok()?, uid: uid.parse().ok()?, gid: gid.parse().ok()?, rest: rest.trim() })
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| one(line).ok_or_else(|| format!("not understood: {line}"))).collect()
}

/// A job of launchd's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The file that it was loaded from.
    pub path: Option<PathBuf>,
    /// The program that it runs.
    pub program: Option<PathBuf>,
    /// Whether it runs now.
    pub running: bool,
    /// What it last ended with, if it ever ended.
    pub last_exit: Option<i32>,
    /// The variables that its file gives it.
    pub environment: BTreeMap<String, String>,
}

/// A job as `launchctl print system/LABEL` shows it: its own lines alone, not those of the blocks in it, nor what an argument
/// with a line break puts at a line's start.
#[must_use]
pub fn job(text: &str) -> Job {
    let own = text.lines().filter_map(|line| line.strip_prefix('\t')).filter(|line| !line.starts_with(['\t', ' ']));
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in own.filter_map(|line| line.split_once(" = ")) {
        fields.entry(name).or_insert(value);
    }
    let path = |name: &str| fields.get(name).map(PathBuf::from);
    // `0`, `78: EX_CONFIG`, `(never exited)`
    let last_exit = fields.get("last exit code").and_then(|v| v.split(':').next()?.trim().parse().ok());
    let mut environment = BTreeMap::new();
    let block = text.lines().skip_while(|line| *line != "\tenvironment = {").skip(1).take_while(|line| *line != "\t}");
    for (name, value) in block.filter_map(|line| line.strip_prefix("\t\t")?.split_once(" => ")) {
        environment.insert(name.to_owned(), value.to_owned());
    }
    let running = fields.get("state") == Some(&"running");
    Job { path: path("path"), program: path("program"), running, last_exit, environment }
}

/// Why a folder can't be a project on a Mac, by its real path: an agents' machine sees folders of the person's own, and nothing
/// that programs keep for them. Names are one in either case there.
#[must_use]
pub fn no_project(path: &Path, home: &Path) -> Option<&'static str> {
    let one_case = |path: &Path| PathBuf::from(path.to_string_lossy().to_lowercase());
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let (folder, home) = (one_case(path), one_case(home));
    if !path.is_absolute() || !path.components().all(plain) {
        return Some("its path is not absolute and plain");
    }
    if home.starts_with(&folder) {
        return Some("it is the home folder, or holds it");
    }
    if let Ok(below) = folder.strip_prefix(&home) {
        let first = below.iter().next().unwrap_or_default().to_string_lossy();
        let kept = first.starts_with('.') || ["library", "applications"].contains(&first.as_ref());
        return kept.then_some("programs keep there what is yours and no project's");
    }
    let below = |above: &str, names: usize| folder.strip_prefix(above).is_ok_and(|rest| rest.iter().count() >= names);
    let may = below("/users/shared", 1) || below("/volumes", 2);
    (!may).then_some("it lies neither in your home folder, nor in a folder of /Users/Shared or of a volume")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_a_folder_of_the_persons_own() {
        let home = Path::new("/Users/alice");
        for folder in ["/Users/alice/src/app", "/Users/alice/a b", "/Users/Shared/app", "/Volumes/work/app"] {
            assert_eq!(no_project(Path::new(folder), home), None, "{folder}");
        }
        for folder in [
            "/",
            "/Users",
            "/users",
            "/Users/alice",
            "/Users/Alice",
            "/Users/alice/.ssh",
            "/Users/alice/.SSH/x",
            "/Users/alice/Library/Keychains",
            "/Users/alice/library",
            "/Users/alice/src/../.ssh",
            "/Users/alicea/src",
            "/Users/bob/src",
            "/Users/Shared",
            "/Volumes",
            "/Volumes/Macintosh HD",
            "/System/Volumes/Data",
            "/System/Volumes/Data/Users/alice/src",
            "/private",
            "/var/folders",
            "/private/var/folders/x/T",
            "/etc",
            "/opt/homebrew",
            "/usr/local",
            "src/app",
            "",
        ] {
            assert!(no_project(Path::new(folder), home).is_some(), "{folder}");
        }
    }

    #[test]
    fn a_record_has_values_on_their_line_or_below() {
        let all = record(
            "dsAttrTypeNative:IsHidden: 1\nPassword: *\nRealName:\n rcc gateway\nRecordType: dsRecTypeStandard:Users\nUniqueID: 391\n",
        );
        assert_eq!(all["RealName"], "rcc gateway");
        assert_eq!(all["UniqueID"], "391");
        assert_eq!(all["IsHidden"], "1");
        assert_eq!(all["RecordType"], "dsRecTypeStandard:Users");
    }

    #[test]
    fn an_account_is_a_line_of_ten_fields() {
        let alice = account("alice:********:501:20::0:0:Alice Q:/Users/alice:/bin/zsh\n").unwrap();
        assert_eq!((alice.name.as_str(), alice.uid, alice.gid), ("alice", 501, 20));
        assert_eq!((alice.home.to_str(), alice.comment.as_str()), (Some("/Users/alice"), "Alice Q"));
        for line in ["", "alice:x:501:20:Alice:/Users/alice:/bin/zsh", "alice:*:x:20::0:0:A:/Users/alice:/bin/zsh"] {
            assert_eq!(account(line), None, "{line}");
        }
    }

    #[test]
    fn ids_are_found_whatever_the_names_have_in_them() {
        let list = "_www                     70\nnobody                  -2\nalice smith             391\n_x391                    3910\n";
        assert_eq!(with_id(list, 391), ["alice smith"]);
        assert_eq!(with_id(list, 70), ["_www"]);
    }

    const PRINTED: &str = "\
system/dev.rcc.firewall = {
\tactive count = 1
\tpath = /Library/LaunchDaemons/dev.rcc.firewall.plist
\ttype = LaunchDaemon
\tstate = running

\tprogram = /usr/local/libexec/rcc/0.1.0/rcc-firewall
\targuments = {
\t\t/usr/local/libexec/rcc/0.1.0/rcc-firewall
\t\tstate = stopped
\t}

\tstdout path = /dev/null
\tdefault environment = {
\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin
\t}
\tenvironment = {
\t\tRCC_UNIT => 0123456789abcdef
\t\tXPC_SERVICE_NAME => dev.rcc.firewall
\t}
\tresource coalition = {
\t\tID = 777
\t\tstate = active
\t}
\tdomain = system
\truns = 1
\tpid = 1219
\timmediate reason = speculative
\tlast exit code = (never exited)
\tspawn type = daemon (3)
\tjob state = running
}
";

    #[test]
    fn a_job_is_read_by_its_own_lines() {
        let found = job(PRINTED);
        assert!(found.running);
        assert_eq!(found.path.unwrap().to_str(), Some("/Library/LaunchDaemons/dev.rcc.firewall.plist"));
        assert_eq!(found.program.unwrap().to_str(), Some("/usr/local/libexec/rcc/0.1.0/rcc-firewall"));
        assert_eq!(found.last_exit, None);
        assert_eq!(found.environment["RCC_UNIT"], "0123456789abcdef");
        assert!(!found.environment.contains_key("PATH"));
        for (code, number) in [("0", 0), ("78: EX_CONFIG", 78)] {
            let text = PRINTED.replace("(never exited)", code).replace("\tstate = running", "\tstate = not running");
            let found = job(&text);
            assert_eq!((found.running, found.last_exit), (false, Some(number)));
        }
    }
}
