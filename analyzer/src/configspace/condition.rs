//! Conditions: what they say of each parent, and how that becomes one `active_when`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value as Json;
use shared::space::{Condition, SpaceFile};
use shared::{Kind, SearchSpace, Value};

use super::field::{list, text, value, values};
use super::{MOST_LISTED, common};

/// The values that each parent must have: all of these together.
type Demands = BTreeMap<String, Vec<Value>>;

/// A place in the file, and what is wrong there.
type Wrong = (String, String);

/// Reads the conditions, which are about the hyperparameters of `alone`, into `file`.
pub(super) fn add(raw: &[Json], alone: &SearchSpace, file: &mut SpaceFile) -> Result<(), Wrong> {
    // Several conditions on one child hold together.
    let mut by_child: BTreeMap<String, (String, Demands)> = BTreeMap::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = format!("conditions[{index}]");
        let read = || -> Result<(String, Demands), String> {
            let child = text(raw, "child")?;
            if alone.find(child).is_none() {
                return Err(format!("there is no hyperparameter `{child}`"));
            }
            Ok((child.to_owned(), demands(raw, child, alone)?))
        };
        let (child, demands) = read().map_err(|why| (at.clone(), why))?;
        let entry = by_child
            .entry(child)
            .or_insert_with(|| (at, Demands::new()));
        demand(&mut entry.1, demands);
    }
    let mut settled: BTreeMap<String, Condition> = BTreeMap::new();
    while !by_child.is_empty() {
        let ready = by_child
            .iter()
            .find_map(|(child, (_, demands))| Some((child.clone(), single(demands, &settled)?)));
        let Some((child, condition)) = ready else {
            let left = by_child.into_iter().next();
            let (child, (at, demands)) = left.expect("there is one left");
            return Err((at, several_parents(&child, &demands)));
        };
        if let Some((at, _)) = by_child
            .remove(&child)
            .filter(|_| condition.values.is_empty())
        {
            let parent = &condition.hyperparameter;
            let why = format!("`{child}` is never active: no value of `{parent}` is left");
            return Err((at, why));
        }
        settled.insert(child, condition);
    }
    for hyperparameter in &mut file.hyperparameters {
        hyperparameter.active_when = settled.remove(&hyperparameter.name);
    }
    Ok(())
}

fn several_parents(child: &str, demands: &Demands) -> String {
    let parents: Vec<String> = demands.keys().map(|name| format!("`{name}`")).collect();
    format!(
        "`{child}` depends on {} together, and a hyperparameter has one parent here: make one of these depend on the \
         other, or join them to one categorical",
        parents.join(" and ")
    )
}

/// The one condition that is left where the others follow from it; `None` where there are several, or perhaps one when
/// more is settled.
fn single(demands: &Demands, settled: &BTreeMap<String, Condition>) -> Option<Condition> {
    let follows_from = |name: &str, from: &str| {
        let mut above = settled.get(from);
        while let Some(condition) = above {
            if condition.hyperparameter == name {
                let wanted = &demands[name];
                return common(&condition.values, wanted).len() == condition.values.len();
            }
            above = settled.get(&condition.hyperparameter);
        }
        false
    };
    let mut needed = demands.iter().filter(|(name, _)| {
        let others = demands.keys().filter(|other| other != name);
        !others.into_iter().any(|other| follows_from(name, other))
    });
    let (name, values) = needed.next()?;
    needed.next().is_none().then(|| Condition {
        hyperparameter: name.clone(),
        values: values.clone(),
    })
}

fn demand(all: &mut Demands, more: Demands) {
    for (name, values) in more {
        let both = match all.get(&name) {
            Some(before) => common(before, &values),
            None => values,
        };
        all.insert(name, both);
    }
}

fn demands(raw: &Json, child: &str, alone: &SearchSpace) -> Result<Demands, String> {
    let kind = text(raw, "type")?;
    match kind {
        "AND" => {
            let mut all = Demands::new();
            for raw in list(raw, "conditions") {
                demand(&mut all, demands(raw, child, alone)?);
            }
            if all.is_empty() {
                return Err(format!("the `AND` on `{child}` has no conditions"));
            }
            Ok(all)
        }
        "OR" => either(raw, child, alone),
        "EQ" | "NEQ" | "IN" | "GT" | "LT" => {
            let parent = text(raw, "parent")?;
            let hyperparameter = alone
                .find(parent)
                .ok_or_else(|| format!("there is no hyperparameter `{parent}`"))?;
            let values = activating(raw, kind, &hyperparameter.kind)
                .map_err(|why| format!("`{child}` has a condition {kind} on `{parent}`: {why}"))?;
            Ok([(parent.to_owned(), values)].into())
        }
        other => Err(format!("condition `{other}` on `{child}` is not supported")),
    }
}

/// What holds where one of several conditions does: they must be about the same parent, or say the same of others.
fn either(raw: &Json, child: &str, alone: &SearchSpace) -> Result<Demands, String> {
    let options = list(raw, "conditions").iter();
    let options: Vec<Demands> = options
        .map(|raw| demands(raw, child, alone))
        .collect::<Result<_, _>>()?;
    let Some(mut all) = options.first().cloned() else {
        return Err(format!("the `OR` on `{child}` has no conditions"));
    };
    for option in &options[1..] {
        let is_same = |name: &String| {
            let (a, b) = (all.get(name), option.get(name));
            a.zip(b)
                .is_some_and(|(a, b)| a.len() == b.len() && common(a, b).len() == a.len())
        };
        let different: Vec<String> = all
            .keys()
            .chain(option.keys())
            .filter(|name| !is_same(name))
            .cloned()
            .collect();
        match different.as_slice() {
            [] => {}
            [a, b] if a == b => {
                let mut values = option[a].clone();
                values.extend(all.remove(a).unwrap_or_default());
                all.insert(a.clone(), in_order(values, alone, a));
            }
            _ => {
                let mut both = all.clone();
                both.extend(option.clone());
                return Err(several_parents(child, &both).replace("together", "in an `OR`"));
            }
        }
    }
    Ok(all)
}

/// Some values of a hyperparameter, each once, in the order in which it has them.
fn in_order(values: Vec<Value>, alone: &SearchSpace, name: &str) -> Vec<Value> {
    match alone.find(name).map(|h| all_values(&h.kind)) {
        Some(Ok(all)) => common(&all, &values),
        _ => values, // those of a float
    }
}

/// The values of a parent that a condition names.
fn activating(raw: &Json, condition: &str, parent: &Kind) -> Result<Vec<Value>, String> {
    let checked = |values: Vec<Value>| -> Result<Vec<Value>, String> {
        let typed = |value: &Value| {
            let expected = || format!("expected {}, found {value}", parent.describe());
            parent.typed(value).ok_or_else(expected)
        };
        values.iter().map(typed).collect()
    };
    if condition == "IN" {
        return checked(values(raw, &["values", "value"])?);
    }
    let given = checked(vec![value(raw, "value")?])?;
    let value = &given[0];
    if condition == "EQ" {
        return Ok(given);
    }
    let all = all_values(parent)?;
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
    Ok(kept)
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
