//! What nft says is in force. Any change of a value's in the listing must be seen as a difference: a table may be
//! called in force only if it consists of the same values, but for handles and counts.

use rcc_rules::{Facts, Found, Table, compare};
use serde_json::Value;
use std::sync::LazyLock;

static WANTED: LazyLock<Table> = LazyLock::new(|| {
    let text = "allow = [\"a.example:443\", \"b.example:22,80\"]\nprivate = [\"git.example:443 via 10.20.0.0/16\"]\n\
        deny = [\"9.9.9.0/24\", \"[2600:9::/32]:443\"]\n";
    let policy = rcc_policy::parse(text, "policy.toml").expect("a policy");
    let facts = Facts {
        gateway: 4242,
        resolvers: ["127.0.0.53:53".parse().expect("an address")].into(),
        on_link: ["192.168.77.0/24".parse().expect("a range")].into(),
        nat64: ["2600:64:ff9b::/96".parse().expect("a prefix")].into(),
    };
    Table::new(&policy.egress(), policy.fingerprint(), &facts)
});
static VALUES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let objects = serde_json::to_value(WANTED.objects()).expect("objects are JSON");
    values(objects.as_array().expect("a list"))
});

/// The listing of this table as nft writes it, for a seed.
#[must_use]
pub fn seed() -> String {
    serde_json::json!({ "nftables": WANTED.objects() }).to_string()
}

pub(crate) fn feed(bytes: &[u8]) {
    let Ok(listed) = serde_json::from_slice::<Value>(bytes) else { return };
    if compare(&WANTED, Some(&listed)) == Ok(Found::InForce) {
        let objects = listed["nftables"].as_array().expect("a list, or it would be an error");
        assert_eq!(values(objects), *VALUES);
    }
}

/// All values, each with the key that it stands under, sorted.
fn values(objects: &[Value]) -> Vec<String> {
    let mut all = Vec::new();
    for object in objects.iter().filter(|o| o.get("metainfo").is_none()) {
        walk("", object, &mut all);
    }
    all.sort_unstable();
    all
}

fn walk(key: &str, value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| *key != "handle") {
                if key == "counter" && value.is_object() {
                    all.push("counter".into());
                } else {
                    walk(key, value, all);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| walk(key, value, all)),
        other => all.push(format!("{key}={other}")),
    }
}
