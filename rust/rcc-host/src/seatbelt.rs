//! A process's sandbox on macOS (Seatbelt): what it may do, as values; the profile's text, made of these alone; and its
//! application by `sandbox_init`, which Apple calls deprecated and uses itself, with a text as Chromium does.
//!
//! Everything is denied that is not named. The text is a plain function of the values, so that it can be read and compared
//! on any system. Paths must be real: the kernel compares what a name leads to (`/var` is `/private/var`).

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// Something that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// To read one file.
    Read(PathBuf),
    /// To read a folder and all below it.
    ReadBelow(PathBuf),
    /// To make, write and remove one file, or a socket of this name.
    Write(PathBuf),
    /// To start one program, which runs under this same profile; it is read and mapped for that.
    Start(PathBuf),
    /// To connect by TCP and UDP, wherever the host firewall lets it.
    ConnectIp,
    /// To connect by TCP to one port of this machine's loopback.
    ConnectLoopback(u16),
    /// To listen by TCP on one port of this machine's loopback, and to accept there.
    ListenLoopback(u16),
    /// To use Unix sockets in a folder and below it: to make and to connect to them.
    UnixSocketsBelow(PathBuf),
    /// To follow the links that macOS has at its root (/etc, /tmp, /var), for a name that leads through them.
    FollowSystemLinks,
    /// To send itself signals.
    SignalSelf,
    /// To ask the kernel for facts by number (`sysctl`): processors, page size, addresses.
    ReadSystemFacts,
    /// What every program that is linked with the system's library needs to start: that library and the loader's cache.
    SystemLibraries,
}

/// A profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile(Vec<Allow>);

/// A path that can't stand in a profile.
#[derive(Debug, thiserror::Error)]
#[error("{} can't stand in a sandbox profile: it is not absolute, not UTF-8, or has a control character", .0.display())]
pub struct BadPath(PathBuf);

impl Profile {
    /// Of these.
    pub fn new(all: impl IntoIterator<Item = Allow>) -> Self {
        Self(all.into_iter().collect())
    }

    /// As `sandbox_init` reads it.
    pub fn text(&self) -> Result<String, BadPath> {
        let mut text = String::from("(version 1)\n(deny default)\n");
        for allow in &self.0 {
            allow.write(&mut text)?;
        }
        Ok(text)
    }
}

impl Allow {
    fn write(&self, text: &mut String) -> Result<(), BadPath> {
        // Writing to a string does not fail.
        let _ = match self {
            Self::Read(path) => writeln!(text, "(allow file-read* (literal {}))", quoted(path)?),
            Self::ReadBelow(path) => writeln!(text, "(allow file-read* (subpath {}))", quoted(path)?),
            Self::Write(path) => writeln!(text, "(allow file-write* (literal {}))", quoted(path)?),
            Self::Start(path) => {
                let path = quoted(path)?;
                writeln!(
                    text,
                    "(allow process-exec (literal {path}))\n\
                     (allow file-read* file-map-executable (literal {path}))"
                )
            }
            Self::ConnectIp => text.write_str("(allow network-outbound (remote tcp \"*:*\") (remote udp \"*:*\"))\n"),
            Self::ConnectLoopback(port) => {
                writeln!(text, "(allow network-outbound (remote tcp \"localhost:{port}\"))")
            }
            Self::ListenLoopback(port) => writeln!(
                text,
                "(allow network-bind (local tcp \"localhost:{port}\"))\n\
                 (allow network-inbound (local tcp \"localhost:{port}\"))"
            ),
            Self::UnixSocketsBelow(path) => {
                let path = quoted(path)?;
                writeln!(
                    text,
                    "(allow network-bind (local unix-socket (subpath {path})))\n\
                     (allow network-inbound (local unix-socket (subpath {path})))\n\
                     (allow network-outbound (remote unix-socket (subpath {path})))"
                )
            }
            Self::FollowSystemLinks => {
                text.write_str("(allow file-read-metadata (literal \"/etc\") (literal \"/tmp\") (literal \"/var\"))\n")
            }
            Self::SignalSelf => text.write_str("(allow signal (target self))\n"),
            Self::ReadSystemFacts => text.write_str("(allow sysctl-read)\n"),
            Self::SystemLibraries => text.write_str(
                "(allow file-read* file-map-executable (subpath \"/usr/lib\") (subpath \"/System/Library\")\n\
                 \x20 (subpath \"/System/Volumes/Preboot/Cryptexes/OS\"))\n\
                 (allow file-read-metadata)\n",
            ),
        };
        Ok(())
    }
}

/// A string of the profile's language.
fn quoted(path: &Path) -> Result<Quoted<'_>, BadPath> {
    let bad = || BadPath(path.to_owned());
    let text = path.to_str().ok_or_else(bad)?;
    let plain = path.is_absolute() && !text.chars().any(char::is_control) && !path.components().any(is_dots);
    if plain { Ok(Quoted(text)) } else { Err(bad()) }
}

fn is_dots(part: std::path::Component<'_>) -> bool {
    part == std::path::Component::ParentDir
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

/// Puts this process under a profile, for good; what it starts is under it, too.
#[cfg(target_os = "macos")]
pub fn apply(profile: &Profile) -> std::io::Result<()> {
    use std::ffi::{CStr, CString, c_char, c_int};
    unsafe extern "C" {
        fn sandbox_init(profile: *const c_char, flags: u64, error: *mut *mut c_char) -> c_int;
        fn sandbox_free_error(error: *mut c_char);
    }
    let text = CString::new(profile.text().map_err(std::io::Error::other)?)?;
    let mut error = std::ptr::null_mut();
    // SAFETY: a string, no flags (the profile is a text), and a place for one pointer.
    if unsafe { sandbox_init(text.as_ptr(), 0, &raw mut error) } == 0 {
        return Ok(());
    }
    let what = if error.is_null() {
        "it says no reason".to_owned()
    } else {
        // SAFETY: where there is an error, it is a string of the library's, which is freed once, here.
        unsafe {
            let what = CStr::from_ptr(error).to_string_lossy().into_owned();
            sandbox_free_error(error);
            what
        }
    };
    Err(std::io::Error::other(format!("the sandbox profile is not in force: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_that_is_not_named() {
        assert_eq!(Profile::default().text().unwrap(), "(version 1)\n(deny default)\n");
    }

    #[test]
    fn each_right_is_one_line_of_its_own() {
        let profile = Profile::new([
            Allow::Read("/etc/ssl/cert.pem".into()),
            Allow::ReadBelow("/private/var/log/rcc".into()),
            Allow::Write("/Users/alice/Library/a b".into()),
            Allow::Start("/usr/local/libexec/rcc/gvproxy".into()),
            Allow::ConnectIp,
            Allow::ConnectLoopback(47081),
            Allow::ListenLoopback(47022),
            Allow::UnixSocketsBelow("/private/tmp/x".into()),
            Allow::FollowSystemLinks,
            Allow::SignalSelf,
            Allow::ReadSystemFacts,
        ]);
        let expected = "\
(version 1)
(deny default)
(allow file-read* (literal \"/etc/ssl/cert.pem\"))
(allow file-read* (subpath \"/private/var/log/rcc\"))
(allow file-write* (literal \"/Users/alice/Library/a b\"))
(allow process-exec (literal \"/usr/local/libexec/rcc/gvproxy\"))
(allow file-read* file-map-executable (literal \"/usr/local/libexec/rcc/gvproxy\"))
(allow network-outbound (remote tcp \"*:*\") (remote udp \"*:*\"))
(allow network-outbound (remote tcp \"localhost:47081\"))
(allow network-bind (local tcp \"localhost:47022\"))
(allow network-inbound (local tcp \"localhost:47022\"))
(allow network-bind (local unix-socket (subpath \"/private/tmp/x\")))
(allow network-inbound (local unix-socket (subpath \"/private/tmp/x\")))
(allow network-outbound (remote unix-socket (subpath \"/private/tmp/x\")))
(allow file-read-metadata (literal \"/etc\") (literal \"/tmp\") (literal \"/var\"))
(allow signal (target self))
(allow sysctl-read)
";
        assert_eq!(profile.text().unwrap(), expected);
    }

    #[test]
    fn a_path_can_not_end_its_string() {
        let text = Profile::new([Allow::Read("/a\") (allow default) (\"\\".into())]).text().unwrap();
        assert!(text.ends_with("(literal \"/a\\\") (allow default) (\\\"\\\\\"))\n"), "{text}");
        for bad in ["relative", "/a\nb", "/a\0b", "/a/../b"] {
            assert!(Profile::new([Allow::Write(bad.into())]).text().is_err(), "{bad:?}");
        }
    }
}
