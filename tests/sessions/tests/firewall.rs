//! The outer wall: what a gateway that was taken over can reach, with the host firewall and, as the control, without; and
//! what the person sees when the firewall goes away during a session.

use anyhow::{Context, Result, ensure};
use rcc_rig::{POLICY, Rig, shown};
use rcc_sessions::{Live, SETUP, refused, root};
use rcc_world::inside_with;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Connects as the gateway's user, with any code: prints how it ended.
fn as_gateway(to: &str, port: u16) -> Result<Output> {
    let user = nix::unistd::User::from_name(rcc_proto::GATEWAY_USER)?.expect("the rig has made the gateway's user");
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n\
        s.settimeout(5)\n\
        try: s.connect((sys.argv[1], int(sys.argv[2]))); print('connected')\n\
        except OSError as e: print(e)\n";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script, to, &port.to_string()]).uid(user.uid.as_raw()).gid(user.gid.as_raw());
    Ok(command.output()?)
}

/// What is not public, by a host that answers there: address, port, what it is.
const NOT_PUBLIC: &[(&str, u16, &str)] = &[
    ("169.254.169.254", 80, "the cloud's metadata service"),
    ("192.168.77.1", 80, "the router"),
    ("192.168.77.20", 80, "a neighbour on the LAN"),
    ("2600:77::20", 80, "a neighbour on the LAN, by IPv6"),
    ("127.0.0.1", 8901, "a service on the host's localhost"),
    ("192.168.77.50", 8902, "a service of the host's, by its own address"),
];

#[test]
fn a_gateway_that_was_taken_over_reaches_nothing_private_and_no_other_port() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:443"], "")?;
        let public = "11.1.0.10";
        for (to, port, what) in
            NOT_PUBLIC.iter().copied().chain([(public, 853, "a port that the policy does not name")])
        {
            let output = as_gateway(to, port)?;
            ensure!(String::from_utf8_lossy(&output.stdout).contains("refused"), "{what}: {}", shown(&output));
        }
        let allowed = as_gateway(public, 443)?;
        ensure!(allowed.stdout.starts_with(b"connected"), "the policy's port: {}", shown(&allowed));
        // Other users are left alone, and without the table so is the gateway's.
        let other = rig
            .command("/usr/bin/python3")
            .args(["-c", "import socket; socket.create_connection(('192.168.77.20', 80))"])
            .status()?;
        ensure!(other.success(), "the person's own traffic");
        ensure!(rig.firewall("remove").status()?.success(), "remove");
        for (to, port, what) in NOT_PUBLIC {
            let output = as_gateway(to, *port)?;
            ensure!(output.stdout.starts_with(b"connected"), "the control: {what}: {}", shown(&output));
        }
        let mut command = rig.rcc(["run", "--", "true"]);
        command.env_remove("ANTHROPIC_API_KEY");
        refused(command, "RCC-906")?;
        Ok(())
    });
}

#[test]
fn the_person_is_told_that_connections_are_held() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let fetch = "curl -sS -o /dev/null -w '%{http_code}\\n' http://allowed.example/";
        let mut live = Live::start(&rig, &format!("{fetch}\nread line\n{fetch}"))?;
        ensure!(live.line()? == "200", "before");
        let mut said = BufReader::new(live.child.stderr.take().expect("a pipe"));
        ensure!(rig.firewall("remove").status()?.success(), "remove");
        let mut heard = String::new();
        while !heard.contains("RCC-906") {
            ensure!(said.read_line(&mut heard)? > 0, "nothing more is said: {heard}");
        }
        ensure!(heard.contains("connections are held"), "{heard}");
        writeln!(live.stdin.take().expect("a pipe"))?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(rig.firewall("apply").stdout(Stdio::null()).status()?.success(), "apply");
        ensure!(live.line()? == "200", "the held request goes on");
        let (status, _) = live.end()?;
        ensure!(status.success(), "{status}");
        Ok(())
    });
}

/// What NixOS's module writes (`checks/nixos-module.nix` holds the file to it), and the same policy by hand.
#[test]
fn a_modules_policy_makes_the_same_table_as_the_same_policy_by_hand() {
    const MODULES: &str = include_str!("../../nix/module.toml");
    const BY_HAND: &str = include_str!("../../nix/policy.toml");
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &[], "")?;
        let table = || root("nft --stateless list table inet rcc");
        rig.policy(BY_HAND)?;
        let by_hand = table()?;
        ensure!(by_hand.contains("10.20.0.0") && by_hand.contains("9.9.9.9"), "{by_hand}");
        std::fs::write(POLICY, MODULES)?;
        let status = rig.firewall("status").output()?;
        ensure!(status.status.code() == Some(0), "the table in force is not the module's: {}", shown(&status));
        // Whole, too, not only where they differ.
        ensure!(rig.firewall("remove").status()?.success(), "remove");
        rig.policy(MODULES)?;
        ensure!(table()? == by_hand, "{}", table()?);
        Ok(())
    });
}

/// NixOS's nftables service: with `flushRuleset` each start and reload begins with an empty ruleset and a stop leaves one,
/// else only tables of its own are replaced; and its iptables firewall, which makes, empties and removes chains of its own.
/// The units have `rcc-firewall apply` follow (a virtual machine's systemd shows that it does).
#[test]
fn what_nixos_firewalls_do_leaves_the_table_or_apply_brings_it_back() {
    const OWN: &str = "table inet nixos-fw\ndelete table inet nixos-fw\ntable inet nixos-fw { chain input { type filter hook input \
        priority filter; policy drop; ct state established,related accept; iifname lo accept; }; }";
    const IPTABLES: &str =
        "iptables-nft -D INPUT -j nixos-fw 2>/dev/null || true; iptables-nft -F nixos-fw 2>/dev/null || true
        iptables-nft -X nixos-fw 2>/dev/null || true; iptables-nft -N nixos-fw; iptables-nft -A nixos-fw -i lo -j ACCEPT
        iptables-nft -A nixos-fw -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; iptables-nft -A nixos-fw -j DROP
        iptables-nft -A INPUT -j nixos-fw";
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let status = || Ok::<_, anyhow::Error>(rig.firewall("status").output()?.status.code());
        let nft = |rules: &str| format!("nft -f - <<'E'\n{rules}\nE");
        for (what, script, stays) in [
            ("its own tables alone", nft(OWN), true),
            ("the same again", nft(OWN), true),
            ("they are taken away", "nft delete table inet nixos-fw".into(), true),
            ("iptables", IPTABLES.into(), true),
            ("the same again", IPTABLES.into(), true),
            ("iptables' stop", "iptables-nft -D INPUT -j nixos-fw".into(), true),
            ("start and reload with flushRuleset", nft(&format!("flush ruleset\n{OWN}")), false),
            ("a stop with flushRuleset", "nft flush ruleset".into(), false),
        ] {
            root(&script)?;
            ensure!((status()? == Some(0)) == stays, "{what}: {:?}", status()?);
            if !stays {
                let mut command = rig.rcc(["run", "--", "true"]);
                command.env_remove("ANTHROPIC_API_KEY");
                refused(command, "RCC-906").with_context(|| what.to_owned())?;
            }
            let theirs = || root("nft --stateless list ruleset | sed '/^table inet rcc /,/^}/d'");
            let before = theirs()?;
            ensure!(rig.firewall("apply").stdout(Stdio::null()).status()?.success(), "{what}: apply");
            ensure!(status()? == Some(0), "{what}: {:?}", status()?);
            ensure!(theirs()? == before, "{what}: what is not rcc's was changed");
        }
        Ok(())
    });
}
