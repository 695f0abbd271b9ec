//! One redirected connection: which name was dialled, what the policy says, what the first bytes must be, and the relay.

use super::dial::{Failed, Reached, Whither};
use super::log::plain;
use super::relay::direction;
use super::session::{LiveHost, Session};
use super::sniff::{self, Kind, Prelude};
use super::way::Way;
use super::{endpoint, http_relay, report};
use crate::client_hello::{self, Guard};
use crate::http1;
use crate::stand_in;
use rcc_policy::{Check, Decision, HostName, Ranges, Resolved, Target};
use rcc_proto::REPORT_HOST;
use serde_json::json;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a client may take over its hello or its first request's head.
pub const FIRST_BYTES: Duration = Duration::from_secs(10);

/// Why a connection ended otherwise than by both sides' closing it.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The policy, in decision or by what the bytes turned out to be.
    #[error("{0}")]
    Denied(String),
    /// The same for TLS.
    #[error("{0}")]
    Tls(#[from] client_hello::Refusal),
    /// The same for HTTP.
    #[error("{0}")]
    Http(#[from] http1::Refusal),
    /// A change of the grants.
    #[error("it is no longer allowed")]
    Cut,
    /// The way out failed.
    #[error("{0}")]
    Dial(#[from] Failed),
    /// One of the two connections broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The client took too long.
    #[error("no complete first message in time")]
    Slow,
}

/// What the agent dialled.
struct Dialled {
    name: Option<HostName>,
    ip: IpAddr,
    port: u16,
}

impl Dialled {
    fn text(&self) -> String {
        self.name.as_ref().map_or_else(|| self.ip.to_string(), ToString::to_string)
    }
}

/// Serves the connection, to the address that was dialled, to its end. Dropping `client` aborts it unless it ended orderly.
pub async fn serve(session: &Rc<Session>, mut client: Way, to: SocketAddr) {
    let number = session.number();
    let name = match to.ip() {
        IpAddr::V4(ip) => session.stand_ins.borrow().name(ip).cloned(),
        IpAddr::V6(_) => None,
    };
    let to = Dialled { name, ip: to.ip(), port: to.port() };
    if let Some(name) = &to.name
        && to.port == 80
        && let Some(endpoint) = session.endpoint(name)
    {
        return endpoint::serve(session, endpoint, client, number).await;
    }
    if to.port == 80 && to.name.as_ref().is_some_and(|name| name.as_str() == REPORT_HOST) {
        return report::serve(session, client).await;
    }
    let start = Instant::now();
    let entered = session.enter(number, to.name.clone().map_or(LiveHost::Address(to.ip), LiveHost::Name), to.port);
    let (up, down) = (&entered.live.up, &entered.live.down);
    let mut rule = String::new();
    let ended = tokio::select! {
        // Before anything more is passed on.
        biased;
        () = entered.live.cut.notified() => Err(End::Cut),
        ended = attempt(session, &mut client, &to, number, &mut rule, (up, down)) => ended,
    };
    session.count(up.get(), down.get());
    let (host, port) = (to.text(), to.port);
    match &ended {
        Err(End::Denied(_) | End::Tls(_) | End::Http(_) | End::Slow | End::Cut | End::Dial(Failed::Forbidden(_))) => {
            let reason = ended.as_ref().map_or_else(ToString::to_string, |()| String::new());
            session.report.borrow_mut().denied(&host, Some(port), &plain(&reason));
            session.log.deny(&json!({"event": "deny", "conn": number, "name": plain(&host), "port": port, "rule": rule, "reason": plain(&reason),
                "bytes_up": up.get(), "bytes_down": down.get()}));
            if port == 80 && up.get() == 0 && !matches!(ended, Err(End::Cut)) {
                let has_asked = matches!(ended, Err(End::Http(_) | End::Dial(_)));
                let advice = report::advice(&session.root, &session.policy(), &host, port);
                let text = format!("{}\n{advice}", text_of(&host, port, &reason));
                http_relay::explain(&mut client, &text, has_asked).await;
            }
        }
        Err(End::Dial(e)) => {
            let event = json!({"event": "fail", "conn": number, "name": plain(&host), "port": port, "rule": rule, "reason": plain(&e.to_string())});
            session.log.line(&event).await;
        }
        Ok(()) | Err(End::Io(_)) => {
            let how = ended.as_ref().map_or_else(ToString::to_string, |()| "closed".to_owned());
            let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let event = json!({"event": "close", "conn": number, "name": plain(&host), "port": port,
                "bytes_up": up.get(), "bytes_down": down.get(), "ms": ms, "how": plain(&how)});
            session.log.line(&event).await;
        }
    }
}

fn text_of(host: &str, port: u16, reason: &str) -> String {
    rcc_report::escaped(&format!("rcc: {host}:{port} is not reachable from this session: {reason}"))
}

/// Counters of both directions.
pub type Counts<'a> = (&'a Cell<u64>, &'a Cell<u64>);

async fn attempt(
    session: &Session,
    client: &mut Way,
    to: &Dialled,
    number: u64,
    rule: &mut String,
    counts: Counts<'_>,
) -> Result<(), End> {
    let target = match &to.name {
        Some(name) => Target::Name(name),
        None if matches!(to.ip, IpAddr::V4(ip) if stand_in::in_range(ip)) => {
            return Err(End::Denied("an address that stands for no name".into()));
        }
        None => Target::Address(to.ip),
    };
    let policy = session.policy();
    let (check, private) = match policy.decide(target, to.port) {
        Decision::Allow { check, rule: by, private } => {
            *rule = by;
            (check, private)
        }
        Decision::Deny { reason, rule: by } => {
            *rule = by.unwrap_or_default();
            return Err(End::Denied(reason.to_string()));
        }
    };
    let out = Out { session, policy: &policy, to, private: private.as_ref(), number, rule, check };
    match (&to.name, check) {
        // An address has no name that the bytes could contradict.
        (None, _) | (_, Check::Raw) => {
            let mut server = out.connect().await?;
            relay(session, client, &mut server, counts).await?;
        }
        (Some(name), Check::Tls) => {
            let mut guard = Guard::new(name.as_str());
            let first = within(sniff::hello(client, &mut guard)).await?;
            let mut server = out.connect().await?;
            checked(session, client, &mut server, Prelude::Tls(guard, first), counts).await?;
        }
        (Some(name), Check::Http) => {
            let first = within(sniff::head(client, name.as_str(), to.port)).await?;
            let mut server = out.connect().await?;
            checked(
                session,
                client,
                &mut server,
                Prelude::Http(http1::Requests::new(name.as_str(), to.port), first),
                counts,
            )
            .await?;
        }
        (Some(name), Check::Auto) => {
            let mut server = out.connect().await?;
            checked(session, client, &mut server, Prelude::Unknown(name.as_str(), to.port), counts).await?;
        }
    }
    Ok(())
}

async fn within<T>(first: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    tokio::time::timeout(FIRST_BYTES, first).await.map_err(|_| End::Slow)?
}

/// A decision that allows, on its way to a connection.
struct Out<'a> {
    session: &'a Session,
    policy: &'a Resolved,
    to: &'a Dialled,
    private: Option<&'a Ranges>,
    number: u64,
    rule: &'a str,
    check: Check,
}

impl Out<'_> {
    async fn connect(&self) -> Result<Way, End> {
        let whither = self.to.name.as_ref().map_or(Whither::Address(self.to.ip), Whither::Name);
        let Reached { way, proxy } =
            self.session.dialer.connect(self.policy, whither, self.to.port, self.private).await?;
        let address = way.socket().peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
        let mut event = json!({"event": "connect", "conn": self.number, "name": plain(&self.to.text()), "port": self.to.port,
            "rule": self.rule, "check": self.check.to_string(), "address": address});
        if let Some(proxy) = proxy {
            // The address is the proxy's then.
            event["proxy"] = proxy.into();
        }
        // Nothing is passed on before it is on record.
        self.session.log.written(&event).await;
        Ok(way)
    }
}

/// Both directions, unchecked.
async fn relay(session: &Session, client: &mut Way, server: &mut Way, (up, down): Counts<'_>) -> Result<(), End> {
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::try_join!(
            direction(&mut from_client, &mut to_server, up, &session.pipes),
            direction(&mut from_server, &mut to_client, down, &session.pipes),
        )?;
    }
    client.deliver_on_close();
    server.deliver_on_close();
    Ok(())
}

/// Both directions; what the client sends is followed as far as its protocol says.
async fn checked(
    session: &Session,
    client: &mut Way,
    server: &mut Way,
    prelude: Prelude<'_>,
    (up, down): Counts<'_>,
) -> Result<(), End> {
    let upgrade = http_relay::Upgrade::default();
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let upwards = async {
            let prelude = match prelude {
                Prelude::Unknown(name, port) => match sniff::kind(&mut from_client, &mut to_server, up).await? {
                    (Kind::Tls, first) => {
                        let mut guard = Guard::new(name);
                        let first = within(sniff::rest_of_hello(&mut from_client, &mut guard, first)).await?;
                        Prelude::Tls(guard, first)
                    }
                    (Kind::Http, first) => Prelude::Http(http1::Requests::new(name, port), first),
                    (Kind::Other, first) => Prelude::Free(first),
                },
                known => known,
            };
            match prelude {
                Prelude::Tls(guard, first) => sniff::watch(&mut from_client, &mut to_server, guard, first, up).await?,
                Prelude::Http(requests, first) => {
                    let ended = http_relay::requests(
                        &mut from_client,
                        &mut to_server,
                        requests,
                        first,
                        up,
                        &session.pipes,
                        &upgrade,
                    )
                    .await?;
                    if ended {
                        to_server.shutdown().await?;
                        return Ok(());
                    }
                }
                Prelude::Free(first) => {
                    to_server.write_all(&first).await?;
                    to_server.flush().await?;
                    up.set(up.get() + first.len() as u64);
                }
                Prelude::Unknown(..) => {}
            }
            direction(&mut from_client, &mut to_server, up, &session.pipes).await.map_err(End::from)
        };
        let downwards = async {
            http_relay::answers(&mut from_server, &mut to_client, down, &upgrade).await?;
            direction(&mut from_server, &mut to_client, down, &session.pipes).await.map_err(End::from)
        };
        tokio::try_join!(upwards, downwards)?;
    }
    client.deliver_on_close();
    server.deliver_on_close();
    Ok(())
}

/// The address that was dialled: before the redirect, or, where there was none, the socket's own (`AnyIP`).
pub fn destination(client: &TcpStream) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(meant) = before_redirect(client) {
        return Ok(meant);
    }
    let own = client.local_addr()?;
    Ok((own.ip().to_canonical(), own.port()).into())
}

/// What netfilter kept of it.
#[cfg(target_os = "linux")]
fn before_redirect(client: &TcpStream) -> Option<SocketAddr> {
    use nix::sys::socket::{getsockopt, sockopt};
    use std::net::{Ipv4Addr, Ipv6Addr};
    // A socket of IPv6 takes both, and has the one or the other.
    if let Ok(meant) = getsockopt(client, sockopt::OriginalDst) {
        let ip = Ipv4Addr::from(u32::from_be(meant.sin_addr.s_addr));
        return Some((ip, u16::from_be(meant.sin_port)).into());
    }
    let meant = getsockopt(client, sockopt::Ip6tOriginalDst).ok()?;
    Some((Ipv6Addr::from(meant.sin6_addr.s6_addr), u16::from_be(meant.sin6_port)).into())
}

/// Reads something from a client who must say something first; its end is an error.
pub async fn some(client: &mut (impl AsyncReadExt + Unpin), into: &mut Vec<u8>) -> Result<(), End> {
    if client.read_buf(into).await? == 0 {
        return Err(End::Denied("the client ended without a complete first message".into()));
    }
    Ok(())
}
