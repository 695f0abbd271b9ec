//! The ticket by which a session that was opened on the host goes on in a virtual machine. The host's launcher puts it into a
//! file of the person's there; it is good for one use.

use rcc_proto::Secret;
use rcc_proto::forwarded::torn;
use rcc_report::{Code, Problem};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The most bytes that the file may have.
const LONGEST: u64 = 256;

/// Reads the ticket, and takes its file away.
pub fn take(path: &Path) -> Result<Secret, Problem> {
    let wrong = |what: &str| {
        let remedy = "start the session on the host";
        Problem::new(Code::FORWARD_TICKET, path.display().to_string(), what, remedy)
    };
    let text = read(path).map_err(|e| wrong(&e.to_string()))?;
    let ticket = Secret::new(text.trim().to_owned());
    // What is none is somebody's file, and stays.
    if torn(&ticket).is_none() {
        return Err(wrong("this is no ticket"));
    }
    fs::remove_file(path).map_err(|e| wrong(&e.to_string()))?;
    Ok(ticket)
}

fn read(path: &Path) -> io::Result<zeroize::Zeroizing<String>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    let own = about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o077 == 0;
    if !about.is_file() || !own || about.len() > LONGEST {
        return Err(io::Error::other("it is not a small plain file that this user alone can read"));
    }
    let mut text = zeroize::Zeroizing::new(String::with_capacity(usize::try_from(LONGEST).unwrap_or_default()));
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_ticket_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let good = "0123456789abcdef".repeat(5);
        write(&format!("{good}\n"), 0o600);
        assert_eq!(take(&path).unwrap().expose(), good);
        assert!(!path.exists());
        assert_eq!(take(&path).unwrap_err().code, Code::FORWARD_TICKET);
        for (text, mode) in [(good.as_str(), 0o640), ("short", 0o600), (&good.repeat(9), 0o600)] {
            write(text, mode);
            assert_eq!(take(&path).unwrap_err().code, Code::FORWARD_TICKET);
        }
        let link = folder.path().join("link");
        write(&good, 0o600);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(take(&link).unwrap_err().code, Code::FORWARD_TICKET);
    }
}
