//! The machine's life by stand-ins for Podman, ssh and the shim, which record what they were called with. They are shell
//! scripts of a folder of the test's; the machine's own state is two files.

use super::*;
use std::os::unix::fs::PermissionsExt;

const PODMAN: &str = r#"#!/bin/sh
here=$(dirname "$0"); echo "podman $*" >> "$here/log"
test -e "$here/podman-fails-$2" && { echo "Error: no" >&2; exit 125; }
record=$XDG_CONFIG_HOME/containers/podman/machine/applehv/rcc.json
case $2 in
init) mkdir -p "$(dirname "$record")"; echo stopped > "$here/state"
  echo '{"Version":1,"Mounts":[],"SSH":{"Port":50001,"RemoteUsername":"core"},"AppleHypervisor":{},"Other":7}' > "$record" ;;
start) echo running > "$here/state" ;;
stop) echo stopped > "$here/state" ;;
rm) rm "$record" "$here/state" ;;
inspect) port=$(sed -n 's/.*"Port": *\([0-9]*\).*/\1/p' "$record")
  echo "[{\"State\": \"$(cat "$here/state")\", \"SSHConfig\": {\"Port\": $port}}]" ;;
esac
"#;

const SSH: &str = r#"#!/bin/sh
here=$(dirname "$0"); for command; do :; done
case $command in
*sha256sum*) echo "ssh has" >> "$here/log"; cat > /dev/null; test -e "$here/has" ;;
*/dev/stdin*) echo "ssh put $(cat)" >> "$here/log"; touch "$here/has" ;;
*/dev/tcp*) echo "ssh canary" >> "$here/log"; cat "$here/canary" ;;
'sudo /bin/sh') echo "ssh root" >> "$here/log"; cat > "$here/script"; test ! -e "$here/script-fails" ;;
*rcc-ticket*) echo "ssh ticket $(cat)" >> "$here/log"; echo /var/home/core/.rcc-ticket-x ;;
*) echo "ssh $command" >> "$here/log" ;;
esac
"#;

const SHIM: &str =
    "#!/bin/sh\necho \"gvproxy $1\" >> \"$(dirname \"$0\")/log\"\nexit $(cat \"$(dirname \"$0\")/probe\")\n";

struct World {
    folder: tempfile::TempDir,
    host: Host,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, text) in [("podman", PODMAN), ("ssh", SSH), ("gvproxy", SHIM)] {
        fs::write(at.join(name), text).unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (name, text) in [
        ("rcc.linux", "A"),
        ("rcc-hook.linux", "B"),
        ("rcc-forward.linux", "C"),
        ("canary", "closed\n"),
        ("probe", "0\n"),
    ] {
        fs::write(at.join(name), text).unwrap();
    }
    let host = Host {
        places: Places::of(&at.join("h")).unwrap(),
        home: at.join("h"),
        podman: at.join("podman"),
        ssh: at.join("ssh"),
        programs: at.to_owned(),
        version: "0.1.0",
        size: Size { cpus: 4, memory: 8192, disk: 100 },
        read: |path| fs::read(path),
    };
    World { folder, host }
}

impl World {
    fn project(&self, name: &str) -> PathBuf {
        let project = self.folder.path().join(name);
        fs::create_dir_all(&project).unwrap();
        project
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// What was called since the last time that this was asked.
    fn log(&self) -> String {
        let path = self.folder.path().join("log");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _absent = fs::remove_file(path);
        text.lines().filter(|line| !line.starts_with("podman machine inspect")).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn a_first_session_makes_the_machine_and_the_next_finds_it() {
    let world = world();
    let (a, b) = (world.project("a"), world.project("b"));
    assert_eq!(world.host.state(), Ok(None));
    let held = world.host.ready(&a, "users = []\n").unwrap();
    insta::assert_snapshot!(world.log(), @r"
    podman machine init --cpus=4 --memory=8192 --disk-size=100 --rootful=false --volume= rcc
    podman machine start --quiet --no-info rcc
    ssh has
    ssh put A
    ssh put B
    ssh put C
    ssh has
    ssh root
    gvproxy rcc-probe
    ssh canary
    ");
    let record = world.host.record().unwrap();
    assert_eq!((record.port(), record.folders()), (Some(47022), Ok(vec![a.clone()])));
    assert!(record.text().contains("\"Other\": 7"));
    let script = fs::read_to_string(world.folder.path().join("script")).unwrap();
    assert_eq!(script, guest::prepare("0.1.0", "users = []\n", std::slice::from_ref(&a)));
    // A second session in the same project shares it; one in another can't come in, and nobody stops it.
    let second = world.host.ready(&a, "users = []\n").unwrap();
    assert_eq!(world.log(), "ssh has\nssh root\ngvproxy rcc-probe\nssh canary");
    assert_eq!(world.host.ready(&b, "").unwrap_err().code, Code::MACHINE_PROJECT);
    for refused in [world.host.stop(), world.host.remove(), world.host.forget(&a)] {
        assert_eq!(refused.unwrap_err().code, Code::MACHINE_BUSY);
    }
    assert_eq!(world.log(), "");
    drop((held, second));
    // With nobody in it, it is restarted with the other project beside the first.
    let held = world.host.ready(&b, "").unwrap();
    assert!(
        world
            .log()
            .starts_with("podman machine stop rcc\npodman machine start --quiet --no-info rcc\nssh has\nssh root")
    );
    assert_eq!(world.host.record().unwrap().folders(), Ok(vec![a.clone(), b.clone()]));
    assert_eq!(world.host.hand_over(&world.host.record().unwrap(), "0123"), Ok("/var/home/core/.rcc-ticket-x".into()));
    assert_eq!(world.log(), "ssh ticket 0123");
    drop(held);
    assert_eq!((world.host.forget(&a), world.host.forget(&a)), (Ok(true), Ok(false)));
    assert_eq!((world.host.state(), world.host.record().unwrap().folders()), (Ok(Some(State::Stopped)), Ok(vec![b])));
    assert_eq!((world.host.remove(), world.host.remove()), (Ok(true), Ok(false)));
    assert_eq!(world.host.state(), Ok(None));
}

#[test]
fn a_folder_that_is_gone_goes_from_the_machine() {
    let world = world();
    let (a, b) = (world.project("a"), world.project("b"));
    drop(world.host.ready(&a, "").unwrap());
    fs::remove_dir(&a).unwrap();
    drop(world.host.ready(&b, "").unwrap());
    assert_eq!(world.host.record().unwrap().folders(), Ok(vec![b]));
}

#[test]
fn no_session_starts_in_a_machine_that_is_open_or_can_not_be_tried() {
    for (name, text, why) in [
        ("probe", "1", "gvproxy's group"),
        ("probe", "125", "could not try"),
        ("canary", "open\n", "root reaches"),
        ("canary", "", "could not be tried"),
    ] {
        let world = world();
        world.put(name, text);
        let problem = world.host.ready(&world.project("a"), "").unwrap_err();
        assert!(problem.code == Code::MACHINE_OPEN && problem.what.contains(why), "{problem}");
        // What was held is let go.
        assert_eq!(world.host.stop(), Ok(true));
    }
}

#[test]
fn what_fails_is_said_with_its_own_words() {
    for act in ["init", "start"] {
        let world = world();
        world.put(&format!("podman-fails-{act}"), "");
        let problem = world.host.ready(&world.project("a"), "").unwrap_err();
        assert_eq!((problem.code, problem.what.as_str()), (Code::MACHINE_PODMAN, "Error: no"), "{act}");
        assert!(problem.subject.starts_with(&format!("podman machine {act}")), "{problem}");
    }
    let world = world();
    world.put("script-fails", "");
    assert_eq!(world.host.ready(&world.project("a"), "").unwrap_err().code, Code::MACHINE_PREPARE);
    fs::remove_file(world.folder.path().join("rcc.linux")).unwrap();
    let problem = world.host.ready(&world.project("a"), "").unwrap_err();
    assert!(problem.code == Code::MACHINE_PREPARE && problem.what.contains("rcc.linux"), "{problem}");
}

#[test]
fn a_record_that_somebody_changed_is_not_started() {
    let world = world();
    let a = world.project("a");
    drop(world.host.ready(&a, "").unwrap());
    let path = world.host.places.record();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"ReadOnly\": false", "\"ReadOnly\": true")).unwrap();
    world.log();
    assert_eq!(world.host.ready(&a, "").unwrap_err().code, Code::MACHINE_FOREIGN);
    assert_eq!(world.log(), "");
    // A machine that got another port is not spoken to.
    fs::write(&path, text.replace("47022", "50002")).unwrap();
    assert_eq!(world.host.ready(&a, "").unwrap_err().code, Code::MACHINE_FOREIGN);
}
