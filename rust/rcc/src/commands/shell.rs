//! `rcc shell`: a shell where the agent would be.

use crate::Done;
use crate::prepare::{self, Place, What};
use clap::Args;

/// Run a shell in the same sandbox: see what the agent sees.
#[derive(Args)]
pub struct ShellArgs {
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &ShellArgs) -> Done {
    prepare::start(&args.place, What::Shell)
}
