//! Small real projects, whose dependencies are installed, built and tested inside a session, from the registries that the
//! person's own npm, pip and Cargo use: through the gateway, from the machine's own network.

use crate::{rustup, succeeds, user};
use anyhow::{Context, Result, ensure};
use rcc_rig::daily::{Inside, Row, Table};
use rcc_rig::{Rig, shown};
use serde_json::Value;
use std::net::{IpAddr, ToSocketAddrs};

/// A policy by which the set may be had, and nothing else. Where this machine's registries are at addresses that are not
/// public (a mirror), the policy's author names those, as at such a company.
fn allow(rig: &Rig<'_>, set: &str) -> Result<()> {
    let policy = |private: &[String]| {
        let private: Vec<String> = private.iter().map(|p| format!("{p:?}")).collect();
        let usual = rig.usual_policy(&[set], "");
        rig.policy(&format!("may_allow = [\"*:443\", \"*:80\"]\nprivate = [{}]\n{usual}", private.join(", ")))
    };
    policy(&[])?;
    let plan = succeeds(&rig.rcc(["plan", "--json", "--", "true"]).output()?)?;
    let plan: Value = serde_json::from_str(&plan)?;
    let hosts: Vec<String> = plan["policy"]["allow"].as_array().into_iter().flatten().filter_map(endpoint).collect();
    ensure!(!hosts.is_empty(), "{set} asks for nothing: {plan:#}");
    let mut private = Vec::new();
    for host in hosts {
        for address in host.to_socket_addrs().with_context(|| host.clone())?.map(|a| a.ip()) {
            let entry = match address {
                IpAddr::V4(v4) if v4.is_private() || v4.is_documentation() => format!("{host} via {v4}/32"),
                _ => continue,
            };
            if !private.contains(&entry) {
                private.push(entry);
            }
        }
    }
    policy(&private)
}

fn endpoint(value: &Value) -> Option<String> {
    Some(value.as_str()?.split('/').next()?.to_owned())
}

/// What a session prints on standard output; both streams are in the error.
fn inside(rig: &Rig<'_>, script: &str) -> Result<String> {
    let output = rig.inside(&format!("set -e\n{script}"))?;
    succeeds(&output).with_context(|| shown(&output))
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
    let said = inside(
        rig,
        "npm install --package-lock-only --ignore-scripts --no-audit >&2; npm ci --no-audit >&2; npm test --silent",
    )?;
    ensure!(said == "sum 42\n", "{said}");
    // A second time from the cache in the agent's home, and a program for all projects without root.
    let said = inside(rig, "npm ci --offline --no-audit >&2; npm install -g --no-audit semver >&2; command -v semver")?;
    ensure!(said.trim() == rig.user.home.join(".local/bin/semver").display().to_string(), "{said}");
    Ok(())
}

/// pip and uv: a wheel, and a build of C.
pub fn python(rig: &Rig<'_>) -> Result<()> {
    allow(rig, "@pypi")?;
    let said = inside(
            rig,
            "python3 -m venv .venv; . .venv/bin/activate
            pip install --quiet idna >&2
            pip install --quiet --no-binary markupsafe markupsafe >&2
            python -c 'import idna, markupsafe._speedups; print(idna.encode(\"bücher\").decode(), markupsafe.escape(\"<\"))'
            pip install --quiet uv >&2
            uv venv --quiet other >&2
            uv pip install --quiet --python other/bin/python six >&2
            uv pip install --quiet --python other/bin/python --no-binary markupsafe markupsafe >&2
            other/bin/python -c 'import six, markupsafe._speedups; print(six.PY3)'",
        )?;
    ensure!(said == "xn--bcher-kva &lt;\nTrue\n", "{said}");
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
    let said = inside(rig, "cargo build --quiet; cargo test --quiet --offline 2>&1 | grep 'test result' | head -1")?;
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
    let mut command = rig.rcc(["run", "--ro"]);
    command.arg(rig.user.home.join("proxy")).args(["--", "/bin/bash", "-ec"]).arg(
            "export GOPROXY=file://$HOME/proxy GOSUMDB=off GOFLAGS=-mod=mod
            go get example.test/hello@v1.0.0 >&2; go vet ./...; go test ./... >&2; go build -o out .; ./out; go install .; p",
        );
    let output = command.output()?;
    ensure!(succeeds(&output)? == "hello from a module\nhello from a module\n", "{}", shown(&output));
    Ok(())
}

type Install = fn(&Rig<'_>) -> Result<()>;

/// All of them, one after another. There is no control: without rcc they would write into the machine's own homes.
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
    Ok(Table { title: "installing, from this machine's registries".to_owned(), rows })
}
