//! Pure: what an agent may ask of the model's API, and what of its request and of the answer is passed on.
//!
//! The key acts for the person, so the gateway lends it to these requests only: no file upload, no batch, no
//! administration, no path that a server could read as another one.
//!
//! A request's body is not looked into. So an agent can still have the API itself fetch a URL of its choice, and carry
//! data out by it: the `url` sources of images and documents, and whatever server tools the API runs without a beta.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

/// A request that is allowed: method, path (a last `*` stands for one plain segment), why the agent needs it.
pub const ALLOWED: &[(Method, &str, &str)] = &[
    (Method::POST, "/v1/messages", "a turn of the conversation"),
    (Method::POST, "/v1/messages/count_tokens", "how full the context is"),
    (Method::GET, "/v1/models", "the models to choose from"),
    (Method::GET, "/v1/models/*", "one model's limits"),
    (Method::HEAD, "/", "Claude Code's test whether the API is reachable"),
    (Method::GET, "/api/hello", "the same"),
    (Method::HEAD, "/api/hello", "the same"),
    (Method::GET, "/api/web/domain_info", "whether WebFetch may read a site"),
    (Method::GET, "/api/claude_code/settings", "settings of the person's organisation"),
    (Method::GET, "/api/claude_code/policy_limits", "what the person's organisation forbids"),
    (Method::GET, "/api/claude_cli/bootstrap", "Claude Code's own defaults for this account"),
];

/// Request headers that are passed on; all others are left out: keys of the agent's own, cookies, hop-by-hop headers,
/// and whatever could choose another account or server.
const REQUEST: &[&str] = &[
    "accept",
    "accept-language",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "content-encoding",
    "content-length",
    "content-type",
    "idempotency-key",
    "traceparent",
    "user-agent",
    "x-app",
    "x-client-request-id",
];
/// The same, by their beginning: the client library's description of itself.
const REQUEST_PREFIXES: &[&str] = &["x-stainless-", "x-claude-code-", "x-anthropic-"];
/// Beginnings of betas that are left out: by these the API itself fetches URLs that the agent names, keeps files for
/// it, or runs code. The policy has no word for them yet.
const BETAS_OMITTED: &[&str] = &["mcp-client-", "web-fetch-", "files-api-", "code-execution-"];
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
/// Answer headers that are left out: those of one hop, and what would be kept for other requests.
const ANSWER_OMITTED: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "alt-svc",
    "strict-transport-security",
];

/// Whether the request is one of those allowed.
#[must_use]
pub fn may(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    ALLOWED.iter().any(|(m, pattern, _)| {
        m == method
            && match pattern.strip_suffix('*') {
                None => path == *pattern,
                Some(start) => path.strip_prefix(start).is_some_and(plain_segment),
            }
    })
}

fn plain_segment(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.contains("..")
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@'))
}

/// The headers of a request that are passed on.
#[must_use]
pub fn request_headers(from: &HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        REQUEST.contains(&name)
            || REQUEST_PREFIXES.iter().any(|p| name.starts_with(p)) && !name.contains("key") && !name.contains("auth")
    };
    let mut headers: HeaderMap =
        from.iter().filter(|(name, _)| passes(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let betas = betas(&headers);
    headers.remove(BETA);
    if let Some(betas) = betas {
        headers.insert(BETA, betas);
    }
    headers
}

/// The betas that are passed on, if any. A value that is not plain text is none.
fn betas(headers: &HeaderMap) -> Option<HeaderValue> {
    let all = headers.get_all(BETA).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim);
    let passed: Vec<&str> = all
        .filter(|beta| {
            let beta = beta.to_ascii_lowercase();
            !beta.is_empty() && !BETAS_OMITTED.iter().any(|start| beta.starts_with(start))
        })
        .collect();
    if passed.is_empty() { None } else { HeaderValue::from_str(&passed.join(",")).ok() }
}

/// The headers of an answer that are passed on: none that holds the key.
#[must_use]
pub fn answer_headers(from: &HeaderMap, key: &[u8]) -> HeaderMap {
    from.iter()
        .filter(|(name, value)| {
            !ANSWER_OMITTED.contains(&name.as_str()) && memchr::memmem::find(value.as_bytes(), key).is_none()
        })
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

/// Looks for the key in a stream, across the borders of its pieces.
#[derive(Debug)]
pub struct Scanner {
    held: Vec<u8>,
}

/// The key was in the stream.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer held the key")]
pub struct KeyFound;

impl Scanner {
    /// Has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// What may be passed on once this piece has come. An end that could begin the key is held back till the next.
    pub fn feed(&mut self, piece: &[u8], key: &[u8]) -> Result<Vec<u8>, KeyFound> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(piece);
        if !key.is_empty() && memchr::memmem::find(&all, key).is_some() {
            return Err(KeyFound);
        }
        let longest = key.len().saturating_sub(1).min(all.len());
        let hold = (1..=longest).rev().find(|n| all.ends_with(&key[..*n])).unwrap_or(0);
        self.held = all.split_off(all.len() - hold);
        Ok(all)
    }

    /// What was held back, when the stream has ended.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asks(method: &str, uri: &str) -> bool {
        uri.parse::<Uri>().is_ok_and(|uri| may(&method.parse().unwrap(), &uri))
    }

    #[test]
    fn only_the_apis_own_requests_are_allowed() {
        for (m, u) in [
            ("POST", "/v1/messages?beta=true"),
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/models/claude-opus-4-1"),
            ("GET", "/v1/models?limit=5"),
        ] {
            assert!(asks(m, u), "{m} {u}");
        }
        for (m, u) in [
            ("POST", "/v1/files"),
            ("GET", "/v1/messages"),
            ("DELETE", "/v1/messages"),
            ("POST", "/v1/messages/batches"),
            ("GET", "/v1/models/../files"),
            ("GET", "/v1/models/%2e%2e/files"),
            ("GET", "/v1/models/a/b"),
            ("GET", "/v1/models/a;b"),
            ("GET", "/v1//models"),
            ("GET", "/v1/models/"),
            ("POST", "/v1/messages/"),
            ("POST", "/V1/messages"),
            ("GET", "/v1/organizations/users"),
            ("CONNECT", "/v1/messages"),
            ("POST", "/api/oauth/claude_cli/create_api_key"),
        ] {
            assert!(!asks(m, u), "{m} {u}");
        }
    }

    #[test]
    fn the_agents_own_keys_and_the_gateways_do_not_pass() {
        let mut h = HeaderMap::new();
        for (n, v) in [
            ("x-api-key", "dummy"),
            ("authorization", "Bearer x"),
            ("proxy-authorization", "x"),
            ("cookie", "a=b"),
            ("connection", "close"),
            ("x-forwarded-host", "evil"),
            ("host", "x"),
            ("anthropic-version", "2023-06-01"),
            ("x-stainless-lang", "js"),
            ("x-anthropic-api-key", "k"),
        ] {
            h.append(n.parse::<HeaderName>().unwrap(), v.parse().unwrap());
        }
        let mut passed: Vec<_> = request_headers(&h).keys().map(ToString::to_string).collect();
        passed.sort();
        assert_eq!(passed, ["anthropic-version", "x-stainless-lang"]);
        let mut a = HeaderMap::new();
        for (n, v) in [("set-cookie", "a"), ("request-id", "r"), ("x-echo", "Bearer sk-key"), ("retry-after", "3")] {
            a.append(n.parse::<HeaderName>().unwrap(), v.parse().unwrap());
        }
        let mut passed: Vec<_> = answer_headers(&a, b"sk-key").keys().map(ToString::to_string).collect();
        passed.sort();
        assert_eq!(passed, ["request-id", "retry-after"]);
    }

    #[test]
    fn betas_by_which_the_api_fetches_are_left_out() {
        let passed = |values: &[&str]| {
            let headers = values.iter().map(|v| (BETA, v.parse().unwrap())).collect();
            let passed = request_headers(&headers);
            let all: Vec<String> = passed.get_all(BETA).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
            all
        };
        assert_eq!(
            passed(&["claude-code-20250219,interleaved-thinking-2025-05-14"]),
            ["claude-code-20250219,interleaved-thinking-2025-05-14"]
        );
        assert_eq!(
            passed(&["a-1, mcp-client-2025-11-20,\tWeb-Fetch-2025-09-10", "b-2,files-api-2025-04-14"]),
            ["a-1,b-2"]
        );
        assert!(passed(&["code-execution-2025-08-25", " ,mcp-client-2025-04-04"]).is_empty());
    }

    proptest! {
        #[test]
        fn the_key_is_found_however_it_is_cut(before in "[a-z]{0,20}", after in "[a-z]{0,20}", cuts in proptest::collection::vec(1usize..6, 1..30), with in any::<bool>()) {
            let key = b"sk-ant-sk-x";
            let text = if with { format!("{before}sk-ant-sk-x{after}") } else { format!("{before}sk-ant-sk-{after}") }.into_bytes();
            let has = memchr::memmem::find(&text, key).is_some();
            let (mut s, mut out, mut found, mut rest) = (Scanner::new(), Vec::new(), false, &text[..]);
            for c in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (a, r) = rest.split_at((*c).min(rest.len()));
                rest = r;
                if let Ok(b) = s.feed(a, key) { out.extend(b) } else { found = true; break }
            }
            prop_assert_eq!(found, has);
            if found { prop_assert!(!out.ends_with(b"s") || before.ends_with('s'), "no part of the key went out") } else { out.extend(s.rest()); prop_assert_eq!(out, text) }
        }
    }
}
