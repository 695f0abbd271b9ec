//! Steps with names, durations and a final table.
//!
//! Steps run in lanes: one thread a lane, one step after another within it, so that a lane that waits for the network
//! or a linker leaves the cores to the others. A step's output goes to a file below target and is shown when it
//! fails; a step in the foreground writes to the terminal. No step ever has a standard input.

use crate::workspace::Workspace;
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How a step ended.
#[derive(Clone, Debug)]
enum Outcome {
    Passed,
    Failed(String),
    NotRun(&'static str),
}

#[derive(Clone, Debug)]
struct Finished {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// What was done so far. Shared by the lanes.
#[derive(Debug)]
pub struct Steps {
    logs: PathBuf,
    started: Instant,
    finished: Mutex<Vec<Finished>>,
}

impl Steps {
    /// Starts the clock. Logs go to `logs`, one file a step.
    pub fn new(logs: PathBuf) -> Result<Self> {
        if logs.exists() {
            fs::remove_dir_all(&logs).with_context(|| format!("can't remove {}", logs.display()))?;
        }
        fs::create_dir_all(&logs).with_context(|| format!("can't make {}", logs.display()))?;
        Ok(Self { logs, started: Instant::now(), finished: Mutex::default() })
    }

    /// Runs a whole command's steps, with its logs below `target/xtask`, and closes them.
    pub fn all(workspace: &Workspace, name: &str, body: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let steps = Self::new(workspace.target.join("xtask").join(name))?;
        let result = body(&steps);
        // An error that no step recorded must not pass for success.
        steps.close().and(result)
    }

    /// Runs a step that is a function. Its error is the step's failure; the lane ends there if it passes it on.
    pub fn run<T>(&self, name: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = body();
        let outcome = result.as_ref().map_or_else(|e| Outcome::Failed(format!("{e:#}")), |_| Outcome::Passed);
        self.record(Finished { name, took: started.elapsed(), outcome });
        result
    }

    /// Runs a step that is one program, its output in the step's log.
    pub fn command(&self, name: &'static str, command: impl Into<Command>) -> Result<()> {
        self.run(name, || self.logged(name, command))
    }

    /// Adds lines to the log of that name.
    pub fn note(&self, name: &str, text: &str) -> Result<()> {
        let (mut log, _) = self.log(name)?;
        Ok(writeln!(log, "{}", text.trim_end())?)
    }

    /// What is in the log of that name.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.place(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Where the log of that name is.
    pub fn place(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}.log", name.replace(' ', "-")))
    }

    fn log(&self, name: &str) -> Result<(File, PathBuf)> {
        let path = self.place(name);
        let log = File::options().create(true).append(true).open(&path);
        Ok((log.with_context(|| format!("can't write {}", path.display()))?, path))
    }

    /// Runs one program with its output added to the log of that name; the log is shown if the program fails.
    pub fn logged(&self, name: &str, command: impl Into<Command>) -> Result<()> {
        let mut command = command.into();
        let (log, path) = self.log(name)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = command.status().with_context(|| format!("can't run {}", command.get_program().display()))?;
        if !status.success() {
            let said = fs::read(&path)?;
            eprintln!("──── {name}: {} ────\n{}────", line_of(&command), String::from_utf8_lossy(&said));
            bail!("{status}; {}", path.display());
        }
        Ok(())
    }

    /// Runs a step that is one program, in the foreground.
    pub fn foreground(&self, name: &'static str, command: impl Into<Command>) -> Result<()> {
        let mut command = command.into();
        self.run(name, || {
            let status = command.stdin(Stdio::null()).status()?;
            ensure!(status.success(), "{} ended with {status}", line_of(&command));
            Ok(())
        })
    }

    /// Notes a step that was left out, and why: it is in the table, so that nobody takes it for passed.
    pub fn not_run(&self, name: &'static str, why: &'static str) {
        self.record(Finished { name, took: Duration::ZERO, outcome: Outcome::NotRun(why) });
    }

    fn record(&self, step: Finished) {
        eprintln!("{}", line(&step));
        self.finished.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(step);
    }

    /// Prints the table and one plain closing line. An error if any step failed.
    pub fn close(self) -> Result<()> {
        let total = self.started.elapsed();
        let finished = self.finished.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut table = String::from("\nstep                              time  result\n");
        for step in &finished {
            let _ = writeln!(table, "{}", line(step));
        }
        println!("{table}");
        let failed: Vec<_> =
            finished.iter().filter(|s| matches!(s.outcome, Outcome::Failed(_))).map(|s| s.name).collect();
        ensure!(failed.is_empty(), "failed after {}: {}", seconds(total), failed.join(", "));
        println!("All steps passed in {}.", seconds(total));
        Ok(())
    }
}

/// Runs the lanes side by side and waits for all of them. What failed stands in the table.
pub fn side_by_side(lanes: Vec<Box<dyn FnOnce() -> Result<()> + Send + '_>>) {
    std::thread::scope(|scope| {
        for lane in lanes {
            // A lane's error has been recorded by the step it came from.
            scope.spawn(|| drop(lane()));
        }
    });
}

fn line(step: &Finished) -> String {
    let result = match &step.outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed(why) => format!("FAILED: {why}"),
        Outcome::NotRun(why) => format!("not run: {why}"),
    };
    format!("{:<26} {:>11}  {result}", step.name, seconds(step.took))
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// `7.3 s`, or `2 min 05 s` from a minute on.
fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn steps() -> (tempfile::TempDir, Steps) {
        let dir = tempfile::tempdir().unwrap();
        let steps = Steps::new(dir.path().join("logs")).unwrap();
        (dir, steps)
    }

    #[test]
    fn a_failed_step_fails_the_whole() {
        let (_dir, steps) = steps();
        assert!(steps.command("good", Command::new("true")).is_ok());
        assert!(steps.command("bad", Command::new("false")).is_err());
        let error = steps.close().unwrap_err().to_string();
        assert!(error.contains("bad") && !error.contains("good"), "{error}");
    }

    #[test]
    fn a_lane_that_fails_does_not_stop_the_others() {
        let (_dir, steps) = steps();
        side_by_side(vec![
            Box::new(|| steps.run("one", || Err(anyhow!("no")))),
            Box::new(|| steps.run("two", || Ok(()))),
        ]);
        let finished = steps.finished.lock().unwrap().len();
        assert_eq!(finished, 2);
    }

    #[test]
    fn durations_are_for_people() {
        assert_eq!(seconds(Duration::from_millis(7_340)), "7.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
