//! Files and folders of the host that come along besides the project: toolchains, and what `--ro` and `--rw` name. Each
//! is opened once, through no link, and mounted at its own place; the hook compares device and inode.

use crate::beneath;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether the agent may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may not.
    ReadOnly,
    /// It may.
    Writable,
}

/// Something that comes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its real place, the same inside and outside.
    pub path: PathBuf,
    /// Whether the agent may write.
    pub access: Access,
    /// Its device, by which the hook recognises it.
    pub device: u64,
    /// Its inode; see `device`.
    pub inode: u64,
    /// Whose it is.
    pub owner: u32,
}

impl Added {
    /// Opens an absolute path, through no link.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        let root = File::open("/")?;
        let opened = beneath::open(&root, path.strip_prefix("/").unwrap_or(path), beneath::PLACE)?;
        Self::of(path, access, &opened)
    }

    /// Something that is open already.
    pub fn of(path: &Path, access: Access, opened: &OwnedFd) -> io::Result<Self> {
        let about = File::from(opened.try_clone()?).metadata()?;
        Ok(Self { path: path.to_owned(), access, device: about.dev(), inode: about.ino(), owner: about.uid() })
    }
}
