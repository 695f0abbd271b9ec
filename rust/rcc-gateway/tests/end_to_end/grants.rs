//! What a person says of hosts during a session, and what a person may read of the log.

use crate::world::*;
use hickory_proto::op::ResponseCode;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, setsockopt, socket, sockopt,
};
use rcc_proto::{FromGateway, LOG_SOCKET, Summary, ToGateway, Version};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};

fn grant(session: &Session, grants: &[&str]) -> Result<u32, String> {
    let grants = grants.iter().map(|g| (*g).to_owned()).collect();
    say(&session.launcher, &ToGateway::Grants { grants }, &[]);
    match hear(&session.launcher) {
        Some(FromGateway::Granted { cut }) => Ok(cut),
        Some(FromGateway::Refused { problem }) => Err(problem.to_string()),
        other => panic!("{other:?}"),
    }
}

fn summary(session: &Session) -> Summary {
    say(&session.launcher, &ToGateway::End, &[]);
    match hear(&session.launcher) {
        Some(FromGateway::Summary(summary)) => summary,
        other => panic!("{other:?}"),
    }
}

/// A connection through which bytes go there and back.
fn works(session: &Session, name: &str) -> TcpStream {
    let mut c = session.connect(name);
    c.write_all(b"\0x").unwrap();
    c.read_exact(&mut [0; 2]).unwrap();
    c
}

const GRANTABLE: &str = "allow = [\"allowed.example.org:9000\"]\nmay_allow = [\"*.example.org:9000,80\", \"11.9.0.0/16:9000\"]\ndeny = [\"never.example.org\"]\nusers = [\"alice\"]\n";

fn world(policy: &str) -> World {
    let world = World::new(policy);
    for name in ["allowed", "granted", "never", "other"] {
        world.name(&format!("{name}.example.org"), &["11.1.2.3"]);
    }
    world.server(9000, echo);
    world
}

#[test]
fn a_grant_opens_a_host_and_its_end_cuts_what_goes_there() {
    in_both_worlds("grants::a_grant_opens_a_host_and_its_end_cuts_what_goes_there", || {
        let world = world(GRANTABLE);
        let (session, bystander) = (world.session(9000), world.session(9000));
        assert_eq!(session.lookup("granted.example.org"), Err(ResponseCode::NXDomain));
        assert_eq!(grant(&session, &["granted.example.org:9000"]), Ok(0));
        let mut granted = works(&session, "granted.example.org");
        let mut allowed = works(&session, "allowed.example.org");
        assert_eq!(bystander.lookup("granted.example.org"), Err(ResponseCode::NXDomain), "another session's grant");
        // Another grant beside it leaves both alone.
        assert_eq!(grant(&session, &["granted.example.org:9000", "other.example.org:9000"]), Ok(0));
        granted.write_all(b"y").unwrap();
        granted.read_exact(&mut [0]).unwrap();
        let stand_in = session.lookup("granted.example.org").unwrap()[0];
        assert_eq!(grant(&session, &[]), Ok(1));
        assert!(is_dead(&mut granted), "cut");
        assert_eq!(session.lookup("granted.example.org"), Err(ResponseCode::NXDomain));
        assert!(session.run(move || is_dead(&mut dial((stand_in, 9000).into()))), "the stand-in that was kept");
        allowed.write_all(b"y").unwrap();
        allowed.read_exact(&mut [0]).unwrap();
        world.log_with(&["\"grants\"", "granted.example.org:9000", "\"cut\":0"]);
        world.log_with(&["\"grants\"", "\"cut\":1"]);
        world.log_with(&["\"deny\"", "granted.example.org", "no longer allowed", "\"bytes_up\":3"]);
    });
}

#[test]
fn a_persons_denial_cuts_what_root_allows() {
    in_both_worlds("grants::a_persons_denial_cuts_what_root_allows", || {
        let world = world(GRANTABLE);
        let session = world.session(9000);
        let mut allowed = works(&session, "allowed.example.org");
        assert_eq!(grant(&session, &["!allowed.example.org"]), Ok(1));
        assert!(is_dead(&mut allowed));
        assert_eq!(session.lookup("allowed.example.org"), Err(ResponseCode::NXDomain));
        assert_eq!(grant(&session, &["!*"]), Ok(0));
        assert_eq!(grant(&session, &[]), Ok(0));
        works(&session, "allowed.example.org");
        // From the first moment on, when it is remembered.
        let mut o = open(rcc_proto::VERSION);
        o.grants = vec!["!allowed.example.org:9000".into(), "granted.example.org:9000".into()];
        let session = world.session_with(9000, o);
        assert_eq!(session.lookup("allowed.example.org"), Err(ResponseCode::NXDomain));
        works(&session, "granted.example.org");
    });
}

#[test]
fn root_caps_what_a_launcher_grants() {
    in_both_worlds("grants::root_caps_what_a_launcher_grants", || {
        let world = world(GRANTABLE);
        let session = world.session(9000);
        assert_eq!(grant(&session, &["granted.example.org:9000"]), Ok(0));
        let mut c = works(&session, "granted.example.org");
        for (bad, code) in [
            ("never.example.org:9000", "RCC-106"),
            ("granted.example.org:22", "RCC-106"),
            ("granted.example.org:9000/raw", "RCC-106"),
            ("evil.example.com:9000", "RCC-106"),
            ("11.8.0.1:9000", "RCC-106"),
            ("10.20.0.5:9000", "RCC-103"),
            ("127.0.0.1:9000", "RCC-103"),
            ("*:9000", "RCC-103"),
            ("*.org:9000", "RCC-103"),
            ("x\u{1b}.example.org:9000", "RCC-103"),
            ("gr\u{430}nted.example.org:9000", "RCC-103"),
            ("!11.0.0.0/8", "RCC-103"),
            // Covered by `may_allow`; but the session's network has no route there.
            ("11.9.0.1:9000", "RCC-106"),
        ] {
            let said = grant(&session, &["other.example.org:9000", bad]).unwrap_err();
            assert!(said.contains(code) && said.contains("hint: "), "{bad}: {said}");
        }
        let many: Vec<String> = (0..500).map(|n| format!("n{n}.example.org:9000")).collect();
        assert!(grant(&session, &many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err().contains("RCC-106"));
        // Nothing changed.
        assert_eq!(session.lookup("other.example.org"), Err(ResponseCode::NXDomain));
        c.write_all(b"y").unwrap();
        c.read_exact(&mut [0]).unwrap();
        world.log_with(&["\"refused-grants\"", "never.example.org"]);
    });
}

#[test]
fn what_root_does_not_say_leaves_the_webs_and_sshs_ports_to_the_person() {
    in_both_worlds("grants::what_root_does_not_say_leaves_the_webs_and_sshs_ports_to_the_person", || {
        let world = World::new("users = [\"alice\"]\n");
        let session = world.session(9000);
        assert_eq!(grant(&session, &["a.example.org:22,80,443", "*.example.org:443"]), Ok(0));
        assert!(grant(&session, &["a.example.org:9000"]).unwrap_err().contains("RCC-106"));
        assert!(grant(&session, &["11.1.2.3:443"]).unwrap_err().contains("RCC-106"), "addresses are root's to name");
        std::fs::write("/etc/rcc/policy.toml", "users = [\"alice\"]\nmay_allow = []\n").unwrap();
        put_in_force();
        let session = world.session(9000);
        assert!(grant(&session, &["a.example.org:443"]).unwrap_err().contains("RCC-106"), "empty means nothing");
    });
}

#[test]
fn a_launcher_of_the_last_version_works_and_what_else_is_said_ends_the_session() {
    in_both_worlds("grants::a_launcher_of_the_last_version_works_and_what_else_is_said_ends_the_session", || {
        let world = world(&GRANTABLE.replace("users", "limits = { sessions = 30 }\nusers"));
        let old = || world.session_with(9000, open(Version { major: 1, minor: 0 }));
        let new = || world.session(9000);
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let session = old();
        works(&session, "allowed.example.org");
        let none = ToGateway::Grants { grants: vec![] };
        say(&session.launcher, &none, &[]);
        ended(&session);
        let session = old();
        say(&session.launcher, &ToGateway::End, &[]);
        ended(&session);
        let session = new();
        say(&session.launcher, &none, &[file.as_raw_fd()]);
        ended(&session);
        for message in [ToGateway::Listen, ToGateway::Open(open(rcc_proto::VERSION))] {
            let session = new();
            say(&session.launcher, &message, &[]);
            ended(&session);
        }
        for bytes in [&b"garbage"[..], b"{\"type\":\"grants\"}", &vec![b' '; 65_537]] {
            let session = new();
            say_bytes(&session.launcher, bytes, &[]);
            ended(&session);
        }
    });
}

fn ended(session: &Session) {
    match hear(&session.launcher) {
        Some(FromGateway::Closing { problem }) => assert_eq!(problem.code.to_string(), "RCC-405"),
        other => panic!("{other:?}"),
    }
    assert!(hear(&session.launcher).is_none());
}

/// Asks for a name that no library would; every name of this kind is denied.
fn ask(session: &Session, labels: &[&str]) {
    let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in labels {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\0\0\x01\0\x01");
    let answer = session.run(move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket.send_to(&query, "198.18.0.1:53").unwrap();
        let mut answer = [0; 512];
        socket.recv(&mut answer).unwrap();
        answer
    });
    assert_eq!(answer[3] & 0xf, 3, "NXDOMAIN");
}

/// One request to a stand-in of port 80, and all of the answer.
fn get(session: &Session, name: &str, path: &str) -> String {
    let mut c = session.connect(name);
    write!(c, "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    c.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn why_names_each_denial_and_the_command() {
    in_both_worlds("grants::why_names_each_denial_and_the_command", || {
        let world = world(
            "allow = [\"allowed.example.org:9000\"]\nmay_allow = [\"*:80,443\"]\ndeny = [\"never.example.org\"]\nusers = [\"alice\"]\n",
        );
        let session = world.session(80);
        assert!(get(&session, "rcc.internal", "/why").contains("nothing was denied"));
        ask(&session, &["a;b `id`\u{1b}[2J", "example", "org"]);
        for name in ["x.example.org", "never.example.org", "x.example.org"] {
            assert!(session.lookup(name).is_err());
        }
        let denied = get(&session, "allowed.example.org", "/");
        assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
        for words in ["rcc allow allowed.example.org:80", "http://rcc.internal/why", "on other ports only"] {
            assert!(denied.contains(words), "{denied}");
        }
        let why = get(&session, "rcc.internal", "/why");
        assert!(why.starts_with("HTTP/1.1 200") && why.contains("text/plain"), "{why}");
        let offered: Vec<&str> = why.lines().filter_map(|l| l.split_once("can type: ")).map(|(_, t)| t).collect();
        assert_eq!(offered, ["rcc allow allowed.example.org:80", "rcc allow x.example.org"], "{why}");
        assert!(why.contains("x.example.org: the policy does not name it (2 times)"), "{why}");
        assert!(why.contains("never.example.org") && why.contains("`deny` forbids it"), "{why}");
        assert!(why.contains("it is not the name of a host") && !why.contains('\u{1b}'), "{why}");
        for path in ["/", "/why/", "/why?x", "//why", "/allow"] {
            let answer = get(&session, "rcc.internal", path);
            assert!(answer.starts_with(if path == "/why?x" { "HTTP/1.1 200" } else { "HTTP/1.1 404" }), "{path}");
        }
        // Another name does not come to it by the stand-in.
        let mut c = session.connect("rcc.internal");
        c.write_all(b"GET /why HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
        let mut answer = String::new();
        c.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(world.asked.lock().unwrap().is_empty(), "nothing left the machine");
    });
}

#[test]
fn a_summary_tells_what_was_reached_and_denied() {
    in_both_worlds("grants::a_summary_tells_what_was_reached_and_denied", || {
        let world = world(GRANTABLE);
        let session = world.session(9000);
        assert_eq!(summary(&session), Summary::default());
        let mut live = works(&session, "allowed.example.org");
        drop(works(&session, "allowed.example.org"));
        assert!(session.lookup("granted.example.org").is_err());
        world.log_with(&["\"close\"", "allowed.example.org"]);
        let told = summary(&session);
        assert_eq!(told.reached.len(), 1);
        assert_eq!(
            (told.reached[0].host.as_str(), told.reached[0].up, told.reached[0].down),
            ("allowed.example.org", 4, 4)
        );
        assert_eq!(told.denied.len(), 1);
        assert_eq!(told.denied[0].host, "granted.example.org");
        // Port 443 is not the person's to give here.
        assert_eq!(told.denied[0].grant, None);
        live.write_all(b"y").unwrap();
        live.read_exact(&mut [0]).unwrap();
        assert_eq!(summary(&session).reached[0].up, 5);
    });
}

/// A connection to the log, made by that uid.
fn reader(uid: u32) -> OwnedFd {
    std::thread::spawn(move || {
        // SAFETY: the raw calls change this thread's ids alone.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setresgid, uid, uid, uid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(LOG_SOCKET).unwrap()).unwrap();
        setsockopt(&fd, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(15, 0)).unwrap();
        fd
    })
    .join()
    .unwrap()
}

/// The next packet; `None` at the end.
fn packet(from: &OwnedFd) -> Option<String> {
    let mut buffer = vec![0; 65536];
    match recv(from.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(0) | Err(nix::errno::Errno::ECONNRESET) => None,
        Ok(n) => Some(String::from_utf8(buffer[..n].to_vec()).unwrap()),
        Err(e) => panic!("the log says nothing: {e}"),
    }
}

/// What is there already.
fn past(from: &OwnedFd) -> String {
    let mut all = String::new();
    loop {
        match packet(from).expect("more") {
            end if end == "\n" => return all,
            lines => all.push_str(&lines),
        }
    }
}

/// Reads on until a line has the words.
fn until(from: &OwnedFd, words: &str) -> String {
    loop {
        let lines = packet(from).expect("more");
        if let Some(line) = lines.lines().find(|l| l.contains(words)) {
            return line.to_owned();
        }
    }
}

fn with_mallory() -> String {
    GRANTABLE.replace("[\"alice\"]", "[\"alice\", \"1001\"]")
}

#[test]
fn a_person_reads_their_own_lines_and_no_others() {
    in_both_worlds("grants::a_person_reads_their_own_lines_and_no_others", || {
        let world = world(GRANTABLE);
        let session = world.session(9000);
        // A name that would be another user's line, if it were taken for the envelope.
        ask(&session, &["x\",\"uid\":1001,\"event\":\"deny", "example", "org"]);
        assert!(session.lookup("mine.example.org").is_err());
        world.log_with(&["mine.example.org"]);
        // The other user has only been refused.
        assert!(matches!(hear(&launcher(MALLORY)), Some(FromGateway::Refused { .. })));
        world.log_with(&["\"refused\"", "\"uid\":1001"]);
        assert_eq!(packet(&reader(MALLORY)), None, "who may open no session is given nothing");
        std::fs::write("/etc/rcc/policy.toml", with_mallory()).unwrap();
        let alice = reader(ALICE);
        let text = past(&alice);
        assert!(text.contains("mine.example.org") && text.contains("\"event\":\"session\""), "{text}");
        assert!(text.lines().all(|l| l.contains("\"uid\":1000,\"event\":")), "{text}");
        let mallory = reader(MALLORY);
        let text = past(&mallory);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("\"event\":\"refused\"") && !text.contains("example"), "{text}");
        // New ones come as they are written, also after the file was moved away; for the other user none.
        assert!(session.lookup("later.example.org").is_err());
        until(&alice, "later.example.org");
        std::fs::rename("/var/log/rcc/gateway.jsonl", "/var/log/rcc/gateway.jsonl.1").unwrap();
        assert!(session.lookup("rotated-1.example.org").is_err());
        until(&alice, "rotated-1.example.org");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(session.lookup("rotated-2.example.org").is_err());
        until(&alice, "rotated-2.example.org");
        drop(session);
        until(&alice, "\"event\":\"end\"");
        let mut byte = [0; 1];
        assert_eq!(recv(mallory.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT), Err(nix::errno::Errno::EAGAIN));
    });
}

#[test]
fn a_reader_of_the_log_is_confined_and_there_are_few() {
    in_both_worlds("grants::a_reader_of_the_log_is_confined_and_there_are_few", || {
        let world = world(&with_mallory());
        let supervisor = world.gateway.id();
        let mut all: Vec<OwnedFd> = (0..4).map(|_| reader(ALICE)).collect();
        for r in &all {
            past(r);
        }
        let readers = crate::launcher::workers(supervisor);
        assert_eq!(readers.len(), 4);
        let status = std::fs::read_to_string(format!("/proc/{}/status", readers[0])).unwrap();
        for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
            assert!(status.contains(line), "{status}");
        }
        assert_eq!(packet(&reader(ALICE)), None, "a fifth is hung up on");
        past(&reader(MALLORY));
        // Whatever is said to it is not heard.
        say_bytes(&all[0], b"{\"uid\":1001}", &[]);
        world.session(9000);
        until(&all[0], "\"event\":\"session\"");
        // Whoever goes makes room, and leaves no process.
        all.clear();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !crate::launcher::workers(supervisor).is_empty() {
            assert!(std::time::Instant::now() < end, "readers are left");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        past(&reader(ALICE));
    });
}
