//! The host firewall as root reads it back, for anybody who asks: by the socket behind which systemd starts that reading.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rcc_proto::STATUS_SOCKET;
use rcc_report::{Code, Problem};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;

/// How long the answer may take, in seconds.
const PATIENCE: i64 = 15;
/// The longest answer, in bytes.
const LONGEST: u64 = 4 << 20;

/// What is in force: `rcc-firewall --json status`. `None` where no systemd runs, which would listen there.
pub fn read_back() -> Result<Option<Value>, Problem> {
    let failed = |what: String| {
        Problem::new(Code::FIREWALL_NFT, STATUS_SOCKET, what, "ask as root: sudo systemctl status 'rcc-status@*'")
    };
    let ask = || -> nix::Result<File> {
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(STATUS_SOCKET)?)?;
        Ok(socket.into())
    };
    let connection = match ask() {
        Err(nix::errno::Errno::ENOENT) if !Path::new("/run/systemd/system").is_dir() => return Ok(None),
        other => other.map_err(|e| failed(e.desc().into()))?,
    };
    // Where a gateway without systemd owns the folder, the socket could be its own.
    let peer = getsockopt(&connection, sockopt::PeerCredentials).map_err(|e| failed(e.desc().into()))?.uid();
    if peer != 0 {
        return Err(failed(format!("the program that listens there runs as user id {peer}, not as root")));
    }
    let mut text = String::new();
    connection.take(LONGEST).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    serde_json::from_str(&text).map(Some).map_err(|e| failed(format!("its answer is not understood: {e}")))
}
