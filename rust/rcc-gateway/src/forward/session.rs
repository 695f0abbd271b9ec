//! One session's forwarder, a process of its own: a listener's `O_NONBLOCK` is shared with whoever kept a copy, and must
//! hold up no other session.

use super::Gateway;
use crate::framed::{self, Framed};
use crate::system::NO_SIGNAL;
use crate::worker::accept::{Acceptors, Arrivals};
use crate::worker::handover::{self, Received};
use crate::worker::relay::{Pipes, abort_on_close, direction, tune};
use crate::worker::way::Way;
use crate::worker::{OPENING, STARTING, confine, connection, dns_server, session, tell};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockaddrIn, send, sendto};
use rcc_proto::forwarded::{DNS_MARK, Header, Key, SECRET, Stream, torn};
use rcc_proto::{FromGateway, MAX_PACKET, Open, ToGateway, VERSION, decode, encode};
use rcc_report::{Code, Problem};
use std::cell::Cell;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::LocalOptions;

/// Connections at once. What the policy says is fewer, and the gateway's to say.
const CONNECTIONS: u32 = 1024;

/// The process's whole life. `supervisor` is the pid that must be the parent.
#[must_use]
pub fn main(supervisor: &str, gateway: &str) -> ExitCode {
    let Ok(gateway) = gateway.parse::<Gateway>() else { return ExitCode::FAILURE };
    if confine::before_anything(supervisor).is_err() {
        return ExitCode::FAILURE;
    }
    // SAFETY: the supervisor passes exactly this descriptor as stdin; nothing here reads from there otherwise.
    let launcher = unsafe { OwnedFd::from_raw_fd(0) };
    if let Err(problem) = prepare(&launcher).and_then(|(acceptors, own)| run(&launcher, gateway, &acceptors, own)) {
        tell(&launcher, &FromGateway::Closing { problem });
    }
    // Not by return: an acceptor thread may hang in accept.
    std::process::exit(0)
}

/// As a worker does, before the launcher's first byte.
fn prepare(launcher: &OwnedFd) -> Result<(Acceptors, u64), Problem> {
    let prepare = || {
        let own = handover::own_namespace()?;
        confine::files::confine(&[])?;
        let acceptors = Acceptors::start()?;
        confine::limits(CONNECTIONS)?;
        confine::forwarder(launcher)?;
        Ok((acceptors, own))
    };
    prepare().map_err(|e: io::Error| {
        let what = format!("it could not start a session: {e}");
        Problem::new(Code::GATEWAY_BUSY, "rcc-forward", what, "use Linux 5.14 or later in the virtual machine")
    })
}

fn run(launcher: &OwnedFd, gateway: Gateway, acceptors: &Acceptors, own_namespace: u64) -> Result<(), Problem> {
    let open = match handover::receive(launcher, Instant::now() + OPENING)? {
        (ToGateway::Open(open), fds) if fds.is_empty() => open,
        _ => return Err(handover::protocol("the first packet is not an `open` without descriptors")),
    };
    let (number, ticket) = admission(&open)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
    runtime.map_err(|e| unreachable(&e))?.block_on(async {
        let (control, secret, redirect_is) = begin(launcher, gateway, number, ticket).await?;
        let streams = Streams { gateway, number, secret, pipes: Pipes::default(), live: Cell::new(0) };
        let (ToGateway::Listen, fds) = handover::receive(launcher, Instant::now() + STARTING)? else {
            return Err(handover::protocol("what follows `open` is `listen`"));
        };
        let arrivals = acceptors.listen(handover::check(fds, redirect_is, own_namespace)?);
        let (from_host, mut to_host) = control.into_split();
        say(&mut to_host, &ToGateway::Listen).await?;
        tokio::select! {
            why = hear_gateway(from_host, launcher) => Err(why),
            why = hear_launcher(launcher, to_host) => why,
            why = serve(Rc::new(streams), arrivals) => Err(why),
        }
    })
}

/// What the ticket says. What a person wants of the session they have said on the host.
fn admission(open: &Open) -> Result<(u64, Key), Problem> {
    VERSION.agree(open.version).map_err(|far| {
        Problem::new(
            Code::GATEWAY_VERSION,
            "rcc-forward",
            far.to_string(),
            "install one version of rcc in the virtual machine",
        )
    })?;
    if !open.grants.is_empty() || !open.credentials.is_empty() {
        let what = "the launcher in the virtual machine brought grants or keys";
        return Err(Problem::new(Code::FORWARD_ON_HOST, "rcc-forward", what, "start the session on the host"));
    }
    open.ticket.as_ref().and_then(torn).ok_or_else(|| {
        let what = "the launcher has no ticket of the host's gateway";
        Problem::new(Code::FORWARD_TICKET, "rcc-forward", what, "start the session on the host")
    })
}

/// Shows the ticket, and gives what the gateway answers: the conversation, the secret for the other streams, and of which family
/// the redirected sockets are.
async fn begin(
    launcher: &OwnedFd,
    gateway: Gateway,
    number: u64,
    ticket: Key,
) -> Result<(TcpStream, Key, AddressFamily), Problem> {
    let header = Header { stream: Stream::Control, session: number, secret: ticket };
    let mut control = opened(gateway, &header).await.map_err(|e| unreachable(&e))?;
    let refused = |_| {
        let what = "the gateway on the host hung up: the ticket is none of its, was used, or came too late";
        Problem::new(Code::FORWARD_TICKET, "rcc-forward", what, "start the session again, on the host")
    };
    let answer = async {
        let secret = framed::message(&mut control, SECRET).await?;
        Ok((secret, framed::message(&mut control, MAX_PACKET).await?))
    };
    let (secret, packet) = tokio::time::timeout(OPENING, answer)
        .await
        .map_err(|e| unreachable(&e.into()))?
        .map_err(|e: io::Error| refused(e))?;
    let secret = Key(secret.try_into().map_err(|_| handover::protocol("the gateway's secret is none"))?);
    let Ok(FromGateway::Opened(opened)) = decode(&packet) else {
        return Err(handover::protocol("the gateway did not say `opened`"));
    };
    let is_ipv6 = opened.ranges.iter().any(|range| range.contains(':'));
    pass_on(launcher, &packet);
    Ok((control, secret, if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }))
}

fn unreachable(e: &io::Error) -> Problem {
    Problem::new(
        Code::FORWARD_UNREACHABLE,
        "rcc-forward",
        format!("the gateway on the host does not answer: {e}"),
        "rcc status, on the host",
    )
}

/// A new stream that begins with this header.
async fn opened(gateway: Gateway, header: &Header) -> io::Result<TcpStream> {
    let mut stream = gateway.dial().await?;
    abort_on_close(&stream)?;
    tune(&stream);
    stream.write_all(&header.bytes()).await?;
    Ok(stream)
}

/// Passes the gateway's packets on, until it has none any more.
async fn hear_gateway(mut from_host: OwnedReadHalf, launcher: &OwnedFd) -> Problem {
    while let Ok(packet) = framed::message(&mut from_host, MAX_PACKET).await {
        pass_on(launcher, &packet);
    }
    Problem::new(
        Code::GATEWAY_LOST,
        "rcc-forward",
        "the gateway on the host went away",
        "start the session again, on the host",
    )
}

fn pass_on(launcher: &OwnedFd, packet: &[u8]) {
    let _ = send(launcher.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT | NO_SIGNAL);
}

/// Hears the launcher until it is gone.
async fn hear_launcher(launcher: &OwnedFd, mut to_host: OwnedWriteHalf) -> Result<(), Problem> {
    use std::os::fd::AsFd;
    // SAFETY: the descriptor is borrowed for longer than the AsyncFd lives, and so names one open socket throughout.
    let Ok(fd) = (unsafe { AsyncFd::register_with_interest(launcher.as_fd(), Interest::READABLE) }) else {
        return Ok(());
    };
    loop {
        let Ok(mut ready) = fd.readable().await else { return Ok(()) };
        match handover::receive_now(launcher)? {
            Received::Nothing => ready.clear_ready(),
            Received::End => return Ok(()),
            Received::Message(ToGateway::End, fds) if fds.is_empty() => say(&mut to_host, &ToGateway::End).await?,
            Received::Message(ToGateway::Grants { .. }, _) => {
                let what = "grants are given on the host, where the session was started";
                let problem = Problem::new(Code::FORWARD_ON_HOST, "rcc-forward", what, "rcc allow, on the host");
                tell(launcher, &FromGateway::Refused { problem });
            }
            Received::Message(..) => return Err(handover::protocol("this is not said after `listen`")),
        }
    }
}

async fn say(to_host: &mut OwnedWriteHalf, message: &ToGateway) -> Result<(), Problem> {
    let packet = encode(message).map_err(|e| handover::protocol(&e.to_string()))?;
    framed::say(to_host, &[&packet]).await.map_err(|e| unreachable(&e))
}

/// How further streams of the session are opened.
struct Streams {
    gateway: Gateway,
    number: u64,
    secret: Key,
    pipes: Pipes,
    live: Cell<u32>,
}

impl Streams {
    async fn open(&self, stream: Stream) -> io::Result<TcpStream> {
        opened(self.gateway, &Header { stream, session: self.number, secret: self.secret.clone() }).await
    }

    /// Brings one connection to the gateway, and both to their ends. One that can't be brought is reset.
    async fn bring(&self, client: OwnedFd, stream: impl FnOnce(&TcpStream) -> io::Result<Stream>) -> io::Result<()> {
        let client = session::stream(client)?;
        let host = self.open(stream(&client)?).await?;
        let (mut client, mut host) = (Way::Plain(client), Way::Framed(Box::new(Framed::new(host))));
        {
            let (mut from_client, mut to_client) = client.split();
            let (mut from_host, mut to_host) = host.split();
            let moved = Cell::new(0);
            tokio::try_join!(
                direction(&mut from_client, &mut to_host, &moved, &self.pipes),
                direction(&mut from_host, &mut to_client, &moved, &self.pipes),
            )?;
        }
        client.deliver_on_close();
        host.deliver_on_close();
        Ok(())
    }
}

/// Brings what is accepted, until something fails that the session can't do without.
async fn serve(streams: Rc<Streams>, mut arrivals: Arrivals) -> Problem {
    let mut datagrams = tokio::task::spawn_local(datagrams(streams.clone(), arrivals.dns));
    loop {
        let (client, is_dns) = tokio::select! {
            fd = arrivals.redirect.recv() => (fd, false),
            fd = arrivals.dns_tcp.recv() => (fd, true),
            _ = &mut datagrams => return session::lost("the DNS port (UDP)"),
        };
        let Some(client) = client else { return session::lost("a port of the session's") };
        if streams.live.get() >= CONNECTIONS {
            continue;
        }
        let streams = streams.clone();
        tokio::task::spawn_local(async move {
            streams.live.set(streams.live.get() + 1);
            let stream = |client: &TcpStream| {
                if is_dns { Ok(Stream::DnsTcp) } else { connection::destination(client).map(Stream::Connection) }
            };
            let _ = streams.bring(client, stream).await;
            streams.live.set(streams.live.get() - 1);
        });
    }
}

/// Brings datagrams to the gateway, and its answers to whom they are for, whose address is the mark.
async fn datagrams(streams: Rc<Streams>, socket: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned by the AsyncFd and names one open socket for as long as that lives.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    let (mut from_host, mut to_host) = streams.open(Stream::Dns).await?.into_split();
    let up = async {
        let mut buffer = [0; 1500];
        loop {
            let mut ready = socket.readable().await?;
            match dns_server::receive(socket.as_raw_fd(), &mut buffer) {
                Ok((n, Some(from))) => {
                    let mark = [&from.ip().octets()[..], &from.port().to_be_bytes()].concat();
                    framed::say(&mut to_host, &[&mark, &buffer[..n]]).await?;
                }
                // Shut down by whoever kept a copy: it would be ready for ever.
                Err(Errno::EAGAIN) if ready.ready().is_read_closed() => return Err(io::ErrorKind::NotConnected.into()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Ok((_, None)) | Err(_) => {}
            }
            tokio::task::consume_budget().await;
        }
    };
    let down = async {
        loop {
            let answer: Vec<u8> = framed::message(&mut from_host, MAX_PACKET).await?;
            let Some((&[a, b, c, d, high, low], answer)) = answer.split_first_chunk::<DNS_MARK>() else {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            };
            let to = SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low]));
            let flags = MsgFlags::MSG_DONTWAIT | NO_SIGNAL;
            let _ = sendto(socket.as_raw_fd(), answer, &SockaddrIn::from(to), flags);
        }
    };
    tokio::try_join!(up, down).map(|((), ())| ())
}
