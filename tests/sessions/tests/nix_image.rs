//! `packages.image` by the real nix2container, which this machine can't fetch: `cargo xtask nix --sources`.

use anyhow::{Context, Result, ensure};
use rcc_rig::{AGENTS, Rig};
use rcc_sessions::nix::{Nix, sources};
use rcc_sessions::store::{NIX, Store};
use rcc_sessions::{SETUP, user};
use rcc_world::inside_with;
use serde_json::Value;

/// The image as Nix makes it now, and its layers' digests.
fn image(rig: &Rig<'_>, nix: &Nix) -> Result<(String, Vec<String>)> {
    let made = user(
        rig,
        &format!(
            "{NIX}; set -o pipefail; export PATH=/usr/libexec/real:$PATH; nix build --no-link --json --option sandbox false path:{0}#image \
                --override-input nixpkgs path:{1}/nixpkgs --override-input nix2container path:{2}/nix2container | jq -r .[0].outputs.out",
            nix.flake.display(),
            nix.stand_ins.display(),
            sources()?.display()
        ),
    )?;
    let made = made.trim().to_owned();
    let text: Value = serde_json::from_str(&std::fs::read_to_string(&made)?)?;
    let layers = text["layers"].as_array().context("no layers")?;
    Ok((made, layers.iter().map(|layer| layer["digest"].to_string()).collect()))
}

#[test]
#[ignore = "cargo xtask nix --sources"]
fn the_image_runs_the_real_agent_and_its_layers_change_by_themselves() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let _store = Store::make(&rig)?;
        let nix = Nix::new(&rig)?;
        nix.host("/usr/local/bin:/usr/bin:/bin", "", &std::env::var(AGENTS).context("use cargo xtask")?)?;
        let (made, layers) = image(&rig, &nix)?;
        // The tools, the agent, and nix2container's own for the image.
        ensure!(layers.len() == 3, "{layers:?}");
        let said = user(
            &rig,
            &format!(
                "mkdir ~/oci; {0}/bin/oci {made} ~/oci; image=$(podman pull --quiet oci:$HOME/oci)
                podman run --rm --network none $image --version
                podman run --rm --network none --entrypoint /bin/bash $image -c 'type -p rg; ls -d /usr/bin/env'",
                sources()?.display()
            ),
        )?;
        ensure!(said.contains("(Claude Code)") && said.contains("/bin/rg\n/usr/bin/env\n"), "{said}");
        // A project is in none; rcc's own source is in none; with another agent the tools' layer stays.
        std::fs::write(nix.flake.join("rust/rcc/src/main.rs"), "fn main() {}\n")?;
        ensure!(image(&rig, &nix)? == (made, layers.clone()), "a layer changed with rcc's source");
        let file = nix.flake.join("nix/claude-code.nix");
        let text =
            std::fs::read_to_string(&file)?.replace("pname = \"claude-code\";", "pname = \"claude-code\"; other = 1;");
        std::fs::write(file, text)?;
        let (_, after) = image(&rig, &nix)?;
        ensure!(after[0] == layers[0] && after[1] != layers[1], "{layers:?} {after:?}");
        Ok(())
    });
}
