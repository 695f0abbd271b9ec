//! What a test sees of the world that it runs in.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::description::{Description, VARIABLE};
use crate::map;
use crate::model::Exchange;
use crate::model::script::Script;
use crate::token;
use crate::wire::{self, Packet};
use crate::witness::Hit;

/// The world around this process.
#[derive(Clone, Debug)]
pub struct World {
    /// Where everything is.
    pub at: Description,
}

impl World {
    /// The world around this process, if there is one.
    #[must_use]
    pub fn here() -> Option<Result<Self>> {
        let path = std::env::var_os(VARIABLE)?;
        Some(Description::read(Path::new(&path)).map(|at| Self { at }))
    }

    /// A token that nobody else has.
    #[must_use]
    pub fn token(&self) -> String {
        token::fresh()
    }

    /// Everything that has reached a server so far.
    pub fn hits(&self) -> Result<Vec<Hit>> {
        lines(&self.at.witness)
    }

    /// The hits that carried `token`.
    pub fn hits_with(&self, token: &str) -> Result<Vec<Hit>> {
        Ok(self.hits()?.into_iter().filter(|h| h.tokens.iter().any(|t| t == token)).collect())
    }

    /// Every packet at the host's interface so far.
    pub fn packets(&self) -> Result<Vec<Packet>> {
        self.sync()?;
        wire::read(&self.at.host_wire)
    }

    /// The packets, at either end of the link, in which `token` is, in any spelling.
    pub fn packets_containing(&self, token: &str) -> Result<Vec<Packet>> {
        self.sync()?;
        let mut all = wire::read(&self.at.host_wire)?;
        all.extend(wire::read(&self.at.internet_wire)?);
        Ok(wire::containing(all, token))
    }

    /// Fails unless `token` reached no server and was in no packet.
    pub fn assert_unseen(&self, token: &str) -> Result<()> {
        let packets = self.packets_containing(token)?;
        let hits = self.hits_with(token)?;
        if packets.is_empty() && hits.is_empty() {
            return Ok(());
        }
        let shown: Vec<_> = packets.iter().map(|p| (&p.proto, p.source, p.destination, p.ports)).collect();
        bail!("{token} was seen\nby servers: {hits:#?}\nin packets: {shown:#?}")
    }

    /// Waits until both wire witnesses have written all that was sent before this call: sends a mark, and waits for it.
    pub fn sync(&self) -> Result<()> {
        if !self.at.watch_wire {
            bail!("this world doesn't record packets (--no-wire)");
        }
        let mark = token::fresh();
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(mark.as_bytes(), SocketAddr::new(map::MARK4.into(), 9))?;
        let end = Instant::now() + Duration::from_secs(5);
        for file in [&self.at.host_wire, &self.at.internet_wire] {
            while memchr::memmem::find(&std::fs::read(file)?, mark.as_bytes()).is_none() {
                // says why, if it is because packets were lost
                wire::read(file)?;
                if Instant::now() > end {
                    bail!("the mark didn't come to {} within 5 s", file.display());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// Gives the model a script, from the next request on.
    pub fn set_script(&self, script: &Script) -> Result<()> {
        let new = self.at.model_script.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(script)?)?;
        Ok(std::fs::rename(new, &self.at.model_script)?)
    }

    /// What the model was asked so far.
    pub fn exchanges(&self) -> Result<Vec<Exchange>> {
        lines(&self.at.model_log)
    }
}

/// The whole lines of a file; the last may still be written.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| path.display().to_string())?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|l| serde_json::from_str(l).with_context(|| format!("{}: {l}", path.display()))).collect()
}
