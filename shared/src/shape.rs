//! From JSON to a record, with everything that is wrong in it: where, what was expected, what was found.
//!
//! `serde` stops at the first mistake. Here the place of a mistake is taken out and the rest is looked at again, until
//! nothing is wrong with it; and its words, which speak of Rust's types, are put into those of JSON.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};

use crate::error::{Complaints, Invalid};

/// Mistakes that are listed at most.
const MOST: usize = 30;

/// A record, or what is wrong with its JSON.
pub(crate) struct Read<R> {
    /// The record, without the places that are wrong; `None` where nothing is left of it.
    pub(crate) record: Option<R>,
    /// What is wrong, in the order of the file.
    pub(crate) complaints: Vec<Invalid>,
    /// Places that were taken out and leave a gap, so that the record says less than the file.
    pub(crate) has_gaps: bool,
}

impl<R> Read<R> {
    /// The record if nothing is wrong.
    pub(crate) fn whole(self) -> Result<R, Complaints> {
        match (self.record, Complaints::new(self.complaints)) {
            (_, Some(complaints)) => Err(complaints),
            (Some(record), None) => Ok(record),
            (None, None) => unreachable!("what cannot be read has something wrong with it"),
        }
    }
}

/// Reads a record as far as it goes; `stand_ins` are values for fields of its own that are missing.
pub(crate) fn read<R: DeserializeOwned>(mut json: Json, stand_ins: &Json) -> Read<R> {
    let mut read = Read {
        record: None,
        complaints: Vec::new(),
        has_gaps: false,
    };
    let mut gone = Gone::default();
    while read.complaints.len() < MOST {
        let error = match serde_path_to_error::deserialize::<_, R>(&json) {
            Ok(record) => {
                read.record = Some(record);
                return read;
            }
            Err(error) => error,
        };
        let place: Vec<Step> = steps(error.path());
        let message = error.into_inner().to_string();
        let missing = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let (wrong, to_take) = match missing {
            Some(field) => {
                // The path leads to the object or, in some cases, on to the field.
                let mut object = place;
                object.pop_if(|step| matches!(step, Step::Key(key) if key == field));
                let field = object.iter().cloned().chain([Step::Key(field.to_owned())]);
                (field.collect(), object)
            }
            None => (place.clone(), place),
        };
        // What was taken out is missing now, and no mistake of its own.
        if !gone.has(&wrong) {
            let at = gone.as_written(&wrong);
            read.complaints.push(complaint(at, &message));
        }
        read.has_gaps |= !message.starts_with("unknown field");
        let stand_in = missing.and_then(|field| Some((field, stand_ins.get(field)?)));
        if to_take.is_empty()
            && let Some((field, value)) = stand_in
        {
            json[field] = value.clone();
            continue;
        }
        if to_take.is_empty() || !gone.take(&mut json, to_take) {
            return read;
        }
    }
    read
}

/// One step into JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Enum { variant } => Some(Step::Key(variant.clone())),
        Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// What has been taken out so far.
#[derive(Debug, Default)]
struct Gone {
    /// As places in the JSON as it is written.
    places: BTreeSet<Vec<Step>>,
}

impl Gone {
    fn has(&self, place: &[Step]) -> bool {
        self.places.contains(&self.original(place))
    }

    /// A place of what is left, as a place of what is written: items before it may be gone from lists.
    fn original(&self, place: &[Step]) -> Vec<Step> {
        let mut original: Vec<Step> = Vec::new();
        for step in place {
            let step = match step {
                Step::Key(_) => step.clone(),
                Step::Index(index) => {
                    let is_gone = |index: usize| {
                        let item = original.iter().cloned().chain([Step::Index(index)]);
                        self.places.contains(&item.collect::<Vec<Step>>())
                    };
                    let left = (0..).filter(|index| !is_gone(*index));
                    Step::Index(left.take(index + 1).last().unwrap_or(*index))
                }
            };
            original.push(step);
        }
        original
    }

    fn as_written(&self, place: &[Step]) -> String {
        let mut text = String::new();
        for step in self.original(place) {
            match step {
                Step::Key(key) if text.is_empty() => text += &key,
                Step::Key(key) => text.extend([".", &key]),
                Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            }
        }
        text
    }

    /// Takes a place out; whether it was there.
    fn take(&mut self, json: &mut Json, mut place: Vec<Step>) -> bool {
        // An enum's variant is no place of its own where it is written as a string.
        while !place.is_empty() && !is_there(json, &place) {
            place.pop();
        }
        let original = self.original(&place);
        let Some(last) = place.pop() else {
            return false;
        };
        let parent = place.iter().try_fold(json, |json, step| match step {
            Step::Key(key) => json.get_mut(key),
            Step::Index(index) => json.get_mut(index),
        });
        match (parent, last) {
            (Some(Json::Object(fields)), Step::Key(key)) => {
                fields.remove(&key);
            }
            (Some(Json::Array(items)), Step::Index(index)) => {
                items.remove(index);
            }
            _ => return false,
        }
        self.places.insert(original);
        true
    }
}

fn is_there(json: &Json, place: &[Step]) -> bool {
    let found = place.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.get(key),
        Step::Index(index) => json.get(index),
    });
    found.is_some()
}

/// What `serde` says, in the words of JSON.
fn complaint(at: String, message: &str) -> Invalid {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (found, expected) = rest.split_once(", ").unwrap_or((rest, ""));
        let known = quoted(expected);
        let expected = if known.is_empty() {
            "no field here".to_owned()
        } else {
            format!("one of the fields {}", listed(&known))
        };
        return Invalid::new(at, expected, with_hint(found, &known, '`'));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (found, expected) = rest.split_once(", ").unwrap_or((rest, ""));
        let known = quoted(expected);
        let words: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
        let found = found.replace('`', "\"");
        let found = with_hint(&found, &known, '"');
        return Invalid::new(at, format!("one of {}", words.join(", ")), found);
    }
    if message.starts_with("missing field `") {
        return Invalid::new(at, "a value, because it is needed", "nothing");
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) = message
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once(", expected "))
        {
            if prefix.contains("length") {
                return Invalid::new(at, of_expected(expected), format!("a list of {found}"));
            }
            return Invalid::new(at, of_expected(expected), of_found(found));
        }
    }
    Invalid::new(at, "something else", message)
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn listed(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// What was found, and what it may have been meant to be.
pub(crate) fn with_hint(found: &str, known: &[String], quote: char) -> String {
    const SIMILAR: f64 = 0.8;
    let word = found.trim_matches(quote);
    let likeness = |other: &String| strsim::jaro_winkler(&word.to_lowercase(), other);
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|other| likeness(other) > SIMILAR) {
        Some(other) => format!("{found} (is {quote}{other}{quote} meant?)"),
        None => found.to_owned(),
    }
}

/// What Rust would have liked, as JSON.
fn of_expected(words: &str) -> String {
    let first = words.split([' ', ',']).next().unwrap_or(words);
    let json = match first {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "struct" | "internally" | "map" | "adjacently" => "an object",
        "sequence" | "tuple" => "a list",
        "boolean" => "true or false",
        "unit" | "borrowed" | "string" | "enum" | "variant" | "newtype" => "a string",
        _ => match words {
            "a boolean" => "true or false",
            "a map" | "string or map" => "an object",
            "a sequence" => "a list",
            "a borrowed string" | "a character" | "path string" => "a string",
            "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number of at least 1",
            other => other,
        },
    };
    json.to_owned()
}

/// What Rust found, as JSON.
fn of_found(words: &str) -> String {
    let value = |prefix: &str| {
        words
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix(" `"))
            .and_then(|rest| rest.strip_suffix('`'))
    };
    let number = value("integer").or_else(|| value("floating point"));
    if let Some(number) = number.or_else(|| value("boolean")) {
        return number.to_owned();
    }
    if let Some(text) = words.strip_prefix("string ") {
        return text.to_owned();
    }
    match words {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "unit value" | "Option value" => "null".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SearchFile;
    use crate::format::Record as _;

    fn complaints(json: &str) -> Vec<String> {
        let read = read::<SearchFile>(
            serde_json::from_str(json).unwrap(),
            &SearchFile::stand_ins(),
        );
        read.complaints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_of_a_file_is_named_at_once_in_the_words_of_the_file() {
        insta::assert_snapshot!(
            complaints(
                r#"{"name":3,"colour":"red","space":{"hyperparameters":[
                    {"name":"a","type":"whole","lower":1,"upper":2},
                    {"name":"b","type":"Float","lower":[0],"upper":1,"prioir":0.5},
                    {"name":"c","type":"float","lower":0,"upper":1,"log":"yes"},
                    {"type":"float"},
                    {"name":"d","type":"integer","lower":0,"upper":9,"active_when":{"hyperparameter":"c","in":0}}],
                    "forbidden":[{"a":{"min":1,"most":2}},{"b":{}},{"c":[[1]]}]},
                "objective":{"command":"train.py"},
                "budget":{"unit":"epoch","min":"1","max":27,"eta":true},
                "limit":{"bracket":4},"method":"BOHB","seed":-1,"bohb":{"num_samples":2.5},
                "start_with":[{"a":1},7],"trainers":[]}"#
            )
            .join("\n")
        );
    }

    #[test]
    fn what_is_right_is_read() {
        let json = r#"{"name":"x","objective":{"benchmark":"branin"},"limit":{"brackets":1},
            "budget":{"unit":"steps","min":1,"max":9}}"#;
        let json = serde_json::from_str(json).unwrap();
        let read = read::<SearchFile>(json, &Json::Null);
        assert!(read.record.is_some() && read.complaints.is_empty() && !read.has_gaps);
        assert_eq!(complaints("{}").len(), 4);
        assert_eq!(
            complaints("[]"),
            ["at ``: expected an object, found a list of 0"]
        );
    }
}
