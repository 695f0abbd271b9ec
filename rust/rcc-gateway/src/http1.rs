//! Pure: follows an HTTP/1 client's requests on one connection and demands that each is for one host.
//!
//! Every head is checked, not the first alone. What two servers might frame differently (both lengths, bare line
//! feeds, folded lines, unknown transfer codings) is refused, because a server that read another boundary would take
//! part of a body for a request that was not checked. (RFC 9112, sections 2.2, 3.2, 5.1, 6, 7.1, 11.2.)

use memchr::memmem;
use std::ops::Range;

/// The longest head, trailer section or chunk line's head, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// The longest line with a chunk's size, extensions included, in bytes.
const MAX_CHUNK_LINE: usize = 1024;
const MAX_HEADERS: usize = 128;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no HTTP/1 request.
    #[error("not an HTTP/1 request")]
    NotHttp,
    /// A bare CR or LF, a NUL, a folded line, or a header that is none.
    #[error("malformed HTTP head")]
    Malformed,
    /// The head or a chunk's line is too long.
    #[error("HTTP head too long")]
    TooLong,
    /// Not exactly one Host.
    #[error("not exactly one Host header")]
    HostCount,
    /// The Host, or the target, is not what was dialled.
    #[error("Host names another host")]
    OtherHost,
    /// CONNECT asks for a tunnel.
    #[error("CONNECT is not allowed")]
    Connect,
    /// The body's length is ambiguous.
    #[error("ambiguous body length")]
    Framing,
    /// An upgrade to something other than a WebSocket, or on a connection that has been used.
    #[error("this upgrade is not allowed")]
    Upgrade,
}

/// What a request was, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The method.
    pub method: String,
}

/// What to do with the bytes at the front of the caller's buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    Need,
    /// Pass on the first `take` bytes, less those in `cut`; then ask again.
    Forward {
        /// How many bytes of the buffer this is about.
        take: usize,
        /// Bytes among these that are not passed on.
        cut: Option<Range<usize>>,
        /// A request began; it asks for a WebSocket if `upgrade`.
        request: bool,
        /// After this head, nothing may be passed on until the server has answered.
        upgrade: bool,
    },
    /// Pass on exactly this many bytes without looking at them; then ask again.
    Body(u64),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

/// Follows one connection's requests.
#[derive(Debug)]
pub struct Requests {
    name: String,
    port: u16,
    state: State,
    count: u64,
}

impl Requests {
    /// For connections to `name` and `port`.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        Self { name: name.to_ascii_lowercase(), port, state: State::Head, count: 0 }
    }

    /// Requests whose head was accepted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether a request has begun that is not complete, given what is still in the buffer.
    #[must_use]
    pub fn between(&self) -> bool {
        self.state == State::Head
    }

    /// Judges the front of the buffer.
    pub fn step(&mut self, buffer: &[u8]) -> Result<Step, Refusal> {
        match self.state {
            State::Head => self.head(buffer),
            State::Length(n) => {
                self.state = State::Head;
                Ok(Step::Body(n))
            }
            State::ChunkLine => self.chunk_line(buffer),
            State::Chunk(n) => {
                self.state = State::ChunkEnd;
                Ok(Step::Body(n))
            }
            State::ChunkEnd => match buffer {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkLine;
                    Ok(forward(2))
                }
                [] | [b'\r'] => Ok(Step::Need),
                _ => Err(Refusal::Framing),
            },
            State::Trailers => self.trailers(buffer),
        }
    }

    fn head(&mut self, buffer: &[u8]) -> Result<Step, Refusal> {
        if self.count == 0 && !could_be_http(buffer) {
            return Err(Refusal::NotHttp);
        }
        let Some(end) = section_end(buffer)? else { return Ok(Step::Need) };
        let head = &buffer[..end];
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(n)) if n == end => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLong),
            Err(httparse::Error::Version | httparse::Error::Token) => return Err(Refusal::NotHttp),
            _ => return Err(Refusal::Malformed),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Refusal::Malformed);
        };
        let facts = Facts::of(request.headers)?;
        if method == "CONNECT" {
            return Err(Refusal::Connect);
        }
        self.check_authority(facts.host)?;
        self.check_target(method, target)?;
        let next = match (facts.chunked, facts.length) {
            (true, Some(_)) => return Err(Refusal::Framing),
            (true, None) if version == 0 => return Err(Refusal::Framing),
            (true, None) => State::ChunkLine,
            (false, Some(n)) if n > 0 => State::Length(n),
            (false, _) => State::Head,
        };
        let upgrade = facts.upgrade;
        if upgrade && (self.count > 0 || method != "GET" || next != State::Head || version == 0) {
            return Err(Refusal::Upgrade);
        }
        let cut = facts.expect.then(|| line_of(head, b"expect")).flatten();
        self.state = next;
        self.count += 1;
        Ok(Step::Forward { take: end, cut, request: true, upgrade })
    }

    fn check_authority(&self, authority: &[u8]) -> Result<(), Refusal> {
        let (name, port) = match memchr::memchr(b':', authority) {
            Some(i) => (&authority[..i], Some(&authority[i + 1..])),
            None => (authority, None),
        };
        if !name.eq_ignore_ascii_case(self.name.as_bytes()) {
            return Err(Refusal::OtherHost);
        }
        match port {
            Some(port) if port != self.port.to_string().as_bytes() => Err(Refusal::OtherHost),
            _ => Ok(()),
        }
    }

    fn check_target(&self, method: &str, target: &str) -> Result<(), Refusal> {
        if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
            return Ok(());
        }
        let Some(rest) = target.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")).map(|_| &target[7..]) else {
            return Err(Refusal::OtherHost);
        };
        let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
        self.check_authority(authority.as_bytes())
    }

    fn chunk_line(&mut self, buffer: &[u8]) -> Result<Step, Refusal> {
        let line = match memchr::memchr(b'\n', buffer) {
            Some(i) if i > 0 && buffer[i - 1] == b'\r' => &buffer[..i - 1],
            Some(_) => return Err(Refusal::Framing),
            None if buffer.len() > MAX_CHUNK_LINE => return Err(Refusal::TooLong),
            None => return Ok(Step::Need),
        };
        if line.len() > MAX_CHUNK_LINE {
            return Err(Refusal::TooLong);
        }
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        if !(1..=15).contains(&digits)
            || !(extension.is_empty() || extension[0] == b';')
            || extension.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f)
        {
            return Err(Refusal::Framing);
        }
        let size = line[..digits].iter().fold(0u64, |n, b| n << 4 | u64::from((*b as char).to_digit(16).unwrap_or(0)));
        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
        Ok(forward(line.len() + 2))
    }

    fn trailers(&mut self, buffer: &[u8]) -> Result<Step, Refusal> {
        if buffer.starts_with(b"\r\n") {
            self.state = State::Head;
            return Ok(forward(2));
        }
        // The empty line that ends the chunks may come in two pieces.
        if buffer == b"\r" {
            return Ok(Step::Need);
        }
        let Some(end) = section_end(buffer)? else { return Ok(Step::Need) };
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(&buffer[..end], &mut headers) {
            Ok(httparse::Status::Complete((n, found))) if n == end => {
                let framing = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te"];
                if found.iter().any(|h| framing.iter().any(|f| h.name.eq_ignore_ascii_case(f))) {
                    return Err(Refusal::Framing);
                }
            }
            _ => return Err(Refusal::Malformed),
        }
        self.state = State::Head;
        Ok(forward(end))
    }
}

/// Whether a client's first bytes can begin an HTTP/1 request line: a method in capitals, then a space. `false` as
/// soon as they can't.
#[must_use]
pub fn could_be_http(bytes: &[u8]) -> bool {
    let letters = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-' || **b == b'_').count();
    letters <= 24 && (letters == bytes.len() || (letters > 0 && bytes[letters] == b' '))
}

/// Line breaks before a request line, which servers pass over (RFC 9112, section 2.2).
#[must_use]
pub fn blank(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

/// Whether the bytes, of which the [`blank`] ones are gone, are an HTTP request's beginning for sure: the method is one
/// of the common ones, or a whole request line is there. `None` while they may yet become one. A method in small
/// letters counts too: some servers take it.
#[must_use]
pub fn looks_like_http(bytes: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 15] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
        b"PROPFIND ",
        b"REPORT ",
        b"MKCOL ",
        b"SEARCH ",
        b"PRI ",
        b"QUERY ",
    ];
    if METHODS.iter().any(|m| bytes.starts_with(m)) {
        return Some(true);
    }
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or(bytes);
    let method = &line[..line.len().min(25)];
    if !could_be_http(&method.to_ascii_uppercase()) || line.contains(&0) {
        return Some(false);
    }
    if line.len() < bytes.len() {
        return Some(memmem::find(line, b" HTTP/").is_some());
    }
    if bytes.len() > MAX_CHUNK_LINE * 8 { Some(false) } else { None }
}

fn forward(take: usize) -> Step {
    Step::Forward { take, cut: None, request: false, upgrade: false }
}

/// The end of a head or trailer section, past its empty line; `None` while it is incomplete.
fn section_end(buffer: &[u8]) -> Result<Option<usize>, Refusal> {
    let end = memmem::find(buffer, b"\r\n\r\n").map(|i| i + 4);
    let section = &buffer[..end.unwrap_or(buffer.len())];
    for i in memchr::memchr3_iter(b'\r', b'\n', 0, section) {
        let fine = match section[i] {
            b'\r' => section.get(i + 1).is_none_or(|b| *b == b'\n'),
            b'\n' => i > 0 && section[i - 1] == b'\r' && !section.get(i + 1).is_some_and(|b| matches!(b, b' ' | b'\t')),
            _ => false,
        };
        if !fine {
            return Err(Refusal::Malformed);
        }
    }
    if section.starts_with(b"\r") {
        return Err(Refusal::Malformed);
    }
    if section.len() > MAX_HEAD { Err(Refusal::TooLong) } else { Ok(end) }
}

/// The line of the one header called `name`, its line break included.
fn line_of(head: &[u8], name: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    for line in head.split_inclusive(|b| *b == b'\n') {
        if line.len() > name.len() && line[name.len()] == b':' && line[..name.len()].eq_ignore_ascii_case(name) {
            return Some(start..start + line.len());
        }
        start += line.len();
    }
    None
}

struct Facts<'a> {
    host: &'a [u8],
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    expect: bool,
}

impl<'a> Facts<'a> {
    fn of(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut host = None;
        let (mut length, mut chunked, mut upgrade, mut expect) = (None, false, None, false);
        let mut asks_upgrade = false;
        for h in headers {
            let is = |n: &str| h.name.eq_ignore_ascii_case(n);
            if h.value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
                return Err(Refusal::Malformed);
            }
            if is("host") {
                if host.replace(h.value).is_some() {
                    return Err(Refusal::HostCount);
                }
            } else if is("content-length") {
                let text = std::str::from_utf8(h.value).map_err(|_| Refusal::Framing)?;
                if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(Refusal::Framing);
                }
                if length.replace(text.parse::<u64>().map_err(|_| Refusal::Framing)?).is_some() {
                    return Err(Refusal::Framing);
                }
            } else if is("transfer-encoding") {
                if chunked || !h.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Framing);
                }
                chunked = true;
            } else if is("upgrade") {
                if upgrade.replace(h.value).is_some() {
                    return Err(Refusal::Upgrade);
                }
            } else if is("expect") {
                if expect || !h.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Malformed);
                }
                // An early answer would leave it open whether the body is still sent; so the server is not asked.
                expect = true;
            } else if is("connection") {
                for option in h.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    asks_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                    // A hop that removes what is named here would see another request than we did.
                    if ["host", "content-length", "transfer-encoding"]
                        .iter()
                        .any(|n| option.eq_ignore_ascii_case(n.as_bytes()))
                    {
                        return Err(Refusal::Framing);
                    }
                }
            } else if is("http2-settings") {
                return Err(Refusal::Upgrade);
            } else if h.name.contains('_') && h.name.replace('_', "-").eq_ignore_ascii_case("content-length")
                || h.name.replace('_', "-").eq_ignore_ascii_case("transfer-encoding") && !is("transfer-encoding")
            {
                // Some servers read an underscore as a hyphen.
                return Err(Refusal::Framing);
            }
        }
        let upgrade = match upgrade {
            None if asks_upgrade => return Err(Refusal::Upgrade),
            None => false,
            Some(to) if to.eq_ignore_ascii_case(b"websocket") && asks_upgrade => true,
            Some(_) => return Err(Refusal::Upgrade),
        };
        Ok(Self { host: host.ok_or(Refusal::HostCount)?, length, chunked, upgrade, expect })
    }
}

/// What a server's first bytes say about the upgrade that the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete.
    Need,
    /// 101: both directions are now another protocol.
    Switched,
    /// Anything else: the connection goes on as HTTP.
    Refused,
}

/// Reads the head of the first final answer on a connection.
#[must_use]
pub fn upgrade_answer(mut bytes: &[u8]) -> Answer {
    loop {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > MAX_HEAD { Answer::Refused } else { Answer::Need };
        };
        let status = bytes.get(9..12);
        if !bytes.starts_with(b"HTTP/1.1 ") {
            return Answer::Refused;
        }
        match status {
            Some(b"101") => return Answer::Switched,
            Some([b'1', ..]) => bytes = &bytes[end + 4..],
            _ => return Answer::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a whole stream through, cut into pieces: what is passed on, and the verdict.
    fn run(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Result<u64, Refusal>) {
        let mut requests = Requests::new("a.example", 80);
        let (mut out, mut buffer, mut body) = (Vec::new(), Vec::new(), 0u64);
        let mut rest = stream;
        let mut cuts = cuts.iter().copied().chain(std::iter::repeat(usize::MAX));
        while !rest.is_empty() {
            let n = cuts.next().unwrap().clamp(1, rest.len());
            buffer.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            loop {
                if body > 0 {
                    let n = usize::try_from(body).unwrap_or(usize::MAX).min(buffer.len());
                    out.extend(buffer.drain(..n));
                    body -= n as u64;
                    if body > 0 {
                        break;
                    }
                }
                match requests.step(&buffer) {
                    Err(e) => return (out, Err(e)),
                    Ok(Step::Need) => break,
                    Ok(Step::Body(n)) => body = n,
                    Ok(Step::Forward { take, cut, .. }) => {
                        let mut part: Vec<u8> = buffer.drain(..take).collect();
                        if let Some(cut) = cut {
                            part.drain(cut);
                        }
                        out.extend(part);
                    }
                }
            }
        }
        (out, Ok(requests.count()))
    }

    fn verdict(s: &str) -> Result<u64, Refusal> {
        run(s.as_bytes(), &[]).1
    }

    const GOOD: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

    #[test]
    fn each_request_of_a_connection_is_checked() {
        assert_eq!(verdict(&GOOD.repeat(3)), Ok(3));
        let second = format!("{GOOD}GET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
        assert_eq!(verdict(&second), Err(Refusal::OtherHost));
        let after_body =
            "POST / HTTP/1.1\r\nHost: A.example:80\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: b\r\n\r\n";
        assert_eq!(verdict(after_body), Err(Refusal::OtherHost));
        let after_chunks = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n";
        assert_eq!(verdict(after_chunks), Err(Refusal::OtherHost));
        assert_eq!(verdict(&after_chunks.replace("Host: b\r", "Host: a.example\r")), Ok(2));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let with = |h: &str| verdict(&format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{h}\r\n"));
        assert_eq!(with(""), Ok(1));
        for (h, why) in [
            ("Host: a.example\r\n", Refusal::HostCount),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Refusal::Framing),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", Refusal::Framing),
            ("Content-Length: 1, 1\r\n", Refusal::Framing),
            ("Content-Length: +1\r\n", Refusal::Framing),
            ("Content_Length: 1\r\n", Refusal::Framing),
            ("Transfer-Encoding: gzip, chunked\r\n", Refusal::Framing),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refusal::Framing),
            ("Transfer-Encoding : chunked\r\n", Refusal::Malformed),
            ("X: 1\r\n folded\r\n", Refusal::Malformed),
            ("X: 1\nHost: b\r\n", Refusal::Malformed),
            ("X: 1\rHost: b\r\n", Refusal::Malformed),
            ("X: \0\r\n", Refusal::Malformed),
            ("Connection: close, Host\r\n", Refusal::Framing),
            (
                "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
                Refusal::Upgrade,
            ),
            ("Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n", Refusal::Upgrade),
            ("Upgrade: websocket\r\nConnection: Upgrade\r\n", Refusal::Upgrade),
            ("Expect: something\r\n", Refusal::Malformed),
        ] {
            assert_eq!(with(h), Err(why), "{h:?}");
        }
        for (s, why) in [
            ("CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n", Refusal::Connect),
            ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Refusal::OtherHost),
            ("GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Refusal::OtherHost),
            ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Refusal::OtherHost),
            ("GET x HTTP/1.1\r\nHost: a.example\r\n\r\n", Refusal::OtherHost),
            ("GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n", Refusal::OtherHost),
            ("GET / HTTP/1.1\r\nHost: a.example.\r\n\r\n", Refusal::OtherHost),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::HostCount),
            ("GET /\r\n\r\n", Refusal::Malformed),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::NotHttp),
            ("\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Refusal::NotHttp),
            ("SSH-2.0-x\r\n", Refusal::NotHttp),
        ] {
            let got = verdict(s);
            assert!(got == Err(why) || (why == Refusal::Malformed && got.is_err()), "{s:?}: {got:?}");
        }
        assert_eq!(verdict("GET http://A.example:80/x HTTP/1.1\r\nHost: a.example\r\n\r\n"), Ok(1));
        let chunks =
            |c: &str| verdict(&format!("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{c}"));
        assert_eq!(chunks("1\r\nx\r\n0\r\n\r\n"), Ok(1));
        for c in [
            "1\nx\r\n0\r\n\r\n",
            "0x1\r\nx\r\n",
            "1 \r\nx\r\n",
            "\r\n",
            "1\r\nxx\r\n",
            "1;a\nb\r\nx\r\n",
            "0\r\nHost: b\r\n\r\n",
            "10000000000000000\r\n",
        ] {
            assert!(chunks(c).is_err(), "{c:?}");
        }
    }

    #[test]
    fn the_end_of_chunks_may_be_cut_anywhere() {
        let s = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        for at in 1..s.len() {
            assert_eq!(run(s.as_bytes(), &[at]), (s.as_bytes().to_vec(), Ok(1)), "{at}");
        }
    }

    #[test]
    fn expect_is_taken_out_and_a_websocket_goes_through() {
        let s = "POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok";
        let (out, n) = run(s.as_bytes(), &[]);
        assert_eq!(n, Ok(1));
        assert_eq!(String::from_utf8(out).unwrap(), s.replace("Expect: 100-continue\r\n", ""));
        let mut r = Requests::new("a.example", 80);
        let ws = b"GET /s HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert!(matches!(r.step(ws), Ok(Step::Forward { upgrade: true, .. })));
        assert_eq!(upgrade_answer(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 101 S\r\n\r\n"), Answer::Switched);
        assert_eq!(upgrade_answer(b"HTTP/1.1 200 OK\r\n\r\n"), Answer::Refused);
        assert_eq!(upgrade_answer(b"HTTP/1.1 101 S\r\n"), Answer::Need);
    }

    #[test]
    fn protocols_are_told_apart() {
        assert_eq!(looks_like_http(b"GET / H"), Some(true));
        assert_eq!(looks_like_http(b"GE"), None);
        assert_eq!(looks_like_http(b"EHLO me\r\n"), Some(false));
        assert_eq!(looks_like_http(b"ehlo me\r\n"), Some(false));
        assert_eq!(looks_like_http(b"get / HTTP/1.1\r\n"), Some(true));
        assert_eq!(looks_like_http(b"host x\0"), Some(false));
        assert_eq!(blank(b"\r\n\nGET /\r\n"), 3);
        assert_eq!(looks_like_http(b"PURGE /x HTTP/1.1\r\n"), Some(true));
        assert_eq!(looks_like_http(b"\0\0\0\x08"), Some(false));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), tail in "[ -~\r\n]{0,300}") {
            let _ = run(&bytes, &[7]);
            let mut s = GOOD.as_bytes()[..20].to_vec();
            s.extend(tail.as_bytes());
            let _ = run(&s, &[3]);
        }

        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(1usize..30, 0..60), host in prop_oneof!["a.example", "b.example"], body in "[a-z]{0,40}", change in any::<prop::sample::Index>(), to in any::<u8>(), mutate in any::<bool>()) {
            let mut s = format!("{GOOD}POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n{body}PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: {host}\r\n\r\n", body.len()).into_bytes();
            if mutate {
                let i = change.index(s.len());
                s[i] = to;
            }
            let whole = run(&s, &[]);
            let pieces = run(&s, &cuts);
            prop_assert_eq!(&whole.1.is_ok(), &pieces.1.is_ok());
            if whole.1.is_ok() { prop_assert_eq!(whole.1, pieces.1); prop_assert_eq!(whole.0, pieces.0); }
        }
    }
}
