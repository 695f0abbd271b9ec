//! A worker: one process for one session. Whatever an agent or a launcher sends is parsed here.
//!
//! Order matters: first the process gives up what it can (dump, limits, system calls), then it reads the launcher's
//! first byte. It ends when the launcher's connection or the supervisor does, and with it each of its sockets.

pub(crate) mod accept;
mod canary;
pub(crate) mod confine;
pub(crate) mod connection;
mod dial;
pub(crate) mod dns_server;
mod endpoint;
pub(crate) mod forwarded;
pub mod handover;
mod http_relay;
mod log;
mod proxy;
pub(crate) mod relay;
mod report;
mod resolver;
pub(crate) mod session;
mod sniff;
mod tls;
pub(crate) mod way;

use crate::policy;
use forwarded::{Admission, Forwarder};
use handover::Received;
use log::Log;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::AddressFamily;
use rcc_proto::forwarded::Key;
use rcc_proto::{FromGateway, Open, Opened, ToGateway, VERSION, Version, encode};
use rcc_report::{Code, Problem};
use serde_json::json;
use session::{FromRoot, Session};
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::time::MissedTickBehavior;

/// How often the host firewall is proven during a session.
const PROVEN_EVERY: Duration = Duration::from_secs(1);
/// Milliseconds between two looks at a firewall that is not proven.
const HELD_LOOK: u8 = 200;
/// How long a launcher may take to say what it wants.
pub(crate) const OPENING: Duration = Duration::from_secs(10);
/// How long Podman may take from there to the session's network: some 0.1 s, but much more on a slow or busy machine.
pub(crate) const STARTING: Duration = Duration::from_secs(120);

/// The worker's whole life. `supervisor` is the pid that must be the parent.
#[must_use]
pub fn main(supervisor: &str, session: &str) -> ExitCode {
    if confine::before_anything(supervisor).is_err() {
        return ExitCode::FAILURE;
    }
    // SAFETY: the supervisor passes exactly these descriptors as stdin, stdout and stderr; nothing here prints.
    let (launcher, log, resolv_conf) =
        unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1), OwnedFd::from_raw_fd(2)) };
    let Ok(admission) = Admission::receive(&log) else { return ExitCode::FAILURE };
    let log = Log::new(log);
    let outcome = prepare(&launcher, resolv_conf.into())
        .and_then(|prepared| handshake(&launcher, prepared, admission, session, &log));
    match outcome {
        Ok((session, source, agreed)) => run(launcher, &Rc::new(session), source, agreed),
        Err(problem) => {
            log.session(&json!({"event": "refused-session", "code": problem.code.to_string(), "subject": log::plain(&problem.subject), "reason": log::plain(&problem.what)}));
            tell(&launcher, &FromGateway::Refused { problem });
            ExitCode::FAILURE
        }
    }
}

/// What is read and made before the first byte of the launcher's.
struct Prepared {
    policy: rcc_policy::Policy,
    given: FromRoot,
    files: confine::files::Landlock,
    acceptors: accept::Acceptors,
    own_namespace: u64,
}

fn prepare(launcher: &OwnedFd, resolv_conf: File) -> Result<Prepared, Problem> {
    let failed = |what: String| Problem::new(Code::GATEWAY_BUSY, "gateway", what, "try again; see the gateway's log");
    let policy = policy::load()?;
    let resolved = policy.resolve(&[]).map_err(policy::first)?;
    let given = FromRoot::read(&resolved, resolv_conf)?;
    let limits = resolved.limits;
    let own_namespace = handover::own_namespace().map_err(|e| {
        Problem::new(
            Code::KERNEL_TOO_OLD,
            "SO_NETNS_COOKIE",
            format!("the kernel does not tell network namespaces apart: {e}"),
            "use Linux 5.14 or later",
        )
    })?;
    // Before there are threads: it is for those that are started after it.
    let files = confine::files::confine(&tls::bundles(resolved.ca_bundle.as_deref()))
        .map_err(|e| failed(format!("it could not confine itself to its files: {e}")))?;
    let acceptors = accept::Acceptors::start().map_err(|e| failed(format!("it could not start its threads: {e}")))?;
    confine::limits(limits.connections).map_err(|e| failed(format!("it could not limit itself: {e}")))?;
    confine::system_calls(launcher).map_err(|e| failed(format!("it could not confine itself: {e}")))?;
    Ok(Prepared { policy, given, files, acceptors, own_namespace })
}

/// Where a session's connections come from.
enum Source {
    /// From sockets of its network namespace.
    Sockets(handover::Sockets, accept::Acceptors),
    /// From a forwarder, which is told what the launcher was.
    Forwarder(Admission, Opened),
}

type Ready = (Session, Source, Version);

fn handshake(
    launcher: &OwnedFd,
    prepared: Prepared,
    admission: Option<Admission>,
    id: &str,
    log: &Log,
) -> Result<Ready, Problem> {
    let open = match handover::receive(launcher, Instant::now() + OPENING)? {
        (ToGateway::Open(open), fds) if fds.is_empty() => open,
        _ => return Err(handover::protocol("the first packet is not an `open` without descriptors")),
    };
    let Open { version, project, agent, grants, credentials, ticket } = open;
    if ticket.is_some() {
        return Err(handover::protocol("a ticket is shown to a forwarder, in the virtual machine"));
    }
    let agreed = VERSION.agree(version).map_err(|far| {
        Problem::new(
            Code::GATEWAY_VERSION,
            "gateway",
            far.to_string(),
            "run the installed launcher, /usr/local/bin/rcc, or install this one's gateway",
        )
    })?;
    let resolved = prepared.policy.resolve(&grants).map_err(policy::first)?;
    canary::prove(resolved.fingerprint)?;
    let ranges = resolved.ranges().iter().map(ToString::to_string).collect();
    let fingerprint = resolved.fingerprint.to_string();
    let files = prepared.files.to_string();
    let session = Session::new(prepared.policy, resolved, credentials, prepared.given, log.clone())?;
    let mut granted = log::plain_list(&grants).into_iter();
    log.session(&json!({"event": "session", "project": log::plain(&project), "agent": log::plain(&agent), "protocol": agreed.to_string(),
        "fingerprint": fingerprint, "files": files, "grants": granted.next()}));
    for more in granted {
        log.session(&json!({"event": "grants", "grants": more}));
    }
    let redirect_is = if session.policy().ranges().iter().any(|range| range.addr().is_ipv6()) {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let opened = Opened {
        version: VERSION,
        session: id.to_owned(),
        fingerprint,
        ranges,
        credential_endpoints: session.credential_endpoints(),
    };
    tell(launcher, &FromGateway::Opened(opened.clone()));
    let source = match (handover::receive(launcher, Instant::now() + STARTING)?, admission) {
        ((ToGateway::Listen, fds), _) => {
            Source::Sockets(handover::check(fds, redirect_is, prepared.own_namespace)?, prepared.acceptors)
        }
        ((ToGateway::Forward, fds), Some(admission)) if fds.is_empty() => {
            tell(launcher, &FromGateway::Ticket { ticket: rcc_proto::forwarded::ticket(id, &admission.ticket) });
            Source::Forwarder(admission, opened)
        }
        ((ToGateway::Forward, _), None) => {
            return Err(Problem::new(
                Code::FORWARD_NONE,
                "gateway",
                "it hears no forwarders",
                "start it with a socket for them (docs/decisions/0033)",
            ));
        }
        _ => return Err(handover::protocol("what follows `open` is `listen` or `forward`")),
    };
    Ok((session, source, agreed))
}

/// Who is told what becomes of the session.
pub struct Link {
    launcher: OwnedFd,
    forwarder: OnceCell<Forwarder>,
}

impl Link {
    /// Begins the conversation with a forwarder.
    fn forward(&self, control: &TcpStream, streams: &Key, opened: Opened) -> io::Result<()> {
        // What is said last is to arrive.
        relay::deliver_on_close(control);
        let forwarder = Forwarder::new(control)?;
        forwarder.say(&streams.0);
        forwarder.tell(&FromGateway::Opened(opened));
        self.forwarder.set(forwarder).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// Tells both.
    fn announce(&self, message: &FromGateway) {
        tell(&self.launcher, message);
        self.answer_forwarder(message);
    }

    fn answer_forwarder(&self, message: &FromGateway) {
        if let Some(forwarder) = self.forwarder.get() {
            forwarder.tell(message);
        }
    }
}

fn run(launcher: OwnedFd, session: &Rc<Session>, source: Source, agreed: Version) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let link = Rc::new(Link { launcher, forwarder: OnceCell::new() });
    let ended = runtime.block_on(async {
        // Tasks of their own: to wake this one, which is the runtime's root, costs tokio a write(2) each time.
        let mut serve = match source {
            Source::Sockets(sockets, acceptors) => {
                let sockets = acceptors.listen(sockets);
                link.announce(&FromGateway::Listening);
                tokio::task::spawn_local(session::serve(session.clone(), sockets))
            }
            Source::Forwarder(admission, opened) => {
                tokio::task::spawn_local(forwarded::serve(session.clone(), link.clone(), admission, opened))
            }
        };
        let log = session.log.clone();
        let mut log = tokio::task::spawn_local(async move { log.follow().await });
        tokio::select! {
            why = watch(&link, session, agreed) => why,
            why = keep_proven(&link, session, agreed) => why,
            _ = &mut log => Ok(()),
            why = &mut serve => why.map_or(Ok(()), Err),
        }
    });
    if let Err(problem) = ended {
        session.log.session(
            &json!({"event": "closing", "code": problem.code.to_string(), "reason": log::plain(&problem.what)}),
        );
        link.announce(&FromGateway::Closing { problem });
    }
    session.end();
    // Not by return: an acceptor thread may hang in accept, and sockets are aborted by the kernel as they are.
    std::process::exit(0)
}

/// Hears the launcher until it is gone. One of 1.0 has nothing more to say.
async fn watch(link: &Link, session: &Session, agreed: Version) -> Result<(), Problem> {
    let launcher = &link.launcher;
    // SAFETY: the descriptor is borrowed for longer than the AsyncFd lives, and so names one open socket throughout.
    let Ok(fd) = (unsafe { AsyncFd::register_with_interest(launcher.as_fd(), Interest::READABLE) }) else {
        return Ok(());
    };
    loop {
        let Ok(mut ready) = fd.readable().await else { return Ok(()) };
        match handover::receive_now(launcher) {
            Ok(Received::Nothing) => ready.clear_ready(),
            Ok(Received::End) => return Ok(()),
            Ok(Received::Message(said, fds)) => heed(launcher, session, agreed, said, fds.is_empty())?,
            Err(problem) => return Err(problem),
        }
        // One that says much must not keep connections waiting.
        tokio::task::yield_now().await;
    }
}

/// Does what the launcher says during a session.
fn heed(launcher: &OwnedFd, session: &Session, agreed: Version, said: ToGateway, plain: bool) -> Result<(), Problem> {
    match said {
        ToGateway::Grants { grants } if agreed.minor >= 1 && plain => tell(launcher, &grant(session, &grants)),
        ToGateway::End if agreed.minor >= 1 && plain => tell(launcher, &FromGateway::Summary(session.summary())),
        _ => return Err(handover::protocol("this is not said after `listen`")),
    }
    Ok(())
}

/// Proves the host firewall once a second; while it is not proven, nothing moves.
async fn keep_proven(link: &Link, session: &Session, agreed: Version) -> Result<(), Problem> {
    let fingerprint = session.root.fingerprint();
    let mut every = tokio::time::interval(PROVEN_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if !confine::supervisor_lives() {
            return Ok(());
        }
        let Err(problem) = canary::prove(fingerprint) else { continue };
        if agreed.minor < 1 {
            // A launcher of 1.0 could not tell the person.
            return Err(problem);
        }
        let reason = log::plain(&problem.what);
        session.log.session(&json!({"event": "unproven", "code": problem.code.to_string(), "reason": reason}));
        link.announce(&FromGateway::Held { problem });
        if hold(&link.launcher, session, agreed)?.is_break() {
            return Ok(());
        }
        session.log.session(&json!({"event": "proven"}));
        link.announce(&FromGateway::Released);
    }
}

/// Blocks the one thread that reads, decides, dials and passes on, until the firewall is proven; breaks when the launcher
/// or the supervisor has gone. What the person grants or denies meanwhile is in force before anything moves again.
fn hold(launcher: &OwnedFd, session: &Session, agreed: Version) -> Result<ControlFlow<()>, Problem> {
    loop {
        let mut heard = [PollFd::new(launcher.as_fd(), PollFlags::POLLIN), session.log.poll_fd()];
        match poll(&mut heard, PollTimeout::from(HELD_LOOK)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) if heard[1].any() == Some(true) => return Ok(ControlFlow::Break(())),
            Ok(_) => match handover::receive_now(launcher)? {
                Received::Nothing => {}
                Received::End => return Ok(ControlFlow::Break(())),
                Received::Message(said, fds) => heed(launcher, session, agreed, said, fds.is_empty())?,
            },
            Err(_) => return Ok(ControlFlow::Break(())),
        }
        if canary::prove(session.root.fingerprint()).is_ok() {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

/// Puts grants in force, all or none.
fn grant(session: &Session, grants: &[String]) -> FromGateway {
    match session.grant(grants) {
        Ok(cut) => {
            for some in log::plain_list(grants) {
                session.log.session(&json!({"event": "grants", "grants": some, "cut": cut}));
            }
            FromGateway::Granted { cut }
        }
        Err(problem) => {
            session.log.session(&json!({"event": "refused-grants", "code": problem.code.to_string(),
                "subject": log::plain(&problem.subject), "reason": log::plain(&problem.what)}));
            FromGateway::Refused { problem }
        }
    }
}

/// Says something to the launcher; if it does not listen, the end of the connection will tell.
pub(crate) fn tell(launcher: &OwnedFd, message: &FromGateway) {
    if let Ok(packet) = encode(message) {
        let _ = rcc_host::packets::send_now(launcher, &packet);
    }
}
