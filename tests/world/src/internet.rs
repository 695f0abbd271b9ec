//! `rcc-world internet`: the one process that is everybody else.
//!
//! It runs in a namespace of its own, where every address is local (`AnyIP`), and knows by `getsockname` whom a client
//! meant.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::description::Description;
use crate::dns::Dns;
use crate::map;
use crate::model::Model;
use crate::outside::Outside;
use crate::routes::{Site, any};
use crate::servers::{Manner, Shared, by_address, tcp, udp};
use crate::tls::Authority;
use crate::{links, wire, witness};

/// Enters a new network namespace, says so with a line on stdout, waits for a line on stdin that says that the link is
/// there, serves, says so with another line, and goes on until it is killed.
pub fn run(description: &Path) -> Result<()> {
    let world = Description::read(description)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    say("namespace")?;
    // what needs no network is done while the link is made
    let authority = Authority::new()?;
    std::fs::write(&world.ca_pem, authority.pem())?;
    witness::open(&world.witness)?;
    let model = Model::new(&world.model_script, &world.model_log, Some(world.model_keys.clone()))?;
    let dns = Arc::new(Dns::with(world.outside.then(Outside::inherited).transpose()?));
    let site = Site::new(Some(model), dns.clone(), world.metadata_token.clone(), &world.files)?;
    let shared = Arc::new(Shared { site, authority: Some(authority), named: by_address });
    say("authority")?;

    std::io::stdin().read_exact(&mut [0]).context("the runner has gone")?;
    links::internet_side()?;
    if world.watch_wire {
        let watch = wire::Watch::set("eth0", &world.internet_wire)?;
        std::thread::spawn(|| watch.run());
    }
    let at = |port: u16| SocketAddr::new(any(), port);
    tcp(at(53), Manner::Dns, &shared)?;
    tcp(at(853), Manner::DnsTls, &shared)?;
    for &port in map::SSH_PORTS {
        tcp(at(port), Manner::Banner, &shared)?;
    }
    for &port in map::TCP_PORTS {
        tcp(at(port), if port == 7 { Manner::Echo } else { Manner::Sniff }, &shared)?;
    }
    udp(at(53), Some(dns), by_address)?;
    for &port in map::UDP_PORTS {
        udp(at(port), None, by_address)?;
    }
    say("serving")?;
    forever()
}

/// One line on stdout.
pub fn say(word: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{word}")?;
    Ok(out.flush()?)
}

/// Sleeps until the process is killed.
pub fn forever() -> ! {
    loop {
        std::thread::park();
    }
}
