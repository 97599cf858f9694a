//! Writing a space.

use anyhow::Result;
use serde_json::{Value as Json, json};
use shared::exit::{Code, Failure};
use shared::space::{ConditionFile, ForbiddenFile, UserPrior, ValueRange, Values};
use shared::{Configuration, Hyperparameter, Kind, SearchSpace, Value};

use super::MOST_LISTED;

/// Which form is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// That of ConfigSpace 0.7, which HpBandSter and DeepCAVE read. Beliefs and forbidden ranges of floats are unknown
    /// there.
    Seven,
    /// That of ConfigSpace 1.x. Forbidden ranges need 1.2.
    One,
}

/// Writes a space. Defaults, which ConfigSpace demands, are what is believed to be the best, else the middle of the
/// range on its scale or the first level; together they may be a configuration that is forbidden, so where something is,
/// they are those of the allowed configuration nearest to these.
///
/// # Errors
/// Where a range of floats is forbidden, or one of too many integers, and ConfigSpace 0.7 is to read it.
pub fn to_json(space: &SearchSpace, name: &str, generation: Generation) -> Result<Json> {
    let defaults: Vec<f64> = space.dimensions().map(default).collect();
    let defaults = space.decode(&defaults);
    let mut hyperparameters = Vec::new();
    let mut conditions = Vec::new();
    for h in space.hyperparameters() {
        hyperparameters.push(hyperparameter(h, &defaults, generation));
        if let Some(active_when) = &h.condition {
            let file = active_when.to_file(space.hyperparameters());
            conditions.push(condition(space, &h.name, &file));
        }
    }
    let mut forbidden = Vec::new();
    for clause in &space.to_file().forbidden {
        forbidden.extend(forbid(space, clause, generation)?);
    }
    let mut json = json!({
        "name": name,
        "hyperparameters": hyperparameters,
        "conditions": conditions,
        "forbiddens": forbidden,
    });
    let (module, field) = match generation {
        Generation::Seven => ("0.7.1", "json_format_version"),
        Generation::One => ("1.2.0", "format_version"),
    };
    json["python_module_version"] = json!(module);
    json[field] = json!(0.4);
    Ok(json)
}

/// The coordinate of a default.
fn default(hyperparameter: &Hyperparameter) -> f64 {
    let kind = &hyperparameter.kind;
    let believed = hyperparameter.user_prior.as_ref();
    let believed = believed.and_then(|belief| kind.encode(&belief.value));
    believed.unwrap_or_else(|| kind.num_levels().map_or(0.5, |_| 0.0))
}

fn hyperparameter(h: &Hyperparameter, defaults: &Configuration, generation: Generation) -> Json {
    // Inactive there, perhaps, so its own is taken.
    let own = || h.kind.decode(default(h));
    let default = defaults.get(&h.name).cloned().unwrap_or_else(own);
    let mut json = match &h.kind {
        // ConfigSpace refuses a whole number whose bounds are equal.
        Kind::Integer { lower, upper, .. } if lower == upper => {
            return json!({"name": h.name, "type": "constant", "value": lower});
        }
        Kind::Constant { value } => {
            return json!({"name": h.name, "type": "constant", "value": value});
        }
        Kind::Float { lower, upper, log } => {
            json!({"name": h.name, "type": "uniform_float", "log": log, "lower": lower, "upper": upper})
        }
        Kind::Integer { lower, upper, log } => {
            json!({"name": h.name, "type": "uniform_int", "log": log, "lower": lower, "upper": upper})
        }
        Kind::Ordinal { sequence } => {
            json!({"name": h.name, "type": "ordinal", "sequence": sequence})
        }
        Kind::Categorical { choices } => {
            json!({"name": h.name, "type": "categorical", "choices": choices})
        }
    };
    let is_number = matches!(h.kind, Kind::Float { .. } | Kind::Integer { .. });
    let is_categorical = matches!(h.kind, Kind::Categorical { .. });
    match generation {
        Generation::Seven => {
            json["default"] = json!(default);
            if is_number {
                json["q"] = Json::Null;
            }
            if is_categorical {
                json["probabilities"] = Json::Null;
            }
        }
        Generation::One => {
            json["default_value"] = json!(default);
            json["meta"] = Json::Null;
            if is_categorical {
                json["weights"] = Json::Null;
            }
            if let Some(belief) = &h.user_prior {
                believe(&mut json, &h.kind, belief);
            }
        }
    }
    json
}

/// A belief as a normal distribution or as weights; that in an ordinal is its default alone.
///
/// # Source
/// ConfigSpace 1.2.2: the standard deviation on a logarithmic scale is |ln(lower + sigma)| / ln(upper / lower).
fn believe(json: &mut Json, kind: &Kind, belief: &UserPrior) {
    let width = belief.confidence.sharpness().recip();
    let mut normal = |name: &str, lower: f64, upper: f64, log: bool| {
        let sigma = if log {
            let reach = width * (upper / lower).ln();
            [reach.exp() - lower, (-reach).exp() - lower]
                .into_iter()
                .find(|sigma| *sigma > 1e-6) // ConfigSpace rounds to nine decimals
        } else {
            Some(width * (upper - lower))
        };
        if let Some(sigma) = sigma.filter(|sigma| sigma.is_finite()) {
            json["type"] = json!(name);
            json["mu"] = json!(belief.value.as_f64());
            json["sigma"] = json!(sigma);
        }
    };
    match kind {
        Kind::Float { lower, upper, log } => normal("normal_float", *lower, *upper, *log),
        Kind::Integer { lower, upper, log } => {
            normal("normal_int", *lower as f64, *upper as f64, *log);
        }
        Kind::Categorical { choices } => {
            let weight = |choice: &Value| {
                if choice.same(&belief.value) {
                    belief.confidence.sharpness()
                } else {
                    1.0
                }
            };
            json["weights"] = json!(choices.iter().map(weight).collect::<Vec<_>>());
        }
        Kind::Ordinal { .. } | Kind::Constant { .. } => {}
    }
}

/// A condition as ConfigSpace has it.
fn condition(space: &SearchSpace, child: &str, file: &ConditionFile) -> Json {
    let several = |kind: &str, files: &[ConditionFile]| {
        let conditions: Vec<Json> = files.iter().map(|c| condition(space, child, c)).collect();
        json!({"child": child, "type": kind, "conditions": conditions})
    };
    match (&file.all, &file.any, &file.hyperparameter) {
        (Some(all), _, _) => several("AND", all),
        (_, Some(any), _) => several("OR", any),
        (_, _, parent) => {
            let parent = parent.as_deref().unwrap_or_default(); // it is there where the others are not
            match file.values.as_deref() {
                Some([only]) => {
                    json!({"child": child, "parent": parent, "type": "EQ", "value": only})
                }
                Some(all) => {
                    json!({"child": child, "parent": parent, "type": "IN", "values": all})
                }
                None => in_range(space, child, parent, file),
            }
        }
    }
}

/// A condition on a number in a range.
fn in_range(space: &SearchSpace, child: &str, parent: &str, file: &ConditionFile) -> Json {
    let is = |kind: &str, value: Value| json!({"child": child, "parent": parent, "type": kind, "value": value});
    let both = |kind: &str, conditions: [Json; 2]| json!({"child": child, "type": kind, "conditions": conditions});
    let range = ValueRange {
        min: file.min.clone(),
        max: file.max.clone(),
    };
    let kind = space.find(parent).map(|h| &h.kind);
    match kind.map_or((None, None), |kind| outside(kind, &range)) {
        (Some(below), Some(above)) => both("AND", [is("GT", below), is("LT", above)]),
        (Some(below), None) => is("GT", below),
        (None, Some(above)) => is("LT", above),
        (None, None) => {
            // All of its values: it only has to be active.
            let lower = kind.and_then(lower).unwrap_or(Value::Null); // a range is one of numbers
            both("OR", [is("EQ", lower.clone()), is("GT", lower)])
        }
    }
}

/// A forbidden combination as ConfigSpace has it; `None` where nothing of it can occur.
fn forbid(
    space: &SearchSpace,
    clause: &ForbiddenFile,
    generation: Generation,
) -> Result<Option<Json>> {
    let mut terms = Vec::new();
    for (name, values) in &clause.0 {
        match values {
            Values::One(value) => {
                terms.push(json!({"name": name, "type": "EQUALS", "value": value}));
            }
            Values::Several(values) => {
                terms.push(json!({"name": name, "type": "IN", "values": values}));
            }
            Values::Range(range) => {
                let kind = space.find(name).map(|h| &h.kind);
                terms.extend(match (generation, kind) {
                    (Generation::One, Some(kind)) => sides(name, kind, range),
                    (_, kind) => vec![listed(name, kind, range)?],
                });
            }
        }
    }
    Ok(match terms.as_mut_slice() {
        [] => None, // a range without ends is refused before
        [only] => Some(only.take()),
        _ => Some(match generation {
            Generation::Seven => json!({"name": terms[0]["name"], "type": "AND", "clauses": terms}),
            Generation::One => json!({"type": "AND", "clauses": terms}),
        }),
    })
}

/// A range as what is above a value and below another one, where the hyperparameter has values outside.
///
/// Strictly: 1.2.2 samples as if its clause "less than or equal" were the opposite.
fn sides(name: &str, kind: &Kind, range: &ValueRange) -> Vec<Json> {
    let (below, above) = outside(kind, range);
    let mut sides = Vec::new();
    if let Some(below) = below {
        sides.push(json!({"name": name, "type": "CLAUSE_GT", "value": below}));
    }
    if let Some(above) = above {
        sides.push(json!({"name": name, "type": "CLAUSE_LT", "value": above}));
    }
    if let (true, Some(lower)) = (sides.is_empty(), lower(kind)) {
        // All of its values, so that it is about the others alone.
        sides.push(json!({"name": name, "type": "CLAUSE_GE", "value": lower}));
    }
    sides
}

/// The smallest value of a number.
fn lower(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::Float { lower, .. } => Some(Value::Float(*lower)),
        Kind::Integer { lower, .. } => Some(Value::Integer(*lower)),
        Kind::Ordinal { .. } | Kind::Categorical { .. } | Kind::Constant { .. } => None,
    }
}

/// The values of a hyperparameter next to a range, below and above it, where it has such.
fn outside(kind: &Kind, range: &ValueRange) -> (Option<Value>, Option<Value>) {
    let end = |end: &Option<Value>| end.as_ref().and_then(Value::as_f64);
    let is_whole = matches!(kind, Kind::Integer { .. });
    let below = end(&range.min).map(|x| if is_whole { x - 1.0 } else { x.next_down() });
    let above = end(&range.max).map(|x| if is_whole { x + 1.0 } else { x.next_up() });
    let value = |x: f64| kind.typed(&Value::Float(x));
    (below.and_then(value), above.and_then(value))
}

/// A range of whole numbers as a list.
fn listed(name: &str, kind: Option<&Kind>, range: &ValueRange) -> Result<Json> {
    let Some(Kind::Integer { lower, upper, .. }) = kind else {
        let message = format!("ConfigSpace 0.7 cannot forbid a range of `{name}`");
        return Err(Failure::new(Code::BadInput, message).into());
    };
    let end = |end: &Option<Value>, otherwise: i64| {
        end.as_ref().and_then(Value::as_i64).unwrap_or(otherwise)
    };
    let (min, max) = (end(&range.min, *lower), end(&range.max, *upper));
    if max.abs_diff(min) >= MOST_LISTED as u64 {
        let message = format!(
            "ConfigSpace 0.7 cannot forbid a range, and that of `{name}` is too long for a list"
        );
        return Err(Failure::new(Code::BadInput, message).into());
    }
    let values: Vec<i64> = (min..=max).collect();
    Ok(json!({"name": name, "type": "IN", "values": values}))
}
