//! Damage to a record: a part of its JSON replaced, removed or doubled, or some of its bytes changed. Half of what comes
//! out of changed bytes is no JSON any more and is refused at once; what comes out of changed values goes far.

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use serde_json::{Map, Value, json};

/// Numbers at which something may break.
const NUMBERS: [&str; 24] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "-0.0",
    "0.5",
    "1e-320",
    "1e-9",
    "1e9",
    "1e18",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "1e400",
    "123456789012345678901234567890",
];

/// Words at which something may break.
const WORDS: [&str; 26] = [
    "",
    ".",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "c000000",
    "c4294967295",
    "c000000-r0",
    "c000000-r255",
    "c4294967295-r255",
    "c000000-r0-a1",
    "c000000-r0-a4294967295",
    "c000001-r1-a2.host-1-x",
    "c000000-r0-a1.../../x",
    "\u{0}",
    "a\u{0}b",
    "\u{1b}[2J\u{1b}]0;x\u{7}",
    "\u{9b}31m",
    "\u{202e}",
    "<script>alert(1)</script>&\"'",
    "$(touch /tmp/x)",
    "NaN",
    "2026-11-24T02:03:04Z",
    "-009999-01-02T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
];

/// Changes a record in one to four places.
pub(crate) fn mutated(bytes: &[u8], others: &[&[u8]], rng: &mut impl rand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        bytes = match serde_json::from_slice::<Value>(&bytes) {
            Ok(mut json) if rng.random_bool(0.8) => {
                let other = others.choose(rng);
                let other = other.and_then(|bytes| serde_json::from_slice(bytes).ok()); // no JSON: none
                change(&mut json, other.as_ref(), rng);
                serde_json::to_vec(&json).unwrap_or(bytes)
            }
            _ => changed_bytes(bytes, others, rng),
        };
    }
    bytes
}

fn changed_bytes(mut bytes: Vec<u8>, others: &[&[u8]], rng: &mut impl rand::Rng) -> Vec<u8> {
    let place = rng.random_range(0..=bytes.len());
    match rng.random_range(0..7) {
        0 => bytes.truncate(place),
        1 => bytes.insert(place, rng.random()),
        2 if place < bytes.len() => bytes[place] ^= 1 << rng.random_range(0..8),
        3 if place < bytes.len() => {
            bytes.remove(place);
        }
        4 => {
            let other = others.choose(rng).copied().unwrap_or_default();
            let from = rng.random_range(0..=other.len());
            bytes.truncate(place);
            bytes.extend_from_slice(&other[from..]);
        }
        5 => {
            let number = NUMBERS.choose(rng).copied().unwrap_or_default();
            bytes.splice(place..place, number.bytes());
        }
        _ => {
            let end = (place + rng.random_range(0..64)).min(bytes.len());
            let part = bytes[place..end].to_vec();
            bytes.splice(place..place, part);
        }
    }
    bytes
}

/// Changes one value somewhere in a JSON tree.
fn change(json: &mut Value, other: Option<&Value>, rng: &mut impl rand::Rng) {
    let number = rng.random_range(0..count(json));
    let Some(place) = nth(json, &mut { number }) else {
        return;
    };
    match place {
        Value::Object(fields) if rng.random_bool(0.5) => change_fields(fields, other, rng),
        Value::Array(values) if rng.random_bool(0.5) => change_values(values, rng),
        place => {
            let foreign = other.and_then(|other| {
                let number = rng.random_range(0..count(other));
                nth(&mut other.clone(), &mut { number }).cloned()
            });
            *place = foreign
                .filter(|_| rng.random_bool(0.2))
                .unwrap_or_else(|| value(place, rng));
        }
    }
}

fn change_fields(fields: &mut Map<String, Value>, other: Option<&Value>, rng: &mut impl rand::Rng) {
    let names: Vec<String> = fields.keys().cloned().collect();
    let name = names.choose(rng).cloned().unwrap_or_default();
    match rng.random_range(0..4) {
        0 => {
            fields.remove(&name);
        }
        1 => {
            let word = WORDS.choose(rng).copied().unwrap_or_default();
            if let Some(value) = fields.remove(&name) {
                fields.insert(word.to_owned(), value);
            }
        }
        2 => {
            if let Some(Value::Object(more)) = other {
                fields.extend(more.clone());
            }
        }
        _ => {
            let from = names.choose(rng).and_then(|from| fields.get(from)).cloned();
            fields.insert(name, from.unwrap_or_default());
        }
    }
}

fn change_values(values: &mut Vec<Value>, rng: &mut impl rand::Rng) {
    let place = rng.random_range(0..=values.len());
    match rng.random_range(0..3) {
        0 if place < values.len() => {
            values.remove(place);
        }
        1 if !values.is_empty() => {
            let copy = values[rng.random_range(0..values.len())].clone();
            let copies = rng.random_range(1..=8);
            values.splice(place..place, vec![copy; copies]);
        }
        _ => values.insert(place, value(&Value::Null, rng)),
    }
}

/// Another value, most often of the same type.
fn value(of: &Value, rng: &mut impl rand::Rng) -> Value {
    match (of, rng.random_range(0..8)) {
        (Value::Number(_), 0..6) => number(rng),
        (Value::String(_), 0..6) => choose(&WORDS, rng).into(),
        (Value::Bool(is), 0..6) => (!is).into(),
        (_, 0) => Value::Null,
        (_, 1) => json!([]),
        (_, 2) => json!({}),
        (_, 3) => json!(true),
        (_, 4) => "x".repeat(rng.random_range(1..5000)).into(),
        (_, 5) => choose(&WORDS, rng).into(),
        _ => number(rng),
    }
}

fn number(rng: &mut impl rand::Rng) -> Value {
    serde_json::from_str(choose(&NUMBERS, rng)).unwrap_or_default() // too large: null
}

fn choose<'a>(all: &[&'a str], rng: &mut impl rand::Rng) -> &'a str {
    all.choose(rng).copied().unwrap_or_default()
}

/// How many values a JSON tree has.
fn count(json: &Value) -> usize {
    1 + match json {
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Array(values) => values.iter().map(count).sum(),
        _ => 0,
    }
}

/// One of them, counted from 0.
fn nth<'a>(json: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(json);
    }
    *number -= 1;
    match json {
        Value::Object(fields) => fields.values_mut().find_map(|value| nth(value, number)),
        Value::Array(values) => values.iter_mut().find_map(|value| nth(value, number)),
        _ => None,
    }
}
