//! What npm, pip and uv install in a template's devShell: programs that were not built by Nix, which find their loader by
//! nix-ld and their libraries by the devShell's.
//!
//! Node, Python and what is installed are real. nixpkgs is the stand-in of tests/nix; so is nix-ld, unless it is
//! `cargo xtask nix --sources`.

use anyhow::{Result, ensure};
use rcc_rig::Rig;
use rcc_sessions::daily::installs::{WITH_REGISTRIES, allow, by_the_agent};
use rcc_sessions::nix::{Nix, approve};
use rcc_sessions::store::Store;
use rcc_sessions::{root, user};
use rcc_world::{World, inside_with};

/// A project made by a template, approved.
fn started<'w>(world: &'w World, template: &str, tool: &str) -> Result<Rig<'w>> {
    let rig = Rig::start(world, &[], "")?;
    let _store = Store::make(&rig)?;
    let nix = Nix::new(&rig)?;
    nix.foreign()?;
    nix.host("${./static}/bin", "", "")?;
    let hash = nix.locked(&rig)?;
    nix.template(&rig, &rig.project, template, tool, &hash)?;
    approve(&rig, &rig.project)?;
    Ok(rig)
}

#[test]
fn npm_brings_programs_that_run_in_the_node_template() {
    inside_with(WITH_REGISTRIES, |world| {
        let rig = started(world, "node", "npm")?;
        allow(&rig, "@npm")?;
        let said = by_the_agent(
            &rig,
            "ls -d /usr/bin/node 2>&1 || true; type -p node; npm install --no-audit --no-fund esbuild @biomejs/biome
            echo 'export const x: number = 40 + 2' | node_modules/.bin/esbuild --loader=ts; node_modules/.bin/biome --version",
        )?;
        ensure!(said.contains("/usr/bin/node: No such file") && said.contains("-nodejs/bin/node\n"), "{said}");
        ensure!(said.contains("export const x = 40 + 2;\n") && said.contains("Version: "), "{said}");
        Ok(())
    });
}

/// A Python as `uv python install` has them, made of this machine's: in that layout, at a server of the world's, with a list
/// of what there is. Those of python-build-standalone need the C library alone.
fn mirror(rig: &Rig<'_>) -> Result<()> {
    let files = rig.world.at.files.display();
    let made = root(&format!(
        "cd $(mktemp -d); mkdir -p python/bin python/lib; python=$(readlink -f /usr/bin/python3); version=$(basename $python)
        cp $python python/bin/; cp -rL /usr/lib/$version python/lib/; rm -rf python/lib/$version/test
        tar czf {files}/python.tar.gz python; sha256sum {files}/python.tar.gz | cut -d' ' -f1
        $python -c 'import sys; print(*sys.version_info[:3])'"
    ))?;
    let [hash, version] = &made.lines().collect::<Vec<_>>()[..] else { anyhow::bail!("{made}") };
    let version: Vec<u32> = version.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [major, minor, patch] = version[..] else { anyhow::bail!("{made}") };
    let arch = std::env::consts::ARCH;
    let list = serde_json::json!({ format!("cpython-{major}.{minor}.{patch}-linux-{arch}-gnu"): {
        "name": "cpython", "arch": { "family": arch, "variant": null }, "os": "linux", "libc": "gnu",
        "major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": null, "build": "20260101",
        "url": "http://allowed.example/files/python.tar.gz", "sha256": hash,
    } });
    std::fs::write(rig.project.join("pythons.json"), list.to_string())?;
    Ok(())
}

#[test]
fn pip_and_uv_bring_wheels_and_pythons_that_run_in_the_python_template() {
    inside_with(WITH_REGISTRIES, |world| {
        let rig = started(world, "python", "python3")?;
        mirror(&rig)?;
        rig.policy(&rig.usual_policy(&["@pypi", "allowed.example:80"], ""))?;
        let said = by_the_agent(
            &rig,
            "p=$(readlink -f $(type -p python3)); $p -m venv --without-pip .venv
            PYTHONPATH=$(echo ${p%/bin/*}/share/python-wheels/pip-*.whl) .venv/bin/python -m pip install --quiet numpy uv
            .venv/bin/python -c 'import numpy; print(\"sum\", numpy.arange(10).sum())'
            export PATH=$PWD/.venv/bin:$PATH UV_PYTHON_DOWNLOADS_JSON_URL=$PWD/pythons.json
            uv python install --quiet; uv venv --quiet --managed-python other
            uv pip install --quiet --python other/bin/python numpy
            other/bin/python -c 'import numpy, sys; print(\"managed\", sys.base_prefix, numpy.arange(10).sum())'",
        )?;
        ensure!(said.contains("sum 45\n"), "{said}");
        let managed = format!("managed {}/.local/share/uv/python/cpython-", rig.user.home.display());
        ensure!(said.contains(&managed) && said.trim_end().ends_with(" 45\nit is done"), "{said}");
        ensure!(user(&rig, "ls ~/.local/share/uv 2>/dev/null || true")?.is_empty());
        Ok(())
    });
}
