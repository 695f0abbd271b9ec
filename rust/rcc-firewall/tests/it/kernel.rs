//! In force as read back, and deciding packets as the pure model does.

use crate::{FULL, GATEWAY, by, network, nft, policy, table};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcc_firewall::{Applied, apply, remove, status};
use rcc_packets::{addresses, policies, ports};
use rcc_policy::Policy;
use rcc_rules::{Found, Packet, Protocol, Ruling};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;

#[test]
fn what_was_applied_is_read_back_and_twice_changes_nothing() {
    let kernel = network();
    for text in ["", "allow = [\"a.example:443\"]\nresolvers = [\"9.9.9.9\", \"tls://9.9.9.9\"]\n", FULL] {
        let wanted = table(&policy(text));
        assert!(!matches!(status(&kernel, &wanted), Ok(Found::InForce)));
        assert_eq!(
            apply(&kernel, &wanted).unwrap_or_else(|p| panic!("{p}\n{:#?}", status(&kernel, &wanted))),
            Applied::Replaced
        );
        let listed = kernel.list().unwrap();
        assert_eq!(apply(&kernel, &wanted).unwrap(), Applied::Unchanged);
        assert_eq!(kernel.list().unwrap(), listed, "handles and counters stay");
    }
    assert!(remove(&kernel).unwrap());
    assert!(!remove(&kernel).unwrap());
    assert_eq!(status(&kernel, &table(&policy(FULL))).unwrap(), Found::Absent);
}

#[test]
fn the_text_for_people_makes_the_same_table() {
    let kernel = network();
    let wanted = table(&policy(FULL));
    let file = std::env::temp_dir().join(format!("rcc-firewall-{}.nft", std::process::id()));
    std::fs::write(&file, wanted.to_string()).unwrap();
    nft(&format!("--file {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::InForce);
}

#[test]
fn every_change_by_others_is_seen() {
    let kernel = network();
    let wanted = table(&policy(FULL));
    for change in [
        "insert rule inet rcc gateway accept",
        "add rule inet rcc refused accept",
        "flush chain inet rcc gateway",
        "flush chain inet rcc output",
        "flush chain inet rcc refused",
        "add chain inet rcc other",
        "add set inet rcc more { type ipv4_addr ; }",
        "add chain inet rcc output { policy drop ; }",
        "flush table inet rcc",
    ] {
        apply(&kernel, &wanted).unwrap();
        nft(change);
        match status(&kernel, &wanted).unwrap() {
            Found::Drifted(differences) => assert!(!differences.is_empty()),
            // Without its canary nobody can say whose it is.
            Found::Foreign => {
                assert!(change.starts_with("flush"), "{change}");
                assert_eq!(apply(&kernel, &wanted).unwrap_err().code.to_string(), "RCC-902");
                nft("delete table inet rcc");
            }
            other => panic!("{change}: {other:?}"),
        }
    }
    // The last change left none.
    nft("add table inet rcc");
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::Foreign);
    assert!(apply(&kernel, &wanted).is_err() && remove(&kernel).is_err());
}

#[test]
fn other_tables_are_left_alone_and_reopen_nothing() {
    let kernel = network();
    nft("add table inet other");
    nft("add chain inet other output { type filter hook output priority 0 ; policy accept ; }");
    nft("add rule inet other output meta skuid 4242 accept");
    // As Docker has it: what is sent to an own address goes to a container.
    nft("add table ip nat");
    nft("add chain ip nat output { type nat hook output priority -100 ; }");
    nft("add rule ip nat output ip daddr 11.0.0.1 tcp dport 443 dnat to 192.168.77.20:443");
    let wanted = table(&policy(FULL));
    apply(&kernel, &wanted).unwrap();
    let before = Command::new("nft").args(["--stateless", "list", "ruleset"]).output().unwrap().stdout;
    for (to, refused) in [("10.0.0.1:443", true), ("11.0.0.1:443", true), ("11.0.0.2:443", false)] {
        assert_eq!(verdict(GATEWAY, to.parse().unwrap()).is_some(), refused, "{to}");
    }
    remove(&kernel).unwrap();
    apply(&kernel, &wanted).unwrap();
    assert_eq!(Command::new("nft").args(["--stateless", "list", "ruleset"]).output().unwrap().stdout, before);
}

#[test]
fn the_canary_tells_the_policies_apart() {
    let kernel = network();
    let (one, other) = (policy(FULL), policy("allow = [\"a.example:443\"]\n"));
    // To the canary's port, and to one beside it: (may it, may it).
    let canary = |policy: &Policy| {
        let to = policy.fingerprint().canary();
        let beside = SocketAddrV4::new(*to.ip(), to.port() ^ 1);
        (may_send(GATEWAY, to), may_send(GATEWAY, beside))
    };
    assert_eq!(canary(&one), (true, true), "no table");
    apply(&kernel, &table(&one)).unwrap();
    assert_eq!((canary(&one), canary(&other)), ((true, false), (false, false)));
    apply(&kernel, &table(&other)).unwrap();
    assert_eq!((canary(&one), canary(&other)), ((false, false), (true, false)));
}

/// Whether a datagram of this user's goes.
fn may_send(user: u32, to: SocketAddrV4) -> bool {
    by(user, move || {
        let sent = UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", to);
        assert!(sent.as_ref().err().is_none_or(|e| e.raw_os_error() == Some(libc::EPERM)), "{sent:?}");
        sent.is_ok()
    })
}

/// What becomes of a connection that this user opens: the error, or nothing when it is under way after a while.
fn verdict(user: u32, to: SocketAddr) -> Option<i32> {
    by(user, move || connect(to))
}

fn connect(to: SocketAddr) -> Option<i32> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket, sockopt};
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(to)) {
        Ok(()) => return None,
        Err(nix::errno::Errno::EINPROGRESS) => {}
        Err(e) => return Some(e as i32),
    }
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    // What is refused is refused at once; what goes out has no answer.
    if poll(&mut fds, PollTimeout::from(20_u8)).unwrap() == 0 {
        return None;
    }
    let error = getsockopt(&socket, sockopt::SocketError).unwrap();
    (error != 0).then_some(error)
}

/// For random policies, over random packets. What the routing table calls an address is asked of it.
#[test]
fn the_kernel_decides_as_the_model() {
    let kernel = network();
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let packets = proptest::collection::vec((addresses(), ports(), any::<bool>()), 60);
    let ran = runner.run(&(policies(), packets), |(text, packets)| {
        let Ok(policy) = rcc_policy::parse(&text, "policy.toml") else {
            return Err(TestCaseError::reject("no policy"));
        };
        let wanted = table(&policy);
        let _ = remove(&kernel);
        apply(&kernel, &wanted).map_err(|p| TestCaseError::fail(format!("{p}\n{text}")))?;
        for (to, port, is_gateway) in packets {
            let user = if is_gateway { GATEWAY } else { GATEWAY + 1 };
            let Some(unicast) = unicast(to) else { continue };
            let packet = Packet { user, to, protocol: Protocol::Tcp(port), unicast };
            let model = wanted.decide(&packet);
            let real = verdict(user, SocketAddr::new(to, port));
            let expected = match model {
                Ruling::Refused(_) => real.is_some(),
                // A closed port of this machine's own answers, too.
                Ruling::Accepted(_) | Ruling::NotOurs => real.is_none() || !unicast || is_own(to),
            };
            prop_assert!(expected, "{to} {port} by {user}: the model says {model:?}, the kernel {real:?}\n{text}");
        }
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
}

fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || ip == IpAddr::from([192, 168, 77, 50]) || ip.to_string() == "2600:77::50"
}

/// Whether the routing table calls the address unicast; `None` where nothing can be sent there at all.
fn unicast(ip: IpAddr) -> Option<bool> {
    // Without a device nothing is sent to a link-local address.
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    let output = Command::new("ip").args(["route", "get", &ip.to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said.split(' ').next().unwrap_or_default();
    if !output.status.success() || ["unreachable", "prohibit", "blackhole"].contains(&first) {
        return None;
    }
    Some(!["local", "broadcast", "multicast", "anycast"].contains(&first))
}
