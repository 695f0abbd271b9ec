//! Calling Nix: by its absolute path, with an environment made from nothing and none of the person's configuration.

use super::store::{Owner, STORE, owner};
use super::variables::Variables;
use crate::home::{data_folder, disk_problem};
use crate::machine::Person;
use rcc_report::{Code, Problem, escaped};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Nix is, in this order: the distribution's, NixOS's, that of a multi-user installation. Not in a person's profile:
/// what runs on the host is what only root can write.
const PROGRAMS: &[&str] = &["/usr/bin/nix", "/run/current-system/sw/bin/nix", "/nix/var/nix/profiles/default/bin/nix"];
/// For git and ssh, by which some inputs are fetched; from the private copy they see nothing of the project.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/run/wrappers/bin:/run/current-system/sw/bin";

/// What the machine's own configuration has no say in. A flake's own (`nixConfig`) is never heard; registries would let a
/// name mean another thing each day.
const SETTINGS: &str = "\
extra-experimental-features = nix-command flakes
accept-flake-config = false
pure-eval = true
use-registries = false
warn-dirty = false
";
/// Building runs what the flake says. In a person's own store this process decides how; the daemon does as its own
/// configuration says, which is looked at instead.
const SANDBOXED: &str = "sandbox = true\nsandbox-fallback = false\n";

/// Lines of Nix's talk that go into a problem.
const LAST_LINES: usize = 12;
/// Bytes of one line of its talk, and of all that it prints.
const LINE_LIMIT: u64 = 64 << 10;
/// See [`LINE_LIMIT`].
const OUTPUT_LIMIT: u64 = 16 << 20;

/// A Nix that can be trusted with what was approved.
pub struct Nix {
    program: PathBuf,
    owner: Owner,
    home: PathBuf,
}

/// What was built, and all that it needs.
pub(super) struct Closure {
    /// Its store path.
    pub built: PathBuf,
    /// Names in the store.
    pub names: Vec<String>,
    /// What Nix has on record of these (`nix-store --dump-db`).
    pub registration: String,
}

/// What Nix ended with, and its last words.
struct Failed {
    status: String,
    last: Vec<String>,
}

impl Failed {
    fn of(what: String) -> Self {
        Self { status: what, last: Vec::new() }
    }

    /// In one line: the last that Nix calls an error.
    fn what(&self) -> String {
        let error = self.last.iter().rev().find(|line| line.trim_start().starts_with("error:"));
        let line = error.or(self.last.last()).unwrap_or(&self.status);
        line.trim().to_owned()
    }
}

impl Nix {
    /// Finds it, or says why it can't be trusted.
    pub fn find(person: &Person) -> Result<Self, Problem> {
        let owner = owner(person)?;
        let trusted = |place: &&&str| rcc_host::trusted::place(Path::new(place)).is_ok();
        let program = PROGRAMS.iter().find(trusted).ok_or_else(|| {
            let what = "Nix is not there where only root can write it";
            let remedy = format!(
                "install the distribution's package (nix-bin), or Nix for all users; looked for: {}",
                PROGRAMS.join(", ")
            );
            Problem::new(Code::TOOLCHAIN_NIX, "nix", what, remedy)
        })?;
        // Nix keeps what it has fetched there, and would look for the person's configuration.
        let home = data_folder(person).join("toolchains/.nix");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(|e| disk_problem(&home, &e))?;
        let this = Self { program: program.into(), owner, home };
        this.sandboxed()?;
        Ok(this)
    }

    /// The build sandbox of Nix's daemon, as its configuration has it.
    fn sandboxed(&self) -> Result<(), Problem> {
        if self.owner == Owner::Person {
            return Ok(());
        }
        let quiet = &mut |_: &str| ();
        // Nix 2.20 gave the command another name.
        let shown = self.call(&["show-config"], quiet).or_else(|_| self.call(&["config", "show"], quiet));
        let shown = shown.map_err(|failed| {
            let remedy = "try it: nix show-config, or nix config show";
            Problem::new(Code::TOOLCHAIN_NIX, self.program.display().to_string(), failed.what(), remedy)
        })?;
        let value = shown.lines().find_map(|line| line.strip_prefix("sandbox = "));
        if value == Some("true") {
            return Ok(());
        }
        let what = format!("Nix's build sandbox is not on ({}): what a flake builds would see this machine", {
            escaped(value.unwrap_or("unknown"))
        });
        let remedy = "write `sandbox = true` into it, and restart nix-daemon";
        Err(Problem::new(Code::TOOLCHAIN_NIX, "/etc/nix/nix.conf", what, remedy))
    }

    /// Evaluates the flake in `source`, builds what its devShell needs, and roots that at `profile`; gives the script that
    /// makes a shell the devShell's. `missing` knows whether what Nix said was about a file that is not in the copy.
    pub(super) fn environment(
        &self,
        source: &Path,
        profile: &Path,
        missing: &dyn Fn(&str) -> Option<Problem>,
        say: &mut dyn FnMut(&str),
    ) -> Result<String, Problem> {
        let (flake, profile) = (format!("path:{}", url(source)), profile.display().to_string());
        let arguments = ["print-dev-env", "--no-update-lock-file", "--profile", &profile, &flake];
        self.call(&arguments, say).map_err(|failed| {
            missing(&failed.last.join("\n")).unwrap_or_else(|| {
                let remedy = "try it: nix develop; an input that is not locked: nix flake lock";
                Problem::new(Code::TOOLCHAIN_BUILD, "flake.nix", failed.what(), remedy)
            })
        })
    }

    /// The variables of the devShell that is rooted at `profile`. Nothing is evaluated for it.
    pub(super) fn variables(&self, profile: &Path, say: &mut dyn FnMut(&str)) -> Result<Variables, Problem> {
        let place = profile.display().to_string();
        let json = self.call(&["print-dev-env", "--json", &place], say).map_err(|failed| {
            Problem::new(Code::TOOLCHAIN_BUILD, &place, failed.what(), "make it again: rcc toolchain approve")
        })?;
        Variables::parse(&json)
    }

    /// Everything that what is rooted at `profile` needs.
    pub(super) fn closure(&self, profile: &Path, say: &mut dyn FnMut(&str)) -> Result<Closure, Problem> {
        let failed = |what: String| {
            Problem::new(
                Code::TOOLCHAIN_BUILD,
                profile.display().to_string(),
                what,
                "make it again: rcc toolchain approve",
            )
        };
        // A profile is a link to a link.
        let built = fs::canonicalize(profile).map_err(|e| failed(e.to_string()))?.display().to_string();
        let text = self.call(&["path-info", "--recursive", &built], say).map_err(|e| failed(e.what()))?;
        let names = text.lines().map(|line| {
            let name = line.strip_prefix(STORE).and_then(|rest| rest.strip_prefix('/'));
            name.filter(|n| super::store::is_name(n)).map(str::to_owned)
        });
        let mut names: Vec<String> =
            names.collect::<Option<_>>().ok_or_else(|| failed("Nix named something that is no store path".into()))?;
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(failed("Nix named no store path".into()));
        }
        let paths: Vec<String> = names.iter().map(|name| format!("{STORE}/{name}")).collect();
        let mut arguments = vec!["--dump-db"];
        arguments.extend(paths.iter().map(String::as_str));
        // An older command of the same program, by its name beside it.
        let program = self.program.with_file_name("nix-store");
        rcc_host::trusted::place(&program).map_err(|e| failed(e.to_string()))?;
        let registration = self.called(&program, &arguments, say).map_err(|e| failed(e.what()))?;
        Ok(Closure { built: built.into(), names, registration })
    }

    fn call(&self, arguments: &[&str], say: &mut dyn FnMut(&str)) -> Result<String, Failed> {
        self.called(&self.program, arguments, say)
    }

    fn called(&self, program: &Path, arguments: &[&str], say: &mut dyn FnMut(&str)) -> Result<String, Failed> {
        let mut settings = SETTINGS.to_owned();
        if self.owner == Owner::Person {
            settings.push_str(SANDBOXED);
        }
        let remote = match self.owner {
            Owner::Root => "daemon",
            Owner::Person => "local",
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("NIX_CONFIG", settings)
            .env("NIX_USER_CONF_FILES", "/dev/null")
            .env("NIX_REMOTE", remote)
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |e: io::Error| Failed::of(format!("{}: {e}", program.display()));
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            out.map_or(Ok(0), |out| out.take(OUTPUT_LIMIT + 1).read_to_end(&mut text)).map(|_| text)
        });
        let mut last = VecDeque::new();
        if let Some(err) = err {
            let mut err = BufReader::new(err);
            loop {
                let mut line = Vec::new();
                match (&mut err).take(LINE_LIMIT).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line.is_empty() {
                    continue;
                }
                say(&escaped(&line));
                last.push_back(line);
                if last.len() > LAST_LINES {
                    last.pop_front();
                }
            }
        }
        let text = reader.join().unwrap_or_else(|_| Err(io::Error::other("its reader ended")));
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(Failed { status: status.to_string(), last: last.into() });
        }
        let text = text.map_err(failed)?;
        if text.len() as u64 > OUTPUT_LIMIT {
            return Err(Failed::of(format!("nix printed more than {} MiB", OUTPUT_LIMIT >> 20)));
        }
        String::from_utf8(text).map_err(|e| Failed::of(format!("nix printed what is no text: {e}")))
    }
}

/// A path as the path of a URL (RFC 3986).
fn url(path: &Path) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let of = |b: &u8| if plain(*b) { char::from(*b).to_string() } else { format!("%{b:02X}") };
    path.as_os_str().as_bytes().iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_url() {
        assert_eq!(url(Path::new("/home/a b/#?%ä")), "/home/a%20b/%23%3F%25%C3%A4");
    }
}
