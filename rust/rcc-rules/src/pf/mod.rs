//! The same policy for pf, on a Mac: the rules of one anchor, as text for people and pf.conf(5); how pf decides by them;
//! and whether what `pfctl` shows is what must be in force.
//!
//! Invariants: every rule is quick and keeps no state, so that no later rule and no earlier time decides; every one names
//! its owner, so that other people's packets are nobody's business here, but for the two that close the gateway's port; every one has a port, so that fragments, of which
//! pf does not ask whose they are, are left alone.
//!
//! ```text
//! Egress (policy)        ┐
//! Facts, Mac (machine)   ┴─> Ruleset ─> text (people), the pfctl crate's types (rcc-pf) ─> in force ─pfctl -s─> Seen ─> Found
//!                                   └─> model: whether a packet goes
//! ```

mod listing;
mod model;
mod rule;
mod ruleset;
mod seen;
mod states;

pub use listing::{Call, Line, Services, lines, rules_of};
pub use model::{Kernel, Packet, Translation};
pub use rcc_proto::macos::ANCHOR;
pub use rule::{Action, Direction, Family, Flags, Owner, Place, Rule, Transport};
pub use ruleset::{Mac, Ruleset, fingerprint_of};
pub use seen::{Hook, Seen, may_come_before, names, translating};
pub use states::{State, denied, states};
