//! The rest of a day's work as tables, beside those of the rig: what takes a terminal, other folders and toolchains, the
//! machine's registries, and what is refused.

pub mod installs;
pub mod refusals;
pub mod terminal;
