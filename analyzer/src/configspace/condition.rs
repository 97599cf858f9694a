//! Conditions: what they say of each parent, and how that becomes `active_when`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value as Json;
use shared::space::{ConditionFile, SpaceFile, ValueRange, Values};
use shared::{Kind, SearchSpace, Value};

use super::MOST_LISTED;
use super::field::{list, text, value, values};

/// A place in the file, and what is wrong there.
type Wrong = (String, String);

/// Reads the conditions, which are about the hyperparameters of `alone`, into `file`.
pub(super) fn add(raw: &[Json], alone: &SearchSpace, file: &mut SpaceFile) -> Result<(), Wrong> {
    // Several conditions on one child hold together.
    let mut by_child: BTreeMap<String, Vec<ConditionFile>> = BTreeMap::new();
    for (index, raw) in raw.iter().enumerate() {
        let read = || -> Result<(String, ConditionFile), String> {
            let child = text(raw, "child")?;
            if alone.find(child).is_none() {
                return Err(format!("there is no hyperparameter `{child}`"));
            }
            Ok((child.to_owned(), condition(raw, child, alone)?))
        };
        let (child, condition) = read().map_err(|why| (format!("conditions[{index}]"), why))?;
        by_child.entry(child).or_default().push(condition);
    }
    for hyperparameter in &mut file.hyperparameters {
        let conditions = by_child.remove(&hyperparameter.name);
        hyperparameter.active_when =
            conditions.map(|conditions| joined(conditions, ConditionFile::all));
    }
    Ok(())
}

/// Several conditions as one, joined where they are more than one.
fn joined(
    mut conditions: Vec<ConditionFile>,
    join: impl Fn(Vec<ConditionFile>) -> ConditionFile,
) -> ConditionFile {
    if conditions.len() == 1 {
        conditions.remove(0)
    } else {
        join(conditions)
    }
}

fn condition(raw: &Json, child: &str, alone: &SearchSpace) -> Result<ConditionFile, String> {
    let several = |join: fn(Vec<ConditionFile>) -> ConditionFile| {
        let conditions = list(raw, "conditions").iter();
        let conditions = conditions.map(|raw| condition(raw, child, alone));
        Ok(joined(conditions.collect::<Result<_, String>>()?, join))
    };
    match text(raw, "type")? {
        kind @ ("AND" | "OR") if list(raw, "conditions").is_empty() => {
            Err(format!("the `{kind}` on `{child}` has no conditions"))
        }
        "AND" => several(ConditionFile::all),
        "OR" => several(ConditionFile::any),
        kind @ ("EQ" | "NEQ" | "IN" | "GT" | "LT") => {
            let name = text(raw, "parent")?;
            let parent = alone
                .find(name)
                .ok_or_else(|| format!("there is no hyperparameter `{name}`"))?;
            let ways = activating(raw, kind, &parent.kind)
                .map_err(|why| format!("`{child}` has a condition {kind} on `{name}`: {why}"))?;
            if ways.is_empty() {
                return Err(format!(
                    "`{child}` is never active: no value of `{name}` meets its condition {kind}"
                ));
            }
            let ways = ways
                .into_iter()
                .map(|values| ConditionFile::has(name, values));
            Ok(joined(ways.collect(), ConditionFile::any))
        }
        other => Err(format!("condition `{other}` on `{child}` is not supported")),
    }
}

/// The values of a parent that a condition names; where they are too many for a list, the ranges of them.
fn activating(raw: &Json, condition: &str, parent: &Kind) -> Result<Vec<Values>, String> {
    let listed = |values: Vec<Value>| (!values.is_empty()).then_some(Values::Several(values));
    let checked = |values: Vec<Value>| -> Result<Vec<Value>, String> {
        let typed = |value: &Value| {
            let expected = || format!("expected {}, found {value}", parent.describe());
            parent.typed(value).ok_or_else(expected)
        };
        values.iter().map(typed).collect()
    };
    if condition == "IN" {
        return Ok(listed(checked(values(raw, &["values", "value"])?)?)
            .into_iter()
            .collect());
    }
    let given = checked(vec![value(raw, "value")?])?;
    let value = &given[0];
    if condition == "EQ" {
        return Ok(listed(given).into_iter().collect());
    }
    let Ok(all) = all_values(parent) else {
        return Ok(ranges(parent, condition, value));
    };
    let place = |value: &Value| all.iter().position(|v| v.same(value));
    let order = |other: &Value| match parent {
        // In the order of the sequence, whatever its values are.
        Kind::Ordinal { .. } => Ok(place(other).cmp(&place(value))),
        Kind::Categorical { .. } if condition != "NEQ" => {
            Err("categories have no order".to_owned())
        }
        _ if other.same(value) => Ok(Ordering::Equal),
        _ => match (other.as_f64(), value.as_f64()) {
            (Some(a), Some(b)) => Ok(a.total_cmp(&b)),
            _ => Ok(Ordering::Less), // only asked whether they are equal
        },
    };
    let mut kept = Vec::new();
    for other in &all {
        let is_wanted = match (condition, order(other)?) {
            ("NEQ", order) => order.is_ne(),
            ("GT", order) => order.is_gt(),
            (_, order) => order.is_lt(),
        };
        if is_wanted {
            kept.push(other.clone());
        }
    }
    Ok(listed(kept).into_iter().collect())
}

/// The numbers beside a value, on the sides that a condition names.
fn ranges(parent: &Kind, condition: &str, value: &Value) -> Vec<Values> {
    let beside = |is_above: bool| {
        let next = match (value, is_above) {
            (Value::Integer(i), true) => Value::Integer(i + 1),
            (Value::Integer(i), false) => Value::Integer(i - 1),
            (value, is_above) => {
                let x = value.as_f64()?;
                Value::Float(if is_above { x.next_up() } else { x.next_down() })
            }
        };
        let end = Some(parent.typed(&next)?);
        Some(Values::Range(if is_above {
            ValueRange {
                min: end,
                max: None,
            }
        } else {
            ValueRange {
                min: None,
                max: end,
            }
        }))
    };
    let below = (condition != "GT").then(|| beside(false));
    let above = (condition != "LT").then(|| beside(true));
    below.into_iter().chain(above).flatten().collect()
}

/// All values of a hyperparameter.
pub(super) fn all_values(kind: &Kind) -> Result<Vec<Value>, String> {
    match kind {
        Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels } => {
            Ok(levels.clone())
        }
        Kind::Constant { value } => Ok(vec![value.clone()]),
        Kind::Integer { lower, upper, .. } => {
            let num = upper.abs_diff(*lower);
            if num >= MOST_LISTED as u64 {
                return Err(format!(
                    "it has {num} values, and at most {MOST_LISTED} can be listed"
                ));
            }
            Ok((*lower..=*upper).map(Value::Integer).collect())
        }
        Kind::Float { .. } => {
            Err("it is a float, whose values cannot be listed: use an ordinal or a category".into())
        }
    }
}
