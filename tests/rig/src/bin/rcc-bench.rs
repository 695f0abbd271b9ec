//! What `cargo xtask bench` runs, in a world: rcc beside what a user would run without it, interleaved in one run, as
//! ratios. `rcc-bench client` is the other end of the egress bench, the same program inside a session and outside.

use anyhow::{Context, Result, bail, ensure};
use rcc_launch::machine::Person;
use rcc_launch::{home, podman, seccomp};
use rcc_rig::{Rig, shown};
use rcc_world::World;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start"] => start(),
        ["egress"] => egress(),
        ["check"] => check(),
        ["closures"] => closures(),
        ["launch-check"] => launch_check(),
        ["client", name] => client(name),
        _ => Err(anyhow::anyhow!("usage: rcc-bench start | egress | check | closures | client NAME")),
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
        let ours = timed(&mut rig.rcc(["run", "--", "true"]))?;
        bare.forget();
        let theirs = timed(&mut bare.command(&rig))?;
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

/// Store paths of a closure: a shell, a small devShell, a usual one, a large one.
const CLOSURES: [usize; 4] = [5, 300, 1000, 3000];

/// `rcc run -- true` with an approved toolchain of so many store paths, interleaved.
fn closures() -> Result<()> {
    let world = world()?;
    let rig = Rig::start(&world, &["allowed.example:443"], "")?;
    fs::create_dir_all("/nix")?;
    // The world is this process's alone, and so is what is mounted in it.
    let here = rig.user.runtime_dir.join("nix");
    fs::create_dir(&here)?;
    let name = |number: usize| format!("{number:032}-path");
    for number in 0..CLOSURES[CLOSURES.len() - 1] {
        fs::create_dir_all(here.join("store").join(name(number)).join("bin"))?;
    }
    let bin = here.join("store").join(name(0)).join("bin");
    fs::copy("/usr/bin/bash-static", bin.join("bash")).context("bash-static")?;
    fs::copy("/usr/bin/busybox", bin.join("true")).context("busybox")?;
    rcc_rig::bind(&here, Path::new("/nix"))?;
    let person =
        Person { name: rig.user.name.clone(), uid: rig.user.id, gid: rig.user.id, home: rig.user.home.clone() };
    let toolchains = home::data_folder(&person).join("toolchains");
    let project = toolchains.join(home::folder_for(&person, &rig.project).file_name().context("a name")?);
    let content = "0".repeat(64);
    rcc_rig::make_folder(&project.join(&content).join("source"), &rig.user)?;
    let bash = format!("/nix/store/{}/bin/bash", name(0));
    let path = format!("/nix/store/{}/bin", name(0));
    fs::write(project.join(&content).join("registration"), "")?;
    fs::write(project.join(&content).join("environment"), format!("PATH='{path}'\nexport PATH\n"))?;
    let use_closure = |size: usize| -> Result<()> {
        let record = serde_json::json!({
            "version": 2, "outside": {}, "project": rig.project, "content": content, "files": [], "built": format!("/nix/store/{}", name(0)),
            "store": (0..size).map(name).collect::<Vec<_>>(),
            "found": { "bash": bash, "env": null, "nix": null, "loader": null, "nix_ld": null, "libraries": [], "path": [path] },
        });
        fs::write(project.join("approved.json"), record.to_string())?;
        own(&toolchains, rig.user.id)
    };
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); CLOSURES.len()];
    println!(
        "closures: milliseconds to run `true` with a toolchain of so many store paths, {STARTS} times each, interleaved;"
    );
    println!("load average {} before", load());
    for round in 0..STARTS + 3 {
        for (size, times) in CLOSURES.iter().zip(&mut all) {
            use_closure(*size)?;
            let took = timed(&mut rig.rcc(["run", "--", "true"]))?;
            if round >= 3 {
                times.push(took);
            }
        }
    }
    let smallest = median(&all[0]);
    for (size, times) in CLOSURES.iter().zip(&all) {
        let (more, ratio) = (median(times) - smallest, median(times) / smallest);
        println!(
            "{size:>5} store paths          {:<26} ratio {ratio:.3}, {more:.1} ms more than the smallest",
            spread(times)
        );
    }
    println!("(aim: at 1000 no more than 30 ms over the smallest)");
    Ok(())
}

/// What a start checks, and all of `rcc check`, with caches warm.
fn check() -> Result<()> {
    let world = world()?;
    let rig = Rig::start(&world, &["allowed.example:443"], "")?;
    println!("check: milliseconds, {STARTS} times each; load average {} before", load());
    // The world's user reaches this program by a copy.
    let program = Path::new("/usr/local/libexec/rcc/test/rcc-bench");
    fs::copy(std::env::current_exe()?, program)?;
    let output = rig.command(&program.display().to_string()).arg("launch-check").output()?;
    ensure!(output.status.success(), "{}", shown(&output));
    let part = String::from_utf8(output.stdout)?.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let mut whole = Vec::new();
    for round in 0..STARTS + 3 {
        let began = Instant::now();
        let output = rig.rcc(["check"]).output()?;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        ensure!(output.status.code().is_some_and(|code| code <= 1), "{}", shown(&output));
        if round >= 3 {
            whole.push(took);
        }
    }
    println!("before each start          {} (aim: less than 15)", spread(&part));
    println!("rcc check                  {} (aim: less than 100)", spread(&whole));
    Ok(())
}

/// The part before each start, in this process: a line a time.
fn launch_check() -> Result<()> {
    for round in 0..STARTS + 3 {
        let began = Instant::now();
        let judged = rcc_preflight::checks::launch(&rcc_preflight::probe::launch());
        let took = began.elapsed().as_secs_f64() * 1000.0;
        judged.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        if round >= 3 {
            println!("{took:.3}");
        }
    }
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

    /// Podman does not begin where the id of a container before it stands.
    fn forget(&self) {
        for file in self.argv.iter().filter_map(|a| a.strip_prefix("--cidfile=")) {
            let _none_yet = fs::remove_file(file);
        }
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
const REQUESTS: usize = 5000;
/// Few: all rounds together, direct and by the gateway, must stay below half of the machine's ephemeral ports. A closed
/// connection keeps its port for a minute, and from half on connect(2) searches for milliseconds.
const CONNECTIONS: usize = 500;
/// Connections that ask side by side, each the next as soon as it has its answer.
const SIDE_BY_SIDE: usize = 16;
const CLIENT: &str = "/usr/local/bin/rcc-bench";
const SERVER: &str = "allowed.example";
/// A port that the world itself doesn't serve.
const PORT: u16 = 8088;
const SMALL: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

/// nginx, at every address of the world's internet.
struct Origin(Child);

impl Origin {
    fn start(world: &World) -> Result<Self> {
        let folder = Path::new(rcc_world::description::FOLDER).join("origin");
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        fs::File::create(folder.join("large"))?.set_len(DOWNLOAD as u64)?;
        let place = folder.display();
        let settings = format!(
            "daemon off; worker_processes 1; pid {place}/pid; error_log stderr;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; keepalive_requests 1000000; default_type application/octet-stream;\n\
             server {{ listen [::]:{PORT} ipv6only=off backlog=4096; root {place};\n\
             location = /small {{ return 200 \"{SMALL}\\n\"; }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, settings)?;
        let child = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", world.at.internet_pid))
            .args(["nginx", "-c"])
            .arg(&file)
            .spawn()
            .context("starting nginx")?;
        let origin = Self(child);
        let began = Instant::now();
        while TcpStream::connect((SERVER, PORT)).is_err() {
            ensure!(began.elapsed().as_secs() < 10, "nginx does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(origin)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Its worker ends with it, and all with the world.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same client, inside a session and outside, against the same nginx.
fn egress() -> Result<()> {
    let world = world()?;
    let rig = Rig::start(&world, &[&format!("{SERVER}:{PORT}")], "")?;
    let _origin = Origin::start(&world)?;
    fs::copy(std::env::current_exe()?, CLIENT)?;
    fs::set_permissions(CLIENT, fs::Permissions::from_mode(0o755))?;
    println!("egress: {ROUNDS} rounds, interleaved, plain HTTP from nginx; both ends and the gateway share the");
    println!("machine's {} processors; load average {} before\n", std::thread::available_parallelism()?, load());
    let mut all: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); MEASURED.len()];
    for _ in 0..ROUNDS {
        let direct = numbers(&mut rig.command(CLIENT), "client")?;
        let through = numbers(&mut rig.rcc(["run", "--", CLIENT]), "client")?;
        for ((into, direct), through) in all.iter_mut().zip(direct).zip(through) {
            into.0.push(direct);
            into.1.push(through);
        }
    }
    let mut table = String::new();
    writeln!(table, "{:<34} {:<28} {:<28} ratio", "", "direct", "through the gateway")?;
    for (name, (direct, through)) in MEASURED.iter().zip(&all) {
        let ratio = median(through) / median(direct);
        writeln!(table, "{name:<34} {:<28} {:<28} {ratio:.2}", spread(direct), spread(through))?;
    }
    println!("{table}");
    println!("private memory of an idle session's worker: {} KiB", idle_worker(&rig)?);
    Ok(())
}

fn numbers(command: &mut Command, mode: &str) -> Result<Vec<f64>> {
    let output = command.args([mode, SERVER]).output()?;
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

/// What [`client`] prints, in this order.
const MEASURED: [&str; 5] = [
    "download, MiB/s",
    "keep-alive, requests/s, one by one",
    "keep-alive, requests/s, 16 at once",
    "new connections/s, one by one",
    "new connections/s, 16 at once",
];

/// One number a line on standard output. The name is resolved once.
fn client(name: &str) -> Result<()> {
    let address = (name, PORT).to_socket_addrs()?.next().context("the name has no address")?;
    let began = Instant::now();
    let got = Connection::open(address, name)?.get("/large")?;
    ensure!(got == DOWNLOAD, "{got} bytes of {DOWNLOAD}");
    println!("{:.1}", rate(DOWNLOAD >> 20, began));
    for clients in [1, SIDE_BY_SIDE] {
        let requests = |count| {
            let mut connection = Connection::open(address, name)?;
            (0..count).try_for_each(|_| connection.get("/small").map(drop))
        };
        println!("{:.1}", together(clients, REQUESTS, requests)?);
    }
    for clients in [1, SIDE_BY_SIDE] {
        let connections = |count| (0..count).try_for_each(|_| Connection::open(address, name)?.get("/small").map(drop));
        println!("{:.1}", together(clients, CONNECTIONS, connections)?);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Divides `count` among so many threads; gives how many a second all did.
fn together(clients: usize, count: usize, each: impl Fn(usize) -> Result<()> + Sync) -> Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| each(count / clients))).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    Ok(rate(count / clients * clients, began))
}

struct Connection {
    name: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr, name: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { name: name.to_owned(), stream: BufReader::with_capacity(256 << 10, stream) })
    }

    /// Asks for a body and reads it; gives its length.
    fn get(&mut self, path: &str) -> Result<usize> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}:{PORT}\r\n\r\n", self.name);
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
