//! A scripted model: plays Anthropic's Messages API for the real agent, by a script instead of a network.
//!
//! It keeps no session: which turn comes next is worked out from the conversation that the agent sends, by the ids of
//! its tool calls, so retries, resumed and parallel sessions all work. The script file is read anew for each request.
//!
//! Invariant: no key is ever written to the log; only whether a credential was the expected one.

mod conversation;
pub mod script;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Connection, Request};
use crate::token::random;
use crate::witness::now;
use conversation::Conversation;
use script::{Script, Turn};

/// The credentials that the API takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// For `x-api-key`; the form is that of a real one.
    pub api_key: String,
    /// For `authorization: Bearer`, as a subscription has.
    pub oauth_token: String,
}

impl Keys {
    /// New random ones.
    #[must_use]
    pub fn random() -> Self {
        let text = || data_encoding::BASE64URL_NOPAD.encode(&random::<69>());
        Self { api_key: format!("sk-ant-api03-{}AA", text()), oauth_token: format!("sk-ant-oat01-{}AA", text()) }
    }
}

/// How a credential header compares with what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The header isn't there.
    Absent,
    /// The expected API key.
    ApiKey,
    /// The expected subscription token.
    OauthToken,
    /// Something else.
    Unknown,
}

/// One line of the model's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Seconds since the epoch.
    pub t: f64,
    /// Where the request came from.
    pub peer: String,
    /// `tcp` or `tls`.
    pub proto: String,
    /// The Host header.
    pub host: Option<String>,
    /// As sent.
    pub method: String,
    /// As sent, query included.
    pub path: String,
    /// As sent, in order.
    pub header_names: Vec<String>,
    /// What `x-api-key` was.
    pub x_api_key: Credential,
    /// What `authorization` was.
    pub authorization: Credential,
    /// The program, as it names itself.
    pub user_agent: Option<String>,
    /// The status that was answered.
    pub status: u16,
    /// For messages: what was asked and sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageNote>,
    /// For telemetry: the events' names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// What is logged of a call of `/v1/messages`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageNote {
    /// The model that was asked for.
    pub model: Option<String>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Which of the script's sessions: `default`, `side`, or what its `when` says.
    pub session: String,
    /// The turn's number.
    pub turn: usize,
    /// The agent's working directory, as it says itself.
    pub cwd: Option<String>,
    /// The last letters of the system prompt.
    #[serde(default)]
    pub system_end: String,
    /// Names of the tools that the agent offers.
    pub tools_offered: Vec<String>,
    /// The results since the last turn.
    pub results: Vec<ToolResult>,
    /// What was sent, filled in.
    pub sent: Turn,
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call's id.
    pub id: String,
    /// The tool.
    pub tool: Option<String>,
    /// Whether the agent marked it as an error.
    pub is_error: bool,
    /// Its text.
    pub text: String,
}

/// The model's server; give it the requests that are for it.
pub struct Model {
    script: PathBuf,
    log: File,
    keys: Option<Keys>,
    failures: Mutex<HashMap<(String, usize), u32>>,
}

impl Model {
    /// With `keys`, a call of `/v1/` without one of them is answered 401, as the real API does.
    pub fn new(script: &Path, log: &Path, keys: Option<Keys>) -> Result<Arc<Self>> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let log = file.with_context(|| format!("the model's log {}", log.display()))?;
        Ok(Arc::new(Self { script: script.to_owned(), log, keys, failures: Mutex::default() }))
    }

    /// Answers one request.
    pub fn serve(&self, connection: &mut Connection, request: &Request) -> Result<()> {
        let mut exchange = self.exchange(connection, request);
        let path = request.path().to_owned();
        let known = matches!(exchange.x_api_key, Credential::ApiKey)
            || matches!(exchange.authorization, Credential::OauthToken | Credential::ApiKey);
        if path.starts_with("/v1/") && self.keys.is_some() && !known {
            return self.finish(connection, exchange, 401, &failure("authentication_error", "invalid x-api-key"));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if request.method == "POST" && path == "/v1/messages" {
            return self.messages(connection, exchange, &body);
        }
        let answer = match path.as_str() {
            "/v1/messages/count_tokens" => json!({ "input_tokens": (request.body.len() / 4).max(1) }),
            "/v1/models" => models(),
            "/api/hello" => json!({ "message": "hello" }),
            "/api/web/domain_info" => json!({ "domain": request.query("domain"), "can_fetch": true }),
            p if p.ends_with("/policy_limits") => json!({ "restrictions": {} }),
            p if p.contains("mcp-registry") => json!({ "servers": [], "metadata": { "count": 0 } }),
            _ => {
                exchange.events = event_names(&body);
                json!({})
            }
        };
        self.finish(connection, exchange, 200, &answer)
    }

    fn exchange(&self, connection: &Connection, request: &Request) -> Exchange {
        let credential = |value: Option<&str>| match (value, &self.keys) {
            (None, _) => Credential::Absent,
            (Some(v), Some(k)) if v == k.api_key => Credential::ApiKey,
            (Some(v), Some(k)) if v == k.oauth_token => Credential::OauthToken,
            _ => Credential::Unknown,
        };
        let bearer = request.header("authorization").map(|v| v.strip_prefix("Bearer ").unwrap_or(v));
        Exchange {
            t: now(),
            peer: connection.ends.peer.clone(),
            proto: connection.ends.proto.to_owned(),
            host: request.host(),
            method: request.method.clone(),
            path: request.target.clone(),
            header_names: request.headers.iter().map(|(n, _)| n.clone()).collect(),
            x_api_key: credential(request.header("x-api-key")),
            authorization: credential(bearer),
            user_agent: request.header("user-agent").map(str::to_owned),
            status: 200,
            message: None,
            events: Vec::new(),
        }
    }

    fn note(&self, exchange: &Exchange) -> Result<()> {
        let mut line = serde_json::to_vec(exchange)?;
        line.push(b'\n');
        Ok((&self.log).write_all(&line)?)
    }

    fn finish(&self, connection: &mut Connection, mut exchange: Exchange, status: u16, answer: &Value) -> Result<()> {
        exchange.status = status;
        self.note(&exchange)?;
        let retry = if status == 529 || status == 429 { "0" } else { "" };
        let mut headers = vec![("content-type", "application/json"), ("request-id", "req_scripted")];
        headers.extend((!retry.is_empty()).then_some(("retry-after", retry)));
        // As the real API says of what another try would not change.
        headers.extend((status == 401).then_some(("x-should-retry", "false")));
        connection.answer(status, &headers, &serde_json::to_vec(answer)?)
    }

    fn messages(&self, connection: &mut Connection, mut exchange: Exchange, body: &Value) -> Result<()> {
        let conversation = Conversation::read(body);
        let script = match Script::load(&self.script) {
            Ok(script) => script,
            Err(e) => {
                let why = failure("invalid_request_error", &format!("the model's script: {e:#}"));
                return self.finish(connection, exchange, 400, &why);
            }
        };
        let (session, number, turn) = if conversation.tools.is_empty() {
            ("side".to_owned(), 0, Turn::saying(&script.side))
        } else {
            let (session, turns) = script.choose(&conversation.first_user);
            let number = conversation.turn();
            (session, number, turns.get(number).cloned().unwrap_or_else(|| Turn::saying("(the script has ended)")))
        };
        let turn = turn.filled(conversation.cwd.as_deref(), &conversation.results);
        let stream = body["stream"].as_bool().unwrap_or(false);
        exchange.message = Some(MessageNote {
            model: body["model"].as_str().map(str::to_owned),
            stream,
            session,
            turn: number,
            cwd: conversation.cwd.clone(),
            system_end: conversation.system_end.clone(),
            tools_offered: conversation.tools.clone(),
            results: conversation.latest.clone(),
            sent: turn.clone(),
        });
        std::thread::sleep(Duration::from_secs_f64(turn.delay.clamp(0.0, 600.0)));
        if let Some(status) = turn.error.filter(|_| self.still_fails(&conversation, number, turn.times)) {
            let kind = if status == 529 { "overloaded_error" } else { "api_error" };
            return self.finish(connection, exchange, status, &failure(kind, "scripted"));
        }
        let message = message(body, number, &turn);
        if !stream {
            return self.finish(connection, exchange, 200, &message);
        }
        self.note(&exchange)?;
        self.stream(connection, &turn, message)
    }

    /// Whether an error turn is still to fail: `times` times for one conversation, or always.
    fn still_fails(&self, conversation: &Conversation, number: usize, times: Option<u32>) -> bool {
        let Some(times) = times else { return true };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((conversation.first_user.clone(), number)).or_default();
        *count += 1;
        *count <= times
    }

    #[expect(clippy::unused_self, reason = "one family of methods")]
    fn stream(&self, connection: &mut Connection, turn: &Turn, message: Value) -> Result<()> {
        let headers = [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("request-id", "req_scripted"),
        ];
        connection.begin(200, &headers)?;
        let mut send = |event: &Value| -> Result<()> {
            let name = event["type"].as_str().unwrap_or_default();
            connection.chunk(format!("event: {name}\ndata: {event}\n\n").as_bytes())
        };
        let (blocks, stop, usage) =
            (message["content"].clone(), message["stop_reason"].clone(), message["usage"].clone());
        let mut empty = message;
        empty["content"] = json!([]);
        empty["stop_reason"] = Value::Null;
        send(&json!({ "type": "message_start", "message": empty }))?;
        send(&json!({ "type": "ping" }))?;
        for (index, block) in blocks.as_array().into_iter().flatten().enumerate() {
            let mut start = block.clone();
            let (field, kind, parts) = if block["type"] == "text" {
                start["text"] = json!("");
                ("text", "text_delta", pieces(block["text"].as_str().unwrap_or_default()))
            } else {
                start["input"] = json!({});
                ("partial_json", "input_json_delta", pieces(&block["input"].to_string()))
            };
            send(&json!({ "type": "content_block_start", "index": index, "content_block": start }))?;
            for part in parts {
                let mut delta = json!({ "type": kind });
                delta[field] = Value::String(part);
                send(&json!({ "type": "content_block_delta", "index": index, "delta": delta }))?;
                if turn.cut {
                    anyhow::bail!(std::io::Error::from(std::io::ErrorKind::ConnectionAborted));
                }
                std::thread::sleep(Duration::from_secs_f64(turn.pace.clamp(0.0, 60.0)));
            }
            send(&json!({ "type": "content_block_stop", "index": index }))?;
        }
        let delta = json!({ "stop_reason": stop, "stop_sequence": null });
        send(&json!({ "type": "message_delta", "delta": delta, "usage": usage }))?;
        send(&json!({ "type": "message_stop" }))?;
        connection.chunk(b"")
    }
}

/// Pieces of some eighty characters, so that a stream is one.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(80).map(|c| c.iter().collect()).collect()
}

fn message(body: &Value, number: usize, turn: &Turn) -> Value {
    let mut blocks = Vec::new();
    if !turn.text.is_empty() {
        blocks.push(json!({ "type": "text", "text": turn.text }));
    }
    for (i, call) in turn.tools.iter().enumerate() {
        let id = conversation::call_id(number, i);
        blocks.push(json!({ "type": "tool_use", "id": id, "name": call.name, "input": call.input }));
    }
    json!({
        "id": format!("msg_s{number}_{}", data_encoding::HEXLOWER.encode(&random::<6>())),
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": if turn.tools.is_empty() { "end_turn" } else { "tool_use" },
        "stop_sequence": null,
        "usage": {
            "input_tokens": 100, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0
        },
    })
}

fn failure(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_scripted" })
}

fn models() -> Value {
    let ids = ["claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5"];
    let list: Vec<_> = ids
        .iter()
        .map(|id| json!({ "type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z" }))
        .collect();
    json!({ "data": list, "has_more": false, "first_id": ids[0], "last_id": ids[2] })
}

fn event_names(body: &Value) -> Vec<String> {
    let name = |e: &Value| {
        let places = [&e["event_data"]["event_name"], &e["event_name"], &e["eventName"], &e["event_type"]];
        places.iter().find_map(|v| v.as_str()).map(str::to_owned)
    };
    body["events"].as_array().into_iter().flatten().filter_map(name).take(200).collect()
}
