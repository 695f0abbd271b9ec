//! The system: `/dev/pf` by the pfctl crate, to change rules; `/sbin/pfctl` for all else, and to read back.
//!
//! Never `-d`, which takes everybody's references away, nor `-F all`, nor `-f` for the main rules.

use crate::convert;
use pfctl::{AnchorChange, AnchorKind, PfCtl};
use rcc_proto::macos::ANCHOR;
use rcc_report::{Code, Problem};
use rcc_rules::pf::{Call, Line, Rule, Seen, Services, State, lines, may_come_before, names, states, translating};
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PFCTL: &str = "/sbin/pfctl";
/// Where the token of rcc's reference is: in a folder that, unlike /var/run, is root's alone. Of no use after a restart, and
/// then not among pf's references any more.
const TOKEN: &str = "/var/db/rcc-firewall.token";
const SERVICES: &str = "/etc/services";
/// The anchors that the stock rules evaluate.
const PARENT: &str = "com.apple";

/// The Mac's pf.
#[derive(Clone, Debug)]
pub struct Pf {
    pfctl: PathBuf,
    token: PathBuf,
}

impl Pf {
    /// Finds it.
    pub fn find() -> Result<Self, Problem> {
        let pfctl = rcc_host::trusted::place(Path::new(PFCTL)).map_err(|e| failed(PFCTL, &e))?;
        Ok(Self::at(pfctl, PathBuf::from(TOKEN)))
    }

    /// Another pfctl, and another place for the token: where there is no Mac.
    #[must_use]
    pub fn at(pfctl: PathBuf, token: PathBuf) -> Self {
        Self { pfctl, token }
    }

    /// All that decides whether the rules hold.
    pub fn seen(&self) -> Result<Seen, Problem> {
        let main = self.text(&["-s", "rules"])?;
        let mut before = Vec::new();
        for name in may_come_before(&main, &self.of_anchor(PARENT, "Anchors")?) {
            let rules = self.text(&["-a", &name, "-s", "rules"])?;
            before.push((name, rules));
        }
        let services = fs::read(SERVICES).unwrap_or_default();
        let token = self.token()?;
        let referenced = token.map_or(Ok(false), |token| self.has_reference(&token))?;
        Ok(Seen {
            rules: self.of_anchor(ANCHOR, "rules")?,
            translations: self.of_anchor(ANCHOR, "nat")?,
            below: self.of_anchor(ANCHOR, "Anchors")?,
            translating: self.translating()?,
            before,
            info: self.text(&["-s", "info"])?,
            interfaces: self.text(&["-v", "-s", "Interfaces"])?,
            referenced,
            services: Services::parse(&String::from_utf8_lossy(&services)),
            main,
        })
    }

    /// The translation rules of the main rules, and of each anchor that they come to.
    fn translating(&self) -> Result<Vec<(String, String)>, Problem> {
        let mut all = vec![(String::new(), self.text(&["-s", "nat"])?)];
        let mut next = 0;
        while let Some((of, text)) = all.get(next) {
            next += 1;
            for call in translating(of, text) {
                let called = match call.strip_suffix("/*") {
                    Some(parent) => names(&self.of_anchor(parent, "Anchors")?).map(str::to_owned).collect(),
                    None => vec![call],
                };
                for name in called {
                    if name != ANCHOR && !all.iter().any(|(looked, _)| *looked == name) {
                        let text = self.of_anchor(&name, "nat")?;
                        all.push((name, text));
                    }
                }
            }
        }
        Ok(all)
    }

    /// Puts these rules in the place of all that the anchor has, in one transaction.
    pub fn load(&self, rules: &[Rule]) -> Result<(), Problem> {
        let mut change = AnchorChange::new();
        let rules: Result<Vec<_>, _> = rules.iter().map(convert::rule).collect();
        change.set_filter_rules(rules.map_err(|e| failed("rules", &e))?);
        change.set_nat_rules(Vec::new());
        change.set_redirect_rules(Vec::new());
        change.set_scrub_rules(Vec::new());
        device()?.set_rules(ANCHOR, change).map_err(|e| failed("the transaction", &e))
    }

    /// Takes the anchor's rules away by pfctl.
    pub fn flush(&self) -> Result<(), Problem> {
        self.text(&["-a", ANCHOR, "-F", "rules"]).map(drop)?;
        self.text(&["-a", ANCHOR, "-F", "nat"]).map(drop)
    }

    /// Calls the anchor from the main rules, after all that are there.
    pub fn hook(&self) -> Result<(), Problem> {
        device()?.try_add_anchor(ANCHOR, AnchorKind::Filter).map_err(|e| failed("the anchor's call", &e))
    }

    /// Takes that call away again, if it is there: the stock rules have another.
    pub fn unhook(&self, seen: &Seen) -> Result<bool, Problem> {
        let call = |line: &Line| matches!(line, Line::Anchor(Call { name, .. }) if name == ANCHOR);
        if !lines(&seen.main, &seen.services).iter().any(call) {
            return Ok(false);
        }
        device()?.try_remove_anchor(ANCHOR, AnchorKind::Filter).map_err(|e| failed("the anchor's call", &e))?;
        Ok(true)
    }

    /// Enables pf by a reference of rcc's own, and gives one up that it had. Killed between the two lines that take it and
    /// keep it, it leaves one that nobody gives up until the Mac starts again: pf stays enabled, no rule is lost.
    pub fn enable(&self) -> Result<(), Problem> {
        let before = self.token()?;
        let output = self.call(&["-E"])?;
        let said = said(&output);
        let token = said.lines().find_map(|line| line.trim().strip_prefix("Token :").map(str::trim));
        let token = token.filter(|token| is_token(token)).ok_or_else(|| failed("-E", &said))?;
        if let Err(e) = self.keep(token) {
            // Without it nobody could give the reference up.
            let _ = self.call(&["-X", token]);
            return Err(failed(&self.token.display().to_string(), &e));
        }
        if let Some(before) = before {
            // After a restart, or somebody's -d, it is none any more.
            let _ = self.call(&["-X", &before])?;
        }
        Ok(())
    }

    /// Gives up rcc's reference. True if there was one.
    pub fn release(&self) -> Result<bool, Problem> {
        let Some(token) = self.token()? else { return Ok(false) };
        if self.has_reference(&token)? {
            let output = self.call(&["-X", &token])?;
            if !output.status.success() {
                return Err(failed("-X", &said(&output)));
            }
        }
        fs::remove_file(&self.token).map_err(|e| failed(&self.token.display().to_string(), &e))?;
        Ok(true)
    }

    /// The states that pf keeps.
    pub fn states(&self) -> Result<Vec<State>, Problem> {
        Ok(states(&self.text(&["-s", "states"])?))
    }

    /// Ends all states between two addresses, whichever began. Not by the pfctl crate: its masks are empty, and the kernel
    /// would end all states of the protocol on that interface.
    pub fn end_states(&self, one: IpAddr, other: IpAddr) -> Result<(), Problem> {
        let (one, other) = (one.to_string(), other.to_string());
        for (from, to) in [(&one, &other), (&other, &one)] {
            let output = self.call(&["-k", from, "-k", to])?;
            if !output.status.success() {
                return Err(failed("-k", &said(&output)));
            }
        }
        Ok(())
    }

    /// Whether a token is among those that keep pf enabled.
    fn has_reference(&self, token: &str) -> Result<bool, Problem> {
        let all = self.text(&["-s", "References"])?;
        Ok(all.lines().any(|line| line.split_whitespace().any(|word| word == token)))
    }

    /// The token of rcc's reference.
    fn token(&self) -> Result<Option<String>, Problem> {
        match fs::read_to_string(&self.token) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| is_token(token))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&self.token.display().to_string(), &e)),
        }
    }

    fn keep(&self, token: &str) -> io::Result<()> {
        let new = self.token.with_extension("new");
        let mut options = fs::File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(token.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.token)
    }

    /// What pfctl shows of an anchor; nothing of one that is not there.
    fn of_anchor(&self, anchor: &str, what: &str) -> Result<String, Problem> {
        let output = self.call(&["-a", anchor, "-s", what])?;
        let missing = |line: &str| line.ends_with("Invalid argument") || line.ends_with("not found.");
        let complaints = complaints(&output);
        if output.stdout.is_empty() && !complaints.is_empty() && complaints.iter().all(|line| missing(line)) {
            return Ok(String::new());
        }
        checked(&output, what)
    }

    fn text(&self, arguments: &[&str]) -> Result<String, Problem> {
        checked(&self.call(arguments)?, &arguments.join(" "))
    }

    fn call(&self, arguments: &[&str]) -> Result<Output, Problem> {
        let mut command = Command::new(&self.pfctl);
        command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
        command.output().map_err(|e| failed(&self.pfctl.display().to_string(), &e))
    }
}

fn device() -> Result<PfCtl, Problem> {
    PfCtl::new().map_err(|e| failed("/dev/pf", &e))
}

/// What it printed, if it had nothing to complain of: its exit code does not tell.
fn checked(output: &Output, what: &str) -> Result<String, Problem> {
    if output.status.success() && complaints(output).is_empty() {
        return String::from_utf8(output.stdout.clone()).map_err(|e| failed(what, &e));
    }
    Err(failed(what, &said(output)))
}

/// Its errors: not that there is no ALTQ, which it says each time, nor what it did.
fn complaints(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.starts_with("pfctl:")).map(|line| line.trim_end().to_owned()).collect()
}

fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    format!("{}{}({})", both[0], both[1], output.status)
}

fn is_token(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Problem {
    let why = why.to_string();
    let why: Vec<&str> = why.lines().filter(|line| !line.contains("ALTQ")).take(5).collect();
    Problem::new(
        Code::FIREWALL_PF,
        "pf",
        format!("{what}: {}", why.join(" | ")),
        "run this as root; macOS has /dev/pf and /sbin/pfctl",
    )
}
