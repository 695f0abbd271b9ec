//! A machine on which rcc was never set up, and what setup made of it: for tests of `rcc setup` itself.

use crate::root;
use anyhow::{Context, Result, ensure};
use rcc_rig::{BINARIES, Rig, USER};
use rcc_world::World;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder that the programs were built in, or a copy of it.
pub fn built() -> Result<PathBuf> {
    Ok(PathBuf::from(std::env::var_os(BINARIES).context("use cargo xtask test")?))
}

/// The machine as it was before anybody set rcc up.
pub fn fresh(world: &World) -> Result<Rig<'_>> {
    let mut rig = Rig::start(world, &["allowed.example:80"], "")?;
    rig.kill_gateway()?;
    ensure!(rig.firewall("remove").status()?.success(), "remove");
    root(
        "rm -rf /etc/rcc /var/log/rcc /run/rcc /run/rcc-firewall.lock /usr/local/bin/rcc /usr/local/libexec/rcc
        userdel rcc; ! getent group rcc",
    )?;
    Ok(rig)
}

/// `rcc ARGS` as somebody calls it by sudo.
pub fn sudo(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(folder.join("rcc"));
    command.args(arguments).env("SUDO_USER", USER);
    Ok(command.output()?)
}

/// Every file, folder and link that setup could touch, with its mode, owner and contents.
pub fn everything() -> Result<String> {
    root("find /etc /usr/local /var/log /run -xdev \\( -path /run/rcc-world -o -path /run/user -o -path /run/libpod \\) -prune -o \\
            -not -name '*-' -not -path '/run/netns*' -printf '%p %y %m %U %G %l ' -type f -exec sha256sum {} + -o -printf '\\n' | grep -v '/run/world' | sort
        nft list ruleset")
}
