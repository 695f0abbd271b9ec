//! A credential endpoint: the agent speaks plain HTTP to a name of rcc's, the gateway adds the person's key and speaks
//! TLS to the real server.
//!
//! Invariant: the key is in this process's memory and in the request to the upstream that the policy names, whose
//! certificate was verified; it is in no answer to the agent, no log line, no error. Bodies stream both ways, without a
//! limit of time; when the agent goes away, the upstream connection is reset.

use super::dial::Whither;
use super::log::plain;
use super::session::Session;
use super::tls::Within;
use super::way::Way;
use crate::api::{self, Scanner};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use rcc_host::trusted;
use rcc_policy::{CredentialEndpoint, HostName};
use rcc_proto::{Credential, CredentialKind, Secret};
use rcc_report::{Code, Problem};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// How long an idle upstream connection is kept.
const IDLE: Duration = Duration::from_secs(50);
/// Idle upstream connections that are kept.
const KEPT: usize = 8;
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
/// What the API wants to see beside a subscription's token.
const OAUTH_BETA: &str = "oauth-2025-04-20";

/// An endpoint with its key.
pub struct Endpoint {
    /// What the policy says of it.
    pub facts: CredentialEndpoint,
    kind: CredentialKind,
    secret: Secret,
    idle: RefCell<Vec<(Instant, SendRequest<Incoming>)>>,
}

/// What the policy's key files hold, by endpoint.
pub type Keys = Vec<(HostName, Result<Credential, Problem>)>;

/// Reads the policy's key files.
pub fn keys(named: &[CredentialEndpoint]) -> Keys {
    named.iter().filter_map(|f| Some((f.endpoint.clone(), from_file(f, f.key_file.as_deref()?)))).collect()
}

/// The endpoints of a session: those that the policy names and that have a key, the launcher's before the file's.
pub fn endpoints(
    named: &[CredentialEndpoint],
    brought: Vec<Credential>,
    keys: Keys,
) -> Result<Vec<Rc<Endpoint>>, Problem> {
    let (mut brought, mut keys) = (brought, keys);
    let mut found = Vec::new();
    for facts in named {
        let own = brought.iter().position(|c| c.endpoint == facts.endpoint.as_str()).map(|i| brought.swap_remove(i));
        let roots = keys.iter().position(|(of, _)| *of == facts.endpoint).map(|i| keys.swap_remove(i).1);
        let credential = match (own, roots) {
            (Some(credential), _) => credential,
            (None, Some(key)) => key?,
            (None, None) => continue,
        };
        let fine =
            credential.secret.expose().len() >= 8 && credential.secret.expose().bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            return Err(Problem::new(
                Code::KEY_MALFORMED,
                facts.endpoint.as_str(),
                "the key has characters that no key has",
                "copy the key again",
            ));
        }
        found.push(Rc::new(Endpoint {
            facts: facts.clone(),
            kind: credential.kind,
            secret: credential.secret,
            idle: RefCell::default(),
        }));
    }
    Ok(found)
}

fn from_file(facts: &CredentialEndpoint, path: &str) -> Result<Credential, Problem> {
    let unreadable = |what: String| {
        Problem::new(Code::KEY_UNREADABLE, path, what, format!("sudo chown root:rcc {path} && sudo chmod 640 {path}"))
    };
    let bytes = trusted::read(Path::new(path)).map(zeroize::Zeroizing::new).map_err(|e| unreadable(e.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable("it is not text".into()))?.trim();
    let kind = if text.starts_with("sk-ant-oat") { CredentialKind::OauthToken } else { CredentialKind::ApiKey };
    Ok(Credential { endpoint: facts.endpoint.to_string(), kind, secret: Secret::new(text.to_owned()) })
}

/// Serves one of the agent's connections.
pub async fn serve(session: &Rc<Session>, endpoint: &Rc<Endpoint>, client: Way, number: u64) {
    client.deliver_on_close();
    let service = service_fn(|request| {
        let (session, endpoint) = (session.clone(), endpoint.clone());
        async move { Ok::<_, Infallible>(answer(&session, &endpoint, request, number).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(client), service)
        .await;
    if let Err(e) = served
        && !e.is_incomplete_message()
    {
        let event = json!({"event": "close", "conn": number, "name": endpoint.facts.endpoint.as_str(), "how": plain(&e.to_string())});
        session.log.line(&event).await;
    }
}

type Answer = Response<Either<Full<Bytes>, Scanned>>;

async fn answer(session: &Rc<Session>, endpoint: &Rc<Endpoint>, request: Request<Incoming>, number: u64) -> Answer {
    let start = Instant::now();
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    // While earlier lines can't be written, no request leaves; and no answer is given before its own is on record.
    session.log.settled().await;
    let answer = match pass_on(session, endpoint, request).await {
        Ok(answer) => answer,
        Err(Refused(status, kind, text)) => own(status, kind, &text),
    };
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let event = json!({"event": "request", "conn": number, "name": endpoint.facts.endpoint.as_str(), "method": plain(&method),
        "path": plain(&path), "status": answer.status().as_u16(), "ms": ms});
    session.log.written(&event).await;
    answer
}

/// An answer of the gateway's own.
struct Refused(StatusCode, &'static str, String);

/// In the form of the API's own errors, so that the agent shows it.
fn own(status: StatusCode, kind: &str, text: &str) -> Answer {
    let body = json!({"type": "error", "error": {"type": kind, "message": format!("rcc: {text}")}}).to_string();
    let mut answer = Response::new(Either::Left(Full::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

async fn pass_on(
    session: &Rc<Session>,
    endpoint: &Rc<Endpoint>,
    request: Request<Incoming>,
) -> Result<Answer, Refused> {
    let forbidden = |text: &str| Refused(StatusCode::FORBIDDEN, "permission_error", text.to_owned());
    let failed = |text: String| Refused(StatusCode::BAD_GATEWAY, "api_error", text);
    let name = endpoint.facts.endpoint.as_str();
    let (parts, body) = request.into_parts();
    let is_here = |authority: &[u8]| {
        authority.eq_ignore_ascii_case(name.as_bytes())
            || authority.eq_ignore_ascii_case(format!("{name}:80").as_bytes())
    };
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(forbidden("not exactly one Host")) };
    let authority_fits = parts.uri.authority().is_none_or(|a| is_here(a.as_str().as_bytes()));
    if !is_here(host.as_bytes()) || !authority_fits || !api::may(&parts.method, &parts.uri) {
        return Err(forbidden(&format!(
            "{} {} is not a request that this endpoint passes on",
            parts.method,
            parts.uri.path()
        )));
    }
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = api::request_headers(&parts.headers);
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| forbidden("a target that is none"))?;
    endpoint.authorise(request.headers_mut()).map_err(|()| failed("the key can't be sent".into()))?;

    let response = endpoint
        .send(session, request)
        .await
        .map_err(|e| failed(plain(&format!("{} can't be asked: {e}", endpoint.facts.upstream))))?;
    let (parts, body) = response.into_parts();
    let body =
        Scanned { body: Some(body), scanner: Scanner::new(), endpoint: endpoint.clone(), session: session.clone() };
    let mut answer = Response::new(Either::Right(body));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = api::answer_headers(&parts.headers, endpoint.secret.expose().as_bytes());
    Ok(answer)
}

impl Endpoint {
    fn authorise(&self, headers: &mut HeaderMap) -> Result<(), ()> {
        let host = if self.facts.port == 443 {
            self.facts.upstream.to_string()
        } else {
            format!("{}:{}", self.facts.upstream, self.facts.port)
        };
        headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| ())?);
        // So that the answer can be searched for the key.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let key = self.secret.expose();
        let (name, value) = match self.kind {
            CredentialKind::ApiKey => (API_KEY, HeaderValue::from_str(key)),
            CredentialKind::OauthToken => {
                let betas: Vec<&str> = headers.get_all(BETA).iter().filter_map(|v| v.to_str().ok()).collect();
                if !betas.iter().any(|v| v.split(',').any(|b| b.trim() == OAUTH_BETA)) {
                    let all = betas.iter().copied().chain([OAUTH_BETA]).collect::<Vec<_>>().join(",");
                    headers.insert(BETA, HeaderValue::from_str(&all).map_err(|_| ())?);
                }
                (AUTHORIZATION, HeaderValue::from_str(&zeroize::Zeroizing::new(format!("Bearer {key}"))))
            }
        };
        let mut value = value.map_err(|_| ())?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }

    /// Sends by an idle connection if there is one; a request that such a connection did not take any more goes by a
    /// new one.
    async fn send(
        &self,
        session: &Rc<Session>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
        loop {
            let idle = self.idle();
            let (mut connection, is_new) = match idle {
                Some(connection) => (connection, false),
                None => (self.connect(session).await?, true),
            };
            match connection.try_send_request(request).await {
                Ok(response) => {
                    self.keep(connection);
                    return Ok(response);
                }
                Err(mut e) => match e.take_message() {
                    Some(back) if !is_new => request = back,
                    _ => return Err(e.into_error().into()),
                },
            }
        }
    }

    fn idle(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(since, connection)| since.elapsed() < IDLE && !connection.is_closed());
        let ready = idle.iter().position(|(_, c)| c.is_ready())?;
        Some(idle.swap_remove(ready).1)
    }

    /// Kept at once; it is ready again when the answer's body has been read.
    fn keep(&self, connection: SendRequest<Incoming>) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, connection)| !connection.is_closed());
        if idle.iter().filter(|(_, c)| c.is_ready()).count() < KEPT {
            idle.push((Instant::now(), connection));
        }
    }

    async fn connect(&self, session: &Rc<Session>) -> Result<SendRequest<Incoming>, Box<dyn std::error::Error>> {
        let facts = &self.facts;
        let stream = session
            .dialer
            .connect(&session.policy(), Whither::Name(&facts.upstream), facts.port, facts.private.as_ref())
            .await?
            .way;
        let name = ServerName::try_from(facts.upstream.to_string())?;
        let stream = session.trust.connect(name, stream, Within::Http).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// An answer's body on its way to the agent: ends with an error before the first byte of the key.
pub struct Scanned {
    body: Option<Incoming>,
    scanner: Scanner,
    endpoint: Rc<Endpoint>,
    session: Rc<Session>,
}

impl Body for Scanned {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let frame = ready!(Pin::new(body).poll_frame(cx));
            let this = &mut *self;
            let out = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match this.scanner.feed(&data, this.endpoint.secret.expose().as_bytes()) {
                        Ok(out) => out,
                        Err(found) => {
                            this.body = None;
                            this.session.log.deny(&json!({"event": "deny", "name": this.endpoint.facts.endpoint.as_str(), "reason": found.to_string()}));
                            return Poll::Ready(Some(Err(io::Error::other(found))));
                        }
                    },
                    // Trailers are not passed on.
                    Err(_) => continue,
                },
                Some(Err(e)) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(io::Error::other(e))));
                }
                None => {
                    this.body = None;
                    this.scanner.rest()
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}
