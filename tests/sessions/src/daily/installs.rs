//! Small real projects, whose dependencies are installed, built and tested by the agent's own Bash tool, from the
//! registries that the person's own npm, pip and Cargo use: this machine's, through the gateway.

use crate::{SETUP, rustup, succeeds, user};
use anyhow::{Result, ensure};
use rcc_rig::daily::{Inside, Row, Table};
use rcc_rig::{Rig, shown};
use rcc_world::Setup;
use serde_json::Value;

/// A world whose other names are the machine's own network's.
pub const WITH_REGISTRIES: Setup = Setup { outside: true, ..SETUP };

/// Allows a set of hosts and nothing else; it must not be empty.
pub fn allow(rig: &Rig<'_>, set: &str) -> Result<()> {
    rig.policy(&rig.usual_policy(&[set], ""))?;
    let plan: Value = serde_json::from_str(&succeeds(&rig.rcc(["plan", "--json", "--", "true"]).output()?)?)?;
    ensure!(plan["policy"]["allow"].as_array().is_some_and(|all| !all.is_empty()), "{set} asks for nothing: {plan:#}");
    Ok(())
}

/// What the real agent's Bash tool gives back of a script; an error if that did not end with 0.
pub fn by_the_agent(rig: &Rig<'_>, script: &str) -> Result<String> {
    let (output, results) = rig.agent(&[&format!("bash -euo pipefail <<'END' && echo it is done\n{script}\nEND")])?;
    ensure!(results[0].trim_end().ends_with("it is done"), "{}\n{}", results[0], shown(&output));
    Ok(results[0].clone())
}

/// npm: from a lock file, with a build of C++; again from the cache; a program for all projects.
pub fn node(rig: &Rig<'_>) -> Result<()> {
    allow(rig, "@npm")?;
    user(
        rig,
        r#"cat >package.json <<'E'
{ "name": "p", "version": "1.0.0", "private": true, "gypfile": true,
  "dependencies": { "node-addon-api": "^8.0.0", "picocolors": "^1.0.0" }, "scripts": { "test": "node test.js" } }
E
cat >binding.gyp <<'E'
{ "targets": [ { "target_name": "add", "sources": [ "add.cc" ], "defines": [ "NAPI_DISABLE_CPP_EXCEPTIONS" ],
  "include_dirs": [ "<!(node -p \"require('node-addon-api').include_dir\")" ] } ] }
E
cat >add.cc <<'E'
#include <napi.h>
static Napi::Value Add(const Napi::CallbackInfo& i) {
  return Napi::Number::New(i.Env(), i[0].As<Napi::Number>().DoubleValue() + i[1].As<Napi::Number>().DoubleValue());
}
static Napi::Object Init(Napi::Env e, Napi::Object o) { o.Set("add", Napi::Function::New(e, Add)); return o; }
NODE_API_MODULE(add, Init)
E
echo "require('picocolors'); console.log('sum', require('./build/Release/add').add(40, 2))" >test.js"#,
    )?;
    let said = by_the_agent(
        rig,
        "npm install --package-lock-only --ignore-scripts --no-audit; npm ci --no-audit; npm test --silent",
    )?;
    ensure!(said.contains("\nsum 42\n"), "{said}");
    // A second time from the cache in the agent's home, and a program for all projects without root.
    let said = by_the_agent(rig, "npm ci --offline --no-audit; npm install -g --no-audit semver; command -v semver")?;
    ensure!(said.contains(&format!("\n{}\n", rig.user.home.join(".local/bin/semver").display())), "{said}");
    Ok(())
}

/// pip and uv: a wheel, and a build of C.
pub fn python(rig: &Rig<'_>) -> Result<()> {
    allow(rig, "@pypi")?;
    let said = by_the_agent(
            rig,
            "python3 -m venv .venv; . .venv/bin/activate
            pip install --quiet idna
            pip install --quiet --no-binary markupsafe markupsafe
            python -c 'import idna, markupsafe._speedups; print(idna.encode(\"bücher\").decode(), markupsafe.escape(\"<\"))'
            pip install --quiet uv
            uv venv --quiet other
            uv pip install --quiet --python other/bin/python six
            uv pip install --quiet --python other/bin/python --no-binary markupsafe markupsafe
            other/bin/python -c 'import six, markupsafe._speedups; print(six.PY3)'",
        )?;
    ensure!(said.contains("xn--bcher-kva &lt;\n") && said.contains("True\n"), "{said}");
    Ok(())
}

/// Cargo, from the person's rustup.
pub fn rust(rig: &Rig<'_>) -> Result<()> {
    rustup(rig)?;
    // The person's own Cargo has been used: by that it is known where it fetches from.
    user(
            rig,
            "PATH=~/.cargo/bin:$PATH; mkdir -p ~/once/src src; touch ~/once/src/lib.rs
            printf '[package]\\nname = \"p\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n[dependencies]\\nitoa = \"1\"\\n' | tee Cargo.toml >~/once/Cargo.toml
            cat >src/lib.rs <<'E'
#[test]
fn formats() { assert_eq!(itoa::Buffer::new().format(42), \"42\"); }
E
            cd ~/once; cargo fetch --quiet",
        )?;
    succeeds(&rig.rcc(["toolchain", "add", "rustup"]).output()?)?;
    allow(rig, "@cargo")?;
    let said = by_the_agent(rig, "cargo build --quiet; cargo test --quiet --offline")?;
    ensure!(said.contains("1 passed"), "{said}");
    Ok(())
}

/// Go: no proxy that every machine reaches, so the module comes from a folder in the form of one.
pub fn go(rig: &Rig<'_>) -> Result<()> {
    // No proxy that every machine reaches: the module comes from a folder in the form of one.
    user(
            rig,
            "mkdir -p ~/proxy/example.test/hello/@v ~/make/example.test/hello@v1.0.0 ~/.config/go; cd ~/make
            printf 'module example.test/hello\\n' | tee example.test/hello@v1.0.0/go.mod >~/proxy/example.test/hello/@v/v1.0.0.mod
            printf 'package hello\\n\\nfunc Hello() string { return \"hello from a module\" }\\n' >example.test/hello@v1.0.0/h.go
            python3 -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], \"w\"); [z.write(f) for f in sys.argv[2:]]; z.close()' \\
                ~/proxy/example.test/hello/@v/v1.0.0.zip example.test/hello@v1.0.0/*
            echo v1.0.0 >~/proxy/example.test/hello/@v/list
            echo '{\"Version\":\"v1.0.0\"}' >~/proxy/example.test/hello/@v/v1.0.0.info
            cd ~/project; printf 'module example.test/p\\n\\ngo 1.19\\n' >go.mod
            printf 'package main\\n\\nimport (\\n\\t\"fmt\"\\n\\n\\t\"example.test/hello\"\\n)\\n\\nfunc main() { fmt.Println(hello.Hello()) }\\n' >main.go
            printf 'package main\\n\\nimport \"testing\"\\n\\nfunc TestIt(t *testing.T) {}\\n' >main_test.go",
        )?;
    // The person lets the project's sessions read it.
    let mut command = rig.rcc(["run", "--ro"]);
    succeeds(&command.arg(rig.user.home.join("proxy")).args(["--remember", "--", "true"]).output()?)?;
    let said = by_the_agent(
        rig,
        "export GOPROXY=file://$HOME/proxy GOSUMDB=off GOFLAGS=-mod=mod
        go get example.test/hello@v1.0.0; go vet ./...; go test ./...; go build -o out .; ./out; go install .; p",
    )?;
    ensure!(said.matches("hello from a module\n").count() == 2, "{said}");
    Ok(())
}

type Install = fn(&Rig<'_>) -> Result<()>;

/// All of them, one after another, by the agent.
pub fn table(rig: &Rig<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    let all: [(&str, Install); 4] = [
        ("npm ci with a native module, npm test", node),
        ("pip, uv: a wheel and a source build", python),
        ("cargo build, cargo test with a crate", rust),
        ("go get, vet, test, build, install", go),
    ];
    for (what, install) in all {
        user(rig, "find . -mindepth 1 -delete")?;
        let inside = install(rig).map_or_else(|e| Inside::Fails(format!("{e:#}")), |()| Inside::Works);
        rows.push(Row { what: what.to_owned(), outside: None, inside });
    }
    Ok(Table { title: "installing by the agent's Bash tool".to_owned(), rows })
}
