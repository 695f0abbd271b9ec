//! A step looks, acts, and looks again. What is done already is left alone, so every run can follow an interrupted one.

use rcc_report::{Code, Problem};
use serde::Serialize;

/// What a look shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is as it should be.
    Done,
    /// What acting will do.
    Todo(String),
}

/// One thing to bring about.
pub struct Step<'a> {
    /// What it is about.
    pub subject: String,
    look: Box<dyn Fn() -> Result<Look, Problem> + 'a>,
    act: Box<dyn Fn() -> Result<(), Problem> + 'a>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "effect", rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was to do.
    Unchanged,
    /// It was done, and read back.
    Done(String),
    /// It would be done.
    Planned(String),
    /// It could not be done.
    Failed(String),
}

/// A step's outcome, for people and as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What the step is about.
    pub subject: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl<'a> Step<'a> {
    /// A step of two functions: `look` changes nothing, and after `act` finds nothing left to do.
    pub fn new(
        subject: impl Into<String>,
        look: impl Fn() -> Result<Look, Problem> + 'a,
        act: impl Fn() -> Result<(), Problem> + 'a,
    ) -> Self {
        Self { subject: subject.into(), look: Box::new(look), act: Box::new(act) }
    }

    /// The same step, whose act wants this to hold.
    #[must_use]
    pub fn only_if(self, holds: impl Fn() -> Result<(), Problem> + 'a) -> Self {
        let act = self.act;
        Self { act: Box::new(move || holds().and_then(|()| act())), ..self }
    }

    /// Does what is left to do, and reads it back.
    pub fn run(&self, mode: Mode) -> Result<Outcome, Problem> {
        let effect = match (self.look)()? {
            Look::Done => return Ok(Outcome::Unchanged),
            Look::Todo(effect) => effect,
        };
        if mode == Mode::Plan {
            return Ok(Outcome::Planned(effect));
        }
        (self.act)()?;
        match (self.look)()? {
            Look::Done => Ok(Outcome::Done(effect)),
            Look::Todo(left) => Err(Problem::new(
                Code::SETUP_UNVERIFIED,
                self.subject.clone(),
                format!("after it was done there is still to do: {left}"),
                "find out what else writes there, and run this again",
            )),
        }
    }
}

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is.
    Plan,
    /// Everything that is to do is done.
    Act,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_step_is_done_once_and_read_back() {
        let done = Cell::new(0);
        let look = || Ok(if done.get() > 0 { Look::Done } else { Look::Todo("count".into()) });
        let act = || {
            done.set(done.get() + 1);
            Ok(())
        };
        let step = Step::new("it", look, act);
        assert_eq!(step.run(Mode::Plan).unwrap(), Outcome::Planned("count".into()));
        assert_eq!(step.run(Mode::Act).unwrap(), Outcome::Done("count".into()));
        assert_eq!(step.run(Mode::Act).unwrap(), Outcome::Unchanged);
        assert_eq!(done.get(), 1);
        let never = Step::new("it", || Ok(Look::Todo("x".into())), || Ok(()));
        assert_eq!(never.run(Mode::Act).unwrap_err().code, Code::SETUP_UNVERIFIED);
    }
}
