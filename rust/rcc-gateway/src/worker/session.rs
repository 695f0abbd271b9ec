//! One session's state, and the loop that serves it.

use super::accept::Arrivals;
use super::dial::Dialer;
use super::endpoint::{self, Endpoint};
use super::log::Log;
use super::proxy::Proxy;
use super::relay::Pipes;
use super::report::Report;
use super::resolver::Resolver;
use super::tls::Trust;
use super::way::Way;
use super::{connection, dns_server};
use crate::rate::Bucket;
use crate::stand_in::StandIns;
use rcc_policy::{Check, Decision, HostName, Policy, Ranges, Resolved, Target};
use rcc_proto::{Credential, REPORT_HOST, Summary};
use rcc_report::{Code, Problem};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Connections for DNS at once.
const DNS_STREAMS: u32 = 32;
/// Names whose first decision is remembered as logged.
const SEEN: usize = 4096;

/// A session.
pub struct Session {
    /// Root's policy, as it was when the session began.
    pub root: Policy,
    /// That with this session's grants.
    policy: RefCell<Rc<Resolved>>,
    /// What of the session is for people to know.
    pub report: RefCell<Report>,
    /// Connections that are being served, by number.
    live: RefCell<HashMap<u64, Rc<Live>>>,
    /// What stands for what.
    pub stand_ins: RefCell<StandIns>,
    /// The log.
    pub log: Log,
    /// Pipes to splice through.
    pub pipes: Pipes,
    /// The way out.
    pub dialer: Dialer,
    /// Whose certificates the gateway itself trusts.
    pub trust: Rc<Trust>,
    endpoints: Vec<Rc<Endpoint>>,
    open: Cell<u32>,
    dns_streams: Cell<u32>,
    numbers: Cell<u64>,
    queries: RefCell<Bucket>,
    seen: RefCell<HashSet<String>>,
    start: Instant,
    up: Cell<u64>,
    down: Cell<u64>,
}

/// What is read of files, before anything is heard and no other can be opened.
pub struct FromRoot {
    /// The keys of credential endpoints; each is used, or missed, only if the launcher brings none.
    pub keys: endpoint::Keys,
    /// The proxy, with its credentials.
    pub proxy: Option<Proxy>,
    /// The machine's resolv.conf as it is at any time, by the supervisor.
    pub resolv_conf: File,
}

impl FromRoot {
    /// Reads the files that the policy names.
    pub fn read(policy: &Resolved, resolv_conf: File) -> Result<Self, Problem> {
        let proxy = policy.upstream_proxy.clone().map(Proxy::new).transpose()?;
        Ok(Self { keys: endpoint::keys(&policy.credentials), proxy, resolv_conf })
    }
}

impl Session {
    /// A session by the policy and the launcher's wishes.
    pub fn new(
        root: Policy,
        policy: Resolved,
        credentials: Vec<Credential>,
        given: FromRoot,
        log: Log,
    ) -> Result<Self, Problem> {
        let endpoints = endpoint::endpoints(&policy.credentials, credentials, given.keys)?;
        let trust = Rc::new(Trust::new(policy.ca_bundle.clone()));
        let dialer = Dialer::new(
            Resolver::new(policy.resolvers.clone(), given.resolv_conf, trust.clone()),
            given.proxy,
            trust.clone(),
        );
        Ok(Self {
            stand_ins: RefCell::new(StandIns::new(policy.limits.names)),
            root,
            policy: RefCell::new(Rc::new(policy)),
            report: RefCell::default(),
            live: RefCell::default(),
            log,
            pipes: Pipes::default(),
            dialer,
            trust,
            endpoints,
            open: Cell::new(0),
            dns_streams: Cell::new(0),
            numbers: Cell::new(0),
            queries: RefCell::new(Bucket::new(1000, 200)),
            seen: RefCell::default(),
            start: Instant::now(),
            up: Cell::new(0),
            down: Cell::new(0),
        })
    }

    /// The policy in force.
    pub fn policy(&self) -> Rc<Resolved> {
        self.policy.borrow().clone()
    }

    /// Puts these grants in force in the place of those before, and aborts connections that are no longer allowed as
    /// they were; gives their number. A stand-in keeps its meaning: each connection to it is decided anew.
    pub fn grant(&self, grants: &[String]) -> Result<u32, Problem> {
        let next = self.root.resolve(grants).map_err(crate::policy::first)?;
        let before = self.policy();
        if let Some(range) = next.ranges().iter().find(|r| !before.ranges().iter().any(|b| b.contains(*r))) {
            return Err(Problem::new(
                Code::POLICY_NOT_GRANTABLE,
                range.to_string(),
                "a session that runs has no route to these addresses",
                "grant them to the project, rcc allow --project, and start the session again",
            ));
        }
        let mut cut = 0;
        for live in self.live.borrow().values() {
            if live.decision(&before).is_some() && live.decision(&before) != live.decision(&next) {
                live.cut.notify_one();
                cut += 1;
            }
        }
        self.policy.replace(Rc::new(next));
        Ok(cut)
    }

    /// Adds a connection to those that a change of grants can abort, until what is given back is dropped.
    pub fn enter(&self, number: u64, host: LiveHost, port: u16) -> Entered<'_> {
        let live = Rc::new(Live { host, port, up: Cell::new(0), down: Cell::new(0), cut: Notify::new() });
        self.live.borrow_mut().insert(number, live.clone());
        Entered { session: self, number, live }
    }

    /// What the session did so far.
    pub fn summary(&self) -> Summary {
        let live = self.live.borrow();
        let under_way = live.values().map(|l| (l.host.to_string(), l.up.get(), l.down.get()));
        self.report.borrow().summary(&self.root, &self.policy(), under_way)
    }

    /// The credential endpoints that have a key.
    pub fn credential_endpoints(&self) -> Vec<String> {
        self.endpoints.iter().map(|e| e.facts.endpoint.to_string()).collect()
    }

    /// The credential endpoint of that name.
    pub fn endpoint(&self, name: &HostName) -> Option<&Rc<Endpoint>> {
        self.endpoints.iter().find(|e| e.facts.endpoint == *name)
    }

    /// Whether the name resolves in this session.
    pub fn knows(&self, name: &HostName) -> bool {
        self.endpoint(name).is_some() || name.as_str() == REPORT_HOST || self.policy().knows(name)
    }

    /// Whether one more DNS query may be answered now.
    pub fn may_query(&self) -> bool {
        self.queries.borrow_mut().take(self.start.elapsed())
    }

    /// Whether this was not said before (or so long ago that it was forgotten).
    pub fn first_time(&self, what: &str) -> bool {
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= SEEN {
            seen.clear();
        }
        seen.insert(what.to_owned())
    }

    /// A connection's number in the log.
    pub fn number(&self) -> u64 {
        self.numbers.replace(self.numbers.get() + 1) + 1
    }

    /// Adds to the session's totals.
    pub fn count(&self, up: u64, down: u64) {
        self.up.set(self.up.get() + up);
        self.down.set(self.down.get() + down);
    }

    /// The session's last line.
    pub fn end(&self) {
        self.log.session(&json!({"event": "summary", "connections": self.numbers.get(), "open": self.open.get(),
            "bytes_up": self.up.get(), "bytes_down": self.down.get(), "seconds": self.start.elapsed().as_secs()}));
    }
}

/// What a connection leads to.
pub enum LiveHost {
    /// A name.
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for LiveHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// A connection that is being served.
pub struct Live {
    host: LiveHost,
    port: u16,
    /// Bytes from the agent.
    pub up: Cell<u64>,
    /// Bytes to the agent.
    pub down: Cell<u64>,
    /// Told when the connection is no longer allowed.
    pub cut: Notify,
}

impl Live {
    /// How a policy allows it, if it does.
    fn decision(&self, policy: &Resolved) -> Option<(Check, Option<Ranges>)> {
        let target = match &self.host {
            LiveHost::Name(name) => Target::Name(name),
            LiveHost::Address(ip) => Target::Address(*ip),
        };
        match policy.decide(target, self.port) {
            Decision::Allow { check, private, .. } => Some((check, private)),
            Decision::Deny { .. } => None,
        }
    }
}

/// A connection's place among those that are served. At its end the session's totals have its bytes.
pub struct Entered<'a> {
    session: &'a Session,
    number: u64,
    /// The connection.
    pub live: Rc<Live>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.session.live.borrow_mut().remove(&self.number);
        let (up, down) = (self.live.up.get(), self.live.down.get());
        self.session.report.borrow_mut().exchanged(&self.live.host.to_string(), up, down);
    }
}

/// Counts one connection for as long as it lives.
struct Counted<'a>(&'a Cell<u32>);

impl<'a> Counted<'a> {
    fn new(cell: &'a Cell<u32>, most: u32) -> Option<Self> {
        (cell.get() < most).then(|| {
            cell.set(cell.get() + 1);
            Self(cell)
        })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A socket that is non-blocking and connected.
pub fn stream(fd: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(fd.into())
}

/// Serves until something fails that the session can't do without.
pub async fn serve(session: Rc<Session>, mut arrivals: Arrivals) -> Problem {
    let mut datagrams = tokio::task::spawn_local(dns_server::datagrams(session.clone(), arrivals.dns));
    loop {
        tokio::select! {
            fd = arrivals.redirect.recv() => match fd.map(stream) {
                Some(Ok(client)) => {
                    if let Ok(to) = connection::destination(&client) {
                        connection_task(&session, Way::Plain(client), to);
                    }
                }
                Some(Err(_)) => {}
                None => return lost("the redirected port"),
            },
            fd = arrivals.dns_tcp.recv() => match fd.map(stream) {
                Some(Ok(client)) => dns_task(&session, Way::Plain(client)),
                Some(Err(_)) => {}
                None => return lost("the DNS port (TCP)"),
            },
            _ = &mut datagrams => return lost("the DNS port (UDP)"),
        }
    }
}

/// Why a session ends that can no longer be reached.
pub fn lost(what: &str) -> Problem {
    Problem::new(
        Code::GATEWAY_LOST,
        "session",
        format!("{what} can no longer be listened on"),
        "start the session again",
    )
}

/// Serves a connection beside the others, if the session may have one more.
pub fn connection_task(session: &Rc<Session>, client: Way, to: SocketAddr) {
    let session = session.clone();
    tokio::task::spawn_local(async move {
        match Counted::new(&session.open, session.policy().limits.connections) {
            Some(_counted) => connection::serve(&session, client, to).await,
            None => session.log.deny(&json!({"event": "deny", "reason": "too many connections in this session"})),
        }
    });
}

/// The same for DNS by TCP.
pub fn dns_task(session: &Rc<Session>, client: Way) {
    let session = session.clone();
    tokio::task::spawn_local(async move {
        if let Some(_counted) = Counted::new(&session.dns_streams, DNS_STREAMS) {
            dns_server::stream(session.clone(), client).await;
        }
    });
}
