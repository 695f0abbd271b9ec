//! The person's own lines of the gateway's log, by its second socket.

use crate::gateway::genuine;
use rcc_host::packets;
use rcc_proto::{LOG_SOCKET, MAX_PACKET};
use rcc_report::{Code, Problem};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// An open log.
pub struct Log {
    connection: OwnedFd,
}

/// What comes from it.
pub enum Part {
    /// Whole lines.
    Lines(String),
    /// What follows happens from now on.
    Now,
}

impl Log {
    /// Calls the gateway.
    pub fn open() -> Result<Self, Problem> {
        let connection = packets::call(Path::new(LOG_SOCKET)).map_err(|e| {
            let what = format!("no gateway answers there: {}", packets::words(&e));
            let remedy = rcc_preflight::probe::setup_command();
            Problem::new(Code::GATEWAY_ABSENT, LOG_SOCKET, what, remedy)
        })?;
        genuine(&connection)?;
        Ok(Self { connection })
    }

    /// The next part.
    pub fn next(&self) -> Result<Part, Problem> {
        let mut bytes = vec![0; MAX_PACKET];
        loop {
            match packets::receive(&self.connection, &mut bytes) {
                Ok(1) if bytes.first() == Some(&b'\n') => return Ok(Part::Now),
                Ok(n @ 1..) => return Ok(Part::Lines(String::from_utf8_lossy(&bytes[..n]).into_owned())),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    let what = "the gateway hung up: it ended, the policy's `users` does not name you, or you read the log more than four times at once";
                    return Err(Problem::new(Code::GATEWAY_LOST, LOG_SOCKET, what, "try again"));
                }
            }
        }
    }
}
