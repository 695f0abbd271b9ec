//! From this program to the pinned gvproxy.

use crate::{arguments::Call, group, probe, profile};
use rcc_host::{seatbelt, trusted};
use rcc_proto::macos::{NET_GROUP, NET_GROUP_ID};
use rcc_report::{Code, Problem};
use std::ffi::{CString, OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io};

/// The name of the pinned gvproxy, beside this program.
const PINNED: &str = "gvproxy.pinned";
/// By this argument the program only tells whether pf lets its group connect to a port of the loopback.
const PROBE: &str = "rcc-probe";
/// How long such a connection may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Becomes the pinned gvproxy, and does not come back; or probes.
pub fn run(arguments: &[OsString]) -> Result<ExitCode, Problem> {
    join_group()?;
    if let [probe, port] = arguments
        && probe == PROBE
    {
        return probe_port(port);
    }
    let call = Call::parse(arguments)?;
    let pinned = pinned()?;
    let folder = own_folder(call.folder())?;
    let identity = call.api.as_ref().map(|api| real(&api.identity)).transpose()?;
    close_descriptors()?;
    let profile = profile::of(&call, &pinned, &folder, identity);
    seatbelt::apply(&profile).map_err(|e| confined(&e))?;
    Err(replace(&pinned, &call.arguments()))
}

/// The group, for good: a process whose real or saved group is another one could go back to that.
fn join_group() -> Result<(), Problem> {
    let wrong = |what: String| {
        let remedy = "sudo rcc setup    (installs it with its group and mode: root:_rccnet, 2755)";
        Problem::new(Code::SHIM_GROUP, "gvproxy", what, remedy)
    };
    // SAFETY: takes nothing.
    let (user, before, effective) = unsafe { (libc::getuid(), libc::getgid(), libc::getegid()) };
    if user == 0 {
        return Err(wrong("it runs as root; the agents' machine is a person's".into()));
    }
    if effective != NET_GROUP_ID {
        return Err(wrong(format!("it runs with the group {effective}, not with {NET_GROUP} ({NET_GROUP_ID})")));
    }
    // SAFETY: numbers alone.
    if unsafe { libc::setregid(NET_GROUP_ID, NET_GROUP_ID) } != 0 {
        return Err(wrong(format!("the group can't be kept: {}", io::Error::last_os_error())));
    }
    // SAFETY: takes nothing.
    let now = unsafe { (libc::getgid(), libc::getegid()) };
    let besides = group::besides().map_err(|e| wrong(format!("nobody tells its groups: {e}")))?;
    // SAFETY: a number alone. It must fail for every group that the caller had.
    let back = group::way_back(before, &besides, |group| unsafe { libc::setegid(group) } == 0);
    if now != (NET_GROUP_ID, NET_GROUP_ID) || back.is_some() {
        return Err(wrong("the group was taken, and can be left again".into()));
    }
    Ok(())
}

/// The gvproxy that was read for what it offers to a guest. It is started by its real place, and has no set-id bit of its own.
fn pinned() -> Result<PathBuf, Problem> {
    let wrong = |path: &Path, what: String| {
        Problem::new(Code::SHIM_TARGET, path.display().to_string(), what, "sudo rcc setup    (installs it)")
    };
    let me =
        std::env::current_exe().and_then(fs::canonicalize).map_err(|e| wrong(Path::new("gvproxy"), e.to_string()))?;
    let path = me.with_file_name(PINNED);
    let place = trusted::place(&path).map_err(|e| wrong(&path, e.to_string()))?;
    let about = fs::symlink_metadata(&place).map_err(|e| wrong(&path, e.to_string()))?;
    if place != path || !about.is_file() || about.mode() & 0o6000 != 0 || about.mode() & 0o111 == 0 {
        return Err(wrong(&path, "it is no plain program, or has a set-id bit".into()));
    }
    Ok(path)
}

/// The machine's folder, as the person's alone.
fn own_folder(folder: &Path) -> Result<PathBuf, Problem> {
    let place = real(folder)?;
    let about = fs::symlink_metadata(&place).map_err(|e| place_wrong(folder, &e.to_string()))?;
    // SAFETY: takes nothing.
    let me = unsafe { libc::getuid() };
    if !about.is_dir() || about.uid() != me || about.mode() & 0o022 != 0 {
        return Err(place_wrong(folder, "it is not a folder that you alone can write"));
    }
    Ok(place)
}

fn real(path: &Path) -> Result<PathBuf, Problem> {
    fs::canonicalize(path).map_err(|e| place_wrong(path, &e.to_string()))
}

fn place_wrong(path: &Path, what: &str) -> Problem {
    Problem::new(
        Code::SHIM_ARGUMENTS,
        path.display().to_string(),
        what,
        "let rcc start the machine (in a project: rcc shell)",
    )
}

/// No descriptor of the caller's but the three usual ones.
fn close_descriptors() -> Result<(), Problem> {
    let open: Vec<libc::c_int> = fs::read_dir("/dev/fd")
        .map_err(|e| confined(&e))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > libc::STDERR_FILENO)
        .collect();
    for fd in open {
        // SAFETY: a number alone. The list's own is closed already, which changes nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Starts the program in this process's place; an error if that fails.
fn replace(program: &Path, arguments: &[OsString]) -> Problem {
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let all = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str)).map(text);
    let Ok(all) = all.collect::<Result<Vec<_>, _>>() else {
        return place_wrong(program, "an argument has a zero byte");
    };
    let mut pointers: Vec<_> = all.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // Go takes settings from its environment (GODEBUG), and so would a library.
    let nothing = [std::ptr::null()];
    // SAFETY: the program's name, its arguments and the environment are strings and lists that end as execve(2) wants.
    unsafe { libc::execve(pointers[0], pointers.as_ptr(), nothing.as_ptr()) };
    let error = io::Error::last_os_error();
    Problem::new(Code::SHIM_TARGET, program.display().to_string(), error.to_string(), "sudo rcc setup    (installs it)")
}

fn confined(error: &io::Error) -> Problem {
    let remedy = "report it, with the macOS version: the machine is not started without its sandbox";
    Problem::new(Code::SHIM_CONFINE, "gvproxy", error.to_string(), remedy)
}

/// Whether pf refuses the group a port where somebody listens. Tells by its end, and reads and sends nothing.
fn probe_port(port: &OsStr) -> Result<ExitCode, Problem> {
    let usage = || place_wrong(Path::new(port), "it is no port");
    let port: u16 = port.to_str().and_then(|p| p.parse().ok()).filter(|p| *p != 0).ok_or_else(usage)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(ExitCode::from(probe::end(&TcpStream::connect_timeout(&to, PROBE_LIMIT))))
}
