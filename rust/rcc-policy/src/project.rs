//! `rcc.toml`: what a project asks for. It only asks: the agent may have written it, and nothing of it takes effect until
//! the person has allowed exactly that content and the policy covers it.

use crate::document::{Reader, shortened};
use crate::endpoint::{Endpoint, Place};
use crate::limits;
use crate::policy::endpoints;
use rcc_report::{Code, Problem};
use serde::Serialize;
use toml::de::DeTable;

/// What a project asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProjectRequest {
    /// Endpoints, sets expanded, sorted.
    pub allow: Vec<Endpoint>,
    /// Paths below the project that are to be read-only besides the policy's: a project can add, never remove.
    pub read_only: Vec<String>,
    /// Which root filesystem the agent is to have (`toolchain.root`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toolchain_root: Option<ToolchainRoot>,
    /// Files that `flake.nix` needs to be evaluated (`toolchain.files`).
    pub toolchain_files: Vec<String>,
}

/// A root filesystem that a project can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolchainRoot {
    /// The host's own programs.
    Host,
    /// What the project's flake has in its devShell, as the person approved it.
    Nix,
}

/// The request in a project's `rcc.toml`. Every problem has the code [`Code::PROJECT_RCC_TOML`].
pub fn parse_project(text: &str, origin: &str) -> Result<ProjectRequest, Vec<Problem>> {
    let mut reader = Reader::new(text, origin, Some(Code::PROJECT_RCC_TOML));
    let table = reader.table();
    reader.known(&table, "", &["allow", "protect", "toolchain"]);
    let allow = endpoints(&mut reader, &table, "allow", Place::Allow).into_iter().map(|(e, _)| e).collect();
    let mut request = ProjectRequest { allow, ..ProjectRequest::default() };
    if let Some(section) = reader.section(&table, "protect") {
        reader.known(section, "protect", &["read_only"]);
        let paths = reader.strings(section, "read_only", "[\"Makefile\"]");
        request.read_only = limits::read_only(&mut reader, paths);
    }
    if let Some(section) = reader.section(&table, "toolchain") {
        reader.known(section, "toolchain", &["root", "files"]);
        request.toolchain_root = root(&mut reader, section);
        let paths = reader.strings(section, "files", "[\"nix/shell.nix\"]");
        request.toolchain_files = limits::read_only(&mut reader, paths);
    }
    reader.finish()?;
    request.allow.sort_unstable();
    for list in [&mut request.read_only, &mut request.toolchain_files] {
        list.sort_unstable();
        list.dedup();
    }
    request.allow.dedup();
    Ok(request)
}

fn root(reader: &mut Reader<'_>, section: &DeTable<'_>) -> Option<ToolchainRoot> {
    let (name, span) = reader.string(section, "root", "\"nix\"")?;
    match name.as_str() {
        "host" => Some(ToolchainRoot::Host),
        "nix" => Some(ToolchainRoot::Nix),
        other => {
            let what = format!("`{}` is no root filesystem", shortened(other));
            reader.problem(Code::POLICY_BAD_VALUE, span, what, "write \"nix\" or \"host\"");
            None
        }
    }
}

impl ProjectRequest {
    /// The endpoints in the policy's notation, as [`crate::Policy::resolve`] takes grants.
    #[must_use]
    pub fn grants(&self) -> Vec<String> {
        self.allow.iter().map(ToString::to_string).collect()
    }
}
