//! HTTP/1.1, the server's side: just enough, blocking, one thread a connection.
//!
//! Requests are read whole (bodies up to 16 MiB are kept, more is counted and searched for tokens), so that a hit knows
//! everything that was sent before the answer begins.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;

use crate::tls::Stream;
use crate::witness::{Event, Hit};

const HEAD_LIMIT: usize = 256 << 10;
const BODY_LIMIT: usize = 16 << 20;

/// Who talks to whom on a connection.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The server by its address, as [`crate::map::server_at`] calls it, or `host:…`.
    pub server: String,
    /// The address that was dialled, or a socket's path.
    pub local: String,
    /// The client.
    pub peer: String,
    /// The dialled address, if it is one.
    pub dialled: Option<SocketAddr>,
    /// The SNI, if there was TLS with one.
    pub sni: Option<String>,
    /// `tcp`, `tls` or `unix`.
    pub proto: &'static str,
}

impl Ends {
    /// A hit on this connection.
    #[must_use]
    pub fn hit(&self, event: Event) -> Hit {
        let mut hit = Hit::new(&self.server, self.proto, event, &self.local, &self.peer);
        hit.sni.clone_from(&self.sni);
        hit.name.clone_from(&self.sni);
        hit
    }
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// As sent.
    pub target: String,
    /// Names as sent, in their order.
    pub headers: Vec<(String, String)>,
    /// Unchunked.
    pub body: Vec<u8>,
    /// The body's length; more than `body` has when it was over the limit.
    pub length: u64,
    keep: bool,
}

impl Request {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The target without query, and without scheme and authority if they are there.
    #[must_use]
    pub fn path(&self) -> &str {
        let t = self.target.as_str();
        let t = t.split_once("://").map_or(t, |(_, rest)| rest.find('/').map_or("/", |i| &rest[i..]));
        t.split('?').next().unwrap_or(t)
    }

    /// A parameter of the query, percent-decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|p| p.split_once('=').filter(|(n, _)| *n == name)).map(|(_, v)| decoded(v))
    }

    /// The Host header's name, without port, in lower case.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let host = self.header("host")?;
        let name =
            host.rsplit_once(':').filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
        Some(name.to_ascii_lowercase())
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match b {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => out.push(high << 4 | low),
                _ => out.push(b'%'),
            },
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A connection on which HTTP is spoken.
pub struct Connection {
    /// The bytes.
    pub stream: Stream,
    /// Who is at its ends.
    pub ends: Ends,
    buffer: Vec<u8>,
    keep: bool,
    bodiless: bool,
}

impl Connection {
    /// Of which `buffer` has been read already.
    #[must_use]
    pub fn new(stream: Stream, ends: Ends, buffer: Vec<u8>) -> Self {
        Self { stream, ends, buffer, keep: true, bodiless: false }
    }

    fn more(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 << 10];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(line.trim_ascii_end().to_vec());
            }
            if self.buffer.len() > HEAD_LIMIT || self.more()? == 0 {
                bail!("a line without an end");
            }
        }
    }

    fn exactly(&mut self, mut count: u64, request: &mut Request) -> Result<()> {
        request.length += count;
        while count > 0 {
            if self.buffer.is_empty() && self.more()? == 0 {
                bail!("closed within a body");
            }
            let n = usize::try_from(count).unwrap_or(usize::MAX).min(self.buffer.len());
            if request.body.len() < BODY_LIMIT {
                request.body.extend_from_slice(&self.buffer[..n]);
            }
            self.buffer.drain(..n);
            count -= n as u64;
        }
        Ok(())
    }

    /// The next request; `None` when the client has ended. It has been recorded as a hit.
    pub fn request(&mut self) -> Result<Option<Request>> {
        if !self.keep {
            return Ok(None);
        }
        let mut request = loop {
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut parsed = httparse::Request::new(&mut headers);
            match parsed.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
                    let request = Request {
                        method: parsed.method.unwrap_or_default().to_owned(),
                        target: parsed.path.unwrap_or_default().to_owned(),
                        headers: parsed.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
                        keep: parsed.version == Some(1),
                        ..Request::default()
                    };
                    self.buffer.drain(..length);
                    break request;
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < HEAD_LIMIT => match self.more() {
                    Ok(0) if self.buffer.is_empty() => return Ok(None),
                    Ok(0) => bail!("closed within a head"),
                    Ok(_) => {}
                    Err(e) if ended(&e) && self.buffer.is_empty() => return Ok(None),
                    Err(e) => return Err(e),
                },
                Ok(httparse::Status::Partial) => bail!("a head without an end"),
                Err(e) => {
                    self.ends.hit(Event::Data).carrying(&self.buffer).record();
                    return Err(e).context("not HTTP");
                }
            }
        };
        if request.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let chunked = request.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        if chunked {
            loop {
                let line = self.line()?;
                let size = std::str::from_utf8(&line)?.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).context("a chunk's size")?;
                self.exactly(size, &mut request)?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                self.line()?;
            }
        } else if let Some(length) = request.header("content-length") {
            let length = length.parse().context("content-length")?;
            self.exactly(length, &mut request)?;
        }
        self.keep = request.keep && !request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        self.bodiless = request.method == "HEAD";
        let mut hit = self.ends.hit(Event::Request).carrying(&request.body).also_in(request.target.as_bytes());
        for (name, value) in &request.headers {
            hit = hit.also_in(name.as_bytes()).also_in(value.as_bytes());
            // Basic credentials hide a token
            if let Some(inner) = value.split(' ').nth(1).and_then(|v| BASE64.decode(v.as_bytes()).ok()) {
                hit = hit.also_in(&inner);
            }
        }
        hit.name = request.host().or(hit.name);
        hit.method = Some(request.method.clone());
        hit.path = Some(request.target.clone());
        hit.bytes = request.length;
        hit.record();
        Ok(Some(request))
    }

    /// Sends a whole answer.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let mut out = self.head(status, headers, &format!("content-length: {}", body.len()));
        if !self.bodiless {
            out.extend_from_slice(body);
        }
        self.stream.write_all(&out)?;
        Ok(self.stream.flush()?)
    }

    /// A head whose last line says how long the body is.
    #[must_use]
    pub fn head(&self, status: u16, headers: &[(&str, &str)], framing: &str) -> Vec<u8> {
        let connection = if self.keep { "keep-alive" } else { "close" };
        let mut out = format!("HTTP/1.1 {status} {}\r\nconnection: {connection}\r\n", reason(status));
        for (name, value) in headers {
            out.push_str(name);
            out.push_str(": ");
            out.push_str(value);
            out.push_str("\r\n");
        }
        out.push_str(framing);
        out.push_str("\r\n\r\n");
        out.into_bytes()
    }

    /// Begins an answer that is sent in chunks.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<()> {
        let head = self.head(status, headers, "transfer-encoding: chunked");
        self.stream.write_all(&head)?;
        Ok(self.stream.flush()?)
    }

    /// One chunk; an empty one ends the answer.
    pub fn chunk(&mut self, data: &[u8]) -> Result<()> {
        self.stream.write_all(&[format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat())?;
        Ok(self.stream.flush()?)
    }

    /// What was read beyond the last request; after an upgrade it belongs to the new protocol.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.keep = false;
        std::mem::take(&mut self.buffer)
    }
}

/// Whether a client simply went away.
#[must_use]
pub fn ended(e: &anyhow::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    e.downcast_ref::<std::io::Error>().is_some_and(|e| {
        matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof | WouldBlock)
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "Status",
    }
}
