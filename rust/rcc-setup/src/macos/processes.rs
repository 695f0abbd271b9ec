//! Which processes are rcc's on a Mac, by `ps`.

use super::{Call, Mac, done};
use rcc_proto::macos::{NET_GROUP_ID, USER_ID};
use rcc_report::{Code, Problem};

/// What a process does for rcc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The gateway's supervisor.
    Serve,
    /// One session of the gateway's.
    Worker,
    /// The gateway's user's, and neither.
    Stray,
    /// What carries the traffic of an agents' machine: without the anchor it would be bound by nothing.
    Carrier,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What it does.
    pub role: Role,
    /// Its program and arguments.
    pub command: String,
}

/// All of them, of `ps -axww -o pid=,uid=,gid=,command=`. Whose they are is told by numbers, which the kernel keeps; a process
/// writes its arguments as it likes, so these tell only what the gateway's own user does. An error if a line is none of ps's.
fn of(text: &str, programs: &str) -> Result<Vec<Process>, String> {
    let ours = format!("{programs}/");
    let one = |process: rcc_host::macos::Process<'_>| {
        let command = process.rest;
        let mut words = command.split_whitespace();
        let program = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let gateway = command.starts_with(&ours) && program == "rcc-gateway";
        let role = match (process.uid == i64::from(USER_ID), words.next()) {
            (true, Some("serve")) if gateway => Role::Serve,
            (true, Some("worker")) if gateway => Role::Worker,
            (true, _) => Role::Stray,
            (false, _) if process.gid == i64::from(NET_GROUP_ID) => Role::Carrier,
            (false, _) => return None,
        };
        Some(Process { pid: process.pid, role, command: command.to_owned() })
    };
    Ok(rcc_host::macos::processes(text)?.into_iter().filter_map(one).collect())
}

/// All of them.
pub fn all(mac: &dyn Mac) -> Result<Vec<Process>, Problem> {
    let call = Call::new("/bin/ps", &["-axww", "-o", "pid=,uid=,gid=,command="]);
    let said = done(mac, &call, Code::SETUP_GATEWAY)?;
    of(&said.out, crate::layout::PROGRAMS).map_err(|what| {
        Problem::new(Code::SETUP_GATEWAY, "ps", what, "report it, with the macOS version: nobody can tell what runs")
    })
}

/// Ends all of these kinds: asked first, then killed.
pub fn end(mac: &dyn Mac, roles: &[Role]) -> Result<(), Problem> {
    for attempt in 0..100 {
        let left: Vec<Process> = all(mac)?.into_iter().filter(|process| roles.contains(&process.role)).collect();
        let Some(first) = left.first() else { return Ok(()) };
        if attempt == 99 {
            let what = format!("process {} does not end: {}", first.pid, first.command);
            return Err(Problem::new(
                Code::SETUP_GATEWAY,
                "rcc's processes",
                what,
                format!("sudo kill -9 {}", first.pid),
            ));
        }
        let signal = if attempt < 50 { "-TERM" } else { "-KILL" };
        for process in left {
            // It may have ended meanwhile.
            mac.run(&Call::new("/bin/kill", &[signal, &process.pid.to_string()]))?;
        }
        mac.wait();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_by_user_and_group() {
        let text = "\
    1     0     0 /sbin/launchd
  300   391   391 /usr/local/libexec/rcc/0.1.0/rcc-gateway serve
  301   391   391 /usr/local/libexec/rcc/0.1.0/rcc-gateway worker
  302   391   391 /bin/sh -c nc
  303   501    20 /usr/local/libexec/rcc/0.1.0/rcc-gateway serve
  304   501   392 /usr/local/libexec/rcc/0.1.0/gvproxy.pinned -mtu 1500 -listen-vfkit unixgram:///x
  305   501    20 /opt/homebrew/bin/gvproxy -mtu 1500
  306   501   392 vim
  307   501    20 /usr/local/libexec/rcc/0.1.0/gvproxy.pinned
  308    -2    -2 (mdworker)
  309   391   391
";
        let found: Vec<_> = of(text, "/usr/local/libexec/rcc").unwrap().into_iter().map(|p| (p.pid, p.role)).collect();
        assert_eq!(
            found,
            [
                (300, Role::Serve),
                (301, Role::Worker),
                (302, Role::Stray),
                (304, Role::Carrier),
                (306, Role::Carrier),
                (309, Role::Stray)
            ]
        );
        assert!(of("  300   391 /bin/sh\n", "/x").is_err() && of("PID UID GID COMMAND\n", "/x").is_err());
    }
}
