//! What the person's own account, and what runs inside, can do to what holds them: nothing changes, the log says what it
//! should, and other sessions go on.
//!
//! Each attempt is made by the user (outside) or the agent (inside); root's own is the control where one is possible.

use anyhow::{Result, ensure};
use rcc_rig::{LOG, POLICY, Rig};
use rcc_sessions::{Live, Part, SETUP, inside, root, user};
use rcc_world::inside_with;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

const INSTALLED: &str = "/usr/local/libexec/rcc/test";

/// A file or folder, as it is.
#[derive(PartialEq)]
struct Thing {
    bytes: Vec<u8>,
    owner: u32,
    mode: u32,
    inode: u64,
}

/// Everything that holds the person.
fn as_it_is() -> Result<Vec<Thing>> {
    let mut all = Vec::new();
    for path in [
        POLICY,
        "/etc/rcc",
        INSTALLED,
        "/usr/local/libexec/rcc/test/rcc",
        "/usr/local/libexec/rcc/test/rcc-gateway",
        "/usr/local/libexec/rcc/test/rcc-hook",
        "/usr/local/libexec/rcc/test/rcc-firewall",
        "/run/rcc",
        "/var/log/rcc",
    ] {
        let about = fs::symlink_metadata(path)?;
        let bytes = if about.is_file() { fs::read(path)? } else { Vec::new() };
        all.push(Thing { bytes, owner: about.uid(), mode: about.mode(), inode: about.ino() });
    }
    Ok(all)
}

/// Attempts on a file or folder of rcc's; each must fail.
const ON_FILES: &str = r#"
fails() { if "$@" 2>/dev/null; then echo "DONE: $*"; fi; }
for f in /etc/rcc/policy.toml /var/log/rcc/gateway.jsonl /usr/local/libexec/rcc/test/rcc-gateway /usr/local/libexec/rcc/test/rcc \
    /usr/local/libexec/rcc/test/rcc-hook /usr/local/libexec/rcc/test/rcc-firewall /run/rcc/gateway.sock /run/rcc/log.sock; do
  fails sh -c 'echo x >> "$1"' - $f
  fails sh -c ': > "$1"' - $f
  fails truncate -s 0 $f
  fails chmod 666 $f
  fails chown $(id -u) $f
  fails unlink $f
  fails mv $f $f.old
  fails ln -f /dev/null $f
  fails ln -sfn /dev/null $f
  fails touch -d 2001-01-01 $f
  # A second name where the person may write would keep an old version alive, or pin the log's bytes.
  fails ln $f $HOME/second-name
  fails setfattr -n user.x -v y $f
done
for d in /etc/rcc /run/rcc /var/log/rcc /usr/local/libexec/rcc /usr/local/libexec/rcc/test; do
  fails touch $d/new
  fails mkdir $d/new
  fails ln -s /tmp $d/new
  fails mv $d $d.old
  fails rmdir $d
  fails mount --bind /tmp $d
done
fails cp /bin/true /usr/local/bin/rcc
fails ln -sfn /bin/true /usr/local/bin/rcc
echo end
"#;

#[test]
fn files_of_rccs_are_out_of_reach() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        // The log is the gateway's and roots' to read; here it must exist.
        inside(&rig, "true")?;
        let before = as_it_is()?;
        let log = fs::read(LOG)?;
        let said = user(&rig, ON_FILES)?;
        ensure!(said == "end\n", "as the user:\n{said}");
        let said = inside(&rig, ON_FILES)?;
        ensure!(said == "end\n", "inside:\n{said}");
        ensure!(as_it_is()? == before, "something changed");
        ensure!(fs::read(LOG)?.starts_with(&log), "the log only grows");
        // The control: root can, so the attempts are real ones.
        let done = root(&format!("HOME=/root\n{ON_FILES}"))?;
        ensure!(done.matches("DONE").count() > 20, "the control: {done}");
        Ok(())
    });
}

/// Attempts on processes of the gateway's; each must fail.
const ON_PROCESSES: &str = r"
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
for pid in map(int, sys.argv[1:]):
    for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
        if libc.ptrace(request, pid, 0, 0) == 0: print('DONE: ptrace', request, pid)
    try:
        fd = os.pidfd_open(pid)
        # pidfd_getfd: a copy of its sockets.
        for n in range(8):
            if libc.syscall(438, fd, n, 0) >= 0: print('DONE: pidfd_getfd', pid, n)
        try: signal.pidfd_send_signal(fd, 0); print('DONE: pidfd_send_signal', pid)
        except OSError: pass
    except OSError: pass
    for name in ('environ', 'maps', 'fd/0', 'cwd', 'root/etc/rcc/policy.toml', 'exe', 'syscall', 'stack', 'auxv'):
        try: open(f'/proc/{pid}/{name}', 'rb').read(1); print('DONE: read', name, pid)
        except OSError: pass
    try: open(f'/proc/{pid}/mem', 'rb'); print('DONE: open mem', pid)
    except OSError: pass
    for name, text in (('oom_score_adj', '1000'), ('comm', 'x'), ('mem', 'x'), ('timerslack_ns', '1'), ('clear_refs', '1')):
        try: open(f'/proc/{pid}/{name}', 'wb', 0).write(text.encode()); print('DONE: write', name, pid)
        except OSError: pass
    try: os.setpriority(os.PRIO_PROCESS, pid, 19); print('DONE: nice', pid)
    except OSError: pass
    try: os.sched_setaffinity(pid, [0]); print('DONE: affinity', pid)
    except OSError: pass
    class Limit(ctypes.Structure): _fields_ = [('now', ctypes.c_ulong), ('most', ctypes.c_ulong)]
    if libc.prlimit(pid, 7, ctypes.byref(Limit(1, 1)), None) == 0: print('DONE: prlimit', pid)
    class Vector(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
    own = ctypes.create_string_buffer(8)
    local, remote = Vector(ctypes.addressof(own), 8), Vector(0x400000, 8)
    # EFAULT: it may, there is nothing at that address.
    if libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0 or ctypes.get_errno() == 14: print('DONE: process_vm_readv', pid)
    for number in (0, signal.SIGSTOP, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
        try: os.kill(pid, number); print('DONE: signal', number, pid)
        except OSError: pass
print('end')
";

#[test]
fn processes_of_the_gateways_are_out_of_reach() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let mut other = Live::start(&rig, "read line; echo still here")?;
        let pids = [other.part(Part::Supervisor)?, other.part(Part::Worker)?];
        let pids = pids.map(|pid| pid.to_string());
        let output = rig.command("/usr/bin/python3").arg("-c").arg(ON_PROCESSES).args(&pids).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said == "end\n", "as the user:\n{}", rcc_rig::shown(&output));
        // The control: a process of their own is the user's to do all that to.
        let mut own = rig.command("/usr/bin/sleep").arg("100").spawn()?;
        let output = rig.command("/usr/bin/python3").arg("-c").arg(ON_PROCESSES).arg(own.id().to_string()).output()?;
        own.wait()?;
        let said = String::from_utf8_lossy(&output.stdout);
        for what in
            ["signal 9", "ptrace", "pidfd_getfd", "open mem", "write oom_score_adj", "nice", "prlimit", "process_vm"]
        {
            ensure!(said.contains(&format!("DONE: {what}")), "the control, {what}: {}", rcc_rig::shown(&output));
        }
        // Inside they are not even seen; by their numbers there are other processes, or none.
        let seen = inside(&rig, "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")?;
        ensure!(!seen.contains("rcc-gateway"), "{seen}");
        writeln_to(&mut other)?;
        ensure!(other.line()? == "still here", "the other session");
        let (status, said) = other.end()?;
        ensure!(status.success(), "{said}");
        Ok(())
    });
}

fn writeln_to(live: &mut Live) -> Result<()> {
    use std::io::Write as _;
    let mut stdin = live.stdin.take().expect("a pipe");
    Ok(writeln!(stdin)?)
}

/// Bytes and descriptors that no launcher sends, to both sockets, many at once. Prints what it was answered.
const ON_SOCKETS: &str = r#"
import array, json, os, select, socket, sys
def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(5); s.connect(path); return s
def heard(s):
    try:
        while True:
            packet = s.recv(1 << 17)
            if not packet: return 'end'
            said = json.loads(packet)
            if said.get('type') in ('refused', 'closing'): return 'RCC-%s' % said['problem']['code']
            if said.get('type') != 'opened': return said.get('type')
    except (OSError, ValueError) as e: return type(e).__name__
def send(s, packet, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    try: s.sendmsg([packet], rights)
    except OSError: pass
version = {'major': 1, 'minor': 1}
opening = json.dumps({'type': 'open', 'version': version, 'project': '/p', 'agent': 'x'}).encode()
answers = set()
# What is no message, too long, or cut short; someone else's session; what belongs to another conversation.
for packet in (b'\0', b'garbage', b'{}', b'[' * 60000, b' ' * 70000, opening[:-7], b'{"type":"listen"}', b'{"type":"end"}',
    b'{"type":"hello","pid":1,"id":"x"}', b'{"type":"opened","session":"0000000000000000"}',
    b'{"type":"open","session":"' + sys.argv[1].encode() + b'","version":{"major":1,"minor":1}}'):
    s = connect('/run/rcc/gateway.sock'); send(s, packet); answers.add(heard(s))
# Descriptors of every kind, too few, too many.
kinds = [os.open('/etc/passwd', os.O_RDONLY), os.open('/', os.O_RDONLY), os.open('/dev/null', os.O_RDWR), select.epoll().fileno(),
    os.eventfd(0), os.memfd_create('x'), os.pidfd_open(os.getpid()), *os.pipe()]
kept = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)] + list(socket.socketpair())
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
kinds += [s.fileno() for s in kept]
own = [listener.fileno(), kept[1].fileno(), listener.fileno()]
for fds in [[k] * 3 for k in kinds] + [own, own[:2], own * 3, [kinds[0]] * 253]:
    s = connect('/run/rcc/gateway.sock'); send(s, opening); send(s, b'{"type":"listen"}', fds); answers.add(heard(s))
    s.close()
# Beside `open`; a gateway's socket within itself, over and over.
s = connect('/run/rcc/gateway.sock'); send(s, opening, [s.fileno()] * 200); answers.add(heard(s))
# Connections that say nothing.
silent = []
for n in range(100):
    try: silent.append(connect('/run/rcc/gateway.sock'))
    except OSError: break
print(' '.join(sorted(answers)))
reader = connect('/run/rcc/log.sock'); send(reader, b'x' * 70000, kinds)
for n in range(1000):
    try: reader.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [reader.fileno()] * 200))], socket.MSG_DONTWAIT)
    except OSError: break
print(len(silent) > 0)
"#;

#[test]
fn what_is_no_launcher_gets_nothing_and_harms_nobody() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "sessions = 60")?;
        let fetch = "curl -sS -o /dev/null -w '%{http_code}\\n' http://allowed.example/";
        let mut other = Live::start(&rig, &format!("read line\n{fetch}"))?;
        let supervisor = other.part(Part::Supervisor)?;
        let descriptors = || Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{supervisor}/fd"))?.count());
        let before = descriptors()?;
        let session =
            rig.log()?.iter().find_map(|l| l["session"].as_str().filter(|s| !s.is_empty()).map(str::to_owned));
        let session = session.expect("a session's number");
        let output = rig.command("/usr/bin/python3").args(["-c", ON_SOCKETS, &session]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut lines = said.lines();
        let codes = lines.next().unwrap_or_default();
        ensure!(
            !codes.is_empty() && codes.split(' ').all(|c| ["RCC-404", "RCC-405", "RCC-408"].contains(&c)),
            "{}",
            rcc_rig::shown(&output)
        );
        ensure!(lines.next() == Some("True"), "{}", rcc_rig::shown(&output));
        rig.wait_until("its descriptors are closed", std::time::Duration::from_secs(20), || {
            Ok(descriptors()? <= before)
        })?;
        writeln_to(&mut other)?;
        ensure!(other.line()? == "200", "the other session");
        let (status, said) = other.end()?;
        ensure!(status.success(), "{said}");
        ensure!(inside(&rig, fetch)?.trim() == "200", "later ones");
        // Each is on record with its code; none became a session of anybody else's.
        let log = rig.log()?;
        let refused = log.iter().filter(|l| l["event"] == "refused-session" && l["code"] == "RCC-405").count();
        ensure!(refused >= 10, "{refused} refusals in the log");
        let uid = rig.user.id;
        ensure!(log.iter().filter(|l| l["uid"].is_u64()).all(|l| l["uid"] == uid), "whose");
        // The agent has no way to these sockets at all.
        let none = inside(&rig, "ls /run/rcc/*.sock 2>/dev/null; echo end")?;
        ensure!(none == "end\n", "{none}");
        Ok(())
    });
}

#[test]
fn an_odd_environment_changes_nothing() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let evil = rig.user.home.join("evil");
        user(&rig, &format!(
            "mkdir -p {0}; for p in podman crun conmon nft newuidmap git npm nsenter rcc rcc-hook rcc-gateway; do
                 printf '#!/bin/sh\\ntouch {0}/ran-%s\\nexit 0\\n' $p > {0}/$p; chmod +x {0}/$p; done
             printf 'void __attribute__((constructor)) f(void) {{ extern int creat(const char *, int); creat(\"{0}/ran-preload\", 0600); }}\\n' > {0}/x.c
             gcc -shared -fPIC -o {0}/x.so {0}/x.c",
            evil.display()
        ))?;
        let mut command = rig.rcc(["run", "--", "sh", "-c", "echo inside; env"]);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", evil.display());
        command
            .env("PATH", path)
            .env("LD_PRELOAD", evil.join("x.so"))
            .env("LD_LIBRARY_PATH", &evil)
            .env("LD_AUDIT", evil.join("x.so"));
        command
            .env("GCONV_PATH", &evil)
            .env("CONTAINERS_CONF", evil.join("c"))
            .env("XDG_CONFIG_HOME", &evil)
            .env("IFS", "/");
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && said.starts_with("inside\n"), "{}", rcc_rig::shown(&output));
        ensure!(!said.contains("evil"), "{said}");
        let ran = user(&rig, &format!("ls {} | grep '^ran' || :", evil.display()))?;
        ensure!(ran.is_empty(), "{ran}");
        // The control: what is dynamic and heeds it runs it.
        user(&rig, &format!("LD_PRELOAD={0}/x.so /bin/true; test -e {0}/ran-preload", evil.display()))?;
        Ok(())
    });
}

#[test]
fn why_is_told_to_the_person() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:443"], "")?;
        let why = |arguments: &[&str]| {
            let output = rig.rcc([&["why"], arguments].concat()).output()?;
            ensure!(output.status.success() && output.stderr.is_empty(), "{}", rcc_rig::shown(&output));
            Ok(String::from_utf8(output.stdout)?)
        };
        let said = why(&["allowed.example"])?;
        ensure!(said.starts_with("allowed: ") && said.contains(&format!("{POLICY}:1")), "{said}");
        let said = why(&["denied.example:443"])?;
        ensure!(said.starts_with("denied: ") && said.contains("rcc allow denied.example:443"), "{said}");
        let said = why(&["192.168.77.20:443", "--from", "gateway", "--json"])?;
        let json: serde_json::Value = serde_json::from_str(&said)?;
        ensure!(json["answer"] == "denied" && said.contains("a network of this machine's links"), "{said}");
        Ok(())
    });
}
