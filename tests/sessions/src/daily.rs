//! The rest of a day's work as tables, beside those of the rig: what takes a terminal, other folders and toolchains, the
//! machine's registries, a hostile repository, the agent itself, and what is refused.

pub mod agent;
pub mod hostile;
pub mod installs;
pub mod refusals;
pub mod terminal;
