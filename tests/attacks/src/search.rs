//! The search for a key.
