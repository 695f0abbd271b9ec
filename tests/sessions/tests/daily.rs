//! The tables of `cargo xtask daily` that have no test of their own elsewhere.

use rcc_rig::Rig;
use rcc_sessions::SETUP;
use rcc_sessions::daily::{refusals, terminal};
use rcc_world::inside_with;

#[test]
fn at_a_terminal() {
    inside_with(SETUP, |world| terminal::table(&Rig::start(world, &[], "")?)?.holds());
}

#[test]
fn bad_input_is_refused() {
    inside_with(SETUP, |world| refusals::table(&Rig::start(world, &[], "")?)?.holds());
}

#[test]
fn what_is_not_there_is_said() {
    inside_with(SETUP, |world| refusals::not_there(&Rig::start(world, &[], "")?)?.holds());
}

#[test]
fn toolchains_and_folders() {
    inside_with(SETUP, |world| refusals::choices(&Rig::start(world, &[], "")?)?.holds());
}
