//! Files of the host's, to be read, or to be changed so that the host runs them.

use crate::{Attack, Control, Expect, Trace};
use Control::{Root, User};
use Expect::{Errno, Harmless};
use Trace::{File, Planted, Success};

/// The class.
pub const ATTACKS: &[Attack] = &[
    Attack {
        id: "E02a",
        what: "keys and tokens in the person's home",
        command: "each(show, *['/home/dev/' + p for p in ('.ssh/id_ed25519', '.aws/credentials', '.netrc', '.config/gh/hosts.yml')])",
        trace: Planted(&[
            "/home/dev/.ssh/id_ed25519",
            "/home/dev/.aws/credentials",
            "/home/dev/.netrc",
            "/home/dev/.config/gh/hosts.yml",
        ]),
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "E02b",
        what: "the person's other projects",
        command: "each(show, '/home/dev/other/secret', '../other/secret')",
        trace: Planted(&["/home/dev/other/secret"]),
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "E02c",
        what: "what programs outside left in /var/tmp, /var/lib and /run/user",
        command: "each(show, '/var/tmp/left-there', '/var/lib/left-there', '/run/user/4177/left-there')",
        trace: Planted(&["/var/tmp/left-there", "/var/lib/left-there", "/run/user/4177/left-there"]),
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "E02d",
        what: "the machine's secrets in /etc and root's home",
        command: "each(lambda p: open(p).read(1), '/etc/shadow', '/etc/rcc/policy.toml', '/root/.bashrc')",
        trace: Success,
        control: Root,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "M19",
        what: "the host's files by detours of /proc",
        command: "each(show, '/proc/self/root/home/dev/.ssh/id_ed25519', '/proc/self/cwd/../.ssh/id_ed25519', '/proc/thread-self/root/../home/dev/.ssh/id_ed25519')",
        trace: Planted(&["/home/dev/.ssh/id_ed25519"]),
        control: User,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "M01",
        what: "programs and start files of the host's, written to",
        command: "each(write, '/usr/local/bin/left-there', '/etc/profile.d/left-there.sh', '/etc/bash.bashrc', '/opt/left-there')",
        trace: File("/usr/local/bin/left-there"),
        control: Root,
        denied: Errno("EROFS"),
    },
    Attack {
        id: "M02a",
        what: "the person's start file through a link in the project",
        command: r"once(lambda: through())
def through():
    if not os.path.islink('link'):
        os.symlink('/home/dev/.bashrc', 'link')
    write('link')",
        trace: File("/home/dev/.bashrc"),
        control: User,
        denied: Harmless("inside, the link leads to the agent's own home"),
    },
    Attack {
        id: "M02b",
        what: "a start file and an autostart entry in the person's home",
        command: r"each(lambda p: (os.makedirs(os.path.dirname(p), exist_ok=True), write(p)), '/home/dev/.profile', '/home/dev/.config/autostart/x.desktop')",
        trace: File("/home/dev/.config/autostart/x.desktop"),
        control: User,
        denied: Harmless("inside, that home is the agent's own"),
    },
    Attack {
        id: "M04",
        what: "a hard link to a file of the host's",
        command: "once(lambda: (os.link('/usr/bin/env', '/usr/bin/left-there'), os.unlink('/usr/bin/left-there')))",
        trace: Success,
        control: Root,
        denied: Errno("EROFS"),
    },
    Attack {
        id: "M06a",
        what: "git's configuration, which the host's git obeys",
        command: "once(lambda: write('.git/config'))",
        trace: File("/home/dev/project/.git/config"),
        control: User,
        denied: Errno("EROFS"),
    },
    Attack {
        id: "M06b",
        what: "a hook of git's",
        command: "once(lambda: write('.git/hooks/post-checkout'))",
        trace: File("/home/dev/project/.git/hooks/post-checkout"),
        control: User,
        denied: Errno("EROFS"),
    },
    Attack {
        id: "M07",
        what: "git's whole folder, replaced",
        command: "once(lambda: (os.rename('.git', '.g'), os.rename('.g', '.git')))",
        trace: Success,
        control: User,
        denied: Errno("EBUSY"),
    },
    Attack {
        id: "M18a",
        what: "a read-only mount, mounted again to write",
        command: "once(lambda: sys_call(165, b'none', b'/usr', b'', 0x1020, 0))",
        trace: Success,
        control: Root,
        denied: Errno("EPERM"),
    },
    Attack {
        id: "M18b",
        what: "a mount of one's own, and one undone",
        command: "each(lambda f: f(), lambda: sys_call(165, b'x', b'/mnt', b'tmpfs', 0, 0), lambda: sys_call(166, b'/mnt', 2))",
        trace: Success,
        control: Root,
        denied: Errno("EPERM"),
    },
    Attack {
        id: "M23",
        what: "a device node",
        command: "once(lambda: (os.mknod('node', 0o600 | stat.S_IFBLK, os.makedev(7, 0)), os.unlink('node')))",
        trace: Success,
        control: Root,
        denied: Errno("EPERM"),
    },
    Attack {
        id: "M24",
        what: "a file with capabilities",
        command: r"once(lambda: (open('capable', 'w'), os.setxattr('capable', 'security.capability', b'\1\0\0\2\0\x30\0\0' + bytes(12)), os.unlink('capable')))",
        trace: Success,
        control: Root,
        denied: Errno("EPERM"),
    },
    Attack {
        id: "Y01a",
        what: "root's policy, the gateway's log",
        command: "each(write, '/etc/rcc/policy.toml', '/var/log/rcc/left-there')",
        trace: File("/var/log/rcc/left-there"),
        control: Root,
        denied: Errno("ENOENT"),
    },
    Attack {
        id: "Y01b",
        what: "rcc's own programs",
        command: "once(lambda: write('/usr/local/libexec/rcc/test/left-there'))",
        trace: File("/usr/local/libexec/rcc/test/left-there"),
        control: Root,
        denied: Errno("EROFS"),
    },
];
