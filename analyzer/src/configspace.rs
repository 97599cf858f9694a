//! Search spaces to and from ConfigSpace's JSON.
//!
//! Read: what ConfigSpace 0.4 to 0.7 (`json_format_version` 0.1 to 0.4) and 1.x write. Written: the form of 0.7, which
//! all of them, HpBandSter and DeepCAVE read. Not expressible here, and refused by name: normal and beta
//! distributions, quantization, conditions other than "equals" and "is one of", and forbidden relations between two
//! hyperparameters. Weights of categories are dropped with a note. Forbidden clauses are equals, is one of, and
//! conjunctions of these; ConfigSpace has no ranges, so one of whole numbers is written as a list, and one of floats
//! cannot be.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value as Json, json};
use shared::exit::{Code, Failure};
use shared::format::parse;
use shared::space::{
    Condition, ForbiddenFile, ForbiddenValues, HyperparameterFile, KindName, SpaceFile,
};
use shared::{Configuration, Kind, SearchSpace, Value};

use crate::json::lenient;

/// The file's usual name.
pub const CONFIGSPACE: &str = "configspace.json";

/// Whole numbers of a forbidden range that are listed at most.
const MOST_LISTED: i64 = 10_000;

/// A space read from ConfigSpace's JSON, and what of it was dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The space.
    pub space: SpaceFile,
    /// What was dropped, in words.
    pub notes: Vec<String>,
}

/// Reads a space; `path` is for messages.
pub fn from_json(path: &Path, bytes: &[u8]) -> Result<Read> {
    let wrong = |at: &str, why: &str| {
        let place = if at.is_empty() {
            String::new()
        } else {
            format!("at `{at}`: ")
        };
        let message = format!("cannot use the space in `{}`: {place}{why}", path.display());
        Failure::new(Code::BadInput, message)
    };
    let json: Json = parse(&lenient(bytes)).map_err(|error| wrong("", &error.to_string()))?;
    let mut notes = Vec::new();
    let mut hyperparameters = Vec::new();
    for (index, raw) in list(&json, "hyperparameters").iter().enumerate() {
        let hyperparameter = hyperparameter(raw, &mut notes)
            .map_err(|why| wrong(&format!("hyperparameters[{index}]"), &why))?;
        hyperparameters.push(hyperparameter);
    }
    for (index, raw) in list(&json, "conditions").iter().enumerate() {
        add_condition(raw, &mut hyperparameters)
            .map_err(|why| wrong(&format!("conditions[{index}]"), &why))?;
    }
    let mut forbidden = Vec::new();
    for (index, raw) in list(&json, "forbiddens").iter().enumerate() {
        let mut clause = ForbiddenFile::default();
        forbid(raw, &mut clause).map_err(|why| wrong(&format!("forbiddens[{index}]"), &why))?;
        forbidden.push(clause);
    }
    let space = SpaceFile {
        hyperparameters: parents_first(hyperparameters),
        forbidden,
    };
    if let Err(invalid) = SearchSpace::new(&space) {
        let why = format!("expected {}, found {}", invalid.expected, invalid.found);
        return Err(wrong(&invalid.at, &why).into());
    }
    Ok(Read { space, notes })
}

fn list<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    json.get(name)
        .and_then(Json::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(json: &'a Json, name: &str) -> Result<&'a str, String> {
    json.get(name)
        .and_then(Json::as_str)
        .ok_or_else(|| format!("`{name}` is missing or no string"))
}

fn value(json: &Json) -> Result<Value, String> {
    serde_json::from_value(json.clone()).map_err(|error| format!("{json}: {error}"))
}

fn values(json: &Json, names: &[&str]) -> Result<Vec<Value>, String> {
    let found = names.iter().find_map(|name| json.get(*name)?.as_array());
    let list = found.ok_or_else(|| format!("`{}` is missing or no list", names[0]))?;
    list.iter().map(value).collect()
}

fn hyperparameter(raw: &Json, notes: &mut Vec<String>) -> Result<HyperparameterFile, String> {
    let name = text(raw, "name")?.to_owned();
    let kind = match text(raw, "type")? {
        "uniform_float" => KindName::Float,
        "uniform_int" => KindName::Integer,
        "categorical" => KindName::Categorical,
        "ordinal" => KindName::Ordinal,
        "constant" | "unparametrized" => KindName::Constant,
        other => {
            return Err(format!(
                "`{name}` has type `{other}`, which is not supported"
            ));
        }
    };
    if raw.get("q").is_some_and(|q| !q.is_null()) {
        return Err(format!("`{name}` is quantized, which is not supported"));
    }
    let is_weighted = |weights: &Json| {
        let weights = weights.as_array().map_or(&[][..], Vec::as_slice);
        weights.windows(2).any(|pair| pair[0] != pair[1])
    };
    if ["probabilities", "weights"]
        .iter()
        .any(|field| raw.get(*field).is_some_and(is_weighted))
    {
        notes.push(format!("the weights of `{name}`'s choices are ignored"));
    }
    let is_number = matches!(kind, KindName::Float | KindName::Integer);
    let bound = |field: &str| match raw.get(field).filter(|_| is_number) {
        Some(json) => value(json).map(Some),
        None => Ok(None),
    };
    let one_of =
        |wanted: KindName, names: &[&str]| (kind == wanted).then(|| values(raw, names)).transpose();
    let constant = (kind == KindName::Constant)
        .then(|| value(raw.get("value").unwrap_or(&Json::Null)))
        .transpose()?;
    let is_log = raw.get("log").and_then(Json::as_bool).unwrap_or(false);
    Ok(HyperparameterFile {
        name,
        kind,
        lower: bound("lower")?,
        upper: bound("upper")?,
        log: is_number.then_some(is_log),
        sequence: one_of(KindName::Ordinal, &["sequence"])?,
        choices: one_of(KindName::Categorical, &["choices", "items"])?,
        value: constant,
        ..HyperparameterFile::new("", kind)
    })
}

fn add_condition(raw: &Json, hyperparameters: &mut [HyperparameterFile]) -> Result<(), String> {
    let child = text(raw, "child")?;
    let activating = match text(raw, "type")? {
        "EQ" => vec![value(raw.get("value").unwrap_or(&Json::Null))?],
        "IN" => values(raw, &["values", "value"])?,
        other => return Err(format!("condition `{other}` on `{child}` is not supported")),
    };
    let condition = Condition {
        hyperparameter: text(raw, "parent")?.to_owned(),
        values: activating,
    };
    let hyperparameter = hyperparameters
        .iter_mut()
        .find(|h| h.name == child)
        .ok_or_else(|| format!("there is no hyperparameter `{child}`"))?;
    if hyperparameter.active_when.replace(condition).is_some() {
        return Err(format!(
            "`{child}` has two conditions, which is not supported"
        ));
    }
    Ok(())
}

/// Adds a clause to a conjunction.
fn forbid(raw: &Json, clause: &mut ForbiddenFile) -> Result<(), String> {
    let (name, values) = match text(raw, "type")? {
        "AND" => {
            return list(raw, "clauses")
                .iter()
                .try_for_each(|raw| forbid(raw, clause));
        }
        "EQUALS" => {
            let value = value(raw.get("value").unwrap_or(&Json::Null))?;
            (text(raw, "name")?, ForbiddenValues::One(value))
        }
        "IN" => (
            text(raw, "name")?,
            ForbiddenValues::Several(values(raw, &["values"])?),
        ),
        other => return Err(format!("a forbidden clause `{other}` is not supported")),
    };
    if clause.0.insert(name.to_owned(), values).is_some() {
        return Err(format!("`{name}` occurs twice, which is not supported"));
    }
    Ok(())
}

/// A forbidden combination as ConfigSpace has it.
fn forbidden_json(space: &SearchSpace, clause: &ForbiddenFile) -> Result<Json> {
    let mut terms = Vec::new();
    for (name, values) in &clause.0 {
        let values = match (values, space.find(name).map(|h| &h.kind)) {
            (ForbiddenValues::One(value), _) => {
                terms.push(json!({"name": name, "type": "EQUALS", "value": value}));
                continue;
            }
            (ForbiddenValues::Several(values), _) => values.clone(),
            (ForbiddenValues::Range(range), Some(Kind::Integer { lower, upper, .. })) => {
                let end = |end: &Option<Value>, otherwise: i64| {
                    end.as_ref().and_then(Value::as_i64).unwrap_or(otherwise)
                };
                let (min, max) = (end(&range.min, *lower), end(&range.max, *upper));
                if max - min >= MOST_LISTED {
                    let message = format!(
                        "ConfigSpace cannot forbid a range, and that of `{name}` is too long for a list"
                    );
                    return Err(Failure::new(Code::BadInput, message).into());
                }
                (min..=max).map(Value::Integer).collect()
            }
            (ForbiddenValues::Range(_), _) => {
                let message = format!("ConfigSpace cannot forbid a range of `{name}`");
                return Err(Failure::new(Code::BadInput, message).into());
            }
        };
        terms.push(json!({"name": name, "type": "IN", "values": values}));
    }
    Ok(match terms.as_mut_slice() {
        [only] => only.take(),
        _ => json!({"name": terms[0]["name"], "type": "AND", "clauses": terms}),
    })
}

/// The same hyperparameters, each after the one its condition names. A circle keeps its order and is refused later.
fn parents_first(mut left: Vec<HyperparameterFile>) -> Vec<HyperparameterFile> {
    let mut ordered: Vec<HyperparameterFile> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let before = ordered.len();
        let (mut ready, waiting) = (Vec::new(), std::mem::take(&mut left));
        for hyperparameter in waiting {
            let is_ready = hyperparameter.active_when.as_ref().is_none_or(|condition| {
                let is_parent = |h: &HyperparameterFile| h.name == condition.hyperparameter;
                ordered.iter().any(is_parent) || ready.iter().any(is_parent)
            });
            if is_ready {
                ready.push(hyperparameter);
            } else {
                left.push(hyperparameter);
            }
        }
        ordered.append(&mut ready);
        if ordered.len() == before {
            ordered.append(&mut left);
        }
    }
    ordered
}

/// Writes a space as ConfigSpace 0.7 does. Defaults, which ConfigSpace demands and this project does not have, are the
/// middle of the range on its scale, or the first level; together they may be a configuration that is forbidden, so where
/// something is, they are those of the allowed configuration nearest to the middle.
///
/// # Errors
/// Where a range of floats is forbidden, and where the integers of one are too many to be listed.
pub fn to_json(space: &SearchSpace, name: &str) -> Result<Json> {
    let middle: Vec<f64> = space.dimensions().map(|h| default(&h.kind)).collect();
    let middle = space.decode(&middle);
    let mut hyperparameters = Vec::new();
    let mut conditions = Vec::new();
    for h in space.hyperparameters() {
        hyperparameters.push(hyperparameter_json(&h.name, &h.kind, &middle));
        if let Some((parent, activating)) = &h.condition {
            let parent = &space.hyperparameters()[*parent].name;
            conditions.push(match activating.as_slice() {
                [only] => json!({"child": h.name, "parent": parent, "type": "EQ", "value": only}),
                all => json!({"child": h.name, "parent": parent, "type": "IN", "values": all}),
            });
        }
    }
    let forbidden = space.to_file().forbidden;
    let forbidden = forbidden.iter().map(|clause| forbidden_json(space, clause));
    Ok(json!({
        "name": name,
        "hyperparameters": hyperparameters,
        "conditions": conditions,
        "forbiddens": forbidden.collect::<Result<Vec<_>>>()?,
        "python_module_version": "0.7.1",
        "json_format_version": 0.4,
    }))
}

/// The coordinate of a default.
fn default(kind: &Kind) -> f64 {
    kind.num_levels().map_or(0.5, |_| 0.0)
}

fn hyperparameter_json(name: &str, kind: &Kind, middle: &Configuration) -> Json {
    // Inactive there, perhaps, so its own is taken.
    let default = |kind: &Kind| {
        let own = || kind.decode(default(kind));
        middle.get(name).cloned().unwrap_or_else(own)
    };
    match kind {
        Kind::Float { lower, upper, log } => json!({
            "name": name, "type": "uniform_float", "log": log, "lower": lower, "upper": upper,
            "default": default(kind), "q": null,
        }),
        // ConfigSpace refuses a whole number whose bounds are equal.
        Kind::Integer { lower, upper, .. } if lower == upper => {
            json!({"name": name, "type": "constant", "value": lower})
        }
        Kind::Integer { lower, upper, log } => json!({
            "name": name, "type": "uniform_int", "log": log, "lower": lower, "upper": upper,
            "default": default(kind), "q": null,
        }),
        Kind::Ordinal { sequence } => json!({
            "name": name, "type": "ordinal", "sequence": sequence, "default": default(kind),
        }),
        Kind::Categorical { choices } => json!({
            "name": name, "type": "categorical", "choices": choices, "default": default(kind),
            "probabilities": null,
        }),
        Kind::Constant { value } => json!({"name": name, "type": "constant", "value": value}),
    }
}

#[cfg(test)]
mod tests;
