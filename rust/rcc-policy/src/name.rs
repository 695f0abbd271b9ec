//! Host names. Invariant: a [`HostName`] is lower-case ASCII, has no trailing dot, and no program that reads it, however
//! old, takes it for an address.

use serde::{Serialize, Serializer};
use std::fmt;

/// The longest name, in bytes (RFC 1035, 2.3.4, less the length bytes of the wire form).
const MAX_NAME: usize = 253;
/// The longest label, in bytes.
const MAX_LABEL: usize = 63;

/// A DNS name: letters, digits, hyphens and underscores, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Why a text is not a [`HostName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("the name has {0} bytes; at most 253 are possible")]
    Long(usize),
    /// Two dots in a row, or one in front.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// More than 63 bytes.
    #[error("the label `{0}` has more than 63 bytes")]
    LongLabel(String),
    /// A hyphen at an end of a label.
    #[error("the label `{0}` begins or ends with a hyphen")]
    Hyphen(String),
    /// ASCII, but no character of a name.
    #[error("{0:?} is not a character of a host name")]
    Character(char),
    /// Not ASCII. Look-alikes are why such a name must be given in its wire form.
    #[error("the name has the character {character:?}, which is not ASCII")]
    NotAscii {
        /// The first such character.
        character: char,
        /// The wire form (`xn--…`), if there is one.
        ascii: Option<String>,
    },
    /// A number in one of the notations of `inet_aton`, or an IP address.
    #[error("`{0}` would be read as an IP address")]
    Address(String),
}

impl BadName {
    /// What to write instead, where that is known.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NotAscii { ascii: Some(ascii), .. } => {
                format!("if you really mean that name, write `{ascii}`; look-alike letters are a usual trap")
            }
            Self::Address(_) => "write an address as `192.0.2.1:443` or `[2001:db8::1]:443`".into(),
            Self::Hyphen(_) | Self::Character(_) | Self::NotAscii { .. } => {
                "a name has ASCII letters, digits, hyphens and underscores, with dots between its labels".into()
            }
            Self::Empty | Self::Long(_) | Self::EmptyLabel | Self::LongLabel(_) => {
                "write the full name, such as `git.example.org`".into()
            }
        }
    }
}

impl HostName {
    /// The name in a text: upper case is lowered, one dot at the end is dropped.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if let Some(character) = text.chars().find(|c| !c.is_ascii()) {
            return Err(BadName::NotAscii { character, ascii: wire_form(text) });
        }
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if let Some(wrong) = text.bytes().find(|b| !ok(*b)) {
            let is_address = text.parse::<std::net::Ipv6Addr>().is_ok();
            return Err(if is_address { BadName::Address(text.into()) } else { BadName::Character(wrong.into()) });
        }
        if text.len() > MAX_NAME {
            return Err(BadName::Long(text.len()));
        }
        for label in text.split('.') {
            if label.is_empty() {
                return Err(BadName::EmptyLabel);
            }
            if label.len() > MAX_LABEL {
                return Err(BadName::LongLabel(label.into()));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(BadName::Hyphen(label.into()));
            }
        }
        let text = text.to_ascii_lowercase();
        if text.rsplit('.').next().is_some_and(is_number) { Err(BadName::Address(text)) } else { Ok(Self(text)) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one or more labels below `parent`.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(&parent.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// How programs show a name whose labels are in the wire form (`xn--…`), if they would show it otherwise.
    #[must_use]
    pub fn unicode(&self) -> Option<String> {
        let (text, good) = idna::domain_to_unicode(&self.0);
        (good.is_ok() && text != self.0).then_some(text)
    }

    /// Whether it has one label only, such as `gitlab`.
    #[must_use]
    pub fn is_single_label(&self) -> bool {
        !self.0.contains('.')
    }
}

/// Whether the last label makes a name an address (WHATWG URL, "ends in a number", which covers all that `inet_aton`
/// reads): `127.1`, `0x7f.1`, `2130706433`, `1.0x`. No top-level domain is a number.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || label.bytes().all(|b| b.is_ascii_digit())
}

/// The `xn--` form of a name, if it has one that is a [`HostName`].
fn wire_form(text: &str) -> Option<String> {
    // The mapping of a kilobyte of text is of no use to anyone.
    if text.len() > 4 * MAX_NAME {
        return None;
    }
    let ascii = idna::domain_to_ascii(text).ok()?;
    HostName::parse(&ascii).ok().map(|name| name.0)
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for HostName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> String {
        HostName::parse(text).unwrap().0
    }

    fn bad(text: &str) -> BadName {
        HostName::parse(text).unwrap_err()
    }

    #[test]
    fn names_are_brought_to_one_form() {
        assert_eq!(good("GitHub.COM."), "github.com");
        assert_eq!(good("_dmarc.a-b.xn--bcher-kva.example"), "_dmarc.a-b.xn--bcher-kva.example");
        assert_eq!(good("gitlab"), "gitlab");
        assert_eq!(good("1password.com"), "1password.com");
        assert_eq!(good("0x.org"), "0x.org");
    }

    #[test]
    fn no_notation_of_an_address_is_a_name() {
        for text in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "0",
            "0x",
            "1.2.3.0xff",
            "a.1",
            "0X7F.1",
            "256.256.256.256",
            "1.2.3.4.",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.08",
        ] {
            assert!(matches!(bad(text), BadName::Address(_)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_name_says_why() {
        assert_eq!(bad(""), BadName::Empty);
        assert_eq!(bad("."), BadName::Empty);
        assert_eq!(bad("a..b"), BadName::EmptyLabel);
        assert_eq!(bad("a.."), BadName::EmptyLabel);
        assert_eq!(bad(".a"), BadName::EmptyLabel);
        assert_eq!(bad("-a.b"), BadName::Hyphen("-a".into()));
        assert_eq!(bad("a b"), BadName::Character(' '));
        assert_eq!(bad("a\0b"), BadName::Character('\0'));
        assert_eq!(bad("a\nb"), BadName::Character('\n'));
        assert_eq!(bad("a%2eb"), BadName::Character('%'));
        assert!(matches!(bad(&"a".repeat(64)), BadName::LongLabel(_)));
        assert_eq!(bad(&vec!["abc"; 64].join(".")), BadName::Long(255));
        assert_eq!(good(&format!("{}abcd", "ab.".repeat(83))).len(), 253);
    }

    #[test]
    fn look_alikes_are_shown_in_their_wire_form() {
        // The first letter is Cyrillic.
        let e = bad("\u{440}aypal.com");
        assert_eq!(e, BadName::NotAscii { character: '\u{440}', ascii: Some("xn--aypal-uye.com".into()) });
        assert!(e.remedy().contains("`xn--aypal-uye.com`"));
        // Characters that IDNA maps to ASCII are not taken as that ASCII in silence.
        assert!(matches!(bad("ｇithub.com"), BadName::NotAscii { .. }));
        assert!(matches!(bad("github。com"), BadName::NotAscii { .. }));
        assert!(matches!(bad("１２７.0.0.1"), BadName::NotAscii { ascii: None, .. }));
    }

    #[test]
    fn a_wire_form_is_shown_as_what_it_looks_like() {
        let shown = |text| HostName::parse(text).unwrap().unicode();
        assert_eq!(shown("xn--aypal-uye.com").as_deref(), Some("\u{440}aypal.com"));
        assert_eq!(shown("paypal.com"), None);
        assert_eq!(shown("xn--a.com"), None);
    }

    #[test]
    fn below_means_whole_labels() {
        let n = |t| HostName::parse(t).unwrap();
        assert!(n("a.example.org").is_below(&n("example.org")));
        assert!(n("a.b.example.org").is_below(&n("example.org")));
        assert!(!n("example.org").is_below(&n("example.org")));
        assert!(!n("badexample.org").is_below(&n("example.org")));
    }
}
