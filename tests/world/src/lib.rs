//! A small internet in network namespaces, for the tests, benches and the demo of rcc.
//!
//! A *world* is a host with a LAN, and behind it everybody else: resolvers, web and ssh servers with certificates, a
//! metadata service, the model's API. [`map`] is its table of names and addresses. `rcc-world run -- CMD` makes one around
//! a command; [`World`] is what the command sees of it; [`fn@inside`] runs a test in a world of its own.
//!
//! ```no_run
//! // as the whole body of a #[test]; the test program is started again, as root, within `rcc-world run`
//! rcc_world::inside(|world| {
//!     let token = world.token();
//!     std::process::Command::new("curl").arg(format!("http://denied.example/{token}")).status()?;
//!     assert_eq!(world.hits_with(&token)?.len(), 1);
//!     assert!(world.assert_unseen(&token).is_err());
//!     Ok(())
//! });
//! ```
//!
//! Known to fall short: HTTP/2 isn't spoken; TCP ports that no table of [`map`] lists are refused, UDP ports likewise (the
//! wire witness sees what was sent there); `--as-user` needs a program that this user may execute, so not one below
//! another person's closed home.
//!
//! Invariant: a world has no way out. Its namespaces are joined to each other and to nothing else; only with `--outside`,
//! for registries, its internet passes on what is for names that it does not have, and the machine's own network for the
//! demo with a real model.

pub mod description;
pub mod dns;
pub mod hostservices;
pub mod http;
mod inside;
pub mod internet;
mod links;
pub mod map;
pub mod model;
mod outside;
pub mod routes;
pub mod runner;
pub mod servers;
pub mod tls;
pub mod token;
pub mod wire;
pub mod witness;

mod view;

pub use inside::{Setup, inside, inside_with, reexec};
pub use view::World;
