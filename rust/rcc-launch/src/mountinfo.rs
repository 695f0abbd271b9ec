//! `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`), parsed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Which folder of its file system is seen there; `/` for the whole.
    pub root: PathBuf,
    /// The file system's kind, such as `ext4`.
    pub kind: String,
}

/// A line that is not in the documented form.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(usize);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} of mountinfo is not understood", self.0)
    }
}

/// All mounts, in the kernel's order.
pub fn parse(text: &str) -> Result<Vec<Mount>, Malformed> {
    text.lines().enumerate().map(|(i, line)| line_of(line).ok_or(Malformed(i + 1))).collect()
}

fn line_of(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let kind = right.split(' ').next()?;
    Some(Mount { point: unescape(point)?, root: unescape(root)?, kind: kind.to_owned() })
}

/// Space, tab, newline and backslash stand as `\ooo`.
fn unescape(text: &str) -> Option<PathBuf> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'\\' {
            let digits = std::str::from_utf8(tail.get(..3)?).ok()?;
            out.push(u8::from_str_radix(digits, 8).ok()?);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    Some(PathBuf::from(OsString::from_vec(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_manual_page() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parse(line).unwrap(), [Mount { point: "/mnt 2".into(), root: "/mnt1".into(), kind: "ext3".into() }]);
    }

    #[test]
    fn a_broken_line_is_an_error() {
        assert_eq!(parse("36 35 98:0 /mnt1"), Err(Malformed(1)));
        assert_eq!(parse("1 2 3 4 /a\\9 rw - ext4 x rw"), Err(Malformed(1)));
    }
}
