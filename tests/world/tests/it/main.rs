//! The world proves itself: everything in it answers, everything that moves in it is seen, nothing gets out of it, and
//! nothing is left of it.
//!
//! These are the positive controls of every test that says "rcc denies this": the same thing, without rcc, succeeds.

mod claude;
mod client;
mod dns;
mod lifecycle;
mod model;
mod user;
mod web;
mod witness;
