//! What Podman's machine tells gvproxy (`startHostForwarder` of podman's pkg/machine/shim), and nothing else that gvproxy
//! would take: no configuration file, no control API, no other kind of listener, no capture, no debugging.
//!
//! Invariant: what is handed on is made anew from values that were checked, in one order; no byte of an argument goes through
//! unread.

use rcc_proto::macos::{MACHINE_FOLDER, SSH_PORT};
use rcc_report::{Code, Problem};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The names that a Unix socket's path may have, in bytes, less one (`sockaddr_un` of macOS).
const LONGEST_SOCKET: usize = 103;

/// A call of Podman's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The largest packet.
    pub mtu: u32,
    /// Where the machine's frames come.
    pub frames: PathBuf,
    /// Where gvproxy says its number.
    pub pid_file: PathBuf,
    /// Where it says what it does.
    pub log_file: PathBuf,
    /// The machine's Podman, for the person's programs outside.
    pub api: Option<Api>,
}

/// A Unix socket outside that leads to one in the machine, by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Outside.
    pub socket: PathBuf,
    /// In the machine.
    pub target: String,
    /// Who logs in there.
    pub user: String,
    /// By which key.
    pub identity: PathBuf,
}

/// What each option may come with once.
#[derive(Default)]
struct Seen {
    mtu: Option<String>,
    ssh_port: Option<String>,
    frames: Option<String>,
    pid_file: Option<String>,
    log_file: Option<String>,
    socket: Option<String>,
    target: Option<String>,
    user: Option<String>,
    identity: Option<String>,
}

impl Seen {
    fn place(&mut self, option: &str) -> Option<&mut Option<String>> {
        Some(match option {
            "mtu" => &mut self.mtu,
            "ssh-port" => &mut self.ssh_port,
            "listen-vfkit" => &mut self.frames,
            "pid-file" => &mut self.pid_file,
            "log-file" => &mut self.log_file,
            "forward-sock" => &mut self.socket,
            "forward-dest" => &mut self.target,
            "forward-user" => &mut self.user,
            "forward-identity" => &mut self.identity,
            _ => return None,
        })
    }
}

impl Call {
    /// Reads the arguments, without the program's name.
    pub fn parse(arguments: &[OsString]) -> Result<Self, Problem> {
        let mut seen = Seen::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_str().ok_or_else(|| refused("an argument", "it is not UTF-8"))?;
            let option = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or_default();
            let place = seen.place(option).ok_or_else(|| refused(text, "Podman's machine does not pass this"))?;
            let value = rest.next().and_then(|v| v.to_str()).ok_or_else(|| refused(text, "it has no value"))?;
            if place.replace(value.to_owned()).is_some() {
                return Err(refused(text, "it is there twice"));
            }
        }
        seen.call()
    }

    /// For the pinned gvproxy.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| all.extend([option.into(), value]);
        add("-mtu", self.mtu.to_string().into());
        add("-ssh-port", SSH_PORT.to_string().into());
        let mut frames = OsString::from("unixgram://");
        frames.push(&self.frames);
        add("-listen-vfkit", frames);
        if let Some(api) = &self.api {
            add("-forward-sock", api.socket.clone().into());
            add("-forward-dest", api.target.clone().into());
            add("-forward-user", api.user.clone().into());
            add("-forward-identity", api.identity.clone().into());
        }
        add("-pid-file", self.pid_file.clone().into());
        add("-log-file", self.log_file.clone().into());
        all
    }

    /// The folder in which all sockets and files are.
    pub fn folder(&self) -> &Path {
        self.frames.parent().unwrap_or(Path::new("/"))
    }
}

impl Seen {
    fn call(self) -> Result<Call, Problem> {
        let needed = |value: Option<String>, option: &str| value.ok_or_else(|| refused(option, "it is missing"));
        let mtu = needed(self.mtu, "-mtu")?;
        let mtu = number(&mtu).filter(|mtu| (576..=65_521).contains(mtu)).ok_or_else(|| refused("-mtu", &mtu))?;
        let port = needed(self.ssh_port, "-ssh-port")?;
        if number(&port) != Some(SSH_PORT.into()) {
            let why = format!("it is {port}, and pf lets the machine's ssh be at {SSH_PORT} alone");
            return Err(refused("-ssh-port", &why));
        }
        let frames = needed(self.frames, "-listen-vfkit")?;
        let frames =
            frames.strip_prefix("unixgram://").ok_or_else(|| refused("-listen-vfkit", "no unixgram:// path"))?;
        // The rest is a URL to gvproxy: a path that could be read as more than one is none of ours.
        if frames.contains(['%', '?', '#', '@']) {
            return Err(refused("-listen-vfkit", "its path has characters that mean something in a URL"));
        }
        let frames = socket("-listen-vfkit", frames)?;
        let pid_file = file("-pid-file", &needed(self.pid_file, "-pid-file")?)?;
        let log_file = file("-log-file", &needed(self.log_file, "-log-file")?)?;
        let api = match (self.socket, self.target, self.user, self.identity) {
            (None, None, None, None) => None,
            (Some(outside), Some(target), Some(user), Some(identity)) => Some(Api {
                socket: socket("-forward-sock", &outside)?,
                target: is_podmans(&target).then_some(target).ok_or_else(|| refused("-forward-dest", "no Podman's"))?,
                user: is_name(&user).then_some(user).ok_or_else(|| refused("-forward-user", "no user's name"))?,
                identity: file("-forward-identity", &identity)?,
            }),
            _ => return Err(refused("-forward-sock", "it has no destination, user or identity, or these no socket")),
        };
        let call = Call { mtu, frames, pid_file, log_file, api };
        let outside = call.api.iter().map(|api| &api.socket);
        let all = [&call.pid_file, &call.log_file].into_iter().chain(outside);
        if let Some(other) = all.into_iter().find(|path| path.parent() != Some(call.folder())) {
            return Err(refused(&other.display().to_string(), "it lies in another folder than the machine's socket"));
        }
        // What the profile lets gvproxy read and make sockets in.
        if !call.folder().ancestors().any(|above| above.ends_with(MACHINE_FOLDER)) {
            return Err(refused("-listen-vfkit", "it does not lie in the folder of the agents' machine"));
        }
        Ok(call)
    }
}

fn number(text: &str) -> Option<u32> {
    // No sign, no blank: as it is printed.
    text.parse().ok().filter(|n: &u32| n.to_string() == text)
}

fn file(option: &str, text: &str) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(text);
    let parts = path.components().all(|p| matches!(p, std::path::Component::RootDir | std::path::Component::Normal(_)));
    if !path.is_absolute() || !parts || text.chars().any(char::is_control) || path.file_name().is_none() {
        return Err(refused(option, "its path is not absolute and plain"));
    }
    Ok(path)
}

fn socket(option: &str, text: &str) -> Result<PathBuf, Problem> {
    if text.len() > LONGEST_SOCKET {
        return Err(refused(option, "the path is too long for a socket"));
    }
    file(option, text)
}

/// `/run/podman/podman.sock`, or a user's own.
fn is_podmans(target: &str) -> bool {
    let users = target.strip_prefix("/run/user/").and_then(|rest| rest.strip_suffix("/podman/podman.sock"));
    target == "/run/podman/podman.sock" || users.is_some_and(|uid| number(uid).is_some())
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    (1..=32).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-')
}

fn refused(subject: &str, why: &str) -> Problem {
    let subject = format!("gvproxy {}", rcc_report::escaped(subject));
    let remedy = "let rcc start the machine (in a project: rcc shell), with a Podman that rcc was written for";
    Problem::new(Code::SHIM_ARGUMENTS, subject, rcc_report::escaped(why), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As podman 5.8 and gvproxy 0.8.9 call it (`GvproxyCommand.ToCmdline`).
    fn podmans() -> Vec<String> {
        let run = "/Users/alice/.local/share/rcc/machine/run/podman";
        [
            "-mtu",
            "1500",
            "-ssh-port",
            "47022",
            "-listen-vfkit",
            &format!("unixgram://{run}/rcc-gvproxy.sock"),
            "-forward-sock",
            &format!("{run}/rcc-api.sock"),
            "-forward-dest",
            "/run/user/501/podman/podman.sock",
            "-forward-user",
            "core",
            "-forward-identity",
            "/Users/alice/.local/share/rcc/machine/data/containers/podman/machine/machine",
            "-pid-file",
            &format!("{run}/gvproxy.pid"),
            "-log-file",
            &format!("{run}/gvproxy.log"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn parse(arguments: &[String]) -> Result<Call, Problem> {
        Call::parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn podmans_call_goes_through_as_it_was() {
        let call = parse(&podmans()).unwrap();
        assert_eq!(call.arguments(), podmans().iter().map(OsString::from).collect::<Vec<_>>());
        assert!(call.folder().ends_with("run/podman"));
        // The order of a map is Go's to choose, and two dashes mean the same.
        let mut pairs: Vec<_> = podmans().chunks(2).map(<[String]>::to_vec).collect();
        pairs.reverse();
        for pair in &mut pairs {
            pair[0].insert(0, '-');
        }
        assert_eq!(parse(&pairs.concat()), Ok(call));
        let without: Vec<_> =
            podmans().chunks(2).filter(|p| !p[0].starts_with("-forward")).flatten().cloned().collect();
        assert_eq!(parse(&without).unwrap().api, None);
    }

    #[test]
    fn nothing_else_is_taken() {
        let more = |extra: &[&str]| {
            let mut all = podmans();
            all.extend(extra.iter().map(|a| (*a).to_owned()));
            parse(&all)
        };
        for extra in [
            &["-services", "unix:///tmp/x"][..],
            &["-listen", "unix:///tmp/x"],
            &["-listen-qemu", "unix:///tmp/x"],
            &["-config", "/tmp/x"],
            &["-pcap", "/tmp/x"],
            &["-notification", "unix:///tmp/x"],
            &["-ec2-metadata-access"],
            &["-debug"],
            &["-subnet", "10.0.0.0/8"],
            &["-hostIP", "10.0.0.1"],
            &["-mtu=9000"],
            &["-mtu", "1500"],
            &["-forward-sock", "/tmp/x"],
            &["--", "x"],
            &["x"],
            &[""],
            &["-mtu"],
        ] {
            assert_eq!(more(extra).unwrap_err().code, Code::SHIM_ARGUMENTS, "{extra:?}");
        }
    }

    #[test]
    fn another_machines_folder_is_none() {
        for other in ["/Users/alice", "/var/folders/x/T/podman", "/Users/alice/.local/share/rcc/machines"] {
            let moved: Vec<_> = podmans()
                .iter()
                .map(|a| a.replace("/Users/alice/.local/share/rcc/machine/run/podman", other))
                .collect();
            let problem = parse(&moved).unwrap_err();
            assert!(problem.what.contains("agents' machine"), "{other}: {problem}");
        }
    }

    #[test]
    fn each_value_is_of_its_kind() {
        for (option, value) in [
            ("-mtu", "70000"),
            ("-mtu", "+1500"),
            ("-ssh-port", "2222"),
            ("-ssh-port", "047022"),
            ("-listen-vfkit", "unixgram://relative"),
            ("-listen-vfkit", "unix:///Users/alice/.local/share/rcc/machine/run/podman/x.sock"),
            ("-listen-vfkit", "unixgram:///Users/alice/.local/share/rcc/machine/run/podman/%2e%2e/x"),
            ("-listen-vfkit", "unixgram:///elsewhere/x.sock"),
            ("-forward-sock", "/var/run/docker.sock"),
            ("-forward-dest", "/run/user/501/bus"),
            ("-forward-dest", "/run/user/../podman/podman.sock"),
            ("-forward-user", "core@elsewhere"),
            ("-forward-user", "-oProxyCommand"),
            ("-forward-identity", "../id"),
            ("-pid-file", "/Users/alice/.ssh/authorized_keys"),
            ("-log-file", "/Users/alice/.local/share/rcc/machine/run/podman/../x"),
        ] {
            let mut all = podmans();
            let at = all.iter().position(|a| a == option).unwrap();
            all[at + 1] = value.to_owned();
            assert_eq!(parse(&all).unwrap_err().code, Code::SHIM_ARGUMENTS, "{option} {value}");
            all.drain(at..at + 2);
            assert_eq!(parse(&all).unwrap_err().code, Code::SHIM_ARGUMENTS, "without {option}");
        }
        let long = format!("unixgram:///{}/x", "a".repeat(110));
        let mut all = podmans();
        all[5] = long;
        assert!(parse(&all).is_err());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_taken_again(arguments in proptest::collection::vec("(-mtu|-pid-file|/a/b|1500|-x|\\PC{0,12})", 0..12)) {
            if let Ok(call) = parse(&arguments) {
                prop_assert_eq!(Call::parse(&call.arguments()), Ok(call));
            }
        }
    }
}
