//! One login and one answer to the agent's dialogs a person: a key entered once, the real Claude Code in a new project
//! without a question, and what happens to keys that are bad.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, make_folder, shown};
use rcc_sessions::daily::agent::{self, begins_without_a_question, login, rcc};
use rcc_sessions::{Pty, REFUSED, SETUP, refused, root, succeeds, user};
use rcc_world::inside_with;
use rcc_world::model::Credential;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn key_file(rig: &Rig<'_>) -> PathBuf {
    rig.user.home.join(".config/rcc/anthropic-key")
}

/// No piece of the key is in what was said; its prefix is anybody's.
fn says_nothing_of(key: &str, output: &Output) -> Result<()> {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let told = key.as_bytes()[14..].windows(6).any(|piece| said.windows(6).any(|w| w == piece));
    ensure!(!told, "a part of the key is shown: {}", shown(output));
    Ok(())
}

/// What the model will say in every new conversation.
fn model_says(rig: &Rig<'_>, text: &str) -> Result<()> {
    Ok(fs::write(&rig.world.at.model_script, serde_json::to_vec(&json!([{ "text": text }]))?)?)
}

fn new_project(rig: &Rig<'_>, name: &str) -> Result<PathBuf> {
    let folder = rig.user.home.join(name);
    make_folder(&folder, &rig.user)?;
    Ok(folder)
}

#[test]
fn a_key_is_entered_once_for_all_projects() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        refused(rcc(&rig, &["claude", "-p", "hello"]), "RCC-601")?;
        let keys = &world.at.model_keys;
        for (key, kind, used) in [
            (&keys.api_key, "API key", Credential::ApiKey),
            (&keys.oauth_token, "subscription's token", Credential::OauthToken),
        ] {
            let output = login(&rig, &format!("{key}\n"))?;
            succeeds(&output)?;
            says_nothing_of(key, &output)?;
            let about = fs::metadata(key_file(&rig))?;
            ensure!((about.mode() & 0o7777, about.uid()) == (0o600, rig.user.id));
            ensure!(fs::metadata(rig.user.home.join(".config/rcc"))?.mode() & 0o7777 == 0o700);
            let status = rcc(&rig, &["login", "--status"]).output()?;
            says_nothing_of(key, &status)?;
            let told = succeeds(&status)?;
            let line = told.lines().find(|l| l.starts_with("used")).context("nothing is used")?;
            ensure!(line.contains("~/.config/rcc/anthropic-key") && line.contains(kind), "{told}");
            for name in ["one", "two"] {
                model_says(&rig, &format!("answer {kind} {name}"))?;
                let before = world.exchanges()?.len();
                let mut command = rcc(&rig, &["claude", "-p", "hello"]);
                let said = succeeds(&command.current_dir(new_project(&rig, name)?).output()?)?;
                ensure!(said.contains(&format!("answer {kind} {name}")), "{said}");
                let asked = world.exchanges()?.split_off(before);
                let by = |e: &rcc_world::model::Exchange| {
                    if used == Credential::ApiKey { e.x_api_key } else { e.authorization }
                };
                ensure!(asked.iter().any(|e| e.message.is_some() && by(e) == used), "{asked:?}");
            }
        }
        // The environment's comes first, and it is said.
        let mut command = rig.rcc(["login", "--status"]);
        let told = succeeds(&command.output()?)?;
        ensure!(told.lines().any(|l| l.starts_with("used   ANTHROPIC_API_KEY ")), "{told}");
        ensure!(told.lines().any(|l| l.starts_with("later  ~/.config/rcc/anthropic-key ")), "{told}");
        for again in ["the key is gone", "no key was kept"] {
            let output = rcc(&rig, &["logout"]).output()?;
            succeeds(&output)?;
            ensure!(String::from_utf8_lossy(&output.stderr).contains(again), "{}", shown(&output));
            ensure!(fs::read_dir(rig.user.home.join(".config/rcc"))?.count() == 0);
        }
        refused(rcc(&rig, &["claude", "-p", "hello"]), "RCC-601")?;
        refused(rcc(&rig, &["login", "--status"]), "RCC-601")?;
        Ok(())
    });
}

#[test]
fn a_key_is_not_shown_when_it_is_typed() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let key = &world.at.model_keys.oauth_token;
        let mut pty = Pty::start(&rig, 24, 80)?;
        let before = pty.ask("stty -g")?;
        // Given up in each way: nothing is kept, and the terminal shows again what is typed.
        for (keys, code) in [("half a key\x03", 130), ("half a key\x04", 125), ("half\x1a", 125)] {
            pty.command("rcc login")?;
            pty.until("not shown): ")?;
            pty.keys(keys)?;
            let said = pty.prompt(code).with_context(|| format!("{keys:?}"))?;
            ensure!(!said.contains("half") && !key_file(&rig).exists(), "{said}");
            ensure!(pty.ask("stty -g")? == before, "{keys:?}: the terminal is not as it was");
        }
        // With a mistake in it that is mended, and a line that was pasted along.
        pty.command("rcc login")?;
        pty.until("not shown): ")?;
        pty.keys(&format!("wrong\x15{key}x\x7f\necho pasted along\n"))?;
        let said = pty.prompt(0)?;
        ensure!(pty.ask("stty -g")? == before, "the terminal is not as it was");
        ensure!(!pty.screen().contains(&key[14..30]) && !pty.screen().contains("wrong"), "{}", pty.screen());
        ensure!(said.contains("subscription's token"), "{said}");
        ensure!(fs::read_to_string(key_file(&rig))?.starts_with(&format!("{key}\n# entered ")));
        Ok(())
    });
}

#[test]
fn what_is_no_key_is_refused_and_the_old_one_stays() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        succeeds(&login(&rig, &world.at.model_keys.api_key)?)?;
        let kept = fs::read(key_file(&rig))?;
        let real = &world.at.model_keys.api_key;
        for bad in [
            String::new(),
            "two words".into(),
            "hunter2hunter2hunter2hunter2hunter2hunter2hunter2".into(),
            "sk-ant-api03-short".into(),
            real.replace("api03", "admin01"),
            format!("{real}\n{real}"),
            "sk-ant-api03-".to_owned() + &"x".repeat(20_000) + "\u{e9}",
        ] {
            let output = login(&rig, &bad)?;
            ensure!(output.status.code() == Some(REFUSED), "{bad}: {}", shown(&output));
            ensure!(String::from_utf8_lossy(&output.stderr).contains("RCC-603"), "{bad}: {}", shown(&output));
            ensure!(
                bad.len() < 20 || !String::from_utf8_lossy(&output.stderr).contains(&bad[14..]),
                "{}",
                shown(&output)
            );
            ensure!(fs::read(key_file(&rig))? == kept, "{bad}: the old key is gone");
        }
        // Never as an argument; it isn't repeated either.
        let said = refused(rcc(&rig, &["login", real]), "RCC-603")?;
        ensure!(!said.contains(&real[14..]), "{said}");
        // Nor by root, who runs no agents.
        let output = Command::new("/usr/local/bin/rcc").arg("login").env_clear().stdin(Stdio::null()).output()?;
        ensure!(String::from_utf8_lossy(&output.stderr).contains("RCC-304"), "{}", shown(&output));
        Ok(())
    });
}

#[test]
fn a_key_file_that_others_had_a_hand_in_is_refused() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        for (what, spoil, mend) in [
            ("readable by others", "chmod 640 anthropic-key", ":"),
            ("another user's", "chown root anthropic-key; chmod 644 anthropic-key", ":"),
            ("in a folder that others write", "chmod 770 .", "chmod 700 ."),
            ("in another user's folder", "chown daemon .", "chown dev ."),
            ("a link", "mv anthropic-key key; ln -s key anthropic-key", "rm key"),
            (
                "a link into the project",
                "mv anthropic-key ~dev/project/key; ln -s ~dev/project/key anthropic-key",
                "rm ~dev/project/key",
            ),
            ("with a second name", "ln anthropic-key ~dev/project/key", "rm ~dev/project/key"),
            ("a FIFO", "rm anthropic-key; mkfifo -m 600 anthropic-key; chown dev anthropic-key", ":"),
            (
                "a folder",
                "rm anthropic-key; mkdir -m 700 anthropic-key; chown dev anthropic-key",
                "rmdir anthropic-key",
            ),
            ("longer than any key", "yes | head -c 20000 >anthropic-key", ":"),
            (
                "in a folder that is a link",
                "cd ..; mv rcc ~dev/project/rcc; ln -s ~dev/project/rcc rcc",
                "cd ..; rm rcc; mv ~dev/project/rcc rcc",
            ),
        ] {
            succeeds(&login(&rig, &world.at.model_keys.api_key)?).with_context(|| what)?;
            root(&format!("cd ~dev/.config/rcc; {spoil}"))?;
            // Of a bad folder, whichever file is looked for in it first speaks.
            let output = rcc(&rig, &["claude", "-p", "hello"]).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(REFUSED), "{what}: {}", shown(&output));
            ensure!(what.contains("folder") || said.contains("RCC-602"), "{what}: {said}");
            refused(rcc(&rig, &["login", "--status"]), "RCC-602").with_context(|| what)?;
            root(&format!("cd ~dev/.config/rcc; {mend}"))?;
        }
        Ok(())
    });
}

#[test]
fn no_project_holds_the_key() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        user(&rig, "mkdir -p ~/project/config; ln -s project/config ~/.config")?;
        succeeds(&login(&rig, &world.at.model_keys.api_key)?)?;
        refused(rcc(&rig, &["claude", "-p", "hello"]), "RCC-201")?;
        refused(rcc(&rig, &["run", "--", "true"]), "RCC-201")?;
        Ok(())
    });
}

#[test]
fn a_refused_key_is_answered_by_the_api_itself() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let keys = &world.at.model_keys;
        // Of the right form, and unknown to the API: as expired or revoked ones are.
        for (key, answer) in [(&keys.api_key, "Invalid API key"), (&keys.oauth_token, "Please run /login")] {
            let wrong = key[..key.len() - 1].to_owned() + if key.ends_with('A') { "B" } else { "A" };
            succeeds(&login(&rig, &wrong)?)?;
            let before = world.exchanges()?.len();
            let output = rcc(&rig, &["claude", "-p", "hello"]).output()?;
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            ensure!(!output.status.success() && said.contains(answer), "{}", shown(&output));
            let refused = |e: &rcc_world::model::Exchange| e.status == 401 && e.path.starts_with("/v1/messages");
            ensure!(world.exchanges()?[before..].iter().any(refused), "the API was not asked");
            says_nothing_of(&wrong, &output)?;
        }
        Ok(())
    });
}

#[test]
fn a_login_without_the_network_is_kept_for_when_it_is_there() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        root("ip link set eth0 down")?;
        succeeds(&login(&rig, &world.at.model_keys.api_key)?)?;
        succeeds(&rcc(&rig, &["login", "--status"]).output()?)?;
        root(&format!("ip link set eth0 up; ip route add default via {}", rcc_world::map::ROUTER4))?;
        model_says(&rig, "back again")?;
        ensure!(succeeds(&rcc(&rig, &["claude", "-p", "hello"]).output()?)?.contains("back again"));
        Ok(())
    });
}

#[test]
fn a_token_near_its_end_is_spoken_of() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        succeeds(&login(&rig, &world.at.model_keys.oauth_token)?)?;
        model_says(&rig, "hello")?;
        for (ago, said) in [
            ("300 days", None),
            ("355 days", Some("the subscription's token ends on")),
            ("400 days", Some("was to last until")),
        ] {
            user(
                &rig,
                &format!("sed -i \"s/entered .*/entered $(date -u -d '{ago} ago' +%F)/\" ~/.config/rcc/anthropic-key"),
            )?;
            let output = rcc(&rig, &["claude", "-p", "hello"]).output()?;
            succeeds(&output)?;
            let told = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = told.lines().filter(|l| l.contains("claude setup-token, then rcc login")).collect();
            ensure!(lines.len() == usize::from(said.is_some()), "{ago}: {told}");
            ensure!(said.is_none_or(|said| told.contains(said)), "{ago}: {told}");
        }
        Ok(())
    });
}

#[test]
fn the_agent_begins_in_a_new_project_without_a_question() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let keys = &world.at.model_keys;
        let servers = json!({ "mcpServers": { "x": { "command": "/bin/cat" } } });
        for (key, place) in [(&keys.api_key, "one"), (&keys.oauth_token, "two/below"), (&keys.api_key, "two")] {
            succeeds(&login(&rig, key)?)?;
            let folder = new_project(&rig, place)?;
            // What the project itself brings is no reason to ask, either: it runs inside.
            user(
                &rig,
                &format!("git init -q ~/two 2>/dev/null || :; echo '{servers}' >{}/.mcp.json", folder.display()),
            )?;
            begins_without_a_question(&rig, &folder).with_context(|| place)?;
        }
        Ok(())
    });
}

#[test]
fn the_key_is_not_found_after_a_login() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let table = agent::table(&rig)?;
        println!("{table}");
        table.holds()
    });
}

#[test]
fn a_days_keys() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let table = rcc_rig::daily::key::table(&rig)?;
        println!("{table}");
        table.holds()
    });
}
