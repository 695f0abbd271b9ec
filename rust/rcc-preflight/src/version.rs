//! Versions as programs print them.

/// The first number with dots in a text, as three numbers: `podman version 4.9.3` is (4, 9, 3), `6.8.0-45-generic` (6, 8, 0).
pub fn of(text: &str) -> Option<(u32, u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let rest = text.get(start..)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let mut numbers = rest.get(..end)?.split('.').filter_map(|n| n.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn versions_of_real_programs() {
        for (text, version) in [
            ("podman version 4.3.1", (4, 3, 1)),
            ("crun version 1.8.1", (1, 8, 1)),
            ("crun version 1.21", (1, 21, 0)),
            ("6.8.0-45-generic", (6, 8, 0)),
            ("5.15.90.1-microsoft-standard-WSL2", (5, 15, 90)),
            ("6.17.7-arch1-1", (6, 17, 7)),
            ("podman version 6.2.0-dev", (6, 2, 0)),
            ("conmon version 2.1.6", (2, 1, 6)),
        ] {
            assert_eq!(of(text), Some(version), "{text}");
        }
        assert_eq!(of("unknown"), None);
        assert_eq!(of("version 7"), None);
    }
}
