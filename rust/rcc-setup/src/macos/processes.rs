//! Which processes are rcc's on a Mac, by `ps`.

use super::{Call, Mac, done};
use rcc_proto::macos::USER_ID;
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

/// All of them, of `ps -axww -o pid=,uid=,command=`.
fn of(text: &str, programs: &str) -> Vec<Process> {
    let line = |line: &str| {
        let (pid, rest) = line.trim_start().split_once(char::is_whitespace)?;
        let (uid, command) = rest.trim_start().split_once(char::is_whitespace)?;
        let command = command.trim();
        let ours = command.starts_with(&format!("{programs}/"));
        let mut words = command.split_whitespace();
        let program = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let role = match (uid.parse() == Ok(USER_ID), words.next()) {
            (true, Some("serve")) if ours && program == "rcc-gateway" => Role::Serve,
            (true, Some("worker")) if ours && program == "rcc-gateway" => Role::Worker,
            (true, _) => Role::Stray,
            (false, _) if ours && program.starts_with("gvproxy") => Role::Carrier,
            (false, _) => return None,
        };
        Some(Process { pid: pid.parse().ok()?, role, command: command.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// All of them.
pub fn all(mac: &dyn Mac) -> Result<Vec<Process>, Problem> {
    let said = done(mac, &Call::new("/bin/ps", &["-axww", "-o", "pid=,uid=,command="]), Code::SETUP_GATEWAY)?;
    Ok(of(&said.out, crate::layout::PROGRAMS))
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
    fn processes_are_told_by_user_and_program() {
        let text = "\
    1     0 /sbin/launchd
  300   391 /usr/local/libexec/rcc/0.1.0/rcc-gateway serve
  301   391 /usr/local/libexec/rcc/0.1.0/rcc-gateway worker
  302   391 /bin/sh -c nc
  303   501 /usr/local/libexec/rcc/0.1.0/rcc-gateway serve
  304   501 /usr/local/libexec/rcc/0.1.0/gvproxy.pinned -mtu 1500 -listen-vfkit unixgram:///x
  305   501 /opt/homebrew/bin/gvproxy -mtu 1500
  306   501 vim /usr/local/libexec/rcc/0.1.0/gvproxy
";
        let found: Vec<_> = of(text, "/usr/local/libexec/rcc").into_iter().map(|p| (p.pid, p.role)).collect();
        assert_eq!(found, [(300, Role::Serve), (301, Role::Worker), (302, Role::Stray), (304, Role::Carrier)]);
    }
}
