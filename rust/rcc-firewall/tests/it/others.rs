//! Other firewalls on the same machine, each by its own program: what they accept reopens nothing, what they flush is seen,
//! and rcc leaves their tables as they are.

use crate::{FULL, GATEWAY, by, network, nft, policy, table};
use rcc_firewall::{Nft, apply, remove, status};
use rcc_rules::{Found, Table};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

/// Root's shell, with copies of what these programs keep in /etc and elsewhere.
fn shell(script: &str) {
    let private = "mount --make-rprivate /
        for folder in /etc/ufw /etc/default /run; do
            copy=$(mktemp -d); mount -t tmpfs none $copy; cp -a $folder/. $copy 2>/dev/null || :; mount --bind $copy $folder
        done
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new("unshare").args(["--mount", "bash", "-euc", &format!("{private}\n{script}")]).output();
    let output = output.expect("unshare runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&said));
}

/// Whether the gateway's datagram to a private address goes. (A refused one is EPERM at once.)
fn is_open() -> bool {
    by(GATEWAY, || {
        let to: SocketAddr = "10.1.2.3:443".parse().unwrap();
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", to).is_ok()
    })
}

/// All tables but rcc's, without what is counted.
fn tables_of_others() -> String {
    let output = Command::new("nft").args(["--stateless", "list", "ruleset"]).output().unwrap();
    let all = String::from_utf8(output.stdout).unwrap();
    let mut others = Vec::new();
    let mut ours = false;
    for line in all.lines().filter(|l| !l.starts_with('#')) {
        ours = if line.starts_with("table ") { line == "table inet rcc {" } else { ours };
        if !ours {
            others.push(line);
        }
    }
    others.join("\n")
}

/// What every other firewall is put to: before rcc's table and after it, opened as wide as it goes.
fn stands_beside(kernel: &Nft, wanted: &Table, starts: &str, opens: &str) {
    shell(starts);
    // Some refuse by themselves; what counts is that it is open, then refused by rcc.
    shell(opens);
    assert!(is_open(), "the control");
    let before = tables_of_others();
    assert!(before.contains("table"), "it has tables");
    apply(kernel, wanted).unwrap();
    assert_eq!(tables_of_others(), before, "left as they are");
    assert!(!is_open());
    shell(opens);
    assert!(!is_open(), "reopened by {opens}");
    assert_eq!(status(kernel, wanted).unwrap(), Found::InForce);
    let before = tables_of_others();
    remove(kernel).unwrap();
    assert_eq!(tables_of_others(), before, "left as they are");
    assert!(is_open(), "the control");
}

#[test]
fn docker() {
    let kernel = network();
    // The chains of Docker 20 to 28 by iptables-nft, and rules as wide as can be.
    let starts = "for t in iptables-nft ip6tables-nft; do
            $t -t nat -N DOCKER; $t -N DOCKER; $t -N DOCKER-USER; $t -N DOCKER-ISOLATION-STAGE-1
            $t -A FORWARD -j DOCKER-USER; $t -A FORWARD -j DOCKER-ISOLATION-STAGE-1; $t -P FORWARD DROP
            $t -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
            $t -A DOCKER-USER -j RETURN; $t -A DOCKER-ISOLATION-STAGE-1 -j RETURN
        done
        iptables-nft -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
        iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE";
    let opens = "iptables-nft -I OUTPUT -j ACCEPT; iptables-nft -t mangle -I OUTPUT -j ACCEPT
        iptables-nft -t raw -I OUTPUT -j ACCEPT; iptables-nft -t nat -I OUTPUT -d 11.9.9.9 -j DNAT --to 10.1.2.3";
    stands_beside(&kernel, &table(&policy(FULL)), starts, opens);
}

#[test]
fn ufw() {
    let kernel = network();
    let starts = "ufw --force enable; ufw status | grep -q 'Status: active'";
    let opens = "ufw --force enable; ufw default allow outgoing; ufw allow out to any; ufw reload";
    stands_beside(&kernel, &table(&policy(FULL)), starts, opens);
}

#[test]
fn tables_of_any_priority() {
    let kernel = network();
    let starts = "nft 'table inet filter { chain output { type filter hook output priority filter; policy drop; }; }'";
    let opens = "for p in -400 -300 -150 -100 0 100 199 200 201 300 2147483000; do
            nft \"table inet wide$(( p + 1000 )) { chain o { type filter hook output priority $p; policy accept; accept; }; }\"
        done
        nft 'table inet filter { chain output { type filter hook output priority filter; policy accept; }; }'";
    stands_beside(&kernel, &table(&policy(FULL)), starts, opens);
}

/// NixOS's nftables and others' scripts begin with it. Until the table is back, it is said not to be there.
#[test]
fn a_flush_is_seen() {
    let kernel = network();
    let wanted = table(&policy(FULL));
    let nixos = "nft -f - <<'E'\nflush ruleset\ntable inet nixos-fw {\n chain output {\n type filter hook output priority 0; policy accept;\n }\n}\nE";
    for flush in ["nft flush ruleset", nixos, "nft delete table inet rcc"] {
        apply(&kernel, &wanted).unwrap();
        assert!(!is_open());
        shell(flush);
        assert_eq!(status(&kernel, &wanted).unwrap(), Found::Absent, "{flush}");
        assert!(is_open(), "the control");
    }
    // Those that flush their own alone, as iptables and NixOS's scripts for it do.
    apply(&kernel, &wanted).unwrap();
    shell(
        "for t in iptables-nft ip6tables-nft; do for n in raw mangle nat filter; do $t -t $n -F; $t -t $n -X; done; $t -P OUTPUT ACCEPT; done",
    );
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::InForce);
    // Dormant it is there, and does nothing.
    nft("add table inet rcc { flags dormant ; }");
    assert!(is_open(), "the control");
    assert!(!matches!(status(&kernel, &wanted), Ok(Found::InForce)), "it does nothing, and is said to be in force");
    apply(&kernel, &wanted).unwrap();
    assert!(!is_open());
}
