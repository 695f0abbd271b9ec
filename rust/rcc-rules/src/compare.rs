//! Whether a table that was read back is the one that must be in force.
//!
//! Both are compared as nft's JSON, less what does not belong to their meaning: handles and what counters have
//! counted. What this code does not know (another statement, another key) is a difference.

use crate::TABLE;
use crate::table::Table;
use rcc_policy::Fingerprint;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One difference between what must be in force and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: `chain gateway`, `rule 3 of gateway`.
    pub place: String,
    /// What must be there; `None`: nothing.
    pub wanted: Option<Value>,
    /// What is there; `None`: nothing.
    pub found: Option<Value>,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No table of that name.
    Absent,
    /// The table, as it must be.
    InForce,
    /// A table of rcc's, of this policy or another one's, that is not as it must be.
    Drifted(Vec<Difference>),
    /// A table of that name that rcc did not make: it has no canary.
    Foreign,
}

/// Compares the table with what `nft --json --numeric-protocol list table inet rcc` printed; `None` stands for no such table. An error if it is
/// not what nft prints.
pub fn compare(wanted: &Table, listed: Option<&Value>) -> Result<Found, String> {
    let Some(listed) = listed else { return Ok(Found::Absent) };
    let found = places(listed.get("nftables").and_then(Value::as_array).ok_or("no list of objects")?)?;
    if !found.contains_key(&format!("table {TABLE}")) {
        return Ok(Found::Absent);
    }
    if fingerprint_of(listed).is_none() {
        return Ok(Found::Foreign);
    }
    let objects = wanted.objects();
    let objects: Result<Vec<Value>, _> = objects.iter().map(serde_json::to_value).collect();
    let wanted = places(&objects.map_err(|e| e.to_string())?)?;
    let mut differences = Vec::new();
    for (place, object) in &wanted {
        if found.get(place) != Some(object) {
            let difference =
                Difference { place: place.clone(), wanted: Some(object.clone()), found: found.get(place).cloned() };
            differences.push(difference);
        }
    }
    for (place, object) in found {
        if !wanted.contains_key(&place) {
            differences.push(Difference { place, wanted: None, found: Some(object) });
        }
    }
    Ok(if differences.is_empty() { Found::InForce } else { Found::Drifted(differences) })
}

/// The policy's fingerprint that a listed table carries in the comment of its canary.
#[must_use]
pub fn fingerprint_of(listed: &Value) -> Option<Fingerprint> {
    let objects = listed.get("nftables")?.as_array()?;
    let comments = objects.iter().filter_map(|o| o.get("rule")?.get("comment")?.as_str());
    comments.filter_map(|c| c.strip_prefix("canary, policy ")).find_map(Fingerprint::parse)
}

/// Each object by its place. A rule's is its number in its chain.
fn places(objects: &[Value]) -> Result<BTreeMap<String, Value>, String> {
    let mut all = BTreeMap::new();
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    for object in objects {
        let object = object.as_object().ok_or("an object that is none")?;
        let (kind, value) = object.iter().next().ok_or("an empty object")?;
        if kind == "metainfo" {
            continue;
        }
        let name = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let place = if kind == "rule" {
            let chain = name("chain").ok_or("a rule of no chain")?;
            let number = rules.entry(chain.clone()).or_default();
            *number += 1;
            format!("rule {number} of {chain}")
        } else {
            format!("{kind} {}", name("name").unwrap_or_default())
        };
        all.insert(place, normal(value));
    }
    Ok(all)
}

/// The object without what does not belong to its meaning.
fn normal(object: &Value) -> Value {
    let mut object = meaning(object);
    if let Some(object) = object.as_object_mut() {
        object.remove("handle");
    }
    object
}

/// Counters at zero; flags as a list, also where nft writes a single one as text.
fn meaning(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(meaning).collect(),
        Value::Object(all) => {
            let entry = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("counter", Value::Object(_)) => Value::Null,
                    ("flags", Value::String(_)) => Value::Array(vec![value.clone()]),
                    _ => meaning(value),
                };
                (key.clone(), value)
            };
            Value::Object(all.iter().map(entry).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}
