//! Web servers, raw servers, the LAN, the metadata service, and the host's own services.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use rcc_world::hostservices::{ABSTRACT, LAN_PORT, LOOPBACK_PORT, PATHS, WILDCARD_PORT};
use rcc_world::map::{self, HOST4, HOST6, METADATA4, PRINTER4, PRINTER6, PROXY4, ROUTER4, SINK4, SINK6};
use rcc_world::witness::Event;
use rcc_world::{inside, token};

use crate::client::{connect, exchange, get, post, sh, tls};

#[test]
fn any_address_answers_on_every_listed_port() {
    inside(|world| {
        for address in [IpAddr::from(SINK4), SINK6.into()] {
            for &port in map::TCP_PORTS.iter().filter(|&&p| p != 7) {
                let token = token::fresh();
                let answer = get((address, port), "whoever.example", &format!("/{token}"))?;
                assert!(answer.starts_with("HTTP/1.1 200"), "{address} {port}: {answer}");
                let hits = world.hits_with(&token)?;
                assert_eq!(hits[0].local, std::net::SocketAddr::new(address, port).to_string());
            }
            for &port in map::SSH_PORTS {
                let mut banner = [0; 8];
                connect((address, port))?.read_exact(&mut banner)?;
                assert_eq!(&banner, b"SSH-2.0-");
            }
            let refused = connect((address, 81)).unwrap_err();
            assert!(refused.to_string().contains("refused"), "{refused}");
        }
        Ok(())
    });
}

#[test]
fn names_lead_to_servers_with_good_certificates() {
    inside(|world| {
        for name in ["allowed.example", "denied.example", "v6only.example", "x.wild.example", "site-b.cdn.example"] {
            let token = token::fresh();
            let stream = tls((name, 443), name, &world.at.ca_pem)?;
            let request = format!("GET /{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
            assert!(exchange(stream, request.as_bytes())?.starts_with("HTTP/1.1 200"));
            let hit = world.hits_with(&token)?.remove(0);
            assert_eq!((hit.sni.as_deref(), hit.name.as_deref(), hit.proto.as_str()), (Some(name), Some(name), "tls"));
        }
        // programs that use the machine's own bundle trust the world too
        assert_eq!(sh("curl -sS https://allowed.example/")?, "web: hello from allowed.example\n");
        Ok(())
    });
}

#[test]
fn bad_certificates_are_bad() {
    inside(|world| {
        for name in ["expired.badtls.example", "othername.badtls.example", "selfsigned.badtls.example"] {
            assert!(tls((name, 443), name, &world.at.ca_pem).is_err(), "{name}");
            sh(&format!("curl -sSk https://{name}/"))?;
        }
        assert!(world.hits()?.iter().any(|h| h.event == Event::TlsFailed));
        Ok(())
    });
}

#[test]
fn pages_do_what_they_say() {
    inside(|_| {
        let page = |path: &str| get("allowed.example:80", "allowed.example", path);
        let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        assert_eq!(body(&page("/bytes/3000000")?).len(), 3_000_000);
        assert_eq!(sh("curl -sS http://allowed.example/chunked/200000 | wc -c")?.trim(), "200000");
        assert_eq!(sh("curl -sS https://allowed.example/bytes/40000000 | wc -c")?.trim(), "40000000");
        assert!(
            page("/redirect?to=http%3A%2F%2Fdenied.example%2Fx")?.contains("location: http://denied.example/x\r\n")
        );
        assert!(page("/status/503")?.starts_with("HTTP/1.1 503 "));
        assert_eq!(page("/sse?n=4&ms=1")?.matches("event: tick").count(), 4);
        let start = Instant::now();
        assert!(page("/slow?ms=300")?.contains("at last"));
        assert_eq!(body(&page("/drip?n=3&ms=10")?), "...");
        assert!(start.elapsed() > Duration::from_millis(320));
        assert_eq!(body(&page("/drop?after=5")?).len(), 5);
        let echo = post("allowed.example:80", "allowed.example", "/echo", "X-One: 1\r\n", "the body")?;
        assert!(echo.contains("\"body\":\"the body\"") && echo.contains("[\"X-One\",\"1\"]"), "{echo}");
        let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n";
        assert!(exchange(connect("allowed.example:80")?, chunked.as_bytes())?.contains("\"body\":\"abcdefg\""));
        // three at once on one connection, in order; HEAD without a body
        let pipelined = "GET /status/201 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /bytes/9 HTTP/1.1\r\nHost: a\r\n\r\n\
            GET /status/202 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answers = exchange(connect("allowed.example:80")?, pipelined.as_bytes())?;
        let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
        assert_eq!(statuses, ["201", "200", "202"]);
        Ok(())
    });
}

#[test]
fn a_websocket_echoes() {
    inside(|_| {
        let mut stream = connect("allowed.example:80")?;
        let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // the frame comes in the same segment as the handshake; mask 0
        let frame = [&[0x81, 0x83, 0, 0, 0, 0][..], b"abc"].concat();
        stream.write_all(&[handshake.as_bytes(), &frame].concat())?;
        let mut got = Vec::new();
        while !got.ends_with(b"\x81\x03abc") {
            let mut part = [0; 512];
            let n = stream.read(&mut part)?;
            assert!(n > 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&part[..n]);
        }
        // the example of RFC 6455
        assert!(String::from_utf8_lossy(&got).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Ok(())
    });
}

#[test]
fn raw_bytes_come_back() {
    inside(|world| {
        let token = token::fresh();
        let mut stream = connect((SINK4, 5432))?;
        stream.write_all(token.as_bytes())?;
        let mut back = vec![0; token.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, token.as_bytes());
        assert_eq!(world.hits_with(&token)?[0].event, Event::Data);
        for address in [IpAddr::from(SINK4), SINK6.into()] {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.connect((address, 443))?;
            let token = token::fresh();
            socket.send(token.as_bytes())?;
            let mut back = [0; 64];
            assert_eq!(socket.recv(&mut back)?, token.len());
            assert_eq!(world.hits_with(&token)?[0].event, Event::Datagram);
        }
        Ok(())
    });
}

#[test]
fn the_lan_and_the_metadata_service_are_there() {
    inside(|world| {
        for (address, server) in [
            (IpAddr::from(ROUTER4), "router"),
            (PRINTER4.into(), "printer"),
            (PRINTER6.into(), "printer"),
            (map::ROUTER6.into(), "router"),
        ] {
            assert!(get((address, 80), "x", "/")?.contains(&format!("{server}: hello")), "{address}");
        }
        assert!(get((METADATA4, 80), "x", "/latest/meta-data")?.contains(&world.at.metadata_token));
        // the LAN is a LAN: an address that nobody has doesn't answer, and by IPv6 one can be on it too
        let nobody = (Ipv4Addr::new(192, 168, 77, 99), 80).into();
        assert!(TcpStream::connect_timeout(&nobody, Duration::from_millis(300)).is_err());
        assert!(sh("ip neigh show dev eth0")?.contains("192.168.77.20"));
        Ok(())
    });
}

#[test]
fn the_corporate_proxy_wants_a_password() {
    inside(|_| {
        assert_eq!(
            sh("curl -sS -x http://corp:proxy@proxy.corp.example:3128 https://allowed.example/")?,
            "web: hello from allowed.example\n"
        );
        let refused = exchange(
            connect((PROXY4, 3128))?,
            b"CONNECT allowed.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )?;
        assert!(refused.starts_with("HTTP/1.1 407"), "{refused}");
        Ok(())
    });
}

#[test]
fn the_hosts_own_services_are_reachable_from_the_host() {
    inside(|world| {
        for (address, port, server) in [
            (IpAddr::from(Ipv4Addr::LOCALHOST), LOOPBACK_PORT, "host:loopback"),
            (Ipv6Addr::LOCALHOST.into(), LOOPBACK_PORT, "host:loopback"),
            (Ipv4Addr::LOCALHOST.into(), WILDCARD_PORT, "host:wildcard"),
            (HOST4.into(), WILDCARD_PORT, "host:wildcard"),
            (HOST4.into(), LAN_PORT, "host:lan"),
            (HOST6.into(), LAN_PORT, "host:lan"),
        ] {
            let token = token::fresh();
            assert!(get((address, port), "x", &format!("/{token}"))?.starts_with("HTTP/1.1 200"), "{address} {port}");
            assert_eq!(world.hits_with(&token)?[0].server, server);
        }
        let by_name = SocketAddr::from_abstract_name(ABSTRACT)?;
        let sockets = PATHS.iter().map(UnixStream::connect).chain([UnixStream::connect_addr(&by_name)]);
        for stream in sockets {
            let (mut stream, token) = (stream?, token::fresh());
            stream.write_all(token.as_bytes())?;
            stream.read_exact(&mut [0; 26])?;
            assert_eq!(world.hits_with(&token)?[0].server, "host:unix");
        }
        Ok(())
    });
}

#[test]
fn within_tls_any_protocol_is_echoed_too() {
    inside(|world| {
        let token = token::fresh();
        let mut stream = tls(("allowed.example", 443), "allowed.example", &world.at.ca_pem)?;
        stream.write_all(token.as_bytes())?;
        let mut back = vec![0; token.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, token.as_bytes());
        let hit = world.hits_with(&token)?.remove(0);
        assert_eq!((hit.event, hit.sni.as_deref()), (Event::Data, Some("allowed.example")));
        world.packets_containing(&token).map(|p| assert!(p.is_empty(), "it was encrypted"))
    });
}

#[test]
fn a_git_repository_can_be_served() {
    inside(|world| {
        let files = world.at.files.display();
        sh(&format!(
            "export HOME=/run; git init -q /run/w; cd /run/w; git -c user.name=a -c user.email=b commit -q --allow-empty -m one
            git clone -q --bare /run/w {files}/r.git; git -C {files}/r.git update-server-info
            git clone -q https://allowed.example/files/r.git /run/c; git -C /run/c log --oneline | grep one"
        ))?;
        assert!(get("allowed.example:80", "allowed.example", "/files/../WORLD.json")?.starts_with("HTTP/1.1 404"));
        Ok(())
    });
}
