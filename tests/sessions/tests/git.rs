//! git in a session, and git on the host beside one.

use rcc_rig::Rig;
use rcc_rig::daily;
use rcc_sessions::SETUP;
use rcc_world::inside_with;
use std::path::Path;

#[test]
fn what_is_done_every_day_works_or_says_what_to_do() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        daily::git::table(&rig, Path::new("/usr/bin"))?.holds()
    });
}

/// Where the machine has another git than the distribution's.
#[test]
fn the_same_with_the_newest_git_at_hand() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let newest = ["/usr/local/bin", "/usr/bin"].map(Path::new).into_iter().find(|f| f.join("git").exists());
        daily::git::table(&rig, newest.unwrap_or(Path::new("/usr/bin")))?.holds()
    });
}
