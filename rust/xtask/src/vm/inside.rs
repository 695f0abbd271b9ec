//! The other end, in the machine: runs what is asked for, and says what came of it.
//!
//! A line of JSON a command, a line an answer, by a virtio port. Several commands can be under way at once.

use super::image::USER;
use anyhow::{Context as _, Result};
use rcc_machine::PORT;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Answers until the machine ends.
pub fn run() -> Result<()> {
    let path = format!("/dev/virtio-ports/{PORT}");
    let port = File::options().read(true).write(true).open(&path).context(path)?;
    let answers = Arc::new(Mutex::new(port.try_clone()?));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    say(&answers, &json!({ "boot": boot.trim() }))?;
    for line in BufReader::new(port).lines() {
        let asked: Value = serde_json::from_str(&line?).context("a line that is no JSON")?;
        let answers = Arc::clone(&answers);
        std::thread::spawn(move || {
            let answer = match answer(&asked) {
                Ok(answer) => answer,
                Err(error) => json!({ "code": 255, "out": "", "err": format!("{error:#}") }),
            };
            let mut answer = answer;
            answer["id"] = asked["id"].clone();
            // The machine may be on its way down.
            let _gone = say(&answers, &answer);
        });
    }
    Ok(())
}

fn say(port: &Mutex<File>, line: &Value) -> Result<()> {
    let mut port = port.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(port.write_all(format!("{line}\n").as_bytes())?)
}

fn answer(asked: &Value) -> Result<Value> {
    let script = asked["script"].as_str().context("no script")?;
    let mut command = if asked["root"] == true {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", script]).env("HOME", "/root");
        command
    } else {
        // A login of its own, by PAM, as a person's is.
        let mut command = Command::new("/bin/su");
        command.args(["--login", USER, "--command", script]);
        command
    };
    command.current_dir("/").env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(json!({ "code": output.status.code(), "out": text(&output.stdout), "err": text(&output.stderr) }))
}
