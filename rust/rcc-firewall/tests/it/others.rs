//! Other firewalls on the same machine, each by its own program: what they accept reopens nothing, what they flush is seen,
//! and rcc leaves their tables as they are.

use crate::{FULL, GATEWAY, by, network, nft, policy, table};
use rcc_firewall::{Nft, apply, remove, status};
use rcc_rules::Found;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A mount namespace with copies of what these programs keep in /etc and elsewhere.
const PRIVATE: &str = "mount --make-rprivate /
    for folder in /etc/ufw /etc/default /etc/firewalld /var/log /run; do
        copy=$(mktemp -d); mount -t tmpfs none $copy; cp -a $folder/. $copy 2>/dev/null || :; mount --bind $copy $folder
    done
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// Root's shell, in a namespace of its own.
fn shell(script: &str) {
    let output = Command::new("unshare").args(["--mount", "bash", "-euc", &format!("{PRIVATE}\n{script}")]).output();
    let output = output.expect("unshare runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&said));
}

/// Does what it is told, a line at a time, until the end of its input.
const ORDERS: &str = r#"echo ready >&3
    while read -r order; do
        if eval "$order" >&2; then echo done; else echo "failed: $order"; fi >&3
    done"#;

/// firewalld on a message bus of its own. At the end it ends in good order, and so removes its table.
const FIREWALLD: &str = r#"bus=/run/bus.socket
    export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$bus
    echo "<busconfig><type>system</type><listen>unix:path=$bus</listen><auth>EXTERNAL</auth><policy context='default'>
        <allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/></policy></busconfig>" > /run/bus.conf
    dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile 3>&- & busd=$!
    trap 'kill $busd' EXIT
    until test -S $bus; do kill -0 $busd; sleep 0.05; done
    firewalld --nofork --nopid 3>&- & firewalld=$!
    trap 'kill $firewalld; wait $firewalld; kill $busd; wait' EXIT
    until firewall-cmd --quiet --state 2>/run/said; do kill -0 $firewalld; sleep 0.2; done"#;

/// Docker with its containerd and runc. All that it keeps is in memory (a machine's own socket of containerd's would be
/// used, were it seen), its control groups are below one of its own, and it can load no module: that would stay.
const DOCKER: &str = r#"mkdir -p /etc/docker
    for folder in /run /opt /etc/docker; do mount -t tmpfs none $folder; done
    mkdir /run/groups
    mount -t cgroup2 none /run/groups
    groups=$(mktemp -d /run/groups/rcc-test-XXXXXX)
    mount --bind $groups /sys/fs/cgroup
    up() {
        setpriv --bounding-set=-sys_module dockerd --data-root=/run/data --storage-driver=vfs --iptables=true \
            --exec-opt=native.cgroupdriver=cgroupfs --bip=172.30.0.1/24 --experimental --ip6tables --ipv6 \
            --fixed-cidr-v6=fd00:172:30::/64 3>&- >>/run/said 2>&1 & dockerd=$!
        until api GET _ping; do kill -0 $dockerd || { cat /run/said; exit 1; }; sleep 0.1; done 2>/dev/null >&2
    }
    down() { kill $dockerd && wait $dockerd; }
    api() {
        curl --silent --show-error --fail-with-body --unix-socket /run/docker.sock --request "$1" "http://docker/$2" "${@:3}"
    }
    post() { api POST "$1" --header 'Content-Type: application/json' --data "${2-}"; }
    trap 'set +e; down; ended=$?; find $groups -depth -type d -exec rmdir {} +; exit $ended' EXIT
    up"#;

/// One of them, the real one, with processes and mounts of its own.
struct Firewall {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Firewall {
    fn start(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-euc"]);
        command.arg(format!("exec 3>&1 1>&2\n{PRIVATE}\n{script}\n{ORDERS}"));
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare runs");
        let (orders, answers) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        let mut firewall = Self { shell, orders, answers };
        assert_eq!(firewall.answer(), "ready");
        firewall
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn run(&mut self, script: &str) {
        for order in script.lines() {
            writeln!(self.orders.as_mut().unwrap(), "{}", order.trim()).unwrap();
            assert_eq!(self.answer(), "done");
        }
    }

    /// Whether it ended in good order.
    fn end(&mut self) -> bool {
        self.orders = None;
        self.shell.wait().unwrap().success()
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the gateway's datagram to a private address goes. (A refused one is EPERM at once.)
fn is_open() -> bool {
    by(GATEWAY, || {
        let to: SocketAddr = "10.1.2.3:443".parse().unwrap();
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", to).is_ok()
    })
}

/// All tables but rcc's, without what is counted.
fn tables_of_others() -> String {
    let output = Command::new("nft").args(["--stateless", "list", "ruleset"]).output().unwrap();
    let all = String::from_utf8(output.stdout).unwrap();
    let mut others = Vec::new();
    let mut ours = false;
    for line in all.lines().filter(|l| !l.starts_with('#')) {
        ours = if line.starts_with("table ") { line == "table inet rcc {" } else { ours };
        if !ours {
            others.push(line);
        }
    }
    others.join("\n")
}

/// rcc's table as it is, down to the kernel's number for each object.
fn ours() -> String {
    let output =
        Command::new("nft").args(["--stateless", "--handle", "list", "table", "inet", "rcc"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What every other firewall is put to: before rcc's table and after it, opened as wide as it goes.
fn stands_beside(starts: &str, opens: &str, shell: &mut dyn FnMut(&str)) {
    let (kernel, wanted) = (Nft::find().unwrap(), table(&policy(FULL)));
    shell(starts);
    // Some refuse by themselves; what counts is that it is open, then refused by rcc.
    shell(opens);
    assert!(is_open(), "the control");
    let before = tables_of_others();
    assert!(before.contains("table"), "it has tables");
    apply(&kernel, &wanted).unwrap();
    assert_eq!(tables_of_others(), before, "left as they are");
    assert!(!is_open());
    let mine = ours();
    assert!(mine.contains("# handle"), "{mine}");
    shell(opens);
    assert!(!is_open(), "reopened by {opens}");
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::InForce);
    assert_eq!(ours(), mine, "left as it is");
    let before = tables_of_others();
    remove(&kernel).unwrap();
    assert_eq!(tables_of_others(), before, "left as they are");
    assert!(is_open(), "the control");
}

/// Where a container's port 80 is to be had: as published at all of the machine's addresses (locally by Docker's proxy,
/// which is root's) and at a public one of them, at a port that the policy allows, and as it is.
const PUBLISHED: [&str; 6] =
    ["192.168.77.50:8443", "[2600:77::50]:8443", "127.0.0.1:8443", "[::1]:8443", "11.0.0.1:443", "172.30.0.2:80"];

/// Which of these a user reaches.
fn reached(user: u32) -> Vec<&'static str> {
    let opens = |to: &&str| TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(1)).is_ok();
    by(user, || PUBLISHED.into_iter().filter(opens).collect())
}

/// All of them are reached soon after Docker is up.
fn all_reached(user: u32) {
    let start = Instant::now();
    while reached(user) != PUBLISHED {
        assert!(start.elapsed() < Duration::from_secs(10), "{user} reaches {:?}", reached(user));
    }
}

#[test]
fn docker() {
    let kernel = network();
    let mut docker = Firewall::start(DOCKER);
    // A web server that comes back with Docker.
    let starts = r#"ip address add 11.0.0.1/32 dev lo
        nft list chain ip filter DOCKER-USER
        tar -C /usr/bin -c busybox | api POST 'images/create?fromSrc=-&repo=web' --header 'Content-Type: application/x-tar' --data-binary @-
        web='{"Image": "web", "Cmd": ["/busybox", "httpd", "-f", "-p", "80"], "StopSignal": "SIGKILL", "ExposedPorts": {"80/tcp": {}}'
        web+=', "HostConfig": {"RestartPolicy": {"Name": "always"}, "PortBindings": {"80/tcp":'
        web+=' [{"HostPort": "8443"}, {"HostIp": "11.0.0.1", "HostPort": "443"}]}}}'
        post 'containers/create?name=web' "$web"
        post containers/web/start
        round=0"#;
    // Docker's own rules for a network more, and its user's, as wide as can be.
    let opens = r#"post networks/create "{\"Name\": \"net$(( ++round ))\"}"
        post networks/net$round/connect '{"Container": "web"}'
        ip6tables-nft -I OUTPUT -j ACCEPT; iptables-nft -I OUTPUT -j ACCEPT; iptables-nft -I DOCKER-USER -j ACCEPT
        iptables-nft -t mangle -I OUTPUT -j ACCEPT; iptables-nft -t raw -I OUTPUT -j ACCEPT"#;
    stands_beside(starts, opens, &mut |script| docker.run(script));
    all_reached(GATEWAY);
    let wanted = table(&policy(FULL));
    apply(&kernel, &wanted).unwrap();
    let mine = ours();
    // Docker's own rules, all of them, after rcc's table.
    for script in ["down\nup", "api DELETE containers/web?force=1"] {
        all_reached(0);
        assert_eq!(reached(GATEWAY), [""; 0]);
        docker.run(script);
    }
    assert!(docker.end(), "it ends in good order");
    assert_eq!(ours(), mine, "left as it is");
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::InForce);
    assert!(!is_open());
}

#[test]
fn ufw() {
    network();
    let starts = "ufw --force enable; ufw status | grep -q 'Status: active'";
    let opens = "ufw --force enable; ufw default allow outgoing; ufw allow out to any; ufw reload";
    stands_beside(starts, opens, &mut shell);
}

#[test]
fn firewalld() {
    let kernel = network();
    let mut firewalld = Firewall::start(FIREWALLD);
    // All of eth0 is trusted, and what the host sends is accepted twice: by a policy, and by a rule of iptables'.
    let starts = "firewall-cmd --quiet --permanent --new-policy way-out
        firewall-cmd --quiet --permanent --policy way-out --add-ingress-zone HOST
        firewall-cmd --quiet --permanent --policy way-out --add-egress-zone ANY
        firewall-cmd --quiet --permanent --policy way-out --set-target ACCEPT
        firewall-cmd --quiet --permanent --zone trusted --add-interface eth0
        firewall-cmd --quiet --permanent --direct --add-rule ipv4 filter OUTPUT 0 -j ACCEPT
        firewall-cmd --quiet --set-default-zone trusted";
    let opens = "firewall-cmd --quiet --reload
        firewall-cmd --quiet --complete-reload
        nft list table inet firewalld | grep -q filter_OUT_policy_way-out_allow
        test $(firewall-cmd --get-zone-of-interface eth0) = trusted";
    stands_beside(starts, opens, &mut |script| firewalld.run(script));
    let wanted = table(&policy(FULL));
    apply(&kernel, &wanted).unwrap();
    assert!(firewalld.end(), "it ends in good order");
    assert!(!tables_of_others().contains("firewalld"), "it takes its own away");
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::InForce);
    assert!(!is_open());
}

#[test]
fn tables_of_any_priority() {
    network();
    let starts = "nft 'table inet filter { chain output { type filter hook output priority filter; policy drop; }; }'";
    let opens = "for p in -400 -300 -150 -100 0 100 199 200 201 300 2147483000; do
            nft \"table inet wide$(( p + 1000 )) { chain o { type filter hook output priority $p; policy accept; accept; }; }\"
        done
        nft 'table inet filter { chain output { type filter hook output priority filter; policy accept; }; }'";
    stands_beside(starts, opens, &mut shell);
}

/// NixOS's nftables and others' scripts begin with it. Until the table is back, it is said not to be there.
#[test]
fn a_flush_is_seen() {
    let kernel = network();
    let wanted = table(&policy(FULL));
    let nixos = "nft -f - <<'E'\nflush ruleset\ntable inet nixos-fw {\n chain output {\n type filter hook output priority 0; policy accept;\n }\n}\nE";
    for flush in ["nft flush ruleset", nixos, "nft delete table inet rcc"] {
        apply(&kernel, &wanted).unwrap();
        assert!(!is_open());
        shell(flush);
        assert_eq!(status(&kernel, &wanted).unwrap(), Found::Absent, "{flush}");
        assert!(is_open(), "the control");
    }
    // Those that flush their own alone, as iptables and NixOS's scripts for it do.
    apply(&kernel, &wanted).unwrap();
    shell(
        "for t in iptables-nft ip6tables-nft; do for n in raw mangle nat filter; do $t -t $n -F; $t -t $n -X; done; $t -P OUTPUT ACCEPT; done",
    );
    assert_eq!(status(&kernel, &wanted).unwrap(), Found::InForce);
    // Dormant it is there, and does nothing.
    nft("add table inet rcc { flags dormant ; }");
    assert!(is_open(), "the control");
    assert!(!matches!(status(&kernel, &wanted), Ok(Found::InForce)), "it does nothing, and is said to be in force");
    apply(&kernel, &wanted).unwrap();
    assert!(!is_open());
}
