use super::*;
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

fn home(files: &[(&str, &str)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    home
}

fn all(home: &TempDir) -> Result<Brought, Problem> {
    let home = fs::canonicalize(home.path()).unwrap();
    bring(&home, Path::new("/project"), &Item::ALL.map(|(_, item)| item))
}

fn copy<'a>(brought: &'a Brought, name: &str) -> &'a Tree {
    &brought.copies.iter().find(|c| c.name == name).unwrap().tree
}

fn value(tree: &Tree) -> Value {
    let Tree::File(bytes, false) = tree else { panic!("{tree:?}") };
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn what_is_chosen_is_copied_with_its_folders() {
    let home = home(&[
        (".claude/CLAUDE.md", "be brief"),
        (".claude/skills/one/SKILL.md", "a skill"),
        (".claude/skills/one/run", "#!/bin/sh"),
        (".claude/commands/c.md", "a command"),
    ]);
    fs::set_permissions(home.path().join(".claude/skills/one/run"), fs::Permissions::from_mode(0o755)).unwrap();
    let brought = all(&home).unwrap();
    assert_eq!(*copy(&brought, "claude-md"), Tree::File(b"be brief".to_vec(), false));
    let to = home.path().join("copy");
    write(copy(&brought, "skills"), &to).unwrap();
    assert_eq!(fs::read(to.join("one/SKILL.md")).unwrap(), b"a skill");
    assert_eq!(fs::metadata(to.join("one/run")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!((brought.copies.len(), brought.arguments.len(), brought.omitted.len()), (3, 0, 0));
    let only = bring(&fs::canonicalize(home.path()).unwrap(), Path::new("/p"), &[Item::Commands]).unwrap();
    assert_eq!(only.copies.len(), 1);
}

#[test]
fn a_link_leads_nowhere() {
    let files = [(".claude/skills/one/SKILL.md", "a skill"), ("secret", "s3cret")];
    let within = home(&files);
    symlink(within.path().join("secret"), within.path().join(".claude/skills/one/more")).unwrap();
    symlink("/etc", within.path().join(".claude/skills/etc")).unwrap();
    let brought = all(&within).unwrap();
    assert!(!format!("{:?}", brought.copies).contains("more"), "{brought:?}");
    assert_eq!(brought.omitted.len(), 2, "{:?}", brought.omitted);
    for (from, to) in [
        (".claude/CLAUDE.md", "secret"),
        (".claude/agents", "/etc"),
        (".claude/settings.json", "secret"),
        (".claude.json", "secret"),
    ] {
        let home = home(&files);
        let to = if to.starts_with('/') { PathBuf::from(to) } else { home.path().join(to) };
        symlink(to, home.path().join(from)).unwrap();
        let problem = all(&home).unwrap_err();
        assert!(problem.code == Code::AGENT_CHOICE && problem.what.contains("link"), "{from}: {problem}");
    }
    let hard = home(&files);
    fs::hard_link(hard.path().join("secret"), hard.path().join(".claude/CLAUDE.md")).unwrap();
    assert!(all(&hard).unwrap_err().what.contains("hard link"));
}

#[test]
fn what_is_too_much_or_no_file_is_refused() {
    let long = home(&[(".claude/CLAUDE.md", "")]);
    File::options().write(true).open(long.path().join(".claude/CLAUDE.md")).unwrap().set_len(FILE_LIMIT + 1).unwrap();
    assert_eq!(all(&long).unwrap_err().code, Code::AGENT_CHOICE);
    let fifo = home(&[(".claude/x", "")]);
    nix::unistd::mkfifo(&fifo.path().join(".claude/CLAUDE.md"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(all(&fifo).unwrap_err().code, Code::AGENT_CHOICE);
    let broken = home(&[(".claude/settings.json", "{"), (".claude.json", "[]")]);
    assert_eq!(all(&broken).unwrap_err().code, Code::AGENT_CHOICE);
    let many = home(&[(".claude/commands/c.md", "")]);
    for i in 0..ENTRY_LIMIT {
        fs::write(many.path().join(format!(".claude/commands/{i}")), "").unwrap();
    }
    assert!(all(&many).unwrap_err().what.contains("4000 files"));
}

#[test]
fn of_settings_nothing_that_runs_or_is_secret_comes_along() {
    let text = json!({ "model": "opus", "hooks": { "Stop": [] }, "env": { "T": "s3cret" }, "apiKeyHelper": "x" });
    let brought = all(&home(&[(".claude/settings.json", &text.to_string())])).unwrap();
    assert_eq!(value(copy(&brought, "settings")), json!({ "model": "opus" }));
    assert_eq!(brought.arguments, ["--settings=/run/rcc/claude/settings.json"]);
    assert_eq!(brought.omitted, ["apiKeyHelper, env, hooks of ~/.claude/settings.json"]);
}

#[test]
fn of_mcp_servers_no_secret_comes_along() {
    let text = json!({
        "mcpServers": {
            "plain": { "type": "stdio", "command": "npx", "args": ["-y", "@scope/server"], "env": {} },
            "env": { "command": "x", "env": { "TOKEN": "s3cret" } },
            "headers": { "type": "http", "url": "https://mcp.example/mcp", "headers": { "Authorization": "Bearer s3cret" } },
            "args": { "command": "x", "args": ["--api-key", "s3cret"] },
            "long": { "command": "x", "args": ["ghp_0123456789abcdef0123"] },
            "query": { "type": "sse", "url": "https://mcp.example/?k=s3cret" },
            "user": { "type": "http", "url": "https://me:s3cret@mcp.example/" },
        },
        "projects": {
            "/project": { "mcpServers": { "here": { "command": "y" } } },
            "/other": { "mcpServers": { "there": { "command": "z" } } },
        },
    });
    let brought = all(&home(&[(".claude.json", &text.to_string())])).unwrap();
    let servers = value(copy(&brought, "mcp"));
    let names: Vec<_> = servers["mcpServers"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["env", "headers", "here", "plain"]);
    assert!(!servers.to_string().contains("s3cret") && !brought.omitted.join("\n").contains("s3cret"));
    assert!(brought.omitted.contains(&"env (TOKEN) of the MCP server env".to_owned()), "{:?}", brought.omitted);
    assert_eq!(brought.omitted.len(), 6);
}

#[test]
fn answers_are_few_and_plain() {
    let text = json!({ "theme": "light", "verbose": true, "editorMode": "a\u{1b}b", "oauthAccount": { "x": "s3cret" }, "env": {},
        "preferredNotifChannel": "x".repeat(41), "mcpServers": {} });
    let given = answers(home(&[(".claude.json", &text.to_string())]).path());
    assert_eq!(Value::Object(given), json!({ "theme": "light", "verbose": true }));
    assert!(answers(home(&[(".claude.json", "broken")]).path()).is_empty());
    assert!(answers(Path::new("/nonexistent")).is_empty());
}
