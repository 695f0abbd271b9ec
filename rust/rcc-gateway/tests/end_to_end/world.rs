//! A host, a small internet and sessions, each a network namespace of the test's own; and the real gateway.
//!
//! A test body runs in a child of the test binary, in private mount and network namespaces (as root, or by a user
//! namespace with subordinate uids), where /etc, /run and /var/log are its own.

use crate::netlink;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use rcc_proto::forwarded::FORWARD_PORT;
use rcc_proto::{FromGateway, GATEWAY_SOCKET, Open, ToGateway, VERSION, decode, encode};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The gateway's uid here, and the person's.
pub const RCC: u32 = 4711;
pub const ALICE: u32 = 1000;
pub const MALLORY: u32 = 1001;

/// A name with this address has none: its resolver fails.
pub const FAILS: &str = "0.0.0.0";

/// Runs the body of the calling test in a world of its own.
pub fn in_world(test: &str, body: impl FnOnce()) {
    if std::env::var_os(KIND).is_some() {
        return body();
    }
    again(test, "local");
}

/// The same twice: with sessions on the host itself, and with sessions whose sockets a forwarder has.
pub fn in_both_worlds(test: &str, body: impl FnOnce()) {
    if std::env::var_os(KIND).is_some() {
        return body();
    }
    again(test, "local");
    again(test, FORWARDED);
}

const KIND: &str = "RCC_GATEWAY_WORLD";
const FORWARDED: &str = "forwarded";

fn again(test: &str, kind: &str) {
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.args(["--map-root-user", "--map-auto"]);
    }
    let status = unshare
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads", "1"])
        .env(KIND, kind)
        .status()
        .expect("unshare of util-linux");
    assert!(status.success(), "{test} failed in its world ({kind})");
}

pub type Names = Arc<Mutex<HashMap<String, Vec<IpAddr>>>>;

pub struct World {
    pub gateway: Child,
    pub guest: Option<Guest>,
    internet: OwnedFd,
    pub names: Names,
    pub asked: Arc<Mutex<Vec<String>>>,
}

fn namespace() -> OwnedFd {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        netlink::loopback();
        OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
    })
    .join()
    .unwrap()
}

/// Runs something in a network namespace, on a thread of its own.
pub fn within<T: Send + 'static>(namespace: &OwnedFd, f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    let namespace = namespace.try_clone().unwrap();
    thread::spawn(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        f()
    })
}

/// What stands for a virtual machine: a network namespace with its loopback alone, on which the gateway has a socket as if the
/// machine's monitor passed it on; and a forwarder in it, where the gateway's own socket would be.
pub struct Guest {
    namespace: OwnedFd,
    pub forwarder: Child,
    listener: TcpListener,
}

impl Guest {
    fn new() -> Self {
        let namespace = namespace();
        let listener = within(&namespace, || TcpListener::bind(("127.0.0.1", FORWARD_PORT)).unwrap()).join().unwrap();
        let forwarder = start_forwarder(&namespace);
        Self { namespace, forwarder, listener }
    }

    /// Where its launchers call.
    pub fn socket(&self) -> String {
        format!("/proc/{}/root{GATEWAY_SOCKET}", self.forwarder.id())
    }

    /// A stream to the gateway's socket, as anybody in the virtual machine can have one.
    pub fn stream(&self) -> TcpStream {
        within(&self.namespace, || dial(([127, 0, 0, 1], FORWARD_PORT).into())).join().unwrap()
    }

    /// A launcher in it.
    pub fn launcher(&self) -> OwnedFd {
        launcher_at(ALICE, &self.socket())
    }
}

fn start_forwarder(namespace: &OwnedFd) -> Child {
    let namespace = namespace.as_raw_fd();
    let mut command = Command::new("/etc/bin/rcc-forward");
    command.arg(format!("127.0.0.1:{FORWARD_PORT}")).env_clear().stderr(Stdio::inherit());
    // SAFETY: system calls alone; that some of them allocate is no harm here, since only this thread forks.
    unsafe {
        command.pre_exec(move || {
            setns(std::os::fd::BorrowedFd::borrow_raw(namespace), CloneFlags::CLONE_NEWNET)?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
            fs::create_dir("/run/rcc")?;
            chown("/run/rcc", Some(RCC), Some(RCC))?;
            nix::unistd::setresgid(RCC.into(), RCC.into(), RCC.into())?;
            Ok(nix::unistd::setresuid(RCC.into(), RCC.into(), RCC.into())?)
        });
    }
    command.spawn().unwrap()
}

impl World {
    /// A host with this policy, and the gateway running on it.
    pub fn new(policy: &str) -> Self {
        Self::of_kind(policy, std::env::var(KIND).is_ok_and(|kind| kind == FORWARDED))
    }

    /// The same, with a virtual machine or without.
    pub fn of_kind(policy: &str, forwarded: bool) -> Self {
        let tmpfs = |at: &str| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        let binary = fs::read(env!("CARGO_BIN_EXE_rcc-gateway")).unwrap();
        let in_the_machine = fs::read(env!("CARGO_BIN_EXE_rcc-forward")).unwrap();
        for at in ["/etc", "/run", "/var/log"] {
            tmpfs(at);
        }
        for (folder, uid) in
            [("/etc/rcc", 0), ("/run/rcc", RCC), ("/var/log/rcc", RCC), ("/run/bin", 0), ("/etc/bin", 0)]
        {
            fs::create_dir(folder).unwrap();
            chown(folder, Some(uid), Some(uid)).unwrap();
        }
        fs::write(
            "/etc/passwd",
            format!("root:x:0:0::/:/bin/sh\nrcc:x:{RCC}:{RCC}::/:/bin/sh\nalice:x:{ALICE}:{ALICE}::/:/bin/sh\n"),
        )
        .unwrap();
        fs::write("/etc/group", format!("root:x:0:\nalice:x:{ALICE}:\n")).unwrap();
        fs::write("/etc/resolv.conf", "search evil.example\nnameserver 10.77.0.1\n").unwrap();
        fs::write("/etc/rcc/policy.toml", policy).unwrap();
        for (program, bytes) in [("/run/bin/rcc-gateway", binary), ("/etc/bin/rcc-forward", in_the_machine)] {
            fs::write(program, bytes).unwrap();
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        }

        let internet = namespace();
        netlink::up("lo");
        netlink::veth("host0", "inet0", &internet);
        netlink::address("host0", "10.77.0.2", 24);
        netlink::up("host0");
        within(&internet, || {
            netlink::address("inet0", "10.77.0.1", 24);
            netlink::up("inet0");
            netlink::route("11.0.0.0", 8, None);
            netlink::route("10.20.0.0", 16, None);
        })
        .join()
        .unwrap();
        netlink::route("0.0.0.0", 0, Some("10.77.0.1"));
        put_in_force();
        let names = Names::default();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (n, a) = (names.clone(), asked.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        within(&internet, move || resolver(&n, &a, &ready));
        is_ready.recv().unwrap();
        let guest = forwarded.then(Guest::new);
        let gateway = start_gateway(guest.as_ref());
        let world = Self { gateway, guest, internet, names, asked };
        world.wait_for_sockets();
        world
    }

    fn wait_for_sockets(&self) {
        let until = Instant::now() + Duration::from_secs(5);
        for socket in self.guest.iter().map(Guest::socket).chain([GATEWAY_SOCKET.to_owned()]) {
            while !fs::exists(&socket).unwrap_or(false) {
                assert!(Instant::now() < until, "{socket} is not there");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// The virtual machine.
    pub fn guest(&self) -> &Guest {
        self.guest.as_ref().expect("the world is a forwarded one")
    }

    /// Kills the gateway and starts another.
    pub fn restart(&mut self) {
        self.gateway.kill().unwrap();
        self.gateway.wait().unwrap();
        fs::remove_file(GATEWAY_SOCKET).unwrap();
        self.gateway = start_gateway(self.guest.as_ref());
        self.wait_for_sockets();
    }

    /// Gives a name addresses.
    pub fn name(&self, name: &str, addresses: &[&str]) {
        self.names.lock().unwrap().insert(name.into(), addresses.iter().map(|a| a.parse().unwrap()).collect());
    }

    /// Wires the internet's side further.
    pub fn wire(&self, f: impl FnOnce() + Send + 'static) {
        within(&self.internet, f).join().unwrap();
    }

    /// A server in the internet, on all its addresses: `f` serves each connection.
    pub fn server(&self, port: u16, f: impl Fn(TcpStream) + Send + Sync + 'static) {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let f = Arc::new(f);
        within(&self.internet, move || {
            let listener = TcpListener::bind(("::", port)).unwrap();
            ready.send(()).unwrap();
            for c in listener.incoming().flatten() {
                let f = f.clone();
                thread::spawn(move || f(c));
            }
        });
        is_ready.recv().unwrap();
    }

    #[expect(clippy::unused_self, reason = "the log is this world's")]
    /// The log's lines so far, once one holds all of the words.
    pub fn log_with(&self, words: &[&str]) -> String {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let log = fs::read_to_string("/var/log/rcc/gateway.jsonl").unwrap_or_default();
            if let Some(line) = log.lines().find(|l| words.iter().all(|w| l.contains(w))) {
                return line.to_owned();
            }
            assert!(Instant::now() < until, "no line with {words:?} in:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A whole session whose listener is on `port` (without a redirect, the port that is dialled).
    pub fn session(&self, port: u16) -> Session {
        self.session_with(port, open(VERSION))
    }

    pub fn session_with(&self, port: u16, open: Open) -> Session {
        let launcher = launcher(ALICE);
        say(&launcher, &ToGateway::Open(open), &[]);
        let FromGateway::Opened(opened) = hear(&launcher).expect("an answer") else { panic!("refused") };
        let (namespace, sockets) = session_sockets(port);
        let guest = self.guest.as_ref().map(|guest| {
            let within = guest.launcher();
            say(&within, &ToGateway::Open(ticketed(ticket(&launcher))), &[]);
            let FromGateway::Opened(same) = hear(&within).expect("an answer") else { panic!("refused") };
            assert_eq!((&same.session, &same.ranges), (&opened.session, &opened.ranges));
            within
        });
        let taker = guest.as_ref().unwrap_or(&launcher);
        say(taker, &ToGateway::Listen, &sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        for told in guest.iter().chain([&launcher]) {
            match hear(told) {
                Some(FromGateway::Listening) => {}
                other => panic!("{other:?}"),
            }
        }
        Session { launcher, guest, namespace, sockets, port, opened }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string("/var/log/rcc/gateway.jsonl").unwrap_or_default());
        }
        for child in [&mut self.gateway].into_iter().chain(self.guest.as_mut().map(|guest| &mut guest.forwarder)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks for a session's ticket.
pub fn ticket(launcher: &OwnedFd) -> rcc_proto::Secret {
    say(launcher, &ToGateway::Forward, &[]);
    match hear(launcher) {
        Some(FromGateway::Ticket { ticket }) => ticket,
        other => panic!("{other:?}"),
    }
}

/// What a launcher in a virtual machine says first.
pub fn ticketed(ticket: rcc_proto::Secret) -> Open {
    Open { ticket: Some(ticket), ..open(VERSION) }
}

/// The host firewall of the policy as it is now. One that is not valid has none.
pub fn put_in_force() {
    if let Ok(wanted) = rcc_firewall::wanted(std::path::Path::new("/etc/rcc/policy.toml")) {
        rcc_firewall::apply(&rcc_firewall::Nft::find().unwrap(), &wanted).unwrap();
    }
}

pub fn start_gateway(guest: Option<&Guest>) -> Child {
    let mut command = Command::new("/bin/sh");
    // As systemd passes a socket.
    let passed = guest.map(|guest| guest.listener.as_raw_fd());
    let said = if passed.is_some() { "LISTEN_FDS=1 LISTEN_PID=$$" } else { "" };
    command.args(["-c", &format!("{said} exec /run/bin/rcc-gateway serve")]);
    command.env_clear().uid(RCC).gid(RCC).stderr(Stdio::inherit());
    if let Some(fd) = passed {
        // SAFETY: one system call, which allocates nothing.
        unsafe {
            command.pre_exec(move || if libc::dup2(fd, 3) == 3 { Ok(()) } else { Err(io::Error::last_os_error()) });
        }
    }
    command.spawn().unwrap()
}

pub fn open(version: rcc_proto::Version) -> Open {
    Open {
        version,
        project: "/home/alice/p".into(),
        agent: "run".into(),
        grants: vec![],
        credentials: vec![],
        ticket: None,
    }
}

/// A namespace as the hook makes it, and its three sockets.
pub fn session_sockets(port: u16) -> (OwnedFd, Vec<OwnedFd>) {
    let namespace = namespace();
    let sockets = within(&namespace, move || {
        netlink::address("lo", "198.18.0.1", 32);
        netlink::route("198.18.0.0", 15, None);
        let tcp = TcpListener::bind(("0.0.0.0", port)).unwrap();
        let dns = UdpSocket::bind("198.18.0.1:53").unwrap();
        let dns_tcp = TcpListener::bind("198.18.0.1:53").unwrap();
        tcp.set_nonblocking(true).unwrap();
        vec![OwnedFd::from(tcp), OwnedFd::from(dns), OwnedFd::from(dns_tcp)]
    });
    let sockets = sockets.join().unwrap();
    (namespace, sockets)
}

/// A connection to the gateway, made by that uid.
pub fn launcher(uid: u32) -> OwnedFd {
    launcher_at(uid, GATEWAY_SOCKET)
}

fn launcher_at(uid: u32, path: &str) -> OwnedFd {
    // A person does not get at another's process; where it leads they do.
    let folder = File::open(std::path::Path::new(path).parent().unwrap()).unwrap();
    let path = format!("/proc/self/fd/{}/gateway.sock", folder.as_raw_fd());
    thread::spawn(move || {
        let _folder = folder;
        // SAFETY: the raw calls change this thread's ids alone.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setresgid, uid, uid, uid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(path.as_str()).unwrap()).unwrap();
        fd
    })
    .join()
    .unwrap()
}

pub fn say(to: &OwnedFd, message: &ToGateway, fds: &[RawFd]) {
    say_bytes(to, &encode(message).unwrap(), fds);
}

pub fn say_bytes(to: &OwnedFd, bytes: &[u8], fds: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None).unwrap();
}

/// What the gateway says; `None` when it has hung up.
pub fn hear(from: &OwnedFd) -> Option<FromGateway> {
    let timeout = nix::sys::time::TimeVal::new(15, 0);
    nix::sys::socket::setsockopt(from, nix::sys::socket::sockopt::ReceiveTimeout, &timeout).unwrap();
    let mut buffer = vec![0; 65536];
    match nix::sys::socket::recv(from.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(0) | Err(nix::errno::Errno::ECONNRESET) => None,
        Ok(n) => Some(decode(&buffer[..n]).unwrap()),
        Err(e) => panic!("the gateway says nothing: {e}"),
    }
}

pub struct Session {
    pub launcher: OwnedFd,
    /// The launcher in the virtual machine, if the session is in one.
    pub guest: Option<OwnedFd>,
    pub namespace: OwnedFd,
    pub sockets: Vec<OwnedFd>,
    pub port: u16,
    pub opened: rcc_proto::Opened,
}

impl Session {
    /// Runs something as the agent would.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.namespace, f).join().unwrap()
    }

    /// Looks a name up by the session's resolver.
    pub fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ResponseCode> {
        let name = name.to_owned();
        self.run(move || lookup(&name, RecordType::A))
    }

    /// Connects to a name.
    pub fn connect(&self, name: &str) -> TcpStream {
        let ip = self.lookup(name).unwrap()[0];
        let port = self.port;
        self.run(move || dial((ip, port).into()))
    }
}

pub fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

pub fn lookup(name: &str, kind: RecordType) -> Result<Vec<IpAddr>, ResponseCode> {
    let mut query = Message::new();
    query.set_id(99);
    query.add_query(hickory_proto::op::Query::query(
        hickory_proto::rr::Name::from_ascii(format!("{name}.")).unwrap(),
        kind,
    ));
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&query.to_vec().unwrap(), "198.18.0.1:53").unwrap();
    let mut buffer = [0; 1500];
    let n = socket.recv(&mut buffer).expect("an answer");
    let answer = Message::from_vec(&buffer[..n]).unwrap();
    if answer.response_code() != ResponseCode::NoError {
        return Err(answer.response_code());
    }
    Ok(answer.answers().iter().filter_map(|r| r.data().ip_addr()).collect())
}

/// Whether the connection was reset or ended, without a byte.
pub fn is_dead(stream: &mut TcpStream) -> bool {
    let mut byte = [0; 1];
    match stream.read(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(e) => matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
    }
}

/// Echoes until the end.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 65536];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 || stream.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}

fn resolver(names: &Names, asked: &Mutex<Vec<String>>, ready: &std::sync::mpsc::Sender<()>) {
    let socket = UdpSocket::bind("10.77.0.1:53").unwrap();
    ready.send(()).unwrap();
    let mut buffer = [0; 1500];
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let Ok(query) = Message::from_vec(&buffer[..n]) else { continue };
        let question = query.queries()[0].clone();
        let name = question.name().to_ascii().trim_end_matches('.').to_owned();
        asked.lock().unwrap().push(name.clone());
        let mut answer = Message::new();
        answer.set_id(query.id());
        answer.set_message_type(MessageType::Response);
        answer.add_query(question.clone());
        match names.lock().unwrap().get(&name) {
            None => {
                answer.set_response_code(ResponseCode::NXDomain);
            }
            Some(addresses) if addresses.iter().any(|ip| ip.to_string() == FAILS) => {
                answer.set_response_code(ResponseCode::ServFail);
            }
            Some(addresses) => {
                for ip in addresses {
                    let data = match (ip, question.query_type()) {
                        (IpAddr::V4(ip), RecordType::A) => RData::A(A(*ip)),
                        (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(AAAA(*ip)),
                        _ => continue,
                    };
                    answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
                }
            }
        }
        let _ = socket.send_to(&answer.to_vec().unwrap(), from);
    }
}

/// Ends a connection by a reset.
pub fn socket_reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
}
