//! System calls and socket families beyond what programs need. Numbers are those of `x86_64`.

use crate::{Attack, Control, Expect, Trace};
use Control::{None, Podman, Root, User};
use Expect::{Errno, Finds};

const fn call(id: &'static str, what: &'static str, command: &'static str, control: Control, denied: Expect) -> Attack {
    Attack { id, what, command, trace: Trace::Success, control, denied }
}
const EPERM: Expect = Errno("EPERM");
const ENOSYS: Expect = Errno("ENOSYS");
const NO_FAMILY: Expect = Errno("EAFNOSUPPORT");

/// The class.
pub const ATTACKS: &[Attack] = &[
    call(
        "K02a",
        "a user namespace by unshare",
        "once(lambda: in_child(lambda: sys_call(272, 0x10000000)))",
        Podman,
        EPERM,
    ),
    call(
        "K02b",
        "a user namespace by clone",
        "once(lambda: ended(sys_call(56, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0)))",
        Podman,
        ENOSYS,
    ),
    call(
        "K02c",
        "clone3, whose flags no filter sees",
        r"once(lambda: ended(sys_call(435, ctypes.create_string_buffer(struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0)), 64) or os._exit(0)))",
        Podman,
        ENOSYS,
    ),
    call(
        "K02d",
        "entering another namespace",
        "once(lambda: sys_call(308, os.open('/proc/self/ns/net', 0), 0))",
        Root,
        EPERM,
    ),
    call("K02e", "a mount namespace by unshare", "once(lambda: in_child(lambda: sys_call(272, 0x20000)))", Root, EPERM),
    call(
        "K03",
        "a setuid program of the host's",
        r"once(lambda: setuid())
def setuid():
    if run('/usr/local/bin/setuid-id', '-u').strip() != '0':
        raise Denied('the person stays the person')",
        User,
        Finds("the person stays the person"),
    ),
    call("K04", "AF_PACKET", "each(lambda k: make_socket(17, k, 0x300), 2, 3)", Root, NO_FAMILY),
    call(
        "K05",
        "AF_VSOCK (not connected: it would lead out of the world)",
        "once(lambda: make_socket(40, 1))",
        User,
        NO_FAMILY,
    ),
    call("K06", "AF_ALG", "once(lambda: make_socket(38, 5))", None("AF_ALG is not in every kernel"), NO_FAMILY),
    call(
        "K07a",
        "AF_KEY, AF_RXRPC",
        "each(lambda f: make_socket(f, 3, 2), 15, 33)",
        None("neither is in every kernel"),
        NO_FAMILY,
    ),
    call("K07b", "NETLINK_XFRM", "once(lambda: make_socket(16, 3, 6))", Podman, ENOSYS),
    call("K08a", "NETLINK_NETFILTER", "once(lambda: make_socket(16, 3, 12))", Podman, ENOSYS),
    call(
        "K08b",
        "other netlink: sock_diag, audit, uevent, generic, connector",
        "each(lambda p: make_socket(16, 3, p), 4, 15, 16)",
        Podman,
        ENOSYS,
    ),
    call("K08c", "AF_XDP", "once(lambda: make_socket(44, 3))", Root, NO_FAMILY),
    call(
        "K08d",
        "AF_BLUETOOTH, AF_TIPC, AF_RDS, AF_SMC, AF_CAN, AF_NFC, AF_QIPCRTR",
        "each(lambda f: make_socket(f, 5), 31, 30, 21, 43, 29, 39, 42)",
        None("not all of them are in every kernel"),
        NO_FAMILY,
    ),
    call(
        "K11",
        "io_uring, whose operations no filter sees",
        "once(lambda: sys_call(425, 1, ctypes.create_string_buffer(120)))",
        User,
        ENOSYS,
    ),
    call(
        "K12",
        "bpf",
        "once(lambda: sys_call(321, 0, ctypes.create_string_buffer(struct.pack('IIII', 2, 4, 4, 1) + bytes(56)), 72))",
        Root,
        EPERM,
    ),
    call(
        "K13",
        "perf_event_open",
        "once(lambda: sys_call(298, ctypes.create_string_buffer(struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, 0x61) + bytes(64)), 0, -1, -1, 0))",
        User,
        EPERM,
    ),
    call("K14", "userfaultfd", "once(lambda: sys_call(323, 1))", User, EPERM),
    call("K15a", "the person's keyrings", "each(lambda k: sys_call(250, 0, k, 1), -3, -4, -5)", User, EPERM),
    call(
        "K15b",
        "a key added, a key asked for",
        "once(lambda: sys_call(248, b'user', b'rcc-attack', b'x', 1, -2))",
        User,
        EPERM,
    ),
    call(
        "K16",
        "kernel modules and kexec",
        "each(lambda n: sys_call(n, 0, 0, 0), 175, 313, 246, 320)",
        None("success would change the machine"),
        EPERM,
    ),
    call("K17a", "the new mount calls: fsopen", "once(lambda: sys_call(430, b'tmpfs', 0))", Root, EPERM),
    call("K17b", "the new mount calls: open_tree", "once(lambda: sys_call(428, -100, b'/usr', 1))", Root, EPERM),
    call(
        "K18",
        "a file by its handle (Shocker)",
        r"once(lambda: by_handle())
def by_handle():
    handle = ctypes.create_string_buffer(struct.pack('II', 128, 0) + bytes(128))
    try:
        sys_call(303, -100, b'/home', handle, ctypes.create_string_buffer(8), 0)
    except OSError:
        handle = ctypes.create_string_buffer(struct.pack('IIQ', 8, 1, 2))
    sys_call(304, os.open('/home', 0), handle, 0)",
        Root,
        EPERM,
    ),
    call(
        "K19",
        "a file's handle",
        "once(lambda: sys_call(303, -100, b'/home', ctypes.create_string_buffer(struct.pack('II', 128, 0) + bytes(128)), ctypes.create_string_buffer(8), 0))",
        User,
        EPERM,
    ),
    call("K20", "chroot", "once(lambda: in_child(lambda: os.chroot('/usr')))", Root, EPERM),
    call(
        "K21",
        "personality without randomised addresses",
        "once(lambda: in_child(lambda: sys_call(135, 0x40000)))",
        User,
        ENOSYS,
    ),
    call(
        "K23a",
        "the 32-bit way into the kernel",
        r"once(lambda: in_child(lambda: machine_code(b'\x53\xb8\x14\0\0\0\xcd\x80\x5b\xc3')))",
        User,
        Finds("signal 31"),
    ),
    call(
        "K23b",
        "the x32 way into the kernel",
        "once(lambda: in_child(lambda: sys_call(0x40000000 | 39)))",
        None("x32 is in few kernels"),
        Finds("signal 31"),
    ),
    call(
        "K27",
        "the clock, the host's name",
        "each(lambda f: f(), lambda: sys_call(170, b'x', 1), lambda: sys_call(227, 0, 0))",
        None("success would change the machine"),
        EPERM,
    ),
];
