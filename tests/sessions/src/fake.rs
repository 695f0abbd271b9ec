//! A gateway that is none: it speaks another version, or runs as somebody else.

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, listen, recv, send, socket,
};
use rcc_proto::{FromGateway, GATEWAY_SOCKET, MAX_PACKET, Opened, Version, encode};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::thread;

/// How the gateway that is none behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The version that it says it speaks.
    pub version: Version,
    /// The user that it runs as.
    pub uid: u32,
    /// Whether it refuses the listening sockets.
    pub refuses_sockets: bool,
}

/// Takes the gateway's place for as many sessions as come. The real one must not run.
pub fn serve(manner: Manner) -> Result<()> {
    let _absent = fs::remove_file(GATEWAY_SOCKET);
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(GATEWAY_SOCKET)?)?;
    fs::set_permissions(GATEWAY_SOCKET, fs::Permissions::from_mode(0o666))?;
    // A socket's credentials are those of the thread that makes it listen (unix(7)).
    let (listener, backlog) = (listener, Backlog::new(8)?);
    let made = thread::spawn(move || -> Result<OwnedFd> {
        // SAFETY: a plain system call with numbers; unlike the C library's function it is for this thread alone.
        nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, manner.uid, manner.uid, manner.uid) })?;
        listen(&listener, backlog)?;
        Ok(listener)
    });
    let listener = made.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    thread::spawn(move || {
        while let Ok(fd) = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: accept4 just returned this descriptor and nothing else owns it.
            let connection = unsafe { OwnedFd::from_raw_fd(fd) };
            thread::spawn(move || converse(&connection, manner));
        }
    });
    Ok(())
}

fn converse(connection: &OwnedFd, manner: Manner) -> Result<()> {
    let mut packet = vec![0; MAX_PACKET];
    let mut hear = || recv(connection.as_raw_fd(), &mut packet, MsgFlags::empty());
    let say = |message: &FromGateway| -> Result<usize> {
        Ok(send(connection.as_raw_fd(), &encode(message)?, MsgFlags::MSG_NOSIGNAL)?)
    };
    hear()?;
    say(&FromGateway::Opened(Opened {
        version: manner.version,
        session: "00000000000000fa".into(),
        fingerprint: "0000000000000000".into(),
        ranges: Vec::new(),
        credential_endpoints: Vec::new(),
    }))?;
    if hear()? == 0 {
        return Ok(());
    }
    if manner.refuses_sockets {
        let problem = rcc_report::Problem::new(
            rcc_report::Code::GATEWAY_NAMESPACE,
            "launcher",
            "these sockets will not do",
            "none",
        );
        say(&FromGateway::Refused { problem })?;
        return Ok(());
    }
    say(&FromGateway::Listening)?;
    // Until the launcher ends the session.
    hear()?;
    Ok(())
}
