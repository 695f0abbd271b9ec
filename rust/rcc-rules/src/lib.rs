//! The host firewall's rules: what a policy and a machine make of the table `inet rcc`, as objects for nft's JSON and as
//! text for people; what the rules say to a packet, and which of them; and whether a table that was read back is that
//! table.
//!
//! Pure: a policy and facts come in, values go out. Invariant: an address that is not public is reached only where root's
//! policy names it, and a port that the policy does not name is not reached at all. No rule looks at a connection's state:
//! each packet of the gateway's own connections carries an allowed address and port.
//!
//! ```text
//! Egress (policy) ┐
//! Facts (machine) ┴─> Table ─> objects (nft's JSON) ─> in force ─read back─> differences
//!                          ├─> text (people)
//!                          └─> decide(packet): the rule that says so
//! ```
//!
//! [`pf`] has the same for a Mac.

#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)
)]
#![forbid(unsafe_code)]

mod compare;
mod decide;
mod objects;
pub mod pf;
mod rule;
mod table;
mod text;

pub use compare::{Difference, Found, compare, fingerprint_of};
pub use decide::{Packet, Protocol, Ruling};
pub use rule::{Action, Match, Rule};
pub use table::{Facts, Table};

/// The table's name, in the family `inet`.
pub const TABLE: &str = "rcc";
