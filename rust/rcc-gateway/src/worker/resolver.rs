//! The gateway's own resolver: asks the machine's resolvers (or those of the policy) for the addresses of an allowed
//! name. A stub: no search domains, no hosts file, one question a query. Each query goes from a fresh, connected socket
//! with a random number, and only an answer to that very question counts.

use super::relay::abort_on_close;
use super::tls::{Trust, Within};
use rcc_host::dns::{Answer, Question, RecordType};
use rcc_host::resolv_conf;
use rcc_policy::{HostName, Ipv6Net, Resolver as Server, Resolvers, Tls, address};
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

/// How long one resolver has for one answer; each is tried twice.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Answers are remembered for so long at most, so that a changed record is soon seen; and never longer than its TTL.
const LONGEST: Duration = Duration::from_secs(60);
/// Names that are remembered.
const CACHE: usize = 256;
/// Addresses of each kind that are used of one answer.
const ADDRESSES: usize = 8;
/// How long it is known by which prefixes the network translates.
const TRANSLATES: Duration = Duration::from_secs(300);
/// How long it stays unknown, when no resolver told: so long no IPv6 address is used, and nobody is asked again.
const UNKNOWN: Duration = Duration::from_secs(2);
/// How long a resolver's TLS connection is kept without a question: most servers close theirs later.
const IDLE: Duration = Duration::from_secs(5);
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
/// The prefixes of the network's translators, or why they are not known, until when.
type Translators = (Instant, Result<Rc<[Ipv6Net]>, Failure>);

/// Asks, and remembers.
pub struct Resolver {
    from: Resolvers,
    cache: RefCell<HashMap<HostName, Cached>>,
    /// The machine's resolv.conf, as the supervisor keeps it; what was read of it last.
    resolv_conf: File,
    system: RefCell<(Vec<u8>, Rc<[Server]>)>,
    nat64: RefCell<Option<Translators>>,
    trust: Rc<Trust>,
    /// Connections to resolvers that are asked by TLS, between two questions.
    idle: RefCell<Vec<(SocketAddr, Instant, TlsStream<TcpStream>)>>,
    queries: Semaphore,
    /// The resolver that answered last is asked first.
    first: Cell<usize>,
}

impl Resolver {
    /// A resolver that has asked nothing yet.
    pub fn new(from: Resolvers, resolv_conf: File, trust: Rc<Trust>) -> Self {
        Self {
            from,
            resolv_conf,
            trust,
            idle: RefCell::default(),
            cache: RefCell::default(),
            system: RefCell::new((Vec::new(), Rc::from([]))),
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

    /// The prefixes by which this network translates IPv4 (RFC 7050), asked for when first needed. What no resolver told
    /// is not known: an address that could be a translation can't be judged then.
    pub async fn nat64(&self) -> Result<Rc<[Ipv6Net]>, Failure> {
        if let Some((until, known)) = &*self.nat64.borrow()
            && *until > Instant::now()
        {
            return known.clone();
        }
        let name = HostName::parse("ipv4only.arpa").map_err(|e| Failure::Unreachable(e.to_string()))?;
        let known = match self.query(&name, RecordType::AAAA).await {
            Ok((found, _)) => {
                let prefix = |ip: IpAddr| if let IpAddr::V6(ip) = ip { address::nat64_prefix(ip) } else { None };
                let mut prefixes: Vec<_> =
                    found.into_iter().filter_map(prefix).filter(address::may_translate).collect();
                prefixes.sort_unstable();
                prefixes.dedup();
                Ok(prefixes.into())
            }
            Err(Failure::NoAddress) => Ok(Rc::from([])),
            Err(e) => Err(e),
        };
        let lasts = if known.is_ok() { TRANSLATES } else { UNKNOWN };
        *self.nat64.borrow_mut() = Some((Instant::now() + lasts, known.clone()));
        known
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
            match tokio::time::timeout(PATIENCE, self.ask(&servers[n], name, kind)).await {
                Ok(Ok(answer)) => {
                    self.first.set(n);
                    return match answer {
                        Answer::Addresses(found, ttl) => Ok((found, ttl)),
                        Answer::NoName => Err(Failure::NoAddress),
                        Answer::Truncated => Err(unreachable(&"an answer that is cut off")),
                    };
                }
                Ok(Err(e)) => last = Some(e),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(unreachable(&last.map_or_else(String::new, |e| e.to_string())))
    }

    fn servers(&self) -> io::Result<Rc<[Server]>> {
        match &self.from {
            Resolvers::Given(given) => Ok(given.as_slice().into()),
            Resolvers::System => {
                let mut text = vec![0; resolv_conf::LONGEST];
                let n = self.resolv_conf.read_at(&mut text, 0)?;
                text.truncate(n);
                if text.is_empty() {
                    return Err(io::Error::other("the machine's resolv.conf can't be read"));
                }
                let mut system = self.system.borrow_mut();
                if system.0 != text {
                    let found = resolv_conf::nameservers(&String::from_utf8_lossy(&text));
                    *system = (text, found.into_iter().map(|address| Server { address, tls: None }).collect());
                    // Another network: what names and translators were in the last one is of no use.
                    self.cache.borrow_mut().clear();
                    self.nat64.borrow_mut().take();
                }
                Ok(system.1.clone())
            }
        }
    }

    /// One query to one resolver. One that is to be asked by TLS is asked by nothing else.
    async fn ask(&self, server: &Server, name: &HostName, kind: RecordType) -> io::Result<Answer> {
        let question = Question::new(name, kind)?;
        match &server.tls {
            Some(certificate) => self.by_tls(server.address, certificate, &question).await,
            None => by_datagram(server.address, &question).await,
        }
    }

    /// By a connection that is there already, or by a new one if there is none or it has ended meanwhile.
    async fn by_tls(&self, server: SocketAddr, certificate: &Tls, question: &Question) -> io::Result<Answer> {
        while let Some(mut stream) = self.idle(server) {
            if let Ok(answer) = exchange(&mut stream, question).await {
                self.idle.borrow_mut().push((server, Instant::now(), stream));
                return Ok(answer);
            }
        }
        let name = match certificate {
            Tls::Name(name) => ServerName::try_from(name.to_string()).map_err(io::Error::other)?,
            Tls::Address => server.ip().into(),
        };
        let stream = connect(server).await?;
        let mut stream = self.trust.connect(name, stream, Within::Any).await?;
        let answer = exchange(&mut stream, question).await?;
        self.idle.borrow_mut().push((server, Instant::now(), stream));
        Ok(answer)
    }

    fn idle(&self, server: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, since, _)| since.elapsed() < IDLE);
        let at = idle.iter().position(|(of, ..)| *of == server)?;
        Some(idle.swap_remove(at).2)
    }
}

async fn by_datagram(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&server.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(question.datagram()).await?;
    let mut buffer = [0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await?;
        match question.answer(&buffer[..n]) {
            None => {}
            Some(Ok(Answer::Truncated)) => return exchange(&mut connect(server).await?, question).await,
            Some(answer) => return answer,
        }
    }
}

async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    abort_on_close(&socket)?;
    socket.connect(server).await
}

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), question: &Question) -> io::Result<Answer> {
    stream.write_all(&question.framed()?).await?;
    stream.flush().await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    question.answer(&answer).unwrap_or_else(|| Err(io::Error::other("an answer to another question")))
}
