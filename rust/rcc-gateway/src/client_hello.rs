//! Pure: follows the plaintext part of a TLS client's bytes and demands that every `ClientHello` names one server.
//!
//! Strict on purpose: what a server might read in two ways is refused. Anything but a TLS record stream, a hello that
//! has no or another server name, and encrypted client hellos (a second, hidden name) end the connection. After the
//! first hello it goes on watching until the client's bytes are encrypted, because a `HelloRetryRequest` makes a client
//! send a second hello in the clear, and that one could name another server. Early data does not end the watch: a
//! server that answers with a `HelloRetryRequest` passes over it. (RFC 8446, sections 4.1.2, 4.2.10, 5.1, D.4.)

/// Why a connection is not the TLS connection that it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no TLS records.
    #[error("not TLS")]
    NotTls,
    /// The records are TLS, but not a well-formed hello.
    #[error("malformed ClientHello")]
    Malformed,
    /// The hello is longer than [`MAX_HELLO`], or plaintext records go on for too long.
    #[error("ClientHello too long")]
    TooLong,
    /// No server name.
    #[error("no SNI")]
    NoName,
    /// The server name is not the one that was dialled.
    #[error("SNI names another host")]
    OtherName,
    /// An encrypted hello: it hides a second name.
    #[error("encrypted ClientHello (ECH), which hides a second name")]
    Encrypted,
}

/// The longest `ClientHello`, in bytes.
pub const MAX_HELLO: usize = 64 * 1024;
/// The most plaintext bytes that may follow the first hello (client certificates) before the stream is encrypted.
const MAX_PLAIN: usize = 256 * 1024;

/// What the guard knows so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first hello is not complete: nothing may be passed on.
    Waiting,
    /// The first hello is right: what came may be passed on; feed what follows.
    Named,
    /// From here on the client's bytes are encrypted.
    Encrypted,
}

/// Follows one client's bytes.
#[derive(Debug)]
pub struct Guard {
    name: String,
    header: [u8; 5],
    have: usize,
    /// Bytes of the current record's payload that are still to come.
    left: usize,
    payload: Vec<u8>,
    hello: Vec<u8>,
    in_hello: bool,
    changed_cipher: bool,
    /// A hello announced early data: encrypted records may be followed by a hello in the clear.
    early_data: bool,
    plain: usize,
    state: State,
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// The extension of that name (RFC 8446, section 4.2.10).
const EARLY_DATA: u16 = 42;

impl Guard {
    /// A guard for connections to `name`, given without a trailing dot.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_ascii_lowercase(),
            header: [0; 5],
            have: 0,
            left: 0,
            payload: Vec::new(),
            hello: Vec::new(),
            in_hello: true,
            changed_cipher: false,
            early_data: false,
            plain: 0,
            state: State::Waiting,
        }
    }

    /// Takes the next bytes, in any pieces. After an error or [`State::Encrypted`] nothing more need be fed.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<State, Refusal> {
        while !bytes.is_empty() && self.state != State::Encrypted {
            if self.have < 5 {
                self.header[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                self.check_header()?;
                continue;
            }
            let n = self.left.min(bytes.len());
            if self.header[0] != APPLICATION_DATA {
                self.payload.extend_from_slice(&bytes[..n]);
                self.plain += n;
            }
            bytes = &bytes[n..];
            self.left -= n;
            if self.plain > MAX_PLAIN {
                return Err(Refusal::TooLong);
            }
            if self.left == 0 {
                self.have = 0;
                self.record()?;
                self.payload.clear();
            }
        }
        if self.state == State::Encrypted {
            self.payload = Vec::new();
            self.hello = Vec::new();
        }
        Ok(self.state)
    }

    /// Refuses as early as it can, so that another protocol is told apart by its first byte.
    fn check_header(&mut self) -> Result<(), Refusal> {
        let first = self.state == State::Waiting;
        match self.have {
            1 if first && self.header[0] != HANDSHAKE => Err(Refusal::NotTls),
            1 if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&self.header[0]) => Err(Refusal::NotTls),
            2 if self.header[1] != 3 => Err(Refusal::NotTls),
            3 if self.header[2] > 4 => Err(Refusal::NotTls),
            5 => {
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                // 2^14 bytes and what encryption adds to it (RFC 5246, 6.2.3).
                let longest = if first { 1 << 14 } else { (1 << 14) + 2048 };
                if self.left == 0 || self.left > longest {
                    return Err(Refusal::Malformed);
                }
                if !first && self.header[0] == APPLICATION_DATA && !self.early_data {
                    self.state = State::Encrypted;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A whole record lies in `payload`.
    fn record(&mut self) -> Result<(), Refusal> {
        match self.header[0] {
            HANDSHAKE if self.in_hello => self.hello_part(),
            // Between the parts of one message there may be no record of another kind.
            _ if self.in_hello => Err(Refusal::Malformed),
            HANDSHAKE if self.begins_hello() => {
                self.in_hello = true;
                self.hello_part()
            }
            // In TLS 1.2 what follows the change of cipher is the Finished message, encrypted.
            HANDSHAKE if self.changed_cipher => {
                self.state = State::Encrypted;
                Ok(())
            }
            CHANGE_CIPHER_SPEC => {
                self.changed_cipher = true;
                Ok(())
            }
            HANDSHAKE | ALERT | APPLICATION_DATA => Ok(()),
            _ => Err(Refusal::Malformed),
        }
    }

    /// Whether a later handshake record begins another `ClientHello`. In the clear its first byte says so. After a change
    /// of cipher it may be TLS 1.2's encrypted Finished instead: then one that could begin a hello of a length that some
    /// server takes (OpenSSL: 131,396 bytes) is held for one. It is refused wrongly with a chance of 3 in 2^16.
    fn begins_hello(&self) -> bool {
        match self.payload[..] {
            [1] => true,
            [1, length, ..] => !self.changed_cipher || length <= 2,
            _ => false,
        }
    }

    fn hello_part(&mut self) -> Result<(), Refusal> {
        self.hello.extend_from_slice(&self.payload);
        if self.hello[0] != 1 {
            return Err(Refusal::Malformed);
        }
        let Some(&[a, b, c]) = self.hello.get(1..4).and_then(|l| <&[u8; 3]>::try_from(l).ok()) else { return Ok(()) };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > MAX_HELLO {
            return Err(Refusal::TooLong);
        }
        if self.hello.len() < 4 + length {
            return Ok(());
        }
        if self.hello.len() > 4 + length {
            return Err(Refusal::Malformed);
        }
        self.early_data |= check_hello(&self.hello[4..], &self.name)?;
        self.hello.clear();
        self.in_hello = false;
        self.state = State::Named;
        Ok(())
    }
}

/// Whether the first bytes of a client's stream can begin a TLS `ClientHello`: `None` while they are too few to tell.
#[must_use]
pub fn looks_like_tls(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [HANDSHAKE, 3, ..] => Some(true),
        [] | [HANDSHAKE] => None,
        _ => Some(false),
    }
}

/// Whether a hello that names the server announces early data.
fn check_hello(body: &[u8], name: &str) -> Result<bool, Refusal> {
    let mut r = Reader(body);
    let version = r.take(2)?;
    if version[0] != 3 {
        return Err(Refusal::Malformed);
    }
    r.take(32)?;
    if r.vec8()?.len() > 32 {
        return Err(Refusal::Malformed);
    }
    let suites = r.vec16()?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err(Refusal::Malformed);
    }
    if r.vec8()?.is_empty() {
        return Err(Refusal::Malformed);
    }
    if r.0.is_empty() {
        return Err(Refusal::NoName);
    }
    let mut extensions = Reader(r.vec16()?);
    if !r.0.is_empty() {
        return Err(Refusal::Malformed);
    }
    let mut seen = Vec::new();
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = u16::from_be_bytes([extensions.take(1)?[0], extensions.take(1)?[0]]);
        let value = extensions.vec16()?;
        if seen.contains(&kind) || seen.len() > 100 {
            return Err(Refusal::Malformed);
        }
        seen.push(kind);
        match kind {
            0 => found = Some(server_name(value)?),
            // encrypted_client_hello (RFC 9849), its drafts, and ESNI before it.
            0xfe08..=0xfe0d | 0xffce => return Err(Refusal::Encrypted),
            _ => {}
        }
    }
    match found {
        None => Err(Refusal::NoName),
        Some(sni) if sni.eq_ignore_ascii_case(name.as_bytes()) => Ok(seen.contains(&EARLY_DATA)),
        Some(_) => Err(Refusal::OtherName),
    }
}

/// Exactly one name, of type `host_name` (RFC 6066, section 3).
fn server_name(value: &[u8]) -> Result<&[u8], Refusal> {
    let mut outer = Reader(value);
    let mut list = Reader(outer.vec16()?);
    if !outer.0.is_empty() || list.take(1)?[0] != 0 {
        return Err(Refusal::Malformed);
    }
    let name = list.vec16()?;
    if !list.0.is_empty() || name.is_empty() {
        return Err(Refusal::Malformed);
    }
    Ok(name)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Refusal> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(head)
    }
    fn vec8(&mut self) -> Result<&'a [u8], Refusal> {
        let n = usize::from(self.take(1)?[0]);
        self.take(n)
    }
    fn vec16(&mut self) -> Result<&'a [u8], Refusal> {
        let n = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([n[0], n[1]])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 3, 1];
        out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        out.extend(payload);
        out
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        out.extend(value);
        out
    }

    fn sni(name: &str) -> Vec<u8> {
        let n = u16::try_from(name.len()).unwrap();
        let mut v = (n + 3).to_be_bytes().to_vec();
        v.push(0);
        v.extend(n.to_be_bytes());
        v.extend(name.as_bytes());
        extension(0, &v)
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut out = vec![1, 0];
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    fn judge(bytes: &[u8]) -> Result<State, Refusal> {
        Guard::new("allowed.example").feed(bytes)
    }

    /// A hello as rustls makes it.
    fn real(name: &'static str) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut c = rustls::ClientConnection::new(
            std::sync::Arc::new(config),
            rustls::pki_types::ServerName::try_from(name).unwrap(),
        )
        .unwrap();
        let mut out = Vec::new();
        c.write_tls(&mut out).unwrap();
        out
    }

    #[test]
    fn a_real_hello_is_judged_by_its_name() {
        assert_eq!(judge(&real("allowed.example")), Ok(State::Named));
        assert_eq!(judge(&real("other.example")), Err(Refusal::OtherName));
        assert_eq!(judge(&real("sub.allowed.example")), Err(Refusal::OtherName));
        assert_eq!(judge(&real("192.0.2.1")), Err(Refusal::NoName));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let good = sni("allowed.example");
        let hello = |e: &[u8]| record(HANDSHAKE, &message(e));
        assert_eq!(judge(&hello(&good)), Ok(State::Named));
        assert_eq!(judge(&hello(&[good.clone(), good.clone()].concat())), Err(Refusal::Malformed));
        assert_eq!(judge(&hello(&[good.clone(), extension(0xfe0d, &[0; 9])].concat())), Err(Refusal::Encrypted));
        assert_eq!(judge(&hello(&[])), Err(Refusal::NoName));
        let mut two = sni("allowed.example");
        two[5] += 4;
        two[3] += 4;
        two.extend([0, 0, 1, b'x']);
        assert_eq!(judge(&hello(&two)), Err(Refusal::Malformed));
        let mut trailing = message(&good);
        trailing.push(0);
        assert_eq!(judge(&record(HANDSHAKE, &trailing)), Err(Refusal::Malformed));
        assert_eq!(judge(b"GET / HTTP/1.1\r\n"), Err(Refusal::NotTls));
        assert_eq!(judge(&[0x80, 0x2e, 1, 3, 1]), Err(Refusal::NotTls), "SSLv2");
        assert_eq!(judge(&[23, 3, 3, 0, 1, 0]), Err(Refusal::NotTls));
    }

    #[test]
    fn a_hello_over_many_records_is_followed() {
        let m = message(&sni("allowed.example"));
        let pieces: Vec<u8> = m.chunks(3).flat_map(|p| record(HANDSHAKE, p)).collect();
        assert_eq!(judge(&pieces), Ok(State::Named));
        let m = message(&sni("denied.example"));
        let pieces: Vec<u8> = m.chunks(1).flat_map(|p| record(HANDSHAKE, p)).collect();
        assert_eq!(judge(&pieces), Err(Refusal::OtherName));
        let mut broken = record(HANDSHAKE, &m[..20]);
        broken.extend(record(ALERT, &[1, 0]));
        assert!(judge(&broken).is_err());
    }

    #[test]
    fn a_second_hello_in_the_clear_must_name_the_same_server() {
        let first = record(HANDSHAKE, &message(&sni("allowed.example")));
        let ccs = record(CHANGE_CIPHER_SPEC, &[1]);
        for between in [vec![], ccs.clone()] {
            let same = [first.clone(), between.clone(), first.clone()].concat();
            assert_eq!(judge(&same), Ok(State::Named));
            let other = [first.clone(), between.clone(), record(HANDSHAKE, &message(&sni("denied.example")))].concat();
            assert_eq!(judge(&other), Err(Refusal::OtherName));
            let m = message(&sni("denied.example"));
            let split: Vec<u8> =
                [first.clone(), between, m.chunks(7).flat_map(|p| record(HANDSHAKE, p)).collect()].concat();
            assert_eq!(judge(&split), Err(Refusal::OtherName));
        }
        // Cut into bytes, of another version, or longer than a hello may be: a hello nevertheless.
        let denied = message(&sni("denied.example"));
        let mut odd = denied.clone();
        odd[4] = 2;
        let mut new = denied.clone();
        new[5] = 9;
        let mut long = denied.clone();
        long[1] = 1;
        let mut longest = denied.clone();
        longest[1] = 2;
        for between in [vec![], ccs.clone()] {
            let after = |hello: &[u8]| judge(&[first.clone(), between.clone(), hello.to_vec()].concat());
            let bytes: Vec<u8> = denied.chunks(1).flat_map(|p| record(HANDSHAKE, p)).collect();
            assert_eq!(after(&bytes), Err(Refusal::OtherName));
            assert_eq!(after(&record(HANDSHAKE, &new)), Err(Refusal::OtherName));
            assert_eq!(after(&record(HANDSHAKE, &odd)), Err(Refusal::Malformed));
            assert_eq!(after(&record(HANDSHAKE, &long)), Err(Refusal::TooLong));
            assert_eq!(after(&record(HANDSHAKE, &longest)), Err(Refusal::TooLong));
        }
        let mut huge = denied;
        huge[1] = 200;
        assert_eq!(judge(&[first.clone(), record(HANDSHAKE, &huge)].concat()), Err(Refusal::TooLong));
        // Early data, which a server that asks for another hello passes over.
        let early = record(HANDSHAKE, &message(&[sni("allowed.example"), extension(EARLY_DATA, &[])].concat()));
        let data = record(APPLICATION_DATA, &[9; 16_000]).repeat(40);
        assert_eq!(judge(&[early.clone(), data.clone()].concat()), Ok(State::Named));
        let other = record(HANDSHAKE, &message(&sni("denied.example")));
        assert_eq!(judge(&[early, data, other].concat()), Err(Refusal::OtherName));
        assert_eq!(
            judge(&[first.clone(), ccs.clone(), record(APPLICATION_DATA, &[9; 40])].concat()),
            Ok(State::Encrypted)
        );
        let tls12 = [first, record(HANDSHAKE, &[16, 0, 0, 1, 0]), ccs, record(HANDSHAKE, &[0x5a; 40])].concat();
        assert_eq!(judge(&tls12), Ok(State::Encrypted));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = judge(&bytes);
            let mut tls = vec![22, 3, 1];
            tls.extend(bytes);
            let _ = judge(&tls);
        }

        #[test]
        fn a_changed_hello_never_panics(at in 0usize..200, to in any::<u8>()) {
            let mut b = real("allowed.example");
            let at = at % b.len();
            b[at] = to;
            let _ = judge(&b);
        }

        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(1usize..40, 1..80), name in prop_oneof!["allowed.example", "x.example"]) {
            let mut b = record(HANDSHAKE, &message(&sni(&name)));
            b.extend(record(CHANGE_CIPHER_SPEC, &[1]));
            b.extend(record(HANDSHAKE, &message(&sni("allowed.example"))));
            let whole = judge(&b);
            let mut g = Guard::new("allowed.example");
            let mut last = Ok(State::Waiting);
            let mut rest = &b[..];
            for c in cuts.iter().cycle() {
                if rest.is_empty() || last.is_err() { break }
                let (a, r) = rest.split_at((*c).min(rest.len()));
                last = g.feed(a);
                rest = r;
            }
            prop_assert_eq!(last, whole);
        }
    }
}
