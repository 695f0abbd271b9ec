//! The scripted model, by hand-made requests.

use anyhow::Result;
use rcc_world::model::Credential;
use rcc_world::model::script::{Script, Session, Turn};
use rcc_world::{World, inside};
use serde_json::{Value, json};

use crate::client::{get, post};

const PLACE: &str = "api.anthropic.com:80";
const NAME: &str = "api.anthropic.com";

fn say(world: &World, text: &str, more: &[Value], stream: bool) -> Result<String> {
    let mut messages = vec![json!({ "role": "user", "content": text })];
    messages.extend(more.iter().cloned());
    let body = json!({ "model": "m", "stream": stream, "messages": messages, "tools": [{ "name": "Bash" }],
        "system": [{ "type": "text", "text": "Working directory: /home/p" }] });
    let key = format!("x-api-key: {}\r\n", world.at.model_keys.api_key);
    post(PLACE, NAME, "/v1/messages?beta=true", &key, &body.to_string())
}

fn json_of(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn turns_follow_the_conversation_whether_streamed_or_not() {
    inside(|world| {
        world.set_script(&Script::of(vec![
            Turn::bash("cat {{cwd}}/f"),
            Turn::saying("it was {{result:0.0:n=(\\d+)}}"),
        ]))?;
        let first = json_of(&say(world, "go", &[], false)?);
        assert_eq!(first["stop_reason"], "tool_use");
        assert_eq!(first["content"][0]["input"]["command"], "cat /home/p/f");
        let result = json!({ "type": "tool_result", "tool_use_id": first["content"][0]["id"], "content": "n=42" });
        let more = [
            json!({ "role": "assistant", "content": first["content"] }),
            json!({ "role": "user", "content": [result] }),
        ];
        let second = json_of(&say(world, "go", &more, false)?);
        assert_eq!((&second["content"][0]["text"], &second["stop_reason"]), (&json!("it was 42"), &json!("end_turn")));
        let streamed = say(world, "go", &more, true)?;
        for part in ["event: message_start", "it was 42", "event: content_block_stop", "event: message_stop"] {
            assert!(streamed.contains(part), "{part} isn't in {streamed}");
        }
        let notes: Vec<_> = world.exchanges()?.into_iter().map(|e| e.message.unwrap()).collect();
        assert_eq!(notes.iter().map(|n| (n.turn, n.stream)).collect::<Vec<_>>(), [(0, false), (1, false), (1, true)]);
        assert_eq!((notes[1].results[0].text.as_str(), notes[1].results[0].tool.as_deref()), ("n=42", Some("Bash")));
        Ok(())
    });
}

#[test]
fn only_the_expected_keys_are_let_in_and_none_is_logged() {
    inside(|world| {
        let keys = &world.at.model_keys;
        let tries = [
            (String::new(), 401, Credential::Absent, Credential::Absent),
            ("x-api-key: sk-ant-dummy\r\n".into(), 401, Credential::Unknown, Credential::Absent),
            (format!("x-api-key: {}\r\n", keys.api_key), 200, Credential::ApiKey, Credential::Absent),
            (
                format!("authorization: Bearer {}\r\n", keys.oauth_token),
                200,
                Credential::Absent,
                Credential::OauthToken,
            ),
        ];
        for (header, status, x_api_key, authorization) in tries {
            let answer = post(PLACE, NAME, "/v1/messages/count_tokens", &header, "{}")?;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{header}: {answer}");
            let last = world.exchanges()?.pop().unwrap();
            assert_eq!((last.status, last.x_api_key, last.authorization), (status, x_api_key, authorization));
        }
        for file in [&world.at.model_log, &world.at.witness] {
            let text = std::fs::read_to_string(file)?;
            assert!(!text.contains(&keys.api_key) && !text.contains(&keys.oauth_token), "{}", file.display());
        }
        assert!(get(PLACE, NAME, "/api/hello")?.contains("hello"));
        Ok(())
    });
}

#[test]
fn errors_breaks_and_sessions_are_as_scripted() {
    inside(|world| {
        let failing = Turn { error: Some(529), times: Some(2), ..Turn::saying("in the end") };
        let session = |when: &str, turn: Turn| Session { when: when.into(), turns: vec![turn] };
        let script = Script {
            sessions: vec![
                session("overload", failing),
                session("cut", Turn { cut: true, ..Turn::saying("never whole") }),
                session("slow", Turn { pace: 0.05, ..Turn::saying(&"x".repeat(320)) }),
            ],
            ..Script::of(vec![Turn::saying("by default")])
        };
        world.set_script(&script)?;
        let statuses: Vec<_> =
            (0..3).map(|_| Ok(say(world, "overload", &[], false)?[9..12].to_owned())).collect::<Result<_>>()?;
        assert_eq!(statuses, ["529", "529", "200"]);
        let cut = say(world, "please cut", &[], true)?;
        assert!(cut.contains("never whole") && !cut.contains("message_stop"));
        assert_eq!(say(world, "slow", &[], true)?.matches("text_delta").count(), 4);
        assert!(say(world, "else", &[], false)?.contains("by default"));
        Ok(())
    });
}
