//! Shows that programmers' tools work in a session as they do on the machine: compilers and what Debian's alternatives
//! lead to, interpreters, certificates, fonts, terminals, languages and times. `cargo xtask trees` runs it on several
//! releases.
//!
//! It runs in a world (`rcc-world run --user dev -- rcc-toolchains`). Each check is one script, run by the same user first
//! without rcc, then in a session. Both must succeed and say the same, so a check can't pass by testing nothing.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, shown};
use rcc_world::World;
use std::os::unix::fs::symlink;
use std::process::{Command, ExitCode, Output};

struct Check {
    what: &'static str,
    /// In bash, in the project.
    script: &'static str,
    /// Is in what the script says.
    sign: &'static str,
}

const CHECKS: &[Check] = &[
    Check {
        what: "a C compiler, and what it made",
        script: "printf '%s\\n' '#include <stdio.h>' '#include <math.h>' \
                 'int main(int n, char **v) { printf(\"%.0f from C\\n\", sqrt(n * 1764.0)); }' >t.c && cc -O2 t.c -o t -lm && ./t",
        sign: "42 from C",
    },
    Check { what: "java", script: "java -XshowSettings:security:providers -version 2>&1 | tail -3", sign: "penJDK" },
    Check {
        what: "awk, an alternative",
        script: "readlink -f \"$(command -v awk)\" && awk 'BEGIN { print 6 * 7 }'",
        sign: "42",
    },
    Check {
        what: "python3 and its modules",
        script: "python3 -c 'import ctypes, sqlite3, ssl, sys, zoneinfo; \
                 print(sys.version, ssl.OPENSSL_VERSION, ctypes.CDLL(\"libc.so.6\").abs(-42))'",
        sign: "42",
    },
    Check {
        what: "perl and its modules",
        script: "perl -MPOSIX -MData::Dumper -MUnicode::Normalize -e 'print \"$^V \", POSIX::floor(42.9), \"\\n\"'",
        sign: "42",
    },
    Check {
        what: "git",
        script: "rm -rf repo && git init -q repo && cd repo && echo a >a && git add a && \
                 git -c user.name=A -c user.email=a@a.invalid commit -qm 'a commit' && git --version && git log --format=%s",
        sign: "a commit",
    },
    Check {
        what: "certificates of the system",
        script: "curl -sS -m 10 -o /dev/null -w '%{http_code} %{ssl_verify_result}\\n' https://allowed.example/",
        sign: "200 0",
    },
    Check { what: "hashed certificates", script: "ls /etc/ssl/certs/*.0 | xargs cat | grep -c BEGIN", sign: "" },
    Check {
        what: "fonts",
        script: "fc-match -f '%{family} %{file}\\n' 'DejaVu Sans' && fc-list | sort",
        sign: "DejaVuSans.ttf",
    },
    Check {
        what: "terminal descriptions",
        script: "for t in xterm-256color tmux-256color screen-256color; do echo \"$t $(tput -T $t colors)\" || exit; done",
        sign: "tmux-256color 256",
    },
    Check {
        what: "the locale of the login",
        script: "locale charmap && locale 2>&1 && python3 -c 'import sys; print(sys.getfilesystemencoding())'",
        sign: "UTF-8",
    },
    Check {
        what: "another locale",
        script: "export LC_ALL=de_DE.UTF-8; locale charmap && date -u -d @0 +%A && perl -e 'print \"perl\\n\"' 2>&1",
        sign: "Donnerstag\nperl",
    },
    Check {
        what: "the local time",
        script: "date -d @0 '+%H:%M %Z' && python3 -c 'import time; print(time.tzname)'",
        sign: "09:00 JST",
    },
    Check { what: "names of services", script: "getent services https && getent protocols udp", sign: "443/tcp" },
    Check { what: "the person's name", script: "id -un && id -gn && cd ~ && pwd", sign: "dev" },
    Check { what: "shared libraries", script: "/sbin/ldconfig -p | sort", sign: "libc.so.6" },
    Check {
        what: "no link of /usr leads nowhere",
        script: "find /usr/bin /usr/sbin /usr/lib /usr/libexec /usr/share /usr/local -xtype l ! -path '/usr/share/doc/*' \
                 2>/dev/null | sort; echo end",
        sign: "end",
    },
    Check {
        what: "no alternative leads nowhere",
        script: "find /etc/alternatives -xtype l | sort; echo end",
        sign: "end",
    },
];

fn main() -> ExitCode {
    match all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toolchains: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<()> {
    let world = World::here().context("rcc-toolchains runs in a world: use cargo xtask trees")??;
    // In the world's own overlay of /etc and /usr.
    let local_time = "/etc/localtime";
    let _there_may_be_none = std::fs::remove_file(local_time);
    symlink("/usr/share/zoneinfo/Asia/Tokyo", local_time)?;
    let made = Command::new("localedef").args(["-i", "de_DE", "-f", "UTF-8", "de_DE.UTF-8"]).output()?;
    ensure!(made.status.success(), "localedef: {}", shown(&made));
    let rig = Rig::start(&world, &["allowed.example:443"], "")?;
    println!("{:<32} {:<12} {:<12} what it says", "tool", "without rcc", "in a session");
    let mut wrong = Vec::new();
    for check in CHECKS {
        let control = rig.command("/bin/bash").args(["-c", check.script]).output()?;
        let inside = rig.inside(check.script)?;
        let (works, same) = (succeeds(&inside, check), inside.stdout == control.stdout);
        let control_works = succeeds(&control, check);
        let verdict = match (works, same) {
            (true, true) => "the same",
            (true, false) => "DIFFERS",
            (false, _) => "FAILS",
        };
        let said = String::from_utf8_lossy(&inside.stdout);
        let first: String = said.lines().next().unwrap_or_default().chars().take(70).collect();
        println!("{:<32} {:<12} {verdict:<12} {first}", check.what, if control_works { "works" } else { "FAILS" });
        if !(works && same && control_works) {
            wrong.push(check.what);
            println!("{}", difference(&control, &inside));
        }
    }
    ensure!(wrong.is_empty(), "not in a session as on the machine: {}", wrong.join(", "));
    println!("all {} tools work in a session as on the machine", CHECKS.len());
    Ok(())
}

fn succeeds(output: &Output, check: &Check) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && !said.trim().is_empty() && said.contains(check.sign)
}

/// The lines that only one of them said, and all that they complained of.
fn difference(control: &Output, inside: &Output) -> String {
    let of = |output: &Output| String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    let (out, ins) = (of(control), of(inside));
    // The first few tell what is wrong; of a script that failed they may be hundreds.
    let mut lines: Vec<String> = Vec::new();
    lines.extend(out.iter().filter(|l| !ins.contains(l)).take(5).map(|l| format!("    only without rcc: {l}")));
    lines.extend(ins.iter().filter(|l| !out.contains(l)).take(5).map(|l| format!("    only in a session: {l}")));
    for (which, output) in [("without rcc", control), ("in a session", inside)] {
        lines.push(format!("    {which}: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    lines.join("\n")
}
