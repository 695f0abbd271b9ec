//! Launching a session.

pub mod agent;
