//! The programs that a project's own files call for: what would be missing inside is said before the agent finds out.
//!
//! The files are the agent's to write. They are read below the opened project, bounded, and nothing of them but names in
//! the tables here is ever shown or looked for.

use super::Found;
use crate::beneath;
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A program, and the file that calls for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The program's name.
    pub program: &'static str,
    /// The project's file.
    pub file: &'static str,
}

/// A file that calls for a program by being there.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", "cargo"),
    ("rust-toolchain.toml", "rustup"),
    ("rust-toolchain", "rustup"),
    ("go.mod", "go"),
    ("uv.lock", "uv"),
    ("poetry.lock", "poetry"),
    ("Pipfile", "pipenv"),
    ("pyproject.toml", "python3"),
    ("requirements.txt", "python3"),
    (".python-version", "python3"),
    ("package.json", "node"),
    (".nvmrc", "node"),
    (".node-version", "node"),
    ("package-lock.json", "npm"),
    ("npm-shrinkwrap.json", "npm"),
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("deno.json", "deno"),
    ("deno.jsonc", "deno"),
    ("deno.lock", "deno"),
    (".sdkmanrc", "java"),
    ("pom.xml", "mvn"),
    ("build.gradle", "java"),
    ("build.gradle.kts", "java"),
    ("Gemfile", "ruby"),
    ("mix.exs", "mix"),
];
/// Names in `.tool-versions`, and in `engines` and `packageManager` of package.json, and the program of each.
const TOOLS: &[(&str, &str)] = &[
    ("bun", "bun"),
    ("deno", "deno"),
    ("elixir", "mix"),
    ("erlang", "erl"),
    ("golang", "go"),
    ("gradle", "gradle"),
    ("java", "java"),
    ("maven", "mvn"),
    ("node", "node"),
    ("nodejs", "node"),
    ("npm", "npm"),
    ("pnpm", "pnpm"),
    ("poetry", "poetry"),
    ("python", "python3"),
    ("ruby", "ruby"),
    ("rust", "cargo"),
    ("uv", "uv"),
    ("yarn", "yarn"),
];
/// Files by which a project wants containers beside it.
const COMPOSE: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
const LIMIT: u64 = 256 << 10;

/// What a project calls for, each program once.
#[must_use]
pub fn of(project: &OwnedFd) -> Vec<Need> {
    let mut all: Vec<Need> = Vec::new();
    let mut add = |program: &'static str, file: &'static str| {
        if !all.iter().any(|n| n.program == program) {
            all.push(Need { program, file });
        }
    };
    for (file, program) in FILES {
        if beneath::open(project, Path::new(file), libc::O_PATH).is_ok() {
            add(program, file);
        }
    }
    let text = |file: &str| beneath::read(project, Path::new(file), LIMIT).unwrap_or_default();
    for program in tool_versions(&String::from_utf8_lossy(&text(".tool-versions"))) {
        add(program, ".tool-versions");
    }
    for program in package_json(&text("package.json")) {
        add(program, "package.json");
    }
    all
}

fn tool(name: &str) -> Option<&'static str> {
    TOOLS.iter().find(|(own, _)| *own == name).map(|(_, program)| *program)
}

/// A line is `name version…`; `#` begins a comment.
fn tool_versions(text: &str) -> Vec<&'static str> {
    text.lines().filter_map(|line| tool(line.split_whitespace().next()?)).collect()
}

/// `packageManager` is `name@version`; `engines` has a name for each key.
fn package_json(text: &[u8]) -> Vec<&'static str> {
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return Vec::new() };
    let manager = value["packageManager"].as_str().and_then(|m| tool(m.split('@').next()?));
    let engines = value["engines"].as_object().into_iter().flat_map(|e| e.keys()).filter_map(|name| tool(name));
    manager.into_iter().chain(engines).collect()
}

/// The file by which a project wants containers beside it, if it has one.
#[must_use]
pub fn compose(project: &OwnedFd) -> Option<&'static str> {
    COMPOSE.iter().copied().find(|file| beneath::open(project, Path::new(file), libc::O_PATH).is_ok())
}

/// Of what is needed, what none of these folders has; each with the toolchain that would bring it.
#[must_use]
pub fn missing<'a>(needs: &[Need], path: &[PathBuf], others: &'a [Found]) -> Vec<(Need, Option<&'a Found>)> {
    let there = |need: &&Need| !path.iter().any(|folder| folder.join(need.program).exists());
    let brings = |need: &Need| {
        others.iter().find(|found| {
            let program = |folder: &PathBuf| folder.join(need.program);
            let mounted = |program: &PathBuf| found.parts.iter().any(|part| program.starts_with(&part.path));
            found.path.iter().map(program).any(|p| mounted(&p) && p.exists())
        })
    };
    needs.iter().filter(there).map(|need| (*need, brings(need))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn programs(files: &[(&str, &str)]) -> Vec<&'static str> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        of(&File::open(dir.path()).unwrap().into()).into_iter().map(|n| n.program).collect()
    }

    #[test]
    fn what_files_call_for() {
        assert_eq!(programs(&[("README.md", "")]), Vec::<&str>::new());
        assert_eq!(programs(&[("Cargo.toml", ""), ("rust-toolchain.toml", "")]), ["cargo", "rustup"]);
        assert_eq!(programs(&[("pyproject.toml", ""), ("uv.lock", "")]), ["uv", "python3"]);
        assert_eq!(programs(&[("go.mod", ""), ("deno.json", ""), ("bun.lock", "")]), ["go", "bun", "deno"]);
        let package = r#"{"packageManager":"pnpm@9.1.0+sha512.x","engines":{"node":">=20","vscode":"1"}}"#;
        assert_eq!(programs(&[("package.json", package)]), ["node", "pnpm"]);
        assert_eq!(programs(&[(".tool-versions", "# mine\nnodejs 20.1.0\n\nrm -rf /\ngolang 1.22")]), ["node", "go"]);
    }

    #[test]
    fn files_that_are_traps_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink("/etc/passwd", at(".tool-versions")).unwrap();
        symlink("/etc", at("go.mod")).unwrap();
        nix::unistd::mkfifo(&at("package.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let needs = of(&File::open(dir.path()).unwrap().into());
        assert_eq!(needs, [Need { program: "node", file: "package.json" }]);
        assert_eq!(package_json(b"{\"engines\":[[[["), Vec::<&str>::new());
        assert_eq!(package_json(b"[]"), Vec::<&str>::new());
    }
}
