//! The host firewall as root reads it back, for anybody who asks: by the socket behind which systemd starts that reading.

use rcc_proto::STATUS_SOCKET;
use rcc_report::{Code, Problem};
use serde_json::Value;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest answer, in bytes.
const LONGEST: u64 = 4 << 20;

/// What is in force: `rcc-firewall --json status`. `None` where no systemd runs, which would listen there.
pub fn read_back() -> Result<Option<Value>, Problem> {
    let failed = |what: String| {
        let remedy = if cfg!(target_os = "macos") {
            "ask as root: sudo launchctl print system/dev.rcc.status"
        } else {
            "ask as root: sudo systemctl status 'rcc-status@*'"
        };
        Problem::new(Code::FIREWALL_NFT, STATUS_SOCKET, what, remedy)
    };
    let connection = match UnixStream::connect(STATUS_SOCKET) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && nobody_would_listen() => return Ok(None),
        other => other.map_err(|e| failed(rcc_host::packets::words(&e)))?,
    };
    connection.set_read_timeout(Some(PATIENCE)).map_err(|e| failed(e.to_string()))?;
    // Where a gateway without systemd owns the folder, the socket could be its own.
    let peer = rcc_host::packets::peer(&connection).map_err(|e| failed(e.to_string()))?;
    if peer != 0 {
        return Err(failed(format!("the program that listens there runs as user id {peer}, not as root")));
    }
    let mut text = String::new();
    connection.take(LONGEST).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    serde_json::from_str(&text).map(Some).map_err(|e| failed(format!("its answer is not understood: {e}")))
}

/// A Mac has launchd in any case.
fn nobody_would_listen() -> bool {
    cfg!(target_os = "linux") && !Path::new("/run/systemd/system").is_dir()
}
