//! Figures, not verdicts: `cargo test --release -p rcc-gateway --test end_to_end -- --ignored --nocapture measure`.
//! Direct and through the gateway in one run; use the ratios.

use crate::world::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one download has, in bytes.
const SIZE: u32 = 1 << 30;

const POLICY: &str = "allow = [\"allowed.example:80,9000\"]\nusers = [\"alice\"]\n";

fn rollup(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kb = |key: &str| -> u64 {
        text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    format!(
        "private dirty {} KiB, private clean {} KiB, pss {} KiB",
        kb("Private_Dirty"),
        kb("Private_Clean"),
        kb("Pss:")
    )
}

fn worker_of(world: &World) -> i32 {
    crate::launcher::workers(world.gateway.id())[0]
}

fn download(to: SocketAddr) -> f64 {
    let mut c = dial(to);
    let start = Instant::now();
    c.write_all(b"\0go").unwrap();
    let mut buffer = vec![0; 1 << 18];
    let mut got = 0;
    while got < SIZE as usize {
        got += c.read(&mut buffer).unwrap();
    }
    f64::from(SIZE) / start.elapsed().as_secs_f64() / 1e6
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n";

fn ask(c: &mut TcpStream) {
    c.write_all(GET).unwrap();
    let mut b = [0; 512];
    assert!(c.read(&mut b).unwrap() > 40);
}

fn kept(to: SocketAddr) -> f64 {
    let mut c = dial(to);
    c.set_nodelay(true).unwrap();
    let start = Instant::now();
    for _ in 0..5000 {
        ask(&mut c);
    }
    5000.0 / start.elapsed().as_secs_f64()
}

fn new(to: SocketAddr) -> f64 {
    let start = Instant::now();
    for _ in 0..2000 {
        let mut c = dial(to);
        ask(&mut c);
        // No TIME_WAIT: two thousand of them would be a measure of their own.
        socket_reset(&c);
    }
    2000.0 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    in_world("measure::measure", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, |mut s| {
            let mut b = vec![7u8; 1 << 18];
            let _ = s.read(&mut b);
            let mut sent = 0;
            while sent < SIZE as usize && s.write_all(&b).is_ok() {
                sent += b.len();
            }
        });
        world.server(80, |mut s| {
            let _ = s.set_nodelay(true);
            let mut b = [0; 4096];
            while let Ok(1..) = s.read(&mut b) {
                if s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello")
                    .is_err()
                {
                    break;
                }
            }
        });
        let session = world.session(9000);
        std::thread::sleep(Duration::from_millis(300));
        let pid = worker_of(&world);
        eprintln!("idle worker, fresh: {}", rollup(pid));
        let via = SocketAddr::from((
            session.lookup("allowed.example").unwrap()[0].to_string().parse::<std::net::IpAddr>().unwrap(),
            9000,
        ));
        for _ in 0..2 {
            let direct = download("11.1.2.3:9000".parse().unwrap());
            let through = session.run(move || download(via));
            eprintln!("download: direct {direct:.0} MB/s, through {through:.0} MB/s, ratio {:.2}", through / direct);
        }
        std::thread::sleep(Duration::from_millis(300));
        eprintln!("idle worker, after downloads: {}", rollup(pid));
        drop(session);
        std::thread::sleep(Duration::from_millis(300));
        let session = Arc::new(world.session(80));
        let via = SocketAddr::new(session.lookup("allowed.example").unwrap()[0], 80);
        for _ in 0..2 {
            let direct = kept("11.1.2.3:80".parse().unwrap());
            let through = session.run(move || kept(via));
            eprintln!("requests, kept: direct {direct:.0}/s, through {through:.0}/s, ratio {:.2}", through / direct);
            let direct = new("11.1.2.3:80".parse().unwrap());
            let through = session.run(move || new(via));
            eprintln!(
                "requests, new connections: direct {direct:.0}/s, through {through:.0}/s, ratio {:.2}",
                through / direct
            );
        }
        std::thread::sleep(Duration::from_millis(300));
        let pid = worker_of(&world);
        eprintln!("idle worker, after requests: {}", rollup(pid));
    });
}
