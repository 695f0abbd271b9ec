//! `cargo xtask vm --remote`: a world whose host is a Mac's in small, with qemu in the place of its virtual machine.
//!
//! The gateway runs on the host; the agent's container, the launcher and a forwarder run in a machine whose only way out is
//! qemu, which is bound as a Mac's gvproxy is: a group of its own that reaches the gateway's port and nothing else. Every
//! attempt by the network is made in a session there, and again by root of the machine, outside of the container; and each
//! of root's once more without the wall, as the control. What left is what the world's witnesses saw.
//!
//! It runs in a world (`rcc-world run --user dev -- rcc-remote …`).

mod attempts;
mod guest;
mod monitor;
mod person;

use anyhow::{Context as _, Result, ensure};
use guest::Guest;
use monitor::{Channel, Monitor};
use person::Person;
use rcc_attacks::runner::{ALLOWED, Targets, stand_by};
use rcc_attacks::table;
use rcc_machine::Image;
use rcc_rig::Rig;
use rcc_world::World;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a denial may take in an emulated machine, whose every instruction takes some twenty; Python's start included.
const QUICK_MS: u64 = 60_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [word] if word == "person" => person::main(),
        [form, disk, kernel, initrd, built, folder, vsock @ ..] => {
            let image = Image { disk: disk.into(), kernel: kernel.into(), initrd: initrd.into() };
            let channel = vsock.first().map_or(Channel::Network, |program| Channel::Vsock(program.into()));
            remote(form == "whole", &image, built.into(), Path::new(folder), channel)
        }
        _ => Err(anyhow::anyhow!("started by cargo xtask vm --remote")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remote: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what came of a step, and how long it took.
fn step<T>(name: &str, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let result = what().with_context(|| name.to_owned());
    println!("{} {name} ({:.0} s)", if result.is_ok() { "ok    " } else { "FAILED" }, began.elapsed().as_secs_f64());
    // At once: what follows may take long, and the end tells of the first alone.
    if let Err(error) = &result {
        println!("{error:#}");
    }
    result
}

fn remote(whole: bool, image: &Image, built: PathBuf, folder: &Path, channel: Channel) -> Result<()> {
    let world = World::here().context("not in a world")??;
    let monitor = step("the monitor's place", || Monitor::new(&world, channel))?;
    let mut rig = Rig::start(&world, ALLOWED, "")?;
    rig.kill_gateway()?;
    let _ = std::fs::remove_file(rcc_proto::GATEWAY_SOCKET);
    step("gateway", || rig.start_gateway_hearing(std::slice::from_ref(&monitor.listener)))?;
    let _targets = Targets::place(&rig)?;
    let machine = step("boot", || monitor.boot(&rig, image, built, folder))?;
    let mut guest = step("the machine's rcc", || Guest::set_up(machine, &monitor, &rig))?;

    let mut all = vec![step("a session", || session(&rig, &mut guest))];
    if whole {
        for (name, class) in [
            ("attempts in a session: network", table::network::ATTACKS),
            ("attempts in a session: names", table::dns::ATTACKS),
            ("attempts in a session: the gateway", table::gateway::ATTACKS),
        ] {
            all.push(step(name, || {
                stand_by(&rig, class, QUICK_MS, |commands| attempts::in_session(&rig, &mut guest, commands)).map(drop)
            }));
        }
    }
    all.push(step("attempts by the machine's root", || attempts::by_root(&rig, &mut guest, &monitor, whole)));
    if whole {
        all.push(step("grants are the host's", || grants(&rig, &mut guest)));
        all.push(step("what is held on the host is held in the machine", || held(&rig, &mut guest)));
    }
    all.push(step("the machine's end", || power_cut(&rig, guest)));
    all.into_iter().collect()
}

/// What works: an allowed host, and the model with a key that stays on the host; and what the log has of it.
fn session(rig: &Rig<'_>, guest: &mut Guest) -> Result<()> {
    let mut person = Person::open(rig)?;
    let token = rig.world.token();
    let script = format!(
        "curl -fsS -m 60 http://allowed.example/{token} > /dev/null && echo reached
         curl -fsS -m 60 http://rcc.internal/why | head -n 1
         curl -sS -m 60 -o /dev/null -w '%{{http_code}}\\n' -d '{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]}}' \\
             -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' -H 'x-api-key: none' http://anthropic.rcc.internal/v1/messages
         curl -sS -m 60 -o /dev/null http://denied.example/ || echo denied"
    );
    let said = guest.session(&mut person, &script)?;
    ensure!(said.contains("reached") && said.contains("denied") && said.contains("\n200\n"), "{said}");
    ensure!(!rig.world.hits_with(&token)?.is_empty(), "nobody saw the request: {said}");
    let log = std::fs::read_to_string(rcc_rig::LOG)?;
    for words in [&["\"forwarder\""][..], &["\"connect\"", "allowed.example"], &["\"request\"", "/v1/messages", "200"]]
    {
        ensure!(log.lines().any(|l| words.iter().all(|w| l.contains(w))), "no line with {words:?}:\n{log}");
    }
    // The machine never had the key, whoever looks.
    let key = &rig.world.at.model_keys.api_key;
    ensure!(
        !guest.root(&format!("grep -rsa -m1 -e {key} /proc/[0-9]*/environ /home /run /tmp || true"))?.contains(key)
    );
    person.farewell("RCC-417")
}

/// A grant that the person gives on the host is in force in the machine, and its end cuts.
fn grants(rig: &Rig<'_>, guest: &mut Guest) -> Result<()> {
    let mut person = Person::open(rig)?;
    let running = guest.begin_session(
        &mut person,
        "until test -e granted; do sleep 0.2; done
        curl -fsS -m 60 http://also-allowed.example/ > /dev/null && echo granted
        touch asks; until test -e denied; do sleep 0.2; done
        curl -fsS -m 60 http://allowed.example/ > /dev/null || echo denied",
    )?;
    person.expect("begun")?;
    person.say("grants also-allowed.example:80")?;
    person.expect("granted")?;
    guest.root("touch /home/dev/project/granted; until test -e /home/dev/project/asks; do sleep 0.2; done")?;
    person.say("grants !allowed.example")?;
    person.expect("granted")?;
    guest.root("touch /home/dev/project/denied")?;
    let said = guest.ended(running)?;
    ensure!(said.contains("granted\n") && said.contains("denied\n"), "{said}");
    person.farewell("RCC-417")
}

/// Without the host's firewall nothing moves; with it again, everything does.
fn held(rig: &Rig<'_>, guest: &mut Guest) -> Result<()> {
    let mut person = Person::open(rig)?;
    let running = guest.begin_session(
        &mut person,
        "until test -e stop; do
        curl -sS -m 5 -o /dev/null http://allowed.example/ && echo -n . >> marks || echo -n x >> marks; done",
    )?;
    person.expect("begun")?;
    let marks = |guest: &mut Guest| guest.root("cat /home/dev/project/marks 2>/dev/null || true");
    let until = |guest: &mut Guest, good: &dyn Fn(&str) -> bool| -> Result<()> {
        let end = Instant::now() + Duration::from_secs(120);
        while !good(&marks(guest)?) {
            ensure!(Instant::now() < end, "marks: {}", marks(guest)?);
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    };
    until(guest, &|m| m.ends_with('.'))?;
    ensure!(rig.firewall("remove").status()?.success(), "the table could not be removed");
    person.expect("held RCC-906")?;
    until(guest, &|m| m.ends_with("xx"))?;
    ensure!(rig.firewall("apply").status()?.success(), "the table could not be applied");
    person.expect("released")?;
    until(guest, &|m| m.ends_with('.'))?;
    guest.root("touch /home/dev/project/stop")?;
    guest.ended(running)?;
    person.farewell("RCC-417")
}

/// The machine is switched off under a session: its host's side ends.
fn power_cut(rig: &Rig<'_>, mut guest: Guest) -> Result<()> {
    let mut person = Person::open(rig)?;
    guest.begin_session(&mut person, "sleep 1000")?;
    person.expect("begun")?;
    guest.cut()?;
    person.farewell("RCC-417")?;
    rig.wait_until("the session ended on the host", Duration::from_secs(10), || {
        let log = rig.log()?;
        let of = |event: &str| log.iter().filter(|line| line["event"] == event).count();
        Ok(of("end") == of("session"))
    })
}
