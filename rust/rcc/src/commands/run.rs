//! `rcc run -- CMD…`: any program where the agent would be.

use crate::Done;
use crate::prepare::{self, NotThere, Place, What};
use clap::Args;
use std::ffi::OsString;

/// Run a program in the same sandbox; it gets no key.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    _not_there: NotThere,
    /// The program and its arguments, as found inside.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn run(args: RunArgs) -> Done {
    prepare::start(&args.place, What::Run(args.command))
}
