//! `rcc` on a Mac: sessions run in the agents' machine, by the `rcc` in there; what is the person's stays outside. The gateway
//! hears of keys and grants from here alone. Nothing of it has run on a Mac yet (docs/macos.md).

pub mod machine;
pub mod session;
