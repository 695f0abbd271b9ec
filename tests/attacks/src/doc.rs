//! docs/attacks.md, made from the table.

use crate::table::CLASSES;
use crate::{Attack, Control, Expect};
use std::fmt::Write;

/// The whole document.
#[must_use]
pub fn render() -> String {
    let mut out = String::from(HEAD);
    let all = || CLASSES.iter().flat_map(|c| c.attacks);
    let without = all().filter(|a| matches!(a.control, Control::None(_) | Control::Reaches(_))).count();
    let _infallible = writeln!(out, "{} attempts; {without} of them have no full control, and say why.", all().count());
    for class in CLASSES {
        let _infallible = write!(
            out,
            "\n## {}\n\n| | attempt | how it is denied | who succeeds without the wall |\n|---|---|---|---|\n",
            class.title
        );
        for attack in class.attacks {
            let _infallible =
                writeln!(out, "| {} | {} | {} | {} |", attack.id, attack.what, denied(attack), control(attack));
        }
    }
    out.push_str(FOOT);
    out
}

fn denied(attack: &Attack) -> String {
    match attack.denied {
        Expect::Errno(name) => format!("`{name}`"),
        Expect::Exit(program, code) => format!("`{program}` ends with {code}"),
        Expect::Finds(what) => what.to_owned(),
        Expect::Harmless(why) => format!("not denied: {why}"),
    }
}

fn control(attack: &Attack) -> String {
    match attack.control {
        Control::User => "the person, on the host".to_owned(),
        Control::Podman => "the person, in plain `podman run`".to_owned(),
        Control::Root => "root, on the host".to_owned(),
        Control::Reaches(errno) => format!("nobody here, but without the wall the kernel's own code answers `{errno}`"),
        Control::None(why) => format!("nobody: {why}"),
    }
}

const HEAD: &str = "\
# Attempts at leaving

Each of these is made by the real Claude Code with its own Bash tool, in a session of rcc's, in a small internet of the
tests' own (`tests/world`). It counts as stood when the command fails in the way written here, at once, and no server and
no packet of that internet saw the attempt's own random token. Then the same command is run without the wall and must
succeed: an attempt that can't succeed anywhere proves nothing, and fails the test.

The commands are in `tests/attacks/src/table`. This file is made from them and checked against them:
`RCC_UPDATE_DOCS=1 cargo test -p rcc-attacks doc` writes it anew.

";

const FOOT: &str = "
## The key

With the real agent at work under a key, every byte that the session can read is searched for any part of it: files, the
environment, arguments and memory of every process, /proc, /sys. Outside, the same search goes through the session's
folder, the agent's home, the gateway's log, and the memory of every process; the worker that serves the session is the
one place. Killed so that it would leave a core dump, neither worker nor launcher leaves one. A part of a key that is
planted (in a file, an environment, a memory) is found by the same search.

## What is not stood

- A program outside that listens on a Unix socket in the project would take the agent for the person; rcc refuses such a
  project (RCC-206), at the start and later. It knows the socket by the name that the program gave it: one bound by a
  relative name, by a hard link, or in another network namespace (a container's) is not seen, and answers. A test shows
  it, so that this line goes when it is no longer so.
- What an allowed host does with what it is sent; for a wildcard, the labels of the names that are connected to are sent.
- Paths of the host are seen in /proc/self/mountinfo, and the kernel's version, command line and load in /proc, as in
  every container.
";
