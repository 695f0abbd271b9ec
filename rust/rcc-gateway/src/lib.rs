//! The gateway: the one way out of a session, by name.
//!
//! A tiny [`supervisor`] accepts launchers and starts one [`worker`] process a session; whatever an agent sent is parsed
//! in that session's worker only, behind its own seccomp filter. The parsers are pure modules of their own
//! ([`api`], [`client_hello`], [`http1`], [`dns`]): bytes in, a verdict out.
//!
//! Where agents live in a virtual machine, [`forward`] is what launcher and hook find there in the gateway's place.
//!
//! Invariants: nothing leaves for a name or address that the policy does not decide to allow; a worker's end ends all of
//! its session's connections; a worker can neither start a program nor speak for another session.

pub mod api;
pub mod client_hello;
pub mod dns;
#[cfg(target_os = "linux")]
pub mod forward;
pub mod framed;
pub mod http1;
mod policy;
mod rate;
pub mod reader;
pub mod stand_in;
pub mod supervisor;
mod system;
pub mod worker;
