//! Git's index, as far as it names other repositories (gitformat-index(5), versions 2 to 4). Pure.
//!
//! A gitlink is an entry of mode 160000: `git status` at the top goes into the repository at its path, and acts on that
//! one's configuration.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bytes of an entry before its object's name: times, device, inode, mode, owner, size.
const FIXED: usize = 40;
/// Where the mode is in them.
const MODE: usize = 24;
const GITLINK: u32 = 0o160_000;
const FOLDER: u32 = 0o040_000;
const KIND: u32 = 0o170_000;
/// An entry's flags: another 16 bits follow.
const EXTENDED: u16 = 0x4000;

/// The bits of an entry's flags that hold its path's length; all of them for any longer one.
const LENGTH: u16 = 0x0fff;
/// Bytes that a path may have, and gitlinks that an index may name: an index says both in few bytes.
const PATH_LIMIT: usize = 4096;
const LINK_LIMIT: usize = 10_000;

/// What is looked for in an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Paths of gitlinks, relative to the worktree, as they stand there: a hostile index may have any bytes.
    pub links: Vec<PathBuf>,
    /// A split index: the file `sharedindex.NAME` beside it has further entries.
    pub shared: Option<String>,
    /// It names folders instead of what they hold, so not every gitlink stands in it.
    pub sparse: bool,
}

/// The text is no index that git would read.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads an index whose object names have `hash` bytes (20, or 32 with SHA-256).
pub fn parse(text: &[u8], hash: usize) -> Result<Index, Malformed> {
    let mut rest = Reader { text, at: 0 };
    if rest.take(4)? != b"DIRC" {
        return Err(Malformed);
    }
    let version = rest.u32()?;
    if !(2..=4).contains(&version) {
        return Err(Malformed);
    }
    let count = rest.u32()?;
    let (mut index, mut path) = (Index::default(), Vec::new());
    let mut entries = Vec::new();
    for _ in 0..count {
        let start = rest.at;
        let mut copied = 0;
        let fixed = rest.take(FIXED)?;
        let mode = u32::from_be_bytes(fixed[MODE..MODE + 4].try_into().map_err(|_| Malformed)?);
        rest.take(hash)?;
        let flags = rest.u16()?;
        if flags & EXTENDED != 0 {
            rest.take(2)?;
        }
        if version == 4 {
            // The path is the one before, less so many bytes at its end, and what follows.
            let less = rest.offset()?;
            copied = path.len().checked_sub(less).ok_or(Malformed)?;
            path.truncate(copied);
            path.extend_from_slice(rest.word()?);
        } else {
            rest.word()?.clone_into(&mut path);
            // One to eight zero bytes, so that an entry has a multiple of eight; one is taken.
            let length = rest.at - 1 - start;
            rest.take(8 - length % 8 - 1)?;
        }
        // Git goes to the next entry by the length that is said here: with another one it would read other entries.
        let said = usize::from(flags & LENGTH);
        let true_to_it = said == path.len().min(LENGTH.into());
        if !true_to_it || path.len() > PATH_LIMIT || index.links.len() == LINK_LIMIT {
            return Err(Malformed);
        }
        entries.push((start, copied));
        index.sparse |= mode & KIND == FOLDER;
        if mode & KIND == GITLINK {
            index.links.push(PathBuf::from(OsStr::from_bytes(&path)));
        }
    }
    let end = rest.at;
    // Extensions, and a checksum at the end.
    while text.len().saturating_sub(rest.at) > hash {
        let name = rest.take(4)?;
        let length = usize::try_from(rest.u32()?).map_err(|_| Malformed)?;
        let body = rest.take(length)?;
        if name == b"EOIE" && body.get(..4) != Some(&u32::try_from(end).map_err(|_| Malformed)?.to_be_bytes()) {
            return Err(Malformed);
        }
        index.sparse |= name == b"sdir";
        if name == b"IEOT" {
            blocks(body, &entries)?;
        }
        if name == b"link" {
            let name = body.get(..hash).ok_or(Malformed)?;
            if name.iter().any(|b| *b != 0) {
                let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
                index.shared = Some(name.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect());
            }
        }
    }
    Ok(index)
}

/// Git may read an index in threads, each from where this table says: it must say where the entries really begin, each
/// block with a path of its own.
fn blocks(table: &[u8], entries: &[(usize, usize)]) -> Result<(), Malformed> {
    let mut rest = Reader { text: table, at: 0 };
    if rest.u32()? != 1 {
        return Err(Malformed);
    }
    let mut next = 0;
    while rest.at < table.len() {
        let (offset, count) = (rest.u32()?, rest.u32()?);
        let begins =
            entries.get(next).is_some_and(|(start, copied)| u32::try_from(*start) == Ok(offset) && *copied == 0);
        if !begins || count == 0 {
            return Err(Malformed);
        }
        next = usize::try_from(count).ok().and_then(|count| next.checked_add(count)).ok_or(Malformed)?;
    }
    if next == entries.len() { Ok(()) } else { Err(Malformed) }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.text.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().map_err(|_| Malformed)?))
    }

    /// Up to a zero byte, which is taken too.
    fn word(&mut self) -> Result<&'a [u8], Malformed> {
        let left = self.text.get(self.at..).ok_or(Malformed)?;
        let length = left.iter().position(|b| *b == 0).ok_or(Malformed)?;
        let word = self.take(length)?;
        self.take(1)?;
        Ok(word)
    }

    /// A number as in a pack's offset (gitformat-pack(5), `OFS_DELTA`).
    fn offset(&mut self) -> Result<usize, Malformed> {
        let mut byte = self.take(1)?[0];
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            value = value.checked_add(1).and_then(|v| v.checked_mul(128)).ok_or(Malformed)? + usize::from(byte & 0x7f);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use std::process::Command;

    fn git(folder: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.arg("-C").arg(folder).args(arguments).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        assert!(command.status().unwrap().success(), "{arguments:?}");
    }

    fn repository(format: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--object-format", format]);
        std::fs::create_dir_all(dir.path().join("deep/er")).unwrap();
        for n in 0..60 {
            std::fs::write(dir.path().join(format!("deep/er/file{n}")), "").unwrap();
        }
        git(dir.path(), &["add", "."]);
        let id = "1".repeat(if format == "sha256" { 64 } else { 40 });
        for path in ["lib", "deep/er/module", "deep/z"] {
            git(dir.path(), &["update-index", "--add", "--cacheinfo", &format!("160000,{id},{path}")]);
        }
        dir
    }

    #[test]
    fn gitlinks_of_each_version_as_git_writes_it() {
        let expected = ["deep/er/module", "deep/z", "lib"].map(PathBuf::from);
        for (format, hash) in [("sha1", 20), ("sha256", 32)] {
            let dir = repository(format);
            let index = || std::fs::read(dir.path().join(".git/index")).unwrap();
            for version in ["2", "3", "4"] {
                // Version 3 is written only where an entry needs it.
                git(dir.path(), &["update-index", "--index-version", version]);
                if version == "3" {
                    std::fs::write(dir.path().join("later"), "").unwrap();
                    git(dir.path(), &["add", "-N", "later"]);
                }
                assert_eq!(
                    parse(&index(), hash).unwrap(),
                    Index { links: expected.to_vec(), shared: None, sparse: false }
                );
            }
            git(dir.path(), &["update-index", "--split-index"]);
            let split = parse(&index(), hash).unwrap();
            let shared = dir.path().join(format!(".git/sharedindex.{}", split.shared.unwrap()));
            assert_eq!(parse(&std::fs::read(shared).unwrap(), hash).unwrap().links, expected);
        }
    }

    #[test]
    fn a_sparse_index_is_known_as_one() {
        let dir = repository("sha1");
        git(dir.path(), &["update-index", "--force-remove", "deep/er/module"]);
        git(dir.path(), &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "1"]);
        let sparse = || parse(&std::fs::read(dir.path().join(".git/index")).unwrap(), 20).unwrap().sparse;
        assert!(!sparse());
        git(dir.path(), &["sparse-checkout", "set", "--cone", "--sparse-index", "none"]);
        assert!(sparse());
        git(dir.path(), &["sparse-checkout", "reapply", "--no-sparse-index"]);
        assert!(!sparse());
    }

    /// An entry that says another length than its path has: git would find the next one elsewhere.
    #[test]
    fn a_length_that_is_not_the_paths_is_refused() {
        for version in ["2", "4"] {
            let dir = repository("sha1");
            git(dir.path(), &["update-index", "--index-version", version]);
            let text = std::fs::read(dir.path().join(".git/index")).unwrap();
            assert!(parse(&text, 20).is_ok());
            let flags = 12 + FIXED + 20;
            let mut other = text.clone();
            other[flags + 1] = other[flags + 1].wrapping_add(8);
            assert_eq!(parse(&other, 20), Err(Malformed));
        }
    }

    /// What git finds by its table of blocks is what is found without.
    #[test]
    fn a_table_of_blocks_must_be_true() {
        let dir = repository("sha1");
        for version in ["2", "4"] {
            let threads = ["-c", "index.threads=2", "-c", "index.recordOffsetTable=true", "-c"];
            let eoie =
                [&threads[..], &["index.recordEndOfIndexEntries=true", "update-index", "--force-write-index"]].concat();
            git(dir.path(), &["update-index", "--index-version", version]);
            git(dir.path(), &eoie);
            let text = std::fs::read(dir.path().join(".git/index")).unwrap();
            assert!(parse(&text, 20).is_ok(), "{version}");
            for table in [&b"EOIE"[..], b"IEOT"] {
                let Some(at) = text.windows(4).position(|w| w == table) else { continue };
                let mut other = text.clone();
                // Behind name and length, and the table's own version.
                other[at + if table == b"EOIE" { 11 } else { 15 }] ^= 1;
                assert_eq!(parse(&other, 20), Err(Malformed), "{version}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in proptest::collection::vec(any::<u8>(), 0..400), version in 2_u32..5) {
            let _ = parse(&text, 20);
            let mut index = b"DIRC".to_vec();
            index.extend(version.to_be_bytes());
            index.extend(3_u32.to_be_bytes());
            index.extend(&text);
            let _ = parse(&index, 20);
        }
    }
}
