//! Every record is one JSON object with `"format"` and `"version"` first; this module writes and reads that envelope.
//!
//! `version` is `[major, minor]`. A reader refuses another major version and says so, reads a newer minor one (its new
//! fields are ignored) and fills the fields that an older minor one lacks with their defaults. The changelog of a
//! format is the doc comment of its `VERSION`.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::error::{Complaints, Error, Invalid, Result};
use crate::shape;

/// A kind of file in the shared directory, or given by the user.
pub trait Record: Serialize + DeserializeOwned {
    /// The value of its `format` field.
    const FORMAT: &'static str;
    /// The newest version this program writes and reads: major, minor.
    const VERSION: [u32; 2];
    /// The version that this very record is written in, where it needs an older program to refuse it.
    fn version(&self) -> [u32; 2] {
        Self::VERSION
    }

    /// Whether people write such files: then `format` and `version` may be left out, and `$schema` and comments, which
    /// are fields whose name begins with `//`, be there.
    const IS_WRITTEN_BY_PEOPLE: bool = false;

    /// Checks what its shape alone cannot: ranges, and fields that must agree.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// Everything that is wrong beyond its shape, where [`check`](Self::check) stops at the first.
    fn complaints(&self) -> Vec<Invalid> {
        self.check().err().into_iter().collect()
    }

    /// Values for fields that may not be missing, so that the others are looked at where they are.
    fn stand_ins() -> Json {
        Json::Null
    }
}

/// The text of a record, with a newline at the end.
///
/// # Panics
/// If the record cannot be read again: for records that are known to be right.
pub fn to_bytes<R: Record>(record: &R) -> Vec<u8> {
    match to_publish(Path::new("a record"), record) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{}", crate::error::chain(&error)),
    }
}

/// The text of a record for the file `path`, with a newline at the end.
///
/// # Errors
/// If the record fails its own [`Record::check`], or is another one when it is read again, because it holds a number that
/// JSON has not: programs never publish what they would not read.
pub fn to_publish<R: Record>(path: &Path, record: &R) -> Result<Vec<u8>> {
    let unwritable = |source| Error::Unwritable {
        path: path.to_path_buf(),
        format: R::FORMAT,
        source,
    };
    let bytes = to_bytes_of(record, record.version());
    match from_bytes::<R>(path, &bytes) {
        Ok(_) => Ok(bytes),
        Err(Error::Value { source, .. }) => Err(unwritable(source)),
        Err(other) => Err(other),
    }
}

/// The text of a record as if written by another version, for digests that outlive a version.
pub(crate) fn to_bytes_of<R: Record>(record: &R, version: [u32; 2]) -> Vec<u8> {
    let Ok(Json::Object(fields)) = serde_json::to_value(record) else {
        panic!("a {} record is not a JSON object", R::FORMAT);
    };
    let mut object = Map::new();
    object.insert("format".into(), R::FORMAT.into());
    object.insert("version".into(), version.to_vec().into());
    object.extend(fields);
    let mut bytes = serde_json::to_vec_pretty(&object).expect("a JSON value can be written");
    bytes.push(b'\n');
    bytes
}

/// Reads a record's text; `path` is for the error.
pub fn from_bytes<R: Record>(path: &Path, bytes: &[u8]) -> Result<R> {
    let json = parse(bytes).map_err(|source| Error::Syntax {
        path: path.to_path_buf(),
        source,
    })?;
    from_json(path, json)
}

/// Reads JSON that people may have typed: a byte order mark before it, as some editors write, is passed over, and text
/// that is not UTF-8 is called that.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    use serde::de::Error as _;
    const MARK: &[u8] = b"\xef\xbb\xbf";
    const MARKS_OF_UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
    if MARKS_OF_UTF_16.iter().any(|mark| bytes.starts_with(mark)) {
        let message = "it is text in UTF-16; save it as UTF-8";
        return Err(serde_json::Error::custom(message));
    }
    serde_json::from_slice(bytes.strip_prefix(MARK).unwrap_or(bytes))
}

fn from_json<R: Record>(path: &Path, json: Json) -> Result<R> {
    let wrong = |found: String| Error::WrongFormat {
        path: path.to_path_buf(),
        expected: R::FORMAT,
        found,
    };
    let Json::Object(mut fields) = json else {
        return Err(wrong("missing: the file is no JSON object".into()));
    };
    match fields.remove("format") {
        Some(Json::String(format)) if format == R::FORMAT => {}
        Some(other) => return Err(wrong(other.to_string())),
        None if R::IS_WRITTEN_BY_PEOPLE => {}
        None => return Err(wrong("missing".into())),
    }
    let newest = || R::IS_WRITTEN_BY_PEOPLE.then(|| R::VERSION.to_vec().into());
    let version = fields.remove("version").or_else(newest);
    let value = |source: Complaints| Error::Value {
        path: path.to_path_buf(),
        format: R::FORMAT,
        source,
    };
    let Some([major, _]) = version.as_ref().and_then(two_numbers) else {
        let found = version.map_or_else(|| "nothing".to_owned(), |json| json.to_string());
        let invalid = Invalid::new("version", "two whole numbers, such as [1, 0]", found);
        return Err(value(invalid.into()));
    };
    if major > u64::from(R::VERSION[0]) {
        return Err(Error::NewerVersion {
            path: path.to_path_buf(),
            format: R::FORMAT,
            found: version.map_or_else(String::new, |json| json.to_string()),
            supported: format!("[{}, {}]", R::VERSION[0], R::VERSION[1]),
        });
    }
    if R::IS_WRITTEN_BY_PEOPLE {
        fields.remove("$schema");
    }
    let mut json = Json::Object(fields);
    if R::IS_WRITTEN_BY_PEOPLE {
        drop_comments(&mut json);
    }
    let mut read = shape::read::<R>(json, &R::stand_ins());
    if let Some(record) = read.record.as_ref().filter(|_| !read.has_gaps) {
        read.complaints.extend(record.complaints());
    }
    read.whole().map_err(value)
}

/// Removes fields whose name begins with `//`, everywhere.
fn drop_comments(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("//"));
            fields.values_mut().for_each(drop_comments);
        }
        Json::Array(items) => items.iter_mut().for_each(drop_comments),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn two_numbers(json: &Json) -> Option<[u64; 2]> {
    match json.as_array()?.as_slice() {
        [major, minor] => Some([major.as_u64()?, minor.as_u64()?]),
        _ => None,
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
        #[serde(default)]
        pages: u32,
    }
    impl Record for Note {
        const FORMAT: &'static str = "note";
        const VERSION: [u32; 2] = [1, 1];
        fn check(&self) -> Result<(), Invalid> {
            if self.text.is_empty() {
                Err(Invalid::new("text", "words", "none"))
            } else {
                Ok(())
            }
        }
    }

    fn read(text: &str) -> String {
        match from_bytes::<Note>(Path::new("n.json"), text.as_bytes()) {
            Ok(note) => format!("{note:?}"),
            Err(error) => format!("{:#} (exit {})", anyhow::Error::new(error).context("x"), 0),
        }
    }

    #[test]
    fn files_are_read_by_version_and_refused_with_a_reason() {
        insta::assert_snapshot!(
            [
                r#"{"format":"note","version":[1,1],"text":"a","pages":2}"#,
                r#"{"format":"note","version":[1,0],"text":"a"}"#,
                r#"{"format":"note","version":[2,0],"anything":1}"#,
                r#"{"format":"note","version":"1","text":"a"}"#,
                r#"{"format":"job","version":[1,0]}"#,
                r#"{"version":[1,0]}"#,
                r"[]",
                r#"{"format":"note","version":[1,0],"text":"a"#,
                r#"{"format":"note","version":[1,0],"text":1}"#,
                r#"{"format":"note","version":[1,0],"text":""}"#,
                r#"{"format":"note","version":[1,0],"text":"a","colour":1}"#,
                "",
            ]
            .map(read)
            .join("\n")
        );
    }

    #[test]
    fn files_from_editors_that_mark_the_order_of_bytes_are_read_or_explained() {
        let text = r#"{"format":"note","version":[1,0],"text":"a"}"#;
        assert_eq!(read(&format!("\u{feff}{text}")), read(text));
        let twice = from_bytes::<Note>(Path::new("n.json"), "\u{feff}\u{feff}{}".as_bytes());
        assert!(twice.is_err());
        let big: Vec<u8> = format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        let small: Vec<u8> = big.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        for bytes in [big, small] {
            let error = from_bytes::<Note>(Path::new("n.json"), &bytes).unwrap_err();
            let error = format!("{:#}", anyhow::Error::new(error));
            assert_eq!(
                error,
                "`n.json` is not JSON: it is text in UTF-16; save it as UTF-8"
            );
        }
    }

    #[test]
    fn what_nobody_could_read_is_not_written() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Measured {
            number: f64,
            list: Vec<f64>,
        }
        impl Record for Measured {
            const FORMAT: &'static str = "measured";
            const VERSION: [u32; 2] = [1, 0];
        }
        let path = Path::new("m.json");
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for record in [
                Measured {
                    number: x,
                    list: vec![1.0],
                },
                Measured {
                    number: 1.0,
                    list: vec![1.0, x],
                },
            ] {
                let error = to_publish(path, &record).unwrap_err();
                assert!(matches!(error, Error::Unwritable { .. }), "{error}");
            }
        }
        let extremes = Measured {
            number: f64::MIN,
            list: vec![f64::MAX, 5e-324, -0.0],
        };
        assert!(to_publish(path, &extremes).is_ok());
        let empty = Note {
            text: String::new(),
            pages: 1,
        };
        assert!(matches!(
            to_publish(path, &empty),
            Err(Error::Unwritable { .. })
        ));
    }

    #[test]
    fn the_envelope_comes_first() {
        let text = String::from_utf8(to_bytes(&Note {
            text: "a".into(),
            pages: 1,
        }))
        .unwrap();
        assert_eq!(
            text,
            "{\n  \"format\": \"note\",\n  \"version\": [\n    1,\n    1\n  ],\n  \"text\": \"a\",\n  \"pages\": 1\n}\n"
        );
    }
}
