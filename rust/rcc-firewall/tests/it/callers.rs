//! Who calls by a socket, as launchd's callers do, and does not read.

use nix::sys::signal::Signal;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

#[test]
fn a_caller_who_reads_nothing_keeps_nobody_waiting() {
    let (_caller, mut served) = UnixStream::pair().unwrap();
    served.set_nonblocking(true).unwrap();
    let full = loop {
        match served.write(&[0; 4096]) {
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    served.set_nonblocking(false).unwrap();
    let mut firewall = Command::new(env!("CARGO_BIN_EXE_rcc-firewall"));
    firewall.args(["--json", "--policy", "/nonexistent/policy.toml", "status"]);
    let status = firewall.stdin(Stdio::null()).stdout(OwnedFd::from(served)).status().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGALRM as i32), "{status}");
}
