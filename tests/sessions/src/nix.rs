//! rcc's own flake in a world, by real Nix, with the stand-ins of tests/nix for its inputs.

use crate::store::NIX;
use crate::{refused, root, succeeds, user};
use anyhow::{Context, Result};
use rcc_rig::{Rig, make_folder};
use std::path::{Path, PathBuf};
use std::process::Command;

const SETTINGS: &str = "experimental-features = nix-command flakes\nsandbox = false\nbuild-users-group =\nsubstituters =\n\
    flake-registry =\ndownload-attempts = 1\n";

/// Names the folder of [`sources`].
pub const SOURCES: &str = "RCC_TEST_NIX_SOURCES";

/// The user's own Nix, as [`NIX`] says.
fn call() -> String {
    format!("{NIX}; export PATH=/usr/libexec/real:$PATH")
}

/// The flake, with the stand-ins for its inputs.
pub struct Nix {
    /// The flake.
    pub flake: PathBuf,
    /// tests/nix of it.
    pub stand_ins: PathBuf,
}

impl Nix {
    /// What packages have are static programs, which run where nothing else of the machine is; with a C library for those
    /// that are not, and what stands for nix-ld.
    pub fn new(rig: &Rig<'_>) -> Result<Self> {
        let folder = rig.user.home.join("nix");
        let nix = Self { flake: folder.join("flake"), stand_ins: folder.join("flake/tests/nix") };
        make_folder(&folder, &rig.user)?;
        let root_of = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("a workspace")?;
        root(&format!(
            "mkdir -p {0}/tests; cd {1}
            cp -r flake.nix flake.lock Cargo.toml Cargo.lock README.md docs nix apps checks modules templates rust {0}/
            cp -r tests/nix {0}/tests/; chmod -R a+rX {0}; cd {2}/nixpkgs
            cc -O1 -nostdlib -static-pie -fpie -ffreestanding -fno-stack-protector -o nix-ld {2}/nix-ld.c
            [ -z \"${{{SOURCES}-}}\" ] || cp ${SOURCES}/bin/nix-ld nix-ld
            mkdir -p static/bin static/lib; cd static/bin; cp /usr/bin/bash-static bash; cp /usr/bin/busybox .
            for name in $(busybox --list); do [ -e $name ] || ln -s busybox $name; done
            cd ../lib; cp -L /lib*/ld-linux-*.so.* .; cd /lib/$(uname -m)-linux-gnu
            cp -L libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libgcc_s.so.1 libz.so.1 {2}/nixpkgs/static/lib
            cp -L /usr/lib/$(uname -m)-linux-gnu/libstdc++.so.6 {2}/nixpkgs/static/lib",
            nix.flake.display(),
            root_of.display(),
            nix.stand_ins.display()
        ))?;
        Ok(nix)
    }

    /// Puts the stand-in's content into the store, so that a locked input of it is not fetched; gives its hash.
    pub fn locked(&self, rig: &Rig<'_>) -> Result<String> {
        let nixpkgs = self.stand_ins.join("nixpkgs");
        let hash =
            format!("{}; nix store add-path --name source {1} >&2; nix hash path {1}", call(), nixpkgs.display());
        Ok(user(rig, &hash)?.trim().to_owned())
    }

    /// Initialises a template in a folder, locked by that hash, and enters it for a tool.
    pub fn template(&self, rig: &Rig<'_>, folder: &Path, name: &str, tool: &str, hash: &str) -> Result<()> {
        let script = format!(
            "{2}; mkdir -p {0}; cd {0}; nix flake init -t path:{1}#{name}
            sed -i 's|\"narHash\": \".*\"|\"narHash\": \"{hash}\"|' flake.lock; cp flake.lock ~/before
            nix develop --no-update-lock-file -c bash -c 'type -p {tool}' | grep ^/nix/store; cmp flake.lock ~/before",
            folder.display(),
            self.flake.display(),
            call()
        );
        user(rig, &script).map(drop)
    }

    /// Puts this machine's own Node and Python among the static programs: dynamic, as Nix did not build them, with all of
    /// their libraries but the C library beside what packages have.
    pub fn foreign(&self) -> Result<()> {
        root(&format!(
            "cd {}/nixpkgs/static; python=$(readlink -f /usr/bin/python3); version=$(basename $python)
            rm -f bin/python3 bin/node bin/npm bin/env; cp /usr/bin/env bin/; cp $python bin/$version; ln -s $version bin/python3; cp -L /usr/bin/node bin/node
            npm=$(readlink -f /usr/bin/npm); cp -rL ${{npm%/bin/*}} lib/npm; ln -s ../lib/npm/bin/npm-cli.js bin/npm
            cp -rL /usr/lib/$version lib/; rm -rf lib/$version/test lib/$version/config-*; mkdir share; cp -r /usr/share/python-wheels share/
            for library in $(ldd bin/node bin/$version lib/$version/lib-dynload/*.so | grep -o '/[^ ]*' | grep -v : | sort -u); do cp -Ln $library lib/; done",
            self.stand_ins.display()
        ))
        .map(drop)
    }

    /// Says where builds find programs; and the product's programs and the agent, or that there are none.
    pub fn host(&self, path: &str, programs: &str, agents: &str) -> Result<()> {
        let more = sources().map_or_else(|_| String::new(), |folder| format!(":{}", folder.join("bin").display()));
        let host = format!(
            "{{ path = \"{path}\"; tools = \"${{./static}}/bin{more}\"; bash = \"${{./static}}/bin/bash\"; programs = {programs:?}; \
             agents = {agents:?}; libraries = \"${{./static}}/lib\"; nixLd = \"${{./nix-ld}}\"; cargoHome = \"\"; \
             rustupHome = \"\"; cargoTarget = \"\"; }}\n"
        );
        Ok(std::fs::write(self.stand_ins.join("nixpkgs/host.nix"), host)?)
    }

    /// An app of rcc's own flake.
    #[must_use]
    pub fn run(&self, rig: &Rig<'_>, app: &str, words: &[&str]) -> Command {
        let app = format!("path:{}#{app}", self.flake.display());
        self.run_of(rig, &app, &["nixpkgs", "nix2container"], words)
    }

    /// What a flake starts, with stand-ins for these inputs, by the user's own Nix.
    #[must_use]
    pub fn run_of(&self, rig: &Rig<'_>, app: &str, inputs: &[&str], words: &[&str]) -> Command {
        let mut command = rig.command("/usr/libexec/real/nix");
        command.env("NIX_CONFIG", SETTINGS).env("NIX_USER_CONF_FILES", "/dev/null").env("NIX_REMOTE", "local");
        command.args(["run", app]);
        for input in inputs {
            let stand_in = self.stand_ins.join(input.trim_start_matches("rcc/"));
            command.args(["--override-input", input, &format!("path:{}", stand_in.display())]);
        }
        command.arg("--").args(words).env("ANTHROPIC_API_KEY", &rig.world.at.model_keys.api_key);
        command
    }
}

/// What this machine can't fetch, brought to a folder: `cargo xtask nix --sources` makes it, and runs what needs it.
pub fn sources() -> Result<PathBuf> {
    Ok(std::env::var_os(SOURCES).context("use cargo xtask nix --sources")?.into())
}

/// Has the user approve the flake of a folder as it is.
pub fn approve(rig: &Rig<'_>, folder: &Path) -> Result<()> {
    let approve = || {
        let mut command = rig.rcc(["toolchain", "approve"]);
        command.current_dir(folder);
        command
    };
    let said = refused(approve(), "RCC-807")?;
    let content = said.split("--content ").nth(1).and_then(|s| s.split_whitespace().next()).context("a hash")?;
    succeeds(&approve().args(["--content", content]).output()?).map(drop)
}
