//! The container's user namespace gets limits of its own: no user namespaces below it, and its share of inotify, which
//! would otherwise be the person's (`user_namespaces(7)`, `/proc/sys/user`).

use super::{Failure, Step};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setgid, setuid};
use rcc_proto::HookSpec;
use rcc_report::Code;
use std::fs::{self, File};

/// Writes the limits from within the namespace, and reads them back. Runs in a child: it stays in the namespace.
pub(super) fn limit(pid: i32, spec: &HookSpec) -> Result<(), Failure> {
    let namespace = File::open(format!("/proc/{pid}/ns/user")).step("opening the user namespace")?;
    setns(&namespace, CloneFlags::CLONE_NEWUSER).step("entering the user namespace")?;
    setgid(Gid::from_raw(0)).step("becoming its root group")?;
    setuid(Uid::from_raw(0)).step("becoming its root")?;
    let wanted = [
        ("max_user_namespaces", 0),
        ("max_inotify_instances", spec.inotify_instances),
        ("max_inotify_watches", spec.inotify_watches),
    ];
    for (name, value) in wanted {
        let path = format!("/proc/sys/user/{name}");
        fs::write(&path, value.to_string()).step(&path)?;
        let back = fs::read_to_string(&path).step(&path)?;
        if back.trim() != value.to_string() {
            return Err(Failure::new(Code::SESSION_HOOK, path, format!("reads {} after writing {value}", back.trim())));
        }
    }
    Ok(())
}
