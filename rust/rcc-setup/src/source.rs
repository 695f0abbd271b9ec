//! The programs that are installed: those that lie beside the running one.

use rcc_report::{Code, Problem};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is installed.
pub const PROGRAMS: [&str; 5] = ["rcc", "rcc-hook", "rcc-gateway", "rcc-firewall", "rcc-setup"];

/// A program's bytes, read once: what is checked is what is installed, whoever can write its folder.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads all of them from the folder of the running program.
pub fn programs() -> Result<Vec<Program>, Problem> {
    let here = std::env::current_exe().map_err(|e| wrong(Path::new("/proc/self/exe"), &e.to_string()))?;
    let folder = here.parent().unwrap_or(Path::new("/")).to_owned();
    PROGRAMS.iter().map(|name| read(&folder, name)).collect()
}

fn read(folder: &Path, name: &'static str) -> Result<Program, Problem> {
    let path: PathBuf = folder.join(name);
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
    let file = file.map_err(|e| wrong(&path, &e.to_string()))?;
    let facts = file.metadata().map_err(|e| wrong(&path, &e.to_string()))?;
    if !facts.is_file() {
        return Err(wrong(&path, "it is not a plain file"));
    }
    if facts.len() > crate::place::MAX {
        return Err(wrong(&path, "it is larger than any of rcc's programs"));
    }
    let mut bytes = Vec::new();
    file.take(crate::place::MAX).read_to_end(&mut bytes).map_err(|e| wrong(&path, &e.to_string()))?;
    match interpreter(&bytes) {
        Some(false) => Ok(Program { name, bytes }),
        Some(true) => Err(wrong(&path, "it is not static: it needs a dynamic loader, which can change under it")),
        None => Err(wrong(&path, "it is not a 64-bit ELF program")),
    }
}

fn wrong(path: &Path, what: &str) -> Problem {
    Problem::new(
        Code::SETUP_SOURCE,
        path.display().to_string(),
        what,
        "build all of them, static, as README.md says, and run rcc setup from that folder",
    )
}

/// Whether a little-endian ELF64 program asks for an interpreter (`PT_INTERP`, elf(5)); `None` if it is no such program.
fn interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    // ELF, 64 bits, little-endian; an executable or, for static-pie, a shared object.
    if bytes.get(..6)? != b"\x7fELF\x02\x01" || !matches!(number(16, 2)?, 2 | 3) {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for i in 0..count {
        let at = usize::try_from(table.checked_add(i.checked_mul(size)?)?).ok()?;
        // Within the header of 64 bytes there is none.
        if at < 64 {
            return None;
        }
        if number(at, 4)? == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_a_static_one() {
        let dynamic = std::fs::read("/bin/sh").unwrap();
        assert_eq!(interpreter(&dynamic), Some(true));
        let mut without = vec![0; 64];
        without[..6].copy_from_slice(b"\x7fELF\x02\x01");
        without[16] = 3;
        assert_eq!(interpreter(&without), Some(false));
        without[56] = 1;
        assert_eq!(interpreter(&without), None, "a table that is not there");
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn a_link_is_not_installed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/sh", folder.path().join("rcc")).unwrap();
        assert_eq!(read(folder.path(), "rcc").unwrap_err().code, Code::SETUP_SOURCE);
        let huge = std::fs::File::create(folder.path().join("rcc-hook")).unwrap();
        huge.set_len(1 << 40).unwrap();
        assert_eq!(read(folder.path(), "rcc-hook").unwrap_err().code, Code::SETUP_SOURCE);
    }
}
