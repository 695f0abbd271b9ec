//! What whoever is root in a virtual machine can do to the gateway on the host, and who may begin a session there.

use crate::POLICY;
use crate::world::*;
use rcc_proto::forwarded::{HEADER, Header, Key, SECRET, Stream, torn};
use rcc_proto::{FromGateway, Open, Opened, ToGateway, VERSION, decode, encode};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

fn code(answer: Option<FromGateway>) -> String {
    match answer {
        Some(FromGateway::Refused { problem } | FromGateway::Closing { problem }) => problem.code.to_string(),
        other => format!("{other:?}"),
    }
}

fn world() -> World {
    let world = World::of_kind(&POLICY.replace("sessions = 3", "sessions = 30"), true);
    world.name("allowed.example", &["11.1.2.3"]);
    world.server(9000, echo);
    world
}

/// A session on the host that waits for its forwarder: its launcher, and its ticket.
fn waiting() -> (OwnedFd, (u64, Key)) {
    let launcher = launcher(ALICE);
    say(&launcher, &ToGateway::Open(open(VERSION)), &[]);
    assert!(matches!(hear(&launcher), Some(FromGateway::Opened(_))));
    let ticket = torn(&ticket(&launcher)).unwrap();
    (launcher, ticket)
}

/// A stream that begins with these.
fn stream(world: &World, stream: Stream, session: u64, secret: &Key) -> TcpStream {
    let mut to = world.guest().stream();
    to.write_all(&Header { stream, session, secret: secret.clone() }.bytes()).unwrap();
    to
}

fn frame(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    from.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn put(to: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    to.write_all(&[&length, bytes].concat()).unwrap();
}

/// A forwarder of the attacker's own: the conversation, and the secret of the session's streams.
fn taken_over(world: &World, session: u64, ticket: &Key) -> (TcpStream, Key, Opened) {
    let mut control = stream(world, Stream::Control, session, ticket);
    let secret = Key(frame(&mut control).unwrap().try_into().unwrap());
    let FromGateway::Opened(opened) = decode(&frame(&mut control).unwrap()).unwrap() else { panic!("not opened") };
    (control, secret, opened)
}

/// Whether one of the session's connections goes through.
fn goes_through(world: &World, session: u64, secret: &Key, to: &str) -> bool {
    let mut connection = stream(world, Stream::Connection(to.parse().unwrap()), session, secret);
    let _ = connection.write_all(b"\0\x02\0x");
    frame(&mut connection).is_ok_and(|bytes| bytes == b"\0x")
}

const ADDRESS: &str = "11.9.0.1:9000";

#[test]
fn who_has_no_secret_gets_nothing() {
    in_world("forwarded::who_has_no_secret_gets_nothing", || {
        let world = world();
        let (launcher, (session, ticket)) = waiting();
        let nobody = |mut stream: TcpStream| is_dead(&mut stream);
        let guess = Key([0x55; SECRET]);
        let mut near = ticket.clone();
        near.0[SECRET - 1] ^= 1;
        for wrong in [&guess, &near] {
            for kind in [Stream::Control, Stream::Dns, Stream::DnsTcp, Stream::Connection(ADDRESS.parse().unwrap())] {
                assert!(nobody(stream(&world, kind, session, wrong)), "{kind:?}");
            }
        }
        // No stream goes before the conversation, and the ticket opens nothing else.
        assert!(!goes_through(&world, session, &ticket, ADDRESS));
        assert!(nobody(stream(&world, Stream::Control, session ^ 1, &ticket)), "another session's");
        for bytes in [&b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(2)[..], &[0; HEADER], &[0xff; HEADER]] {
            let mut to = world.guest().stream();
            to.write_all(bytes).unwrap();
            assert!(nobody(to));
        }
        let (_control, secret, opened) = taken_over(&world, session, &ticket);
        assert_eq!(opened.session, format!("{session:016x}"));
        // The control: with the secret it goes.
        assert!(goes_through(&world, session, &secret, ADDRESS));
        assert!(nobody(stream(&world, Stream::Control, session, &ticket)), "the ticket a second time");
        assert!(nobody(stream(&world, Stream::Control, session, &secret)), "the secret is no ticket");
        assert!(!goes_through(&world, session, &ticket, ADDRESS), "the ticket is no secret");
        let (_other, (other_session, _)) = waiting();
        assert!(!goes_through(&world, other_session, &secret, ADDRESS), "one session's secret at another");
        // What was refused has ended nothing.
        assert!(goes_through(&world, session, &secret, ADDRESS));
        drop(launcher);
        world.log_with(&["\"strangers\"", "\"streams\""]);
        let gone = Instant::now() + Duration::from_secs(5);
        while goes_through(&world, session, &secret, ADDRESS) {
            assert!(Instant::now() < gone, "a session's secret outlives it");
        }
    });
}

#[test]
fn a_taken_over_forwarder_has_its_sessions_rights_and_no_others() {
    in_world("forwarded::a_taken_over_forwarder_has_its_sessions_rights_and_no_others", || {
        let world = world();
        world.name("git.corp.example", &["10.20.3.4"]);
        let (launcher, (session, ticket)) = waiting();
        let (mut control, secret, _) = taken_over(&world, session, &ticket);
        put(&mut control, &encode(&ToGateway::Listen).unwrap());
        assert!(matches!(hear(&launcher), Some(FromGateway::Listening)));
        assert!(matches!(decode(&frame(&mut control).unwrap()), Ok(FromGateway::Listening)));
        // Whatever it says was dialled is decided as if the agent had dialled it.
        assert!(goes_through(&world, session, &secret, ADDRESS));
        assert!(goes_through(&world, session, &secret, "[::ffff:11.9.0.1]:9000"), "another spelling of it");
        for to in [
            "11.66.66.66:9000",
            "11.9.0.1:22",
            "127.0.0.1:47081",
            "127.0.0.1:9000",
            "10.77.0.1:9000",
            "10.20.3.4:9000",
            "169.254.169.254:80",
            "198.18.1.0:9000",
            "0.0.0.0:9000",
            "[::1]:9000",
            "[::ffff:10.20.3.4]:9000",
            "[::ffff:127.0.0.1]:9000",
        ] {
            assert!(!goes_through(&world, session, &secret, to), "{to}");
        }
        // A name has an address only once DNS gave it one, as for the agent.
        let mut dns = stream(&world, Stream::Dns, session, &secret);
        let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07allowed\x07example\0\0\x01\0\x01";
        put(&mut dns, &[b"abcdef", &query[..]].concat());
        let answer = frame(&mut dns).unwrap();
        assert!(answer.starts_with(b"abcdef\0\x07") && answer.ends_with(&[198, 18, 1, 0]), "{answer:?}");
        assert!(goes_through(&world, session, &secret, "198.18.1.0:9000"));
        // A second stream for datagrams is none.
        assert!(is_dead(&mut stream(&world, Stream::Dns, session, &secret)));
        // Frames that are none: that connection alone ends.
        for bytes in [&b"\xff\xff\0x"[..], b"\0", b"\0\0"] {
            let mut one = stream(&world, Stream::Connection(ADDRESS.parse().unwrap()), session, &secret);
            one.write_all(bytes).unwrap();
            one.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = one.read_to_end(&mut rest);
            let aborted = rest.is_empty() || rest == b"\xff\xff";
            assert!(aborted || rest == b"\0\0" || rest == b"\0\x02\0x\0\0", "{rest:?}");
        }
        // No more connections at once than the agent may have.
        let mut many: Vec<_> =
            (0..60).map(|_| stream(&world, Stream::Connection(ADDRESS.parse().unwrap()), session, &secret)).collect();
        let through = many.iter_mut().filter_map(|c| c.write_all(b"\0\x02\0x").ok().and_then(|()| frame(c).ok()));
        assert_eq!(through.count(), 20);
        drop(many);
        // What it did is told, and is the session's.
        put(&mut control, &encode(&ToGateway::End).unwrap());
        let Ok(FromGateway::Summary(summary)) = decode(&frame(&mut control).unwrap()) else { panic!("no summary") };
        assert!(summary.reached.iter().any(|r| r.host == "allowed.example"), "{summary:?}");
        // It can loosen nothing.
        put(&mut control, &encode(&ToGateway::Grants { grants: vec!["other.example.org:443".into()] }).unwrap());
        assert_eq!(code(decode(&frame(&mut control).unwrap()).ok()), "RCC-416");
        assert_eq!(code(hear(&launcher)), "RCC-416");
        assert!(hear(&launcher).is_none() && frame(&mut control).is_err());
        world.log_with(&["\"deny\"", "169.254.169.254"]);
        world.log_with(&["\"event\":\"forwarder\""]);
    });
}

#[test]
fn what_a_forwarder_says_wrongly_ends_its_session_alone() {
    in_world("forwarded::what_a_forwarder_says_wrongly_ends_its_session_alone", || {
        let world = world();
        let bystander = world.session(9000);
        let listen = encode(&ToGateway::Listen).unwrap();
        let open = encode(&ToGateway::Open(open(VERSION))).unwrap();
        let whole = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        for (said, is) in [
            (b"\0\0".to_vec(), "RCC-405"),
            (b"\0\x02{}".to_vec(), "RCC-405"),
            (b"\xff\xff".to_vec(), "RCC-405"),
            (whole(&open), "RCC-405"),
            (whole(&encode(&ToGateway::End).unwrap()), "RCC-405"),
            ([whole(&listen), whole(&listen)].concat(), "RCC-405"),
            ([whole(&listen), whole(&encode(&ToGateway::Forward).unwrap())].concat(), "RCC-405"),
        ] {
            let (launcher, (session, ticket)) = waiting();
            let (mut control, ..) = taken_over(&world, session, &ticket);
            control.write_all(&said).unwrap();
            let mut heard = hear(&launcher);
            if matches!(heard, Some(FromGateway::Listening)) {
                heard = hear(&launcher);
            }
            assert_eq!(code(heard), is, "{said:?}");
            assert!(hear(&launcher).is_none());
        }
        // It goes before it has listened, or later; and one that hears nothing holds up nobody.
        let (launcher, (session, ticket)) = waiting();
        drop(taken_over(&world, session, &ticket));
        assert_eq!(code(hear(&launcher)), "RCC-417");
        assert!(bystander.lookup("allowed.example").is_ok());
    });
}

#[test]
fn half_open_streams_keep_nobody_out() {
    in_world("forwarded::half_open_streams_keep_nobody_out", || {
        let world = world();
        let session = world.session(9000);
        let mut before = session.connect("allowed.example");
        let mut flood: Vec<_> = (0..600).map(|_| world.guest().stream()).collect();
        for (i, stream) in flood.iter_mut().enumerate() {
            let _ = stream.write_all(&b"rcc\x01\x03"[..i % 6]);
        }
        let mut meanwhile = session.connect("allowed.example");
        for connection in [&mut before, &mut meanwhile] {
            connection.write_all(b"\0x").unwrap();
            connection.read_exact(&mut [0; 2]).unwrap();
        }
        world.session(9000);
        // None of them stays.
        let began = Instant::now();
        assert!(flood.iter_mut().all(is_dead));
        assert!(began.elapsed() < Duration::from_secs(8));
        world.log_with(&["\"strangers\""]);
    });
}

#[test]
fn a_session_ends_with_whichever_of_the_two_sides_goes() {
    in_world("forwarded::a_session_ends_with_whichever_of_the_two_sides_goes", || {
        let mut world = world();
        let alive = |session: &Session| {
            let mut c = session.connect("allowed.example");
            c.write_all(b"\0x").unwrap();
            c.read_exact(&mut [0; 2]).unwrap();
            c
        };
        // The host's launcher.
        let session = world.session(9000);
        let mut c = alive(&session);
        drop(session.launcher);
        assert!(is_dead(&mut c));
        assert_eq!(code(hear(session.guest.as_ref().unwrap())), "RCC-406");
        // The launcher in the virtual machine.
        let session = world.session(9000);
        let mut c = alive(&session);
        drop(session.guest);
        assert_eq!(code(hear(&session.launcher)), "RCC-417");
        assert!(is_dead(&mut c));
        // The forwarder's process for one session: the others go on.
        let (one, two) = (world.session(9000), world.session(9000));
        let (mut c, mut d) = (alive(&one), alive(&two));
        let pids = crate::launcher::workers(world.guest().forwarder.id());
        assert_eq!(pids.len(), 2);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[0]), nix::sys::signal::Signal::SIGKILL).unwrap();
        let dead: Vec<bool> = [(&one, &mut c), (&two, &mut d)]
            .map(|(session, c)| {
                c.write_all(b"\0").is_err() || {
                    let guest = session.guest.as_ref().unwrap();
                    let mut fds =
                        [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(guest), nix::poll::PollFlags::POLLIN)];
                    nix::poll::poll(&mut fds, 1000u16).unwrap() > 0
                }
            })
            .into();
        assert_eq!(dead.iter().filter(|d| **d).count(), 1, "{dead:?}");
        let (gone, lives) = if dead[0] { ((one, c), (two, d)) } else { ((two, d), (one, c)) };
        assert_eq!(code(hear(&gone.0.launcher)), "RCC-417");
        drop(gone);
        alive(&lives.0);
        // The gateway.
        let (session, mut c) = lives;
        world.restart();
        assert!(is_dead_after(&mut c, 2));
        assert_eq!(code(hear(session.guest.as_ref().unwrap())), "RCC-406");
        alive(&world.session(9000));
        // The forwarder itself.
        let session = world.session(9000);
        let mut c = alive(&session);
        world.guest.as_mut().unwrap().forwarder.kill().unwrap();
        assert!(is_dead(&mut c));
        assert_eq!(code(hear(&session.launcher)), "RCC-417");
    });
}

/// Whether it is dead once so many bytes that were under way have been read.
fn is_dead_after(c: &mut TcpStream, mut bytes: usize) -> bool {
    while bytes > 0 && !is_dead(c) {
        bytes -= 1;
    }
    is_dead(c)
}

#[test]
fn a_launcher_in_the_virtual_machine_brings_a_ticket_and_nothing_else() {
    in_world("forwarded::a_launcher_in_the_virtual_machine_brings_a_ticket_and_nothing_else", || {
        let world = world();
        let refusal = |open: Open| {
            let launcher = world.guest().launcher();
            say(&launcher, &ToGateway::Open(open), &[]);
            code(hear(&launcher))
        };
        let (_one, (session, key)) = waiting();
        let good = || rcc_proto::forwarded::ticket(&format!("{session:016x}"), &key);
        assert_eq!(refusal(open(VERSION)), "RCC-414", "none");
        assert_eq!(refusal(ticketed(rcc_proto::Secret::new("0".repeat(80)))), "RCC-414", "of nobody");
        assert_eq!(refusal(Open { grants: vec!["a.example.org:443".into()], ..ticketed(good()) }), "RCC-416");
        // The control; and then it is used.
        let launcher = world.guest().launcher();
        say(&launcher, &ToGateway::Open(ticketed(good())), &[]);
        assert!(matches!(hear(&launcher), Some(FromGateway::Opened(_))));
        assert_eq!(refusal(ticketed(good())), "RCC-414", "a second time");
        // The sockets are of a namespace of their own there, too.
        let own: Vec<OwnedFd> = vec![
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
        ];
        let (_namespace, mut sockets) = session_sockets(9000);
        sockets[1] = own[1].try_clone().unwrap();
        say(&launcher, &ToGateway::Listen, &sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        assert_eq!(code(hear(&launcher)), "RCC-408");
        // Grants are asked for on the host, and the session goes on.
        let session = world.session(9000);
        let guest = session.guest.as_ref().unwrap();
        say(guest, &ToGateway::Grants { grants: vec!["other.example.org:443".into()] }, &[]);
        assert_eq!(code(hear(guest)), "RCC-416");
        assert!(session.lookup("allowed.example").is_ok());
        say(guest, &ToGateway::End, &[]);
        assert!(matches!(hear(guest), Some(FromGateway::Summary(_))));
        // A ticket is shown in the virtual machine; and a gateway without forwarders gives none.
        let host = launcher_with(open(VERSION), &ToGateway::Listen);
        assert_eq!(code(hear(&host)), "RCC-405");
        let host = crate::world::launcher(ALICE);
        say(&host, &ToGateway::Open(ticketed(good())), &[]);
        assert_eq!(code(hear(&host)), "RCC-405");
    });
}

fn launcher_with(open: Open, then: &ToGateway) -> OwnedFd {
    let launcher = launcher(ALICE);
    say(&launcher, &ToGateway::Open(open), &[]);
    assert!(matches!(hear(&launcher), Some(FromGateway::Opened(_))));
    say(&launcher, then, &[]);
    launcher
}

#[test]
fn a_gateway_that_hears_no_forwarders_says_so() {
    in_world("forwarded::a_gateway_that_hears_no_forwarders_says_so", || {
        let _world = World::of_kind(POLICY, false);
        assert_eq!(code(hear(&launcher_with(open(VERSION), &ToGateway::Forward))), "RCC-413");
    });
}

#[test]
fn both_launchers_are_told_what_is_held() {
    in_world("forwarded::both_launchers_are_told_what_is_held", || {
        let world = world();
        let session = world.session(9000);
        let guest = session.guest.as_ref().unwrap();
        assert!(rcc_firewall::remove(&rcc_firewall::Nft::find().unwrap()).unwrap());
        for told in [&session.launcher, guest] {
            assert!(matches!(hear(told), Some(FromGateway::Held { .. })));
        }
        put_in_force();
        for told in [&session.launcher, guest] {
            assert!(matches!(hear(told), Some(FromGateway::Released)));
        }
    });
}
