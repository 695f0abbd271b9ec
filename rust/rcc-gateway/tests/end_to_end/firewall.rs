//! Without its host firewall the gateway opens no session, and those that are open stand still.

use crate::POLICY;
use crate::world::*;
use rcc_firewall::{Nft, remove};
use rcc_proto::{FromGateway, ToGateway, VERSION, Version};
use std::io::{Read, Write};
use std::time::Duration;

fn refusal() -> String {
    let launcher = launcher(ALICE);
    say(&launcher, &ToGateway::Open(open(VERSION)), &[]);
    match hear(&launcher) {
        Some(FromGateway::Refused { problem }) => problem.code.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_session_begins_without_the_firewall_of_this_policy() {
    in_both_worlds("firewall::no_session_begins_without_the_firewall_of_this_policy", || {
        let world = World::new(POLICY);
        let nft = Nft::find().unwrap();
        assert!(remove(&nft).unwrap());
        assert_eq!(refusal(), "RCC-906", "absent");
        put_in_force();
        world.session(9000);
        let other = format!("deny = [\"other.example\"]\n{POLICY}");
        std::fs::write("/etc/rcc/policy.toml", &other).unwrap();
        assert_eq!(refusal(), "RCC-906", "another policy's");
        put_in_force();
        world.session(9000);
    });
}

#[test]
fn connections_are_held_until_the_firewall_is_in_force_again() {
    in_both_worlds("firewall::connections_are_held_until_the_firewall_is_in_force_again", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let session = world.session(9000);
        let to = session.lookup("allowed.example").unwrap()[0];
        let mut before = session.run(move || dial((to, 9000).into()));
        let mut answer = [0; 4];
        before.write_all(b"\0one").unwrap();
        before.read_exact(&mut answer).unwrap();
        // Any program of root's may do this: `systemctl restart nftables`, for one.
        assert!(remove(&Nft::find().unwrap()).unwrap());
        match hear(&session.launcher) {
            Some(FromGateway::Held { problem }) => assert_eq!(problem.code.to_string(), "RCC-906"),
            other => panic!("{other:?}"),
        }
        let mut meanwhile = session.run(move || dial((to, 9000).into()));
        for connection in [&mut before, &mut meanwhile] {
            connection.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
            connection.write_all(b"\0two").unwrap();
            assert!(connection.read(&mut answer).is_err(), "nothing moves");
            connection.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        }
        put_in_force();
        assert!(matches!(hear(&session.launcher), Some(FromGateway::Released)));
        for connection in [&mut before, &mut meanwhile] {
            connection.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"\0two");
        }
        world.log_with(&["\"event\":\"unproven\"", "RCC-906"]);
        world.log_with(&["\"event\":\"proven\""]);
        // What the person denies meanwhile is answered at once, and nothing more passes afterwards.
        assert!(remove(&Nft::find().unwrap()).unwrap());
        assert!(matches!(hear(&session.launcher), Some(FromGateway::Held { .. })));
        for connection in [&mut before, &mut meanwhile] {
            connection.write_all(b"\0end").unwrap();
        }
        say(&session.launcher, &ToGateway::Grants { grants: vec!["!allowed.example".into()] }, &[]);
        assert!(matches!(hear(&session.launcher), Some(FromGateway::Granted { cut: 2 })));
        put_in_force();
        assert!(matches!(hear(&session.launcher), Some(FromGateway::Released)));
        for connection in [&mut before, &mut meanwhile] {
            assert!(!matches!(connection.read(&mut answer), Ok(1..)), "it was cut");
        }
        // The launcher's end is seen while all is held, too.
        assert!(remove(&Nft::find().unwrap()).unwrap());
        assert!(matches!(hear(&session.launcher), Some(FromGateway::Held { .. })));
        drop(session.launcher);
        world.log_with(&["\"event\":\"end\"", "exit 0"]);
    });
}

#[test]
fn a_launcher_that_can_not_be_told_has_its_session_ended() {
    in_both_worlds("firewall::a_launcher_that_can_not_be_told_has_its_session_ended", || {
        let world = World::new(POLICY);
        let session = world.session_with(9000, open(Version { major: 1, minor: 0 }));
        assert!(remove(&Nft::find().unwrap()).unwrap());
        match hear(&session.launcher) {
            Some(FromGateway::Closing { problem }) => assert_eq!(problem.code.to_string(), "RCC-906"),
            other => panic!("{other:?}"),
        }
    });
}
