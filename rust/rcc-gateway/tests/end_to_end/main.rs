//! The real supervisor and workers, in namespaces of the test's own.

mod agent;
// Makes system calls in another process, which has an instruction set.
#[cfg(target_arch = "x86_64")]
mod confined;
mod firewall;
mod forwarded;
mod grants;
mod key;
mod launcher;
mod measure;
mod netlink;
mod record;
mod translator;
mod world;

/// The policy of most tests.
const POLICY: &str = r#"
allow = ["allowed.example:80,443,22,9000", "*.wild.example:443", "rebind.example:9000", "many.example:9000", "link.example:9000", "11.9.0.0/16:9000"]
private = ["git.corp.example:9000 via 10.20.0.0/16"]
users = ["alice"]
limits = { connections = 20, names = 50, sessions = 3 }
"#;
