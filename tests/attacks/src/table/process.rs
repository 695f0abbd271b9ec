//! Other processes, /proc and /sys.

use crate::{Attack, Control, Expect, Trace};
use Control::{Podman, Root, User};
use Expect::{Errno, Finds};
use Trace::Success;

const fn look(id: &'static str, what: &'static str, command: &'static str, control: Control, denied: Expect) -> Attack {
    Attack { id, what, command, trace: Success, control, denied }
}
const EPERM: Expect = Errno("EPERM");

/// The class.
pub const ATTACKS: &[Attack] = &[
    look(
        "S02",
        "signals to the person's processes outside",
        "once(lambda: os.kill(processes('rcc-attack-' + 'victim')[0], 0))",
        User,
        Finds("no such process"),
    ),
    look(
        "S02b",
        "the gateway as a process",
        "once(lambda: processes('rcc-' + 'gateway'))",
        User,
        Finds("no such process"),
    ),
    look("S03a", "ptrace", "once(lambda: in_child(lambda: sys_call(101, 0, 0, 0, 0)))", Podman, EPERM),
    look(
        "S03b",
        "another process's memory by process_vm_readv",
        "once(lambda: sys_call(310, os.getpid(), ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(BUFFER), 8)), 1, ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(BUFFER), 8)), 1, 0))",
        Podman,
        EPERM,
    ),
    look(
        "S03c",
        "another process's descriptors by pidfd_getfd",
        "once(lambda: sys_call(438, os.pidfd_open(os.getpid()), 0, 0))",
        Podman,
        EPERM,
    ),
    look(
        "S03d",
        "what processes share, by kcmp",
        "once(lambda: sys_call(312, os.getpid(), os.getpid(), 0, 0, 0))",
        User,
        EPERM,
    ),
    look(
        "P03a",
        "what the kernel tells of itself in /proc",
        r"each(told, '/proc/keys', '/proc/timer_list')
def told(path):
    if not open(path).read(1):
        raise Denied('empty')",
        Root,
        Finds("empty"),
    ),
    look("P03b", "the kernel's log", "once(lambda: sys_call(103, 10, 0, 0))", Root, EPERM),
    look(
        "P03c",
        "physical memory and disks",
        r"once(lambda: disks())
def disks():
    nodes = [p for p in glob.glob('/dev/*') if os.path.exists(p) and stat.S_ISBLK(os.stat(p).st_mode)] + glob.glob('/dev/mem')
    if not nodes:
        raise Denied('no device')
    os.close(os.open(nodes[0], os.O_RDONLY))",
        Root,
        Finds("no device"),
    ),
    look(
        "P05",
        "a control group's limits",
        "once(lambda: (os.mkdir('/sys/fs/cgroup/rcc-attack'), os.rmdir('/sys/fs/cgroup/rcc-attack')))",
        Root,
        Errno("EROFS"),
    ),
    look(
        "P07",
        "the host's network devices",
        r"once(lambda: devices())
def devices():
    if os.listdir('/sys/class/net') == ['lo'] and open('/proc/net/dev').read().count(':') == 1:
        raise Denied('only lo')",
        User,
        Finds("only lo"),
    ),
    look(
        "P08",
        "the session's init, overwritten for the host to run",
        "once(lambda: open('/proc/1/exe', 'r+b'))",
        Control::None("the host's first process is no session's"),
        Errno("ETXTBSY"),
    ),
    look(
        "P10",
        "where the kernel sends core dumps",
        r"once(lambda: pattern())
def pattern():
    path = '/proc/sys/kernel/core_pattern'
    old = open(path).read()
    open(path, 'w').write(old)",
        Root,
        Errno("EROFS"),
    ),
];
