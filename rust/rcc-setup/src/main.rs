//! `rcc-setup`: root's command that sets rcc up on a machine, and takes it away again. `rcc setup` and `rcc uninstall` run
//! it.
//!
//! Invariants: no state of its own, each step finds out what is left to do; what was done is read back; a run that is cut
//! short at any instant leaves nothing that the next one does not finish; nothing is written, read or removed through a
//! link that others than root could have made.

mod asker;
#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod gateway;
#[cfg(target_os = "linux")]
mod install;
mod layout;
mod macos;
mod output;
mod place;
mod source;
mod step;
#[cfg(target_os = "linux")]
mod systemd;
#[cfg(target_os = "linux")]
mod uninstall;
mod units;
#[cfg(target_os = "linux")]
mod user;

use asker::Keep;
use clap::{Args, Parser, Subcommand};
use nix::fcntl::{Flock, FlockArg};
use rcc_report::{Code, EXIT_REFUSED, Problem};
use source::Libraries;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::ExitCode;
use step::{Line, Mode, Outcome, Step};

/// Sets rcc up on this machine, or takes it away: system user, programs, policy, units, host firewall, gateway.
///
/// Exit codes: 0 all is done (or, with --dry-run, shown); 125 a problem.
#[derive(Parser)]
#[command(name = "rcc-setup", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Set up, or bring an older version up to this one. May be run at any time, and again after any interruption.
    Install(InstallArgs),
    /// Take everything away that setup made; sessions end. Policy and log stay.
    Uninstall(UninstallArgs),
    /// Write the units that setup installs into a folder, for programs that lie elsewhere: for who packages rcc.
    Units(UnitsArgs),
    /// On a Mac whose configuration declares the rest: place the programs, one of them with its group's bit, and the
    /// gateway's folders.
    #[command(hide = true)]
    Place(How),
}

#[derive(Args)]
struct InstallArgs {
    #[command(flatten)]
    how: How,
    /// Restart a gateway of another version at once, which ends its sessions. Otherwise it is replaced when they have ended.
    #[arg(long)]
    restart: bool,
}

#[derive(Args)]
struct UninstallArgs {
    #[command(flatten)]
    how: How,
    /// Remove the policy and the log, too.
    #[arg(long)]
    purge: bool,
}

#[derive(Args)]
struct UnitsArgs {
    /// The folder of the programs that the units start.
    #[arg(long, value_name = "DIR")]
    programs: String,
    /// The folder that the units are written to; it is there, and has none of them.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// launchd's daemons instead of systemd's units.
    #[arg(long)]
    macos: bool,
}

#[derive(Args)]
struct How {
    /// Show each step and what it would do; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl How {
    fn mode(&self) -> Mode {
        if self.dry_run { Mode::Plan } else { Mode::Act }
    }
}

/// What was done, and what there is to say of it.
#[derive(Default)]
struct Report {
    lines: Vec<Line>,
    notes: Vec<String>,
    problems: Vec<Problem>,
}

fn main() -> ExitCode {
    let (report, json) = match Arguments::parse().what {
        What::Install(args) => (install(&args), args.how.json),
        What::Uninstall(args) => (uninstall(&args), args.how.json),
        What::Units(args) => (write_units(&args), false),
        What::Place(how) => (place(&how), how.json),
    };
    if json {
        let Report { lines, notes, problems } = &report;
        println!("{}", serde_json::json!({ "version": 1, "steps": lines, "notes": notes, "problems": problems }));
    } else {
        report.notes.iter().for_each(|note| println!("note: {note}"));
        report.problems.iter().for_each(|problem| eprintln!("rcc-setup: {problem}"));
    }
    if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) }
}

fn install(args: &InstallArgs) -> Report {
    let mut report = Report::default();
    let ready =
        asker::root().and_then(|()| unmanaged()).and_then(|()| Ok((lock()?, source::programs(Libraries::Systems)?)));
    let (lock, programs) = match ready {
        Ok(ready) => ready,
        Err(problem) => {
            report.problems.push(problem);
            return report;
        }
    };
    if cfg!(target_os = "macos") {
        install_mac(args, programs, &mut report);
    } else {
        #[cfg(target_os = "linux")]
        install_linux(args, programs, &mut report);
    }
    drop(lock);
    report
}

/// Each step rests on those before it; false if one failed.
fn all(steps: &[Step<'_>], how: &How, report: &mut Report) -> bool {
    steps.iter().all(|step| report.step(step, how))
}

#[cfg(target_os = "linux")]
fn install_linux(args: &InstallArgs, programs: Vec<source::Program>, report: &mut Report) {
    let person = asker::caller();
    let request = install::Request { programs, person, restart: args.restart, systemd: systemd::runs() };
    if !all(&install::steps(&request), &args.how, report) {
        return;
    }
    if args.how.mode() == Mode::Act {
        let proven = install::prove(&request);
        report.proof(proven, &args.how);
    }
    match install::notes(&request) {
        Ok(notes) => report.notes = notes,
        Err(problem) => report.problems.push(problem),
    }
}

fn install_mac(args: &InstallArgs, programs: Vec<source::Program>, report: &mut Report) {
    let (mac, person) = (macos::System, asker::caller());
    report.notes.push("nothing of rcc was tried on a Mac when this version was made: docs/macos.md".into());
    let policy = asker::usual_policy(person.as_ref());
    let request = macos::Request { programs, policy, restart: args.restart };
    if !all(&macos::install(&mac, &request), &args.how, report) {
        return;
    }
    if args.how.mode() == Mode::Act {
        report.proof(macos::prove(&mac), &args.how);
    }
    match macos::sessions_of_before(&mac) {
        Ok(0) => {}
        Ok(n) => report.notes.push(format!(
            "{n} sessions run in the gateway of before; it stays until they end: run rcc setup again then, or with --restart now"
        )),
        Err(problem) => report.problems.push(problem),
    }
    report.notes.extend(macos::unlinked(&mac));
    if person.is_none() {
        report.notes.push("who may start sessions stands in `users` of /etc/rcc/policy.toml".into());
    }
}

/// A system that is made from its own configuration is not setup's to write.
fn unmanaged() -> Result<(), Problem> {
    #[cfg(target_os = "linux")]
    install::check()?;
    if cfg!(target_os = "macos") { macos::unmanaged(&macos::System) } else { Ok(()) }
}

fn place(how: &How) -> Report {
    let mut report = Report::default();
    let on_a_mac = || {
        let remedy = "set rcc up as ever: sudo rcc setup";
        let wrong = || Problem::new(Code::SETUP_ROOT, "rcc-setup place", "this is no Mac", remedy);
        if cfg!(target_os = "macos") { Ok(()) } else { Err(wrong()) }
    };
    let found =
        on_a_mac().and_then(|()| asker::root()).and_then(|()| Ok((lock()?, source::programs(Libraries::OrTheStores)?)));
    match found {
        Ok((lock, programs)) => {
            all(&macos::place(&macos::System, programs), how, &mut report);
            drop(lock);
        }
        Err(problem) => report.problems.push(problem),
    }
    report
}

/// The units, and beside them the names of those that start by themselves, each on a line of `ENABLED`; a Mac's accounts
/// likewise in `ACCOUNTS`.
fn write_units(args: &UnitsArgs) -> Report {
    let mut report = Report::default();
    let named = |names: &[&str]| ("ENABLED".to_owned(), format!("{}\n", names.join("\n")));
    let files: Vec<(String, String)> = if args.macos {
        let daemons = macos::daemons(&args.programs).into_iter().map(|daemon| (daemon.file(), daemon.text));
        daemons.chain([named(&macos::enabled()), ("ACCOUNTS".to_owned(), macos::declared())]).collect()
    } else {
        let units = units::all(&args.programs).into_iter().map(|(name, text)| (name.to_owned(), text));
        units.chain([named(&units::ENABLED)]).collect()
    };
    for (name, text) in files {
        let path = args.into.join(name);
        let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(e) = written {
            let remedy = "name an empty folder that you can write";
            report.problems.push(Problem::new(Code::SETUP_PLACE, path.display().to_string(), e.to_string(), remedy));
        }
    }
    report
}

fn uninstall(args: &UninstallArgs) -> Report {
    let mut report = Report::default();
    let lock = match asker::root().and_then(|()| lock()) {
        Ok(lock) => lock,
        Err(problem) => {
            report.problems.push(problem);
            return report;
        }
    };
    let keep = if args.purge { Keep::Nothing } else { Keep::PolicyAndLog };
    if cfg!(target_os = "macos") {
        uninstall_mac(args, keep, &mut report);
    } else {
        #[cfg(target_os = "linux")]
        uninstall_linux(args, keep, &mut report);
    }
    if keep == Keep::PolicyAndLog {
        report.notes.push("kept: /etc/rcc, /var/log/rcc (rcc uninstall --purge removes them)".into());
    }
    let _ = std::fs::remove_file(LOCK);
    drop(lock);
    report
}

#[cfg(target_os = "linux")]
fn uninstall_linux(args: &UninstallArgs, keep: Keep, report: &mut Report) {
    for step in &uninstall::steps(keep, systemd::runs()) {
        report.step(step, &args.how);
    }
    match user::is_anothers() {
        Ok(false) => {}
        Ok(true) => report.notes.push("kept: the system user or group rcc, which rcc setup did not make".into()),
        Err(problem) => report.problems.push(problem),
    }
}

fn uninstall_mac(args: &UninstallArgs, keep: Keep, report: &mut Report) {
    let mac = macos::System;
    let firewall = rcc_host::this_program().unwrap_or_default().with_file_name("rcc-firewall").display().to_string();
    // Each is tried, whatever became of those before.
    for step in &macos::uninstall(&mac, keep, &firewall) {
        report.step(step, &args.how);
    }
    match macos::anothers(&mac) {
        Ok(kept) if kept.is_empty() => {}
        Ok(kept) => report.notes.push(format!("kept, since rcc setup did not make it: {}", kept.join(", "))),
        Err(problem) => report.problems.push(problem),
    }
}

impl Report {
    /// Runs a step; false if it failed.
    fn step(&mut self, step: &Step<'_>, how: &How) -> bool {
        let outcome = step.run(how.mode());
        self.take(&step.subject, outcome, how)
    }

    fn proof(&mut self, proven: Result<(), Problem>, how: &How) {
        let outcome = proven.map(|()| Outcome::Done("the firewall is in force, and the gateway answers".into()));
        self.take("proof", outcome, how);
    }

    fn take(&mut self, subject: &str, outcome: Result<Outcome, Problem>, how: &How) -> bool {
        let outcome = outcome.unwrap_or_else(|problem| {
            let what = problem.code.to_string();
            self.problems.push(problem);
            Outcome::Failed(what)
        });
        let failed = matches!(outcome, Outcome::Failed(_));
        if !how.json {
            match &outcome {
                Outcome::Unchanged => println!("  ok      {subject}"),
                Outcome::Done(effect) => println!("  done    {subject}: {effect}"),
                Outcome::Planned(effect) => println!("  to do   {subject}: {effect}"),
                Outcome::Failed(code) => println!("  FAILED  {subject}: {code}"),
            }
        }
        self.lines.push(Line { subject: subject.into(), outcome });
        !failed
    }
}

/// The lock's file: root's alone.
const LOCK: &str = if cfg!(target_os = "macos") { "/var/run/rcc-setup.lock" } else { "/run/rcc-setup.lock" };

/// One at a time.
fn lock() -> Result<Flock<File>, Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        Problem::new(Code::SETUP_PLACE, LOCK, format!("it can't be locked: {e}"), "run this as root")
    };
    loop {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(LOCK).map_err(|e| failed(&e))?;
        let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| failed(&e))?;
        // An uninstall removes it while others may wait for it.
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        if let (Ok(there), Ok(ours)) = (std::fs::symlink_metadata(LOCK), held.metadata())
            && same(there, ours)
        {
            return Ok(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_written_once_for_programs_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let args = UnitsArgs { programs: "/nix/store/x-rcc/bin".into(), into: folder.path().into(), macos: false };
        assert!(write_units(&args).problems.is_empty());
        let unit = std::fs::read_to_string(folder.path().join("rcc-firewall.service")).unwrap();
        assert!(unit.contains("\nExecStart=/nix/store/x-rcc/bin/rcc-firewall apply\n"), "{unit}");
        let enabled = std::fs::read_to_string(folder.path().join("ENABLED")).unwrap();
        assert!(enabled.lines().eq(units::ENABLED) && enabled.lines().all(|unit| folder.path().join(unit).is_file()));
        // What is there is left as it is.
        assert!(!write_units(&args).problems.is_empty());

        let folder = tempfile::tempdir().unwrap();
        let args = UnitsArgs { programs: "/nix/store/x-rcc/bin".into(), into: folder.path().into(), macos: true };
        assert!(write_units(&args).problems.is_empty());
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text("dev.rcc.firewall.plist").contains("<string>/nix/store/x-rcc/bin/rcc-firewall</string>"));
        assert!(text("ENABLED").lines().all(|label| folder.path().join(format!("{label}.plist")).is_file()));
        let accounts = "group _rcc 391 rcc gateway\ngroup _rccnet 392 rcc network\nuser _rcc 391 391 rcc gateway\n";
        assert_eq!(text("ACCOUNTS"), accounts);
    }
}
