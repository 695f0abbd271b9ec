//! Input put into a terminal, as if a person had typed it.

use crate::{Attack, Control, Expect, Trace};
use Control::{Reaches, Root};
use Expect::{Errno, Finds};
use Trace::Success;

const fn request(
    id: &'static str,
    what: &'static str,
    command: &'static str,
    control: Control,
    denied: Expect,
) -> Attack {
    Attack { id, what, command, trace: Success, control, denied }
}

/// The class.
pub const ATTACKS: &[Attack] = &[
    request("T01", "TIOCSTI", "once(lambda: on_terminal(0x5412))", Root, Errno("ENOSYS")),
    request("T02", "TIOCLINUX", "once(lambda: on_terminal(0x541c))", Reaches("ENOTTY"), Errno("ENOSYS")),
    request(
        "T03a",
        "TIOCSTI with bits above the 32 that the kernel reads",
        "each(on_terminal, 0x100005412, 0xffffffff00005412 - (1 << 64))",
        Root,
        Errno("ENOSYS"),
    ),
    request(
        "T03b",
        "TIOCLINUX with bits above",
        "once(lambda: on_terminal(0x10000541c))",
        Reaches("ENOTTY"),
        Errno("ENOSYS"),
    ),
    request(
        "T11",
        "the person's terminals",
        r"once(lambda: terminals())
def terminals():
    nodes = [p for p in glob.glob('/dev/tty[0-9]*') + glob.glob('/dev/ttyS*') + glob.glob('/dev/vcs*') + glob.glob('/dev/pts/[0-9]*') + glob.glob('/dev/console')]
    if not nodes:
        raise Denied('no terminal')
    os.stat(nodes[0])",
        Root,
        Finds("no terminal"),
    ),
];
