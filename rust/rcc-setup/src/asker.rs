//! Who asks for setup, for what, and the policy that one who has none begins with.

use rcc_host::accounts::{self, User};
use rcc_report::{Code, Problem};
use std::path::PathBuf;

/// What is taken away besides what setup made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Policy and log stay; the log becomes root's.
    PolicyAndLog,
    /// Nothing stays.
    Nothing,
}

/// Only root sets up and takes away.
pub fn root() -> Result<(), Problem> {
    if nix::unistd::geteuid().is_root() && nix::unistd::getuid().is_root() {
        return Ok(());
    }
    let me = rcc_host::this_program().unwrap_or_default();
    let remedy = format!("sudo {} setup    (or uninstall)", me.with_file_name("rcc").display());
    Err(Problem::new(Code::SETUP_ROOT, "rcc-setup", "it is root's to run", remedy))
}

/// The person who called by sudo or doas; never root. One of a directory service is known by id alone.
#[must_use]
pub fn caller() -> Option<User> {
    let name = ["SUDO_USER", "DOAS_USER"].iter().find_map(|v| std::env::var(v).ok())?;
    let by_id = || {
        let id: u32 = std::env::var("SUDO_UID").ok()?.parse().ok()?;
        // A Mac's gateway asks the directory service by itself; elsewhere its names are not the files'.
        let name = if cfg!(target_os = "macos") { name.clone() } else { id.to_string() };
        let (comment, shell) = (String::new(), String::new());
        Some(User { name, uid: id, gid: u32::MAX, comment, home: PathBuf::new(), shell })
    };
    accounts::user(&name).ok().flatten().or_else(by_id).filter(|user| user.uid != 0)
}

/// The policy of a machine that has none.
pub fn usual_policy(person: Option<&User>) -> String {
    // A name that the policy's notation does not carry is left to root.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let user = person.map(|p| &p.name).filter(|name| name.chars().all(plain));
    let users = user.map_or(String::new(), |name| format!("\"{name}\""));
    format!(
        "# Written by rcc setup, and kept by it from now on. docs/policy.md has every key.\n\
         users = [{users}]\n\
         # The last three: package registries, as a person's own tools have them.\n\
         allow = [\"@claude\", \"@github\", \"@npm\", \"@pypi\", \"@cargo\"]\n\n\
         [credentials.anthropic]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_policy_is_valid_and_names_who_called() {
        let root = accounts::user("root").unwrap().unwrap();
        let named = |name: &str| User { name: name.into(), ..root.clone() };
        for (person, users) in [(None, "[]"), (Some(named("alice")), "[\"alice\"]"), (Some(named("a\"]\n")), "[]")] {
            let text = usual_policy(person.as_ref());
            rcc_policy::parse(&text, "policy").unwrap();
            assert!(text.contains(&format!("users = {users}\n")), "{text}");
        }
    }
}
