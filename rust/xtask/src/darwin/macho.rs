//! What a Mach-O file says of itself (`mach-o/loader.h`): for which processor, of which kind, with which libraries.

use anyhow::{Context as _, Result, ensure};

const MAGIC_64: u32 = 0xfeed_facf;
/// `CPU_TYPE_ARM64`.
const ARM64: u32 = 0x0100_000c;
/// `MH_EXECUTE`.
const EXECUTE: u32 = 2;
/// `LC_LOAD_DYLIB`, and the kinds that are weak, re-exported and upward.
const LOAD_LIBRARY: [u32; 4] = [0xc, 0x8000_0018, 0x8000_001f, 0x8000_0023];
/// `LC_CODE_SIGNATURE`.
const SIGNATURE: u32 = 0x1d;
/// `mach_header_64`.
const HEADER: usize = 32;

/// A file's own account.
#[derive(Debug, PartialEq, Eq)]
pub struct MachO {
    pub is_arm64_program: bool,
    pub is_signed: bool,
    /// Install names.
    pub libraries: Vec<String>,
}

/// Reads the header and the load commands.
pub fn read(file: &[u8]) -> Result<MachO> {
    ensure!(word(file, 0)? == MAGIC_64, "it is no Mach-O file of 64 bits");
    let mut at = HEADER;
    let mut found = MachO {
        is_arm64_program: word(file, 4)? == ARM64 && word(file, 12)? == EXECUTE,
        is_signed: false,
        libraries: Vec::new(),
    };
    for _ in 0..word(file, 16)? {
        let (kind, size) = (word(file, at)?, usize::try_from(word(file, at + 4)?)?);
        ensure!(size >= 8, "a load command without a length");
        let command = file.get(at..at + size).context("a load command beyond the end")?;
        if LOAD_LIBRARY.contains(&kind) {
            let name = command.get(usize::try_from(word(command, 8)?)?..).context("a library without a name")?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            found.libraries.push(String::from_utf8(name.to_owned())?);
        }
        found.is_signed |= kind == SIGNATURE;
        at += size;
    }
    Ok(found)
}

/// Whether every Mac has this library.
pub fn is_systems_own(library: &str) -> bool {
    library.starts_with("/usr/lib/") || library.starts_with("/System/Library/Frameworks/")
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..at + 4).context("it ends too early")?;
    Ok(u32::from_le_bytes(four.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(cpu: u32, kind: u32, commands: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(commands.len()).unwrap();
        let header = [MAGIC_64, cpu, 0, kind, count, 0, 0, 0];
        header.iter().flat_map(|w| w.to_le_bytes()).chain(commands.concat()).collect()
    }

    fn command(kind: u32, rest: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + rest.len()).unwrap();
        [&kind.to_le_bytes()[..], &size.to_le_bytes(), rest].concat()
    }

    #[test]
    fn a_program_says_what_it_is() {
        let library = [&[24, 0, 0, 0][..], &[0; 12], b"/usr/lib/libSystem.B.dylib\0"].concat();
        let good = file(ARM64, EXECUTE, &[command(0xc, &library), command(SIGNATURE, &[0; 8])]);
        let found = read(&good).unwrap();
        assert!(found.is_arm64_program && found.is_signed, "{found:?}");
        assert_eq!(found.libraries, ["/usr/lib/libSystem.B.dylib"]);
        assert!(!read(&file(0x0100_0007, EXECUTE, &[])).unwrap().is_arm64_program);
        assert!(!read(&file(ARM64, 6, &[])).unwrap().is_arm64_program);
        assert!(!read(&file(ARM64, EXECUTE, &[])).unwrap().is_signed);
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "{cut}");
        }
        assert!(read(b"\x7fELF and so on, long enough for a header").is_err());
    }

    #[test]
    fn only_the_systems_libraries_are_on_every_mac() {
        assert!(is_systems_own("/usr/lib/libSystem.B.dylib"));
        assert!(!is_systems_own("/opt/homebrew/lib/libssl.dylib") && !is_systems_own("@rpath/libc++.dylib"));
    }
}
