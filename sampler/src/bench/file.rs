//! Files that runs of methods are compared on: packed or not, in fields that stand for coordinates.

use std::io::Read as _;

use anyhow::Result;
use shared::Value;
use shared::space::Kind;

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
    let text = Value::Text(field.to_owned());
    let number = field.parse::<f64>().ok().map(Value::Float); // not a number: a word
    let truth = field.parse::<bool>().ok().map(Value::Boolean);
    [Some(text), number, truth]
        .into_iter()
        .flatten()
        .find_map(|value| kind.encode(&value))
}
