//! The table as nft's own text: for people, and for nft itself.

use crate::TABLE;
use crate::rule::short;
use crate::table::{OUTPUT, PRIORITY, Table};
use std::fmt;

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (set, nets) in &self.sets {
            let kind = if set.is_v4() { "ipv4_addr" } else { "ipv6_addr" };
            writeln!(f, "\tset {} {{\n\t\ttype {kind}\n\t\tflags interval", set.name())?;
            if !nets.is_empty() {
                let nets: Vec<String> = nets.iter().map(short).collect();
                writeln!(f, "\t\telements = {{ {} }}", nets.join(", "))?;
            }
            writeln!(f, "\t}}\n")?;
        }
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
