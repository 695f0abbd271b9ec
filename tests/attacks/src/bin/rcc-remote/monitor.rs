//! Where the virtual machine's monitor lives: a network namespace of its own, in which the gateway has one listening socket and
//! an nftables rule binds the monitor's group, as pf does on a Mac. From there the whole of the world is one hop away: without the
//! rule all of it is reached.

use anyhow::{Context as _, Result, ensure};
use rcc_machine::{Bound, Disks, Image, Machine, Manner};
use rcc_proto::forwarded::{FORWARD_PORT, FORWARD_SOCKET};
use rcc_rig::Rig;
use rcc_world::World;
use rcc_world::description::User;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The group that the monitor alone has; on a Mac, `_rccnet`.
const GROUP: u32 = 399;
/// A port of the host's loopback on which a service of the person's listens.
const SERVICE: u16 = 9999;
const NAME: &str = "monitor";
/// The group reaches the gateway's port on its own loopback, and nothing else.
const WALL: &str = "table inet wall {
    chain out {
        type filter hook output priority 0; policy accept;
        meta skgid 399 oifname \"lo\" ip daddr 127.0.0.1 tcp dport 47081 accept
        meta skgid 399 counter reject with icmpx admin-prohibited
    }
}";

/// How the machine reaches the gateway.
#[derive(Debug)]
pub enum Channel {
    /// By the network that qemu makes up.
    Network,
    /// By vsock, without a network card; the program is qemu's other half of that.
    Vsock(PathBuf),
}

/// The place, and what is in it.
pub struct Monitor {
    /// For the gateway.
    pub listener: OwnedFd,
    /// How the machine reaches that.
    pub channel: Channel,
    namespace: Arc<OwnedFd>,
    service: Arc<Mutex<Vec<u8>>>,
    user: User,
    vsock: Option<(Child, tempfile::TempDir)>,
}

impl Monitor {
    /// Makes it, with the wall.
    pub fn new(world: &World, channel: Channel) -> Result<Self> {
        let user = world.at.user.clone().context("the world has no user")?;
        run("ip", &["netns", "add", NAME])?;
        for line in [
            "link add vm0 type veth peer name vm1 netns monitor",
            "addr add 10.99.0.1/24 dev vm0",
            "link set vm0 up",
            "-n monitor link set lo up",
            "-n monitor addr add 10.99.0.2/24 dev vm1",
            "-n monitor link set vm1 up",
            "-n monitor route add default via 10.99.0.1",
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>())?;
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        nft(
            "nft",
            &[],
            "table ip passed { chain post { type nat hook postrouting priority 100; ip saddr 10.99.0.0/24 masquerade; }; }",
        )?;
        let namespace = Arc::new(OwnedFd::from(File::open(Path::new("/run/netns").join(NAME))?));
        let service = Arc::<Mutex<Vec<u8>>>::default();
        let (heard, inside) = (service.clone(), namespace.clone());
        let listener = std::thread::spawn(move || -> Result<OwnedFd> {
            nix::sched::setns(inside.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)?;
            let gateway = TcpListener::bind(("127.0.0.1", FORWARD_PORT))?;
            let service = TcpListener::bind(("127.0.0.1", SERVICE))?;
            std::thread::spawn(move || {
                for mut stream in service.incoming().flatten() {
                    let mut bytes = [0; 1024];
                    let n = stream.read(&mut bytes).unwrap_or(0);
                    heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(&bytes[..n]);
                    let _gone = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
                }
            });
            Ok(gateway.into())
        });
        let mut listener = listener.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        let mut vsock = None;
        if let Channel::Vsock(program) = &channel {
            fs::create_dir_all("/run/rcc")?;
            let socket = UnixListener::bind(FORWARD_SOCKET)?;
            fs::set_permissions(FORWARD_SOCKET, fs::Permissions::from_mode(0o666))?;
            listener = socket.into();
            vsock = Some(other_half(program, &user, &namespace)?);
        }
        wall(true)?;
        Ok(Self { listener, channel, namespace, service, user, vsock })
    }

    /// Whether the person's service on the host's loopback has seen a token.
    pub fn service_saw(&self, token: &str) -> bool {
        let heard = self.service.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&heard).contains(token)
    }

    /// Where the forwarder finds the gateway.
    pub fn gateway(&self) -> String {
        match self.channel {
            Channel::Network => format!("10.0.2.2:{FORWARD_PORT}"),
            Channel::Vsock(_) => format!("vsock:2:{FORWARD_PORT}"),
        }
    }

    /// Starts the machine, bound.
    pub fn boot(&self, rig: &Rig<'_>, image: &Image, built: PathBuf, folder: &Path) -> Result<Machine> {
        fs::create_dir_all(folder)?;
        chown(folder, Some(rig.user.id), Some(GROUP))?;
        let layer = folder.join("run.qcow2");
        let disks = Disks::fresh(image, layer.clone(), built)?;
        chown(&layer, Some(rig.user.id), Some(GROUP))?;
        let mut devices: Vec<String> = match &self.vsock {
            None => {
                ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n", "-m", "2048"].map(str::to_owned).into()
            }
            Some((_, sockets)) => {
                let socket = sockets.path().join("vhost");
                [
                    "-nic",
                    "none",
                    "-m",
                    "2048",
                    "-object",
                    "memory-backend-memfd,id=m,size=2048M,share=on",
                    "-machine",
                    "memory-backend=m",
                ]
                .map(str::to_owned)
                .into_iter()
                .chain(["-chardev".to_owned(), format!("socket,id=v,path={}", socket.display())])
                .chain(["-device", "vhost-user-vsock-pci,chardev=v"].map(str::to_owned))
                .collect()
            }
        };
        devices.extend(["-sandbox", "on,spawn=deny"].map(str::to_owned));
        let bound = Some(Bound { uid: self.user.id, gid: GROUP, namespace: self.namespace.clone() });
        let manner = Manner { restored: None, kind: "remote", devices, bound };
        let log = folder.join("qemu");
        let mut machine = Machine::start(image, &disks, &log, &manner)?;
        machine.await_boot().with_context(|| {
            let console = fs::read_to_string(log.with_extension("console")).unwrap_or_default();
            console.lines().rev().take(30).collect::<Vec<_>>().join("\n")
        })?;
        Ok(machine)
    }
}

/// Puts the wall up, or takes it down.
pub fn wall(up: bool) -> Result<()> {
    let text = if up { WALL } else { "delete table inet wall" };
    nft("ip", &["netns", "exec", NAME, "nft"], text)
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.vsock {
            let _gone = child.kill().and_then(|()| child.wait().map(drop));
        }
    }
}

/// What is qemu's other half of a vsock without the kernel's: what the machine connects to on its host is a Unix socket.
fn other_half(program: &Path, user: &User, namespace: &Arc<OwnedFd>) -> Result<(Child, tempfile::TempDir)> {
    let sockets = tempfile::Builder::new().prefix("rcc-vsock-").tempdir()?;
    chown(sockets.path(), Some(user.id), Some(GROUP))?;
    let at = |name: &str| sockets.path().join(name);
    symlink(FORWARD_SOCKET, at(&format!("vm_{FORWARD_PORT}")))?;
    let vm = format!("guest-cid=4,uds-path={},socket={}", at("vm").display(), at("vhost").display());
    let mut command = Command::new(program);
    command.args(["--vm", &vm]).stdin(Stdio::null());
    let (uid, inside) = (user.id, namespace.clone());
    let become_it = move || {
        nix::sched::setns(inside.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)?;
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(GROUP.into(), GROUP.into(), GROUP.into())?;
        Ok(nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?)
    };
    // SAFETY: system calls alone, which allocate nothing.
    unsafe { command.pre_exec(become_it) };
    let child = command.spawn().with_context(|| program.display().to_string())?;
    let end = Instant::now() + Duration::from_secs(10);
    while !at("vhost").exists() {
        ensure!(Instant::now() < end, "{} does not listen", program.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((child, sockets))
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn nft(program: &str, before: &[&str], text: &str) -> Result<()> {
    let mut child = Command::new(program).args(before).args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(format!("{text}\n").as_bytes())?;
    ensure!(child.wait()?.success(), "nft has failed in: {text}");
    Ok(())
}
