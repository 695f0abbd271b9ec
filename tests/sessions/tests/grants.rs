//! One more host: what a person says outside, what it does inside, and that nobody inside can say it.

use anyhow::{Context, Result, ensure};
use rcc_proto::Version;
use rcc_rig::{Rig, make_folder, shown};
use rcc_sessions::{Live, Pty, SETUP, Traces, fake, inside, refused, root, succeeds, user};
use rcc_world::inside_with;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Commands, a line each; each prints a line.
const OBEY: &str = "while read -r line; do eval \"$line\"; done";
/// The status of a request to a host, or 000.
const FETCH: &str = "curl -s -o /dev/null -w '%{http_code}\\n' --max-time 20 http://";

/// What a session's script prints for a command.
fn ask(live: &mut Live, command: &str) -> Result<String> {
    writeln!(live.stdin.as_mut().context("no stdin")?, "{command}")?;
    live.line()
}

/// What is said on standard error by a command that must succeed.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    succeeds(&output)?;
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
fn a_host_is_allowed_to_a_session_that_runs_and_taken_away_again() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let policy = std::fs::read_to_string(rcc_rig::POLICY)?;
        rig.policy(&format!("may_allow = [\"*:7\", \"*:80\", \"*:443\"]\n{policy}"))?;
        let before = Traces::after_first_session(&rig)?;
        let elsewhere = rig.user.home.join("elsewhere");
        make_folder(&elsewhere, &rig.user)?;
        make_folder(&rig.project.join("sub/folder"), &rig.user)?;
        let mut live = Live::start(&rig, OBEY)?;
        let mut other = Live::start_in(&rig, &elsewhere, OBEY)?;
        let denied = format!("{FETCH}denied.example/");
        ensure!(ask(&mut live, &denied)? == "000");

        let done = said(&mut rig.rcc(["allow", "denied.example:80,7"]))?;
        ensure!(done.contains("denied.example:80") && done.contains("1 running session\n"), "{done}");
        ensure!(ask(&mut live, &denied)? == "200");
        ensure!(ask(&mut other, &denied)? == "000", "another project's session");
        // A connection under way, of a protocol of its own.
        ensure!(ask(&mut live, "exec 3<>/dev/tcp/denied.example/7; echo here >&3; head -1 <&3")? == "here");
        // Another grant leaves it alone.
        // A folder within, also one that would be a project of its own.
        user(&rig, "git init -q sub/folder")?;
        said(rig.rcc(["allow", "also-allowed.example:80"]).current_dir(rig.project.join("sub/folder")))?;
        ensure!(ask(&mut live, &format!("{FETCH}also-allowed.example/"))? == "200");
        ensure!(ask(&mut live, "echo still >&3; head -1 <&3")? == "still");

        let done = said(&mut rig.rcc(["deny", "denied.example"]))?;
        ensure!(done.contains("; 1 connection was cut"), "{done}");
        ensure!(ask(&mut live, "head -1 <&3 >/dev/null 2>&1 && echo lives || echo cut")? == "cut");
        ensure!(ask(&mut live, &denied)? == "000");
        ensure!(ask(&mut live, &format!("{FETCH}also-allowed.example/"))? == "200");

        // Root's own word, taken away for this session and given back; the other session keeps it.
        let allowed = format!("{FETCH}allowed.example/");
        ensure!(ask(&mut live, &allowed)? == "200");
        said(&mut rig.rcc(["deny", "allowed.example"]))?;
        ensure!(ask(&mut live, &allowed)? == "000" && ask(&mut other, &allowed)? == "200");
        refused(rig.rcc(["deny", "--undo", "other.example"]), "RCC-106")?;
        said(&mut rig.rcc(["deny", "--undo", "allowed.example"]))?;
        ensure!(ask(&mut live, &allowed)? == "200");

        for mut one in [live, other] {
            drop(one.stdin.take());
            let (status, text) = one.end()?;
            let said = text.contains("reached") || text.contains("denied");
            ensure!(status.success() && !said, "no terminal, no lines at the end: {status} {text}");
        }
        // For the session only.
        ensure!(inside(&rig, &format!("{denied}; true"))? == "000\n");
        std::fs::remove_dir_all(rig.user.home.join(".local/share/rcc/homes")).ok();
        before.nothing_more(&rig)
    });
}

#[test]
fn what_is_granted_to_a_project_lasts_until_it_is_taken_away() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let fetch = |name: &str| inside(&rig, &format!("{FETCH}{name}/; true"));
        let done = said(&mut rig.rcc(["allow", "--project", "denied.example:80"]))?;
        ensure!(done.contains("for every later one"), "{done}");
        ensure!(fetch("denied.example")? == "200\n");
        // Another project has nothing of it.
        let elsewhere = rig.user.home.join("elsewhere");
        make_folder(&elsewhere, &rig.user)?;
        let mut other = Live::start_in(&rig, &elsewhere, OBEY)?;
        ensure!(ask(&mut other, &format!("{FETCH}denied.example/"))? == "000");
        // A session that runs, and those after it.
        let mut live = Live::start(&rig, OBEY)?;
        ensure!(ask(&mut live, &format!("{FETCH}denied.example/"))? == "200");
        let done = said(&mut rig.rcc(["deny", "--project", "denied.example", "allowed.example"]))?;
        ensure!(done.contains("1 running session and every later one"), "{done}");
        for name in ["denied.example", "allowed.example"] {
            ensure!(ask(&mut live, &format!("{FETCH}{name}/"))? == "000", "{name}");
            ensure!(fetch(name)? == "000\n", "{name}");
        }
        said(&mut rig.rcc(["deny", "--undo", "--project", "allowed.example"]))?;
        ensure!(fetch("allowed.example")? == "200\n" && fetch("denied.example")? == "000\n");
        drop((live, other));
        // Root's later word holds: what it forbids is said and left out, the rest stays.
        said(&mut rig.rcc(["allow", "--project", "denied.example:80", "also-allowed.example:80"]))?;
        rig.policy(&format!("deny = [\"denied.example\"]\n{}", rig.usual_policy(&[], "")))?;
        let output = rig.inside(&format!("{FETCH}denied.example/; {FETCH}also-allowed.example/"))?;
        ensure!(String::from_utf8_lossy(&output.stdout) == "000\n200\n", "{}", shown(&output));
        ensure!(String::from_utf8_lossy(&output.stderr).contains("RCC-106: denied.example:80"), "{}", shown(&output));
        let file = rig.user.home.join(".config/rcc/grants.toml");
        // A file that somebody else could have written starts nothing.
        user(&rig, &format!("chmod 666 {}", file.display()))?;
        refused(rig.rcc(["run", "--", "true"]), "RCC-108")?;
        refused(rig.rcc(["allow", "--project", "x.example.org"]), "RCC-108")?;
        Ok(())
    });
}

#[test]
fn nobody_inside_can_say_it() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let id = rig.user.id;
        let mut live = Live::start(&rig, OBEY)?;
        let folder = user(&rig, &format!("echo /run/user/{id}/rcc/sessions/*"))?;
        let socket = format!("{}/allow.sock", folder.trim());
        let mode = user(&rig, &format!("stat -c '%a %u' {socket}"))?;
        ensure!(mode.trim() == format!("600 {id}"), "{mode}");
        // What the launcher would hear, said from outside, is heard: the attempts below fail for no other reason.
        let say = format!(
            "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(10); s.connect(\"{socket}\"); s.send(b\"{{\\\"type\\\":\\\"allow\\\",\\\"endpoints\\\":[\\\"denied.example:80\\\"]}}\"); print(s.recv(9999))'"
        );
        let fetch = format!("{FETCH}denied.example/");
        for (attempt, why) in [
            (format!("{say} 2>&1 | tail -1"), "the launcher's socket"),
            (format!("ls -d /run/user/{id} {} 2>&1 | tail -1", folder.trim()), "its folder"),
            ("/usr/local/bin/rcc allow denied.example:80 2>&1 | tail -1".into(), "rcc itself, if it is there"),
            ("find / -xdev -type s 2>/dev/null | wc -l".into(), "any socket"),
            ("ls /run/rcc/gateway.sock /run/rcc/log.sock 2>&1 | tail -1".into(), "the gateway's sockets"),
            ("echo x 2>/dev/null > /etc/rcc/policy.toml; echo done".into(), "the policy"),
            (
                "mkdir -p ~/.config/rcc; printf '[projects]\\n\"%s\" = [\"denied.example:80\"]\\n' \"$PWD\" > ~/.config/rcc/grants.toml; echo done".into(),
                "the person's file, at its place inside",
            ),
            ("curl -s -X POST http://rcc.internal/allow -d denied.example:80 | tail -1".into(), "the gateway's page"),
        ] {
            let answer = ask(&mut live, &attempt)?;
            ensure!(ask(&mut live, &fetch)? == "000", "by {why}: {answer}");
            if why == "any socket" {
                ensure!(answer == "0", "{answer} sockets");
            }
        }
        // Even with the socket at hand: a process of the person's in another user namespace, as a container's is.
        let hung_up = user(&rig, &format!("unshare --user --map-user={id} {say} 2>&1 | tail -1"))?;
        ensure!(hung_up.contains("b''") || hung_up.contains("reset") || hung_up.contains("Broken"), "{hung_up}");
        ensure!(ask(&mut live, &fetch)? == "000");
        // Another user.
        let mut stranger = rig.command("/bin/bash");
        stranger.args(["-c", &say]).current_dir("/");
        std::os::unix::process::CommandExt::uid(&mut stranger, 4999);
        ensure!(!stranger.output()?.status.success());
        ensure!(ask(&mut live, &fetch)? == "000");
        let heard = user(&rig, &say)?;
        ensure!(heard.contains("done"), "{heard}");
        ensure!(ask(&mut live, &fetch)? == "200");
        drop(live);
        // And what it left in its home gives the next session nothing, nor does what the project asks for.
        let output = rig.inside(&format!("{fetch}; true"))?;
        ensure!(succeeds(&output)? == "000\n");
        user(&rig, "printf 'allow = [\"denied.example:80\"]\\n' > rcc.toml")?;
        let output = rig.inside(&format!("{fetch}; true"))?;
        ensure!(succeeds(&output)? == "000\n");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let command = said.split("if you want it to have them: ").nth(1).and_then(|t| t.lines().next());
        user(&rig, command.context(said.clone())?)?;
        let output = rig.inside(&format!("{fetch}; true"))?;
        ensure!(succeeds(&output)? == "200\n");
        Ok(())
    });
}

#[test]
fn the_daily_table_holds() {
    inside_with(SETUP, |world| rcc_rig::daily::hosts::table(&Rig::start(world, &[], "")?)?.holds());
}

#[test]
fn no_project_holds_the_sessions_folders() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        // Where the usual folder can't be used, the environment says another; here one below the project.
        let runtime = rig.project.join("deep/run");
        make_folder(&runtime, &rig.user)?;
        user(&rig, &format!("chmod 700 {}; ln -s {0} ../link", runtime.display()))?;
        root(&format!("chmod 755 /run/user/{}", rig.user.id))?;
        let command = |named: &std::path::Path| {
            let mut command = rig.rcc(["run", "--", "true"]);
            command.env("XDG_RUNTIME_DIR", named);
            command
        };
        refused(command(&runtime), "RCC-201")?;
        // A link is not taken for a folder of the person's.
        refused(command(&rig.user.home.join("link")), "RCC-303")?;
        Ok(())
    });
}

#[test]
fn what_is_no_host_or_not_the_persons_to_give_changes_nothing() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        rig.policy(&format!("deny = [\"never.example.org\"]\n{}", rig.usual_policy(&[], "")))?;
        let file = rig.user.home.join(".config/rcc/grants.toml");
        refused(rig.rcc(["allow", "x.example.org"]), "RCC-507")?;
        refused(rig.rcc(["deny", "x.example.org"]), "RCC-507")?;
        let live = Live::idle(&rig)?;
        for scope in [&[][..], &["--project"]] {
            for (host, code) in [
                ("never.example.org", "RCC-106"),
                ("x.example.org:8443", "RCC-106"),
                ("x.example.org:443/raw", "RCC-106"),
                ("11.1.2.3", "RCC-106"),
                ("api.anthropic.com", "RCC-106"),
                ("*.com", "RCC-103"),
                ("*.co.uk:443", "RCC-103"),
                ("*", "RCC-103"),
                ("169.254.169.254:80", "RCC-103"),
                ("127.0.0.1:80", "RCC-103"),
                ("localhost", "RCC-103"),
                ("x\u{1b}]0;title\u{7}.example.org", "RCC-103"),
                ("x\n.example.org", "RCC-103"),
                ("p\u{430}ypal.com", "RCC-103"),
                ("https://x.example.org/", "RCC-103"),
                ("", "RCC-103"),
            ] {
                let arguments = [&["allow"], scope, &["ok.example.org", host]].concat();
                let said = refused(rig.rcc(arguments), code).with_context(|| format!("{host:?} {scope:?}"))?;
                ensure!(!said.contains('\u{1b}'), "{said}");
            }
        }
        refused(rig.rcc(["deny", "anthropic.rcc.internal"]), "RCC-103")?;
        refused(rig.rcc(["deny", "11.0.0.0/8"]), "RCC-103")?;
        ensure!(!file.exists(), "{}", std::fs::read_to_string(&file)?);
        let log = rig.log()?;
        ensure!(!log.iter().any(|l| l["event"] == "grants"), "a session changed: {log:#?}");
        drop(live);
        Ok(())
    });
}

#[test]
fn a_gateway_of_the_last_version_still_serves() {
    inside_with(SETUP, |world| {
        let mut rig = Rig::start(world, &[], "")?;
        rig.kill_gateway()?;
        let version = Version { major: 1, minor: 0 };
        fake::serve(fake::Manner { version, uid: 977, refuses_sockets: false })?;
        let mut live = Live::start(&rig, OBEY)?;
        let said = refused(rig.rcc(["allow", "x.example.org"]), "RCC-402")?;
        ensure!(said.contains("rcc allow --project"), "{said}");
        ensure!(ask(&mut live, "echo goes on")? == "goes on");
        drop(live.stdin.take());
        let (status, said) = live.end()?;
        ensure!(status.success(), "{status} {said}");
        Ok(())
    });
}

#[test]
fn a_denial_says_why_and_how_to_allow_it() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:443"], "")?;
        let mut live = Live::start(&rig, OBEY)?;
        let begun = std::time::Instant::now();
        ensure!(ask(&mut live, &format!("{FETCH}denied.example/"))? == "000");
        ensure!(begun.elapsed() < std::time::Duration::from_secs(10), "not by a time-out");
        ensure!(ask(&mut live, &format!("{FETCH}allowed.example/"))? == "403");
        let told = ask(&mut live, "curl -s http://allowed.example/ | tr '\\n' ' '; echo")?;
        ensure!(told.contains("rcc allow allowed.example:80") && told.contains("http://rcc.internal/why"), "{told}");
        let why = ask(&mut live, "curl -s http://rcc.internal/why | tr '\\n' ' '; echo")?;
        for words in ["rcc allow denied.example ", "rcc allow allowed.example:80 ", "names this host on other ports"] {
            ensure!(why.contains(words), "{why}");
        }
        // The command, as it stands there.
        let command = why.split("can type: ").find(|c| c.starts_with("rcc allow allowed")).context(why.clone())?;
        let command: String = command.split("  ").next().unwrap_or_default().trim().into();
        user(&rig, &command).with_context(|| command.clone())?;
        ensure!(ask(&mut live, &format!("{FETCH}allowed.example/"))? == "200");
        Ok(())
    });
}

#[test]
fn the_agent_is_told_and_the_persons_own_words_stay() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        std::fs::write(&world.at.model_script, r#"[{"text":"done"}]"#)?;
        let before = world.exchanges()?.len();
        let output = rig.rcc(["claude", "-p", "hello", "--append-system-prompt", "the person's own words"]).output()?;
        succeeds(&output)?;
        let exchanges = world.exchanges()?;
        let ends: Vec<&str> =
            exchanges[before..].iter().filter_map(|e| e.message.as_ref()).map(|m| m.system_end.as_str()).collect();
        let told = |end: &&str| end.contains("http://rcc.internal/why") && end.contains("the person's own words");
        ensure!(ends.iter().any(told), "{ends:#?}");
        Ok(())
    });
}

#[test]
fn a_persons_log_is_theirs_alone() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let script = format!("{FETCH}allowed.example/; {FETCH}denied.example/; true");
        inside(&rig, &script)?;
        rig.wait_until("the session's end is in the log", std::time::Duration::from_secs(10), || {
            Ok(rig.log()?.iter().any(|l| l["event"] == "end"))
        })?;
        let text = succeeds(&rig.rcc(["log"]).output()?)?;
        ensure!(text.contains("connect  allowed.example:80") && text.contains("DENIED   denied.example"), "{text}");
        let text = succeeds(&rig.rcc(["log", "--denied"]).output()?)?;
        ensure!(text.contains("denied.example") && !text.contains("allowed.example:80"), "{text}");
        let json = succeeds(&rig.rcc(["log", "--json"]).output()?)?;
        let lines: Vec<serde_json::Value> = json.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(!lines.is_empty() && lines.iter().all(|l| l["uid"] == rig.user.id), "{json}");
        let session = lines[0]["session"].as_str().context("no session")?;
        ensure!(succeeds(&rig.rcc(["log", "--json", "--session", &session[..8]]).output()?)? == json);
        ensure!(succeeds(&rig.rcc(["log", "--session", "0000000000000000"]).output()?)?.is_empty());

        // Somebody else, who has no session and no login here.
        let mut stranger = rig.rcc(["log"]);
        std::os::unix::process::CommandExt::uid(stranger.current_dir("/"), 4999);
        // Who may open no session is given nothing.
        let output = stranger.output()?;
        ensure!(!output.status.success() && output.stdout.is_empty(), "{}", shown(&output));
        ensure!(rig.command("/bin/cat").arg(rcc_rig::LOG).output()?.stdout.is_empty(), "the file itself");

        // One that stays sees what comes.
        let mut command = rig.rcc(["log", "-f", "--denied"]);
        let mut follow = command.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(follow.stdout.take().context("no pipe")?).lines();
        lines.next().context("the first session's line")??;
        inside(&rig, &format!("{FETCH}nodata.example/; true"))?;
        let line = lines.by_ref().find(|l| l.as_ref().is_ok_and(|l| l.contains("nodata.example")));
        follow.kill()?;
        follow.wait()?;
        line.context("no new line")??;
        Ok(())
    });
}

#[test]
fn at_a_terminal_the_end_is_two_lines() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let mut pty = Pty::start(&rig, 24, 200)?;
        pty.run(&rig, &format!("{FETCH}allowed.example/bytes/50000; {FETCH}denied.example/; exit 0"))?;
        let end = pty.prompt(0)?;
        let lines: Vec<&str> = end.lines().filter(|l| l.contains("rcc: ") && !l.contains("RCC-305")).collect();
        ensure!(lines.len() == 2, "{end}");
        ensure!(lines[0].contains("rcc: reached allowed.example (50."), "{end}");
        ensure!(lines[1].contains("rcc: denied denied.example; to allow one: rcc allow denied.example"), "{end}");
        // Nothing reached, nothing denied, nothing said.
        pty.run(&rig, "exit 3")?;
        let end = pty.prompt(3)?;
        ensure!(!end.contains("rcc: reached") && !end.contains("rcc: denied"), "{end}");
        Ok(())
    });
}
