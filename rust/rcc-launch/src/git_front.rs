//! `git` as the agent finds it first: the real git, and where that can't write the repository's configuration, which is
//! read-only inside, one line that says what to do instead. A help, not a wall: who calls the real git misses the line.
//!
//! git says itself, by its trace (git's "Trace2 API"), that a configuration could not be written; its words to people
//! are translated, and its exit code is often 0.

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name by which this program is git.
pub const NAME: &str = "git";
/// Where git's trace goes: one of the descriptors that it takes (2 to 9).
const TRACE: RawFd = 9;
const TRACE_VARIABLE: &str = "GIT_TRACE2_EVENT";
/// Bytes of a trace that are looked at.
const TRACE_LIMIT: u64 = 16 << 20;
/// Subcommands that write the repository's configuration.
const WRITERS: &[&str] = &[
    "branch",
    "checkout",
    "config",
    "fetch",
    "init",
    "lfs",
    "maintenance",
    "pull",
    "push",
    "remote",
    "sparse-checkout",
    "submodule",
    "switch",
    "worktree",
];
/// Options before the subcommand whose value is the next word.
const WITH_VALUE: &[&str] = &["-C", "-c", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env"];

/// Runs the real git; gives its exit code, or does not return.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    let Some(git) = real_git() else {
        eprintln!("rcc: git: not found");
        return 127;
    };
    let subcommand = subcommand(arguments);
    let name = subcommand.map(|at| arguments[at].to_string_lossy().into_owned()).unwrap_or_default();
    if name == "gc" && others_are_closed(&git, &arguments[..subcommand.unwrap_or(0)]) {
        eprintln!(
            "rcc: git gc would write this repository's other worktrees, which are read-only in this session; outside of it: {}",
            shown(arguments)
        );
        return 1;
    }
    if WRITERS.contains(&name.as_str()) && std::env::var_os(TRACE_VARIABLE).is_none() {
        let after = &arguments[subcommand.map_or(0, |at| at + 1)..];
        if name == "submodule" && makes_repository(&git, &arguments[..subcommand.unwrap_or(0)], after) {
            eprintln!("rcc: a submodule's repository can't be made in a session; outside of it: {}", shown(arguments));
            return 1;
        }
        if let Some(code) = traced(&git, arguments, &name) {
            return code;
        }
    }
    let error = Command::new(&git).args(arguments).arg0(NAME).exec();
    eprintln!("rcc: {}: {error}", git.display());
    126
}

/// Whether the repository has worktrees that can't be written.
fn others_are_closed(git: &Path, before: &[OsString]) -> bool {
    let asked = Command::new(git).args(before).args(["rev-parse", "--git-common-dir"]).stderr(Stdio::null()).output();
    let Some(common) = asked.ok().and_then(|output| String::from_utf8(output.stdout).ok()) else { return false };
    let worktrees = fs::read_dir(Path::new(common.trim_end_matches('\n')).join("worktrees")).into_iter().flatten();
    let closed =
        |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK) == Err(nix::errno::Errno::EROFS);
    worktrees.flatten().any(|entry| closed(&entry.path()))
}

/// The first git in PATH that is not this program.
fn real_git() -> Option<PathBuf> {
    let me = fs::metadata("/proc/self/exe").ok().map(|m| (m.dev(), m.ino()));
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|git| {
        let is_program = |m: &fs::Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
        fs::metadata(git).is_ok_and(|m| is_program(&m) && Some((m.dev(), m.ino())) != me)
    })
}

/// Where the subcommand stands.
fn subcommand(arguments: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        if !argument.as_encoded_bytes().starts_with(b"-") {
            return Some(at);
        }
        at += if WITH_VALUE.iter().any(|option| argument == option) { 2 } else { 1 };
    }
    None
}

/// Whether a call of `git submodule` would make a repository: that of a submodule which is not there yet. The host's git
/// would act on its configuration, so the session would be stopped.
fn makes_repository(git: &Path, before: &[OsString], after: &[OsString]) -> bool {
    let lines = |arguments: &[&str]| {
        let output = Command::new(git).args(before).args(arguments).stderr(Stdio::null()).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    match after.iter().find(|a| !a.as_encoded_bytes().starts_with(b"-")).and_then(|a| a.to_str()) {
        Some("add") => true,
        Some("update") => {
            let (missing, there): (Vec<_>, Vec<_>) =
                lines(&["submodule", "status"]).into_iter().partition(|line| line.starts_with('-'));
            if after.iter().any(|a| a == "--init") {
                return !missing.is_empty();
            }
            lines(&["config", "--name-only", "--get-regexp", r"^submodule\..*\.url$"]).len() > there.len()
        }
        _ => false,
    }
}

/// Runs git with a trace that only this program sees. None if no trace could be made.
fn traced(git: &Path, arguments: &[OsString], name: &str) -> Option<u8> {
    let trace = File::from(memfd_create(c"trace", MFdFlags::MFD_CLOEXEC).ok()?);
    let raw = trace.as_raw_fd();
    // What the terminal sends concerns git, whose end is waited for.
    for number in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring a signal runs no code of this program's.
        unsafe { signal(number, SigHandler::SigIgn) }.ok()?;
    }
    let mut command = Command::new(git);
    command.args(arguments).arg0(NAME).env(TRACE_VARIABLE, TRACE.to_string());
    // SAFETY: dup2 and signal are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for number in [Signal::SIGINT, Signal::SIGQUIT] {
                signal(number, SigHandler::SigDfl)?;
            }
            nix::errno::Errno::result(libc::dup2(raw, TRACE))?;
            Ok(())
        });
    }
    let status = command.status().ok()?;
    if configuration_not_written(trace) {
        eprintln!("rcc: {}", advice(name, arguments));
    }
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(255);
    Some(u8::try_from(code & 0xff).unwrap_or(255))
}

/// Whether the trace has an error about a file that is a repository's configuration.
fn configuration_not_written(mut trace: File) -> bool {
    let mut text = Vec::new();
    if trace.seek(SeekFrom::Start(0)).and_then(|_| trace.take(TRACE_LIMIT).read_to_end(&mut text)).is_err() {
        return false;
    }
    String::from_utf8_lossy(&text).lines().any(|line| {
        let word_is_config = |word: &str| {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric());
            let of_module = word.contains("git/modules/") && word.ends_with("/config");
            of_module || word.ends_with("git/config") || word.ends_with("git/config.worktree")
        };
        line.contains("\"event\":\"error\"") && line.contains(".git/") && line.split_whitespace().any(word_is_config)
    })
}

fn advice(name: &str, arguments: &[OsString]) -> String {
    let outside = format!("outside of it: {}", shown(arguments));
    match name {
        "config" => {
            format!(".git/config is read-only in this session; for sessions alone: git config --global …; {outside}")
        }
        "push" | "pull" | "fetch" | "branch" | "switch" | "checkout" => format!(
            ".git/config is read-only in this session, so no upstream was recorded (push needs none; git pull origin BRANCH works); {outside}"
        ),
        "submodule" => format!(
            "git's configuration is read-only in this session; to check out the recorded commits: git submodule foreach 'git checkout $sha1'; {outside}"
        ),
        _ => format!(".git/config is read-only in this session; {outside}"),
    }
}

/// The call as one could paste it into a shell.
fn shown(arguments: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+".contains(c);
    let word = |argument: &OsStr| {
        let text = argument.to_string_lossy();
        if !text.is_empty() && text.chars().all(plain) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
    };
    let words: Vec<String> =
        [OsStr::new(NAME)].into_iter().chain(arguments.iter().map(OsString::as_os_str)).map(word).collect();
    rcc_report::escaped(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_subcommand_stands_after_options_and_their_values() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(subcommand(&words("-C dir -c a=b --no-pager push -u")), Some(5));
        assert_eq!(subcommand(&words("--git-dir=x remote add")), Some(1));
        assert_eq!(subcommand(&words("--version")), None);
    }

    #[test]
    fn only_an_error_about_the_configuration_counts() {
        let said = |line: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(line.as_bytes()).unwrap();
            configuration_not_written(file)
        };
        let error = |msg: &str| format!("{{\"event\":\"error\",\"sid\":\"x\",\"msg\":\"{msg}\"}}\n");
        assert!(said(&error("could not write config file .git/config: Device or resource busy")));
        assert!(said(&error("konnte Konfigurationsdatei '/p/.git/modules/l/config' nicht schreiben: belegt")));
        assert!(!said(&error("pathspec '.git/configs' did not match")));
        assert!(!said("{\"event\":\"start\",\"argv\":[\"git\",\"diff\",\".git/config\"]}"));
    }
}
