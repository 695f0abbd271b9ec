//! The gateway's sockets: taken from systemd, or made.

use crate::system;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{Backlog, SockType, SockaddrStorage, UnixAddr, bind, connect, getsockname, listen as start};
use rcc_proto::forwarded::{FORWARD_PORT, FORWARD_SOCKET};
use rcc_proto::{GATEWAY_SOCKET, LOG_SOCKET};
use rcc_report::{Code, Problem};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::{env, fs, io};

/// The listening sockets, non-blocking.
#[derive(Debug)]
pub struct Sockets {
    /// For launchers.
    pub sessions: OwnedFd,
    /// For people who read the log.
    pub log: OwnedFd,
    /// For forwarders, where there are any.
    pub forwarders: Vec<OwnedFd>,
    /// Whether systemd made the first two, and holds them when this process ends.
    pub are_systemds: bool,
}

/// Takes them from systemd, or makes them. Those for forwarders it makes on a Mac alone, where agents live in a machine of
/// their own; elsewhere they are there if whoever starts the gateway passes them.
pub fn listen() -> Result<Sockets, Problem> {
    let mut given = from_systemd().map_err(|what| {
        Problem::new(Code::GATEWAY_PORT_IN_USE, GATEWAY_SOCKET, what, "systemctl restart rcc-gateway.socket")
    })?;
    let mut taken = |of: &Use| given.iter().position(|(is, _)| is == of).map(|i| given.swap_remove(i).1);
    let (sessions, log) = (taken(&Use::Packets(GATEWAY_SOCKET)), taken(&Use::Packets(LOG_SOCKET)));
    let mut forwarders: Vec<_> = std::iter::from_fn(|| taken(&Use::Forwarders)).collect();
    if cfg!(target_os = "macos") && forwarders.is_empty() {
        forwarders.push(on_loopback()?);
    }
    let are_systemds = sessions.is_some() && log.is_some();
    let or_made = |given: Option<OwnedFd>, path| given.map_or_else(|| made(path), Ok);
    Ok(Sockets {
        sessions: or_made(sessions, GATEWAY_SOCKET)?,
        log: or_made(log, LOG_SOCKET)?,
        forwarders,
        are_systemds,
    })
}

/// What a socket is for.
#[derive(PartialEq, Eq)]
enum Use {
    /// For launchers, or for people who read the log.
    Packets(&'static str),
    /// For forwarders.
    Forwarders,
}

/// Where the network that a virtual machine's monitor makes up comes out.
fn on_loopback() -> Result<OwnedFd, Problem> {
    let made = TcpListener::bind((Ipv4Addr::LOCALHOST, FORWARD_PORT));
    let made = made.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    made.map(OwnedFd::from).map_err(|e| {
        let subject = format!("127.0.0.1:{FORWARD_PORT}");
        let what = format!("forwarders can't be heard there: {e}");
        Problem::new(Code::GATEWAY_PORT_IN_USE, subject, what, format!("sudo lsof -nP -iTCP:{FORWARD_PORT}"))
    })
}

/// Makes one, of packets.
pub fn made(name: &'static str) -> Result<OwnedFd, Problem> {
    let problem = |what: String, remedy: &str| Problem::new(Code::GATEWAY_PORT_IN_USE, name, what, remedy);
    let path = Path::new(name);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let facts = fs::metadata(folder).map_err(|e| {
        problem(
            format!("its folder can't be used: {e}"),
            "rcc setup makes it; by hand: sudo install -d -o rcc -g rcc -m 755 /run/rcc",
        )
    })?;
    let me = nix::unistd::geteuid().as_raw();
    if !(facts.uid() == 0 || facts.uid() == me) || facts.mode() & 0o022 != 0 {
        return Err(problem(
            "its folder is not root's or the gateway's alone".into(),
            "rcc setup makes it; by hand: sudo install -d -o rcc -g rcc -m 755 /run/rcc",
        ));
    }
    make(path).map_err(|e| match e {
        Errno::EADDRINUSE => problem("another gateway listens on it".into(), "systemctl status rcc-gateway"),
        e => problem(
            format!("it can't be made: {e}"),
            "rcc setup makes it; by hand: sudo install -d -o rcc -g rcc -m 755 /run/rcc",
        ),
    })
}

fn make(path: &Path) -> Result<OwnedFd, Errno> {
    let raw = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let new = || -> Result<OwnedFd, Errno> {
        let socket = rcc_host::packets::new().map_err(raw)?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(socket)
    };
    let address = UnixAddr::new(path)?;
    match connect(new()?.as_raw_fd(), &address) {
        Err(Errno::ENOENT) => {}
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(raw)?;
        }
        // Connected, or its queue is full: somebody lives there.
        _ => return Err(Errno::EADDRINUSE),
    }
    let fd = new()?;
    bind(fd.as_raw_fd(), &address)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(|_| Errno::EPERM)?;
    start(&fd, Backlog::new(128)?)?;
    Ok(fd)
}

/// The sockets that systemd passed (`sd_listen_fds(3)`), each with its use.
fn from_systemd() -> Result<Vec<(Use, OwnedFd)>, String> {
    let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !is_ours {
        return Ok(Vec::new());
    }
    let count = env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok()).filter(|n| (1..=4).contains(n));
    let Some(count) = count else { return Err("not one to four sockets were passed".into()) };
    // SAFETY: by the protocol of LISTEN_PID, these descriptors were passed to this process and nothing else uses them.
    let fds: Vec<OwnedFd> = (3..3 + count).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    let wrong = |e: String| format!("a socket that was passed is not the gateway's: {e}");
    let named: Vec<_> = fds.into_iter().map(check).collect::<Result<_, _>>().map_err(wrong)?;
    for path in [GATEWAY_SOCKET, LOG_SOCKET] {
        if named.iter().filter(|(is, _)| *is == Use::Packets(path)).count() > 1 {
            return Err(wrong("one address twice".into()));
        }
    }
    Ok(named)
}

fn check(fd: OwnedFd) -> Result<(Use, OwnedFd), String> {
    use nix::sys::socket::{getsockopt, sockopt};
    let address: SockaddrStorage = getsockname(fd.as_raw_fd()).map_err(|e| e.to_string())?;
    let path = address.as_unix_addr().and_then(UnixAddr::path);
    let is_at = |name: &str| path == Some(Path::new(name));
    let loopback = address.as_sockaddr_in().is_some_and(|a| a.ip().is_loopback());
    let (of, kind) = if let Some(name) = [GATEWAY_SOCKET, LOG_SOCKET].into_iter().find(|name| is_at(name)) {
        (Use::Packets(name), system::PACKETS)
    } else if is_at(FORWARD_SOCKET) || loopback {
        (Use::Forwarders, SockType::Stream)
    } else {
        return Err("another address".into());
    };
    if getsockopt(&fd, sockopt::SockType) != Ok(kind) || getsockopt(&fd, sockopt::AcceptConn) != Ok(true) {
        return Err(format!("not a listening {kind:?}"));
    }
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| e.to_string())?;
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| e.to_string())?;
    Ok((of, fd))
}

/// A waiting connection.
pub fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    system::accept(listener).ok()
}

/// The two ends of a worker's log, or of what tells a reader's end; both non-blocking.
pub fn log_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(system::pair()?)
}
