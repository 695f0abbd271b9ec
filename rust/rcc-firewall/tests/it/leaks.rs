//! While tables replace each other under constant traffic, nothing gets out that both deny, and nothing of a flow that
//! the table in force denies, its pending data included. The judge sits at the other end of the link.

use crate::{GATEWAY, by, facts, policy};
use nix::sched::{CloneFlags, unshare};
use rcc_firewall::{Applied, Nft, apply, remove};
use rcc_rules::Table;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const APPLIES: usize = 1000;
const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 50);
/// A server that listens on both ports, of which each policy has one.
const SERVER: Ipv4Addr = Ipv4Addr::new(11, 1, 0, 1);
const PORTS: [u16; 2] = [443, 80];
/// What both deny: by the address, by the port, by the protocol.
const DENIED: [(Ipv4Addr, u16); 4] = [
    (Ipv4Addr::new(11, 66, 0, 1), 443),
    (Ipv4Addr::new(10, 9, 9, 9), 80),
    (Ipv4Addr::new(192, 168, 77, 1), 443),
    (SERVER, 25),
];

/// A packet that got out.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When, in nanoseconds, as the kernel says.
    at: u128,
    tcp: bool,
    to: Ipv4Addr,
    port: u16,
    /// Bytes that it carries.
    data: usize,
    /// A reset: for what arrives for a connection that was aborted the kernel itself sends one, which has no owner.
    reset: bool,
}

impl Seen {
    /// Whether neither policy lets it out.
    fn is_denied(&self) -> bool {
        !self.tcp || !PORTS.contains(&self.port) || self.to != SERVER
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

fn ip(line: &str) {
    assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
}

/// The other end of the link, in a namespace of its own: every address answers there. Gives its packets at the end.
fn other_end(stop: &AtomicBool, made: &std::sync::mpsc::Sender<i32>, go: &std::sync::mpsc::Receiver<()>) -> Vec<Seen> {
    unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
    // SAFETY: a call without arguments.
    made.send(unsafe { libc::gettid() }).unwrap();
    go.recv().unwrap();
    for line in [
        "link set lo up",
        "link set peer0 arp off",
        "link set peer0 up",
        "addr add 192.168.77.1/24 dev peer0",
        "route add local 11.0.0.0/8 dev lo",
        "route add local 10.0.0.0/8 dev lo",
    ] {
        ip(line);
    }
    for port in PORTS {
        let listener = TcpListener::bind((SERVER, port)).unwrap();
        // Slowly, so that there always is data that waits to be sent.
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut buffer = [0; 16 << 10];
                    while client.read(&mut buffer).is_ok_and(|n| n > 0) {
                        thread::sleep(Duration::from_millis(2));
                    }
                });
            }
        });
    }
    let judge = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(0x0800_u16.to_be())))).unwrap();
    judge.set_recv_buffer_size(8 << 20).unwrap();
    judge.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut seen = Vec::new();
    made.send(0).unwrap();
    let mut buffer = [0; 2048];
    loop {
        match (&judge).read(&mut buffer) {
            Ok(n) => seen.extend(packet(&buffer[..n], stamp(&judge))),
            Err(_) if stop.load(SeqCst) => break,
            Err(_) => {}
        }
    }
    assert_eq!(dropped(&judge), 0, "the judge missed packets");
    seen
}

/// A packet of the near end's, if it is TCP or UDP.
fn packet(bytes: &[u8], at: u128) -> Option<Seen> {
    let octets = |from: usize| <[u8; 4]>::try_from(bytes.get(from..from + 4)?).ok().map(Ipv4Addr::from);
    let header = usize::from(bytes.first()? & 15) * 4;
    let (protocol, from, to) = (*bytes.get(9)?, octets(12)?, octets(16)?);
    if from != HERE || ![6, 17].contains(&protocol) {
        return None;
    }
    let port = u16::from_be_bytes([*bytes.get(header + 2)?, *bytes.get(header + 3)?]);
    let own = if protocol == 6 { usize::from(bytes.get(header + 12)? >> 4) * 4 } else { 8 };
    let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    let reset = protocol == 6 && bytes.get(header + 13)? & 4 != 0;
    Some(Seen { at, tcp: protocol == 6, to, port, data: total.saturating_sub(header + own), reset })
}

/// When the packet that was read last arrived.
fn stamp(judge: &Socket) -> u128 {
    const SIOCGSTAMPNS: libc::c_ulong = 0x8907;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec (socket(7)).
    let done = unsafe { libc::ioctl(judge.as_raw_fd(), SIOCGSTAMPNS, &raw mut time) };
    assert_eq!(done, 0);
    u128::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u128::try_from(time.tv_nsec).unwrap()
}

fn dropped(judge: &Socket) -> u32 {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut size = libc::socklen_t::try_from(size_of_val(&stats)).unwrap();
    // SAFETY: the kernel writes at most `size` bytes (packet(7)).
    let done = unsafe {
        libc::getsockopt(
            judge.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut size,
        )
    };
    assert_eq!(done, 0);
    stats.tp_drops
}

/// Sends to what is denied, over and over: datagrams, and connections.
fn denied_traffic(stop: &AtomicBool) {
    let datagrams = UdpSocket::bind((HERE, 0)).unwrap();
    while !stop.load(SeqCst) {
        for (to, port) in DENIED {
            let _ = datagrams.send_to(b"leak", (to, port));
            let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.connect(&SockAddr::from(SocketAddrV4::new(to, port)));
        }
        let _ = datagrams.send_to(b"leak", (SERVER, 443));
        thread::sleep(Duration::from_micros(200));
    }
}

/// Flows to one port, one after another, each with data pending all the time, and aborted as the gateway does it.
fn flows(stop: &AtomicBool, port: u16) {
    let to = SocketAddr::from((SERVER, port));
    for n in 0_u64.. {
        if stop.load(SeqCst) {
            return;
        }
        let Ok(mut stream) = std::net::TcpStream::connect_timeout(&to, Duration::from_millis(20)) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        stream.set_nonblocking(true).unwrap();
        for _ in 0..(n * 7 % 40) {
            match stream.write(&[b'p'; 8 << 10]) {
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => break,
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// A table was in force from when its apply had returned until the next one began.
struct InForce {
    port: u16,
    from: u128,
    to: u128,
}

#[test]
fn nothing_leaks_while_tables_replace_each_other() {
    unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let (stop_traffic, stop_judge) = (AtomicBool::new(false), AtomicBool::new(false));
    let (made_send, made) = channel();
    let (go, go_receive) = channel();
    thread::scope(|scope| {
        let stop = &stop_judge;
        let judge = scope.spawn(move || other_end(stop, &made_send, &go_receive));
        let other = made.recv().unwrap();
        let process = std::process::id();
        ip("link set lo up");
        // Without ARP a frame goes to the sender's own address.
        ip("link add eth0 address 02:00:00:00:00:01 type veth peer name peer0 address 02:00:00:00:00:01");
        ip(&format!("link set peer0 netns /proc/{process}/task/{other}/ns/net"));
        for line in [
            "link set eth0 arp off",
            "link set eth0 up",
            "addr add 192.168.77.50/24 dev eth0",
            "route add default dev eth0",
        ] {
            ip(line);
        }
        go.send(()).unwrap();
        made.recv().unwrap();

        let nft = Nft::find().unwrap();
        let tables = PORTS.map(|port| {
            let text = format!("allow = [\"a.example:{port}\"]\nmay_allow = []\ndeny = [\"11.66.0.0/16\"]\n");
            let policy = policy(&text);
            Table::new(&policy.egress(), policy.fingerprint(), &facts())
        });
        let stop = &stop_traffic;
        let traffic: Vec<_> = [
            scope.spawn(move || by(GATEWAY, || denied_traffic(stop))),
            scope.spawn(move || by(GATEWAY, || flows(stop, PORTS[0]))),
            scope.spawn(move || by(GATEWAY, || flows(stop, PORTS[1]))),
        ]
        .into();
        // The control: without a table all of it is seen.
        thread::sleep(Duration::from_millis(500));
        let control_ended = now();
        apply(&nft, &tables[0]).unwrap();
        let began = now();
        let mut spans = Vec::new();
        for n in 1..=APPLIES {
            let from = now();
            thread::sleep(Duration::from_millis(1));
            let to = now();
            spans.push(InForce { port: PORTS[(n - 1) % 2], from, to });
            // What apply does, less its looks before and after.
            nft.run(&tables[n % 2].exchange()).unwrap();
        }
        let ended = now();
        assert_eq!(apply(&nft, &tables[0]).unwrap(), Applied::Unchanged);
        stop_traffic.store(true, SeqCst);
        for thread in traffic {
            thread.join().unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        stop_judge.store(true, SeqCst);
        let seen = judge.join().unwrap();
        remove(&nft).unwrap();

        let control: Vec<_> = seen.iter().filter(|p| p.at < control_ended).collect();
        for (to, port) in DENIED {
            for tcp in [true, false] {
                let there = control.iter().any(|p| (p.tcp, p.to, p.port) == (tcp, to, port));
                assert!(there, "the control: {to}:{port}, TCP {tcp}");
            }
        }
        let during: Vec<_> = seen.iter().filter(|p| p.at > began && p.at < ended).collect();
        let leaked: Vec<_> = during.iter().filter(|p| p.is_denied()).take(9).collect();
        assert!(leaked.is_empty(), "denied by both, and got out: {leaked:?}");
        let mut flowed = [0_usize; 2];
        for packet in during {
            flowed[usize::from(packet.port == PORTS[1])] += packet.data;
            let at = spans.partition_point(|span| span.to < packet.at);
            let wrong = spans.get(at).filter(|span| span.from <= packet.at && span.port != packet.port);
            let wrong = wrong.filter(|_| !packet.reset || packet.data > 0);
            assert!(wrong.is_none(), "denied by the table in force, and got out: {packet:?}");
        }
        let took = Duration::from_nanos(u64::try_from(ended - began).unwrap());
        eprintln!("{APPLIES} applies in {took:?}; {} packets judged, {flowed:?} bytes of the two flows", seen.len());
        assert!(flowed.iter().all(|bytes| *bytes > 100_000), "flows that hardly flow prove nothing: {flowed:?}");
    });
}
