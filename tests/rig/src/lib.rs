//! rcc as it is on a machine where it was set up, inside a world: the product's own static programs, root-owned in
//! /usr/local, root's policy, the gateway as its system user, and an ordinary user with a project.
//!
//! Everything is in the world's own overlays and namespaces, so nothing of it is left when the world ends.

pub mod daily;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use rcc_world::World;
use rcc_world::description::User;
use serde_json::Value;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The folder of the product's static release programs; the test command sets it.
pub const BINARIES: &str = "RCC_TEST_BINARIES";
/// The folder that the real agent is installed in; the test command sets it.
pub const AGENTS: &str = "RCC_TEST_AGENTS";
/// The ordinary user of a rig. A test's `Setup` names it.
pub const USER: &str = "dev";
/// Root's policy.
pub const POLICY: &str = "/etc/rcc/policy.toml";
/// The gateway's log.
pub const LOG: &str = "/var/log/rcc/gateway.jsonl";

/// Where the rig installs the programs.
pub const INSTALLED: &str = "/usr/local/libexec/rcc/test";
const PROGRAMS: [&str; 5] = ["rcc", "rcc-hook", "rcc-gateway", "rcc-firewall", "rcc-setup"];

/// rcc, set up in a world.
pub struct Rig<'a> {
    /// The world.
    pub world: &'a World,
    /// The ordinary user.
    pub user: User,
    /// The user's project; the working directory of what is run.
    pub project: PathBuf,
    gateway: Option<Child>,
    gateway_id: u32,
}

impl<'a> Rig<'a> {
    /// Sets rcc up and starts the gateway. `allow` is the policy's list, `more` further text of the policy.
    pub fn start(world: &'a World, allow: &[&str], more: &str) -> Result<Self> {
        let user = world.at.user.clone().context("the world has no user: Setup { user: Some(rcc_rig::USER), .. }")?;
        install()?;
        let project = user.home.join("project");
        make_folder(&project, &user)?;
        agents(&user)?;
        let gateway_id =
            nix::unistd::User::from_name(rcc_proto::GATEWAY_USER)?.context("no gateway user")?.uid.as_raw();
        for folder in ["/run/rcc", "/var/log/rcc"] {
            fs::create_dir_all(folder)?;
            chown(folder, Some(gateway_id), Some(gateway_id))?;
        }
        let mut rig = Self { world, user, project, gateway: None, gateway_id };
        rig.policy(&rig.usual_policy(allow, more))?;
        rig.start_gateway()?;
        Ok(rig)
    }

    /// A policy for the rig's user, with the world's authority, the model's endpoint, and `more` at its end.
    #[must_use]
    pub fn usual_policy(&self, allow: &[&str], more: &str) -> String {
        let allow: Vec<String> = allow.iter().map(|a| format!("{a:?}")).collect();
        let authority = if self.world.at.machine_network {
            String::new()
        } else {
            format!("ca_bundle = \"{}\"\n", self.world.at.ca_pem.display())
        };
        format!(
            "allow = [{}]\nusers = [\"{USER}\"]\n{authority}[credentials.anthropic]\n[limits]\nunenforceable = \"warn\"\n{more}\n",
            allow.join(", ")
        )
    }

    /// Writes root's policy, and puts its firewall in force; both are for sessions that begin from now on.
    pub fn policy(&self, text: &str) -> Result<()> {
        fs::create_dir_all("/etc/rcc")?;
        fs::set_permissions("/etc/rcc", fs::Permissions::from_mode(0o755))?;
        fs::write(POLICY, text)?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o644))?;
        // A policy that is not valid has no firewall; sessions say what is wrong with it.
        let valid = rcc_policy::parse(text, POLICY).is_ok();
        let output = self.firewall("apply").output().context("starting rcc-firewall")?;
        ensure!(output.status.success() || !valid, "{}", shown(&output));
        Ok(())
    }

    /// `rcc-firewall WHAT` as root.
    #[must_use]
    pub fn firewall(&self, what: &str) -> Command {
        let mut command = Command::new(Path::new(INSTALLED).join("rcc-firewall"));
        command.arg(what).env_clear().current_dir("/").stdin(Stdio::null());
        command
    }

    /// Starts the gateway as its system user, and waits until it listens.
    pub fn start_gateway(&mut self) -> Result<()> {
        self.start_gateway_hearing(&[])
    }

    /// The same, with listening sockets that are passed to it as systemd does.
    pub fn start_gateway_hearing(&mut self, passed: &[OwnedFd]) -> Result<()> {
        let mut command = Command::new("/bin/sh");
        let said = if passed.is_empty() { String::new() } else { format!("LISTEN_FDS={} LISTEN_PID=$$", passed.len()) };
        command.args(["-c", &format!("{said} exec {INSTALLED}/rcc-gateway serve")]);
        command.env_clear().current_dir("/").stdin(Stdio::null());
        let fds: Vec<_> = passed.iter().map(AsRawFd::as_raw_fd).collect();
        let place = move || {
            for (fd, at) in fds.iter().zip(3..) {
                // SAFETY: two system calls; what was open there in the child is of no use to it.
                if unsafe { libc::dup2(*fd, at) != at || libc::fcntl(at, libc::F_SETFD, 0) != 0 } {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: system calls alone, which allocate nothing.
        unsafe { command.pre_exec(place) };
        command.uid(self.gateway_id).gid(self.gateway_id);
        self.gateway = Some(command.spawn().context("starting the gateway")?);
        self.wait_until("the gateway listens", Duration::from_secs(10), || {
            Ok(fs::read_to_string("/proc/net/unix")?.lines().any(|l| l.ends_with(rcc_proto::GATEWAY_SOCKET)))
        })
    }

    /// The gateway's process.
    #[must_use]
    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateway.as_ref().map(Child::id)
    }

    /// Kills the gateway's supervisor as `kill -9` does.
    pub fn kill_gateway(&mut self) -> Result<()> {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill()?;
            gateway.wait()?;
        }
        Ok(())
    }

    /// `rcc ARGS…` as the user, in the project, with a usual login's environment and the model's test key.
    #[must_use]
    pub fn rcc<I: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = self.command("/usr/local/bin/rcc");
        command.args(arguments).env("ANTHROPIC_API_KEY", &self.world.at.model_keys.api_key);
        command
    }

    /// Any program of the host's, as the user, in the project.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", &self.user.home)
            .env("USER", USER)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .current_dir(&self.project)
            .stdin(Stdio::null())
            .uid(self.user.id)
            .gid(self.user.id);
        command
    }

    /// Runs a shell script inside a session, and gives what it printed.
    pub fn inside(&self, script: &str) -> Result<Output> {
        self.rcc(["run", "--", "/bin/bash", "-c", script]).output().context("starting rcc")
    }

    /// Runs the real Claude Code with a script for the model: each of `commands` is called by the agent's own Bash tool,
    /// one turn each, in ten minutes at most. Gives rcc's output and each command's result.
    pub fn agent(&self, commands: &[&str]) -> Result<(Output, Vec<String>)> {
        let mut turns: Vec<Value> = commands
            .iter()
            .map(
                |c| serde_json::json!({ "tools": [{ "name": "Bash", "input": { "command": c, "timeout": 600_000 } }] }),
            )
            .collect();
        turns.push(serde_json::json!({ "text": "done" }));
        fs::write(&self.world.at.model_script, serde_json::to_vec(&turns)?)?;
        let before = self.world.exchanges()?.len();
        let output = self.rcc(["claude", "-p", "do what the script says"]).output().context("starting rcc")?;
        let mut results = Vec::new();
        for exchange in self.world.exchanges()?.iter().skip(before) {
            results.extend(exchange.message.iter().flat_map(|m| &m.results).map(|r| r.text.clone()));
        }
        ensure!(
            results.len() >= commands.len(),
            "{} of {} commands ran\n{}",
            results.len(),
            commands.len(),
            shown(&output)
        );
        Ok((output, results))
    }

    /// The gateway's log, a value a line.
    pub fn log(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(LOG)?;
        text.lines().map(|l| serde_json::from_str(l).with_context(|| format!("not JSON: {l}"))).collect()
    }

    /// Waits until something holds.
    pub fn wait_until(&self, what: &str, patience: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !holds()? {
            if began.elapsed() > patience {
                bail!("after {patience:?} it was not so that {what}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        let _ = self.kill_gateway();
        // In a world's own network it goes with that.
        if self.world.at.machine_network {
            let _ = self.firewall("remove").status();
        }
    }
}

/// What a command printed and ended with, for a failed test.
#[must_use]
pub fn shown(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A folder that belongs to the user, with those above it in the home.
pub fn make_folder(path: &Path, user: &User) -> Result<()> {
    fs::create_dir_all(path)?;
    for folder in path.ancestors().take_while(|p| p.starts_with(&user.home)) {
        chown(folder, Some(user.id), Some(user.id))?;
    }
    Ok(())
}

fn install() -> Result<()> {
    let from = PathBuf::from(
        std::env::var_os(BINARIES).with_context(|| format!("{BINARIES} is not set: use cargo xtask test"))?,
    );
    fs::create_dir_all(INSTALLED)?;
    for program in PROGRAMS {
        let to = Path::new(INSTALLED).join(program);
        fs::copy(from.join(program), &to).with_context(|| format!("{program} of {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    // On some machines /usr/local belongs to a group of developers; a program there would not be root's alone.
    let link = Path::new("/usr/local/bin/rcc");
    let _ = fs::remove_file(link);
    Ok(symlink(Path::new(INSTALLED).join("rcc"), link)?)
}

/// The real agent, where `rcc claude` would have installed it.
fn agents(user: &User) -> Result<()> {
    let Some(from) = std::env::var_os(AGENTS).map(PathBuf::from).filter(|p| p.exists()) else { return Ok(()) };
    let to = user.home.join(".local/share/rcc/agents");
    make_folder(&to, user)?;
    bind(&from, &to).context("mounting the agent")
}

/// Has a folder at another place too.
pub fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).with_context(|| to.display().to_string())
}
