//! The virtual machine from within: rcc's launcher, hook and forwarder in it, and sessions of the person's there.

use crate::monitor::{Channel, Monitor};
use crate::person::Person;
use anyhow::{Context as _, Result, ensure};
use rcc_machine::{Machine, Who};
use rcc_rig::Rig;
use std::time::Duration;

/// How long all attempts of a class may take.
const LONG: Duration = Duration::from_secs(1200);

/// A machine with rcc in it.
pub struct Guest(Machine);

impl Guest {
    /// Sets it up: what a Mac's `rcc setup` puts into its machine.
    pub fn set_up(mut machine: Machine, monitor: &Monitor, rig: &Rig<'_>) -> Result<Self> {
        let network = match monitor.channel {
            Channel::Network => {
                "card=$(ls /sys/class/net | grep -v '^lo$'); ip link set lo up; ip link set $card up
                 ip addr add 10.0.2.15/24 dev $card; ip route add default via 10.0.2.2"
            }
            Channel::Vsock(_) => {
                "ip link set lo up; modprobe vmw_vsock_virtio_transport; test \"$(ls /sys/class/net)\" = lo"
            }
        };
        let policy = std::fs::read_to_string(rcc_rig::POLICY)?;
        let script = format!(
            "set -e
             {network}
             useradd --system --no-create-home rcc
             at=/usr/local/libexec/rcc/test; install -d $at /etc/rcc
             for program in rcc rcc-hook rcc-forward; do install -m 755 /mnt/built/product/$program $at; done
             ln -s $at/rcc /usr/local/bin/rcc
             cat > /etc/rcc/policy.toml <<'END'\n{policy}\nEND
             systemd-run --quiet --unit=rcc-forward -p User=rcc -p RuntimeDirectory=rcc $at/rcc-forward {gateway}
             for i in $(seq 100); do test -S /run/rcc/gateway.sock && exit 0; sleep 0.1; done
             journalctl -u rcc-forward --no-pager >&2; exit 1",
            gateway = monitor.gateway()
        );
        machine.succeeds(Who::Root, &script)?;
        machine.succeeds(Who::Person, "mkdir -p project/.git/hooks && cd project && echo '[core]' > .git/config && echo 'ref: refs/heads/main' > .git/HEAD")?;
        let mut this = Self(machine);
        this.file("/home/dev/project/probe.py", &std::fs::read_to_string(rig.project.join("probe.py"))?)?;
        this.file("/root/probe.py", &std::fs::read_to_string(rig.project.join("probe.py"))?)?;
        Ok(this)
    }

    /// Runs something as the machine's root, which must go well.
    pub fn root(&mut self, script: &str) -> Result<String> {
        self.0.succeeds(Who::Root, script)
    }

    /// The same, whatever it ends with, for a longer time.
    pub fn root_tries(&mut self, script: &str) -> Result<String> {
        let answer = self.0.run(Who::Root, script, LONG)?;
        Ok(answer.out + &answer.err)
    }

    /// Writes a file, whose owner is that of its folder.
    pub fn file(&mut self, path: &str, text: &str) -> Result<()> {
        let mark = "END-OF-THE-FILE";
        ensure!(!text.contains(mark), "the mark is in the text");
        let script = format!("cat > {path} <<'{mark}'\n{text}\n{mark}\nchown --reference=$(dirname {path}) {path}");
        self.root(&script).map(drop)
    }

    /// Runs a script in a session of the person's, and gives what it printed.
    pub fn session(&mut self, person: &mut Person, script: &str) -> Result<String> {
        let running = self.begin_session(person, script)?;
        self.ended(running)
    }

    /// Starts one.
    pub fn begin_session(&mut self, person: &mut Person, script: &str) -> Result<u64> {
        self.file("/home/dev/project/script.sh", script)?;
        let ticket = &person.ticket;
        let command = format!(
            "umask 077; echo {ticket} > ~/ticket; cd project && exec rcc run --ticket ~/ticket -- /bin/bash script.sh"
        );
        self.0.begin(Who::Person, &command)
    }

    /// Waits for its end.
    pub fn ended(&mut self, running: u64) -> Result<String> {
        let answer = self.0.end(running, LONG)?;
        ensure!(answer.code != Some(125), "the session did not start: {}", answer.err);
        Ok(answer.out + &answer.err)
    }

    /// The machine's power is cut.
    pub fn cut(self) -> Result<()> {
        self.0.cut().context("cutting the power")
    }
}
