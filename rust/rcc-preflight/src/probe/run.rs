//! Runs a program for what it says, for a limited time.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How much of what it says is read, in bytes.
const MUCH: u64 = 64 << 10;

/// What a program prints, and whether it ended well.
pub fn said(program: &Path, arguments: &[&str]) -> Result<(bool, String), String> {
    ended(program, arguments).map(|(code, text)| (code == Some(0), text))
}

/// What a program prints, and what it ended with; none if a signal ended it. Its environment is made from nothing; what takes longer than the limit
/// is killed.
pub fn ended(program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String), String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", program.display());
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(&e))?;
    let until = Instant::now() + LIMIT;
    let mut text = Vec::new();
    let read = child.stdout.take().map_or(Ok(()), |mut out| {
        let mut part = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], left) {
                Ok(1) => {}
                Ok(_) => return Err("no answer in time".to_owned()),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.to_string()),
            }
            match out.read(&mut part) {
                Ok(0) => return Ok(()),
                Ok(n) => text.extend_from_slice(part.get(..n).unwrap_or_default()),
                Err(e) => return Err(e.to_string()),
            }
            if text.len() as u64 > MUCH {
                return Err("it says too much".to_owned());
            }
        }
    });
    if read.is_err() {
        // It may have ended by itself; it is waited for either way.
        let _ended = child.kill();
    }
    let status = child.wait().map_err(|e| failed(&e))?;
    read.map_err(|e| failed(&e))?;
    Ok((status.code(), String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_and_unknown() {
        let begin = Instant::now();
        let error = said(Path::new("/usr/bin/sleep"), &["60"]).unwrap_err();
        assert!(error.contains("no answer in time"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(said(Path::new("/bin/echo"), &["x"]), Ok((true, "x\n".to_owned())));
        assert!(!said(Path::new("/bin/false"), &[]).unwrap().0);
        assert_eq!(ended(Path::new("/bin/sh"), &["-c", "exit 7"]), Ok((Some(7), String::new())));
    }
}
