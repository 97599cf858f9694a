//! Writing a space.

use anyhow::Result;
use serde_json::{Value as Json, json};
use shared::exit::{Code, Failure};
use shared::space::{ForbiddenFile, ForbiddenRange, ForbiddenValues, UserPrior};
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
        if let Some((parent, activating)) = &h.condition {
            let parent = &space.hyperparameters()[*parent].name;
            conditions.push(match activating.as_slice() {
                [only] => json!({"child": h.name, "parent": parent, "type": "EQ", "value": only}),
                all => json!({"child": h.name, "parent": parent, "type": "IN", "values": all}),
            });
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

/// A forbidden combination as ConfigSpace has it; `None` where nothing of it can occur.
fn forbid(
    space: &SearchSpace,
    clause: &ForbiddenFile,
    generation: Generation,
) -> Result<Option<Json>> {
    let mut terms = Vec::new();
    for (name, values) in &clause.0 {
        match values {
            ForbiddenValues::One(value) => {
                terms.push(json!({"name": name, "type": "EQUALS", "value": value}));
            }
            ForbiddenValues::Several(values) => {
                terms.push(json!({"name": name, "type": "IN", "values": values}));
            }
            ForbiddenValues::Range(range) => {
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
fn sides(name: &str, kind: &Kind, range: &ForbiddenRange) -> Vec<Json> {
    let (lower, upper, is_whole) = match kind {
        Kind::Float { lower, upper, .. } => (*lower, *upper, false),
        Kind::Integer { lower, upper, .. } => (*lower as f64, *upper as f64, true),
        _ => return Vec::new(), // levels have no range
    };
    let written = |x: f64| {
        let whole = Value::Float(x).as_i64().filter(|_| is_whole);
        whole.map_or(Value::Float(x), Value::Integer)
    };
    let end = |end: &Option<Value>| end.as_ref().and_then(Value::as_f64);
    let below = end(&range.min).map(|x| if is_whole { x - 1.0 } else { x.next_down() });
    let above = end(&range.max).map(|x| if is_whole { x + 1.0 } else { x.next_up() });
    let mut sides = Vec::new();
    if let Some(below) = below.filter(|x| *x >= lower) {
        sides.push(json!({"name": name, "type": "CLAUSE_GT", "value": written(below)}));
    }
    if let Some(above) = above.filter(|x| *x <= upper) {
        sides.push(json!({"name": name, "type": "CLAUSE_LT", "value": written(above)}));
    }
    if sides.is_empty() {
        // All of its values, so that it is about the others alone.
        sides.push(json!({"name": name, "type": "CLAUSE_GE", "value": written(lower)}));
    }
    sides
}

/// A range of whole numbers as a list.
fn listed(name: &str, kind: Option<&Kind>, range: &ForbiddenRange) -> Result<Json> {
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
