//! A machine that runs: qemu's emulation, without a network unless told, driven by a virtio port.
//!
//! Invariant: it ends with this value, and all that it writes is in the run's folder.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{setgroups, setresgid, setresuid};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The name of the port by which a machine is driven.
pub const PORT: &str = "harness";

/// A disk and what boots it. Never written to: a run has a layer of its own above.
#[derive(Debug)]
pub struct Image {
    /// The file system, raw.
    pub disk: PathBuf,
    /// Its own kernel.
    pub kernel: PathBuf,
    /// Its own initial memory disk.
    pub initrd: PathBuf,
}

/// How a machine is started.
#[derive(Clone, Debug)]
pub struct Manner {
    /// A state that was kept in the layer, to go on from.
    pub restored: Option<String>,
    /// What the machine is, by its kernel's command line.
    pub kind: &'static str,
    /// Its network, and whatever else is added to it.
    pub devices: Vec<String>,
    /// Whom qemu runs as, and in which network namespace; otherwise as whoever starts it, where that is.
    pub bound: Option<Bound>,
}

impl Default for Manner {
    /// A machine without a network, which makes a small internet within itself.
    fn default() -> Self {
        let devices = ["-nic", "none", "-m", "2048"].map(str::to_owned).into();
        Self { restored: None, kind: "virtual", devices, bound: None }
    }
}

/// Whom qemu runs as, and where.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The user.
    pub uid: u32,
    /// The group, and the only one.
    pub gid: u32,
    /// A network namespace.
    pub namespace: std::sync::Arc<OwnedFd>,
}

/// How long a start may take: some ten times what it takes on two cores that have nothing else to do.
pub const BOOT: Duration = Duration::from_secs(300);

/// The same for a command in it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Who runs a command in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The test, looking on or being the person who administers the machine.
    Root,
    /// The ordinary user, in a login of their own.
    Person,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code; none if a signal ended it.
    pub code: Option<i64>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Files of a run.
#[derive(Clone, Debug)]
pub struct Disks {
    /// What the machine writes to: a layer above the image's.
    pub layer: PathBuf,
    /// The second disk, read-only.
    pub built: PathBuf,
}

impl Disks {
    /// An empty layer above the image.
    pub fn fresh(image: &Image, layer: PathBuf, built: PathBuf) -> Result<Self> {
        if layer.exists() {
            fs::remove_file(&layer)?;
        }
        let output = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&image.disk, &layer])
            .stdin(Stdio::null())
            .output()
            .context("qemu-img")?;
        ensure!(output.status.success(), "qemu-img: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { layer, built })
    }
}

/// A machine under way.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    port: BufReader<UnixStream>,
    monitor: UnixStream,
    /// The start of a line that was cut off by a time limit.
    begun: Vec<u8>,
    asked: u64,
    answers: HashMap<u64, Answer>,
    boots: Vec<String>,
    _sockets: tempfile::TempDir,
}

impl Machine {
    /// Switches it on.
    pub fn start(image: &Image, disks: &Disks, log: &Path, manner: &Manner) -> Result<Self> {
        let sockets = tempfile::Builder::new().prefix("rcc-vm-").tempdir()?;
        if let Some(bound) = &manner.bound {
            chown(sockets.path(), Some(bound.uid), Some(bound.gid))?;
        }
        let (port, monitor) = (sockets.path().join("port"), sockets.path().join("monitor"));
        let said = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(&manner.devices)
            .args(["-nodefaults", "-display", "none", "-no-user-config"])
            .arg("-kernel")
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initrd)
            .args(["-append", &format!("root=/dev/vda rw console=ttyS0 rcc.machine={}", manner.kind)])
            .arg("-drive")
            .arg(format!("file={},format=qcow2,if=virtio,cache=writeback", disks.layer.display()))
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio,readonly=on", disks.built.display()))
            .args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"])
            .arg("-chardev")
            .arg(format!("socket,id=port,path={},server=on,wait=off", port.display()))
            .args(["-device", &format!("virtserialport,chardev=port,name={PORT}")])
            .arg("-chardev")
            .arg(format!("file,id=console,path={},append=on", log.with_extension("console").display()))
            .args(["-serial", "chardev:console"])
            .arg("-monitor")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        if let Some(state) = &manner.restored {
            command.args(["-loadvm", state]);
        }
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let bound = manner.bound.clone();
        let become_it = move || {
            if let Some(Bound { uid, gid, namespace }) = &bound {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
                setgroups(&[])?;
                setresgid((*gid).into(), (*gid).into(), (*gid).into())?;
                setresuid((*uid).into(), (*uid).into(), (*uid).into())?;
            }
            // Last: another user would be without it.
            Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
        };
        // SAFETY: system calls alone, which allocate nothing.
        unsafe { command.pre_exec(become_it) };
        let mut qemu = command.spawn().context("qemu-system-x86_64")?;
        let connected = connect(&mut qemu, &port).and_then(|p| Ok((p, connect(&mut qemu, &monitor)?)));
        let (port, monitor) = connected.inspect_err(|_| {
            let _gone = qemu.kill().and_then(|()| qemu.wait().map(drop));
        })?;
        Ok(Self {
            qemu,
            port: BufReader::new(port),
            monitor,
            begun: Vec::new(),
            asked: 0,
            answers: HashMap::new(),
            boots: Vec::new(),
            _sockets: sockets,
        })
    }

    /// Waits until the machine has started once more, and gives how long that took from now.
    pub fn await_boot(&mut self) -> Result<Duration> {
        let (began, before) = (Instant::now(), self.boots.len());
        while self.boots.len() == before {
            self.hear(began, BOOT).context("waiting for the machine's start")?;
        }
        ensure!(
            self.boots.iter().filter(|b| *b == &self.boots[before]).count() == 1,
            "not the machine started, but what answers in it"
        );
        Ok(began.elapsed())
    }

    /// Asks for a command, and goes on.
    pub fn begin(&mut self, who: Who, script: &str) -> Result<u64> {
        self.asked += 1;
        let line = json!({ "id": self.asked, "root": who == Who::Root, "script": script });
        self.port.get_mut().write_all(format!("{line}\n").as_bytes())?;
        Ok(self.asked)
    }

    /// Waits for a command's end.
    pub fn end(&mut self, id: u64, patience: Duration) -> Result<Answer> {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return Ok(answer);
            }
            self.hear(began, patience)?;
        }
    }

    /// Runs a command to its end, whatever it ends with.
    pub fn run(&mut self, who: Who, script: &str, patience: Duration) -> Result<Answer> {
        let id = self.begin(who, script)?;
        self.end(id, patience).with_context(|| script.to_owned())
    }

    /// Runs a command that has to end with 0, and gives what it printed.
    pub fn succeeds(&mut self, who: Who, script: &str) -> Result<String> {
        let answer = self.run(who, script, PATIENCE)?;
        ensure!(answer.code == Some(0), "{script}\nended with {:?}\n{}{}", answer.code, answer.out, answer.err);
        Ok(answer.out)
    }

    /// Keeps the whole machine's state in its layer, by that name.
    pub fn keep(&mut self, name: &str) -> Result<()> {
        self.monitor.set_read_timeout(Some(Duration::from_secs(120)))?;
        let said = self.tell(&format!("savevm {name}"))?;
        ensure!(!said.contains("Error"), "savevm: {said}");
        Ok(())
    }

    /// The power is cut.
    pub fn cut(mut self) -> Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }

    /// One line of qemu's monitor, and what it says until its next prompt.
    fn tell(&mut self, line: &str) -> Result<String> {
        self.monitor.write_all(format!("{line}\n").as_bytes())?;
        // The first prompt is that of the start, the second follows the command.
        let (mut said, mut prompts) = (String::new(), 0);
        while prompts < 2 {
            let mut some = [0; 4096];
            let read = self.monitor.read(&mut some).context("qemu's monitor")?;
            ensure!(read > 0, "qemu's monitor has gone");
            said.push_str(&String::from_utf8_lossy(&some[..read]));
            prompts = said.matches("(qemu) ").count();
        }
        Ok(said)
    }

    /// Hears one line.
    fn hear(&mut self, began: Instant, patience: Duration) -> Result<()> {
        let left = patience.checked_sub(began.elapsed()).filter(|l| !l.is_zero());
        let left = left.with_context(|| format!("no answer within {} s", patience.as_secs()))?;
        self.port.get_ref().set_read_timeout(Some(left))?;
        match self.port.read_until(b'\n', &mut self.begun) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(0) => bail!("qemu has ended"),
            Ok(_) => {}
        }
        let line = std::mem::take(&mut self.begun);
        let said: Value = serde_json::from_slice(&line)
            .with_context(|| format!("the machine said {}", String::from_utf8_lossy(&line)))?;
        if let Some(boot) = said["boot"].as_str() {
            self.boots.push(boot.to_owned());
        } else if let Some(id) = said["id"].as_u64() {
            let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
            self.answers.insert(id, Answer { code: said["code"].as_i64(), out: text("out"), err: text("err") });
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.qemu.kill().and_then(|()| self.qemu.wait().map(drop));
    }
}

fn connect(qemu: &mut Child, path: &Path) -> Result<UnixStream> {
    let began = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if began.elapsed() > Duration::from_secs(30) => return Err(error).context("qemu's sockets"),
            Err(_) => {}
        }
        if let Some(status) = qemu.try_wait()? {
            bail!("qemu ended with {status}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
