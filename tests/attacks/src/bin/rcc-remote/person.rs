//! The person's side on the host: a process of theirs that opens a session at the gateway, as the launcher on a Mac does, and
//! has a ticket for the machine.

use anyhow::{Context as _, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcc_launch::gateway::{Gateway, Word};
use rcc_proto::{ANTHROPIC_ENDPOINT, Credential, CredentialKind, Open, Secret, VERSION};
use rcc_rig::Rig;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A session that is open on the host.
pub struct Person {
    child: Child,
    said: Receiver<String>,
    /// For the launcher in the machine.
    pub ticket: String,
}

impl Person {
    /// Opens a session, with the model's key.
    pub fn open(rig: &Rig<'_>) -> Result<Self> {
        let me = std::env::current_exe()?;
        let mut command = rig.command(me.to_str().context("a plain path")?);
        command.arg("person").env("ANTHROPIC_API_KEY", &rig.world.at.model_keys.api_key);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let (tell, said) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        let mut this = Self { child, said, ticket: String::new() };
        this.ticket = this.expect("ticket ")?.split_off("ticket ".len());
        Ok(this)
    }

    /// Waits for a line that begins so.
    pub fn expect(&mut self, word: &str) -> Result<String> {
        let end = Instant::now() + Duration::from_secs(150);
        let line = self.said.recv_timeout(end.saturating_duration_since(Instant::now()));
        let line = line.with_context(|| format!("waiting for {word:?}"))?;
        ensure!(line.starts_with(word), "the gateway said {line:?} instead of {word:?}");
        Ok(line)
    }

    /// Asks the gateway for something.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let to = self.child.stdin.as_mut().context("no pipe")?;
        Ok(to.write_all(format!("{line}\n").as_bytes())?)
    }

    /// The gateway ends the session for this reason, since the machine's side has ended.
    pub fn farewell(self, code: &str) -> Result<()> {
        loop {
            let line = self.said.recv_timeout(Duration::from_secs(60)).context("waiting for the end")?;
            match line.as_str() {
                "begun" => {}
                line if line == format!("farewell {code}") => return Ok(()),
                other => bail!("the gateway said {other:?}"),
            }
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait().map(drop));
    }
}

/// That process.
pub fn main() -> Result<()> {
    let secret = Secret::new(std::env::var("ANTHROPIC_API_KEY")?);
    let credential = Credential { endpoint: ANTHROPIC_ENDPOINT.into(), kind: CredentialKind::ApiKey, secret };
    let project = std::env::current_dir()?.display().to_string();
    let (grants, credentials) = (Vec::new(), vec![credential]);
    let open = Open { version: VERSION, project, agent: "run".into(), grants, credentials, ticket: None };
    let gateway = Gateway::open(open).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let ticket = gateway.forward().map_err(|problem| anyhow::anyhow!("{problem}"))?;
    println!("ticket {}", ticket.expose());
    let mut typed = std::io::stdin();
    loop {
        let mut fds = [PollFd::new(gateway.as_fd(), PollFlags::POLLIN), PollFd::new(typed.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        let [heard, asked] = [0, 1].map(|i| fds[i].any() == Some(true));
        if heard {
            match gateway.hear() {
                Word::Begun => println!("begun"),
                Word::Held(problem) => println!("held {}", problem.code),
                Word::Released => println!("released"),
                Word::Grants(Ok(cut)) => println!("granted {cut}"),
                Word::Grants(Err(problem)) => println!("refused {}", problem.code),
                Word::Farewell(problem) => {
                    println!("farewell {}", problem.code);
                    return Ok(());
                }
            }
        }
        if asked {
            let mut line = [0; 4096];
            let n = typed.read(&mut line)?;
            let line = String::from_utf8_lossy(&line[..n]).into_owned();
            let Some(grants) = line.trim().strip_prefix("grants ") else { return Ok(()) };
            let grants: Vec<String> = grants.split(' ').map(str::to_owned).collect();
            gateway.grant(&grants).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        }
    }
}
