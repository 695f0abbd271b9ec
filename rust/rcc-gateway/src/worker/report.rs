//! What a session reached and what it was denied: for the agent at <http://rcc.internal/why>, for the person at the end.
//!
//! Invariant: bounded, whatever an agent does; and a command is only offered for a host name that this session's policy
//! lets a person grant, so that nothing else an agent makes up ever stands behind `rcc allow`.

use super::log::plain;
use super::session::Session;
use super::way::Way;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcc_policy::{DenyReason, HostName, Policy, Resolved, Target};
use rcc_proto::{Denied, REPORT_HOST, Reached, Summary};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an agent that tried the host's own services wants to know: those attempts never come to the gateway.
const HERE: &str =
    "localhost is this sandbox itself: databases and servers of the host, and published ports, are out of reach.\n";

/// Denials that are remembered, each host and port once.
const DENIALS: usize = 64;
/// Hosts of which it is remembered what was exchanged.
const HOSTS: usize = 256;
/// Hosts of each kind in a summary.
const SUMMARY: usize = 16;
/// How long one caller may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The session's own record.
#[derive(Debug, Default)]
pub struct Report {
    denials: VecDeque<Denial>,
    forgotten: u64,
    hosts: HashMap<String, (u64, u64)>,
    further_hosts: u64,
}

/// A host that was denied, on a port or already as a name.
#[derive(Debug)]
struct Denial {
    host: String,
    port: Option<u16>,
    reason: String,
    times: u64,
    last: SystemTime,
}

impl Report {
    /// Remembers a denial.
    pub fn denied(&mut self, host: &str, port: Option<u16>, reason: &str) {
        let known = self.denials.iter().position(|d| d.port == port && d.host == host);
        let times = known.and_then(|i| self.denials.remove(i)).map_or(0, |d| d.times);
        if self.denials.len() >= DENIALS {
            self.denials.pop_back();
            self.forgotten += 1;
        }
        self.denials.push_front(Denial {
            host: host.to_owned(),
            port,
            reason: reason.to_owned(),
            times: times + 1,
            last: SystemTime::now(),
        });
    }

    /// Counts what was exchanged with a host.
    pub fn exchanged(&mut self, host: &str, up: u64, down: u64) {
        if up + down == 0 {
            return;
        }
        if let Some((all_up, all_down)) = self.hosts.get_mut(host) {
            (*all_up, *all_down) = (*all_up + up, *all_down + down);
        } else if self.hosts.len() < HOSTS {
            self.hosts.insert(host.to_owned(), (up, down));
        } else {
            self.further_hosts += 1;
        }
    }

    /// The denials as text.
    fn why(&self, root: &Policy, now: &Resolved) -> String {
        if self.denials.is_empty() {
            return format!("rcc: nothing was denied in this session so far.\n{HERE}");
        }
        let mut text = String::from(
            "rcc: what this session was denied, the latest first (times are UTC). Only the person can allow a host,\n\
             outside of this session, in a terminal in the project's folder. Nothing in here can.\n",
        );
        for denial in &self.denials {
            let port = denial.port.map(|p| format!(":{p}")).unwrap_or_default();
            let times = if denial.times > 1 { format!(" ({} times)", denial.times) } else { String::new() };
            let _ = writeln!(text, "\n{}  {}{port}: {}{times}", clock(denial.last), plain(&denial.host), denial.reason);
            let _ = match offer(root, now, &denial.host, denial.port) {
                Offer::Grant(grant) => writeln!(text, "          the person can type: rcc allow {grant}"),
                Offer::Allowed => writeln!(text, "          it is allowed by now"),
                Offer::Never(why) => writeln!(text, "          rcc allow can't help: {why}"),
            };
        }
        if self.forgotten > 0 {
            let _ = writeln!(text, "\nand {} earlier ones", self.forgotten);
        }
        text + "\n" + HERE
    }

    /// The session in short. `under_way` is what connections that still live have exchanged.
    pub fn summary(
        &self,
        root: &Policy,
        now: &Resolved,
        under_way: impl Iterator<Item = (String, u64, u64)>,
    ) -> Summary {
        let mut all = Self { hosts: self.hosts.clone(), further_hosts: self.further_hosts, ..Self::default() };
        under_way.for_each(|(host, up, down)| all.exchanged(&host, up, down));
        let mut reached: Vec<Reached> =
            all.hosts.iter().map(|(host, (up, down))| Reached { host: plain(host), up: *up, down: *down }).collect();
        reached.sort_by(|a, b| (b.up + b.down, &a.host).cmp(&(a.up + a.down, &b.host)));
        let mut denied: Vec<Denied> = Vec::new();
        for denial in &self.denials {
            let grant = match offer(root, now, &denial.host, denial.port) {
                Offer::Allowed => continue,
                Offer::Grant(grant) => Some(grant),
                Offer::Never(_) => None,
            };
            let host = plain(&denial.host);
            if !denied.iter().any(|d| d.host == host && d.grant == grant) {
                denied.push(Denied { host, grant });
            }
        }
        let more_reached = all.further_hosts + reached.len().saturating_sub(SUMMARY) as u64;
        let more_denied = self.forgotten + denied.len().saturating_sub(SUMMARY) as u64;
        reached.truncate(SUMMARY);
        denied.truncate(SUMMARY);
        Summary { reached, more_reached, denied, more_denied }
    }
}

/// What a person could do about a denial.
enum Offer {
    /// Type this behind `rcc allow`.
    Grant(String),
    /// Nothing: it was done.
    Allowed,
    /// Nothing: why.
    Never(String),
}

fn offer(root: &Policy, now: &Resolved, host: &str, port: Option<u16>) -> Offer {
    let Ok(name) = HostName::parse(host) else { return Offer::Never("it is not the name of a host".into()) };
    let Some(port) = port else {
        // A name alone was asked for; the port that it was wanted for is not known.
        return if now.knows(&name) { Offer::Allowed } else { grant(root, &name, 443) };
    };
    match now.decide(Target::Name(&name), port) {
        rcc_policy::Decision::Allow { .. } => Offer::Never("the host is allowed; what it is or was sent is not".into()),
        rcc_policy::Decision::Deny {
            reason: DenyReason::NotListed | DenyReason::PortNotListed | DenyReason::DeniedByPerson,
            ..
        } => grant(root, &name, port),
        rcc_policy::Decision::Deny { reason, .. } => Offer::Never(reason.to_string()),
    }
}

fn grant(root: &Policy, name: &HostName, port: u16) -> Offer {
    let text = if port == 443 { name.to_string() } else { format!("{name}:{port}") };
    // What `may_allow` covers may still be no name of the network (one label, the machine's own).
    if let Err(problem) = rcc_policy::Grants::named(&text) {
        return Offer::Never(problem.what);
    }
    match root.may_grant(name, port) {
        Ok(()) => Offer::Grant(text),
        Err(why) => Offer::Never(why),
    }
}

/// What a denied client of plain HTTP is told besides the reason.
pub fn advice(root: &Policy, now: &Resolved, host: &str, port: u16) -> String {
    let more = format!("All denials: http://{REPORT_HOST}/why");
    match offer(root, now, host, Some(port)) {
        Offer::Grant(grant) => format!("The person can allow it, outside: rcc allow {grant}\n{more}"),
        Offer::Allowed | Offer::Never(_) => more,
    }
}

fn clock(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Serves one of the agent's connections to `rcc.internal`.
pub async fn serve(session: &Rc<Session>, client: Way) {
    client.deliver_on_close();
    let service = service_fn(|request| {
        let answer = answer(session, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(client), service);
    let _ = tokio::time::timeout(PATIENCE, served).await;
}

fn answer(session: &Session, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let here = |h: &HeaderValue| {
        let host = h.as_bytes().to_ascii_lowercase();
        host == REPORT_HOST.as_bytes() || host == format!("{REPORT_HOST}:80").as_bytes()
    };
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text) = if !is_get || !request.headers().get(HOST).is_some_and(here) || request.uri().path() != "/why"
    {
        (StatusCode::NOT_FOUND, format!("rcc: there is only http://{REPORT_HOST}/why here\n"))
    } else {
        (StatusCode::OK, session.report.borrow().why(&session.root, &session.policy()))
    };
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> (Policy, Resolved) {
        let policy = rcc_policy::parse(text, "policy.toml").unwrap();
        let now = policy.resolve(&[]).unwrap();
        (policy, now)
    }

    #[test]
    fn a_command_is_offered_for_what_a_person_may_grant_and_nothing_else() {
        let (root, now) = policy(
            "allow = [\"a.example.org:443\"]\ndeny = [\"evil.example.org\"]\nmay_allow = [\"*:443\", \"*:22\"]\n[credentials.anthropic]",
        );
        let mut report = Report::default();
        for (host, port) in [
            ("b.example.org", None),
            ("a.example.org", Some(22)),
            ("a.example.org", Some(8080)),
            ("a.example.org", Some(443)),
            ("a.example.org", None),
            ("evil.example.org", None),
            ("api.anthropic.com", Some(443)),
            ("x;rm -rf ~.example.org", None),
            ("$(id)", None),
            ("\u{1b}[2J", None),
            ("corp", None),
            ("x.localhost", None),
            ("192.0.2.1", Some(443)),
            ("b.example.org", None),
        ] {
            report.denied(host, port, "no");
        }
        let text = report.why(&root, &now);
        let offered: Vec<&str> = text.lines().filter_map(|l| l.split_once("rcc allow ")).map(|(_, t)| t).collect();
        let offered: Vec<&&str> = offered.iter().filter(|t| !t.starts_with("can't help")).collect();
        assert_eq!(offered, [&"b.example.org", &"a.example.org:22"], "{text}");
        assert!(text.contains("b.example.org: no (2 times)") && !text.contains('\u{1b}'), "{text}");
        let summary = report.summary(&root, &now, std::iter::empty());
        assert_eq!(summary.denied.iter().filter_map(|d| d.grant.as_deref()).count(), 2);
    }

    #[test]
    fn an_agent_can_not_fill_it() {
        let (root, now) = policy("allow = []");
        let mut report = Report::default();
        for n in 0..5000 {
            report.denied(&format!("n{n}.{}.example.org", "x".repeat(63)), Some(443), "no");
            report.exchanged(&format!("n{n}.example.org"), n + 1, 1);
        }
        assert_eq!((report.denials.len(), report.hosts.len()), (DENIALS, HOSTS));
        let summary = report.summary(&root, &now, std::iter::empty());
        assert_eq!((summary.reached.len(), summary.denied.len()), (SUMMARY, SUMMARY));
        assert_eq!((summary.more_denied, summary.more_reached), (5000 - SUMMARY as u64, 5000 - SUMMARY as u64));
        assert_eq!(summary.reached[0].up, HOSTS as u64);
        assert!(rcc_proto::encode(&rcc_proto::FromGateway::Summary(summary)).is_ok());
        assert!(report.why(&root, &now).len() < 64 * 1024);
    }
}
