//! Listeners: TCP that looks at the first bytes, TCP that speaks first, UDP that echoes, DNS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::dns::{Dns, Reply, Via};
use crate::http::{Connection, Ends, ended};
use crate::map;
use crate::outside;
use crate::routes::{Site, plain};
use crate::tls::{Authority, Stream};
use crate::witness::{Event, Hit};

/// How a TCP port behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// By the first bytes: TLS, then HTTP or raw echo.
    Sniff,
    /// An ssh banner first, then echo.
    Banner,
    /// DNS with its length first.
    Dns,
    /// The same within TLS.
    DnsTls,
    /// What is sent comes back, whatever it is.
    Echo,
}

/// What all listeners share.
pub struct Shared {
    /// The web.
    pub site: Site,
    /// Certificates; without them there is no TLS.
    pub authority: Option<Authority>,
    /// How servers are named in hits: by address on the internet, `host:…` for the host's own.
    pub named: fn(SocketAddr) -> String,
}

/// Listens, and serves each connection in a thread.
pub fn tcp(address: SocketAddr, manner: Manner, shared: &Arc<Shared>) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on tcp {address}"))?;
    // the standard library's backlog of 128 is short for benches
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
    let shared = shared.clone();
    std::thread::Builder::new().name(format!("tcp {}", address.port())).spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            let served = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
                if let Err(e) = serve(stream, manner, &shared)
                    && !ended(&e)
                {
                    eprintln!("rcc-world: {e:#}");
                }
            });
            if let Err(e) = served {
                eprintln!("rcc-world: no thread for a connection: {e}");
            }
        }
    })?;
    Ok(())
}

fn serve(stream: TcpStream, manner: Manner, shared: &Shared) -> Result<()> {
    let (Ok(local), Ok(peer)) = (stream.local_addr().map(plain), stream.peer_addr().map(plain)) else { return Ok(()) };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    let mut ends = Ends {
        server: (shared.named)(local),
        local: local.to_string(),
        peer: peer.to_string(),
        dialled: Some(local),
        sni: None,
        proto: "tcp",
    };
    if let Some(name) = shared.site.dns.outside.as_ref().and_then(|outside| outside.name(local.ip())) {
        ends.server = "outside".into();
        ends.hit(Event::Connect).record();
        return outside::splice(&stream, &name, local.port());
    }
    match manner {
        Manner::Banner => ends.server = "ssh".into(),
        Manner::Echo => ends.server = "echo".into(),
        Manner::Dns | Manner::DnsTls => ends.server = "dns".into(),
        Manner::Sniff => {}
    }
    ends.hit(Event::Connect).record();
    match manner {
        Manner::Banner => {
            let mut stream = Stream::Plain(stream);
            stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 rcc-world\r\n")?;
            return echo(stream, &ends);
        }
        Manner::Echo => return echo(Stream::Plain(stream), &ends),
        Manner::Dns => {
            let via = Via { proto: "tcp", local: &ends.local, peer: &ends.peer };
            return Ok(shared.site.dns.serve_stream(stream, via)?);
        }
        Manner::DnsTls => {
            let stream = handshake(stream, &mut ends, shared)?;
            let via = Via { proto: "tls", local: &ends.local, peer: &ends.peer };
            return Ok(shared.site.dns.serve_stream(stream, via)?);
        }
        Manner::Sniff => {}
    }
    let mut first = [0; 8];
    let n = stream.peek(&mut first)?;
    if first[..n].starts_with(&[0x16, 3]) || first[..n] == [0x16] {
        let mut stream = handshake(stream, &mut ends, shared)?;
        // within TLS nothing can be peeked at
        let mut first = vec![0; 16 << 10];
        let n = stream.read(&mut first)?;
        first.truncate(n);
        if n > 0 && !looks_like_http(&first) {
            ends.hit(Event::Data).carrying(&first).record();
            stream.write_all(&first)?;
            stream.flush()?;
            return echo(stream, &ends);
        }
        return shared.site.serve(Connection::new(stream, ends, first));
    }
    if !looks_like_http(&first[..n]) {
        return echo(Stream::Plain(stream), &ends);
    }
    shared.site.serve(Connection::new(Stream::Plain(stream), ends, Vec::new()))
}

fn looks_like_http(first: &[u8]) -> bool {
    const METHODS: [&str; 9] =
        ["GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE "];
    !first.is_empty() && METHODS.iter().any(|m| m.as_bytes().iter().zip(first).all(|(a, b)| a == b))
}

fn handshake(stream: TcpStream, ends: &mut Ends, shared: &Shared) -> Result<Stream> {
    let authority = shared.authority.as_ref().context("there is no TLS here")?;
    let dialled = ends.dialled.context("TLS only by address")?.ip();
    ends.proto = "tls";
    let seen = |hello: &crate::tls::Hello| {
        let mut hit = ends.hit(Event::Hello).also_in(hello.sni.as_deref().unwrap_or_default().as_bytes());
        hit.sni.clone_from(&hello.sni);
        hit.name.clone_from(&hello.sni);
        hit.data = format!("alpn {}", hello.alpn.join(","));
        hit.also_in(hello.alpn.join(",").as_bytes()).record();
    };
    match authority.accept(stream, dialled, seen) {
        Ok((hello, stream)) => {
            ends.sni = hello.sni;
            Ok(Stream::Tls(Box::new(stream)))
        }
        Err(e) => {
            let mut hit = ends.hit(Event::TlsFailed);
            hit.data = format!("{e:#}");
            hit.record();
            // a client that doesn't like the certificate is no failure of the world's
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
        }
    }
}

/// Sends back whatever comes.
fn echo(mut stream: Stream, ends: &Ends) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            stream.finish();
            return Ok(());
        }
        ends.hit(Event::Data).carrying(&buffer[..n]).record();
        stream.write_all(&buffer[..n])?;
        stream.flush()?;
    }
}

/// Serves DNS, or echoes, on a UDP port; an answer comes from the address that was asked.
pub fn udp(address: SocketAddr, dns: Option<Arc<Dns>>, named: fn(SocketAddr) -> String) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("listening on udp {address}"))?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
        .or_else(|e| if address.is_ipv4() { Ok(()) } else { Err(e) })?;
    std::thread::Builder::new().name(format!("udp {}", address.port())).spawn(move || {
        let socket = Arc::new(socket);
        loop {
            let Ok((data, peer, asked)) = receive(&socket) else { continue };
            let local = asked.map_or(address, |a| SocketAddr::new(a.to_canonical(), address.port()));
            let (shown, from) = (local.to_string(), plain(peer.into()).to_string());
            let reply = if let Some(dns) = &dns {
                dns.answer(&data, Via { proto: "udp", local: &shown, peer: &from })
            } else {
                Hit::new(&named(local), "udp", Event::Datagram, &shown, &from).carrying(&data).record();
                Reply::Send(data, Duration::ZERO)
            };
            let Reply::Send(bytes, delay) = reply else { continue };
            let socket = socket.clone();
            let send = move || {
                std::thread::sleep(delay);
                let _gone = answer(&socket, &bytes, peer, asked);
            };
            if delay.is_zero() {
                send();
            } else {
                std::thread::spawn(send);
            }
        }
    })?;
    Ok(())
}

fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SockaddrIn6, Option<std::net::Ipv6Addr>)> {
    let mut buffer = vec![0; 64 << 10];
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let got = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let asked = got.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(std::net::Ipv6Addr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let (n, peer) = (got.bytes, got.address.context("a datagram from nowhere")?);
    buffer.truncate(n);
    Ok((buffer, peer, asked))
}

fn answer(socket: &UdpSocket, data: &[u8], to: SockaddrIn6, from: Option<std::net::Ipv6Addr>) -> Result<()> {
    let parts = [std::io::IoSlice::new(data)];
    let info = from.map(|a| libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: a.octets() }, ipi6_ifindex: 0 });
    let control: Vec<_> = info.as_ref().map(ControlMessage::Ipv6PacketInfo).into_iter().collect();
    sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

/// How the internet's servers are named.
#[must_use]
pub fn by_address(local: SocketAddr) -> String {
    map::server_at(local.ip()).to_owned()
}
