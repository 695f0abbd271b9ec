//! The policy: what an agent may reach, who may start one, and within which limits.
//!
//! Pure: text and facts come in as arguments, values go out. No file, clock, environment, process or network access
//! (`clippy.toml` enforces it), and no panic on any input. Invariant: what isn't named is denied, so a value that is
//! missing, empty or wrong never opens anything.
//!
//! ```text
//! policy.toml --parse--> Policy --resolve(grants)--> Resolved --decide(name or address, port)--> Decision
//!                                                            \--may_connect(address the name has)
//! ```
//!
//! # Notation of endpoints
//!
//! | | in | means |
//! |---|---|---|
//! | `name:443` | all | exactly this name, this port |
//! | `name:80,443` | all | the same for each port of the list; there are no port ranges and no "any port" |
//! | `*.name:443` | all | one or more labels below `name`; not `name` itself |
//! | `192.0.2.0/24:443`, `[2001:db8::1]:443` | all | addresses: the agent connects to them without a name |
//! | `*:443` | `may_allow`, `deny` | every name; in `deny` every address too |
//! | `name`, `*.name`, `192.0.2.0/24` | `deny` | on every port |
//! | `…:port/tls`, `/http`, `/raw` | not in `deny` | what the first bytes must be, see [`Check`] |
//! | `@set` | all but `private` | a named set, see [`SETS`] |
//! | `@npm`, `@pypi`, `@cargo`, `@go` | `allow` | the person's own package registries, see [`Registry`] |
//! | `name:443 via 10.20.0.0/16` | `private` | the name, whose addresses must then lie in that range |

#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)
)]
#![forbid(unsafe_code)]

pub mod address;
mod decide;
mod document;
mod egress;
mod endpoint;
mod fingerprint;
mod grants;
mod limits;
mod name;
mod policy;
mod project;
mod resolve;
mod sets;
mod way_out;
mod written;

pub use decide::{Check, Decision, DenyReason, Target};
pub use egress::Egress;
pub use endpoint::{BadEndpoint, Endpoint, Host, Private, Ranges};
pub use fingerprint::Fingerprint;
pub use grants::Grants;
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use limits::{Cpus, Limits, Memory, Protect, Unenforceable};
pub use name::{BadName, HostName};
pub use policy::{Policy, User, parse};
pub use project::{ProjectRequest, ToolchainRoot, parse_project};
pub use resolve::{CredentialEndpoint, Resolved};
pub use sets::{Registry, SETS};
pub use way_out::{ProxyHost, Resolver, Resolvers, Tls, UpstreamProxy};
pub use written::{Written, written};
