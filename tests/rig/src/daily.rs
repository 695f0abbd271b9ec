//! A day's work, as a table: each row is done without rcc, as the control, and in a session. Shown by
//! `cargo xtask daily`, demanded by the tests.

pub mod git;
pub mod hosts;
pub mod key;

use anyhow::{Result, ensure};
use std::fmt;

/// What came of a row in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// It did what it does outside.
    Works,
    /// It was refused, as it should be, with this line.
    Refused(String),
    /// Neither: what was said.
    Fails(String),
}

/// One thing that a person does.
#[derive(Clone, Debug)]
pub struct Row {
    /// In the person's words.
    pub what: String,
    /// What went wrong outside, where it has to work; None for what is not there without rcc.
    pub outside: Option<Result<(), String>>,
    /// In a session.
    pub inside: Inside,
}

/// Rows of one kind.
#[derive(Clone, Debug)]
pub struct Table {
    /// What they are about.
    pub title: String,
    /// In the order in which they were done.
    pub rows: Vec<Row>,
}

impl Table {
    /// Demands that each row worked outside, and inside works or is refused with a line.
    pub fn holds(&self) -> Result<()> {
        let wrong: Vec<&Row> = self
            .rows
            .iter()
            .filter(|r| matches!(r.outside, Some(Err(_))) || matches!(r.inside, Inside::Fails(_)))
            .collect();
        ensure!(!self.rows.is_empty(), "{}: no rows", self.title);
        ensure!(wrong.is_empty(), "{self}\n{wrong:#?}");
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} without rcc  with rcc", self.title)?;
        for row in &self.rows {
            let outside = match row.outside {
                Some(Ok(())) => "works",
                Some(Err(_)) => "FAILS",
                None => "-",
            };
            let (inside, line) = match &row.inside {
                Inside::Works => ("works", ""),
                Inside::Refused(line) => ("refused", line.as_str()),
                Inside::Fails(said) => ("FAILS", said.lines().last().unwrap_or_default()),
            };
            writeln!(f, "{}", format!("{:<44} {outside:<12} {inside:<8} {line}", row.what).trim_end())?;
        }
        Ok(())
    }
}
