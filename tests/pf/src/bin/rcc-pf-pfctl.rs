//! The stand-in for /sbin/pfctl: what it is called by says in which folder the kernel is.

use rcc_pf_rig::fault::{self, How};
use rcc_pf_rig::kernel::Kernel;
use rcc_pf_rig::show;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = PathBuf::from(words.next().expect("a name"));
    let folder = name.parent().expect("a folder");
    let words: Vec<String> = words.collect();
    assert!(std::env::vars_os().next().is_none(), "its environment is made from nothing");
    let how = fault::call(folder, &format!("pfctl {}", words.join(" ")));
    eprintln!("No ALTQ support in kernel\nALTQ related functions disabled");
    match how {
        Some(How::Fails) => {
            eprintln!("pfctl: /dev/pf: Resource busy");
            // As the real one, which does not always say it by its exit code.
            return if words.iter().any(|w| w == "-s") { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(How::Before) => end_caller(),
        _ => {}
    }
    let mut kernel = Kernel::read(folder);
    let before = kernel.clone();
    let done = run(&mut kernel, &words.iter().map(String::as_str).collect::<Vec<_>>());
    if kernel != before {
        kernel.keep(folder);
    }
    if how == Some(How::After) {
        end_caller();
    }
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err((text, code)) => {
            eprintln!("pfctl: {text}");
            ExitCode::from(code)
        }
    }
}

/// By its number: whoever called this program is the one under test.
fn end_caller() -> ! {
    // SAFETY: system calls with numbers.
    unsafe {
        let caller = libc::getppid();
        assert!(caller > 1);
        libc::kill(caller, libc::SIGKILL);
    }
    std::process::exit(1);
}

fn run(kernel: &mut Kernel, words: &[&str]) -> Result<String, (String, u8)> {
    let none = || ("DIOCGETRULES: Invalid argument".to_owned(), 0);
    match words {
        ["-s", "rules"] => show::rules(kernel, "").ok_or_else(none),
        ["-a", anchor, "-s", "rules"] => show::rules(kernel, anchor).ok_or_else(none),
        ["-s", "nat"] => Ok(show::each(&kernel.nat)),
        ["-a", anchor, "-s", "nat"] => show::rules(kernel, anchor).map(|_| String::new()).ok_or_else(none),
        ["-a", anchor, "-s", "Anchors"] => {
            let text = show::below(kernel, anchor);
            let there = !text.is_empty() || show::rules(kernel, anchor).is_some() || *anchor == "com.apple";
            if there { Ok(text) } else { Err((format!("Anchor '{anchor}' not found."), 1)) }
        }
        ["-a", anchor, "-F", "rules"] => {
            if let Some(sets) = kernel.anchors.get_mut(*anchor) {
                sets.clear();
            }
            kernel.anchors.retain(|_, sets| !sets.is_empty());
            eprintln!("rules cleared");
            Ok(String::new())
        }
        ["-a", _, "-F", "nat"] => {
            eprintln!("nat cleared");
            Ok(String::new())
        }
        ["-s", "info"] => Ok(format!(
            "Status: {} for 0 days 00:00:01           Debug: Urgent\n\nState Table                          Total             Rate\n",
            if kernel.enabled { "Enabled" } else { "Disabled" }
        )),
        ["-v", "-s", "Interfaces"] => Ok(interfaces(&kernel.skipped)),
        ["-s", "References"] => {
            let head = "TOKENS:\nPID      Process Name                 TOKEN                    TIMESTAMP\n".to_owned();
            Ok(kernel.tokens.iter().fold(head, |text, token| {
                text + &format!("123      pfctl                        {token}      0 days 00:00:01\n")
            }))
        }
        ["-s", "states"] => Ok(show::each(&kernel.states)),
        ["-k", from, "-k", to] => {
            let before = kernel.states.len();
            kernel.states.retain(|line| !between(line, from, to));
            eprintln!("killed {} states from 1 sources and 1 destinations", before - kernel.states.len());
            Ok(String::new())
        }
        ["-E"] => {
            kernel.given += 1;
            let token = 17_000_000_000_000_000_000 + kernel.given;
            kernel.tokens.push(token);
            kernel.enabled = true;
            eprintln!("pf enabled\nToken : {token}");
            Ok(String::new())
        }
        ["-X", token] => {
            let count = kernel.tokens.len();
            kernel.tokens.retain(|have| have.to_string() != *token);
            if kernel.tokens.len() == count {
                return Err(("DIOCSTOPREF: Invalid argument".to_owned(), 1));
            }
            kernel.enabled = !kernel.tokens.is_empty();
            eprintln!(
                "disable request successful. {} more pf enable reference(s) remaining, pf still enabled.",
                kernel.tokens.len()
            );
            Ok(String::new())
        }
        // Never -d, -F all, nor the main -f.
        other => panic!("pfctl must not be called so: {other:?}"),
    }
}

fn interfaces(skipped: &[String]) -> String {
    ["ALL", "en0", "lo0"].iter().fold(String::new(), |text, name| {
        let skip = if skipped.iter().any(|s| s == name) { " (skip)" } else { "" };
        text + name
            + skip
            + "\n\tCleared:     Wed Nov 25 16:00:00 2026\n\tReferences:  [ States:  0                  Rules: 1 ]\n"
    })
}

/// Whether a state's first packet went between these: of one that came in, the local end stands first.
fn between(line: &str, from: &str, to: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ip = |end: &str| {
        let cut = if end.ends_with(']') { end.find('[') } else { end.rfind(':') };
        end[..cut.expect("a port")].to_owned()
    };
    let (left, right) = (ip(words[2]), ip(words[4]));
    let (source, destination) = if words[3] == "->" { (left, right) } else { (right, left) };
    source == from && destination == to
}
