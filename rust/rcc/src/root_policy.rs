//! Root's policy, as commands read it.

use rcc_launch::key;
use rcc_policy::{Policy, Resolved};
use rcc_preflight::probe;
use rcc_proto::{ANTHROPIC_ENDPOINT, Credential};
use rcc_report::{Code, Problem};
use std::path::Path;

/// Root's policy.
pub const POLICY_FILE: &str = probe::POLICY;

/// Root's policy.
pub fn policy() -> Result<Policy, Vec<Problem>> {
    policy_and_text().map(|(policy, _)| policy)
}

/// Root's policy, and what is written there.
pub fn policy_and_text() -> Result<(Policy, String), Vec<Problem>> {
    let text = probe::policy(Path::new(POLICY_FILE)).map_err(|problem| vec![problem])?;
    rcc_policy::parse(&text, POLICY_FILE).map(|policy| (policy, text))
}

/// Whether root's policy has a key for sessions that bring none.
pub fn root_has_a_key() -> bool {
    let of_model =
        |c: &rcc_policy::CredentialEndpoint| c.endpoint.as_str() == ANTHROPIC_ENDPOINT && c.key_file.is_some();
    policy().and_then(|policy| policy.resolve(&[])).is_ok_and(|policy| policy.credentials.iter().any(of_model))
}

/// The model's key for a session by this policy: the person's, or none where root has one.
pub fn key(policy: &Resolved, sources: &key::Sources<'_>) -> Result<Option<Credential>, Vec<Problem>> {
    let endpoint = policy.credentials.iter().find(|c| c.endpoint.as_str() == ANTHROPIC_ENDPOINT);
    let Some(endpoint) = endpoint else {
        return Err(vec![Problem::new(
            Code::KEY_MISSING,
            POLICY_FILE,
            "the policy has no [credentials.anthropic], so the agent would not reach its model",
            format!("add it: echo '[credentials.anthropic]' | sudo tee -a {POLICY_FILE}"),
        )]);
    };
    match key::find(sources) {
        Ok(found) => {
            if let Some(notice) = found.notice {
                eprintln!("rcc: {notice}");
            }
            Ok(Some(found.credential))
        }
        Err(problem) if problem.code == Code::KEY_MISSING && endpoint.key_file.is_some() => Ok(None),
        Err(problem) => Err(vec![problem]),
    }
}
