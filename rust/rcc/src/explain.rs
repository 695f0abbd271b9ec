//! Why a connection is allowed or denied: the policy's line, the grant or denial, or the firewall's rule that decides; and
//! what would change that. Pure: the same code decides as in the gateway, and as the firewall's rules are made by.

use rcc_policy::{Decision, Grants, HostName, Policy, Resolved, Target, Written};
use rcc_report::escaped;
use rcc_rules::{Action, Match, Packet, Protocol, Ruling, Table};
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// Who would connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// The agent, in a session of this project.
    Agent,
    /// The gateway's user, whatever runs as it: what the host firewall says.
    Gateway,
    /// You, outside of rcc.
    User,
}

/// Whereto.
#[derive(Clone, Debug)]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address.
    Address(IpAddr),
}

/// The question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who.
    pub from: From,
    /// Whereto.
    pub host: Host,
    /// TCP.
    pub port: u16,
}

/// What the answer is made of.
pub struct Known<'a> {
    /// Root's policy.
    pub policy: &'a Policy,
    /// Its text, and the file's name.
    pub text: (&'a str, &'a str),
    /// What the person granted and denied this project, as far as the policy still lets them.
    pub grants: &'a Grants,
    /// The same with the policy.
    pub resolved: &'a Resolved,
    /// This machine's addresses and links.
    pub net: &'a rcc_host::net::HostNet,
    /// The firewall of this policy on this machine.
    pub table: &'a Table,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is let through.
    Allowed,
    /// It is not.
    Denied,
    /// Nothing of rcc's has a say.
    NotOurs,
}

/// What decides, or has a say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Because {
    /// In a sentence.
    pub what: String,
    /// The entry, or the rule.
    pub rule: Option<String>,
    /// `FILE:LINE`, or what else it stands in.
    pub place: Option<String>,
}

/// What would change the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The command, or what root is to write.
    pub how: String,
    /// For whom, or what else is to be known.
    pub effect: String,
}

/// All of it; version 1 of the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    version: u8,
    from: From,
    host: String,
    port: u16,
    /// The answer.
    pub answer: Answer,
    because: Vec<Because>,
    change: Vec<Change>,
}

/// Where a person's own grants and denials are kept.
const GRANTS: &str = "~/.config/rcc/grants.toml";
/// What root does after a change of the policy.
const APPLY: &str = "then: sudo /usr/local/bin/rcc setup; it holds for sessions that begin later";

impl Question {
    /// Answers it.
    #[must_use]
    pub fn answer(&self, known: &Known<'_>) -> Explanation {
        let host = match &self.host {
            Host::Name(name) => name.to_string(),
            Host::Address(ip) => ip.to_string(),
        };
        let mut said = Explanation {
            version: 1,
            from: self.from,
            host,
            port: self.port,
            answer: Answer::Denied,
            because: Vec::new(),
            change: Vec::new(),
        };
        said.answer = match (self.from, &self.host) {
            (From::Agent, _) => self.agent(known, &mut said),
            (From::Gateway, Host::Name(name)) => self.gateway_by_name(known, name, &mut said),
            (From::Gateway, Host::Address(ip)) => self.firewall(known, *ip, &mut said),
            (From::User, _) => {
                said.because("rcc's firewall binds the gateway's user alone; your own programs are not its business");
                Answer::NotOurs
            }
        };
        said
    }

    /// As the policy writes it.
    fn endpoint(&self) -> String {
        match &self.host {
            Host::Address(ip @ IpAddr::V6(_)) => format!("[{ip}]:{}", self.port),
            Host::Address(ip) => format!("{ip}:{}", self.port),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }

    fn agent(&self, known: &Known<'_>, said: &mut Explanation) -> Answer {
        if let Host::Name(name) = &self.host
            && let Some(answer) = self.own_name(known, name, said)
        {
            return answer;
        }
        let target = match &self.host {
            Host::Name(name) => Target::Name(name),
            Host::Address(IpAddr::V4(ip)) if u32::from(*ip) >> 17 == u32::from(rcc_proto::STAND_IN_RANGE.0) >> 17 => {
                said.because(
                    "inside a session such an address stands for a name, and which one differs: ask by the name",
                );
                return Answer::Denied;
            }
            Host::Address(ip) => Target::Address(*ip),
        };
        let (check, private) = match known.resolved.decide(target, self.port) {
            Decision::Allow { check, rule, private } => {
                known.entry(said, "this entry allows it", &["private", "allow"], &rule);
                (check, private)
            }
            Decision::Deny { reason, rule } => {
                match rule {
                    Some(rule) => known.entry(said, &reason.to_string(), &["deny", "private", "allow"], &rule),
                    None => said.because(reason.to_string()),
                }
                if let Host::Address(ip) = &self.host
                    && !known.resolved.ranges().iter().any(|range| range.contains(ip))
                {
                    said.because("a session has no route there: \"Network is unreachable\"");
                }
                self.could_be_allowed(known, reason, said);
                return Answer::Denied;
            }
        };
        match &self.host {
            Host::Name(_) => {
                said.because(match check {
                    rcc_policy::Check::Tls => {
                        "the first bytes must be TLS with this name in the clear (SNI)".to_owned()
                    }
                    rcc_policy::Check::Http => "it must be HTTP/1, each request's Host being this name".to_owned(),
                    rcc_policy::Check::Auto => {
                        "any protocol; TLS and HTTP, where recognised, must be for this name".to_owned()
                    }
                    rcc_policy::Check::Raw => "any bytes".to_owned(),
                });
                said.because(match &private {
                    Some(ranges) => format!("its address must lie in {ranges}"),
                    None => "its address must be public, and on no network of this machine's".to_owned(),
                });
                said.change(
                    format!("rcc deny {}", self.endpoint()),
                    "for the sessions that run here; --project: for later ones too",
                );
                Answer::Allowed
            }
            Host::Address(ip) => {
                if known.net.is_own(*ip) || ip.is_loopback() {
                    said.because("but it is this machine's own address, which the gateway refuses");
                    return Answer::Denied;
                }
                if private.is_none() && known.net.is_on_link(*ip) {
                    said.because("but it is on a network of this machine's, which the gateway refuses");
                    self.root_opens(known, &["private"], said);
                    return Answer::Denied;
                }
                if let Err((reason, detail)) = known.resolved.may_connect(private.as_ref(), *ip, self.port, &[]) {
                    said.because(format!("but {reason}: {detail}"));
                    return Answer::Denied;
                }
                self.firewall(known, *ip, said)
            }
        }
    }

    /// Names that are rcc's, or that a credential endpoint stands for.
    fn own_name(&self, known: &Known<'_>, name: &HostName, said: &mut Explanation) -> Option<Answer> {
        let credentials = &known.resolved.credentials;
        let endpoint = credentials.iter().find(|c| c.endpoint == *name);
        if endpoint.is_none() && name.as_str() != rcc_proto::REPORT_HOST {
            return None;
        }
        let what = match endpoint {
            Some(c) => format!("the gateway adds the key here, and speaks TLS to {}:{}", c.upstream, c.port),
            None => "here the gateway tells a session what was denied (/why)".to_owned(),
        };
        said.because.push(Because { what, rule: endpoint.map(ToString::to_string), place: None });
        if self.port == 80 {
            return Some(Answer::Allowed);
        }
        said.because("it answers plain HTTP on port 80 alone");
        Some(Answer::Denied)
    }

    /// How what is denied could be allowed.
    fn could_be_allowed(&self, known: &Known<'_>, reason: rcc_policy::DenyReason, said: &mut Explanation) {
        use rcc_policy::DenyReason as Reason;
        match reason {
            Reason::DeniedByPerson => {
                let entry = said.because.first().and_then(|b| b.rule.clone()).unwrap_or_default();
                let entry = rcc_report::quoted(entry.trim_start_matches('!'));
                said.change(format!("rcc deny --undo --project {entry}"), "takes your denial back");
            }
            Reason::Denied => {
                said.change("sudoedit /etc/rcc/policy.toml", format!("root alone can take the denial away; {APPLY}"));
            }
            Reason::CredentialUpstream => {
                for c in &known.resolved.credentials {
                    said.change(
                        format!("http://{}", c.endpoint),
                        "is where the agent reaches it, without seeing the key",
                    );
                }
            }
            _ => match known.policy.resolve(&[self.endpoint()]) {
                Ok(_) => {
                    if matches!(self.host, Host::Name(_)) {
                        said.change(
                            format!("rcc allow {}", self.endpoint()),
                            "for the sessions that run here, at once",
                        );
                    }
                    said.change(
                        format!("rcc allow --project {}", self.endpoint()),
                        "for later sessions of this project",
                    );
                }
                Err(problems) => {
                    for problem in problems.iter().take(1) {
                        said.because(format!("nor can you grant it: {}", problem.what));
                    }
                    self.root_opens(known, &["allow", "private"], said);
                }
            },
        }
        if !known.resolved.registries.is_empty() {
            let sets: Vec<&str> = known.resolved.registries.iter().map(|r| r.set()).collect();
            said.because(format!("what {} stand for is not looked up here: rcc plan", sets.join(", ")));
        }
    }

    /// What root would write, into the first of these lists that takes it; nothing where none does.
    fn root_opens(&self, known: &Known<'_>, lists: &[&str], said: &mut Explanation) {
        let entry = self.endpoint();
        if let Host::Address(ip) = &self.host
            && known.net.is_own(*ip)
        {
            return said.because("it is this machine's own address: no policy can open it");
        }
        for key in lists {
            if rcc_policy::parse(&format!("{key} = [{entry:?}]\n"), "policy").is_ok() {
                let how = format!("sudoedit {}    # {key} = [ …, {entry:?} ]", known.text.1);
                return said.change(how, format!("root alone can; {APPLY}"));
            }
        }
        if let Host::Name(name) = &self.host {
            let how = format!("sudoedit {}    # private = [ …, \"{name}:{} via RANGE\" ]", known.text.1, self.port);
            return said.change(how, format!("root alone can, with the range of its addresses; {APPLY}"));
        }
        said.because("no policy can open it");
    }

    /// What the firewall says to the gateway's packets for the addresses of a name.
    fn gateway_by_name(&self, known: &Known<'_>, name: &HostName, said: &mut Explanation) -> Answer {
        said.because("the firewall knows no names: what counts is the address. Ask with it for the exact rule");
        let private =
            known.resolved.private.iter().filter(|p| p.endpoint.host.names(name) && p.endpoint.port == Some(self.port));
        let ranges: Vec<_> = private.map(|p| p.via).collect();
        if let Some(range) = ranges.first() {
            return self.firewall(known, range.addr(), said);
        }
        let rules = known.table.chains.iter().flat_map(|(_, rules)| rules);
        let public = |rule: &&rcc_rules::Rule| rule.action == Action::Accept && rule.matches == [Match::Tcp(self.port)];
        if let Some(rule) = rules.clone().find(public) {
            said.rule("public addresses are let through on this port", rule);
            return Answer::Allowed;
        }
        if let Some(rule) = rules.clone().find(|rule| rule.matches.is_empty() && matches!(rule.action, Action::Goto(_)))
        {
            said.rule("public addresses are refused on this port", rule);
        }
        self.root_opens(known, &["allow"], said);
        Answer::Denied
    }

    /// What the firewall says to a packet of the gateway's.
    fn firewall(&self, known: &Known<'_>, to: IpAddr, said: &mut Explanation) -> Answer {
        let packet = Packet {
            user: known.table_user(),
            to,
            protocol: Protocol::Tcp(self.port),
            unicast: !(known.net.is_own(to) || to.is_multicast() || to.is_loopback() || to.is_unspecified()),
        };
        match known.table.decide(&packet) {
            Ruling::Accepted(rule) => {
                said.rule("the host firewall lets the gateway through by this rule", rule);
                known.policy_line(said, to, self.port, "private");
                Answer::Allowed
            }
            Ruling::Refused(rule) => {
                said.rule("the host firewall refuses it to the gateway by this rule", rule);
                if known.policy_line(said, to, self.port, "deny") {
                    said.change(
                        "sudoedit /etc/rcc/policy.toml",
                        format!("root alone can take the denial away; {APPLY}"),
                    );
                } else {
                    // The last rule is about the port alone: what comes before it, about the address.
                    let lists = if rule.matches.is_empty() { &["allow", "private"][..] } else { &["private"] };
                    self.root_opens(known, lists, said);
                }
                Answer::Denied
            }
            Ruling::NotOurs => Answer::NotOurs,
        }
    }
}

impl Known<'_> {
    /// Adds an entry with its place: the policy's line, or the person's own file.
    fn entry(&self, said: &mut Explanation, what: &str, keys: &[&str], rule: &str) {
        let written = rcc_policy::written(self.text.0);
        let found = keys.iter().find_map(|key| written.iter().find(|w| w.key == *key && w.entry == rule));
        let granted = self.grants.texts().iter().any(|text| text == rule);
        let (rule, place) = match found {
            Some(w) => (shown(w), Some(format!("{}:{}", self.text.1, w.line))),
            None if granted => (rule.to_owned(), Some(GRANTS.to_owned())),
            None => (rule.to_owned(), None),
        };
        said.because.push(Because { what: what.into(), rule: Some(rule), place });
    }

    /// Adds the policy's entry of that list whose range this address is in; whether there is one.
    fn policy_line(&self, said: &mut Explanation, to: IpAddr, port: u16, key: &str) -> bool {
        let holds = |e: &rcc_policy::Endpoint| e.host.holds(to) && e.port.is_none_or(|p| p == port);
        let entry = if key == "deny" {
            self.resolved.deny.iter().find(|e| holds(e)).map(ToString::to_string)
        } else {
            let mut private = self.resolved.private.iter();
            private.find(|p| p.via.contains(&to) && p.endpoint.port == Some(port)).map(ToString::to_string)
        };
        let Some(entry) = entry else { return false };
        self.entry(said, "it is made of this entry of the policy", &[key], &entry);
        true
    }

    /// The user that the firewall binds.
    fn table_user(&self) -> u32 {
        let mut rules = self.table.chains.iter().flat_map(|(_, rules)| rules).flat_map(|rule| &rule.matches);
        rules.find_map(|m| if let Match::User(user) = m { Some(*user) } else { None }).unwrap_or(u32::MAX)
    }
}

/// As it is written, and what that means if it is a set or a list of ports.
fn shown(w: &Written) -> String {
    if w.text == w.entry { format!("{}: {}", w.key, w.text) } else { format!("{}: {} ({})", w.key, w.text, w.entry) }
}

impl Explanation {
    fn because(&mut self, what: impl Into<String>) {
        self.because.push(Because { what: what.into(), rule: None, place: None });
    }

    fn rule(&mut self, what: &str, rule: &rcc_rules::Rule) {
        let place = Some("table inet rcc".to_owned());
        self.because.push(Because { what: what.into(), rule: Some(rule.to_string()), place });
    }

    fn change(&mut self, how: impl Into<String>, effect: impl Into<String>) {
        self.change.push(Change { how: how.into(), effect: effect.into() });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.from {
            From::Agent => "the agent",
            From::Gateway => "the gateway",
            From::User => "you",
        };
        let answer = match self.answer {
            Answer::Allowed => "allowed",
            Answer::Denied => "denied",
            Answer::NotOurs => "not rcc's to say",
        };
        writeln!(f, "{answer}: {who} to {} port {}", escaped(&self.host), self.port)?;
        for because in &self.because {
            writeln!(f, "  {}", escaped(&because.what))?;
            match (&because.rule, &because.place) {
                (Some(rule), Some(place)) => writeln!(f, "    {}    ({place})", escaped(rule))?,
                (Some(only), None) | (None, Some(only)) => writeln!(f, "    {}", escaped(only))?,
                (None, None) => {}
            }
        }
        if !self.change.is_empty() {
            writeln!(f, "to change that:")?;
        }
        for change in &self.change {
            writeln!(f, "  {}\n    {}", escaped(&change.how), escaped(&change.effect))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
