//! Property lists as XML: the one form that launchd, plutil and people read.

use std::fmt::Write;

/// A value of a property list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `<string>`
    Text(String),
    /// `<integer>`
    Number(i64),
    /// `<true/>`
    Yes,
    /// `<false/>`
    No,
    /// `<array>`
    List(Vec<Value>),
    /// `<dict>`
    Table(Vec<(&'static str, Value)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The whole file of a dictionary.
pub fn file(table: &Value) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n",
    );
    write(&mut text, table, 0);
    text.push_str("</plist>\n");
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    // Writing to a string does not fail.
    let _always = match value {
        Value::Text(words) => writeln!(text, "{indent}<string>{}</string>", escaped(words)),
        Value::Number(number) => writeln!(text, "{indent}<integer>{number}</integer>"),
        Value::Yes => writeln!(text, "{indent}<true/>"),
        Value::No => writeln!(text, "{indent}<false/>"),
        Value::List(all) => {
            let _always = writeln!(text, "{indent}<array>");
            for one in all {
                write(text, one, depth + 1);
            }
            writeln!(text, "{indent}</array>")
        }
        Value::Table(all) => {
            let _always = writeln!(text, "{indent}<dict>");
            for (key, value) in all {
                let _always = writeln!(text, "{indent}  <key>{}</key>", escaped(key));
                write(text, value, depth + 1);
            }
            writeln!(text, "{indent}</dict>")
        }
    };
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
