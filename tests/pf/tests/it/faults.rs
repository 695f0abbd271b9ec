//! Each call fails, or the program dies before or after it; and what is left then.

use crate::{Rig, denies, model, proven, ruleset, stale, stock};
use rcc_pf_rig::fault::{self, How};
use rcc_pf_rig::kernel::Kernel;
use rcc_rules::pf::{Packet, Ruleset};
use std::collections::BTreeMap;

/// Small, as each rule is two calls.
const OLD: &str = "allow = []\nmay_allow = []\nresolvers = [\"9.9.9.9\"]\n";
const NEW: &str = "allow = []\nmay_allow = []\nresolvers = [\"149.112.112.112\"]\n";

const STATES: [&str; 2] = [
    "ALL tcp 192.168.77.50:50001 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED",
    "ALL udp 192.168.77.50:50003 <- 192.168.77.9:4500       SINGLE:MULTIPLE",
];

/// How pf is before.
struct Before {
    name: &'static str,
    /// Whether the old policy is in force.
    held: bool,
    change: fn(&mut Kernel),
}

const BEFORES: &[Before] = &[
    Before { name: "nothing", held: false, change: |k| k.states = STATES.map(str::to_owned).into() },
    Before { name: "the old policy", held: true, change: |_| {} },
    Before {
        name: "the old policy, pf disabled",
        held: false,
        change: |k| (k.enabled, k.tokens, k.states) = (false, Vec::new(), STATES.map(str::to_owned).into()),
    },
    Before {
        name: "the old policy, not called",
        held: false,
        change: |k| (k.main, k.states) = (Vec::new(), STATES.map(str::to_owned).into()),
    },
];

impl Before {
    /// pf as it is then, and the token that rcc has.
    fn made(&self) -> Made {
        let rig = Rig::new(&stock());
        if self.name != "nothing" {
            assert_eq!(rig.does("apply", OLD), "applied");
        }
        rig.change(self.change);
        Made::of(&rig)
    }
}

/// All that a run could leave.
#[derive(Clone, PartialEq, Eq)]
struct Made {
    kernel: Kernel,
    token: Option<Vec<u8>>,
}

impl Made {
    fn of(rig: &Rig) -> Self {
        Self { kernel: rig.kernel(), token: std::fs::read(rig.folder().join("token")).ok() }
    }

    fn rig(&self) -> Rig {
        let rig = Rig::new(&self.kernel);
        if let Some(token) = &self.token {
            std::fs::write(rig.folder().join("token"), token).unwrap();
        }
        rig
    }
}

/// What is left by a run that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Before,
    Denied,
    New,
    Empty,
}

struct Policies {
    old: Ruleset,
    new: Ruleset,
    /// What both deny.
    both: Vec<Packet<'static>>,
}

impl Policies {
    fn new() -> Self {
        let (old, new) = (ruleset(OLD), ruleset(NEW));
        let (one, other) = (denies(&old), denies(&new));
        let both: Vec<_> = one.into_iter().filter(|packet| other.contains(packet)).collect();
        assert!(both.len() > 80);
        Self { old, new, both }
    }

    /// Never open: what is proven is denied, and has no state; what was held stays held unless all was stopped.
    fn judge(&self, before: &Before, at: &Kernel, rig: &Rig, what: &str) -> Left {
        let (kernel, stopped) = (rig.kernel(), rig.folder().join("stopped").exists());
        let model = model(&kernel);
        for rules in [&self.old, &self.new] {
            if proven(&model, rules) {
                for packet in denies(rules) {
                    assert!(!model.decide(&packet).0, "{what}: {packet:?}");
                }
                assert_eq!(stale(&kernel, rules), 0, "{what}");
            }
        }
        if before.held && !stopped {
            for packet in &self.both {
                assert!(!model.decide(packet).0, "{what}: {packet:?}");
            }
        }
        assert_eq!(kernel.others, at.others, "{what}: nobody else's rules");
        let listed = rig.listed();
        let plain = |rules: &Ruleset| rules.rules.len();
        let lines = listed.lines().count();
        let ours = listed.contains(&format!("rcc {} ", self.new.fingerprint));
        match (kernel.anchors == at.anchors, lines) {
            (_, 0) if !at.anchors.is_empty() => {
                assert!(stopped, "{what}: empty, and not everything was stopped");
                Left::Empty
            }
            (_, lines) if ours && lines == plain(&self.new) => Left::New,
            (_, lines) if ours && lines == plain(&self.new.unproven()) => Left::Denied,
            (true, _) => Left::Before,
            (false, _) => panic!("{what}: a part of something\n{listed}"),
        }
    }
}

/// Which calls of a run go wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    All,
    /// Of those that add a transaction's rules, which all are the same to what is kept, those at its ends.
    Telling,
}

/// Every call of a run, in every way that it can go wrong; then once more without, which must do.
fn points(what: &str, before: &Before, which: Calls) {
    let policies = Policies::new();
    let made = before.made();
    let whole = made.rig();
    whole.run(what, NEW).unwrap();
    let calls = fault::calls(whole.folder());
    assert_eq!(whole.does("status", NEW), "in force", "{}", before.name);
    let (mut left, mut points, mut mended) = (BTreeMap::new(), 0, Vec::new());
    let adds = |at: usize| calls.get(at).is_some_and(|call| call == "DIOCADDRULE" || call == "DIOCBEGINADDRS");
    for (at, call) in calls.iter().enumerate() {
        let within = at >= 2 && (at - 2..=at + 2).all(adds);
        if which == Calls::Telling && within {
            continue;
        }
        // Between two calls of a transaction nothing else happens: to die after one is to die before the next.
        let ways: &[How] =
            if call.starts_with("DIOC") { &[How::Fails, How::Before] } else { &[How::Fails, How::Before, How::After] };
        for how in ways {
            let rig = made.rig();
            fault::set(rig.folder(), at + 1, *how);
            let said = rig.run(what, NEW);
            let point = format!("{what} with {}, {call} ({}) {how:?}: {said:?}", before.name, at + 1);
            assert_eq!(said.is_none(), *how != How::Fails, "{point}");
            *left.entry(policies.judge(before, &made.kernel, &rig, &point)).or_insert(0) += 1;
            points += 1;
            // The daemon looks again in a few seconds. Of the same thing the same becomes.
            let now = Made::of(&rig);
            if mended.contains(&now) {
                continue;
            }
            mended.push(now);
            let said = rig.does("apply", NEW);
            assert!(said == "applied" || said == "unchanged", "{point}: {said}");
            assert_eq!(rig.does("status", NEW), "in force", "{point}");
            let kernel = rig.kernel();
            assert_eq!(stale(&kernel, &policies.new), 0, "{point}");
            assert!(kernel.tokens.len() <= 2, "{point}: a reference that nobody gives up at most");
        }
    }
    println!("{what}, before: {}: {} calls, {points} points, left: {left:?}", before.name, calls.len());
}

#[test]
fn of_apply_with_nothing() {
    points("apply", &BEFORES[0], Calls::All);
}

#[test]
fn of_apply_with_the_old_policy() {
    points("apply", &BEFORES[1], Calls::All);
}

#[test]
fn of_apply_with_pf_disabled() {
    points("apply", &BEFORES[2], Calls::Telling);
}

#[test]
fn of_apply_with_no_call_of_the_anchor() {
    points("apply", &BEFORES[3], Calls::Telling);
}

#[test]
fn of_recover_with_the_old_policy() {
    points("recover", &BEFORES[1], Calls::Telling);
}

#[test]
fn of_recover_with_pf_disabled() {
    points("recover", &BEFORES[2], Calls::Telling);
}

#[test]
fn of_recover_with_no_call_of_the_anchor() {
    points("recover", &BEFORES[3], Calls::Telling);
}

#[test]
fn of_remove_at_every_call() {
    let made = BEFORES[1].made();
    let calls = {
        let rig = made.rig();
        rig.run("remove", OLD).unwrap();
        fault::calls(rig.folder())
    };
    let mut points = 0;
    for at in 1..=calls.len() {
        for how in [How::Fails, How::Before, How::After] {
            let rig = made.rig();
            fault::set(rig.folder(), at, how);
            let said = rig.run("remove", OLD);
            let point = format!("remove, call {at} {how:?}: {said:?}");
            let again = rig.does("remove", OLD);
            assert!(again == "removed" || again == "nothing", "{point}: {again}");
            let kernel = rig.kernel();
            assert!(kernel.anchors.is_empty() && kernel.tokens.is_empty(), "{point}");
            assert_eq!(kernel.main, stock().main);
            points += 1;
        }
    }
    println!("remove: {} calls, {points} points", calls.len());
}
