//! Reading a space: the file as a whole, and its hyperparameters.

use std::path::Path;

use anyhow::Result;
use serde_json::Value as Json;
use shared::exit::{Code, Failure};
use shared::format::parse;
use shared::python_json::lenient;
use shared::space::{ConditionFile, Confidence, HyperparameterFile, KindName, SpaceFile};
use shared::{SearchSpace, Value};

use super::field::{list, text, value, values};
use super::{MOST_LISTED, condition, forbidden};

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
    let mut file = SpaceFile::default();
    for (index, raw) in list(&json, "hyperparameters").iter().enumerate() {
        let hyperparameter = hyperparameter(raw, &mut notes)
            .map_err(|why| wrong(&format!("hyperparameters[{index}]"), &why))?;
        file.hyperparameters.push(hyperparameter);
    }
    let check = |file: &SpaceFile| {
        SearchSpace::new(file).map_err(|invalid| {
            let why = format!("expected {}, found {}", invalid.expected, invalid.found);
            wrong(&invalid.at, &why)
        })
    };
    // Without what connects them, so that conditions and clauses know what values there are.
    let alone = check(&file)?;
    condition::add(list(&json, "conditions"), &alone, &mut file)
        .map_err(|(at, why)| wrong(&at, &why))?;
    file.hyperparameters = parents_first(file.hyperparameters);
    for (index, raw) in list(&json, "forbiddens").iter().enumerate() {
        let clauses = forbidden::clauses(raw, &alone)
            .map_err(|why| wrong(&format!("forbiddens[{index}]"), &why))?;
        file.forbidden.extend(clauses);
    }
    check(&file)?;
    Ok(Read { space: file, notes })
}

fn hyperparameter(raw: &Json, notes: &mut Vec<String>) -> Result<HyperparameterFile, String> {
    let name = text(raw, "name")?;
    let kind = match text(raw, "type")? {
        "uniform_float" | "normal_float" => KindName::Float,
        "uniform_int" | "normal_int" => KindName::Integer,
        "categorical" => KindName::Categorical,
        "ordinal" => KindName::Ordinal,
        "constant" | "unparametrized" => KindName::Constant,
        other => {
            return Err(format!(
                "`{name}` has type `{other}`, which is not supported; a uniform or normal distribution is"
            ));
        }
    };
    let mut file = HyperparameterFile::new(name, kind);
    match kind {
        KindName::Float | KindName::Integer => {
            for (bound, field) in [(&mut file.lower, "lower"), (&mut file.upper, "upper")] {
                if raw.get(field).is_none_or(Json::is_null) {
                    return Err(format!("`{name}` has no `{field}`: a range is needed"));
                }
                *bound = Some(value(raw, field)?);
            }
            file.log = Some(raw.get("log").and_then(Json::as_bool).unwrap_or(false));
            believe_normal(raw, &mut file)?;
            quantize(raw, &mut file, notes)?;
        }
        KindName::Ordinal => file.sequence = Some(values(raw, &["sequence"])?),
        KindName::Categorical => {
            file.choices = Some(values(raw, &["choices", "items"])?);
            weigh(raw, &mut file, notes);
        }
        KindName::Constant => file.value = Some(value(raw, "value")?),
    }
    Ok(file)
}

/// The range of a number; `None` where an end is no number, which is told later.
fn range(file: &HyperparameterFile) -> Option<(f64, f64)> {
    let (lower, upper) = (
        file.lower.as_ref()?.as_f64()?,
        file.upper.as_ref()?.as_f64()?,
    );
    (lower < upper).then_some((lower, upper))
}

/// A normal distribution as a prior: its mean, and its standard deviation as a share of the range.
///
/// # Source
/// On a logarithmic scale `mu` and `sigma` are logarithms in ConfigSpace 0.7 (`hyperparameters.pyx`); in 1.2.2
/// (`hyperparameters/hp_components.py`, `vectorize_size`) `mu` is a value, and the standard deviation on the unit scale
/// is |ln(lower + sigma)| / ln(upper / lower).
fn believe_normal(raw: &Json, file: &mut HyperparameterFile) -> Result<(), String> {
    if !text(raw, "type")?.starts_with("normal") {
        return Ok(());
    }
    let name = &file.name;
    let number = |field: &str| {
        let number = raw.get(field).and_then(Json::as_f64);
        number.ok_or_else(|| format!("`{name}` has no number `{field}`"))
    };
    let (mut mu, sigma) = (number("mu")?, number("sigma")?);
    let Some((lower, upper)) = range(file) else {
        return Ok(()); // refused with the range
    };
    let is_new = raw.get("default_value").is_some();
    let width = match (file.log == Some(true), is_new) {
        (false, _) => sigma / (upper - lower),
        (true, true) => (lower + sigma).ln().abs() / (upper / lower).ln(),
        (true, false) => {
            mu = mu.exp();
            sigma / (upper / lower).ln()
        }
    };
    if !(width.is_finite() && width > 0.0 && mu.is_finite()) {
        return Err(format!(
            "`{name}` has no normal distribution: `sigma` is {sigma}"
        ));
    }
    let mu = mu.clamp(lower, upper);
    file.prior = Some(if file.kind == KindName::Integer {
        whole(mu).ok_or_else(|| format!("`{name}` has `mu` {mu}, which is too large"))?
    } else {
        Value::Float(mu)
    });
    file.confidence = Some(Confidence::Number(width.recip()));
    Ok(())
}

fn whole(x: f64) -> Option<Value> {
    Value::Float(x.round()).as_i64().map(Value::Integer)
}

/// Makes an ordinal of the values that a step `q` leaves.
fn quantize(
    raw: &Json,
    file: &mut HyperparameterFile,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let Some(q) = raw.get("q").filter(|q| !q.is_null()) else {
        return Ok(());
    };
    let name = file.name.clone();
    let q = q.as_f64().filter(|q| *q > 0.0 && q.is_finite());
    let q = q.ok_or_else(|| format!("`{name}` has a step `q` that is no number above 0"))?;
    let Some((lower, upper)) = range(file) else {
        return Ok(()); // refused with the range
    };
    let is_integer = file.kind == KindName::Integer;
    if is_integer && (q - 1.0).abs() < f64::EPSILON {
        return Ok(());
    }
    let num = ((upper - lower) / q + 1e-9).floor() + 1.0;
    if num > MOST_LISTED as f64 {
        return Err(format!(
            "`{name}` has {num} steps of {q}, and at most {MOST_LISTED} are supported; leave `q` out"
        ));
    }
    if is_integer && q.fract() > 0.0 {
        return Err(format!("`{name}` is an integer with a step `q` of {q}"));
    }
    let step = |index: usize| {
        let x = lower + index as f64 * q;
        if is_integer {
            whole(x)
        } else {
            Some(Value::Float(decimal(x)))
        }
    };
    let count = (0..MOST_LISTED).take_while(|index| (*index as f64) < num);
    let sequence: Option<Vec<Value>> = count.map(step).collect();
    let sequence = sequence.ok_or_else(|| format!("`{name}` has steps that are too large"))?;
    if file.log == Some(true) {
        notes.push(format!(
            "`{name}` has steps of {q} on a logarithmic scale: they are read as an ordinal, whose steps are equal"
        ));
    }
    let nearest = |prior: f64| {
        let distance = |value: &&Value| (value.as_f64().unwrap_or(prior) - prior).abs();
        sequence
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    };
    let prior = file
        .prior
        .as_ref()
        .and_then(Value::as_f64)
        .and_then(nearest);
    *file = HyperparameterFile {
        prior: prior.cloned(),
        confidence: file.confidence,
        ..HyperparameterFile::new(name, KindName::Ordinal)
    };
    file.sequence = Some(sequence);
    Ok(())
}

/// A number as a person would write it: 0.3, not 0.30000000000000004.
fn decimal(x: f64) -> f64 {
    format!("{x:.12e}").parse().unwrap_or(x) // always a number
}

/// Weights in which one choice stands out are a prior; others are dropped with a note.
fn weigh(raw: &Json, file: &mut HyperparameterFile, notes: &mut Vec<String>) {
    let fields = ["weights", "probabilities"];
    let Some(weights) = fields.iter().find_map(|field| raw.get(*field)?.as_array()) else {
        return;
    };
    let weights: Vec<f64> = weights.iter().filter_map(Json::as_f64).collect();
    let choices = file.choices.as_deref().unwrap_or_default();
    let is_same = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
    let best = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
    let Some(best) = best.filter(|_| weights.len() == choices.len()) else {
        return;
    };
    let mut others = (0..weights.len())
        .filter(|i| *i != best)
        .map(|i| weights[i]);
    let Some(other) = others.next() else {
        return;
    };
    let are_equal = others.all(|weight| is_same(weight, other));
    if are_equal && is_same(weights[best], other) {
        return;
    }
    if are_equal && other > 0.0 {
        file.prior = Some(choices[best].clone());
        file.confidence = Some(Confidence::Number(weights[best] / other));
    } else {
        notes.push(format!(
            "the weights of `{}`'s choices are ignored",
            file.name
        ));
    }
}

/// The same hyperparameters, each after those that its condition names. A circle keeps its order and is refused later.
fn parents_first(mut left: Vec<HyperparameterFile>) -> Vec<HyperparameterFile> {
    let mut ordered: Vec<HyperparameterFile> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let before = ordered.len();
        let (mut ready, waiting) = (Vec::new(), std::mem::take(&mut left));
        for hyperparameter in waiting {
            let condition = hyperparameter.active_when.as_ref();
            let mut parents = condition.into_iter().flat_map(ConditionFile::names);
            let is_ready = parents.all(|parent| {
                let is_parent = |h: &HyperparameterFile| h.name == parent;
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
