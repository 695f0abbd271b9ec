//! The gateway's own resolver: asks the machine's resolvers (or those of the policy) for the addresses of an allowed
//! name. A stub: no search domains, no hosts file, one question a query. Each query goes from a fresh, connected socket
//! with a random number, and only an answer to that very question counts.

use super::relay::abort_on_close;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use rcc_host::resolv_conf;
use rcc_policy::{HostName, Ipv6Net, Resolvers};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;

/// How long one resolver has for one answer; each is tried twice.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Answers are remembered for so long at most, so that a changed record is soon seen; and never longer than its TTL.
const LONGEST: Duration = Duration::from_secs(60);
/// Names that are remembered.
const CACHE: usize = 256;
/// Addresses of each kind that are used of one answer.
const ADDRESSES: usize = 8;
/// Queries at once.
const QUERIES: usize = 32;

/// Why there are no addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The name does not exist, or has no address.
    #[error("the name has no address")]
    NoAddress,
    /// No resolver answered.
    #[error("no resolver answered: {0}")]
    Unreachable(String),
}

/// What is remembered of a name: its addresses, until when.
type Cached = (Instant, Rc<[IpAddr]>);

/// Asks, and remembers.
pub struct Resolver {
    from: Resolvers,
    cache: RefCell<HashMap<HostName, Cached>>,
    system: RefCell<(Option<SystemTime>, Vec<SocketAddr>)>,
    nat64: RefCell<Option<(Instant, Rc<[Ipv6Net]>)>>,
    queries: Semaphore,
    /// The resolver that answered last is asked first.
    first: Cell<usize>,
}

impl Resolver {
    /// A resolver that has asked nothing yet.
    pub fn new(from: Resolvers) -> Self {
        Self {
            from,
            cache: RefCell::default(),
            system: RefCell::default(),
            nat64: RefCell::default(),
            queries: Semaphore::new(QUERIES),
            first: Cell::new(0),
        }
    }

    /// The name's addresses, IPv6 and IPv4, as they came: nothing is judged here.
    pub async fn addresses(&self, name: &HostName) -> Result<Rc<[IpAddr]>, Failure> {
        if let Some((until, addresses)) = self.cache.borrow().get(name)
            && *until > Instant::now()
        {
            return Ok(addresses.clone());
        }
        let (v4, v6) = tokio::join!(self.query(name, RecordType::A), self.query(name, RecordType::AAAA));
        let (mut addresses, mut ttl) = (Vec::new(), LONGEST);
        let mut failure = None;
        for answer in [v6, v4] {
            match answer {
                Ok((found, seconds)) => {
                    if !found.is_empty() {
                        ttl = ttl.min(Duration::from_secs(seconds.into()));
                    }
                    addresses.extend(found.into_iter().take(ADDRESSES));
                }
                Err(e) => failure = Some(e),
            }
        }
        if addresses.is_empty() {
            return Err(failure.unwrap_or(Failure::NoAddress));
        }
        let addresses: Rc<[IpAddr]> = addresses.into();
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHE {
            let now = Instant::now();
            cache.retain(|_, (until, _)| *until > now);
            if cache.len() >= CACHE {
                cache.clear();
            }
        }
        if failure.is_none() && !ttl.is_zero() {
            cache.insert(name.clone(), (Instant::now() + ttl, addresses.clone()));
        }
        Ok(addresses)
    }

    /// The prefixes by which this network translates IPv4 (RFC 7050), asked for when first needed.
    pub async fn nat64(&self) -> Rc<[Ipv6Net]> {
        if let Some((until, prefixes)) = &*self.nat64.borrow()
            && *until > Instant::now()
        {
            return prefixes.clone();
        }
        let mut prefixes = Vec::new();
        if let Ok(name) = HostName::parse("ipv4only.arpa")
            && let Ok((found, _)) = self.query(&name, RecordType::AAAA).await
        {
            prefixes
                .extend(found.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { nat64_prefix(*ip) } else { None }));
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let prefixes: Rc<[Ipv6Net]> = prefixes.into();
        *self.nat64.borrow_mut() = Some((Instant::now() + Duration::from_secs(300), prefixes.clone()));
        prefixes
    }

    async fn query(&self, name: &HostName, kind: RecordType) -> Result<(Vec<IpAddr>, u32), Failure> {
        let unreachable = |e: &dyn std::fmt::Display| Failure::Unreachable(e.to_string());
        let _turn = self.queries.acquire().await.map_err(|e| unreachable(&e))?;
        let servers = self.servers().map_err(|e| unreachable(&e))?;
        if servers.is_empty() {
            return Err(unreachable(&"none is known"));
        }
        let mut last = None;
        for i in 0..servers.len() * 2 {
            let n = (self.first.get() + i) % servers.len();
            match tokio::time::timeout(PATIENCE, ask(servers[n], name, kind)).await {
                Ok(Ok(answer)) => {
                    self.first.set(n);
                    return answer.ok_or(Failure::NoAddress);
                }
                Ok(Err(e)) => last = Some(e),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(unreachable(&last.map_or_else(String::new, |e| e.to_string())))
    }

    fn servers(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.from {
            Resolvers::Given(given) => Ok(given.iter().map(|r| r.address).collect()),
            Resolvers::System => {
                let changed = std::fs::metadata(resolv_conf::RESOLV_CONF)?.modified().ok();
                let mut system = self.system.borrow_mut();
                if changed.is_none() || system.0 != changed {
                    let text = rcc_host::trusted::read_plain(Path::new(resolv_conf::RESOLV_CONF))?;
                    *system = (changed, resolv_conf::nameservers(&String::from_utf8_lossy(&text)));
                    self.cache.borrow_mut().clear();
                }
                Ok(system.1.clone())
            }
        }
    }
}

/// One query to one resolver: its addresses and their least TTL; `None` if the name has none.
async fn ask(server: SocketAddr, name: &HostName, kind: RecordType) -> io::Result<Option<(Vec<IpAddr>, u32)>> {
    let mut number = [0; 2];
    getrandom::fill(&mut number).map_err(io::Error::other)?;
    let mut query = Message::new();
    query.set_id(u16::from_be_bytes(number));
    query.set_recursion_desired(true);
    let full = Name::from_ascii(format!("{name}.")).map_err(io::Error::other)?;
    let question = Query::query(full, kind);
    query.add_query(question.clone());
    let bytes = query.to_vec().map_err(io::Error::other)?;

    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.connect(&server.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&bytes).await?;
    let mut buffer = [0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..n]) else { continue };
        if !answers(&answer, &query, &question) {
            continue;
        }
        let answer = if answer.truncated() { by_tcp(server, &bytes, &query, &question).await? } else { answer };
        return read(&answer, kind);
    }
}

async fn by_tcp(server: SocketAddr, bytes: &[u8], query: &Message, question: &Query) -> io::Result<Message> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    abort_on_close(&socket)?;
    let mut stream = socket.connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
    if answers(&answer, query, question) { Ok(answer) } else { Err(io::Error::other("an answer to another question")) }
}

fn answers(answer: &Message, query: &Message, question: &Query) -> bool {
    answer.id() == query.id()
        && answer.message_type() == MessageType::Response
        && matches!(answer.queries(), [q] if q.name().eq_ignore_root_and_case(question.name()) && q.query_type() == question.query_type())
}

trait SameName {
    fn eq_ignore_root_and_case(&self, other: &Self) -> bool;
}

impl SameName for Name {
    fn eq_ignore_root_and_case(&self, other: &Self) -> bool {
        self.iter().count() == other.iter().count()
            && self.iter().zip(other.iter()).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

/// The addresses in an answer. The chain of aliases is the resolver's affair: it is asked for nothing more.
fn read(answer: &Message, kind: RecordType) -> io::Result<Option<(Vec<IpAddr>, u32)>> {
    match answer.response_code() {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Ok(None),
        code => return Err(io::Error::other(code.to_string())),
    }
    let (mut found, mut ttl) = (Vec::new(), u32::MAX);
    for record in answer.answers() {
        let ip = match (record.data(), kind) {
            (RData::A(a), RecordType::A) => IpAddr::V4(a.0),
            (RData::AAAA(a), RecordType::AAAA) => IpAddr::V6(a.0),
            _ => continue,
        };
        ttl = ttl.min(record.ttl());
        found.push(ip);
    }
    Ok(Some((found, ttl)))
}

/// The prefix by which `ipv4only.arpa`'s 192.0.0.170 or .171 was put into an IPv6 address (RFC 6052, section 2.2).
fn nat64_prefix(ip: Ipv6Addr) -> Option<Ipv6Net> {
    let o = ip.octets();
    let is_well_known = |v4: [u8; 4]| v4 == [192, 0, 0, 170] || v4 == [192, 0, 0, 171];
    let forms: [(u8, [usize; 4]); 6] = [
        (96, [12, 13, 14, 15]),
        (64, [9, 10, 11, 12]),
        (56, [7, 9, 10, 11]),
        (48, [6, 7, 9, 10]),
        (40, [5, 6, 7, 9]),
        (32, [4, 5, 6, 7]),
    ];
    let (length, _) = forms.into_iter().find(|(_, at)| is_well_known(at.map(|i| o[i])))?;
    Ipv6Net::new(ip, length).ok().map(|n| n.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_translator_is_found() {
        let p = |s: &str| nat64_prefix(s.parse().unwrap()).map(|n| n.to_string());
        assert_eq!(p("64:ff9b::c000:aa"), Some("64:ff9b::/96".into()));
        assert_eq!(p("2001:db8:1:2:c0:0:ab00:0"), Some("2001:db8:1:2::/64".into()));
        assert_eq!(p("2001:db8::1"), None);
    }
}
