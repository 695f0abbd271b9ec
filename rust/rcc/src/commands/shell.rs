//! `rcc shell`: a shell where the agent would be.

use crate::Done;
use crate::prepare::{self, NotThere, Place, What};
use clap::Args;

/// Run a shell in the same sandbox: see what the agent sees.
#[derive(Args)]
pub struct ShellArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    _not_there: NotThere,
}

pub fn run(args: &ShellArgs) -> Done {
    prepare::start(&args.place, What::Shell)
}
