//! pf's backend, before a kernel that keeps what a Mac's keeps: what is sent to it, byte for byte; what is read back; and
//! what is left when a call fails or the program dies at it.
#![cfg(target_arch = "x86_64")]

mod bytes;
mod faults;
mod life;

use rcc_packets::{GATEWAY, GROUP, facts, mac, policy};
use rcc_pf_rig::kernel::Kernel;
use rcc_pf_rig::{fault, show};
use rcc_rules::pf::{ANCHOR, Direction, Packet, Ruleset, Services, Transport, denied, lines, states};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A Mac's pf as it is after a start: off, with Apple's own rules.
fn stock() -> Kernel {
    Kernel {
        main: vec![
            "scrub-anchor \"com.apple/*\" all fragment reassemble".to_owned(),
            "anchor \"com.apple/*\" all".to_owned(),
        ],
        nat: vec!["nat-anchor \"com.apple/*\" all".to_owned(), "rdr-anchor \"com.apple/*\" all".to_owned()],
        others: [("com.apple/200.AirDrop".to_owned(), String::new())].into(),
        ..Kernel::default()
    }
}

/// A folder with a kernel and its pfctl.
struct Rig(TempDir);

impl Rig {
    fn new(kernel: &Kernel) -> Self {
        let folder = tempfile::Builder::new().prefix("rcc-pf-").tempdir().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rcc-pf-pfctl"), folder.path().join("pfctl")).unwrap();
        kernel.keep(folder.path());
        Self(folder)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn kernel(&self) -> Kernel {
        Kernel::read(self.folder())
    }

    fn change(&self, change: impl FnOnce(&mut Kernel)) {
        let mut kernel = self.kernel();
        change(&mut kernel);
        kernel.keep(self.folder());
    }

    /// What the program said; nothing if it was killed.
    fn run(&self, what: &str, policy: &str) -> Option<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_rcc-pf-driver"))
            .arg(self.folder())
            .args([what, policy])
            .env("LD_PRELOAD", preload())
            .env("RCC_PF_FOLDER", self.folder())
            .output()
            .unwrap();
        if output.status.signal() == Some(libc::SIGKILL) {
            return None;
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// The same, of a run in which nothing goes wrong.
    fn does(&self, what: &str, policy: &str) -> String {
        fault::clear(self.folder());
        self.run(what, policy).expect("nobody kills it")
    }

    /// The anchor's rules as pfctl lists them.
    fn listed(&self) -> String {
        show::rules(&self.kernel(), ANCHOR).unwrap_or_default()
    }
}

/// Cargo builds it with the tests, beside them.
fn preload() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples/librcc_pf_preload.so");
    assert!(path.is_file(), "{} is built by cargo test", path.display());
    path
}

fn ruleset(text: &str) -> Ruleset {
    let policy = policy(text);
    Ruleset::new(&policy.egress(), policy.fingerprint(), &facts(), &mac())
}

/// The kernel, as the model evaluates it.
fn model(kernel: &Kernel) -> rcc_rules::pf::Kernel {
    let services = Services::default();
    let read = |text: &str| lines(text, &services);
    let names = kernel.anchors.keys().chain(kernel.others.keys());
    rcc_rules::pf::Kernel {
        enabled: kernel.enabled,
        skipped: kernel.skipped.iter().cloned().collect(),
        translations: Vec::new(),
        main: read(&show::rules(kernel, "").unwrap()),
        anchors: names.map(|name| (name.clone(), read(&show::rules(kernel, name).unwrap()))).collect(),
    }
}

/// A datagram or a first packet that somebody sends.
fn sent(to: (IpAddr, u16), protocol: Transport, owner: (u32, u32)) -> Packet<'static> {
    let from = if to.0.is_ipv4() { "192.168.77.50" } else { "2600:77::50" }.parse().unwrap();
    let interface = if to.0.is_loopback() { "lo0" } else { "en0" };
    Packet {
        direction: Direction::Out,
        interface,
        protocol: Some(protocol),
        from: (from, 50_000),
        to,
        flags: 0x02,
        owner: Some(owner),
        fragment: false,
    }
}

/// Packets of the gateway's and of the machine's, of each class that a policy could deny.
fn probes() -> Vec<Packet<'static>> {
    let addresses = [
        "10.0.0.1",
        "169.254.169.254",
        "127.0.0.1",
        "192.168.77.1",
        "9.9.9.9",
        "11.0.0.1",
        "::1",
        "2600:77::1",
        "2600:78::1",
    ];
    let mut all = Vec::new();
    for ip in addresses {
        for port in [22, 25, 53, 443] {
            for protocol in [Transport::Tcp, Transport::Udp] {
                for owner in [(GATEWAY, 20), (501, GROUP)] {
                    all.push(sent((ip.parse().unwrap(), port), protocol, owner));
                }
            }
        }
    }
    all
}

/// What the gateway itself sees: whether the canary of these rules is there, and no other.
fn proven(model: &rcc_rules::pf::Kernel, rules: &Ruleset) -> bool {
    let canary = rules.fingerprint.mac_canary();
    let goes = |port| model.decide(&sent((IpAddr::V4(*canary.ip()), port), Transport::Udp, (GATEWAY, 20))).0;
    goes(canary.port()) && !goes(canary.port() + 1)
}

/// Which of the probes rules deny.
fn denies(rules: &Ruleset) -> Vec<Packet<'static>> {
    let kernel = Kernel { enabled: true, ..stock() };
    let mut model = model(&kernel);
    model.anchors.insert(ANCHOR.to_owned(), lines(&rules.to_string(), &Services::default()));
    probes().into_iter().filter(|packet| !model.decide(packet).0).collect()
}

/// The states of a kernel that rules deny, to an owner who was not held before.
fn stale(kernel: &Kernel, rules: &Ruleset) -> usize {
    denied(&states(&kernel.states.join("\n")), rules, &facts(), &mac(), false).len()
}
