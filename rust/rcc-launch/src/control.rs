//! How `rcc allow` and `rcc deny` reach a session that runs: a socket in its own folder, which its launcher hears and
//! whose word it passes on to the gateway.
//!
//! Invariant: only a process of the same person that shares this one's user namespace is heard, and so none of any
//! container's; no mount of a container leads to the folder in any case. What may be granted is the gateway's decision.

use crate::folder::Folder;
use crate::gateway::Gateway;
use crate::home::disk_problem;
use crate::packet;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rcc_policy::{Endpoint, Grants};
use rcc_proto::{FromSession, ToSession};
use rcc_report::{Code, Problem};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a caller waits, in seconds: for the others before it, too.
const CALLERS_PATIENCE: i64 = 15;

/// The launcher's end. One caller at a time; the others wait in the kernel's queue.
pub struct Control {
    listener: OwnedFd,
    caller: Option<Caller>,
    /// What is in force.
    grants: Grants,
}

struct Caller {
    connection: OwnedFd,
    until: Instant,
    /// What the gateway was asked for.
    asked: Option<Grants>,
}

impl Control {
    /// Listens in the session's folder.
    pub fn listen(folder: &Folder, grants: &[String]) -> Result<Self, Problem> {
        let grants = Grants::parse(grants).map_err(|mut all| all.swap_remove(0))?;
        let path = folder.places.control();
        let made = || -> io::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            bind(listener.as_raw_fd(), &UnixAddr::new(&path)?)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            listen(&listener, Backlog::new(8)?)?;
            Ok(listener)
        };
        let listener = made().map_err(|e| disk_problem(&path, &e))?;
        Ok(Self { listener, caller: None, grants })
    }

    /// What to wait for now; nothing while the gateway thinks.
    #[must_use]
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.caller {
            None => Some(self.listener.as_fd()),
            Some(caller) if caller.asked.is_none() => Some(caller.connection.as_fd()),
            Some(_) => None,
        }
    }

    /// Lets go of a caller that takes too long to say what it wants. (The gateway's answer must be heard in any case.)
    pub fn tick(&mut self) {
        self.caller.take_if(|caller| caller.asked.is_none() && Instant::now() > caller.until);
    }

    /// The source is readable: somebody calls, or says what they want.
    pub fn hear(&mut self, gateway: &Gateway) {
        match self.caller.take() {
            None => self.caller = accept(&self.listener),
            Some(mut caller) => {
                // Whoever says nothing that is understood is hung up on.
                let Ok(Some((wish, _))) = packet::receive::<ToSession>(&caller.connection) else { return };
                match self.changed(&wish).and_then(|grants| gateway.grant(&grants.texts()).map(|()| grants)) {
                    Ok(grants) => {
                        caller.asked = Some(grants);
                        self.caller = Some(caller);
                    }
                    Err(problem) => caller.answer(&FromSession::Refused { problem }),
                }
            }
        }
    }

    /// What the grants would be.
    fn changed(&self, wish: &ToSession) -> Result<Grants, Problem> {
        let mut grants = self.grants.clone();
        apply(&mut grants, wish)?;
        Ok(grants)
    }

    /// The gateway has answered.
    pub fn answered(&mut self, answer: Result<u32, Problem>) {
        let Some(mut caller) = self.caller.take() else { return };
        let Some(grants) = caller.asked.take() else { return };
        match answer {
            Ok(cut) => {
                self.grants = grants;
                caller.answer(&FromSession::Done { cut });
            }
            Err(problem) => caller.answer(&FromSession::Refused { problem }),
        }
    }
}

impl Caller {
    fn answer(&self, answer: &FromSession) {
        let _gone = packet::send(&self.connection, answer, &[]);
    }
}

fn accept(listener: &OwnedFd) -> Option<Caller> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK).ok()?;
    // SAFETY: accept4 just returned this descriptor and nothing else owns it.
    let connection = unsafe { OwnedFd::from_raw_fd(raw) };
    let peer = getsockopt(&connection, sockopt::PeerCredentials).ok()?;
    let map = |of: &str| fs::read(format!("/proc/{of}/uid_map")).ok();
    let here = peer.uid() == nix::unistd::getuid().as_raw() && map(&peer.pid().to_string())? == map("self")?;
    here.then(|| Caller { connection, until: Instant::now() + PATIENCE, asked: None })
}

/// Does to the grants what a person wants, all of it or nothing.
pub fn apply(grants: &mut Grants, wish: &ToSession) -> Result<(), Problem> {
    let each = |texts: &[String], named: fn(&str) -> Result<Vec<Endpoint>, Problem>| {
        let all: Result<Vec<Vec<Endpoint>>, Problem> = texts.iter().map(|text| named(text)).collect();
        all.map(|all| all.into_iter().flatten())
    };
    match wish {
        ToSession::Allow { endpoints } => each(endpoints, Grants::named)?.try_for_each(|e| grants.allow(e)),
        ToSession::Deny { endpoints } => each(endpoints, Grants::named_to_deny)?.try_for_each(|e| grants.deny(e)),
        ToSession::Undeny { endpoints } => each(endpoints, Grants::named_to_deny)?.try_for_each(|e| grants.undeny(&e)),
    }
}

/// The person's end: asks the launcher that listens in a session's folder.
pub fn ask(socket_of: &Path, wish: &ToSession) -> Result<u32, Problem> {
    let silent = |e: &io::Error| {
        Problem::new(
            Code::SESSION_SILENT,
            socket_of.display().to_string(),
            format!("the session does not answer: {e}"),
            "answer what it asks you, or continue it (fg), and try again",
        )
    };
    let call = || -> io::Result<OwnedFd> {
        let connection = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        let patience = TimeVal::seconds(CALLERS_PATIENCE);
        setsockopt(&connection, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&connection, sockopt::SendTimeout, &patience)?;
        connect(connection.as_raw_fd(), &UnixAddr::new(socket_of)?)?;
        Ok(connection)
    };
    let connection = call().map_err(|e| silent(&e))?;
    packet::send(&connection, wish, &[]).map_err(|e| silent(&e))?;
    match packet::receive(&connection).map_err(|e| silent(&e))? {
        Some((FromSession::Done { cut }, _)) => Ok(cut),
        Some((FromSession::Refused { problem }, _)) => Err(problem),
        None => Err(silent(&io::Error::from(io::ErrorKind::UnexpectedEof))),
    }
}
