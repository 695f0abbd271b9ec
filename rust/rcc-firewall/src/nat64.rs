//! By which prefixes the network translates IPv4, as its resolvers tell (RFC 7050).
//!
//! Invariant: whatever they answer, the table opens nothing by it that is not public (`rcc_policy::address`): a lie can
//! close addresses, or keep those open that were. Who does not answer in time tells nothing.

use rcc_host::dns::{Answer, Question, RecordType};
use rcc_policy::{HostName, Ipv6Net, address};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long a resolver has for an answer; each is asked twice, all at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// Prefixes that are taken of all answers: a network has one or two.
const MOST: usize = 16;

/// The prefixes that these resolvers tell of, less those that may not be believed.
pub fn prefixes(resolvers: &BTreeSet<SocketAddr>) -> BTreeSet<Ipv6Net> {
    let Ok(name) = HostName::parse("ipv4only.arpa") else { return BTreeSet::new() };
    let told = thread::scope(|threads| {
        let asked: Vec<_> = resolvers.iter().map(|to| threads.spawn(|| told_by(*to, &name))).collect();
        asked.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let believed =
        told.into_iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { address::nat64_prefix(ip) } else { None });
    believed.filter(address::may_translate).collect::<BTreeSet<_>>().into_iter().take(MOST).collect()
}

fn told_by(resolver: SocketAddr, name: &HostName) -> Vec<IpAddr> {
    (0..2).find_map(|_| ask(resolver, name).ok()).unwrap_or_default()
}

fn ask(resolver: SocketAddr, name: &HostName) -> io::Result<Vec<IpAddr>> {
    let question = Question::new(name, RecordType::AAAA)?;
    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(resolver)?;
    socket.send(question.datagram())?;
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let n = socket.recv(&mut buffer)?;
        match question.answer(&buffer[..n]) {
            Some(Ok(Answer::Addresses(found, _))) => return Ok(found),
            Some(Ok(_)) => return Ok(Vec::new()),
            Some(Err(e)) => return Err(e),
            None => {}
        }
    }
}
