//! `rcc-world hostservices`: what a developer's machine has listening, for attempts to reach it.
//!
//! Each is named `host:…` in hits. All speak HTTP, or echo; those on Unix sockets echo.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::description::Description;
use crate::internet::{forever, say};
use crate::map::{HOST4, HOST6};
use crate::routes::Site;
use crate::servers::{Manner, Shared, tcp, udp};
use crate::witness::{self, Event, Hit};
use crate::{dns, wire};

/// The port on 127.0.0.1 and on `[::1]`, by TCP; on 127.0.0.1 also by UDP.
pub const LOOPBACK_PORT: u16 = 8901;
/// The port on every address.
pub const WILDCARD_PORT: u16 = 8902;
/// The port on the LAN addresses.
pub const LAN_PORT: u16 = 8903;
/// The name of the abstract socket.
pub const ABSTRACT: &str = "/tmp/.X11-unix/X0-rcc-world";
/// Unix sockets by path.
pub const PATHS: &[&str] = &["/run/rcc-world-service.sock", "/run/docker.sock", "/run/dbus/system_bus_socket"];

/// Serves in the namespace it is started in, says so with a line on stdout, and goes on until it is killed.
pub fn run(description: &Path) -> Result<()> {
    let world = Description::read(description)?;
    witness::open(&world.witness)?;
    if world.watch_wire {
        let watch = wire::Watch::set("eth0", &world.host_wire)?;
        std::thread::spawn(|| watch.run());
    }
    let site = Site::new(None, Arc::new(dns::Dns::default()), String::new(), &world.files)?;
    let shared = Arc::new(Shared { site, authority: None, named });
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    for address in loopback {
        tcp(SocketAddr::new(address, LOOPBACK_PORT), Manner::Sniff, &shared)?;
    }
    for address in [HOST4.into(), HOST6.into()] {
        tcp(SocketAddr::new(address, LAN_PORT), Manner::Sniff, &shared)?;
    }
    tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), WILDCARD_PORT), Manner::Sniff, &shared)?;
    udp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), LOOPBACK_PORT), None, named)?;

    let name = UnixAddress::from_abstract_name(ABSTRACT)?;
    unix(UnixListener::bind_addr(&name)?, format!("@{ABSTRACT}"))?;
    for path in PATHS {
        std::fs::create_dir_all(Path::new(path).parent().context("a path with a folder")?)?;
        let listener = UnixListener::bind(path).with_context(|| format!("listening on {path}"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        unix(listener, (*path).to_owned())?;
    }
    say("serving")?;
    forever()
}

fn named(local: SocketAddr) -> String {
    let kind = match local.port() {
        LOOPBACK_PORT => "loopback",
        WILDCARD_PORT => "wildcard",
        _ => "lan",
    };
    format!("host:{kind}")
}

fn unix(listener: UnixListener, path: String) -> Result<()> {
    std::thread::Builder::new().name("unix".into()).spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let path = path.clone();
            std::thread::spawn(move || {
                let hit = |event| Hit::new("host:unix", "unix", event, &path, "");
                hit(Event::Connect).record();
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    hit(Event::Data).carrying(&buffer[..n]).record();
                    if stream.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
            });
        }
    })?;
    Ok(())
}
