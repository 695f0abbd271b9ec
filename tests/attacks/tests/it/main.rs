//! The attempts, a test a class; the document; the search for a key.

mod attempts;
mod document;
mod key;
