//! What a request of the Messages API says about where in its script a session is.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::ToolResult;

static CWD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"<cwd>([^<\n]+)</cwd>|[Ww]orking directory(?: is)?:? *`?(/[^\s`<]*)").expect("a constant pattern")
});

/// The id of call `index` of turn `turn`.
pub fn call_id(turn: usize, index: usize) -> String {
    format!("toolu_s{turn}_{index}")
}

fn turn_of(id: &str) -> Option<usize> {
    id.strip_prefix("toolu_s")?.split_once('_')?.0.parse().ok()
}

/// A conversation as far as it matters here.
#[derive(Debug, Default)]
pub struct Conversation {
    pub first_user: String,
    pub cwd: Option<String>,
    /// The last thousand letters of the system prompt.
    pub system_end: String,
    pub tools: Vec<String>,
    /// Every tool result so far, by the call's id.
    pub results: HashMap<String, String>,
    /// Those of the last turn.
    pub latest: Vec<ToolResult>,
    /// The model's answers without a tool call since the last result.
    texts: usize,
}

impl Conversation {
    pub fn read(body: &Value) -> Self {
        let mut this = Self::default();
        let mut calls = HashMap::new();
        let mut first = None;
        let mut all = text_of(&body["system"]);
        this.system_end = all.chars().skip(all.chars().count().saturating_sub(1000)).collect();
        for message in body["messages"].as_array().into_iter().flatten() {
            let content = &message["content"];
            let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
            let of = |kind: &'static str| blocks.iter().filter(move |b| b["type"] == kind);
            if message["role"] == "assistant" {
                for call in of("tool_use") {
                    calls.insert(string(&call["id"]), string(&call["name"]));
                }
                this.texts += usize::from(of("tool_use").next().is_none() && !text_of(content).trim().is_empty());
                continue;
            }
            let text = match content {
                Value::String(text) => text.clone(),
                _ => of("text").map(|b| string(&b["text"])).collect::<Vec<_>>().join("\n"),
            };
            all.push('\n');
            all.push_str(&text);
            first.get_or_insert(text);
            if of("tool_result").next().is_some() {
                this.latest.clear();
                this.texts = 0;
            }
            for result in of("tool_result") {
                let (id, text) = (string(&result["tool_use_id"]), text_of(&result["content"]));
                this.results.insert(id.clone(), text.clone());
                let is_error = result["is_error"].as_bool().unwrap_or(false);
                this.latest.push(ToolResult { tool: calls.get(&id).cloned(), id, is_error, text });
            }
        }
        this.first_user = first.unwrap_or_default();
        this.cwd = CWD.captures(&all).and_then(|c| c.get(1).or_else(|| c.get(2))).map(|m| m.as_str().to_owned());
        this.tools = body["tools"].as_array().into_iter().flatten().map(|t| string(&t["name"])).collect();
        this
    }

    /// The number of the turn that comes next.
    pub fn turn(&self) -> usize {
        self.results.keys().filter_map(|id| turn_of(id)).max().map_or(0, |n| n + 1) + self.texts
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let text = |b: &Value| match b {
                Value::String(t) => t.clone(),
                b if b["type"] == "tool_result" => text_of(&b["content"]),
                b => string(&b["text"]),
            };
            blocks.iter().map(text).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_turn_follows_from_the_conversation() {
        let user = |c: Value| json!({ "role": "user", "content": c });
        let model = |c: Value| json!({ "role": "assistant", "content": c });
        let mut messages = vec![user(json!([{ "type": "text", "text": "do it; Working directory: /w/p" }]))];
        let at = |m: &[Value]| Conversation::read(&json!({ "messages": m, "tools": [{ "name": "Bash" }] }));
        assert_eq!((at(&messages).turn(), at(&messages).cwd.as_deref()), (0, Some("/w/p")));
        messages.push(model(json!([{ "type": "tool_use", "id": call_id(0, 0), "name": "Bash", "input": {} }])));
        let result = json!({ "type": "tool_result", "tool_use_id": call_id(0, 0), "content": [{ "type": "text", "text": "out" }] });
        messages.push(user(json!([result])));
        let now = at(&messages);
        assert_eq!(now.turn(), 1);
        assert_eq!((now.latest[0].tool.as_deref(), now.latest[0].text.as_str()), (Some("Bash"), "out"));
        messages.push(model(json!("all done")));
        messages.push(user(json!("and again")));
        assert_eq!(at(&messages).turn(), 2);
        assert_eq!(at(&messages).first_user, "do it; Working directory: /w/p");
    }
}
