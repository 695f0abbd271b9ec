//! Apply, status, remove, recover, when nothing goes wrong but pf.

use crate::{Rig, ruleset, stale, stock};
use rcc_packets::FULL;
use rcc_pf_rig::fault;
use rcc_pf_rig::kernel::Kernel;

/// What somebody does to pf, and what is said of it.
type Change = (&'static str, fn(&mut Kernel));

const OTHER: &str = "allow = [\"a.example:443\"]\nresolvers = [\"9.9.9.9\", \"tls://9.9.9.9\"]\n";

#[test]
fn what_was_applied_is_read_back_and_twice_changes_nothing() {
    let rig = Rig::new(&stock());
    assert_eq!(rig.does("status", FULL), "absent");
    for policy in [FULL, OTHER, "", FULL] {
        assert_eq!(rig.does("apply", policy), "applied");
        assert_eq!(rig.does("status", policy), "in force");
        assert_eq!(ruleset(policy).rules.len(), rig.listed().lines().count());
        let kernel = rig.kernel();
        assert_eq!(rig.does("apply", policy), "unchanged");
        assert_eq!(rig.kernel(), kernel);
        assert_eq!((kernel.given, kernel.tokens.len(), kernel.enabled), (1, 1, true), "one reference, taken once");
        assert_eq!((&kernel.main, &kernel.others), (&stock().main, &stock().others), "nobody else's rules");
    }
    assert!(rig.does("status", OTHER).starts_with("drifted: rule"));
    assert_eq!(rig.does("remove", ""), "removed");
    let kernel = rig.kernel();
    assert_eq!(Kernel { given: 0, ..kernel }, stock(), "as it was before");
    assert_eq!(rig.does("remove", ""), "nothing");
    assert_eq!(rig.does("status", FULL), "absent");
}

#[test]
fn what_others_do_to_pf_is_seen_and_mended() {
    let rig = Rig::new(&stock());
    assert_eq!(rig.does("apply", FULL), "applied");
    let changes: [Change; 6] = [
        ("pf", |k| k.enabled = false),
        // pfctl -d: nobody's reference counts any more.
        ("pf", |k| (k.enabled, k.tokens) = (false, Vec::new())),
        // … and somebody enables it again, whose reference may go at any time.
        ("pf", |k| k.tokens = vec![5]),
        ("main rules", |k| k.main.clear()),
        ("rule 1 of com.apple/000.rcc", |k| {
            drop(k.anchors.values_mut().next().unwrap().get_mut(&1).unwrap().remove(0));
        }),
        ("absent", |k| k.anchors.clear()),
    ];
    for (place, change) in changes {
        rig.change(change);
        let said = rig.does("status", FULL);
        assert!(said == place || said == format!("drifted: {place}"), "{said}");
        rig.change(|k| {
            k.states.push("ALL tcp 192.168.77.50:50001 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED".to_owned());
        });
        assert_eq!(rig.does("apply", FULL), "applied", "{place}");
        assert_eq!(rig.does("status", FULL), "in force");
        assert_eq!(stale(&rig.kernel(), &ruleset(FULL)), 0, "{place}");
    }
    assert_eq!(rig.does("remove", FULL), "removed");
    assert!(rig.kernel().main.is_empty(), "the call that rcc made is gone");
}

#[test]
fn what_rcc_may_not_mend_is_refused_and_nothing_is_proven() {
    let vpn = |k: &mut Kernel| {
        k.main.insert(0, "anchor \"vpn\" all".to_owned());
        k.others.insert("vpn".to_owned(), "pass quick on utun4 all flags any keep state\n".to_owned());
    };
    let changes: [Change; 5] = [
        ("RCC-921", |k| k.nat.push("nat on en0 inet from 192.168.64.0/24 to any -> (en0:0)".to_owned())),
        ("RCC-922", |k| k.skipped.push("lo0".to_owned())),
        ("RCC-921", |k| k.main.insert(0, "pass quick all flags any keep state".to_owned())),
        ("RCC-921", vpn),
        ("RCC-921", |k| drop(k.others.insert("com.apple/000.a".to_owned(), "pass quick all flags any\n".to_owned()))),
    ];
    for (code, change) in changes {
        for before in ["", FULL] {
            let rig = Rig::new(&stock());
            if !before.is_empty() {
                rig.does("apply", before);
            }
            rig.change(change);
            let said = rig.does("apply", FULL);
            assert!(said.contains(code), "{said}");
            assert_ne!(rig.does("status", FULL), "in force");
            assert!(!rig.listed().contains("canary"), "{code}");
            assert_eq!(
                rig.listed().lines().count(),
                ruleset(FULL).unproven().rules.len(),
                "denied where pf comes to it"
            );
        }
    }
}

#[test]
fn somebody_elses_anchor_is_left_alone() {
    let mut kernel = stock();
    kernel.others.insert("com.apple/000.rcc".to_owned(), "pass quick all flags any\n".to_owned());
    let rig = Rig::new(&kernel);
    for what in ["apply", "remove", "recover"] {
        assert!(rig.does(what, FULL).contains("RCC-902"), "{what}");
        assert_eq!(rig.kernel(), kernel);
    }
    assert_eq!(rig.does("status", FULL), "foreign");
}

const STATES: [&str; 4] = [
    "ALL tcp 192.168.77.50:50001 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED",
    "ALL tcp 192.168.77.50:50002 -> 11.0.0.1:443       ESTABLISHED:ESTABLISHED",
    "ALL udp 192.168.77.50:50003 <- 192.168.77.9:4500       SINGLE:MULTIPLE",
    // A machine of somebody else's, behind this one.
    "ALL tcp 192.168.64.3:50004 -> 10.0.0.1:443       ESTABLISHED:ESTABLISHED",
];

#[test]
fn states_that_are_denied_end_before_anything_is_proven() {
    let rig = Rig::new(&Kernel { states: STATES.map(str::to_owned).into(), ..stock() });
    rig.does("apply", FULL);
    assert_eq!(rig.kernel().states, [STATES[3]], "of the gateway and of the machine, not of others behind this Mac");
    let calls = fault::calls(rig.folder());
    let last = |name: &str| calls.iter().rposition(|call| call.starts_with(name)).unwrap();
    assert!(last("pfctl -k") < last("DIOCXCOMMIT"), "{calls:?}");
    // Under rules that held, none of the machine's can be: other people's stay.
    rig.change(|k| k.states = STATES.map(str::to_owned).into());
    rig.does("apply", OTHER);
    assert_eq!(rig.kernel().states, [STATES[1], STATES[3]]);
}

#[test]
fn recovering_begins_anew_without_disabling_pf() {
    let rig = Rig::new(&stock());
    rig.does("apply", FULL);
    let before = rig.kernel();
    // Rules that are shown and do not hold can't be told from others here: it does all of it.
    assert_eq!(rig.does("recover", FULL), "recovered");
    let after = rig.kernel();
    assert_eq!(rig.does("status", FULL), "in force");
    assert!(rig.folder().join("stopped").exists());
    assert!(before.tokens != after.tokens && after.tokens.len() == 1 && after.enabled);
    let calls = fault::calls(rig.folder());
    assert!(!calls.is_empty());
}
