//! Power cuts at random moments of setup: after each, the machine starts, nothing runs half protected, and one more setup
//! makes it ready.
//!
//! What had reached the disk stays and what the kernel still held is lost, as with real power. Each begins from the same
//! kept state of a machine that has just started.

use super::Place;
use super::image::USER;
use super::script;
use crate::steps::Steps;
use anyhow::{Context as _, Result, ensure};
use rcc_machine::{BOOT, Disks, Machine, PATIENCE, Who};
use std::fs::{self, File};
use std::io::Read as _;
use std::time::{Duration, Instant};

/// The name of the kept state.
const STARTED: &str = "started";

/// Cuts the power so many times. Every cut is tried, whatever came of those before.
pub fn run(place: &Place<'_>, times: u32, steps: &Steps) -> Result<()> {
    let mut machine = place.start(None)?;
    steps.run("boot", || machine.await_boot())?;
    steps.run("the person", || script::person(&mut machine))?;
    steps.run("keep the state", || machine.keep(STARTED))?;
    let began = Instant::now();
    steps.run("setup uncut", || machine.succeeds(Who::Person, script::SETUP))?;
    let whole = began.elapsed();
    machine.cut()?;
    let mut failed = Vec::new();
    for number in 1..=times {
        let moment = whole.mul_f64(random()? * 1.05);
        let result = steps.run("power cut", || cut(place, moment, steps));
        println!("cut {number} of {times}, {:.1} of {:.1} s into setup", moment.as_secs_f64(), whole.as_secs_f64());
        match result {
            Ok(seen) => println!("  {seen}"),
            Err(error) => {
                println!("  FAILED: {error:#}");
                failed.push(number);
            }
        }
    }
    ensure!(failed.is_empty(), "of {times} power cuts these failed: {failed:?}");
    Ok(())
}

/// One cut; says what the machine was like after its start.
fn cut(place: &Place<'_>, moment: Duration, steps: &Steps) -> Result<String> {
    let layer = place.disks.layer.with_extension("cut");
    fs::copy(&place.disks.layer, &layer)?;
    let disks = Disks { layer, built: place.disks.built.clone() };
    let place = Place { image: place.image, disks, log: place.log.clone() };
    let mut machine = place.start(Some(STARTED))?;
    machine.begin(Who::Person, script::SETUP)?;
    std::thread::sleep(moment);
    machine.cut()?;
    let mut machine = place.start(None)?;
    machine.await_boot().with_context(|| format!("within {} s", BOOT.as_secs()))?;
    let seen = half_way(&mut machine)?;
    script::setup(&mut machine, steps)?;
    script::session(&mut machine)?;
    Ok(seen)
}

/// Whatever is there after a cut: a session is refused, or it is a whole one.
fn half_way(machine: &mut Machine) -> Result<String> {
    let there = "ls -d /etc/rcc/* /usr/local/libexec/rcc/* /usr/local/bin/rcc /etc/systemd/system/rcc* 2>/dev/null; getent passwd rcc; true";
    let there = machine.succeeds(Who::Root, there)?;
    let seen = format!("there after the start: {}", there.split_whitespace().collect::<Vec<_>>().join(" "));
    let reached = "curl -sS -m 10 -o /dev/null http://denied.example/ && echo reached";
    let tried = machine.run(
        Who::Person,
        &format!("cd project && {}; rcc run -- /bin/bash -c '{reached}'", script::KEY),
        PATIENCE,
    )?;
    ensure!(!tried.out.contains("reached"), "{USER}'s session reached what it must not: {tried:?}\n{seen}");
    Ok(format!("{seen}; a session: {:?}", tried.code))
}

/// From 0 up to 1.
fn random() -> Result<f64> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}
