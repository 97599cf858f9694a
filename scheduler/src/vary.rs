//! A hyperparameter on the command line: `rate=1e-5..0.1:log`, `layers=1..8`, `optimizer=adam,sgd`, `size=16<32<64`.

use anyhow::Result;
use serde_json::{Value as Json, json};
use shared::exit::{Code, Failure};

/// The hyperparameter that a text describes, as in a space file.
pub(crate) fn hyperparameter(text: &str) -> Result<Json> {
    let wrong = |expected: &str| {
        let message = format!("--vary: expected {expected}, found `{text}`");
        anyhow::Error::from(Failure::new(Code::Usage, message))
    };
    let (name, values) = text
        .split_once('=')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or_else(|| wrong("NAME=VALUES, such as rate=1e-5..0.1:log"))?;
    let name = name.trim();
    let (values, is_log) = match values.strip_suffix(":log") {
        Some(values) => (values, true),
        None => (values, false),
    };
    if let Some((lower, upper)) = values.split_once("..") {
        let (lower, upper) = (scalar(lower), scalar(upper));
        if !(lower.is_number() && upper.is_number()) {
            return Err(wrong("a number on both sides of `..`"));
        }
        let is_whole = lower.is_i64() && upper.is_i64();
        let kind = if is_whole { "integer" } else { "float" };
        let mut json = json!({ "name": name, "type": kind, "lower": lower, "upper": upper });
        if is_log || !is_whole {
            json["log"] = json!(is_log);
        }
        return Ok(json);
    }
    if is_log {
        return Err(wrong("`:log` behind a range only"));
    }
    let listed = |separator| values.split(separator).map(scalar).collect::<Vec<Json>>();
    let json = if values.contains('<') {
        json!({ "name": name, "type": "ordinal", "sequence": listed('<') })
    } else if values.contains(',') {
        json!({ "name": name, "type": "categorical", "choices": listed(',') })
    } else {
        json!({ "name": name, "type": "constant", "value": scalar(values) })
    };
    Ok(json)
}

/// A number, `true`, `false` or `null`, or else a word.
fn scalar(text: &str) -> Json {
    let text = text.trim();
    match serde_json::from_str(text) {
        Ok(value @ (Json::Number(_) | Json::Bool(_) | Json::Null)) => value,
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lists_and_orders_are_what_they_look_like() {
        let read = |text: &str| hyperparameter(text).unwrap().to_string();
        let expected = [
            (
                "rate=1e-5..0.1:log",
                r#"{"name":"rate","type":"float","lower":0.00001,"upper":0.1,"log":true}"#,
            ),
            (
                "share=0..1.0",
                r#"{"name":"share","type":"float","lower":0,"upper":1.0,"log":false}"#,
            ),
            (
                "layers=1..8",
                r#"{"name":"layers","type":"integer","lower":1,"upper":8}"#,
            ),
            (
                "width=-4..1024",
                r#"{"name":"width","type":"integer","lower":-4,"upper":1024}"#,
            ),
            (
                "size=16<32<64",
                r#"{"name":"size","type":"ordinal","sequence":[16,32,64]}"#,
            ),
            (
                "mode=a, b,null,true",
                r#"{"name":"mode","type":"categorical","choices":["a","b",null,true]}"#,
            ),
            ("k=3", r#"{"name":"k","type":"constant","value":3}"#),
        ];
        for (text, json) in expected {
            assert_eq!(read(text), json);
        }
        for text in ["rate", "=1..2", "a=1..b", "a=x,y:log"] {
            assert!(hyperparameter(text).is_err(), "{text}");
        }
    }
}
