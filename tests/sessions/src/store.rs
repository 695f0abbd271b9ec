//! A Nix store in a world, for real Nix without a network: /nix is a memory file system of the world's, and what a devShell
//! needs comes from this machine's static programs.

use crate::{root, user};
use anyhow::Result;
use rcc_rig::Rig;
use std::fs;

/// How the user's own Nix is called by the tests: as rcc calls it, less what rcc's own settings are to show.
pub const NIX: &str =
    "export NIX_REMOTE=local NIX_USER_CONF_FILES=/dev/null NIX_CONFIG='extra-experimental-features = nix-command flakes
substituters ='";

/// Whose a store is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The user's alone.
    User,
    /// Root's, with a daemon; its sandbox is on.
    Daemon,
}

/// A store with a shell and tools in it.
pub struct Store {
    /// A flake's `let` that has `bash`, `tools`, `glibc` and `nix`, by the hashes of what is in the store.
    pub bindings: String,
}

impl Store {
    /// Makes a single-user store.
    pub fn make(rig: &Rig<'_>) -> Result<Self> {
        Self::of(rig, Owner::User)
    }

    /// Makes a store. A program that notes each call stands before the machine's Nix.
    pub fn of(rig: &Rig<'_>, owner: Owner) -> Result<Self> {
        root(
            "mkdir -p /nix; mount -t tmpfs -o mode=0755 none /nix; mkdir /nix/store /nix/var
            mkdir -p /usr/libexec/real; cp -a /usr/bin/nix /usr/libexec/real/nix; ln -s nix /usr/libexec/real/nix-daemon; rm /usr/bin/nix
            printf '#!/bin/bash\\n[ $0 != /usr/bin/nix ] || echo \"$*\" >>/run/nix-calls\\nexec -a $0 /usr/libexec/real/nix \"$@\"\\n' >/usr/bin/nix
            chmod 755 /usr/bin/nix; touch /run/nix-calls; chmod 666 /run/nix-calls
            mkdir -p /etc/nix; echo 'substituters =' >/etc/nix/nix.conf",
        )?;
        let script = format!(
            "{NIX}
            d=$(mktemp -d); cd $d; mkdir -p bash/bin tools/bin glibc/lib nix/bin nix/lib
            cp /usr/bin/bash-static bash/bin/bash; cp /usr/bin/busybox tools/bin
            for name in $(busybox --list); do [ $name = busybox ] || [ $name = sh ] || [ $name = bash ] || ln -s busybox tools/bin/$name; done
            cd /lib/$(uname -m)-linux-gnu; cp ld-linux-*.so.? libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 $d/glibc/lib; cd $d
            cp /usr/libexec/real/nix nix/bin; for name in nix-store nix-build build-remote; do ln -s nix nix/bin/$name; done
            cp $(ldd /usr/libexec/real/nix | grep -o '/[^ ]*' | grep -v -e ld-linux -e 'lib\\(c\\|m\\).so') nix/lib
            for name in bash tools glibc nix; do /usr/libexec/real/nix store add-path --name $name $name >&2; /usr/libexec/real/nix hash path $name; done
            rm -r $d"
        );
        let hashes = match owner {
            Owner::User => {
                root("chown dev /nix /nix/store /nix/var")?;
                user(rig, &script)?
            }
            Owner::Daemon => {
                let hashes = root(&script)?;
                root(
                    "printf 'sandbox = true\\nsandbox-fallback = false\\nbuild-users-group =\\n' >>/etc/nix/nix.conf
                    setsid -f /usr/libexec/real/nix-daemon </dev/null >/dev/null 2>&1
                    while [ ! -S /nix/var/nix/daemon-socket/socket ]; do sleep 0.1; done",
                )?;
                hashes
            }
        };
        let mut hashes = hashes.lines();
        let mut next = || hashes.next().unwrap_or_default().to_owned();
        // What is in the store by its hash need not be built.
        let bindings = format!(
            "system = \"{}-linux\";
            fixed = name: hash: derivation {{ inherit name system; builder = \"none\"; outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; outputHash = hash; }};
            bash = fixed \"bash\" \"{}\"; tools = fixed \"tools\" \"{}\"; glibc = fixed \"glibc\" \"{}\"; nix = fixed \"nix\" \"{}\";
            shell = attributes: derivation ({{ name = \"dev\"; inherit system; builder = \"${{bash}}/bin/bash\"; outputs = [ \"out\" ]; stdenv = \"\"; PATH = \"${{tools}}/bin:${{bash}}/bin\"; }} // attributes);",
            std::env::consts::ARCH,
            next(),
            next(),
            next(),
            next()
        );
        Ok(Self { bindings })
    }

    /// A flake with this devShell (attributes of a derivation), and more bindings.
    #[must_use]
    pub fn flake(&self, more: &str, attributes: &str) -> String {
        format!(
            "{{ outputs = {{ self }}: let {} {more} in {{ devShells.${{system}}.default = shell {{ {attributes} }}; }}; }}\n",
            self.bindings
        )
    }
}

/// Nix's calls so far, a line each.
pub fn nix_calls() -> Result<Vec<String>> {
    Ok(fs::read_to_string("/run/nix-calls")?.lines().map(str::to_owned).collect())
}
