//! Whether what `/sbin/pfctl` shows is what must be in force: the anchor's rules, and all that makes pf come to them.

use super::listing::{Line, Services, lines, rules_of};
use super::rule::{Action, Rule};
use super::ruleset::{Ruleset, fingerprint_of};

use crate::compare::{Difference, Found};
use rcc_proto::macos::ANCHOR;
use serde_json::Value;

/// What pfctl printed, each as it is called in pfctl(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `-a com.apple/000.rcc -s rules`
    pub rules: String,
    /// `-a com.apple/000.rcc -s nat`
    pub translations: String,
    /// `-a com.apple/000.rcc -s Anchors`
    pub below: String,
    /// `-s rules`
    pub main: String,
    /// Each anchor that may be evaluated before, with its rules.
    pub before: Vec<(String, String)>,
    /// `-s nat`, of the main rules, whose name is empty, and of each anchor that [`translating`] says.
    pub translating: Vec<(String, String)>,
    /// `-s info`
    pub info: String,
    /// `-v -s Interfaces`
    pub interfaces: String,
    /// Whether a reference of rcc's keeps pf enabled.
    pub referenced: bool,
    /// What ports are called on this machine.
    pub services: Services,
}

/// How pf comes to the anchor's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// First of all that could let a packet go.
    First,
    /// Nothing leads to it.
    Missing,
    /// This comes before, and could let go what the anchor denies.
    Behind(String),
}

/// The anchors directly below another, of `-a NAME -s Anchors`: each by its whole name, a line.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The anchors whose rules must be looked at to know what comes before rcc's: of those that are called before it, and of
/// `com.apple`'s children, given as `-a com.apple -s Anchors` prints them.
#[must_use]
pub fn may_come_before(main: &str, children: &str) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines(main, &Services::default()) {
        if let Line::Anchor(call) = line {
            if leads_here(&call.name) {
                break;
            }
            all.push(call.name);
        }
    }
    // By their whole names; should a pfctl print less, that is made whole, not taken for an anchor elsewhere.
    let whole = |name: &str| match ANCHOR.rsplit_once('/') {
        Some((parent, _)) if !name.contains('/') => format!("{parent}/{name}"),
        _ => name.to_owned(),
    };
    all.extend(names(children).map(whole).filter(|name| name.as_str() < ANCHOR));
    all
}

/// The anchors that translation rules call, those of the main rules or of an anchor, each by its whole name; with `/*` all
/// directly below it.
#[must_use]
pub fn translating(of: &str, text: &str) -> Vec<String> {
    let mut all: Vec<String> = text.lines().filter_map(|line| translation_call(of, line)).collect();
    // Each kind of translation has a call of its own.
    all.dedup();
    all
}

fn translation_call(of: &str, line: &str) -> Option<String> {
    let (kind, rest) = line.trim().split_once(' ')?;
    if !["nat-anchor", "rdr-anchor", "binat-anchor"].contains(&kind) {
        return None;
    }
    let (name, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let from_root = name.strip_prefix('/');
    let whole = match from_root {
        Some(name) => name.to_owned(),
        None if of.is_empty() => name.to_owned(),
        None => format!("{of}/{name}"),
    };
    whole.strip_suffix("/*").unwrap_or(&whole).split('/').all(plain).then_some(whole)
}

/// Whether a line of translation rules leaves alone what leaves this Mac and what comes to the gateway's port: pf
/// translates before it filters, so behind a `nat` or `binat` no socket is found for a packet, and no rule by user or group
/// matches; `pass` asks no filter rule at all. Any `nat`: of the networks that Macs translate for, they have an address
/// themselves, to which a process can bind.
fn is_harmless(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["no", "nat" | "rdr" | "binat", ..] => true,
        // Of what comes in elsewhere than on loopback: nothing of that is let in to the gateway's or the machine's ports.
        ["rdr", "on", interface, ..] => interface.ends_with(|c: char| c.is_ascii_digit()) && *interface != "lo0",
        _ => false,
    }
}

fn leads_here(name: &str) -> bool {
    name == ANCHOR
        || name.strip_suffix("/*").is_some_and(|parent| ANCHOR.rsplit_once('/').is_some_and(|(p, _)| p == parent))
}

impl Seen {
    /// Whether pf is enabled.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.info.lines().any(|line| line.trim_start().starts_with("Status: Enabled"))
    }

    /// The interfaces that pf leaves out.
    #[must_use]
    pub fn skipped(&self) -> Vec<&str> {
        self.interfaces.lines().filter_map(|line| line.strip_suffix("(skip)").map(str::trim)).collect()
    }

    /// How pf comes to the anchor.
    #[must_use]
    pub fn hook(&self) -> Hook {
        for line in lines(&self.main, &self.services) {
            match &line {
                Line::Anchor(call) if leads_here(&call.name) => {
                    return match self.opener(|name| *name < *ANCHOR && leads_beside(name)) {
                        Some(opener) => Hook::Behind(opener),
                        None => Hook::First,
                    };
                }
                Line::Anchor(call) => {
                    if let Some(opener) = self.opener(|name| name == call.name) {
                        return Hook::Behind(opener);
                    }
                    if !self.before.iter().any(|(name, _)| *name == call.name) {
                        return Hook::Behind(format!("anchor \"{}\"", call.name));
                    }
                }
                Line::Rule(rule) if opens(rule) => return Hook::Behind(rule.to_string()),
                Line::Rule(_) => {}
                // What is not about filtering lets nothing go.
                Line::Other(text) if ["scrub", "no scrub", "dummynet"].iter().any(|w| text.starts_with(w)) => {}
                Line::Other(text) => return Hook::Behind(text.clone()),
            }
        }
        Hook::Missing
    }

    /// The first translation rule that could take a packet away from the anchor's rules.
    #[must_use]
    pub fn translation(&self) -> Option<String> {
        let looked = |name: &str| name.ends_with("/*") || self.translating.iter().any(|(of, _)| of == name);
        let lines = self.translating.iter().flat_map(|(of, text)| names(text).map(move |line| (of, line)));
        let harmful = |(of, line): &(&String, &str)| {
            let called = translation_call(of, line).is_some_and(|name| name == ANCHOR || looked(&name));
            !called && !is_harmless(line)
        };
        let place = |of: &str| if of.is_empty() { String::new() } else { format!(" (in {of})") };
        lines.into_iter().find(harmful).map(|(of, line)| format!("{line}{}", place(of)))
    }

    /// The first line in one of these anchors that could let a packet go for good.
    fn opener(&self, which: impl Fn(&str) -> bool) -> Option<String> {
        let looked = self.before.iter().filter(|(name, _)| which(name));
        looked.flat_map(|(name, text)| lines(text, &self.services).into_iter().map(move |line| (name, line))).find_map(
            |(name, line)| match line {
                Line::Rule(rule) => opens(&rule).then(|| format!("{rule} (in {name})")),
                Line::Anchor(call) => Some(format!("anchor \"{}\" (in {name})", call.name)),
                Line::Other(text) if text.starts_with("scrub") || text.starts_with("dummynet") => None,
                Line::Other(text) => Some(format!("{text} (in {name})")),
            },
        )
    }

    /// The anchor's rules, if it has nothing else.
    #[must_use]
    pub fn listed(&self) -> Option<Vec<Rule>> {
        rules_of(&lines(&self.rules, &self.services))
    }

    /// Whether rules of rcc's held the gateway's user and the machine's group until now, as far as can be seen.
    #[must_use]
    pub fn held(&self, wanted: &Ruleset) -> bool {
        self.around().is_empty() && self.listed().is_some_and(|rules| wanted.held_by(&rules))
    }

    /// Compares.
    #[must_use]
    pub fn judge(&self, wanted: &Ruleset) -> Found {
        let lines = lines(&self.rules, &self.services);
        let empty = lines.is_empty() && self.translations.trim().is_empty() && self.below.trim().is_empty();
        if empty {
            return Found::Absent;
        }
        if !self.ours() {
            return Found::Foreign;
        }
        let mut differences = Vec::new();
        let longest = lines.len().max(wanted.rules.len());
        for at in 0..longest {
            let (want, have) = (wanted.rules.get(at), lines.get(at));
            if want.map(|rule| Line::Rule(rule.clone())).as_ref() != have {
                let found = have.map(|line| match line {
                    Line::Rule(rule) => rule.to_string(),
                    Line::Anchor(call) => format!("anchor \"{}\"", call.name),
                    Line::Other(text) => text.clone(),
                });
                differences.push(difference(
                    &format!("rule {} of {ANCHOR}", at + 1),
                    want.map(ToString::to_string),
                    found,
                ));
            }
        }
        differences.extend(self.around());
        if differences.is_empty() { Found::InForce } else { Found::Drifted(differences) }
    }

    /// Whether there is a rule of rcc's in the anchor.
    #[must_use]
    pub fn ours(&self) -> bool {
        let rule = |line: &Line| matches!(line, Line::Rule(rule) if fingerprint_of(rule).is_some());
        lines(&self.rules, &self.services).iter().any(rule)
    }

    /// What is not as it must be, besides the anchor's filter rules.
    #[must_use]
    pub fn around(&self) -> Vec<Difference> {
        let mut all = Vec::new();
        for text in names(&self.translations) {
            all.push(difference(&format!("translations of {ANCHOR}"), None, Some(text.to_owned())));
        }
        for name in names(&self.below) {
            all.push(difference(&format!("anchors of {ANCHOR}"), None, Some(name.to_owned())));
        }
        if !self.enabled() {
            all.push(difference("pf", Some("enabled".to_owned()), Some("disabled".to_owned())));
        } else if !self.referenced {
            all.push(difference("pf", Some("a reference of rcc's".to_owned()), None));
        }
        let call = format!("anchor \"{ANCHOR}\" first, or anchor \"com.apple/*\"");
        match self.hook() {
            Hook::First => {}
            Hook::Missing => all.push(difference("main rules", Some(call), None)),
            Hook::Behind(what) => all.push(difference("main rules", Some(call), Some(what))),
        }
        if let Some(line) = self.translation() {
            all.push(difference("translation rules", None, Some(line)));
        }
        for name in self.skipped() {
            all.push(difference(&format!("interface {name}"), Some("filtered".to_owned()), Some("skipped".to_owned())));
        }
        all
    }
}

/// Whether an anchor is another of those that the same call evaluates.
fn leads_beside(name: &str) -> bool {
    name.rsplit_once('/').map(|(parent, _)| parent) == ANCHOR.rsplit_once('/').map(|(parent, _)| parent)
}

/// Whether a rule lets packets go that no later rule is asked about. What is not quick, a later quick one overrules; what
/// keeps a state decides for the packets to come only if it decides for the first.
fn opens(rule: &Rule) -> bool {
    rule.action == Action::Pass && rule.quick
}

fn difference(place: &str, wanted: Option<String>, found: Option<String>) -> Difference {
    Difference { place: place.to_owned(), wanted: wanted.map(Value::String), found: found.map(Value::String) }
}
