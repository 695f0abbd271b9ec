//! Calling nft: by its absolute path, where only root can write, with an environment made from nothing.

use crate::linux::unexpected;
use rcc_report::{Code, Problem};
use rcc_rules::TABLE;
use serde::Serialize;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where nft is looked for, in this order: the distribution's places, then NixOS's.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/run/current-system/sw/bin"];

/// The machine's nft.
#[derive(Clone, Debug)]
pub struct Nft(PathBuf);

impl Nft {
    /// Finds it.
    pub fn find() -> Result<Self, Problem> {
        let found = FOLDERS.iter().map(|folder| Path::new(folder).join("nft")).find(|path| path.exists());
        let path = found.ok_or_else(|| {
            let remedy = "sudo apt install nftables  (Debian, Ubuntu)\nsudo dnf install nftables  (Fedora)";
            Problem::new(Code::FIREWALL_NFT, "nft", format!("not found in {}", FOLDERS.join(", ")), remedy)
        })?;
        let real = rcc_host::trusted::place(&path).map_err(|e| {
            Problem::new(Code::FIREWALL_NFT, path.display().to_string(), e.to_string(), "reinstall nftables")
        })?;
        Ok(Self(real))
    }

    /// The table `inet rcc` as nft lists it; `None` if there is no such table.
    pub fn list(&self) -> Result<Option<Value>, Problem> {
        // Protocols by number: their names are those of /etc/protocols, where there is one.
        let output = self.call(&["--json", "--numeric-protocol", "list", "table", "inet", TABLE], b"")?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map(Some).map_err(|e| unexpected(&e.to_string()));
        }
        // "No such table" is not to be told from other failures by the exit code: so the tables are listed, too.
        let tables = self.call(&["--json", "list", "tables"], b"")?;
        if !tables.status.success() {
            return Err(failed("list tables", &tables));
        }
        let tables: Value = serde_json::from_slice(&tables.stdout).map_err(|e| unexpected(&e.to_string()))?;
        let objects =
            tables.get("nftables").and_then(Value::as_array).ok_or_else(|| unexpected("no list of tables"))?;
        let ours = |o: &Value| o["table"]["family"] == "inet" && o["table"]["name"] == TABLE;
        if objects.iter().any(ours) { Err(failed("list table inet rcc", &output)) } else { Ok(None) }
    }

    /// Runs one transaction.
    pub fn run(&self, transaction: &impl Serialize) -> Result<(), Problem> {
        let text = serde_json::to_vec(transaction).map_err(|e| unexpected(&e.to_string()))?;
        let output = self.call(&["--json", "--file", "-"], &text)?;
        if output.status.success() { Ok(()) } else { Err(failed("the transaction", &output)) }
    }

    fn call(&self, arguments: &[&str], input: &[u8]) -> Result<Output, Problem> {
        let io = |e: std::io::Error| {
            Problem::new(Code::FIREWALL_NFT, self.0.display().to_string(), e.to_string(), "reinstall nftables")
        };
        let mut child = Command::new(&self.0)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io)?;
        // It prints nothing before it has read all of this.
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).map_err(io)?;
        }
        child.wait_with_output().map_err(io)
    }
}

fn failed(what: &str, output: &Output) -> Problem {
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().take(5).collect();
    Problem::new(
        Code::FIREWALL_NFT,
        "nft",
        format!("{what}: {}: {}", output.status, said.join(" | ")),
        "run this as root; the kernel needs nf_tables: modprobe nf_tables",
    )
}
