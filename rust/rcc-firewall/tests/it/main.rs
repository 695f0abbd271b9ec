//! The table in a real kernel, by the real nft.
//!
//! Each test has network namespaces of its own, with links that lead nowhere: no packet leaves them.
#![cfg(target_os = "linux")]

mod callers;
mod kernel;
mod leaks;
mod others;

use nix::sched::{CloneFlags, unshare};
use rcc_firewall::Nft;
use rcc_packets::{FULL, GATEWAY, facts, policy};
use rcc_policy::Policy;
use rcc_rules::Table;
use std::process::Command;

/// This thread, in a network namespace with a link whose other end swallows everything.
fn network() -> Nft {
    unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
    for line in [
        "link set lo up",
        "link add eth0 type veth peer name peer0",
        "link set peer0 up",
        "link set eth0 arp off",
        "link set eth0 up",
        "addr add 192.168.77.50/24 dev eth0",
        "addr add 2600:77::50/64 dev eth0 nodad",
        "route add default dev eth0",
        "-6 route add default dev eth0",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().expect("ip runs");
        assert!(status.success(), "ip {line}");
    }
    Nft::find().expect("nft is there")
}

/// The table that a policy makes on that machine.
fn table(policy: &Policy) -> Table {
    Table::new(&policy.egress(), policy.fingerprint(), &facts())
}

/// Calls nft with these words.
fn nft(arguments: &str) {
    let status = Command::new("nft").args(arguments.split(' ')).status().expect("nft runs");
    assert!(status.success(), "nft {arguments}");
}

/// Does something as a user.
fn by<T: Send>(user: u32, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let attempt = scope.spawn(|| {
            // For this thread alone, which the C library's function would not do.
            // SAFETY: system calls with numbers.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
            assert_eq!(done, 0);
            what()
        });
        attempt.join().expect("the thread does not panic")
    })
}
