//! What everything on a Mac calls things: accounts, places, ports and launchd's labels.
//!
//! Ids below 500 are hidden from the login window, and Apple reserves 200 to 400 for role accounts (sysadminctl(8)). Of
//! these 395, 398, 399 and 400 are the groups of the sharing services (`com.apple.access_ssh` is 399), and Nix's builders
//! have 350 and 351 to 382.

/// The user that the gateway runs as.
pub const USER: &str = "_rcc";
/// Its id.
pub const USER_ID: u32 = 391;
/// That user's own group, of the same name: who may read a key file of root's.
pub const GROUP: &str = "_rcc";
/// Its id.
pub const GROUP_ID: u32 = 391;
/// The group that only gvproxy runs with: by it pf knows what leaves the agents' machine. It has no members.
pub const NET_GROUP: &str = "_rccnet";
/// Its id.
pub const NET_GROUP_ID: u32 = 392;

/// The folder of the sockets: the gateway's own, since /var/run is emptied at each start.
pub const RUN: &str = "/var/run/rcc";
/// Where launchers ask the gateway.
pub const GATEWAY_SOCKET: &str = "/var/run/rcc/gateway.sock";
/// Where the gateway gives people their lines of the log.
pub const LOG_SOCKET: &str = "/var/run/rcc/log.sock";
/// Where launchd starts what reads pf back. Its folder belongs to root alone: the gateway can't pose as root.
pub const STATUS_SOCKET: &str = "/var/run/rcc-status.sock";
/// Where forwarders in a virtual machine reach the gateway, on its host's 127.0.0.1.
pub const FORWARD_PORT: u16 = 47081;
/// Where Podman's ssh reaches the machine, on the Mac's 127.0.0.1.
pub const SSH_PORT: u16 = 47022;

/// The version of gvproxy that was read for what a guest can ask of it, and the only one that is set up. Workflows and Nix
/// read the same file.
pub const GVPROXY: &str = include_str!("../gvproxy-version").trim_ascii();
/// Where gvproxy's program is, by Go's name: a program of Go's has it within itself.
pub const GVPROXY_SOURCE: &str = "github.com/containers/gvisor-tap-vsock/cmd/gvproxy";

/// The agents' own Podman machine.
pub const MACHINE: &str = "rcc";
/// Below a person's home: what Podman keeps of that machine, apart from their own machines, in `config` (`XDG_CONFIG_HOME`)
/// and `data` (`XDG_DATA_HOME`).
pub const MACHINE_FOLDER: &str = ".local/share/rcc/machine";

/// The anchor: the stock rule `anchor "com.apple/*"` of /etc/pf.conf evaluates it.
pub const ANCHOR: &str = "com.apple/000.rcc";
/// The daemon that keeps pf's anchor in force.
pub const FIREWALL_LABEL: &str = "dev.rcc.firewall";
/// The gateway.
pub const GATEWAY_LABEL: &str = "dev.rcc.gateway";
/// What reads pf back for whoever asks.
pub const STATUS_LABEL: &str = "dev.rcc.status";
/// What the firewall's daemon is started with.
pub const FIREWALL_ARGUMENTS: &[&str] = &["keep"];
/// What the gateway is started with.
pub const GATEWAY_ARGUMENTS: &[&str] = &["serve"];
/// What the firewall's program is started with for who asks.
pub const STATUS_ARGUMENTS: &[&str] = &["--json", "status"];
/// All three, in the order in which they are started.
pub const LABELS: [&str; 3] = [FIREWALL_LABEL, GATEWAY_LABEL, STATUS_LABEL];

/// Where setup puts all versions' programs: its carrier has its group's bit there.
pub const PROGRAMS: &str = "/usr/local/libexec/rcc";
/// Where Podman may be: its own installer's first, which is root's, then Homebrew's on either processor.
pub const PODMAN: [&str; 3] = ["/opt/podman/bin/podman", "/opt/homebrew/bin/podman", "/usr/local/bin/podman"];
