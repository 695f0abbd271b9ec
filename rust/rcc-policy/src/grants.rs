//! What a person says of hosts beyond root's policy: grants, which `may_allow` caps, and denials, which always hold.
//! Invariant: a denial wins over a grant, so what a person takes away stays away until the person's own later word.

use crate::document::shortened;
use crate::endpoint::{BadEndpoint, Endpoint, Host, Place, with_port};
use crate::policy::{Policy, entry};
use rcc_report::{Code, Problem};

/// The most entries that a person may have for one session: far more than anyone types, and they fit in one packet.
const MOST: usize = 128;

/// A person's grants and denials for one project, in force or remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    granted: Vec<Endpoint>,
    denied: Vec<Endpoint>,
}

impl Grants {
    /// The endpoints that a person names to be allowed. Without a port it is 443.
    pub fn named(text: &str) -> Result<Vec<Endpoint>, Problem> {
        entry(&with_port(text, 443), Place::Allow).map_err(|e| bad(text, e))
    }

    /// The endpoints that a person names to be denied. Without a port it is every port.
    pub fn named_to_deny(text: &str) -> Result<Vec<Endpoint>, Problem> {
        let endpoints = entry(text, Place::Deny).map_err(|e| bad(text, e))?;
        for endpoint in &endpoints {
            let (what, remedy) = match &endpoint.host {
                Host::Range(_) => ("a person denies names; addresses are root's to deny", "name the host instead"),
                Host::Name(name) | Host::Below(name)
                    if format!(".{name}").ends_with(&format!(".{}", rcc_proto::REPORT_HOST)) =>
                {
                    ("this name is rcc's own, and leads to nothing but the gateway", "end the session instead")
                }
                _ => continue,
            };
            return Err(bad(text, BadEndpoint::new(what, remedy)));
        }
        Ok(endpoints)
    }

    /// The grants in a list of texts: endpoints as in `allow`, and behind a `!` as in `deny`. All problems at once.
    pub fn parse(texts: &[String]) -> Result<Self, Vec<Problem>> {
        let (this, problems) = Self::read(texts);
        if problems.is_empty() { Ok(this) } else { Err(problems) }
    }

    /// Those that are some, and a problem for each that is none.
    pub(crate) fn read(texts: &[String]) -> (Self, Vec<Problem>) {
        let (mut this, mut problems) = (Self::default(), Vec::new());
        for text in texts {
            let (list, found) = match text.strip_prefix('!') {
                Some(denied) => (&mut this.denied, Self::named_to_deny(denied)),
                None => (&mut this.granted, entry(text, Place::Allow).map_err(|e| bad(text, e))),
            };
            match found {
                Ok(endpoints) => list.extend(endpoints),
                Err(problem) => problems.push(problem),
            }
        }
        if let Err(problem) = this.settle() {
            problems.push(problem);
        }
        (this, problems)
    }

    /// The same as texts, which [`Self::parse`] takes.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let granted = self.granted.iter().map(ToString::to_string);
        granted.chain(self.denied.iter().map(|e| format!("!{e}"))).collect()
    }

    /// What is granted.
    #[must_use]
    pub fn granted(&self) -> &[Endpoint] {
        &self.granted
    }

    /// What is denied.
    #[must_use]
    pub fn denied(&self) -> &[Endpoint] {
        &self.denied
    }

    /// Grants an endpoint; the person's own denials of just that host are taken back. One that is broader must be taken
    /// back by itself: it was said of more than this.
    pub fn allow(&mut self, endpoint: Endpoint) -> Result<(), Problem> {
        let same = |d: &Endpoint| d.host == endpoint.host && d.covers(&Endpoint { check: None, ..endpoint.clone() });
        self.denied.retain(|d| !same(d));
        if let Some(denial) = self.denied.iter().find(|d| d.covers(&endpoint)) {
            return Err(Problem::new(
                Code::POLICY_NOT_GRANTABLE,
                endpoint.to_string(),
                format!("you denied `{denial}`, which covers it"),
                format!("take that back first: rcc deny --undo '{denial}'"),
            ));
        }
        self.granted.push(endpoint);
        self.settle()
    }

    /// Denies an endpoint, and takes back the grants that it covers.
    pub fn deny(&mut self, endpoint: Endpoint) -> Result<(), Problem> {
        self.granted.retain(|g| !endpoint.covers(g));
        self.denied.retain(|d| !endpoint.covers(d));
        self.denied.push(endpoint);
        self.settle()
    }

    /// Takes denials of a host back.
    pub fn undeny(&mut self, endpoint: &Endpoint) -> Result<(), Problem> {
        let before = self.denied.len();
        self.denied.retain(|d| !(d.host == endpoint.host && endpoint.covers(d)));
        if self.denied.len() < before {
            return Ok(());
        }
        let remedy = match self.denied.as_slice() {
            [] => "you have denied nothing here".to_owned(),
            some => format!("you denied {}", some.iter().map(|d| format!("`{d}`")).collect::<Vec<_>>().join(", ")),
        };
        Err(Problem::new(Code::POLICY_NOT_GRANTABLE, endpoint.to_string(), "you did not deny it", remedy))
    }

    fn settle(&mut self) -> Result<(), Problem> {
        for list in [&mut self.granted, &mut self.denied] {
            list.sort_unstable();
            list.dedup();
        }
        let (is, most) = (self.granted.len() + self.denied.len(), MOST);
        if is <= most {
            return Ok(());
        }
        let remedy = "grant a wildcard such as `*.example.org`, or have root allow them in the policy";
        let what = format!("these would be {is} entries for one project; at most {most} are kept");
        Err(Problem::new(Code::POLICY_NOT_GRANTABLE, "grants", what, remedy))
    }
}

impl Policy {
    /// What of the grants root's policy still lets a person grant, and a problem for each that it doesn't.
    #[must_use]
    pub fn capped(&self, grants: &Grants) -> (Grants, Vec<Problem>) {
        let (mut left, mut problems) = (Grants { granted: Vec::new(), ..grants.clone() }, Vec::new());
        for endpoint in &grants.granted {
            match self.grantable(endpoint) {
                Ok(()) => left.granted.push(endpoint.clone()),
                Err((what, remedy)) => {
                    problems.push(Problem::new(Code::POLICY_NOT_GRANTABLE, endpoint.to_string(), what, remedy));
                }
            }
        }
        (left, problems)
    }
}

fn bad(text: &str, e: BadEndpoint) -> Problem {
    Problem::new(Code::POLICY_BAD_ENDPOINT, shortened(text), e.what, e.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn named(text: &str) -> Endpoint {
        Grants::named(text).unwrap().remove(0)
    }

    fn to_deny(text: &str) -> Endpoint {
        Grants::named_to_deny(text).unwrap().remove(0)
    }

    #[test]
    fn a_name_alone_is_port_443_to_allow_and_every_port_to_deny() {
        assert_eq!(named("a.example.org").to_string(), "a.example.org:443");
        assert_eq!(named("*.example.org").to_string(), "*.example.org:443");
        assert_eq!(named("11.1.2.3").to_string(), "11.1.2.3:443");
        assert_eq!(named("[2600::1]").to_string(), "[2600::1]:443");
        assert_eq!(named("A.example.org:22").to_string(), "a.example.org:22");
        assert_eq!(Grants::named("a.example.org:80,443").unwrap().len(), 2);
        assert!(Grants::named("@github").unwrap().len() > 3);
        assert_eq!(to_deny("a.example.org").to_string(), "a.example.org");
    }

    #[test]
    fn what_is_no_host_is_refused_with_a_remedy() {
        for text in [
            "",
            "*",
            "*.com",
            "*.co.uk",
            "*.github.io",
            "*.internal",
            "a b.example.org",
            "a.example.org\n",
            "a\u{1b}[2J.example.org",
            "\u{440}aypal.com",
            "ｇithub.com",
            "localhost",
            "127.0.0.1",
            "169.254.169.254:80",
            "10.0.0.1",
            "2130706433",
            "gitlab",
            "rcc.internal",
            "anthropic.rcc.internal:80",
            "https://example.org/x",
            "a.example.org:0",
            "a.example.org:99999",
            "a.example.org:443/any",
            "!a.example.org",
            "--all",
            "$(id).example.org",
        ] {
            let problem = Grants::named(text).unwrap_err();
            assert_eq!(problem.code, Code::POLICY_BAD_ENDPOINT, "{text}");
            assert!(!problem.remedy.is_empty(), "{text}");
        }
        for text in ["", "192.0.2.0/24", "rcc.internal", "x.rcc.internal", "a b", "a.example.org:443/raw", "!x.org"] {
            assert_eq!(Grants::named_to_deny(text).unwrap_err().code, Code::POLICY_BAD_ENDPOINT, "{text}");
        }
        assert!(Grants::parse(&["!10.0.0.0/8".into(), "nonsense".into()]).unwrap_err().len() == 2);
    }

    #[test]
    fn the_persons_later_word_holds() {
        let mut g = grants(&["a.example.org:443", "b.example.org:22"]);
        g.deny(to_deny("a.example.org")).unwrap();
        assert_eq!(g.texts(), ["b.example.org:22", "!a.example.org"]);
        g.allow(named("a.example.org:22")).unwrap();
        assert_eq!(g.texts(), ["a.example.org:22", "b.example.org:22"]);
        g.deny(to_deny("*.example.org")).unwrap();
        assert_eq!(g.texts(), ["!*.example.org"]);
        let problem = g.allow(named("a.example.org")).unwrap_err();
        assert!(problem.remedy.contains("rcc deny --undo '*.example.org'"), "{problem}");
        assert!(g.undeny(&to_deny("a.example.org")).is_err());
        g.undeny(&to_deny("*.example.org")).unwrap();
        g.allow(named("a.example.org")).unwrap();
        assert_eq!(g.texts(), ["a.example.org:443"]);
        // A denial of one port leaves the others; the whole host takes it in.
        g.deny(to_deny("a.example.org:22")).unwrap();
        assert_eq!(g.texts(), ["a.example.org:443", "!a.example.org:22"]);
        g.deny(to_deny("a.example.org")).unwrap();
        assert_eq!(g.texts(), ["!a.example.org"]);
        assert_eq!(grants(&["a.example.org:443", "!a.example.org"]).texts(), ["a.example.org:443", "!a.example.org"]);
    }

    #[test]
    fn there_are_not_endlessly_many() {
        let mut g = Grants::default();
        for n in 0..MOST {
            g.allow(named(&format!("n{n}.example.org"))).unwrap();
        }
        assert!(g.clone().allow(named("n1.example.org")).is_ok(), "one that is there already");
        assert_eq!(g.allow(named("one-more.example.org")).unwrap_err().code, Code::POLICY_NOT_GRANTABLE);
    }
}
