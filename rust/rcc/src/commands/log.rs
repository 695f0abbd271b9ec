//! `rcc log`: the person's own lines of the gateway's log.

use crate::Done;
use clap::Args;
use rcc_launch::log::{Log, Part};
use rcc_report::escaped;
use serde_json::Value;
use std::io::{self, Write};

/// Show what the gateway decided for your sessions: connections, denials, names, the model's requests.
#[derive(Args)]
pub struct LogArgs {
    /// Stay, and show what comes.
    #[arg(short, long)]
    follow: bool,
    /// Denials alone.
    #[arg(long)]
    denied: bool,
    /// One session's lines: its number as the log has it, or its beginning.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The lines as they are in the log: a JSON object each.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &LogArgs) -> Done {
    let log = Log::open().map_err(|p| vec![p])?;
    let mut out = io::stdout().lock();
    loop {
        match log.next().map_err(|p| vec![p])? {
            Part::Now if !args.follow => return Ok(0),
            Part::Now => {}
            Part::Lines(lines) => {
                for line in lines.lines() {
                    let shown = shown(line, args);
                    // Whoever reads this has read enough.
                    if shown.is_some_and(|text| writeln!(out, "{text}").is_err()) {
                        return Ok(0);
                    }
                }
                if out.flush().is_err() {
                    return Ok(0);
                }
            }
        }
    }
}

/// A line as it is to be printed, if it is.
fn shown(line: &str, args: &LogArgs) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    if args.session.as_ref().is_some_and(|id| id.is_empty() || !text("session").starts_with(id.as_str())) {
        return None;
    }
    let denied = matches!(text("event"), "deny" | "refused" | "refused-session" | "refused-grants")
        || (text("event") == "dns" && value.get("allowed") == Some(&Value::Bool(false)));
    if args.denied && !denied {
        return None;
    }
    Some(if args.json { escaped(line) } else { escaped(&short(&value, denied)) })
}

/// One short line for people.
fn short(value: &Value, denied: bool) -> String {
    let text = |key: &str| match value.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let host = match text("port") {
        port if port.is_empty() => text("name"),
        port => format!("{}:{port}", text("name")),
    };
    let bytes = || {
        format!("{} up, {} down", crate::ending::size(number("bytes_up")), crate::ending::size(number("bytes_down")))
    };
    let event = text("event");
    let what = match event.as_str() {
        "deny" if host.is_empty() && number("more") > 0 => format!("{} more", number("more")),
        "deny" => format!("{host}  {}", text("reason")),
        "dns" if denied => format!("{host}  {}", text("reason")),
        "dns" if host.is_empty() => format!("{} more names", number("more")),
        "dns" => format!("{host}  has an address"),
        "connect" => format!("{host}  by {}, at {}", text("rule"), text("address")),
        "close" if value.get("port").is_some() => format!("{host}  {}", bytes()),
        "request" => format!("{} {} {}  {}", text("name"), text("method"), text("path"), text("status")),
        "session" => format!("{} in {}  {}", text("agent"), text("project"), text("grants")),
        "grants" => format!("now {}", if text("grants").is_empty() { "none".into() } else { text("grants") }),
        "summary" => format!("{} connections, {}", number("connections"), bytes()),
        // Whatever else there is: its reason, or how it ended.
        _ => [host, text("code"), text("subject"), text("reason"), text("how")]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join("  "),
    };
    let verdict = if denied { "DENIED" } else { event.as_str() };
    let time = text("time");
    let time = time.get(..19).unwrap_or(&time).replace('T', " ");
    let session: String = text("session").chars().take(6).collect();
    format!("{time} {session:<6} {verdict:<8} {what}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> LogArgs {
        LogArgs { follow: false, denied: false, session: None, json: false }
    }

    const DENY: &str = r#"{"time":"2026-11-24T12:00:00.042Z","session":"0123456789abcdef","uid":1000,"event":"deny","name":"a.example","port":443,"reason":"no \u001b[2J"}"#;
    const OPEN: &str = r#"{"time":"2026-11-24T12:00:00.042Z","session":"0123456789abcdef","uid":1000,"event":"connect","name":"b.example","port":443,"rule":"*.example:443","address":"11.1.1.1"}"#;

    #[test]
    fn a_line_is_short_and_can_not_drive_the_terminal() {
        assert_eq!(shown(DENY, &args()).unwrap(), "2026-11-24 12:00:00 012345 DENIED   a.example:443  no \\u{1b}[2J");
        assert_eq!(
            shown(OPEN, &args()).unwrap(),
            "2026-11-24 12:00:00 012345 connect  b.example:443  by *.example:443, at 11.1.1.1"
        );
        assert_eq!(shown("\u{1b}[2J", &args()), None);
        assert_eq!(shown(DENY, &LogArgs { json: true, ..args() }).unwrap(), DENY);
    }

    #[test]
    fn filters_leave_the_rest_out() {
        let denied = LogArgs { denied: true, ..args() };
        assert!(shown(DENY, &denied).is_some() && shown(OPEN, &denied).is_none());
        let name = DENY.replace("\"deny\"", "\"dns\"").replace("\"port\":443", "\"allowed\":false");
        assert!(shown(&name, &denied).is_some() && shown(&name.replace("false", "true"), &denied).is_none());
        for (id, is_shown) in [("0123", true), ("0123456789abcdef", true), ("f", false), ("", false)] {
            assert_eq!(shown(DENY, &LogArgs { session: Some(id.into()), ..args() }).is_some(), is_shown, "{id}");
        }
    }
}
