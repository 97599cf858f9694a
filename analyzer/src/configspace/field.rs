//! Fields of the file.

use serde_json::Value as Json;
use shared::Value;

/// A list of the file; empty where it is missing.
pub(super) fn list<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    json.get(name)
        .and_then(Json::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A string that must be there.
pub(super) fn text<'a>(json: &'a Json, name: &str) -> Result<&'a str, String> {
    json.get(name)
        .and_then(Json::as_str)
        .ok_or_else(|| format!("`{name}` is missing or no string"))
}

/// The value in a field.
pub(super) fn value(json: &Json, name: &str) -> Result<Value, String> {
    let json = json.get(name).unwrap_or(&Json::Null);
    serde_json::from_value(json.clone()).map_err(|error| format!("`{name}` is {json}: {error}"))
}

/// The values in the first of these fields that is a list.
pub(super) fn values(json: &Json, names: &[&str]) -> Result<Vec<Value>, String> {
    let found = names.iter().find_map(|name| json.get(*name)?.as_array());
    let list = found.ok_or_else(|| format!("`{}` is missing or no list", names[0]))?;
    let value = |json: &Json| {
        serde_json::from_value(json.clone()).map_err(|error| format!("{json}: {error}"))
    };
    list.iter().map(value).collect()
}
