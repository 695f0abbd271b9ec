//! Tokens: random marks that a test plants and the witnesses look for.
//!
//! A token is `rcctok` and 20 letters or digits of lower-case base32, so it survives DNS labels, URLs, headers and
//! shells as it is. [`spellings`] gives the other forms in which it could leave.

use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER, HEXUPPER};
use regex::bytes::Regex;

static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new("(?i)rcctok[a-z2-7]{20}").expect("a constant pattern"));

/// So many bytes from the kernel.
///
/// # Panics
/// When the kernel gives no random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// A new token.
#[must_use]
pub fn fresh() -> String {
    let body = BASE32_NOPAD.encode(&random::<13>()).to_ascii_lowercase();
    format!("rcctok{}", &body[..20])
}

/// Every token in `data`, in lower case, each once.
#[must_use]
pub fn all_in(data: &[u8]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for hit in PATTERN.find_iter(data) {
        let token = String::from_utf8_lossy(hit.as_bytes()).to_ascii_lowercase();
        if !found.contains(&token) {
            found.push(token);
        }
    }
    found
}

/// The byte strings that give `token` away: itself, upper case, hexadecimal, and base64 at each of its three offsets.
#[must_use]
pub fn spellings(token: &str) -> Vec<Vec<u8>> {
    let raw = token.as_bytes();
    let mut all = vec![
        raw.to_vec(),
        raw.to_ascii_uppercase(),
        HEXLOWER.encode(raw).into_bytes(),
        HEXUPPER.encode(raw).into_bytes(),
        BASE32_NOPAD.encode(raw).as_bytes()[..raw.len() / 5 * 8].to_vec(),
    ];
    for offset in 0..3 {
        // what is before and behind the token changes only the first and last characters of its base64 form
        let padded = [&b"\0\0"[..offset], raw].concat();
        let text = BASE64.encode(&padded);
        all.push(text.as_bytes()[(offset * 4).div_ceil(3)..(offset + raw.len()) / 3 * 4].to_vec());
    }
    all
}

/// Whether any spelling of `token` is in `data`.
#[must_use]
pub fn is_in(token: &str, data: &[u8]) -> bool {
    spellings(token).iter().any(|s| memchr::memmem::find(data, s).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_however_they_are_spelled() {
        let t = fresh();
        assert_eq!(t.len(), 26);
        assert_eq!(all_in(format!("GET /{t}?x={} ", t.to_uppercase()).as_bytes()), vec![t.clone()]);
        for prefix in ["", "a", "ab", "abc"] {
            let inner = format!("{prefix}{t}tail");
            for form in [inner.clone(), BASE64.encode(inner.as_bytes()), HEXLOWER.encode(inner.as_bytes())] {
                assert!(is_in(&t, form.as_bytes()), "{form}");
            }
        }
        assert!(!is_in(&fresh(), t.as_bytes()));
    }
}
