//! What the checks found, as a value, as text and as JSON.

use crate::checks::{Check, Outcome, of_system, unknown};
use crate::escapes::ESCAPES;
use crate::facts::{Facts, VERSION};
use crate::system::Family;
use rcc_report::{Code, EXPLANATIONS, Problem, escaped};
use serde_json::{Value, json};
use std::fmt::Write;

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sessions start.
    Ready,
    /// Sessions start; something is worth knowing.
    Warnings,
    /// Something fails.
    NotReady,
    /// Nothing fails, but something could not be found out, which blocks as well.
    Unknown,
}

impl Verdict {
    /// The exit code of `rcc check`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Warnings => 1,
            Self::NotReady => 3,
            Self::Unknown => 4,
        }
    }

    /// For JSON and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Warnings => "ready with warnings",
            Self::NotReady => "not ready",
            Self::Unknown => "unknown",
        }
    }
}

/// One check, made.
pub struct Checked {
    /// Which.
    pub check: &'static Check,
    /// What it found.
    pub outcome: Outcome,
}

impl Checked {
    /// What is wrong, if anything is.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match &self.outcome {
            Outcome::Pass(_) => Vec::new(),
            Outcome::Warn(problems) | Outcome::Fail(problems) => problems.clone(),
            Outcome::Unknown(why) => vec![unknown(self.check, why)],
        }
    }

    fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Pass(_) => "pass",
            Outcome::Warn(_) => "warn",
            Outcome::Fail(_) => "fail",
            Outcome::Unknown(_) => "unknown",
        }
    }
}

/// All checks, made.
pub struct Report {
    /// In the order of the system's list.
    pub checks: Vec<Checked>,
    /// How the machine installs.
    family: Family,
}

impl Report {
    /// Judges a machine. Nothing but the facts is looked at.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let family = facts.system.get().map_or(Family::Other, Family::of);
        let checks = of_system(family).iter().map(|check| Checked { check, outcome: (check.judge)(facts) });
        Self { checks: checks.collect(), family }
    }

    /// What `rcc setup` does about a check here. On NixOS it does nothing: the system's configuration is not its to write.
    fn setup(&self, check: &Check) -> Option<&'static str> {
        check.setup.filter(|_| self.family != Family::NixOs)
    }

    /// Whether something fails that setup repairs.
    #[must_use]
    pub fn setup_helps(&self) -> bool {
        self.checks.iter().any(|c| matches!(c.outcome, Outcome::Fail(_)) && self.setup(c.check).is_some())
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let any = |word: &str| self.checks.iter().any(|checked| checked.word() == word);
        match (any("fail"), any("unknown"), any("warn")) {
            (true, _, _) => Verdict::NotReady,
            (_, true, _) => Verdict::Unknown,
            (_, _, true) => Verdict::Warnings,
            _ => Verdict::Ready,
        }
    }

    /// For people: a line a check; problems below theirs.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for checked in &self.checks {
            let note = if let Outcome::Pass(note) = &checked.outcome { note.as_str() } else { "" };
            let line = format!("{:<8} {:<21} {}", checked.word(), checked.check.name, escaped(note));
            let _always = writeln!(text, "{}", line.trim_end());
            for problem in checked.problems() {
                for line in problem.to_string().lines() {
                    let _always = writeln!(text, "         {line}");
                }
            }
            if let (Some(setup), Outcome::Fail(_) | Outcome::Warn(_)) = (self.setup(checked.check), &checked.outcome) {
                let _always = writeln!(text, "           or: sudo rcc setup, which {setup}");
            }
        }
        let _always = writeln!(text, "{}", self.verdict().name());
        text
    }

    /// For programs: [`VERSION`] of it. The facts come along, so that it can be judged again.
    #[must_use]
    pub fn json(&self, facts: &Facts) -> Value {
        let check = |checked: &Checked| {
            json!({
                "code": checked.check.code.to_string(),
                "name": checked.check.name,
                "outcome": checked.word(),
                "found": if let Outcome::Pass(note) = &checked.outcome { Some(note) } else { None },
                "problems": checked.problems().iter().map(|p| json!({
                    "code": p.code.to_string(), "subject": p.subject, "what": p.what, "remedy": p.remedy,
                })).collect::<Vec<_>>(),
                "setup": self.setup(checked.check),
            })
        };
        json!({
            "version": VERSION,
            "verdict": self.verdict().name(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "facts": facts,
        })
    }
}

/// What a code means, why rcc needs it, and what to do by hand and by setup; with what a report found, if one is given. None
/// if there is no such code.
#[must_use]
pub fn explain(code: &str, report: Option<&Report>) -> Option<String> {
    let wanted = code.trim().to_ascii_uppercase();
    let (code, meaning) = EXPLANATIONS.iter().find(|(code, _)| code.to_string() == wanted)?;
    let mut text = format!("{code}: {meaning}\n");
    let own = report.map_or(Family::Other, |report| report.family);
    let lists = [own, Family::Other, Family::MacOs].map(of_system);
    let Some(check) = lists.into_iter().flatten().find(|check| check.code == *code) else {
        text.push_str("It is said where it happens, with what to do; docs/problems.md has more.\n");
        return Some(text);
    };
    let _always = write!(text, "\nwhy      {}\nby hand  {}\n", check.why, check.by_hand);
    let setup = check.setup.map_or_else(|| "does nothing about it".to_owned(), |s| format!("{s} (sudo rcc setup)"));
    let _always = writeln!(text, "setup    {setup}");
    if check.code == Code::CHECK_VERSIONS {
        text.push_str("\nKnown escapes, and whether what rcc does is open to them:\n");
        for escape in ESCAPES {
            let fixed = escape.fixed.map_or_else(|| "in none yet".into(), |(a, b, c)| format!("in {a}.{b}.{c}"));
            let kept = escape.kept_away.unwrap_or("open: refused");
            let _always = writeln!(text, "  {} {}, fixed {fixed}: {kept}", escape.cve, escape.program);
        }
    }
    let found = report.into_iter().flat_map(|r| &r.checks).find(|checked| checked.check.code == *code);
    if let Some(checked) = found {
        let _always = writeln!(text, "\nhere     {}", checked.word());
        for problem in checked.problems() {
            let _always = writeln!(text, "{problem}");
        }
    }
    Some(text)
}
