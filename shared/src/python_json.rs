//! Python's JSON, which has `NaN`, `Infinity` and `-Infinity`, made readable for strict parsers.

use std::borrow::Cow;

/// The same JSON with bare `NaN`, `Infinity` and `-Infinity` in quotation marks; text inside strings stays as it is.
pub fn lenient(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut changed: Option<Vec<u8>> = None;
    let (mut position, mut is_in_string) = (0, false);
    while position < bytes.len() {
        let rest = &bytes[position..];
        let word = WORDS
            .iter()
            .find(|word| !is_in_string && rest.starts_with(word));
        let step = match (word, rest[0]) {
            (Some(word), _) => {
                let output = changed.get_or_insert_with(|| bytes[..position].to_vec());
                output.push(b'"');
                output.extend_from_slice(word);
                output.push(b'"');
                position += word.len();
                continue;
            }
            (None, b'"') => {
                is_in_string = !is_in_string;
                1
            }
            (None, b'\\') => 2,
            (None, _) => 1,
        };
        let end = (position + step).min(bytes.len());
        if let Some(output) = &mut changed {
            output.extend_from_slice(&bytes[position..end]);
        }
        position = end;
    }
    changed.map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// The number a value read from [`lenient`] JSON is; NaN and the infinities included.
pub fn number(json: &serde_json::Value) -> Option<f64> {
    match json {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_words_are_quoted() {
        let text = br#"[NaN, -Infinity, "NaN \" Infinity", {"a": Infinity}, "\\", NaN]"#;
        let read: serde_json::Value = serde_json::from_slice(&lenient(text)).unwrap();
        let expected = serde_json::json!(
            ["NaN", "-Infinity", "NaN \" Infinity", {"a": "Infinity"}, "\\", "NaN"]
        );
        assert_eq!(read, expected);
        assert_eq!(number(&read[1]), Some(f64::NEG_INFINITY));
        assert!(matches!(lenient(br#"{"a": [1, "b"]}"#), Cow::Borrowed(_)));
        assert!(serde_json::from_slice::<serde_json::Value>(&lenient(b"[\"NaN")).is_err());
    }
}
