//! Which launchers and gateways understand each other: the same major version, minor versions at most one apart.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changes when an old message can no longer be understood.
    pub major: u16,
    /// Changes when something was added.
    pub minor: u16,
}

/// The version that this code speaks.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// The two sides are too far apart.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol {ours} here and {theirs} there")]
pub struct TooFar {
    /// This side's version.
    pub ours: Version,
    /// The other side's.
    pub theirs: Version,
}

impl Version {
    /// The version that both sides understand, or that there is none.
    pub fn agree(self, theirs: Self) -> Result<Self, TooFar> {
        if self.major == theirs.major && self.minor.abs_diff(theirs.minor) <= 1 {
            Ok(Self { major: self.major, minor: self.minor.min(theirs.minor) })
        } else {
            Err(TooFar { ours: self, theirs })
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_apart_works_and_two_do_not() {
        let v = |major, minor| Version { major, minor };
        assert_eq!(v(1, 3).agree(v(1, 2)), Ok(v(1, 2)));
        assert_eq!(v(1, 2).agree(v(1, 3)), Ok(v(1, 2)));
        assert!(v(1, 3).agree(v(1, 1)).is_err());
        assert!(v(2, 0).agree(v(1, 0)).is_err());
    }
}
