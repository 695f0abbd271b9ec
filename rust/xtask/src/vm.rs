//! `cargo xtask vm`: rcc on a machine of its own, with systemd, a kernel that starts and stops, and power that can be cut.

mod cuts;
mod image;
mod inside;
mod remote;
mod script;
mod state;

use crate::product;
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{agent, prerequisites};
use anyhow::{Result, ensure};
use rcc_machine::{Disks, Image, Machine, Manner, PATIENCE, Who};
use remote::Remote;
use script::Form;
use std::fs;
use std::path::{Path, PathBuf};

/// Show setup, reboot, power cuts and uninstall in a virtual machine.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Where packages come from; where this machine's apt has them from unless told.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Static programs of the product that were built already; built in the release profile unless told.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Instead of the script: cut the power so many times, at random moments of setup.
    #[arg(long, value_name = "TIMES", conflicts_with = "run")]
    cuts: Option<u32>,
    /// Instead of the script: the agent in the machine, and the gateway on its host, as on a Mac.
    #[arg(long, conflicts_with_all = ["cuts", "run"])]
    remote: bool,
    /// The same without a network card: the program that is qemu's other half of a vsock (`cargo install vhost-device-vsock`).
    #[arg(long, value_name = "PROGRAM", requires = "remote")]
    vsock: Option<PathBuf>,
    /// Instead of the script: run this in the machine as the ordinary user, to look around.
    #[arg(long, value_name = "COMMAND")]
    run: Vec<String>,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(clap::Subcommand, Debug)]
enum Inside {
    /// In the machine: run what the test asks for.
    #[command(hide = true)]
    Inside,
}

/// Builds, and runs the script.
pub fn run(args: &Args) -> Result<()> {
    if args.inside.is_some() {
        return inside::run();
    }
    let workspace = Workspace::find()?;
    Steps::all(&workspace, "vm", |steps| everything(args, &workspace, steps))
}

fn everything(args: &Args, workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run("prerequisites", || prerequisites::ensure(prerequisites::FOR_VM))?;
    if args.programs.is_none() {
        product::build(workspace, steps)?;
    }
    let programs = args.programs.clone().unwrap_or_else(|| workspace.release());
    product::build_rig(workspace, steps)?;
    steps.command("fetch agent", agent::install(workspace, &workspace.agents())?)?;
    let image = disk(workspace, steps, args.mirror.as_deref())?;
    let place = Place::new(workspace, steps, &image, &programs)?;
    if args.remote {
        return place.remote(workspace, &programs, args.vsock.as_deref()).whole(steps);
    }
    if let Some(times) = args.cuts {
        return cuts::run(&place, times, steps);
    }
    let mut machine = place.start(None)?;
    if args.run.is_empty() {
        let result = script::run(&mut machine, Form::Whole, steps);
        println!("{}", steps.read(script::LOG)?);
        return result;
    }
    steps.run("boot", || machine.await_boot())?;
    for script in &args.run {
        let answer = machine.run(Who::Person, script, PATIENCE)?;
        println!("$ {script}\n{}{}exit {:?}", answer.out, answer.err, answer.code);
    }
    Ok(())
}

/// The disk that machines begin with, made unless it is there.
pub fn disk(workspace: &Workspace, steps: &Steps, mirror: Option<&str>) -> Result<Image> {
    steps.run("machine's disk", || image::ensure(workspace, mirror, &steps.place("debootstrap")))
}

/// The short forms of the script and of the remote gateway, with what was built before.
pub fn short_form(workspace: &Workspace, steps: &Steps, image: &Image) -> Result<()> {
    let programs = workspace.release();
    let place = Place::new(workspace, steps, image, &programs)?;
    // One machine at a time.
    let shown = script::run(&mut place.start(None)?, Form::Short, steps);
    shown.and(place.remote(workspace, &programs, None).short(steps))
}

/// What a machine runs on.
struct Place<'a> {
    image: &'a Image,
    disks: Disks,
    log: PathBuf,
}

impl<'a> Place<'a> {
    /// A machine that has never started.
    fn new(workspace: &Workspace, steps: &Steps, image: &'a Image, programs: &Path) -> Result<Self> {
        let built = steps.run("second disk", || built(workspace, programs))?;
        let disks = Disks::fresh(image, workspace.target.join("vm/run.qcow2"), built)?;
        Ok(Self { image, disks, log: steps.place("qemu") })
    }

    fn remote<'b>(&'b self, workspace: &'b Workspace, programs: &'b Path, vsock: Option<&'b Path>) -> Remote<'b> {
        Remote { workspace, programs, image: self.image, built: &self.disks.built, vsock }
    }

    fn start(&self, restored: Option<&str>) -> Result<Machine> {
        Machine::start(
            self.image,
            &self.disks,
            &self.log,
            &Manner { restored: restored.map(str::to_owned), ..Manner::default() },
        )
    }
}

/// The second disk: the product as a person has built it, the agent, and what drives the machine.
fn built(workspace: &Workspace, programs: &Path) -> Result<PathBuf> {
    let folder = workspace.target.join("vm/built");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let put = |from: &Path, to: &str| -> Result<()> {
        let to = folder.join(to);
        fs::create_dir_all(&to)?;
        let name = from.file_name().unwrap_or_default();
        fs::copy(from, to.join(name))?;
        Ok(())
    };
    for entry in fs::read_dir(programs)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_none() {
            put(&path, "product")?;
        }
    }
    for program in ["xtask", "rcc-world"] {
        put(&workspace.rig().join(program), "programs")?;
    }
    let copied = std::process::Command::new("cp")
        .args(["--archive", "--"])
        .arg(workspace.agents())
        .arg(folder.join("agents"))
        .status()?;
    ensure!(copied.success(), "cp ended with {copied}");
    let disk = workspace.target.join("vm/built.img");
    if disk.exists() {
        fs::remove_file(&disk)?;
    }
    image::disk_of(&folder, &disk, "1G")?;
    Ok(disk)
}
