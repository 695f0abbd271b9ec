//! What `cargo xtask bench` runs, in a world: rcc beside what a user would run without it, interleaved in one run, as
//! ratios. `rcc-bench client` is the other end of the egress bench, the same program inside a session and outside.

use anyhow::{Context, Result, bail, ensure};
use rcc_launch::{podman, seccomp};
use rcc_rig::{Rig, shown};
use rcc_world::World;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start"] => start(),
        ["egress"] => egress(),
        ["client", name] => client(name),
        _ => Err(anyhow::anyhow!("usage: rcc-bench start | egress | client NAME")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn world() -> Result<World> {
    World::here().context("rcc-bench runs in a world: use cargo xtask bench")?
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median and quartiles.
fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: usize| sorted.get(sorted.len() * share / 4).copied().unwrap_or(f64::NAN);
    format!("{:.1} ({:.1} to {:.1})", at(2), at(1), at(3))
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

const STARTS: usize = 40;

/// `rcc run -- true` beside `podman run --rootfs … true` with the same arguments, less the hook.
fn start() -> Result<()> {
    let world = world()?;
    let rig = Rig::start(&world, &["allowed.example:443"], "")?;
    let bare = Bare::prepare(&rig)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    println!("start: milliseconds to run `true`, {STARTS} times each, interleaved; load average {} before", load());
    for round in 0..STARTS + 3 {
        let (ours, theirs) = (timed(&mut rig.rcc(["run", "--", "true"]))?, timed(&mut bare.command(&rig))?);
        // The first rounds fill caches.
        if round >= 3 {
            with.push(ours);
            without.push(theirs);
        }
    }
    println!("rcc run -- true            {}", spread(&with));
    println!("podman run --rootfs true   {}", spread(&without));
    println!("ratio of the medians       {:.3}", median(&with) / median(&without));
    println!(
        "difference                 {:.1} ms: gateway session, session folder, hook, watching",
        median(&with) - median(&without)
    );
    Ok(())
}

fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    ensure!(output.status.success(), "{}", shown(&output));
    Ok(took)
}

/// Podman's call as `rcc plan` prints it, with a session folder made by hand and no hook in it.
struct Bare {
    argv: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Bare {
    fn prepare(rig: &Rig<'_>) -> Result<Self> {
        // Makes the agent's home and Podman's storage.
        timed(&mut rig.rcc(["run", "--", "true"]))?;
        let output = rig.rcc(["plan", "--json", "--", "true"]).output()?;
        ensure!(output.status.success(), "{}", shown(&output));
        let plan: Value = serde_json::from_slice(&output.stdout)?;
        let container = &plan["container"];
        let planned = container["places"]["folder"].as_str().context("no folder in the plan")?;
        // Not among the sessions: rcc would take it for one whose launcher died.
        let folder = rig.user.runtime_dir.join("bench");
        fs::create_dir(&folder)?;
        let root = folder.join("root");
        for entry in container["skeleton"].as_array().context("no skeleton in the plan")? {
            skeleton(&root, entry)?;
        }
        fs::create_dir_all(root.join("run/rcc"))?;
        fs::write(root.join("run/rcc/init"), "")?;
        fs::create_dir(folder.join("hooks"))?;
        fs::copy("/usr/local/libexec/rcc/test/rcc-hook", folder.join("rcc-hook"))?;
        let profile = seccomp::profile(std::env::consts::ARCH).context("no profile")?;
        for (name, text) in [
            ("seccomp.json", profile.to_string()),
            ("containers.conf", podman::CONTAINERS_CONF.to_owned()),
            ("storage.conf", podman::STORAGE_CONF.to_owned()),
            ("empty", String::new()),
        ] {
            fs::write(folder.join(name), text)?;
        }
        own(&folder, rig.user.id)?;
        let place = folder.display().to_string();
        let argv = plan["argv"].as_array().context("no argv in the plan")?;
        let argv = argv.iter().filter_map(Value::as_str).map(|a| a.replace(planned, &place)).collect();
        let environment = vec![
            ("HOME", container["storage"].as_str().unwrap_or_default().to_owned()),
            ("XDG_RUNTIME_DIR", rig.user.runtime_dir.display().to_string()),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("CONTAINERS_CONF", format!("{place}/containers.conf")),
            ("CONTAINERS_STORAGE_CONF", format!("{place}/storage.conf")),
        ];
        Ok(Self { argv, environment })
    }

    fn command(&self, rig: &Rig<'_>) -> Command {
        let mut command = rig.command(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }
}

fn skeleton(root: &Path, entry: &Value) -> Result<()> {
    let text = |key: &str| entry[key].as_str().with_context(|| format!("no {key} in {entry}"));
    let inside = text("path")?;
    let path = root.join(inside.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    match text("kind")? {
        "folder" => fs::create_dir_all(path)?,
        "link" => symlink(text("to")?, path)?,
        "file" => fs::write(path, text("text")?)?,
        "copy" => drop(fs::copy(inside, path)?),
        other => bail!("an entry of kind {other}"),
    }
    Ok(())
}

fn own(path: &Path, id: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(id), Some(id))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), id)?;
        }
    }
    Ok(())
}

const ROUNDS: usize = 5;
const DOWNLOAD: usize = 512 << 20;
const REQUESTS: usize = 3000;
const CONNECTIONS: usize = 1000;
const CLIENT: &str = "/usr/local/bin/rcc-bench";

/// The same client, inside a session and outside, against the same server of the world.
fn egress() -> Result<()> {
    let world = world()?;
    let rig = Rig::start(&world, &["allowed.example:80"], "")?;
    fs::copy(std::env::current_exe()?, CLIENT)?;
    fs::set_permissions(CLIENT, fs::Permissions::from_mode(0o755))?;
    println!(
        "egress: {ROUNDS} rounds, interleaved, plain HTTP, the world's own server; both ends and the gateway share the"
    );
    println!("machine's {} processors; load average {} before\n", std::thread::available_parallelism()?, load());
    let mut all: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); 3];
    for _ in 0..ROUNDS {
        let direct = numbers(&mut rig.command(CLIENT), "client")?;
        let through = numbers(&mut rig.rcc(["run", "--", CLIENT]), "client")?;
        for ((into, direct), through) in all.iter_mut().zip(direct).zip(through) {
            into.0.push(direct);
            into.1.push(through);
        }
    }
    let mut table = String::new();
    writeln!(table, "{:<28} {:<28} {:<28} ratio", "", "direct", "through the gateway")?;
    for (name, (direct, through)) in ["download, MiB/s", "keep-alive requests/s", "new connections/s"].iter().zip(&all)
    {
        let ratio = median(through) / median(direct);
        writeln!(table, "{name:<28} {:<28} {:<28} {ratio:.2}", spread(direct), spread(through))?;
    }
    println!("{table}");
    println!("private memory of an idle session's worker: {} KiB", idle_worker(&rig)?);
    Ok(())
}

fn numbers(command: &mut Command, mode: &str) -> Result<Vec<f64>> {
    let output = command.args([mode, "allowed.example"]).output()?;
    ensure!(output.status.success(), "{}", shown(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().map(|n| n.parse().with_context(|| format!("{n:?} is not a number"))).collect()
}

/// `Private_Clean` and `Private_Dirty` of a worker whose agent sleeps (proc(5), `smaps_rollup`).
fn idle_worker(rig: &Rig<'_>) -> Result<u64> {
    let mut session = rig.rcc(["run", "--", "sleep", "3"]).spawn()?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let supervisor = rig.gateway_pid().context("no gateway")?;
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
    let worker = children.split_whitespace().next().context("no worker")?;
    let rollup = fs::read_to_string(format!("/proc/{worker}/smaps_rollup"))?;
    session.wait()?;
    let private = rollup.lines().filter(|l| l.starts_with("Private_"));
    Ok(private.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}

/// Three numbers on standard output: MiB a second, requests a second on one connection, connections a second.
fn client(name: &str) -> Result<()> {
    let began = Instant::now();
    let got = Connection::open(name)?.get(DOWNLOAD)?;
    ensure!(got == DOWNLOAD, "{got} bytes of {DOWNLOAD}");
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = |count: usize, since: Instant| count as f64 / since.elapsed().as_secs_f64();
    let download = rate(DOWNLOAD >> 20, began);
    let began = Instant::now();
    let mut connection = Connection::open(name)?;
    for _ in 0..REQUESTS {
        connection.get(64)?;
    }
    let requests = rate(REQUESTS, began);
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        Connection::open(name)?.get(64)?;
    }
    println!("{download:.1} {requests:.1} {:.1}", rate(CONNECTIONS, began));
    Ok(())
}

struct Connection {
    name: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(name: &str) -> Result<Self> {
        let stream = TcpStream::connect((name, 80))?;
        stream.set_nodelay(true)?;
        Ok(Self { name: name.to_owned(), stream: BufReader::with_capacity(256 << 10, stream) })
    }

    /// Asks for a body of that length and reads it; gives its length.
    fn get(&mut self, length: usize) -> Result<usize> {
        let request = format!("GET /bytes/{length} HTTP/1.1\r\nHost: {}\r\n\r\n", self.name);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut left = 0;
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line)? > 0, "the connection ended in a head");
            if line.trim().is_empty() {
                break;
            }
            let value = line.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned());
            left = value.map_or(Ok(left), |v| v.parse())?;
        }
        let whole = left;
        while left > 0 {
            let chunk = self.stream.fill_buf()?.len().min(left);
            ensure!(chunk > 0, "the connection ended in a body");
            self.stream.consume(chunk);
            left -= chunk;
        }
        Ok(whole)
    }
}
