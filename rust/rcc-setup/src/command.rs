//! Programs of the system's, by absolute path, where only root can write, with an environment made from nothing.

use crate::output::output;
use rcc_report::{Code, Problem};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Where a program is, if it is there and only root can have put it there.
pub fn find(name: &str) -> Option<PathBuf> {
    let found = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())?;
    // By its own name: some programs are links to one that looks at the name it was called by.
    rcc_host::trusted::place(&found).ok().map(|_| found)
}

/// How long another program may hold what this one needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs one that changes users and groups. Those lock /etc/passwd and /etc/group by files with their process's number, and
/// give up at once when that is still there: as it is for a moment when one of them was killed.
pub fn run_locking(program: &Path, arguments: &[&str], code: Code) -> Result<String, Problem> {
    let until = Instant::now() + PATIENCE;
    loop {
        match run(program, arguments, code) {
            Err(problem) if problem.what.contains("cannot lock") && Instant::now() < until => {}
            other => return other,
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Runs it and gives what it printed; an error of this code if it fails.
pub fn run(program: &Path, arguments: &[&str], code: Code) -> Result<String, Problem> {
    let output = output(program, arguments);
    let name = program.display().to_string();
    let call = format!("{name} {}", arguments.join(" "));
    let failed = |what: String| Problem::new(code, name.clone(), what, format!("run it by hand: sudo {call}"));
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).take(4).collect();
    Err(failed(format!("{}: {}", output.status, said.join(" | "))))
}
