//! What a launcher may get wrong, on purpose or not.

use crate::POLICY;
use crate::world::*;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rcc_proto::{FromGateway, ToGateway, VERSION, Version};
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

fn code(answer: Option<FromGateway>) -> String {
    match answer {
        Some(FromGateway::Refused { problem } | FromGateway::Closing { problem }) => problem.code.to_string(),
        other => format!("{other:?}"),
    }
}

fn opened() -> OwnedFd {
    let l = launcher(ALICE);
    say(&l, &ToGateway::Open(open(VERSION)), &[]);
    assert!(matches!(hear(&l), Some(FromGateway::Opened(_))));
    l
}

fn offer(fds: &[OwnedFd]) -> String {
    let l = opened();
    say(&l, &ToGateway::Listen, &fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
    let said = code(hear(&l));
    assert!(hear(&l).is_none(), "and then the end");
    said
}

#[test]
fn sockets_that_are_not_the_right_three_are_refused() {
    in_world("launcher::sockets_that_are_not_the_right_three_are_refused", || {
        let world = World::new(POLICY.replace("sessions = 3", "sessions = 30").as_str());
        let own = || -> Vec<OwnedFd> {
            vec![
                TcpListener::bind("127.0.0.1:0").unwrap().into(),
                UdpSocket::bind("127.0.0.1:0").unwrap().into(),
                TcpListener::bind("127.0.0.1:0").unwrap().into(),
            ]
        };
        assert_eq!(offer(&own()), "RCC-408", "the host's namespace");
        let (_a, one) = session_sockets(9000);
        let (_b, two) = session_sockets(9000);
        let mut one: Vec<_> = one.into_iter().collect();
        let mut two: Vec<_> = two.into_iter().collect();
        let copy = |v: &[OwnedFd]| v.iter().map(|f| f.try_clone().unwrap()).collect::<Vec<_>>();
        let mut mixed = copy(&one);
        mixed[2] = two[2].try_clone().unwrap();
        assert_eq!(offer(&mixed), "RCC-408", "two namespaces");
        let mut host_dns = copy(&one);
        host_dns[1] = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        assert_eq!(offer(&host_dns), "RCC-408", "one of the host's");
        assert_eq!(offer(&[]), "RCC-405");
        assert_eq!(offer(&one[..2]), "RCC-405");
        assert_eq!(offer(&copy(&one).into_iter().chain(copy(&two)).collect::<Vec<_>>()), "RCC-405", "six");
        let mut swapped = copy(&one);
        swapped.swap(0, 1);
        assert_eq!(offer(&swapped), "RCC-405");
        let mut file = copy(&one);
        file[0] = File::open("/etc/passwd").unwrap().into();
        assert_eq!(offer(&file), "RCC-405");
        let many: Vec<_> = (0..100).map(|_| one[0].try_clone().unwrap()).collect();
        assert_eq!(offer(&many), "RCC-405");
        one.clear();
        two.clear();
        world.log_with(&["refused-session", "RCC-408"]);
    });
}

#[test]
fn packets_that_are_no_messages_are_refused() {
    in_world("launcher::packets_that_are_no_messages_are_refused", || {
        let _world = World::new(POLICY.replace("sessions = 3", "sessions = 30").as_str());
        for bytes in
            [&b"garbage"[..], b"{}", b"\0", b"{\"type\":\"listen\"}", &vec![b'['; 60_000][..], &vec![b' '; 65_537][..]]
        {
            let l = launcher(ALICE);
            say_bytes(&l, bytes, &[]);
            assert_eq!(code(hear(&l)), "RCC-405", "{} bytes", bytes.len());
            assert!(hear(&l).is_none());
        }
        let l = launcher(ALICE);
        say(&l, &ToGateway::Open(open(Version { major: 9, minor: 0 })), &[]);
        assert_eq!(code(hear(&l)), "RCC-402");
        let l = launcher(ALICE);
        say(&l, &ToGateway::Open(open(Version { major: VERSION.major, minor: VERSION.minor + 1 })), &[]);
        assert!(matches!(hear(&l), Some(FromGateway::Opened(_))), "one minor version apart");
        let l = opened();
        say(&l, &ToGateway::Open(open(VERSION)), &[]);
        assert_eq!(code(hear(&l)), "RCC-405", "opened twice");
        // Descriptors beside `open`, and a grant that nobody may give.
        let l = launcher(ALICE);
        let file = File::open("/etc/passwd").unwrap();
        say(&l, &ToGateway::Open(open(VERSION)), &[file.as_raw_fd()]);
        assert_eq!(code(hear(&l)), "RCC-405");
        let l = launcher(ALICE);
        let mut o = open(VERSION);
        o.grants = vec!["evil.example:8443".into()];
        say(&l, &ToGateway::Open(o), &[]);
        assert_eq!(code(hear(&l)), "RCC-106");
    });
}

#[test]
fn a_range_of_ipv6_takes_a_listener_for_it() {
    in_world("launcher::a_range_of_ipv6_takes_a_listener_for_it", || {
        let _world = World::new("allow = [\"11.9.0.0/16:9000\", \"[2600:1f00::/24]:443\"]\nusers = [\"alice\"]\n");
        // The sockets of an older launcher's hook, which would keep only a part of what the policy says.
        let (_namespace, sockets) = session_sockets(9000);
        assert_eq!(offer(&sockets.into_iter().collect::<Vec<_>>()), "RCC-405");
    });
}

#[test]
fn who_may_open_is_the_policys_word() {
    in_world("launcher::who_may_open_is_the_policys_word", || {
        let world = World::new(POLICY);
        for uid in [MALLORY, 0] {
            let l = launcher(uid);
            assert_eq!(code(hear(&l)), "RCC-403", "{uid}");
        }
        let all: Vec<_> = (0..3).map(|_| opened()).collect();
        assert_eq!(code(hear(&launcher(ALICE))), "RCC-404", "a fourth session");
        drop(all);
        std::thread::sleep(Duration::from_millis(300));
        opened();
        // A policy that root alone did not write is none.
        fs::set_permissions("/etc/rcc/policy.toml", std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(code(hear(&launcher(ALICE))), "RCC-105");
        fs::set_permissions("/etc/rcc/policy.toml", std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown("/etc/rcc", Some(ALICE), None).unwrap();
        assert_eq!(code(hear(&launcher(ALICE))), "RCC-105");
        std::os::unix::fs::chown("/etc/rcc", Some(0), None).unwrap();
        fs::write("/etc/rcc/policy.toml", "allow = [").unwrap();
        assert_eq!(code(hear(&launcher(ALICE))), "RCC-101");
        fs::remove_file("/etc/rcc/policy.toml").unwrap();
        assert_eq!(code(hear(&launcher(ALICE))), "RCC-105");
        world.log_with(&["\"refused\"", "\"uid\":1001"]);
    });
}

#[test]
fn the_end_of_the_connection_ends_everything() {
    in_world("launcher::the_end_of_the_connection_ends_everything", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let session = world.session(9000);
        let mut c = session.connect("allowed.example");
        c.write_all(b"x").unwrap();
        c.write_all(b"\0").unwrap();
        std::io::Read::read_exact(&mut c, &mut [0; 2]).unwrap();
        let other = world.session(9000);
        let mut d = other.connect("allowed.example");
        d.write_all(b"\0x").unwrap();
        let Session { launcher, .. } = session;
        drop(launcher);
        assert!(is_dead(&mut c));
        world.log_with(&["\"summary\""]);
        world.log_with(&["\"end\"", "exit 0"]);
        assert!(!is_dead(&mut d), "the other session lives");
        // Anything said after `listen` ends it too.
        say_bytes(&other.launcher, b"hello?", &[]);
        assert_eq!(code(hear(&other.launcher)), "RCC-405");
        assert!(hear(&other.launcher).is_none());
    });
}

#[test]
fn a_copy_of_the_sockets_cannot_hang_the_session() {
    in_world("launcher::a_copy_of_the_sockets_cannot_hang_the_session", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let session = world.session(9000);
        let works = || {
            let mut c = session.connect("allowed.example");
            c.write_all(b"\0x").unwrap();
            assert!(!is_dead(&mut c));
            c
        };
        let _one = works();
        for blocking in [true, false, true] {
            for fd in &session.sockets {
                let flags = if blocking { OFlag::empty() } else { OFlag::O_NONBLOCK };
                fcntl(fd, FcntlArg::F_SETFL(flags)).unwrap();
            }
            let _c = works();
            let _d = works();
        }
        // A lingering close would block whoever closes: the listener's option is inherited.
        socket2::SockRef::from(&session.sockets[0]).set_linger(Some(Duration::from_secs(60))).unwrap();
        let mut c = works();
        c.write_all(&[b'x'; 100]).unwrap();
        drop(c);
        let start = std::time::Instant::now();
        let _c = works();
        assert!(start.elapsed() < Duration::from_secs(5));
        // Shut down: the session ends, and says so. (For a datagram socket the call fails, and works.)
        for (i, session) in [(0, session), (1, world.session(9000)), (2, world.session(9000))] {
            let _ = socket2::SockRef::from(&session.sockets[i]).shutdown(std::net::Shutdown::Both);
            assert_eq!(code(hear(&session.launcher)), "RCC-406", "socket {i}");
        }
    });
}

pub fn workers(of: u32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)).and_then(|s| s.parse().ok());
        if parent == Some(of) {
            found.push(pid);
        }
    }
    found
}

#[test]
fn killed_processes_leave_the_agent_with_nothing() {
    in_world("launcher::killed_processes_leave_the_agent_with_nothing", || {
        let mut world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        let (a, b) = (world.session(9000), world.session(9000));
        let mut ca = a.connect("allowed.example");
        let mut cb = b.connect("allowed.example");
        for c in [&mut ca, &mut cb] {
            c.write_all(b"\0x").unwrap();
            assert!(!is_dead(c));
            let _ = std::io::Read::read(c, &mut [0; 1]);
        }
        let supervisor = world.gateway.id();
        let pids = workers(supervisor);
        assert_eq!(pids.len(), 2);
        let confined = fs::read_to_string(format!("/proc/{}/status", pids[0])).unwrap();
        for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
            assert!(confined.contains(line), "{line}");
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[0]), nix::sys::signal::Signal::SIGKILL).unwrap();
        world.log_with(&["\"end\"", "SIGKILL"]);
        // One of the two is dead by a reset, the other lives.
        let dead = usize::from(hear_end(&a)) + usize::from(hear_end(&b));
        assert_eq!(dead, 1);
        // The supervisor's death is everyone's.
        world.restart();
        assert!(is_dead(&mut ca) && is_dead(&mut cb));
        assert!(hear(&a.launcher).is_none() && hear(&b.launcher).is_none());
        world.session(9000);
    });
}

fn hear_end(s: &Session) -> bool {
    let mut byte = [0; 1];
    matches!(nix::sys::socket::recv(s.launcher.as_raw_fd(), &mut byte, nix::sys::socket::MsgFlags::MSG_DONTWAIT), Ok(0))
}

#[test]
fn a_second_gateway_and_a_privileged_one_refuse() {
    in_world("launcher::a_second_gateway_and_a_privileged_one_refuse", || {
        use std::os::unix::process::CommandExt;
        let _world = World::new(POLICY);
        let run = |uid: u32| {
            std::process::Command::new("/run/bin/rcc-gateway").arg("serve").uid(uid).gid(uid).output().unwrap()
        };
        let second = run(RCC);
        assert!(String::from_utf8_lossy(&second.stderr).contains("RCC-409"));
        assert_eq!(second.status.code(), Some(125));
        let root = run(0);
        assert!(String::from_utf8_lossy(&root.stderr).contains("does not run as root"));
    });
}
