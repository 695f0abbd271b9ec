//! What the world's web servers answer, by server and path.
//!
//! `/` a greeting · `/echo` the request as JSON · `/bytes/N` N bytes · `/chunked/N` the same in chunks · `/redirect?to=URL`
//! · `/status/N` · `/sse?n=3&ms=100` · `/ws` a WebSocket that echoes · `/slow?ms=1000` · `/drip?n=5&ms=100` one byte at a
//! time · `/drop?after=N` a promise of N+1 bytes, N sent · `/dns-query` DNS over HTTPS. Any body is read and counted.
//! · `/files/PATH` a file below [`Site::files`], so also a bare git repository. CONNECT works on the proxy, with user `corp` and password `proxy`.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Result;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::{ServerConnection, StreamOwned};
use serde_json::json;

use crate::dns::{Dns, Reply, Via};
use crate::http::{Connection, Request};
use crate::map;
use crate::model::Model;
use crate::tls::Stream;
use crate::witness::Event;

const BLOCK: usize = 16 << 20;
static ZEROES: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'0'; 1 << 20]);

/// What the web servers share.
pub struct Site {
    /// The scripted model, if it is played here.
    pub model: Option<Arc<Model>>,
    /// For DNS over HTTPS.
    pub dns: Arc<Dns>,
    /// What the metadata service gives away.
    pub metadata_token: String,
    /// A folder that is served below `/files/`.
    pub files: PathBuf,
    /// A memory file that `/bytes/N` is sent from.
    pub block: File,
}

impl Site {
    /// With a block of bytes to send.
    pub fn new(model: Option<Arc<Model>>, dns: Arc<Dns>, metadata_token: String, files: &Path) -> Result<Self> {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let mut block = File::from(memfd_create(c"bytes", MFdFlags::MFD_CLOEXEC)?);
        for _ in 0..BLOCK / ZEROES.len() {
            block.write_all(&ZEROES)?;
        }
        block.rewind()?;
        Ok(Self { model, dns, metadata_token, files: files.to_owned(), block })
    }

    /// Serves one connection to its end.
    pub fn serve(&self, mut connection: Connection) -> Result<()> {
        while let Some(request) = connection.request()? {
            let is_model = request.host().as_deref() == Some(map::MODEL_NAME) || connection.ends.server == "model";
            match (&self.model, connection.ends.server.as_str()) {
                // Before the model: for a tunnel to that, the Host names it.
                (_, "proxy") if request.method == "CONNECT" => return proxy(connection, &request),
                (Some(model), _) if is_model => model.serve(&mut connection, &request)?,
                (_, "metadata") => {
                    let body = json!({ "role": "instance", "Token": self.metadata_token }).to_string();
                    connection.answer(200, JSON, body.as_bytes())?;
                }
                _ => {
                    if self.page(&mut connection, &request)? == After::Close {
                        break;
                    }
                }
            }
        }
        connection.stream.finish();
        Ok(())
    }

    fn page(&self, connection: &mut Connection, request: &Request) -> Result<After> {
        let number = |name: &str, default: u64| request.query(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let pause = |name: &str, default: u64| std::thread::sleep(Duration::from_millis(number(name, default)));
        let path = request.path().to_owned();
        let (first, rest) = path[1.min(path.len())..].split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        match first {
            "echo" => connection.answer(200, JSON, echo(connection, request).to_string().as_bytes())?,
            "bytes" => self.bytes(connection, rest.parse().unwrap_or(0))?,
            "chunked" => {
                connection.begin(200, BYTES)?;
                let mut left = rest.parse().unwrap_or(0);
                while left > 0 {
                    let n = left.min(64 << 10);
                    connection.chunk(&ZEROES[..n])?;
                    left -= n;
                }
                connection.chunk(b"")?;
            }
            "redirect" => {
                let to = request.query("to").unwrap_or_default();
                let status = u16::try_from(number("status", 302)).unwrap_or(302);
                connection.answer(status, &[("location", to.as_str())], b"")?;
            }
            "status" => connection.answer(rest.parse().unwrap_or(500), TEXT, b"as you wished\n")?,
            "sse" => {
                connection.begin(200, &[("content-type", "text/event-stream"), ("cache-control", "no-cache")])?;
                for i in 0..number("n", 3) {
                    connection.chunk(format!("id: {i}\nevent: tick\ndata: {i}\n\n").as_bytes())?;
                    pause("ms", 100);
                }
                connection.chunk(b"")?;
            }
            "slow" => {
                pause("ms", 1000);
                connection.answer(200, TEXT, b"at last\n")?;
            }
            "drip" => {
                let n = number("n", 5);
                let head = connection.head(200, TEXT, &format!("content-length: {n}"));
                connection.stream.write_all(&head)?;
                for _ in 0..n {
                    pause("ms", 100);
                    connection.stream.write_all(b".")?;
                    connection.stream.flush()?;
                }
            }
            "drop" => {
                let n = usize::try_from(number("after", 100))?.min(ZEROES.len());
                let head = connection.head(200, BYTES, &format!("content-length: {}", n + 1));
                connection.stream.write_all(&[&head, &ZEROES[..n]].concat())?;
                return Ok(After::Close);
            }
            "ws" => {
                websocket(connection, request)?;
                return Ok(After::Close);
            }
            "files" => match std::fs::read(self.files.join(rest)) {
                Ok(content) if !rest.split('/').any(|part| part == "..") => connection.answer(200, BYTES, &content)?,
                _ => connection.answer(404, TEXT, b"no such file\n")?,
            },
            "dns-query" => self.doh(connection, request)?,
            "" => {
                let name = request.host().unwrap_or_default();
                let text = format!("{}: hello from {name}\n", connection.ends.server);
                connection.answer(200, TEXT, text.as_bytes())?;
            }
            _ => connection.answer(200, TEXT, format!("{path}: {} bytes received\n", request.length).as_bytes())?,
        }
        Ok(After::Keep)
    }

    fn bytes(&self, connection: &mut Connection, count: u64) -> Result<()> {
        let head = connection.head(200, BYTES, &format!("content-length: {count}"));
        connection.stream.write_all(&head)?;
        let mut left = usize::try_from(count)?;
        while left > 0 {
            left -= match &mut connection.stream {
                Stream::Plain(socket) => {
                    let mut offset = 0;
                    nix::sys::sendfile::sendfile64(socket, &self.block, Some(&mut offset), left.min(BLOCK))?
                }
                tls @ Stream::Tls(_) => {
                    let n = left.min(ZEROES.len());
                    tls.write_all(&ZEROES[..n])?;
                    n
                }
            };
        }
        Ok(connection.stream.flush()?)
    }

    fn doh(&self, connection: &mut Connection, request: &Request) -> Result<()> {
        let question = request.query("dns").and_then(|v| BASE64URL_NOPAD.decode(v.as_bytes()).ok());
        let question = question.unwrap_or_else(|| request.body.clone());
        let via = Via { proto: "https", local: &connection.ends.local, peer: &connection.ends.peer };
        match self.dns.answer(&question, via) {
            Reply::Send(bytes, delay) => {
                std::thread::sleep(delay);
                connection.answer(200, &[("content-type", "application/dns-message")], &bytes)
            }
            Reply::Nothing => connection.answer(400, TEXT, b"no question\n"),
        }
    }
}

#[derive(PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain; charset=utf-8")];
const BYTES: &[(&str, &str)] = &[("content-type", "application/octet-stream")];

fn echo(connection: &Connection, request: &Request) -> serde_json::Value {
    json!({
        "server": connection.ends.server,
        "local": connection.ends.local,
        "peer": connection.ends.peer,
        "sni": connection.ends.sni,
        "proto": connection.ends.proto,
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "length": request.length,
        "body": String::from_utf8_lossy(&request.body),
    })
}

fn websocket(connection: &mut Connection, request: &Request) -> Result<()> {
    let Some(key) = request.header("sec-websocket-key") else {
        return connection.answer(400, TEXT, b"not a WebSocket handshake\n");
    };
    // RFC 6455, 4.2.2
    let proof = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept =
        BASE64.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, proof.as_bytes()).as_ref());
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ";
    connection.stream.write_all(format!("{head}{accept}\r\n\r\n").as_bytes())?;
    connection.stream.flush()?;
    let rest = connection.take_rest();
    let mut input = std::io::Cursor::new(rest).chain(&mut connection.stream);
    loop {
        let mut head = [0; 2];
        input.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut b = [0; 2];
                input.read_exact(&mut b)?;
                usize::from(u16::from_be_bytes(b))
            }
            127 => {
                let mut b = [0; 8];
                input.read_exact(&mut b)?;
                usize::try_from(u64::from_be_bytes(b))?.min(BLOCK)
            }
            n => usize::from(n),
        };
        let mut mask = [0; 4];
        input.read_exact(&mut mask)?;
        let mut data = vec![0; length];
        input.read_exact(&mut data)?;
        data.iter_mut().zip(mask.iter().cycle()).for_each(|(b, m)| *b ^= m);
        connection.ends.hit(Event::Data).carrying(&data).record();
        // the same opcode back (a ping as a pong), unmasked
        let opcode = if head[0] & 15 == 9 { 10 } else { head[0] & 15 };
        let mut frame = vec![0x80 | opcode];
        match data.len() {
            n @ 0..=125 => frame.push(u8::try_from(n)?),
            n @ 126..=0xffff => {
                frame.push(126);
                frame.extend(u16::try_from(n)?.to_be_bytes());
            }
            n => {
                frame.push(127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        frame.extend(data);
        let (_, stream) = input.get_mut();
        stream.write_all(&frame)?;
        stream.flush()?;
        if opcode == 8 {
            return Ok(());
        }
    }
}

/// An HTTP CONNECT proxy, as companies have: it resolves names by the zone table and dials within the world.
fn proxy(mut connection: Connection, request: &Request) -> Result<()> {
    let wanted = format!("Basic {}", BASE64.encode(b"corp:proxy"));
    if request.header("proxy-authorization") != Some(wanted.as_str()) {
        return connection.answer(407, &[("proxy-authenticate", "Basic realm=\"corp\"")], b"");
    }
    let Some(upstream) = dial(&request.target) else {
        return connection.answer(502, TEXT, b"no such host\n");
    };
    connection.stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let rest = connection.take_rest();
    let mut there = upstream.try_clone()?;
    there.write_all(&rest)?;
    if let Stream::Tls(tls) = &mut connection.stream {
        return within_tls(tls, there);
    }
    let mut here = connection.stream.socket().try_clone()?;
    let back = std::thread::spawn(move || {
        let _gone = std::io::copy(&mut there, &mut here);
        let _gone = here.shutdown(std::net::Shutdown::Write);
    });
    let (mut here, mut there) = (connection.stream.socket().try_clone()?, upstream);
    let _gone = std::io::copy(&mut here, &mut there);
    let _gone = there.shutdown(std::net::Shutdown::Write);
    let _panicked = back.join();
    Ok(())
}

/// Both directions in turn, as one end of a TLS connection can't be in two threads.
fn within_tls(tls: &mut StreamOwned<ServerConnection, TcpStream>, mut there: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let waiting = tls.conn.process_new_packets()?.plaintext_bytes_to_read() > 0;
        let [asks, answers] = {
            let mut fds =
                [PollFd::new(tls.sock.as_fd(), PollFlags::POLLIN), PollFd::new(there.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, if waiting { PollTimeout::ZERO } else { PollTimeout::NONE })?;
            fds.map(|fd| fd.any().unwrap_or_default())
        };
        if waiting || asks {
            let n = tls.read(&mut buffer)?;
            there.write_all(&buffer[..n])?;
            if n == 0 {
                return Ok(());
            }
        }
        if answers {
            let n = there.read(&mut buffer)?;
            tls.write_all(&buffer[..n])?;
            tls.flush()?;
            if n == 0 {
                tls.conn.send_close_notify();
                tls.flush()?;
                return Ok(());
            }
        }
    }
}

fn dial(target: &str) -> Option<TcpStream> {
    let (host, port) = target.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let address = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match map::find(&host.to_ascii_lowercase())?.answer {
            map::Answer::Fixed(list) => *list.first()?,
            _ => return None,
        },
    };
    TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(5)).ok()
}

/// The address without its IPv4-in-IPv6 wrapping.
#[must_use]
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an address is one of every interface.
#[must_use]
pub fn any() -> IpAddr {
    Ipv6Addr::UNSPECIFIED.into()
}
