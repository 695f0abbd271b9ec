//! A person's terminal as many have it: a real tmux with their shell in it, driven by its own commands, seen by what it
//! shows.

use crate::pty::with_usual_signals;
use crate::succeeds;
use anyhow::{Context, Result, ensure};
use rcc_rig::Rig;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything on the screen may take, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A window of a tmux of its own; the shell's prompt shows the last exit code.
pub struct Tmux<'a> {
    rig: &'a Rig<'a>,
    socket: PathBuf,
}

impl<'a> Tmux<'a> {
    /// The user's shell in the rig's project, at its first prompt.
    pub fn start(rig: &'a Rig<'a>, rows: u16, columns: u16) -> Result<Self> {
        let this = Self { rig, socket: rig.user.home.join(format!("tmux-{}", rig.world.token())) };
        let environment = rig.rcc([] as [&str; 0]);
        let mut command = this.tmux();
        with_usual_signals(&mut command);
        command.envs(environment.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("PS1", "<$?> ");
        command.args(["new-session", "-d", "-x", &columns.to_string(), "-y", &rows.to_string()]);
        command.args(["/bin/bash", "--norc", "--noprofile", "-i"]);
        succeeds(&command.output()?).context("tmux")?;
        // What its own configuration would say; in force for what is started from here.
        this.say(&["set-option", "-g", "status", "off"])?;
        this.prompt(0)?;
        Ok(this)
    }

    /// Types text.
    pub fn keys(&self, text: &str) -> Result<()> {
        self.say(&["send-keys", "-l", "--", text]).map(drop)
    }

    /// Presses a key by tmux's name of it, as `C-c`.
    pub fn key(&self, name: &str) -> Result<()> {
        self.say(&["send-keys", name]).map(drop)
    }

    /// Types a command that runs a script of bash, by whatever stands before the shell's name: nothing, or a call of rcc.
    pub fn run_by(&self, before: &str, script: &str) -> Result<()> {
        std::fs::write(self.rig.project.join("script"), script)?;
        self.keys(&format!("{before}/bin/bash ./script"))?;
        self.key("Enter")
    }

    /// Pastes: tmux brackets it where the program has asked for that.
    pub fn paste(&self, text: &str) -> Result<()> {
        self.say(&["set-buffer", "--", text])?;
        self.say(&["paste-buffer", "-p", "-r"]).map(drop)
    }

    /// Gives the window another size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.say(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]).map(drop)
    }

    /// What is on the screen, with the escape sequences of its colours.
    pub fn screen(&self) -> Result<String> {
        self.say(&["capture-pane", "-p", "-e"])
    }

    /// Waits until `text` is on the screen.
    pub fn until(&self, text: &str) -> Result<()> {
        self.until_times(text, 1)
    }

    /// Waits until `text` is on the screen so many times.
    pub fn until_times(&self, text: &str, times: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen()?;
            if screen.matches(text).count() >= times {
                return Ok(());
            }
            ensure!(Instant::now() < end, "no {text:?} on the screen:\n{}", screen.trim_end());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits for the shell's prompt after a command that ended with `code`.
    pub fn prompt(&self, code: u8) -> Result<()> {
        // A space at a line's end is not on the screen.
        self.until(&format!("<{code}>"))
    }

    fn say(&self, what: &[&str]) -> Result<String> {
        let output = self.tmux().args(what).output().context("starting tmux")?;
        succeeds(&output).with_context(|| format!("{what:?}"))
    }

    fn tmux(&self) -> Command {
        let mut command = self.rig.command("/usr/bin/tmux");
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket);
        command
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ended_already = self.say(&["kill-server"]);
    }
}
