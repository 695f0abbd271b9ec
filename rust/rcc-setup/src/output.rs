//! Runs programs of the system's, with an environment made from nothing.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs one, whatever comes of it.
pub fn output(program: &Path, arguments: &[impl AsRef<OsStr>]) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.current_dir("/").stdin(Stdio::null()).output()
}
