//! What git inside knows of the person: the name for commits, as git itself resolves it for this project outside, and
//! settings by which the usual flows need not write the repository's configuration, which is read-only inside.
//!
//! Invariant: a configuration that is broken, or never ends (an include of a FIFO), costs the name and a few seconds, not
//! the session; no helper, key, hook or alias of the person's comes along.

use crate::beneath;
use crate::machine::{Person, program};
use crate::project::Project;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcc_report::{Code, Problem};
use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long git may take to read the person's configuration.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes that it may answer.
const LIMIT: usize = 64 << 10;
/// What is asked for: all of it is a word of the person's about commits, and nothing that runs a program.
const KEYS: &str = r"^(user\.(name|email)|init\.defaultbranch|filter\.lfs\.process)$";

/// What there is for every session. `push` without an upstream goes to the branch of the same name, and no branch begins
/// to track another unasked: both would write `.git/config`. Commits are not signed, since no key is there. Worktrees that
/// are not there inside are not gone, and tidying up, for which git would write theirs, is left to git outside.
const USUAL: &str = "\
[push]
\tdefault = current
[branch]
\tautoSetupMerge = false
[commit]
\tgpgSign = false
[tag]
\tgpgSign = false
[gc]
\tauto = 0
\tworktreePruneExpire = never
";

/// git-lfs as `git lfs install` sets it up, for those who have it outside; in no words but these.
const LFS: &str = "\
[filter \"lfs\"]
\tclean = git-lfs clean -- %f
\tsmudge = git-lfs smudge -- %f
\tprocess = git-lfs filter-process
\trequired = true
";

/// The person's own words, as git resolves them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    name: Option<String>,
    email: Option<String>,
    default_branch: Option<String>,
    lfs: bool,
}

/// Asks the machine's git what it would use in this project. Without git there is nothing to ask; nor where the project's
/// own configuration is no plain file, with which no session starts.
pub fn words(project: &Project, person: &Person) -> Result<Words, Problem> {
    let plain = match beneath::read(&project.folder, Path::new(".git/config"), 4 << 20) {
        Ok(_) => true,
        Err(e) => matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)),
    };
    let Ok(git) = program("git") else { return Ok(Words::default()) };
    if !plain {
        return Ok(Words::default());
    }
    let project = &project.path;
    let unread = |what: String| {
        let remedy =
            format!("look what git says: git -C {} config --get user.name", rcc_report::quoted(project.display()));
        Problem::new(Code::PROJECT_GIT_CONFIG, project.display().to_string(), what, remedy)
    };
    let mut command = Command::new(git);
    command.arg("-C").arg(project).args(["config", "--includes", "--null", "--get-regexp", KEYS]);
    command.env_clear().env("HOME", &person.home).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/").process_group(0);
    let mut child = command.spawn().map_err(|e| unread(format!("git can't be started: {e}")))?;
    let answer = answer(&mut child);
    let _ended_already = child.kill();
    let status = child.wait().map_err(|e| unread(e.to_string()))?;
    let told = answer.map_err(|what| unread(format!("your git configuration was not read: {what}")))?;
    match status.code() {
        // git-config(1): 1 when there is none.
        Some(0 | 1) => Ok(parse(&told)),
        _ => Err(unread("git can't read your configuration for it, so commits inside have no name".into())),
    }
}

/// All that git prints, until its end, the limit or the last moment.
fn answer(child: &mut Child) -> Result<Vec<u8>, String> {
    let mut out = child.stdout.take().ok_or("no pipe")?;
    let (end, mut told, mut part) = (Instant::now() + PATIENCE, Vec::new(), [0; 4096]);
    loop {
        let left = end.checked_duration_since(Instant::now()).ok_or("it took more than 3 seconds")?;
        let timeout = PollTimeout::try_from(left).map_err(|e| e.to_string())?;
        match poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.to_string()),
        }
        match out.read(&mut part).map_err(|e| e.to_string())? {
            0 => return Ok(told),
            count => told.extend_from_slice(&part[..count]),
        }
        if told.len() > LIMIT {
            return Err(format!("more than {LIMIT} bytes"));
        }
    }
}

/// `key\nvalue\0` for each, the last of a key counts.
fn parse(told: &[u8]) -> Words {
    let mut words = Words::default();
    for entry in told.split(|b| *b == 0) {
        let text = String::from_utf8_lossy(entry);
        let Some((key, value)) = text.split_once('\n') else { continue };
        let value = Some(value.to_owned()).filter(|v| !v.is_empty());
        match key {
            "user.name" => words.name = value,
            "user.email" => words.email = value,
            "init.defaultbranch" => words.default_branch = value,
            "filter.lfs.process" => words.lfs = value.is_some(),
            _ => {}
        }
    }
    words
}

/// The text of `/etc/gitconfig` inside.
#[must_use]
pub fn text(words: &Words) -> String {
    let mut text = USUAL.to_owned();
    if words.lfs {
        text.push_str(LFS);
    }
    let user = [("name", &words.name), ("email", &words.email)];
    let init = [("defaultBranch", &words.default_branch)];
    for (section, values) in [("user", &user[..]), ("init", &init[..])] {
        let mut lines = values.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).peekable();
        if lines.peek().is_some() {
            let _infallible = writeln!(text, "[{section}]");
        }
        for (key, value) in lines {
            let _infallible = writeln!(text, "\t{key} = {}", quoted(value));
        }
    }
    text
}

/// A value in git's own notation (git-config(1), "Syntax"); control characters, which no name has, are left out.
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars().take(1000) {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn person(home: &Path) -> Person {
        Person { name: "alice".into(), uid: 0, gid: 0, home: home.to_owned() }
    }

    fn project(dir: &Path) -> Project {
        Project { path: dir.to_owned(), device: 0, inode: 0, folder: fs::File::open(dir).unwrap().into() }
    }

    #[test]
    fn git_reads_back_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let name = "Ann \"x\\\" [alias]\n\tst = !evil # ; ü";
        let words = Words {
            name: Some(name.into()),
            email: Some("a\u{7}@b".into()),
            default_branch: Some("trunk".into()),
            lfs: true,
        };
        let file = dir.path().join("config");
        fs::write(&file, text(&words)).unwrap();
        let get = |key: &str| {
            let output = Command::new("git").arg("config").arg("-f").arg(&file).args(["--null", key]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(get("user.name"), name);
        assert_eq!((get("user.email").as_str(), get("init.defaultBranch").as_str()), ("a@b", "trunk"));
        assert_eq!(get("alias.st"), "");
        assert_eq!((get("push.default").as_str(), get("commit.gpgsign").as_str()), ("current", "false"));
    }

    #[test]
    fn the_name_is_that_of_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        fs::create_dir_all(at("work/app")).unwrap();
        fs::create_dir_all(at("other")).unwrap();
        for folder in ["work/app", "other"] {
            assert!(Command::new("git").args(["init", "-q"]).arg(at(folder)).status().unwrap().success());
        }
        let include = format!(
            "[user]\nname=Ann\nemail=ann@home\n[includeIf \"gitdir:{}/\"]\npath=work.inc\n",
            at("work").display()
        );
        fs::write(at(".gitconfig"), include).unwrap();
        fs::write(at("work.inc"), "[user]\nemail=ann@work\n[alias]\nst=!evil\n").unwrap();
        let get = |folder: &str| words(&project(&at(folder)), &person(dir.path())).unwrap();
        assert_eq!(
            (get("work/app").name.as_deref(), get("work/app").email.as_deref()),
            (Some("Ann"), Some("ann@work"))
        );
        assert_eq!(get("other").email.as_deref(), Some("ann@home"));
    }

    #[test]
    fn a_broken_or_endless_configuration_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let ask = || words(&project(dir.path()), &person(dir.path()));
        fs::write(dir.path().join(".gitconfig"), "[user\nname=").unwrap();
        assert_eq!(ask().unwrap_err().code, Code::PROJECT_GIT_CONFIG);
        fs::write(dir.path().join(".gitconfig"), "[include]\npath=endless\n").unwrap();
        nix::unistd::mkfifo(&dir.path().join("endless"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let began = Instant::now();
        assert_eq!(ask().unwrap_err().code, Code::PROJECT_GIT_CONFIG);
        assert!(began.elapsed() >= PATIENCE);
    }
}
