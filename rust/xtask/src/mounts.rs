//! What is mounted below a folder: before a folder is removed with all that is in it, nothing may be.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// The mount points at or below the folder, in this namespace. The folder's own path has no link in it, and no character
/// that mountinfo escapes.
pub fn below(folder: &Path) -> Result<Vec<String>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    Ok(listed_below(&mountinfo, folder))
}

fn listed_below(mountinfo: &str, folder: &Path) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_in_the_folder_is_seen_and_one_beside_it_is_not() {
        let text =
            "36 35 98:0 / /tmp/rcc-test-a/x rw - ext4 /dev/a rw\n37 35 98:0 / /tmp/rcc-test-ab rw - ext4 /dev/a rw\n";
        assert_eq!(listed_below(text, Path::new("/tmp/rcc-test-a")), ["/tmp/rcc-test-a/x"]);
    }
}
