//! Counting calls, and letting one go wrong.

use std::fs;
use std::io::Write as _;
use std::path::Path;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It does nothing, and says so.
    Fails,
    /// The caller dies before it.
    Before,
    /// The caller dies after it was done.
    After,
}

/// Says that this call, counted from one, goes wrong.
pub fn set(folder: &Path, call: usize, how: How) {
    let how = match how {
        How::Fails => "fails",
        How::Before => "before",
        How::After => "after",
    };
    fs::write(folder.join("fault"), format!("{call} {how}")).expect("written");
}

/// Forgets all calls, and what goes wrong.
pub fn clear(folder: &Path) {
    for file in ["fault", "calls"] {
        let _ = fs::remove_file(folder.join(file));
    }
}

/// The calls so far, by name.
#[must_use]
pub fn calls(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Notes a call, and tells whether it goes wrong.
#[must_use]
pub fn call(folder: &Path, name: &str) -> Option<How> {
    let mut log = fs::File::options().create(true).append(true).open(folder.join("calls")).expect("opened");
    writeln!(log, "{name}").expect("written");
    let fault = fs::read_to_string(folder.join("fault")).ok()?;
    let (at, how) = fault.split_once(' ').expect("a number and a word");
    if calls(folder).len() != at.parse::<usize>().expect("a number") {
        return None;
    }
    Some(match how {
        "fails" => How::Fails,
        "before" => How::Before,
        _ => How::After,
    })
}
