//! `rcc claude`: Claude Code in the project, with full permissions inside and none outside.

use crate::Done;
use crate::prepare::{self, Place, What};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Run Claude Code, isolated, in this project.
///
/// The agent does not ask for permissions: the sandbox is the permission. Every argument that is not rcc's own goes to
/// Claude Code.
#[derive(Args)]
pub struct ClaudeArgs {
    #[command(flatten)]
    place: Place,
    /// Leave the agent's own permission questions on: it asks before it acts. Its own --permission-mode chooses another
    /// way of asking.
    #[arg(long)]
    ask: bool,
    /// A file with the API key or the subscription's token, readable by you alone. Otherwise `ANTHROPIC_API_KEY`,
    /// `CLAUDE_CODE_OAUTH_TOKEN`, the key of `rcc login` or your apiKeyHelper is asked, in this order.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// What of your own comes along, read-only, instead of what `rcc agent bring` chose: claude-md, commands, skills,
    /// agents, settings, mcp; or nothing, as `--bring=`.
    #[arg(long, value_name = "ITEM,…", value_delimiter = ',', num_args = 0..=1, require_equals = true)]
    bring: Option<Vec<String>>,
    /// A folder of agents beside yours, such as the Nix package has: what is pinned is taken from there if it is there.
    #[arg(long, value_name = "DIR")]
    agents: Option<PathBuf>,
    /// Arguments of Claude Code, such as -p "add a test".
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

pub fn run(args: ClaudeArgs) -> Done {
    let bring = args.bring.map(|names| prepare::items(&names)).transpose()?;
    let ClaudeArgs { place, ask, key_file, agents, arguments, .. } = args;
    let what = What::Claude { ask, key_file, bring, agents, arguments };
    prepare::start(&place, what)
}
