//! What listens on the developer's machine.

use crate::{Attack, Control, Expect, Trace};
use Control::User;
use Expect::{Errno, Finds};
use Trace::{Success, Wire};

/// The class.
pub const ATTACKS: &[Attack] = &[
    Attack {
        id: "L01",
        what: "a service on the host's loopback, IPv4 and IPv6",
        command: "each(lambda a: tcp(a, 8901), '127.0.0.1', '::1')",
        trace: Wire,
        control: User,
        denied: Errno("ECONNREFUSED"),
    },
    Attack {
        id: "L02a",
        what: "services on the host's LAN address",
        command: "each(lambda a: tcp(*a), ('192.168.77.50', 8902), ('192.168.77.50', 8903), ('2600:77::50', 8903))",
        trace: Wire,
        control: User,
        denied: Errno("ENETUNREACH"),
    },
    Attack {
        id: "L02b",
        what: "a service on every address of the host, by 0.0.0.0 and ::",
        command: "each(lambda a: tcp(a, 8902), '0.0.0.0', '::')",
        trace: Wire,
        control: User,
        denied: Errno("ECONNREFUSED"),
    },
    Attack {
        id: "L03",
        what: "an abstract socket (X11)",
        command: r"once(lambda: unix('\0/tmp/.X11-unix/X0-rcc-world'))",
        trace: Success,
        control: User,
        denied: Errno("ECONNREFUSED"),
    },
    Attack {
        id: "L05",
        what: "a container engine's socket",
        command: "each(unix, '/run/docker.sock', '/var/run/docker.sock')",
        trace: Success,
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "L06",
        what: "the system bus, and a service by path",
        command: "each(unix, '/run/dbus/system_bus_socket', '/run/rcc-world-service.sock')",
        trace: Success,
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "L10a",
        what: "the person's ssh agent",
        command: "once(lambda: unix('/home/dev/.ssh/agent.sock'))",
        trace: Success,
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "L10b",
        what: "any socket in any folder but the session's own /tmp",
        command: r"once(lambda: search())
def search():
    for folder, folders, files in os.walk('/'):
        if folder == '/':
            folders[:] = [f for f in folders if f not in ('proc', 'sys', 'usr', 'tmp')]
        for name in files:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    return unix(path)
            except OSError:
                pass
    raise Denied('no socket')",
        trace: Success,
        control: User,
        denied: Finds("no socket"),
    },
    Attack {
        id: "Y03",
        what: "the gateway's own socket",
        command: "once(lambda: unix('/run/rcc/gateway.sock', socket.SOCK_SEQPACKET))",
        trace: Success,
        control: User,
        denied: Errno("ENOENT"),
    },
];
