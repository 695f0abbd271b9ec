//! `rcc why`: which line, grant or rule decides on a connection, and what would change that.

use crate::Done;
use crate::explain::{From, Host, Known, Question};
use crate::root_policy;
use clap::Args;
use rcc_launch::grants::Remembered;
use rcc_launch::machine;
use rcc_launch::project::Project;
use rcc_policy::{HostName, Resolvers};
use rcc_report::{Code, Problem, escaped};
use rcc_rules::{Facts, Table};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Tell why a connection is allowed or denied: the policy's line, your grant or denial, or the firewall's rule that
/// decides, and what would change that.
///
/// It looks nothing up and connects to nothing. It speaks of the policy as it is written now, and of this project's grants
/// for good; what was granted to a running session alone is in `http://rcc.internal/why` of that session. Whether the
/// firewall is in force is said by `rcc status`.
#[derive(Args)]
pub struct WhyArgs {
    /// HOST:PORT, a name or an address (IPv6 in brackets); without a port 443.
    #[arg(value_name = "HOST[:PORT]")]
    to: String,
    /// Who would connect.
    #[arg(long, value_enum, default_value = "agent")]
    from: From,
    /// The project's folder. Otherwise the nearest one upwards with rcc.toml or .git, or this folder.
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &WhyArgs) -> Done {
    let (host, port) = target(&args.to).map_err(one)?;
    let person = machine::person().map_err(one)?;
    let (policy, text) = root_policy::policy_and_text()?;
    let project = Project::find(args.project.as_deref(), &person).map_err(one)?;
    let (grants, forbidden) = policy.capped(&Remembered::of(&person).grants(&project).map_err(one)?);
    for problem in forbidden {
        eprintln!("rcc: warning: you granted this project what the policy forbids by now: {problem}");
    }
    let resolved = policy.resolve(&grants.texts())?;
    let unreadable = |e: &std::io::Error| {
        one(Problem::new(Code::FIREWALL_FACTS, "/proc/net", e.to_string(), "mount /proc and /sys"))
    };
    let net = rcc_host::net().map_err(|e| unreadable(&e))?;
    let resolvers = match policy.egress().resolvers {
        Resolvers::System => {
            let path = Path::new(rcc_host::resolv_conf::RESOLV_CONF);
            let text = match rcc_host::trusted::read_plain(path) {
                // Nobody is asked.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                other => other.map_err(|e| unreadable(&e))?,
            };
            rcc_host::resolv_conf::nameservers(&String::from_utf8_lossy(&text)).into_iter().collect()
        }
        Resolvers::Given(_) => [].into(),
    };
    // Its number is not spoken of; where there is no such user yet, any that nobody has will do.
    let gateway = rcc_preflight::probe::account(rcc_proto::GATEWAY_USER).ok().flatten().map_or(u32::MAX, |u| u.uid);
    let facts = Facts { gateway, resolvers, on_link: net.on_link.iter().copied().collect(), nat64: [].into() };
    let table = Table::new(&policy.egress(), policy.fingerprint(), &facts);
    let question = Question { from: args.from, host, port };
    let known = Known {
        policy: &policy,
        text: (&text, root_policy::POLICY_FILE),
        grants: &grants,
        resolved: &resolved,
        net: &net,
        table: &table,
    };
    let answer = question.answer(&known);
    if args.json {
        let json = serde_json::to_string_pretty(&answer).map_err(|e| one(bad(&args.to, e.to_string(), "report it")))?;
        println!("{json}");
    } else {
        print!("{answer}");
    }
    Ok(0)
}

/// A name or address, and a port.
fn target(text: &str) -> Result<(Host, u16), Problem> {
    let form = "write HOST:PORT, such as docs.example.org:443, 192.0.2.1:22 or [2001:db8::1]:443";
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok((Host::Address(ip), 443));
    }
    let (host, port) = text.rsplit_once(':').map_or((text, Ok(443)), |(host, port)| (host, port.parse::<u16>()));
    let port =
        port.ok().filter(|port| *port != 0).ok_or_else(|| bad(text, "the port is no number from 1 to 65535", form))?;
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok((Host::Address(ip), port));
    }
    let name = HostName::parse(host)
        .map_err(|e| bad(text, e.to_string(), if host.contains('/') { form.into() } else { e.remedy() }))?;
    Ok((Host::Name(name), port))
}

fn bad(subject: &str, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem::new(Code::POLICY_BAD_ENDPOINT, escaped(subject), what, remedy)
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_understood_or_refused_with_a_form() {
        let shown = |text: &str| match target(text) {
            Ok((Host::Name(name), port)) => format!("{name} {port}"),
            Ok((Host::Address(ip), port)) => format!("{ip} {port}"),
            Err(problem) => problem.code.to_string(),
        };
        for (text, is) in [
            ("A.example.org", "a.example.org 443"),
            ("a.example.org:22", "a.example.org 22"),
            ("10.0.0.1:80", "10.0.0.1 80"),
            ("::1", "::1 443"),
            ("[2600::1]:8443", "2600::1 8443"),
            ("[2600::1]", "2600::1 443"),
            ("https://a.example.org/x", "RCC-103"),
            ("a.example.org:0", "RCC-103"),
            ("a.example.org:x", "RCC-103"),
            ("", "RCC-103"),
            ("127.1:80", "RCC-103"),
        ] {
            assert_eq!(shown(text), is, "{text}");
        }
    }
}
