//! The machine's resolv.conf, for workers, which can open no file: a copy in memory, that they have a descriptor to read by.

use rcc_host::resolv_conf::{LONGEST, RESOLV_CONF};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The copy.
#[derive(Debug)]
pub struct ResolvConf {
    copy: File,
    readable: OwnedFd,
    text: Vec<u8>,
    looked: Instant,
}

impl ResolvConf {
    /// As it is now.
    pub fn read() -> io::Result<Self> {
        let (copy, readable) = crate::system::nameless(c"resolv.conf")?;
        let mut this = Self { copy, readable, text: Vec::new(), looked: Instant::now() };
        this.look();
        Ok(this)
    }

    /// Takes over what has changed, if that was not done within the last second.
    pub fn follow(&mut self) {
        if self.looked.elapsed() >= EVERY {
            self.look();
        }
    }

    /// Takes over what has changed. One that can't be read is empty, so that nobody is asked by an old one.
    pub fn look(&mut self) {
        self.looked = Instant::now();
        let mut text = rcc_host::trusted::read_plain(Path::new(RESOLV_CONF)).unwrap_or_default();
        text.truncate(LONGEST);
        if text != self.text {
            // A reader between the two sees an empty file, or the beginning of the new one, and reads it anew for each query.
            let written = self.copy.set_len(0).and_then(|()| self.copy.write_all_at(&text, 0));
            self.text = if written.is_ok() { text } else { Vec::new() };
        }
    }

    /// A descriptor that only reads.
    pub fn readable(&self) -> io::Result<OwnedFd> {
        self.readable.try_clone()
    }
}
