//! Files that runs of methods are compared on: packed or not, in fields that stand for values.

use std::io::Read as _;

use anyhow::Result;
use shared::Value;
use shared::space::Kind;

/// How far behind an end of its range a number may be, as a share of the range, to count as that end.
const ROUNDING: f64 = 1e-3;

/// The bytes of a file, unpacked if they are gzip's.
pub(super) fn unpacked(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut unpacked)?;
    } else {
        unpacked.extend(bytes);
    }
    Ok(unpacked)
}

/// The coordinate that a table's field stands for.
pub(super) fn coordinate(kind: &Kind, field: &str) -> Option<f64> {
    readings(field).find_map(|value| kind.encode(&value))
}

/// The value in the range of a hyperparameter that a field stands for.
pub(super) fn value(kind: &Kind, field: &str) -> Option<Value> {
    let value = readings(field).find_map(|value| kind.typed(&value));
    value.or_else(|| rounded(kind, field).map(Value::Float))
}

/// What a field may be read as.
fn readings(field: &str) -> impl Iterator<Item = Value> {
    let text = Value::Text(field.to_owned());
    let number = field.parse::<f64>().ok().map(Value::Float); // not a number: a word
    let truth = field.parse::<bool>().ok().map(Value::Boolean);
    [Some(text), number, truth].into_iter().flatten()
}

/// The end of its range that a number is beyond by no more than rounding.
fn rounded(kind: &Kind, field: &str) -> Option<f64> {
    let Kind::Float { lower, upper, log } = kind else {
        return None;
    };
    let number = field.parse::<f64>().ok()?; // a word
    let end = number.clamp(*lower, *upper);
    let slack = if *log {
        ROUNDING * end
    } else {
        ROUNDING * upper - ROUNDING * lower
    };
    ((number - end).abs() <= slack).then_some(end)
}
