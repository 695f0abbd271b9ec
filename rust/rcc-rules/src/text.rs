//! The table as nft's own text: for people, and for nft itself.

use crate::TABLE;
use crate::table::{OUTPUT, PRIORITY, Table};
use std::fmt;

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (i, (name, rules)) in self.chains.iter().enumerate() {
            writeln!(f, "\tchain {name} {{")?;
            if *name == OUTPUT {
                writeln!(f, "\t\ttype filter hook output priority {PRIORITY}; policy accept;")?;
            }
            for rule in rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}{}", if i + 1 < self.chains.len() { "\n" } else { "" })?;
        }
        writeln!(f, "}}")
    }
}
