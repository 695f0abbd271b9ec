//! Whether a process could leave the group that it took.

use rcc_proto::macos::NET_GROUP_ID;
use std::io;

/// The groups that the process has besides.
pub fn besides() -> io::Result<Vec<u32>> {
    // SAFETY: without room the kernel only counts.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut all = vec![0; usize::try_from(count).map_err(|_| io::Error::last_os_error())?];
    // SAFETY: the kernel writes `count` numbers at most.
    let count = unsafe { libc::getgroups(count, all.as_mut_ptr()) };
    all.truncate(usize::try_from(count).map_err(|_| io::Error::last_os_error())?);
    Ok(all)
}

/// A group other than that one which can be taken, of the real one `before` and those besides. The kernel lets a process
/// go back to its real or saved one, so the real one of before is what counts; a Mac's getgroups need not name it.
pub fn way_back(before: u32, besides: &[u32], mut take: impl FnMut(u32) -> bool) -> Option<u32> {
    let others = std::iter::once(before).chain(besides.iter().copied());
    others.filter(|group| *group != NET_GROUP_ID).find(|group| take(*group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_group_of_before_is_tried_whatever_the_list_says() {
        let mut tried = Vec::new();
        let none = way_back(20, &[NET_GROUP_ID, 12], |group| {
            tried.push(group);
            false
        });
        assert_eq!((none, tried), (None, vec![20, 12]));
        assert_eq!(way_back(20, &[], |group| group == 20), Some(20));
        assert_eq!(way_back(NET_GROUP_ID, &[12], |group| group == 12), Some(12));
        assert!(besides().is_ok());
    }
}
