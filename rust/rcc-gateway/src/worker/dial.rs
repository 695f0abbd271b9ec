//! Connects to what a decision allows: resolves the name, judges each address, tries those that are left.
//!
//! Invariant: no connection to an address that the policy does not allow for that name and port, nor to one of this
//! machine's own, nor (unless the policy gives a private range) to one on its links.

use super::relay::{abort_on_close, tune};
use super::resolver::{Failure, Resolver};
use rcc_host::net::HostNet;
use rcc_policy::{HostName, Ipv6Net, Ranges, Resolved};
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
    /// No address accepted.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Dials.
pub struct Dialer {
    resolver: Resolver,
    host: RefCell<Option<(Instant, Rc<HostNet>)>>,
}

impl Dialer {
    /// With a resolver of its own.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, host: RefCell::new(None) }
    }

    /// Connects to the name or address at `port`.
    pub async fn connect(
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
        let nat64 = if addresses.iter().any(|ip| ip.to_canonical().is_ipv6()) {
            self.resolver.nat64().await
        } else {
            Rc::from([])
        };
        let (mut good, mut why) = (Vec::new(), None);
        for ip in addresses.iter().map(IpAddr::to_canonical) {
            match judge(policy, &host, ip, port, private, &nat64) {
                Ok(()) if ip.is_ipv6() && !host.v6 && private.is_none() => {}
                Ok(()) => good.push(SocketAddr::new(ip, port)),
                Err(reason) => why = Some(reason),
            }
        }
        if good.is_empty() {
            return Err(
                why.map_or_else(|| io::Error::from(io::ErrorKind::NetworkUnreachable).into(), Failed::Forbidden)
            );
        }
        let stream = tokio::time::timeout(PATIENCE, race(interleaved(good)))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        tune(&stream);
        Ok(stream)
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
        if private.is_none() && host.is_on_link(seen) {
            return Err(format!("{seen} is on a network of this machine's"));
        }
    }
    policy.may_connect(private, ip, port, nat64).map_err(|(reason, detail)| format!("{reason}: {detail}"))
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
