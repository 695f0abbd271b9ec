//! What a Mac's kernel keeps of pf, in a file: anchors with an active and an inactive set of rules each, references, states.
//!
//! Written from xnu's source (`bsd/net/pf_ioctl.c`, `pfvar.h`), not from the pfctl crate, whose bytes it reads: a rule's
//! fields lie where the kernel's own header has them. Each call is counted, and one of them can fail or end the caller.
#![expect(clippy::missing_panics_doc, reason = "for tests, which a panic fails")]

pub mod fault;
pub mod kernel;
pub mod layout;
pub mod show;
