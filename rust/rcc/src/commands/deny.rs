//! `rcc deny`: a host less, in the sessions that run here, and for good where that is asked for.

use crate::Done;
use crate::commands::allow::{Scope, change, named, texts};
use clap::Args;
use rcc_policy::Grants;
use rcc_proto::ToSession;

/// Deny hosts to the sessions that run in this project: take a grant back, or go without what the policy allows.
///
/// Connections to them are cut at once. A host without a port is denied on every port; `'*'` is every host. The model's
/// own endpoint stays: to stop that, end the session.
#[derive(Args)]
pub struct DenyArgs {
    /// HOST, HOST:PORT, *.HOST or '*'.
    #[arg(required = true, value_name = "HOST[:PORT]")]
    hosts: Vec<String>,
    /// Take a denial of yours back instead; what the policy allows is allowed again, and nothing else.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    scope: Scope,
}

pub fn run(args: &DenyArgs) -> Done {
    let endpoints = texts(&named(&args.hosts, Grants::named_to_deny)?);
    let list = endpoints.join(", ");
    if args.undo {
        return change(&args.scope, &ToSession::Undeny { endpoints }, &format!("no longer denied {list}"));
    }
    change(&args.scope, &ToSession::Deny { endpoints }, &format!("denied {list}"))
}
