//! What reads the bytes of strangers, fed with any bytes; and what must hold whatever they are. The engine
//! (`cargo xtask fuzz`) makes them, guided by the code that they reach; a target panics where something does not hold.
//!
//! Each target says the same thing twice, by means that have nothing in common: rustls reads the hello that the gateway
//! let through, hyper the requests, git the index, the pure firewall the policy's decisions.

mod client_hello;
mod dns;
mod forwarded;
mod git_index;
mod http1;
pub mod listing;
mod policy;
mod protocol;
mod session;

/// One thing that is fed.
pub struct Target {
    /// Its name on the command line, and of the folder of its seeds.
    pub name: &'static str,
    /// Feeds it.
    pub feed: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "protocol", feed: protocol::feed },
    Target { name: "session", feed: session::feed },
    Target { name: "forwarded", feed: forwarded::feed },
    Target { name: "policy", feed: policy::feed },
    Target { name: "dns", feed: dns::feed },
    Target { name: "client-hello", feed: client_hello::feed },
    Target { name: "http1", feed: http1::feed },
    Target { name: "listing", feed: listing::feed },
    Target { name: "git-index", feed: git_index::feed },
];

/// Says to the engine which target it is to run.
pub const TARGET: &str = "RCC_FUZZ_TARGET";

/// The first byte of an input and the rest: a choice that is no part of what is fed.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// A stream in pieces, of a length that the choice decides.
fn pieces(bytes: &[u8], choice: u8) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(usize::from(choice % 61) + 1)
}
