//! The units that systemd is given: pure text, by the folder of the installed programs.

/// Where they go.
#[cfg(target_os = "linux")]
pub const FOLDER: &str = "/etc/systemd/system";

/// What is started by itself, in this order; the rest is started by these.
pub const ENABLED: [&str; 5] =
    ["rcc-firewall.service", "rcc-firewall.path", "rcc-firewall.timer", "rcc-gateway.socket", "rcc-status.socket"];

/// The gateway's service: not enabled by itself, started by its sockets.
pub const GATEWAY: &str = "rcc-gateway.service";

/// What every service of rcc's gives up.
const HARDENING: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
KeyringMode=private
UMask=0077
";

/// What a root service of rcc's has beyond that: the network's administration, and the machine's resolvers, which it asks how
/// the network translates IPv4.
const ROOT: &str = "\
CapabilityBoundingSet=CAP_NET_ADMIN
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
Environment=
";

const GATEWAY_SOCKET: &str = "\
[Unit]
Description=rcc gateway: sockets for sessions and for the log

[Socket]
ListenSequentialPacket=@SESSIONS@
ListenSequentialPacket=@LOG@
SocketMode=0666
DirectoryMode=0755
Backlog=128
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
";

// What decides whether a session may start is the canary, not this unit's order: so a restart of the firewall's unit, as
// nftables' restart brings about, holds sessions instead of ending them (Wants, not Requires).
const GATEWAY_SERVICE: &str = "\
[Unit]
Description=rcc gateway
Requires=rcc-gateway.socket
Wants=rcc-firewall.service
After=rcc-gateway.socket rcc-firewall.service

[Service]
Type=exec
ExecStart=@PROGRAMS@/rcc-gateway serve
# Ends by itself once no session is left, and the next one starts what is installed then.
ExecReload=kill -HUP $MAINPID
Restart=on-failure
RestartSec=200ms
OOMPolicy=continue
User=rcc
Group=rcc
LimitNOFILE=524288
LimitCORE=0
TasksMax=8192
CapabilityBoundingSet=
AmbientCapabilities=
ReadWritePaths=/var/log/rcc
DevicePolicy=closed
PrivateIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @keyring @ipc @memlock @aio
# Each worker bounds itself, and puts a filter and Landlock on itself. What stands in @ipc and is none: memfd_create has the
# resolvers for workers, pipe2 is what splice(2) goes through.
SystemCallFilter=seccomp prlimit64 memfd_create pipe2 landlock_create_ruleset landlock_add_rule landlock_restrict_self
# Listening sockets are made in sessions' namespaces alone. Which addresses it may reach is the host firewall's to say,
# by the policy; these are nobody's.
SocketBindDeny=any
IPAddressDeny=multicast 0.0.0.0/8 240.0.0.0/4
RemoveIPC=yes
@HARDENING@";

// Before any network is up, and after whatever else writes rules at the start: what one of those takes away when it is
// restarted or reloaded comes back. There is no ExecStop: a stopped unit leaves the table.
const FIREWALL_SERVICE: &str = "\
[Unit]
Description=rcc host firewall
DefaultDependencies=no
Requires=local-fs.target
After=local-fs.target systemd-modules-load.service nftables.service firewalld.service ufw.service netfilter-persistent.service
Before=network-pre.target systemd-user-sessions.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
PartOf=nftables.service firewalld.service ufw.service netfilter-persistent.service
ReloadPropagatedFrom=nftables.service firewalld.service ufw.service netfilter-persistent.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=@PROGRAMS@/rcc-firewall apply
TimeoutStartSec=60s
ExecReload=@PROGRAMS@/rcc-firewall apply
StandardOutput=null
ReadWritePaths=/run
@ROOT@@HARDENING@
[Install]
WantedBy=multi-user.target
";

const FIREWALL_APPLY_SERVICE: &str = "\
[Unit]
Description=rcc host firewall: follow the policy, the resolvers and the links
After=rcc-firewall.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=@PROGRAMS@/rcc-firewall apply
TimeoutStartSec=60s
StandardOutput=null
ReadWritePaths=/run
@ROOT@@HARDENING@";

const FIREWALL_PATH: &str = "\
[Unit]
Description=rcc host firewall: watch the policy and the resolvers

[Path]
PathChanged=/etc/rcc/policy.toml
PathChanged=/etc/resolv.conf
PathChanged=/run/systemd/resolve/stub-resolv.conf
PathChanged=/run/systemd/resolve/resolv.conf
PathChanged=/run/NetworkManager/resolv.conf
PathChanged=/run/resolvconf/resolv.conf
Unit=rcc-firewall-apply.service

[Install]
WantedBy=paths.target
";

// Links come and go without a file that changes, and a flush of all rules tells nobody.
const FIREWALL_TIMER: &str = "\
[Unit]
Description=rcc host firewall: look again each minute

[Timer]
OnActiveSec=1s
OnUnitInactiveSec=60s
AccuracySec=1s
Unit=rcc-firewall-apply.service

[Install]
WantedBy=timers.target
";

const STATUS_SOCKET: &str = "\
[Unit]
Description=rcc host firewall: what is in force, for anybody who asks

[Socket]
ListenStream=@STATUS@
SocketMode=0666
DirectoryMode=0755
Accept=yes
MaxConnections=8
# Else whoever connects often enough takes the socket away from everybody.
TriggerLimitIntervalSec=0
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
";

// Takes no input: its standard input is not the connection.
const STATUS_SERVICE: &str = "\
[Unit]
Description=rcc host firewall: read it back
CollectMode=inactive-or-failed

[Service]
Type=oneshot
ExecStart=@PROGRAMS@/rcc-firewall --json status
SuccessExitStatus=3 4 5 125
StandardInput=null
StandardOutput=socket
StandardError=null
TimeoutStartSec=10s
# Else systemd makes a slice for all instances, which outlives an uninstallation.
Slice=system.slice
@ROOT@@HARDENING@";

/// Each unit's name and text, for programs in this folder.
#[must_use]
pub fn all(programs: &str) -> Vec<(&'static str, String)> {
    let text = |template: &str| {
        template
            .replace("@ROOT@", ROOT)
            .replace("@HARDENING@", HARDENING)
            .replace("@PROGRAMS@", programs)
            .replace("@SESSIONS@", rcc_proto::GATEWAY_SOCKET)
            .replace("@LOG@", rcc_proto::LOG_SOCKET)
            .replace("@STATUS@", rcc_proto::STATUS_SOCKET)
    };
    [
        ("rcc-firewall.service", FIREWALL_SERVICE),
        ("rcc-firewall-apply.service", FIREWALL_APPLY_SERVICE),
        ("rcc-firewall.path", FIREWALL_PATH),
        ("rcc-firewall.timer", FIREWALL_TIMER),
        ("rcc-gateway.socket", GATEWAY_SOCKET),
        (GATEWAY, GATEWAY_SERVICE),
        ("rcc-status.socket", STATUS_SOCKET),
        ("rcc-status@.service", STATUS_SERVICE),
    ]
    .map(|(name, template)| (name, text(template)))
    .into()
}
