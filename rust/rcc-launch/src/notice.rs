//! When to look at the project again: at once where the kernel says that something changed, now and then in any case, and
//! never so often that looking takes a noticeable share of the processor.

use crate::beneath;
use crate::project::Project;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often one looks where nothing was said.
const EVERY: Duration = Duration::from_millis(200);
/// A look that took a millisecond is followed by so many without one: an agent can make things change without end.
const REST: u32 = 10;
/// Reads of what was said before a look; what is left then is for the next one.
const READS: usize = 8;
/// Folders that are watched.
const FOLDERS: usize = 200;

/// The rest of a look that can take long by itself, so that no other look waits for it.
#[derive(Default)]
pub struct Pace {
    until: Option<Instant>,
}

impl Pace {
    /// Looks, unless the last look's rest is not over; None then, too.
    pub fn look<T>(&mut self, look: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let began = Instant::now();
        let found = look();
        self.until = Some(Instant::now() + began.elapsed() * REST);
        found
    }
}

/// The time of the next look.
pub struct Notice {
    /// None where the kernel gives none; then one looks now and then.
    inotify: Option<Inotify>,
    changed: bool,
    ended: Instant,
    took: Duration,
}

impl Notice {
    /// Watches folders of git's own, where an index may also be written in place, and those in which a name may appear.
    pub fn new<'a>(project: &Project, git: impl Iterator<Item = &'a Path>, absent: &[PathBuf]) -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let this = Self { inotify, changed: true, ended: Instant::now(), took: Duration::ZERO };
        this.watch(project, git, absent);
        this
    }

    /// Watches another folder as well.
    pub fn watch<'a>(&self, project: &Project, git: impl Iterator<Item = &'a Path>, absent: &[PathBuf]) {
        let appear = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let git: BTreeSet<&Path> = git.collect();
        let above: BTreeSet<&Path> = absent.iter().filter_map(|path| path.parent()).collect();
        let all = git.iter().map(|path| (*path, appear | AddWatchFlags::IN_MODIFY));
        let all = all.chain(above.difference(&git).map(|path| (*path, appear)));
        for (path, what) in all.take(FOLDERS) {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let opened = beneath::open(&project.folder, path, libc::O_PATH | libc::O_DIRECTORY);
            if let (Some(inotify), Ok(folder)) = (&self.inotify, opened) {
                // What can't be watched is looked at now and then.
                let _ = inotify.add_watch(format!("/proc/self/fd/{}", folder.as_raw_fd()).as_str(), what);
            }
        }
    }

    /// What becomes readable when something changes; None once that is known.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().filter(|_| !self.changed).map(AsFd::as_fd)
    }

    /// The agent has ended: one looks now and then. To close what the kernel watches takes it some 20 ms, in which Podman ends.
    pub fn rest(&mut self) {
        if let Some(inotify) = self.inotify.take() {
            std::thread::spawn(move || drop(inotify));
        }
    }

    /// Something changed.
    pub fn hear(&mut self) {
        self.changed = true;
    }

    /// How long until the next look.
    #[must_use]
    pub fn left(&self) -> Duration {
        let rest = self.took * REST;
        let pause = if self.changed { rest } else { EVERY.max(rest) };
        (self.ended + pause).saturating_duration_since(Instant::now()).min(EVERY)
    }

    /// Whether it is time.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let rest = self.took * REST;
        self.ended.elapsed() >= if self.changed { rest } else { EVERY.max(rest) }
    }

    /// Takes what was said so far, looks, and remembers how long that took.
    pub fn look<T>(&mut self, look: impl FnOnce() -> T) -> T {
        // Not to the end at any price: an agent that writes without pause would hold this process there.
        self.changed = (0..READS).all(|_| self.inotify.as_ref().is_some_and(|i| i.read_events().is_ok()));
        let began = Instant::now();
        let found = look();
        self.ended = Instant::now();
        self.took = began.elapsed();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_look_rests_by_itself() {
        let mut pace = Pace::default();
        let slow = || {
            std::thread::sleep(Duration::from_millis(40));
            Some(())
        };
        assert!(pace.look(slow).is_some() && pace.look(slow).is_none());
        let project =
            Project { path: "/".into(), device: 0, inode: 0, folder: std::fs::File::open("/").unwrap().into() };
        let mut notice = Notice::new(&project, std::iter::empty(), &[]);
        // As a session does it: the quick look is due again at once, whatever the slow one takes.
        for _ in 0..3 {
            let _found: Option<()> = notice.look(|| None).or_else(|| pace.look(slow));
            notice.hear();
            assert!(notice.left() < Duration::from_millis(20), "{:?}", notice.left());
        }
        std::thread::sleep(Duration::from_millis(450));
        assert!(pace.look(slow).is_some());
    }
}
