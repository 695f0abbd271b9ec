//! The gateway's own way out: whom it asks for names, a proxy, a network that translates, a VPN's made-up addresses. Each
//! with the real firewall table in force, and with a control that fails without what is shown.

use anyhow::{Context, Result, ensure};
use rcc_rig::{Rig, shown};
use rcc_sessions::{SETUP, root};
use rcc_world::{World, inside_with, map};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Whether curl in a session has an answer: a name that does not resolve, a refusal, the gateway's own 403 are none.
fn reaches(rig: &Rig<'_>, url: &str) -> Result<bool> {
    let script = format!("curl -sS -m 20 --cacert ca.pem -o /dev/null -w '%{{http_code}}' {url}");
    fs::copy(&rig.world.at.ca_pem, rig.project.join("ca.pem"))?;
    fs::set_permissions(rig.project.join("ca.pem"), fs::Permissions::from_mode(0o644))?;
    let output = rig.inside(&script)?;
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{url}: {status} {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.status.success() && status == "200")
}

fn works(rig: &Rig<'_>, url: &str) -> Result<()> {
    ensure!(reaches(rig, url)?, "{url} is not reached\n{}", fs::read_to_string(rcc_rig::LOG)?);
    Ok(())
}

fn fails(rig: &Rig<'_>, url: &str) -> Result<()> {
    ensure!(!reaches(rig, url)?, "{url} is reached\n{}", fs::read_to_string(rcc_rig::LOG)?);
    Ok(())
}

/// The rig's usual policy with `keys` before it.
fn policy(rig: &Rig<'_>, allow: &[&str], keys: &str) -> Result<()> {
    rig.policy(&format!("{keys}\n{}", rig.usual_policy(allow, "")))
}

fn resolv_conf(servers: &[&str]) -> Result<()> {
    let lines: Vec<String> = servers.iter().map(|s| format!("nameserver {s}\n")).collect();
    Ok(fs::write("/etc/resolv.conf", lines.concat())?)
}

fn apply(rig: &Rig<'_>) -> Result<()> {
    let output = rig.firewall("apply").output()?;
    ensure!(output.status.success(), "{}", shown(&output));
    Ok(())
}

/// Whether the gateway's user reaches an address, with any code.
fn gateway_reaches(to: &str, port: u16) -> Result<bool> {
    let user = nix::unistd::User::from_name(rcc_proto::GATEWAY_USER)?.context("the gateway's user")?;
    let script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script, to, &port.to_string()]).uid(user.uid.as_raw()).gid(user.gid.as_raw());
    Ok(command.stderr(Stdio::null()).status()?.success())
}

/// A program of root's that forwards, to its end.
struct Forwarder(Child);

impl Forwarder {
    fn start(script: &str) -> Result<Self> {
        let mut child = Command::new("/usr/bin/python3").args(["-c", script]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().context("a pipe")?), &mut line)?;
        ensure!(line == "ready\n", "the forwarder has not started");
        Ok(Self(child))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A stub as systemd-resolved is: on a loopback address, it asks the router.
const STUB: &str = "import socket\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.53', 53)); print('ready', flush=True)\n\
    while True:\n\
    \tdata, peer = s.recvfrom(4096)\n\
    \tu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(2); u.connect(('192.168.77.1', 53)); u.send(data)\n\
    \ttry: s.sendto(u.recv(4096), peer)\n\
    \texcept OSError: pass\n";

#[test]
fn the_machines_own_resolvers_are_followed_by_gateway_and_firewall() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let url = "http://allowed.example/";
        works(&rig, url)?;
        // resolv.conf changes: a VPN's or a DHCP server's word.
        resolv_conf(&["11.0.0.53"])?;
        fails(&rig, url).context("the control: a resolver that the table in force does not know")?;
        apply(&rig)?;
        works(&rig, url)?;
        // systemd-resolved: its port is opened, and nothing else of loopback.
        let _stub = Forwarder::start(STUB)?;
        resolv_conf(&["127.0.0.53"])?;
        fails(&rig, url).context("the control: loopback is closed")?;
        apply(&rig)?;
        works(&rig, url)?;
        ensure!(!gateway_reaches("127.0.0.1", 8901)?, "a service on the host's localhost");
        Ok(())
    });
}

#[test]
fn given_resolvers_are_asked_and_no_other() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80"], "")?;
        let url = "http://allowed.example/";
        resolv_conf(&["192.168.77.99"])?;
        apply(&rig)?;
        fails(&rig, url).context("the control: the machine's resolver is gone")?;
        policy(&rig, &["allowed.example:80"], "resolvers = [\"11.0.0.53\"]")?;
        works(&rig, url)
    });
}

/// How the world's resolvers were asked for a name: `udp`, `tcp`, `tls`.
fn asked_by(world: &World, name: &str) -> Result<Vec<String>> {
    Ok(world
        .hits()?
        .into_iter()
        .filter(|h| h.server == "dns" && h.name.as_deref() == Some(name))
        .map(|h| h.proto)
        .collect())
}

#[test]
fn a_resolver_by_tls_must_show_its_certificate_and_is_asked_by_nothing_else() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["*.wild.example:80"], "")?;
        let with = |resolver: &str| policy(&rig, &["*.wild.example:80"], &format!("resolvers = [{resolver:?}]"));
        works(&rig, "http://plain.wild.example/")?;
        ensure!(asked_by(world, "plain.wild.example")?.contains(&"udp".to_owned()), "the control: seen in the clear");
        for (resolver, name) in [
            ("tls://11.0.0.53#resolver.example", "named.wild.example"),
            ("tls://11.0.0.53", "by-address.wild.example"),
            ("tls://[2600::53]#resolver.example", "six.wild.example"),
        ] {
            with(resolver)?;
            works(&rig, &format!("http://{name}/"))?;
            let asked = asked_by(world, name)?;
            ensure!(!asked.is_empty() && asked.iter().all(|by| by == "tls"), "{resolver}: {asked:?}");
        }
        for resolver in ["tls://11.0.0.53#othername.badtls.example", "tls://11.0.0.53#selfsigned.badtls.example"] {
            with(resolver)?;
            fails(&rig, "http://bad.wild.example/")?;
            ensure!(asked_by(world, "bad.wild.example")?.is_empty(), "nobody was asked: {resolver}");
        }
        Ok(())
    });
}

/// No way out but the LAN, where the proxy is. Answers go to who asked, so it is the host that must not send.
const NO_ROUTE: &str = "ip route del default; ip -6 route del default";
/// What the proxy wants.
const CREDENTIALS: &str = "corp:proxy";

fn credentials(text: &str) -> Result<()> {
    fs::create_dir_all("/etc/rcc")?;
    fs::write("/etc/rcc/proxy", text)?;
    fs::set_permissions("/etc/rcc/proxy", fs::Permissions::from_mode(0o640))?;
    let group = nix::unistd::Group::from_name(rcc_proto::GATEWAY_USER)?.context("the gateway's group")?;
    Ok(std::os::unix::fs::chown("/etc/rcc/proxy", Some(0), Some(group.gid.as_raw()))?)
}

/// The agent's own key endpoint takes the same way out, with TLS to the model's server within the proxy's tunnel.
fn the_model_answers_by_the_proxy(rig: &Rig<'_>) -> Result<()> {
    let asked = || -> Result<usize> {
        let hits = rig.world.hits()?;
        let model = |h: &rcc_world::witness::Hit| h.path.as_deref() == Some("api.anthropic.com:443");
        Ok(hits.iter().filter(|h| h.method.as_deref() == Some("CONNECT") && model(h)).count())
    };
    let before = asked()?;
    let (output, results) = rig.agent(&["echo $((6 * 7))"])?;
    ensure!(output.status.success() && results == ["42"], "{results:?} {}", shown(&output));
    let last = rig.world.exchanges()?.pop().context("the model was not asked")?;
    ensure!(last.x_api_key == rcc_world::model::Credential::ApiKey, "{last:?}");
    ensure!(asked()? > before, "past the proxy: {:?}", rig.world.hits()?);
    Ok(())
}

#[test]
fn a_corporate_proxy_is_the_only_way_out() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["allowed.example:80,443"], "")?;
        let allow = ["allowed.example:80,443", "answers-lan.example:80", "answers-metadata.example:80"];
        root(NO_ROUTE)?;
        fails(&rig, "http://allowed.example/").context("the control: there is no route")?;
        credentials(&format!("{CREDENTIALS}\n"))?;
        let by = |url: &str, more: &str| {
            policy(
                &rig,
                &allow,
                &format!("upstream_proxy = {{ url = {url:?}, credentials_file = \"/etc/rcc/proxy\"{more} }}"),
            )
        };
        let _local = Forwarder::start(
            "import socket, threading\n\
             l = socket.create_server(('127.0.0.1', 3129)); print('ready', flush=True)\n\
             def copy(a, b):\n\
             \ttry:\n\
             \t\twhile d := a.recv(65536): b.sendall(d)\n\
             \t\tb.shutdown(1)\n\
             \texcept OSError: pass\n\
             while True:\n\
             \ta, _ = l.accept(); b = socket.create_connection(('192.168.77.3', 3128))\n\
             \tfor p in ((a, b), (b, a)): threading.Thread(target=copy, args=p, daemon=True).start()\n",
        )?;
        for (url, more) in [
            ("http://192.168.77.3:3128", ""),
            ("http://127.0.0.1:3129", ""),
            ("http://proxy.corp.example:3128", ", via = \"192.168.77.0/24\""),
            ("https://proxy.corp.example:3128", ", via = \"192.168.77.0/24\""),
        ] {
            by(url, more)?;
            for scheme in ["http", "https"] {
                works(&rig, &format!("{scheme}://allowed.example/")).with_context(|| url.to_owned())?;
                works(&rig, &format!("{scheme}://allowed.example/bytes/3000000")).with_context(|| url.to_owned())?;
            }
            // What this machine's resolvers know to be private is not asked for; nor is what no entry names.
            for denied in ["http://answers-lan.example/", "http://answers-metadata.example/", "http://denied.example/"]
            {
                fails(&rig, denied)?;
            }
            ensure!(!gateway_reaches("192.168.77.20", 80)?, "a neighbour on the LAN");
            ensure!(!gateway_reaches("11.1.0.10", 443)?, "past the proxy");
            the_model_answers_by_the_proxy(&rig).with_context(|| url.to_owned())?;
        }
        let through: Vec<_> = world.hits()?.into_iter().filter(|h| h.method.as_deref() == Some("CONNECT")).collect();
        ensure!(!through.is_empty(), "the proxy was asked");
        ensure!(
            through.iter().all(|h| !format!("{h:?}").contains("answers-") && !format!("{h:?}").contains("denied")),
            "{through:?}"
        );
        // A person reaches them: the refusal above was the gateway's.
        let control = "curl -s -o /dev/null -w '%{http_code}' -p -x http://corp:proxy@192.168.77.3:3128 http://answers-lan.example/";
        ensure!(rcc_sessions::user(&rig, control)? == "200", "the control");
        let log = fs::read_to_string(rcc_rig::LOG)?;
        ensure!(log.contains("\"proxy\":\"https://proxy.corp.example:3128\""), "{log}");

        // Without the right credentials nothing goes; without any no session begins; none of them is seen anywhere.
        credentials("corp:wrong-word\n")?;
        by("http://192.168.77.3:3128", "")?;
        fails(&rig, "https://allowed.example/")?;
        ensure!(fs::read_to_string(rcc_rig::LOG)?.contains("status 407"), "it is said");
        for bad in ["no colon\n", "a:b\nc:d\n", ""] {
            credentials(bad)?;
            let mut command = rig.rcc(["run", "--", "true"]);
            command.env_remove("ANTHROPIC_API_KEY");
            rcc_sessions::refused(command, "RCC-410")?;
        }
        let log = fs::read_to_string(rcc_rig::LOG)?;
        for secret in [CREDENTIALS, "Y29ycDpwcm94eQ", "wrong-word", "Proxy-Auth"] {
            ensure!(!log.contains(secret), "{secret} is in the log");
        }
        Ok(())
    });
}

/// The host has no IPv4 but loopback's, as in a network that has none.
const IPV6_ONLY: &str = "ip -4 addr flush dev eth0";

#[test]
fn a_network_of_ipv6_alone_is_left_by_its_translator() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["v4only.example:80"], "")?;
        let allow =
            ["v4only.example:80", "nat64-public.example:80", "answers-lan.example:80", "answers-metadata.example:80"];
        root(IPV6_ONLY)?;
        let plain = map::RESOLVER6.to_string();
        resolv_conf(&[&plain])?;
        policy(&rig, &allow, "")?;
        fails(&rig, "http://v4only.example/").context("the control: without a translator")?;
        works(&rig, "http://nat64-public.example/").context("the well-known prefix")?;
        let inside = |ip: [u8; 4]| map::translated(map::NAT64, ip.into()).to_string();
        let (metadata, lan) = (inside([169, 254, 169, 254]), inside([192, 168, 77, 20]));
        ensure!(gateway_reaches(&metadata, 80)?, "the control: nobody told the firewall of that prefix");

        resolv_conf(&[&map::DNS64.to_string()])?;
        apply(&rig)?;
        works(&rig, "http://v4only.example/")?;
        let hits = world.hits()?;
        let at = format!("[{}]:80", inside([11, 1, 0, 4]));
        ensure!(hits.iter().any(|h| h.local == at), "by the translator: {at}");
        for denied in ["http://answers-lan.example/", "http://answers-metadata.example/"] {
            fails(&rig, denied)?;
        }
        ensure!(!gateway_reaches(&metadata, 80)? && !gateway_reaches(&lan, 80)?, "the kernel, by the address inside");
        ensure!(gateway_reaches(&inside([11, 1, 0, 4]), 80)?, "and public ones go");
        ensure!(!gateway_reaches(&inside([11, 1, 0, 4]), 81)?, "on the policy's ports");

        // A resolver that wants a LAN opened: neither gateway nor firewall believes it.
        resolv_conf(&[&map::LIAR64.to_string()])?;
        apply(&rig)?;
        let lie = map::translated(map::LIE64, [11, 1, 0, 4].into()).to_string();
        ensure!(!gateway_reaches(&lie, 80)?, "a LAN's address");
        fails(&rig, "http://v4only.example/")?;
        ensure!(rig.firewall("remove").status()?.success(), "remove");
        ensure!(gateway_reaches(&lie, 80)?, "the control: it is there");
        Ok(())
    });
}

#[test]
fn a_vpns_made_up_addresses_count_as_public_by_the_policys_word() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["answers-benchmark.example:80"], "")?;
        let url = "http://answers-benchmark.example/";
        fails(&rig, url).context("the control: without `fake_ip`")?;
        let with = || policy(&rig, &["answers-benchmark.example:80"], "fake_ip = \"198.18.0.0/15\"");
        with()?;
        works(&rig, url)?;
        // As a VPN's own device has it: the range is on-link.
        root("ip route add 198.18.0.0/15 dev eth0")?;
        with()?;
        works(&rig, url)
    });
}

/// Addresses as endpoints, of both families: what is in a range is reached, what is beside it is not, on no other port,
/// and neither is a neighbour on the link, though a range holds it.
#[test]
fn ranges_of_addresses_are_reached_by_ipv4_and_ipv6() {
    inside_with(SETUP, |world| {
        let rig = Rig::start(world, &["11.1.0.0/24:80", "[2600:1::/64]:80", "[2600:77::20]:80"], "")?;
        for url in ["http://11.1.0.10/", "http://[2600:1::10]/", "http://[2600:1::6]/bytes/3000000"] {
            works(&rig, url)?;
        }
        for url in [
            "http://11.1.1.10/",
            "http://[2600:2::1]/",
            "http://[2600:1::10]:8080/",
            "http://[2600:77::20]/",
            "http://[::1]:47080/",
            "http://[fe80::1]/",
        ] {
            fails(&rig, url)?;
        }
        // By root's word a neighbour is.
        rig.policy(&rig.usual_policy(&[], "").replacen("allow", "private = [\"[2600:77::20]:80\"]\nallow", 1))?;
        works(&rig, "http://[2600:77::20]/")?;
        fails(&rig, "http://[2600:77::1]/")?;
        let told = rig.log()?.into_iter().any(|l| l["event"] == "connect" && l["name"] == "2600:1::10");
        ensure!(told, "what was dialled is on record: {:?}", rig.log()?);
        Ok(())
    });
}
