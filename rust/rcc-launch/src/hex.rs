//! Bytes as people and Podman write them.

use std::fmt::Write as _;

/// Two small hexadecimal digits a byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
