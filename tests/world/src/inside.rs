//! Running a test, or a whole program, inside a world.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::World;
use crate::description::VARIABLE;

/// The environment variable that names the `rcc-world` program, where it isn't beside the tests.
pub const PROGRAM: &str = "RCC_WORLD_BIN";

/// How the world of a test is to be; each is a flag of `rcc-world run`.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Setup {
    /// An unprivileged user of that name.
    pub user: Option<&'static str>,
    /// Runs the test as that user.
    pub as_user: bool,
    /// A /tmp of its own.
    pub private_tmp: bool,
    /// Doesn't record packets.
    pub no_wire: bool,
    /// Names that the world does not have are those of the machine's own network: for tests that fetch from registries.
    pub outside: bool,
}

impl Setup {
    fn arguments(self) -> Vec<OsString> {
        let mut all = vec![OsString::from("run")];
        if let Some(user) = self.user {
            all.extend(["--user".into(), user.into()]);
        }
        for (flag, on) in [
            ("--as-user", self.as_user),
            ("--private-tmp", self.private_tmp),
            ("--no-wire", self.no_wire),
            ("--outside", self.outside),
        ] {
            all.extend(on.then(|| OsString::from(flag)));
        }
        all.push("--".into());
        all
    }
}

/// Runs the calling test in a world of its own: the test program is started again, for this one test, by `rcc-world run`.
///
/// Call it with a closure, as the whole body of a `#[test]` function: the test's name is taken from the closure's type.
///
/// # Panics
/// When the body panics or fails, when no world can be made, or when it is not called as said.
pub fn inside<F: FnOnce(&World) -> Result<()>>(body: F) {
    inside_with(Setup::default(), body);
}

/// The same, in a world as `setup` says.
///
/// # Panics
/// When the body panics or fails, or no world can be made.
pub fn inside_with<F: FnOnce(&World) -> Result<()>>(setup: Setup, body: F) {
    if let Some(world) = World::here() {
        let world = world.expect("the world's description can be read");
        if let Err(e) = body(&world) {
            panic!("{e:?}");
        }
        return;
    }
    let name = test_name(std::any::type_name::<F>());
    let this = std::env::current_exe().expect("this program");
    // A program of tests that runs none of them succeeds.
    let listed = Command::new(&this).args(["--list", "--exact", name, "--include-ignored"]).output().expect("a list");
    let there = String::from_utf8_lossy(&listed.stdout).lines().any(|l| l.strip_suffix(": test") == Some(name));
    assert!(there, "{name} is no test: the closure must stand in the test's own function");
    let mut command = within(setup).expect("a world");
    command.arg(this).args(["--exact", name, "--nocapture"]);
    // ignored tests run only when they were asked for, and then this one is
    command.arg("--include-ignored");
    let status = command.status().expect("rcc-world runs");
    assert!(status.success(), "{name} failed in its world: {status}");
}

/// Makes a whole program run in a world: outside of one, replaces this process by `rcc-world run` with the same
/// arguments; inside, gives the world.
pub fn reexec(setup: Setup) -> Result<World> {
    if let Some(world) = World::here() {
        return world;
    }
    let mut command = within(setup)?;
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let e = std::os::unix::process::CommandExt::exec(&mut command);
    Err(e).context("running rcc-world")
}

/// `rcc-world run … --`, to which a command is to be added.
fn within(setup: Setup) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.args(setup.arguments()).env_remove(VARIABLE);
    Ok(command)
}

/// The `rcc-world` program: where the environment says, or beside this one's folder.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM) {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let beside = exe.ancestors().skip(1).take(3).map(|d| d.join("rcc-world")).find(|p| p.is_file());
    beside.with_context(|| {
        format!("no rcc-world beside {}\nhint: cargo build -p rcc-world, or set {PROGRAM}", exe.display())
    })
}

/// `crate::module::test::{{closure}}` is the test `module::test`.
fn test_name(closure: &'static str) -> &'static str {
    let path = closure.split("::{{closure}}").next().unwrap_or(closure);
    path.split_once("::").map_or(path, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of<F: FnOnce(&World) -> Result<()>>(_: F) -> &'static str {
        test_name(std::any::type_name::<F>())
    }

    #[test]
    fn a_test_knows_its_name() {
        assert_eq!(name_of(|_| Ok(())), "inside::tests::a_test_knows_its_name");
    }
}
