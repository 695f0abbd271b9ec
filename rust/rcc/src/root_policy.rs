//! Root's policy, as commands read it.

use rcc_policy::Policy;
use rcc_preflight::probe;
use rcc_proto::ANTHROPIC_ENDPOINT;
use rcc_report::Problem;
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
