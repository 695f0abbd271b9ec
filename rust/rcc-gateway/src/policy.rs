//! Reads the policy from its one place. What root did not write, or someone else could have, is no policy.

use rcc_host::trusted;
use rcc_policy::Policy;
use rcc_report::{Code, Problem};
use std::path::Path;

/// Where the policy is.
pub const POLICY: &str = "/etc/rcc/policy.toml";

/// The policy, or what is wrong with it.
pub fn load() -> Result<Policy, Problem> {
    let unreadable = |what: String| {
        Problem::new(
            Code::POLICY_UNREADABLE,
            POLICY,
            what,
            format!("sudo chown root: {POLICY} && sudo chmod 644 {POLICY}"),
        )
    };
    let bytes = trusted::read(Path::new(POLICY)).map_err(|e| unreadable(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".into()))?;
    rcc_policy::parse(&text, POLICY).map_err(first)
}

/// Of several problems the first; a person sees them all by `rcc plan`.
pub fn first(problems: Vec<Problem>) -> Problem {
    let more = problems.len().saturating_sub(1);
    let mut problems = problems.into_iter();
    let mut one = problems
        .next()
        .unwrap_or_else(|| Problem::new(Code::POLICY_SYNTAX, POLICY, "the policy is not valid", "rcc plan"));
    if more > 0 {
        one.what = format!("{} (and {more} more)", one.what);
    }
    one
}
