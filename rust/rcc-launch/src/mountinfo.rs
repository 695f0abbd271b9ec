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

/// All that this process sees.
#[cfg(target_os = "linux")]
pub fn own() -> Result<Vec<Mount>, String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    parse(&text).map_err(|e| e.to_string())
}

/// All that there are (getfsstat(2)); of each the whole is seen.
#[cfg(target_os = "macos")]
pub fn own() -> Result<Vec<Mount>, String> {
    use std::ffi::CStr;
    let failed = || std::io::Error::last_os_error().to_string();
    // SAFETY: without a buffer the kernel only counts.
    let count = unsafe { libc::getfsstat(std::ptr::null_mut(), 0, libc::MNT_NOWAIT) };
    // One that is mounted meanwhile must be seen, too: room for some more, and an error if that is all used.
    let room = usize::try_from(count).map_err(|_| failed())? + 16;
    // SAFETY: all zeroes are a statfs without content.
    let mut all: Vec<libc::statfs> = vec![unsafe { std::mem::zeroed() }; room];
    let size = libc::c_int::try_from(size_of_val(all.as_slice())).map_err(|e| e.to_string())?;
    // SAFETY: the kernel writes `size` bytes at most, which the vector has.
    let count = unsafe { libc::getfsstat(all.as_mut_ptr(), size, libc::MNT_NOWAIT) };
    let count = usize::try_from(count).map_err(|_| failed())?;
    if count >= room {
        return Err("file systems come and go too fast to be listed".into());
    }
    let text = |field: &[libc::c_char]| {
        // SAFETY: the kernel ends each with a zero, within its field.
        OsString::from_vec(unsafe { CStr::from_ptr(field.as_ptr()) }.to_bytes().to_vec())
    };
    let mount = |found: &libc::statfs| Mount {
        point: text(&found.f_mntonname).into(),
        root: "/".into(),
        kind: text(&found.f_fstypename).to_string_lossy().into_owned(),
    };
    Ok(all.iter().take(count).map(mount).collect())
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
