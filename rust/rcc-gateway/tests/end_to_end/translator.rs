//! Whether the network translates IPv4 is not known while no resolver tells.

use crate::netlink;
use crate::world::*;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

#[test]
fn what_no_resolver_told_is_not_taken_for_none() {
    in_world("translator::what_no_resolver_told_is_not_taken_for_none", || {
        let policy = "allow = [\"six.example:9000\"]\nusers = [\"alice\"]\n";
        let world = World::new(policy);
        netlink::address("host0", "fd77::2", 64);
        world.wire(|| {
            netlink::address("inet0", "fd77::1", 64);
            netlink::route("2600::", 16, None);
        });
        netlink::route("::", 0, Some("fd77::1"));
        world.name("six.example", &["2600::6"]);
        world.name("ipv4only.arpa", &[FAILS]);
        put_in_force();
        world.server(9000, echo);
        let session = world.session(9000);
        assert!(is_dead(&mut session.connect("six.example")), "an address that can't be judged");
        world.log_with(&["\"event\":\"fail\"", "no resolver answered"]);
        world.name("ipv4only.arpa", &[&Ipv4Addr::new(192, 0, 0, 170).to_string()]);
        // Not for five minutes: for two seconds.
        std::thread::sleep(Duration::from_millis(2500));
        let mut stream = session.connect("six.example");
        stream.write_all(b"\0one").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
    });
}
