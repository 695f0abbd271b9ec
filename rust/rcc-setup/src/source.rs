//! The programs that are installed: those that lie beside the running one.

use rcc_proto::macos::{GVPROXY, GVPROXY_SOURCE};
use rcc_report::{Code, Problem};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is installed on Linux.
const LINUX: [(&str, Kind); 5] = [
    ("rcc", Kind::Static),
    ("rcc-hook", Kind::Static),
    ("rcc-gateway", Kind::Static),
    ("rcc-firewall", Kind::Static),
    ("rcc-setup", Kind::Static),
];
/// What is installed on a Mac.
const MACOS: [(&str, Kind); 9] = [
    ("rcc", Kind::Mac),
    ("rcc-gateway", Kind::Mac),
    ("rcc-firewall", Kind::Mac),
    ("rcc-setup", Kind::Mac),
    ("gvproxy", Kind::Mac),
    ("gvproxy.pinned", Kind::Carrier),
    ("rcc.linux", Kind::Guest),
    ("rcc-hook.linux", Kind::Guest),
    ("rcc-forward.linux", Kind::Guest),
];

/// What a program must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Linux's, without a loader.
    Static,
    /// macOS's, of one processor, with libraries of the system's alone.
    Mac,
    /// The same, and gvproxy of the version that was read.
    Carrier,
    /// Linux's, without a loader and of this Mac's processor: the launcher puts it into the agents' machine.
    Guest,
}

/// A program's bytes, read once: what is checked is what is installed, whoever can write its folder.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Whose libraries a Mac's program may load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libraries {
    /// Apple's alone.
    Systems,
    /// Or the Nix store's, which the system's configuration keeps there as long as it has these programs.
    OrTheStores,
}

/// Reads all of them from the folder of the running program.
pub fn programs(libraries: Libraries) -> Result<Vec<Program>, Problem> {
    let here = rcc_host::this_program().map_err(|e| wrong(Path::new("/proc/self/exe"), &e.to_string()))?;
    let folder = here.parent().unwrap_or(Path::new("/")).to_owned();
    let all: &[(&'static str, Kind)] = if cfg!(target_os = "macos") { &MACOS } else { &LINUX };
    all.iter().map(|(name, kind)| read(&folder, name, *kind, libraries)).collect()
}

fn read(folder: &Path, name: &'static str, kind: Kind, allowed: Libraries) -> Result<Program, Problem> {
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
    if kind == Kind::Guest && processor(&bytes) != Some(std::env::consts::ARCH) {
        return Err(wrong(&path, "it is not a Linux program of this Mac's processor"));
    }
    if kind == Kind::Carrier {
        is_pinned(&bytes, allowed).map_err(|what| wrong(&path, &what))?;
    }
    match kind {
        Kind::Static | Kind::Guest => match interpreter(&bytes) {
            Some(false) => Ok(Program { name, bytes }),
            Some(true) => Err(wrong(&path, "it is not static: it needs a dynamic loader, which can change under it")),
            None => Err(wrong(&path, "it is not a 64-bit ELF program")),
        },
        Kind::Mac | Kind::Carrier => match libraries(&bytes) {
            None => Err(wrong(&path, "it is not a 64-bit Mach-O program of one processor")),
            Some(all) => match all.iter().find(|library| !may_load(library, allowed)) {
                None => Ok(Program { name, bytes }),
                Some(library) => Err(wrong(&path, &format!("it needs {library}, which is not the system's"))),
            },
        },
    }
}

/// The processor of an ELF program (`e_machine` of elf(5)), as Rust calls it; of those that Macs have.
fn processor(bytes: &[u8]) -> Option<&'static str> {
    match (bytes.get(..4)?, bytes.get(18..20)?) {
        (b"\x7fELF", [0x3e, 0]) => Some("x86_64"),
        (b"\x7fELF", [0xb7, 0]) => Some("aarch64"),
        _ => None,
    }
}

/// Whether a program of Go's is the gvproxy that was read, by what Go's linker writes into each (`runtime/debug.BuildInfo`). It
/// tells a mistake, not a forgery: what lies beside setup is believed as setup itself is. A build in Nix has no version of
/// its own there; Nix's package compares it.
fn is_pinned(bytes: &[u8], allowed: Libraries) -> Result<(), String> {
    let module = GVPROXY_SOURCE.strip_suffix("/cmd/gvproxy").unwrap_or(GVPROXY_SOURCE);
    let line = match allowed {
        Libraries::Systems => format!("\nmod\t{module}\tv{GVPROXY}\t"),
        Libraries::OrTheStores => format!("\nmod\t{module}\t"),
    };
    let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    if has(&format!("path\t{GVPROXY_SOURCE}\n")) && has(&line) {
        return Ok(());
    }
    Err(format!("it is not gvproxy {GVPROXY}, built as: go install {GVPROXY_SOURCE}@v{GVPROXY}"))
}

/// Whether a library is one that only Apple, or root's Nix, changes.
fn may_load(library: &str, allowed: Libraries) -> bool {
    let places: &[&str] = match allowed {
        Libraries::Systems => &["/usr/lib/", "/System/"],
        Libraries::OrTheStores => &["/usr/lib/", "/System/", "/nix/store/"],
    };
    places.iter().any(|place| library.starts_with(place)) && !library.contains("/../")
}

/// The libraries that a little-endian 64-bit Mach-O executable loads (`mach-o/loader.h`); `None` if it is no such program.
fn libraries(bytes: &[u8]) -> Option<Vec<String>> {
    /// `LC_LOAD_DYLIB`, and its weak, re-exported, lazy and upward kin.
    const LOADS: [u32; 5] = [0xc, 0x8000_0018, 0x8000_001f, 0x20, 0x8000_0023];
    const EXECUTE: u32 = 2;
    let number = |at: usize| bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes);
    if number(0)? != 0xfeed_facf || number(12)? != EXECUTE {
        return None;
    }
    let mut all = Vec::new();
    let mut at = 32;
    for _ in 0..number(16)? {
        let (command, size) = (number(at)?, usize::try_from(number(at + 4)?).ok()?);
        if size < 8 {
            return None;
        }
        let end = at.checked_add(size)?;
        if LOADS.contains(&command) {
            let name = bytes.get(at.checked_add(usize::try_from(number(at + 8)?).ok()?)?..end)?;
            let name = name.split(|byte| *byte == 0).next()?;
            all.push(String::from_utf8_lossy(name).into_owned());
        }
        at = end;
    }
    // One that loads nothing is none that macOS runs.
    (!all.is_empty()).then_some(all)
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
    fn what_the_machine_runs_is_static_and_of_its_processor() {
        let folder = tempfile::tempdir().unwrap();
        let judged = |bytes: &[u8]| {
            std::fs::write(folder.path().join("rcc.linux"), bytes).unwrap();
            read(folder.path(), "rcc.linux", Kind::Guest, Libraries::Systems).map(drop)
        };
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[16] = 3;
        let (own, other) = if cfg!(target_arch = "aarch64") { (0xb7, 0x3e) } else { (0x3e, 0xb7) };
        program[18] = own;
        judged(&program).unwrap();
        program[18] = other;
        assert!(judged(&program).unwrap_err().what.contains("processor"));
        // A Mac's own, and one with a loader.
        assert!(judged(&mach_o(2, &[(0xc, "/usr/lib/libSystem.B.dylib")])).is_err());
        assert!(judged(&std::fs::read("/bin/sh").unwrap()).unwrap_err().what.contains("static"));
    }

    #[test]
    fn a_link_is_not_installed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/sh", folder.path().join("rcc")).unwrap();
        assert_eq!(read(folder.path(), "rcc", Kind::Static, Libraries::Systems).unwrap_err().code, Code::SETUP_SOURCE);
        let huge = std::fs::File::create(folder.path().join("rcc-hook")).unwrap();
        huge.set_len(1 << 40).unwrap();
        assert_eq!(
            read(folder.path(), "rcc-hook", Kind::Static, Libraries::Systems).unwrap_err().code,
            Code::SETUP_SOURCE
        );
    }

    /// A Mach-O executable with these load commands.
    fn mach_o(kind: u32, loads: &[(u32, &str)]) -> Vec<u8> {
        let mut commands = Vec::new();
        for (command, name) in loads {
            let size = (24 + name.len() + 1).next_multiple_of(8);
            let mut one = Vec::new();
            for word in [*command, u32::try_from(size).unwrap(), 24, 2, 0x10000, 0x10000] {
                one.extend_from_slice(&word.to_le_bytes());
            }
            one.extend_from_slice(name.as_bytes());
            one.resize(size, 0);
            commands.extend(one);
        }
        let (count, size) = (u32::try_from(loads.len()).unwrap(), u32::try_from(commands.len()).unwrap());
        let header = [0xfeed_facf, 0x0100_000c, 0, kind, count, size, 0x0020_0085, 0];
        header.iter().flat_map(|word: &u32| word.to_le_bytes()).chain(commands).collect()
    }

    #[test]
    fn the_carrier_is_of_the_version_that_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let program = mach_o(2, &[(0xc, "/usr/lib/libSystem.B.dylib")]);
        let judged = |info: &str, allowed| {
            let bytes = [&program[..], info.as_bytes()].concat();
            std::fs::write(folder.path().join("gvproxy.pinned"), bytes).unwrap();
            read(folder.path(), "gvproxy.pinned", Kind::Carrier, allowed).map(drop).map_err(|problem| problem.what)
        };
        // As `go version -m` shows it of what `go install` made, but for the sums.
        let module = "github.com/containers/gvisor-tap-vsock";
        let info = |version: &str| {
            format!("path\t{module}/cmd/gvproxy\nmod\t{module}\t{version}\th1:x=\ndep\tgithub.com/x/y\tv0.8.9\th1:y=\n")
        };
        judged(&info(&format!("v{GVPROXY}")), Libraries::Systems).unwrap();
        for other in ["v0.8.8", "v0.8.90", "v0.8.9-rc1", "(devel)"] {
            assert!(judged(&info(other), Libraries::Systems).unwrap_err().contains("go install"), "{other}");
        }
        judged(&info("(devel)"), Libraries::OrTheStores).unwrap();
        for none in ["", "path\tgithub.com/x/gvproxy\nmod\tgithub.com/x\tv0.8.9\th1:x=\n"] {
            assert!(judged(none, Libraries::Systems).is_err() && judged(none, Libraries::OrTheStores).is_err());
        }
    }

    #[test]
    fn the_carriers_version_stands_in_one_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for file in [".github/workflows/macos.yml", ".github/workflows/release.yml", "nix/rcc.nix"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(text.contains("rust/rcc-proto/gvproxy-version") && !text.contains(GVPROXY), "{file}");
        }
    }

    #[test]
    fn a_macs_program_has_libraries_of_the_systems_alone() {
        let folder = tempfile::tempdir().unwrap();
        let judged = |bytes: &[u8]| {
            std::fs::write(folder.path().join("rcc"), bytes).unwrap();
            read(folder.path(), "rcc", Kind::Mac, Libraries::Systems).map(drop)
        };
        let system =
            [(0xc, "/usr/lib/libSystem.B.dylib"), (0xc, "/System/Library/Frameworks/Security.framework/Security")];
        judged(&mach_o(2, &system)).unwrap();
        for library in
            ["/opt/homebrew/lib/libssl.dylib", "@rpath/libx.dylib", "libx.dylib", "/usr/lib/../local/lib/x", ""]
        {
            for command in [0xc, 0x8000_0018] {
                let error = judged(&mach_o(2, &[system[0], (command, library)])).unwrap_err();
                assert!(error.what.contains("which is not the system's"), "{library}: {error}");
            }
        }
        let store = mach_o(2, &[system[0], (0xc, "/nix/store/x-libiconv/lib/libiconv.2.dylib")]);
        assert!(judged(&store).is_err());
        read(folder.path(), "rcc", Kind::Mac, Libraries::OrTheStores).unwrap();
        let whole = mach_o(2, &system);
        for cut in [0, 4, 31, 40, whole.len() - 1] {
            assert!(judged(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(judged(&mach_o(6, &system)).is_err(), "a library");
        assert!(judged(&mach_o(2, &[])).is_err());
        assert!(judged(b"\xca\xfe\xba\xbe").is_err(), "of several processors");
        assert!(judged(&std::fs::read("/bin/sh").unwrap()).is_err());
    }
}
