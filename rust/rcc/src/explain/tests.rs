//! Golden cases: one policy, one machine, and every kind of answer.

use super::*;
use rcc_rules::Facts;
use std::fmt::Write as _;

const POLICY: &str = r#"# Root's.
allow = [
  "docs.example.org:443",
  "*.wild.example.org:80,443",
  "@gitlab",
  "11.9.0.0/16:9000",
  "192.0.3.7:9000",
]
may_allow = ["*:22,80,443"]
deny = ["*.bad.example.org", "9.9.9.0/24"]
private = ["git.corp.example:443 via 10.20.0.0/16", "10.30.1.5:8443"]

[credentials.anthropic]
"#;

const ASKED: &[(From, &str)] = &[
    (From::Agent, "docs.example.org:443"),
    (From::Agent, "docs.example.org:22"),
    (From::Agent, "a.wild.example.org:80"),
    (From::Agent, "gitlab.com:22"),
    (From::Agent, "granted.example.org:443"),
    (From::Agent, "mine.example.org:443"),
    (From::Agent, "unknown.example.org:443"),
    (From::Agent, "unknown.example.org:5432"),
    (From::Agent, "x.bad.example.org:443"),
    (From::Agent, "git.corp.example:443"),
    (From::Agent, "api.anthropic.com:443"),
    (From::Agent, "anthropic.rcc.internal:80"),
    (From::Agent, "rcc.internal:443"),
    (From::Agent, "198.18.1.0:443"),
    (From::Agent, "11.9.1.1:9000"),
    (From::Agent, "192.0.3.7:9000"),
    (From::Agent, "10.30.1.5:8443"),
    (From::Agent, "8.8.8.8:443"),
    (From::Agent, "192.168.77.50:80"),
    (From::Agent, "169.254.169.254:80"),
    (From::Gateway, "docs.example.org:443"),
    (From::Gateway, "docs.example.org:25"),
    (From::Gateway, "git.corp.example:443"),
    (From::Gateway, "8.8.8.8:443"),
    (From::Gateway, "8.8.8.8:25"),
    (From::Gateway, "9.9.9.9:443"),
    (From::Gateway, "10.20.1.1:443"),
    (From::Gateway, "192.168.77.20:443"),
    (From::Gateway, "192.168.77.50:443"),
    (From::Gateway, "192.0.3.7:9000"),
    (From::Gateway, "127.0.0.1:8901"),
    (From::Gateway, "169.254.169.254:80"),
    (From::Gateway, "[2600::1]:443"),
    (From::Gateway, "[fd00::1]:443"),
    (From::User, "10.0.0.1:443"),
];

fn question(from: From, text: &str) -> Question {
    let (host, port) = text.rsplit_once(':').unwrap();
    let host = match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => Host::Address(ip),
        Err(_) => Host::Name(HostName::parse(host).unwrap()),
    };
    Question { from, host, port: port.parse().unwrap() }
}

fn with_known<T>(what: impl FnOnce(&Known<'_>) -> T) -> T {
    let policy = rcc_policy::parse(POLICY, "policy").unwrap();
    let grants = Grants::parse(&["granted.example.org:443".into(), "!mine.example.org".into()]).unwrap();
    let resolved = policy.resolve(&grants.texts()).unwrap();
    let net = rcc_host::net::HostNet {
        own: vec!["127.0.0.0/8".parse().unwrap(), "192.168.77.50/32".parse().unwrap()],
        on_link: vec!["192.168.77.0/24".parse().unwrap(), "192.0.3.0/24".parse().unwrap()],
        v6: true,
    };
    let facts = Facts {
        gateway: 999,
        resolvers: ["127.0.0.53:53".parse().unwrap()].into(),
        on_link: net.on_link.iter().copied().collect(),
        nat64: [].into(),
    };
    let table = Table::new(&policy.egress(), policy.fingerprint(), &facts);
    what(&Known {
        policy: &policy,
        text: (POLICY, "/etc/rcc/policy.toml"),
        grants: &grants,
        resolved: &resolved,
        net: &net,
        table: &table,
    })
}

#[test]
fn every_kind_of_answer() {
    let mut out = String::new();
    with_known(|known| {
        for (from, text) in ASKED {
            writeln!(out, "{}", question(*from, text).answer(known)).unwrap();
        }
    });
    insta::assert_snapshot!(out);
}

#[test]
fn the_same_as_json() {
    let one = with_known(|known| question(From::Agent, "x.bad.example.org:443").answer(known));
    insta::assert_snapshot!(serde_json::to_string_pretty(&one).unwrap());
}

/// What it says is what the gateway and the firewall would do.
#[test]
fn the_answer_is_the_decision() {
    with_known(|known| {
        for (from, text) in ASKED {
            let question = question(*from, text);
            let answer = question.answer(known).answer;
            let (Host::Name(name), From::Agent) = (&question.host, from) else { continue };
            if !name.as_str().ends_with("rcc.internal") {
                let allowed = known.resolved.decide(Target::Name(name), question.port).is_allowed();
                assert_eq!(answer == Answer::Allowed, allowed, "{text}");
            }
        }
    });
}
