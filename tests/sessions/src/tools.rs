//! Real toolchains of this machine in the home folder of a world's user.

use crate::succeeds;
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use rcc_rig::{Rig, make_folder};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::Command;

/// Gives the user a real rustup: this machine's own toolchain, and rustup's program by all its names.
///
/// To be called before the first session: Podman 4.3's containers see no mount below a folder of theirs that is newer than
/// the process that keeps its namespaces, and the toolchain is one here.
pub fn rustup(rig: &Rig<'_>) -> Result<()> {
    if rig.user.home.join(".rustup/settings.toml").exists() {
        return Ok(());
    }
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc, by rustup")?;
    let toolchain = PathBuf::from(succeeds(&output)?.trim());
    let (name, home) = (toolchain.file_name().context("a toolchain")?, &rig.user.home);
    let here = home.join(".rustup/toolchains").join(name);
    make_folder(&here, &rig.user)?;
    mount(Some(&toolchain), &here, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("the toolchain")?;
    let settings = format!("version = \"12\"\ndefault_toolchain = \"{}\"\n", name.display());
    fs::write(home.join(".rustup/settings.toml"), settings)?;
    let program = Command::new("/bin/sh").args(["-c", "command -v rustup"]).output()?;
    let program = fs::canonicalize(succeeds(&program)?.trim())?;
    let bin = home.join(".cargo/bin");
    make_folder(&bin, &rig.user)?;
    fs::copy(program, bin.join("rustup"))?;
    for name in ["cargo", "rustc", "rustdoc"] {
        symlink("rustup", bin.join(name))?;
    }
    for (file, text) in
        [("credentials.toml", "[registry]\ntoken = \"s3cret\"\n"), ("config.toml", "[term]\nquiet = false\n")]
    {
        let path = home.join(".cargo").join(file);
        fs::write(&path, text)?;
        chown(&path, Some(rig.user.id), Some(rig.user.id))?;
    }
    Ok(())
}
