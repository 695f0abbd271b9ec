//! Connects to what a decision allows: resolves the name, judges each address, tries those that are left.
//!
//! Invariant: no connection to an address that the policy does not allow for that name and port, nor to one of this
//! machine's own, nor (unless the policy gives a private range, or calls it made up) to one on its links. The proxy's own
//! address, if the policy gives it, is the exception. What a proxy connects to is judged as far as it is known here.

use super::proxy::Proxy;
use super::relay::{abort_on_close, tune};
use super::resolver::{Failure, Resolver};
use super::tls::Trust;
use super::way::Way;
use rcc_host::net::HostNet;
use rcc_policy::{HostName, Ipv6Net, ProxyHost, Ranges, Resolved};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// How long one address has before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// How long all of them have.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a look-up may take by which a proxy's target is judged: there, resolvers may not know names outside.
const GLANCE: Duration = Duration::from_secs(1);

/// Where to.
#[derive(Clone, Copy, Debug)]
pub enum Whither<'a> {
    /// A name, which is resolved.
    Name(&'a HostName),
    /// An address that the policy names.
    Address(IpAddr),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// None of the name's addresses may be used: an attempt at rebinding, or a private name without a `private` entry.
    #[error("no usable address: {0}")]
    Forbidden(String),
    /// The name could not be resolved.
    #[error("{0}")]
    Unresolved(#[from] Failure),
    /// The proxy has not connected.
    #[error("the proxy has not connected, by its status {0}")]
    Proxy(u16),
    /// No address accepted.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Dials.
pub struct Dialer {
    resolver: Resolver,
    proxy: Option<Proxy>,
    trust: Rc<Trust>,
    host: RefCell<Option<(Instant, Rc<HostNet>)>>,
}

/// A connection, and by which proxy.
pub struct Reached {
    /// The connection.
    pub way: Way,
    /// The proxy's URL.
    pub proxy: Option<String>,
}

impl Dialer {
    /// With a resolver of its own, and a proxy if that is the way out.
    pub fn new(resolver: Resolver, proxy: Option<Proxy>, trust: Rc<Trust>) -> Self {
        Self { resolver, proxy, trust, host: RefCell::new(None) }
    }

    /// Connects to the name or address at `port`: private endpoints directly, all others by the proxy if there is one.
    pub async fn connect(
        &self,
        policy: &Resolved,
        to: Whither<'_>,
        port: u16,
        private: Option<&Ranges>,
    ) -> Result<Reached, Failed> {
        if let (Some(proxy), None) = (&self.proxy, private) {
            let way = self.by_proxy(policy, proxy, to, port).await?;
            return Ok(Reached { way, proxy: Some(proxy.facts.to_string()) });
        }
        let way = Way::Plain(self.direct(policy, to, port, private).await?);
        Ok(Reached { way, proxy: None })
    }

    /// A proxy resolves names itself. What this machine's resolvers say of one must be all allowed; they need not know it.
    async fn by_proxy(&self, policy: &Resolved, proxy: &Proxy, to: Whither<'_>, port: u16) -> Result<Way, Failed> {
        let (known, target) = match to {
            Whither::Address(ip) => (Rc::from([ip]), SocketAddr::new(ip, port).to_string()),
            Whither::Name(name) => {
                let known = tokio::time::timeout(GLANCE, self.resolver.addresses(name)).await;
                (known.ok().and_then(Result::ok).unwrap_or_else(|| Rc::from([])), format!("{name}:{port}"))
            }
        };
        let host = self.host()?;
        let nat64 = self.translators(&known, &host).await.unwrap_or_else(|_| Rc::from([]));
        for ip in known.iter().map(IpAddr::to_canonical) {
            judge(policy, &host, ip, port, None, &nat64).map_err(Failed::Forbidden)?;
        }
        let at = proxy.facts.port;
        let stream = match &proxy.facts.host {
            // Root's word: it may be this machine's own.
            ProxyHost::Address(ip) => within_patience(vec![SocketAddr::new(*ip, at)]).await?,
            ProxyHost::Name(name) => {
                let via = proxy.facts.via.map(Ranges::from);
                self.direct(policy, Whither::Name(name), at, via.as_ref()).await?
            }
        };
        proxy.tunnel(stream, &self.trust, &target).await
    }

    async fn direct(
        &self,
        policy: &Resolved,
        to: Whither<'_>,
        port: u16,
        private: Option<&Ranges>,
    ) -> Result<TcpStream, Failed> {
        let addresses = match to {
            Whither::Address(ip) => Rc::from([ip]),
            Whither::Name(name) => self.resolver.addresses(name).await?,
        };
        let host = self.host()?;
        let (nat64, unknown) = match self.translators(&addresses, &host).await {
            Ok(known) => (known, None),
            Err(e) => (Rc::from([]), Some(e)),
        };
        let (mut good, mut why) = (Vec::new(), None);
        for ip in addresses.iter().map(IpAddr::to_canonical) {
            let by_way_of = private.is_some() || is_made_up(policy, ip);
            match judge(policy, &host, ip, port, private, &nat64) {
                Ok(()) if ip.is_ipv6() && !by_way_of && (!host.v6 || unknown.is_some()) => {}
                Ok(()) => good.push(SocketAddr::new(ip, port)),
                Err(reason) => why = Some(reason),
            }
        }
        if good.is_empty() {
            return Err(match (why, unknown) {
                (Some(reason), _) => Failed::Forbidden(reason),
                (None, Some(failure)) => failure.into(),
                (None, None) => io::Error::from(io::ErrorKind::NetworkUnreachable).into(),
            });
        }
        Ok(within_patience(good).await?)
    }

    /// By which prefixes the network translates, if any of the addresses could be used and be a translation.
    async fn translators(&self, addresses: &[IpAddr], host: &HostNet) -> Result<Rc<[Ipv6Net]>, Failure> {
        if host.v6 && addresses.iter().any(|ip| ip.to_canonical().is_ipv6()) {
            self.resolver.nat64().await
        } else {
            Ok(Rc::from([]))
        }
    }

    /// The machine's addresses and links, read again after a second.
    fn host(&self) -> io::Result<Rc<HostNet>> {
        let mut cached = self.host.borrow_mut();
        if let Some((at, host)) = &*cached
            && at.elapsed() < Duration::from_secs(1)
        {
            return Ok(host.clone());
        }
        let host = Rc::new(rcc_host::net()?);
        *cached = Some((Instant::now(), host.clone()));
        Ok(host)
    }
}

fn judge(
    policy: &Resolved,
    host: &HostNet,
    ip: IpAddr,
    port: u16,
    private: Option<&Ranges>,
    nat64: &[Ipv6Net],
) -> Result<(), String> {
    let inner = rcc_policy::address::embedded(ip, nat64);
    for seen in [Some(ip), inner].into_iter().flatten() {
        if seen.is_loopback() || seen.is_unspecified() || seen.is_multicast() || host.is_own(seen) {
            return Err(format!("{seen} is this machine's own"));
        }
        // A VPN's made-up addresses may be a link's.
        if private.is_none() && host.is_on_link(seen) && !is_made_up(policy, seen) {
            return Err(format!("{seen} is on a network of this machine's"));
        }
    }
    policy.may_connect(private, ip, port, nat64).map_err(|(reason, detail)| format!("{reason}: {detail}"))
}

/// Whether the policy says that a VPN makes up such addresses.
fn is_made_up(policy: &Resolved, ip: IpAddr) -> bool {
    policy.fake_ip.iter().any(|range| range.contains(&ip))
}

async fn within_patience(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let raced = tokio::time::timeout(PATIENCE, race(interleaved(addresses))).await;
    let stream = raced.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream);
    Ok(stream)
}

/// IPv6 and IPv4 by turns, in their order otherwise.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut out = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return out;
        }
        out.extend(pair.into_iter().flatten());
    }
}

/// The first that accepts. A refusal starts the next at once.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return one(only).await;
    }
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(next) = waiting.next() {
            running.spawn_local(one(next));
        } else if running.is_empty() {
            return Err(last);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(done) = running.join_next() => match done {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => last = e,
                Err(e) => last = io::Error::other(e),
            },
            () = tokio::time::sleep(HEAD_START), if more => {}
        }
    }
}

async fn one(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    abort_on_close(&socket)?;
    socket.connect(to).await
}
