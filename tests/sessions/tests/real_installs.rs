//! Small real projects, whose dependencies are installed, built and tested inside a session.

use anyhow::Result;
use rcc_rig::Rig;
use rcc_sessions::daily::installs::{self, WITH_REGISTRIES};
use rcc_world::{World, inside_with};

fn with(world: &World, install: impl Fn(&Rig<'_>) -> Result<()>) -> Result<()> {
    install(&Rig::start(world, &[], "")?)
}

#[test]
fn a_node_project_with_a_native_module() {
    inside_with(WITH_REGISTRIES, |world| with(world, installs::node));
}

#[test]
fn a_python_project_with_a_wheel_and_a_source_build() {
    inside_with(WITH_REGISTRIES, |world| with(world, installs::python));
}

#[test]
fn a_rust_project_with_a_dependency() {
    inside_with(WITH_REGISTRIES, |world| with(world, installs::rust));
}

#[test]
fn a_go_project() {
    inside_with(WITH_REGISTRIES, |world| with(world, installs::go));
}
