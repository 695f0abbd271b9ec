//! `rcc logout`: the key that `rcc login` kept is taken away.

use crate::Done;
use clap::Args;
use rcc_launch::key::{self, stored};
use rcc_launch::machine;

/// Take away the key that `rcc login` kept.
///
/// Sessions under way go on with it until they end. At Anthropic it stays valid until you revoke it there.
#[derive(Args)]
pub struct LogoutArgs {}

pub fn run(_: &LogoutArgs) -> Done {
    let removed = machine::person().and_then(|person| stored::forget(&person.home)).map_err(|problem| vec![problem])?;
    eprintln!("rcc: {}", if removed { "the key is gone from this machine" } else { "no key was kept" });
    for (name, _) in key::VARIABLES.iter().filter(|(name, _)| std::env::var_os(name).is_some()) {
        eprintln!("rcc: {name} is still set in this shell");
    }
    Ok(0)
}
