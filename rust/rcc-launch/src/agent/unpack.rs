//! Verifies a package's tarball and unpacks it: plain files and folders only.
//!
//! The hash is compared before the first byte is decompressed, and both read the same open file. What is refused
//! besides (links, devices, `..`, absolute paths, set-id bits, bombs) would need a package that was bad when it was
//! pinned.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha512};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// The mode of the program, whatever the umask: nobody writes it, everybody runs it.
pub const PROGRAM_MODE: u32 = 0o555;
const FILE_MODE: u32 = 0o444;
const FOLDER_MODE: u32 = 0o755;

/// The most that a package may hold: entries, and bytes once unpacked.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: u64 = 4 << 30;

/// Why a tarball was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has another hash (given here, in npm's notation) than the pinned one.
    #[error("it has the hash {0}")]
    Integrity(String),
    /// It holds something that no agent's package should.
    #[error("{}: {what}", path.display())]
    Refused { path: PathBuf, what: &'static str },
    /// It can't be read, or the folder can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the whole file and compares its hash, in npm's notation.
pub fn verify(tarball: &mut File, integrity: &str) -> Result<(), Error> {
    tarball.rewind()?;
    let mut hash = Sha512::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match tarball.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let found = format!("sha512-{}", STANDARD.encode(hash.finalize()));
    if found == integrity { Ok(()) } else { Err(Error::Integrity(found)) }
}

/// Unpacks a verified tarball into a folder that does not exist yet, less the leading `package/` that npm puts there.
/// Every file and folder is on the disk when this returns.
pub fn unpack(tarball: &mut File, into: &Path, program: &str) -> Result<(), Error> {
    tarball.rewind()?;
    make_folder(into)?;
    let mut left = MAX_BYTES;
    for (i, entry) in Archive::new(GzDecoder::new(tarball)).entries()?.enumerate() {
        let mut entry = entry?;
        let path = checked_path(&entry)?;
        let refuse = |what| Err(Error::Refused { path: path.clone(), what });
        let header = entry.header();
        if i >= MAX_ENTRIES || header.size()? > left {
            return refuse("more than a package may hold");
        }
        left -= header.size()?;
        if header.mode()? & 0o7000 != 0 {
            return refuse("a set-id or sticky bit");
        }
        match header.entry_type() {
            EntryType::Directory => make_folder(&into.join(&path))?,
            EntryType::Regular => {
                let mode = if path == Path::new(program) { PROGRAM_MODE } else { FILE_MODE };
                write_file(&mut entry, &into.join(&path), mode)?;
            }
            _ => return refuse("neither a plain file nor a folder"),
        }
    }
    File::open(into)?.sync_all()?;
    Ok(())
}

/// The entry's path below the package: plain names only, at least one, after the first, which is npm's.
fn checked_path(entry: &Entry<'_, GzDecoder<&mut File>>) -> Result<PathBuf, Error> {
    let full = entry.path()?.into_owned();
    let mut names = full.components();
    let below = names.next() == Some(Component::Normal("package".as_ref()));
    let path = names.as_path().to_owned();
    if below && names.next().is_some() && path.components().all(|c| matches!(c, Component::Normal(_))) {
        return Ok(path);
    }
    // The folder itself may be listed.
    if below && path.as_os_str().is_empty() && entry.header().entry_type() == EntryType::Directory {
        return Ok(path);
    }
    Err(Error::Refused { path: full, what: "a path outside of the package" })
}

/// Makes the folder and those above it that are missing; one that is there is left as it is.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_folder(above)?;
    }
    DirBuilder::new().mode(FOLDER_MODE).create(path)?;
    // The umask may have taken bits away; other users may read what everybody can fetch.
    fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))
}

fn write_file(from: &mut impl io::Read, path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent() {
        make_folder(above)?;
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(from, &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::os::unix::fs::MetadataExt as _;
    use tar::{Builder, Header};

    /// A tarball with these entries: path as it stands, kind, mode, content (a link's target).
    pub fn tarball(folder: &Path, entries: &[(&str, EntryType, u32, &str)]) -> (PathBuf, String) {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for &(path, kind, mode, content) in entries {
            let mut header = Header::new_gnu();
            // set_path refuses what a hostile package would have.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(mode);
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            header.set_size(if link { 0 } else { content.len() as u64 });
            if link {
                header.set_link_name(content).unwrap();
            }
            header.set_cksum();
            builder.append(&header, if link { &b""[..] } else { content.as_bytes() }).unwrap();
        }
        let bytes = builder.into_inner().unwrap().finish().unwrap();
        let path = folder.join("package.tgz");
        fs::write(&path, &bytes).unwrap();
        (path, format!("sha512-{}", STANDARD.encode(Sha512::digest(&bytes))))
    }

    fn refusal(entries: &[(&str, EntryType, u32, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = tarball(dir.path(), entries);
        let result = unpack(&mut File::open(path).unwrap(), &dir.path().join("a/b"), "agent");
        assert!(!dir.path().join("evil").exists() && !dir.path().join("a/evil").exists());
        result.err().map(|e| e.to_string())
    }

    #[test]
    fn a_good_package_is_unpacked_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [
            ("package/agent", EntryType::Regular, 0o755, "ELF"),
            ("package/doc/README", EntryType::Regular, 0o666, ""),
        ];
        let (path, integrity) = tarball(dir.path(), &entries);
        let mut file = File::open(path).unwrap();
        verify(&mut file, &integrity).unwrap();
        let into = dir.path().join("out");
        unpack(&mut file, &into, "agent").unwrap();
        assert_eq!(fs::read(into.join("agent")).unwrap(), b"ELF");
        assert_eq!(fs::metadata(into.join("agent")).unwrap().mode() & 0o7777, PROGRAM_MODE);
        assert_eq!(fs::metadata(into.join("doc/README")).unwrap().mode() & 0o7777, FILE_MODE);
        assert_eq!(fs::metadata(into.join("doc")).unwrap().mode() & 0o7777, FOLDER_MODE);
    }

    #[test]
    fn one_changed_byte_is_another_hash() {
        let dir = tempfile::tempdir().unwrap();
        let (path, integrity) = tarball(dir.path(), &[("package/agent", EntryType::Regular, 0o755, "ELF")]);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = verify(&mut File::open(path).unwrap(), &integrity).unwrap_err();
        assert!(matches!(error, Error::Integrity(found) if found != integrity));
    }

    #[test]
    fn what_no_package_should_hold_is_refused() {
        let outside = "a path outside of the package";
        let kind = "neither a plain file nor a folder";
        let cases: &[(&str, EntryType, u32, &str, &str)] = &[
            ("package/../../evil", EntryType::Regular, 0o644, "x", outside),
            ("package/..", EntryType::Directory, 0o755, "", outside),
            ("../evil", EntryType::Regular, 0o644, "x", outside),
            ("/package/evil", EntryType::Regular, 0o644, "x", outside),
            ("evil", EntryType::Regular, 0o644, "x", outside),
            ("package", EntryType::Regular, 0o644, "x", outside),
            ("package/evil", EntryType::Symlink, 0o777, "/etc/passwd", kind),
            ("package/evil", EntryType::Link, 0o644, "package/agent", kind),
            ("package/evil", EntryType::Fifo, 0o644, "", kind),
            ("package/evil", EntryType::Char, 0o644, "", kind),
            ("package/evil", EntryType::Regular, 0o4755, "x", "a set-id or sticky bit"),
            ("package/evil", EntryType::Regular, 0o2755, "x", "a set-id or sticky bit"),
            ("package/evil", EntryType::Directory, 0o1777, "", "a set-id or sticky bit"),
        ];
        for &(path, entry, mode, content, why) in cases {
            let said = refusal(&[(path, entry, mode, content)]).unwrap_or_default();
            assert!(said.ends_with(why), "{path} {entry:?} {mode:o}: {said:?}");
        }
        // The control: the same shape with nothing wrong.
        assert_eq!(refusal(&[("package/good", EntryType::Regular, 0o755, "x")]), None);
        assert_eq!(
            refusal(&[("package/", EntryType::Directory, 0o755, ""), ("package/a", EntryType::Regular, 0o644, "x")]),
            None
        );
    }

    #[test]
    fn a_file_listed_twice_is_refused() {
        let twice = ("package/agent", EntryType::Regular, 0o755, "x");
        assert!(refusal(&[twice, twice]).is_some());
    }
}
