//! `docker`, `podman` and their like as the agent finds them first: one sentence that says that there are none inside. A
//! help, not a wall: no container runs inside by any name, and the host's are out of reach.

/// The names by which this program is one of them.
pub const NAMES: &[&str] = &["docker", "docker-compose", "podman", "podman-compose", "nerdctl", "buildah"];

/// Says so; gives the exit code of a program that is not there.
#[must_use]
pub fn run(name: &str) -> u8 {
    eprintln!("rcc: {name}: {NONE}");
    127
}

/// The sentence.
pub const NONE: &str = "containers don't run inside, and the host's are out of reach; use them outside";
