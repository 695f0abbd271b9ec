//! The kernel's side: what it keeps, and what each call does to it.

use crate::layout::{IOC_RULE, RULE, RULE_AT, TRANS_E, number, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What pf keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Whether it filters.
    pub enabled: bool,
    /// References, each a token.
    pub tokens: Vec<u64>,
    /// How many were ever given.
    pub given: u64,
    /// The main rules, as pfctl lists them. Calls of anchors are those of filter rules.
    pub main: Vec<String>,
    /// The main translation rules, as pfctl lists them.
    pub nat: Vec<String>,
    /// Active filter rules of anchors that were loaded by calls, as bytes in hex.
    pub anchors: BTreeMap<String, Sets>,
    /// The rules of other anchors, as pfctl lists them.
    pub others: BTreeMap<String, String>,
    /// States, as pfctl lists them.
    pub states: Vec<String>,
    /// Interfaces that are left out.
    pub skipped: Vec<String>,
    /// The ticket of the last transaction, and of the last pool of addresses.
    pub tickets: (u32, u32),
}

/// An anchor's active rules, by the number of the kind.
pub type Sets = BTreeMap<i32, Vec<String>>;

/// `PF_RULESET_FILTER`
pub const FILTER: i32 = 1;

/// A transaction that is not committed. The kernel keeps it with the anchor; it is forgotten when another begins.
#[derive(Clone, Debug, Default)]
pub struct Inactive(BTreeMap<(String, i32), (u32, Vec<String>)>);

/// An error's number.
pub type Errno = i32;

/// What `D` calls there are, by their number.
#[must_use]
pub fn name(call: u8) -> &'static str {
    match call {
        4 => "DIOCADDRULE",
        6 => "DIOCGETRULES",
        7 => "DIOCGETRULE",
        27 => "DIOCINSERTRULE",
        28 => "DIOCDELETERULE",
        51 => "DIOCBEGINADDRS",
        81 => "DIOCXBEGIN",
        82 => "DIOCXCOMMIT",
        // DIOCSTOP would take everybody's references away; no other is used.
        other => panic!("a call that rcc must not make: {other}"),
    }
}

impl Kernel {
    /// What was kept in this folder.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        serde_json::from_slice(&fs::read(folder.join("kernel")).expect("read")).expect("a kernel")
    }

    /// Keeps it there.
    pub fn keep(&self, folder: &Path) {
        let new = folder.join("kernel.new");
        fs::write(&new, serde_json::to_vec(self).expect("JSON")).expect("written");
        fs::rename(new, folder.join("kernel")).expect("renamed");
    }

    /// A call about rules: `bytes` are those of `struct pfioc_rule`, or of another, as its number says. True if what is kept
    /// has changed.
    pub fn rule_call(&mut self, inactive: &mut Inactive, call: u8, bytes: &mut [u8]) -> Result<bool, Errno> {
        match call {
            51 => {
                self.tickets.1 += 1;
                bytes[4..8].copy_from_slice(&self.tickets.1.to_ne_bytes());
                Ok(false)
            }
            4 => self.add(inactive, bytes).map(|()| false),
            6 | 7 => self.get(call, bytes).map(|()| false),
            27 => self.insert(bytes).map(|()| true),
            28 => self.delete(bytes).map(|()| true),
            _ => Err(libc::ENODEV),
        }
    }

    fn add(&self, inactive: &mut Inactive, bytes: &[u8]) -> Result<(), Errno> {
        assert_eq!(bytes.len(), IOC_RULE, "the call's number has the size");
        let anchor = text(&bytes[16..1040]).to_owned();
        assert!(text(&bytes[1040..2064]).is_empty(), "no call of an anchor in a transaction");
        let rule = &bytes[RULE_AT..RULE_AT + RULE];
        let kind = if rule[1004] <= 1 { FILTER } else { panic!("filter rules alone") };
        let set = inactive.0.get_mut(&(anchor, kind)).ok_or(libc::EINVAL)?;
        if number(&bytes[4..]) != set.0 || number(&bytes[8..]) != self.tickets.1 {
            return Err(libc::EBUSY);
        }
        set.1.push(hex(rule));
        Ok(())
    }

    /// The main rules that call anchors: all that `DIOCGETRULE` is asked for.
    fn filter_rules(&self) -> Vec<usize> {
        (0..self.main.len()).filter(|at| !self.main[*at].starts_with("scrub")).collect()
    }

    fn get(&self, call: u8, bytes: &mut [u8]) -> Result<(), Errno> {
        assert!(text(&bytes[16..1040]).is_empty(), "the main rules alone");
        let rules = self.filter_rules();
        if call == 6 {
            let count = u32::try_from(rules.len()).expect("few");
            bytes[12..16].copy_from_slice(&count.to_ne_bytes());
            return Ok(());
        }
        let at = *rules.get(number(&bytes[12..]) as usize).ok_or(libc::EBUSY)?;
        bytes[1040..2064].fill(0);
        if let Some(name) = called(&self.main[at]) {
            bytes[1040..1040 + name.len()].copy_from_slice(name.as_bytes());
        }
        Ok(())
    }

    /// Behind all whose priority is not lower: the crate gives none, so at the end.
    fn insert(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let name = text(&bytes[1040..2064]);
        assert!(!name.is_empty() && bytes[RULE_AT + 1004] == 0, "a call of an anchor's filter rules");
        if self.main.iter().any(|line| called(line) == Some(name)) {
            return Err(libc::EEXIST);
        }
        self.main.push(format!("anchor \"{name}\" all"));
        Ok(())
    }

    fn delete(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let at = *self.filter_rules().get(number(&bytes[12..]) as usize).ok_or(libc::EINVAL)?;
        self.main.remove(at);
        Ok(())
    }

    /// `DIOCXBEGIN`, by the bytes of its elements.
    pub fn begin(&mut self, inactive: &mut Inactive, elements: &mut [u8]) -> Result<(), Errno> {
        for element in elements.chunks_exact_mut(TRANS_E) {
            self.tickets.0 += 1;
            let at = (text(&element[4..1028]).to_owned(), i32::try_from(number(element)).expect("small"));
            inactive.0.insert(at, (self.tickets.0, Vec::new()));
            element[1028..].copy_from_slice(&self.tickets.0.to_ne_bytes());
        }
        Ok(())
    }

    /// `DIOCXCOMMIT`: all of them, or none.
    pub fn commit(&mut self, inactive: &mut Inactive, elements: &[u8]) -> Result<(), Errno> {
        let keys = elements.chunks_exact(TRANS_E).map(|element| {
            let at = (text(&element[4..1028]).to_owned(), i32::try_from(number(element)).expect("small"));
            let right = inactive.0.get(&at).is_some_and(|(ticket, _)| *ticket == number(&element[1028..]));
            right.then_some(at)
        });
        let keys: Vec<_> = keys.collect::<Option<_>>().ok_or(libc::EBUSY)?;
        for key in keys {
            if let Some((_, rules)) = inactive.0.remove(&key) {
                self.anchors.entry(key.0).or_default().insert(key.1, rules);
            }
        }
        // An anchor without rules goes away, as the kernel's does.
        self.anchors.retain(|_, sets| sets.values().any(|rules| !rules.is_empty()));
        Ok(())
    }
}

/// The anchor that a main rule calls.
fn called(line: &str) -> Option<&str> {
    line.strip_prefix("anchor \"")?.split('"').next()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from their hex digits.
#[must_use]
pub fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
}
