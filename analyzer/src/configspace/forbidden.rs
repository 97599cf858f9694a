//! Forbidden clauses and relations as forbidden combinations.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use shared::space::{ForbiddenFile, ValueRange, Values};
use shared::{Kind, SearchSpace, Value};

use super::condition::all_values;
use super::field::{list, text, value, values};

/// Combinations that one entry of the file may become.
const MOST_CLAUSES: usize = 1000;

/// A combination that is forbidden: some values of each of these hyperparameters.
type Clause = BTreeMap<String, Values>;

/// The forbidden combinations of one entry of the file. None where it never holds.
pub(super) fn clauses(raw: &Json, alone: &SearchSpace) -> Result<Vec<ForbiddenFile>, String> {
    Ok(read(raw, alone)?.into_iter().map(ForbiddenFile).collect())
}

fn read(raw: &Json, alone: &SearchSpace) -> Result<Vec<Clause>, String> {
    let kind = text(raw, "type")?;
    let all = match kind {
        "AND" => {
            let mut all = vec![Clause::new()];
            for raw in list(raw, "clauses") {
                let more = read(raw, alone)?;
                let pairs = all.iter().flat_map(|a| more.iter().map(move |b| (a, b)));
                all = pairs.filter_map(|(a, b)| together(a, b)).collect();
                if all.len() > MOST_CLAUSES {
                    break; // told below
                }
            }
            all.retain(|clause| !clause.is_empty());
            all
        }
        "OR" => {
            let mut all = Vec::new();
            for raw in list(raw, "clauses") {
                all.extend(read(raw, alone)?);
            }
            all
        }
        "RELATION" => relation(raw, text(raw, "lambda")?, alone)?,
        "EQUALS" => one(raw, alone, |kind, raw| {
            let value = typed(kind, &value(raw, "value")?)?;
            Ok(Some(Values::One(value)))
        })?,
        "IN" => one(raw, alone, |kind, raw| {
            let values = values(raw, &["values", "value"])?;
            let values: Result<_, String> = values.iter().map(|v| typed(kind, v)).collect();
            Ok(several(values?))
        })?,
        _ => {
            if let Some(relation_kind) = kind.strip_prefix("RELATION_") {
                relation(raw, relation_kind, alone)?
            } else if let Some(side) = kind.strip_prefix("CLAUSE_").and_then(Side::new) {
                one(raw, alone, |kind, raw| side.of(kind, &value(raw, "value")?))?
            } else {
                return Err(format!("a forbidden clause `{kind}` is not supported"));
            }
        }
    };
    if all.len() > MOST_CLAUSES {
        let num = all.len();
        return Err(format!(
            "it stands for {num} combinations, at most {MOST_CLAUSES} are supported"
        ));
    }
    Ok(all)
}

/// What an entry about one hyperparameter forbids.
fn one(
    raw: &Json,
    alone: &SearchSpace,
    read: impl Fn(&Kind, &Json) -> Result<Option<Values>, String>,
) -> Result<Vec<Clause>, String> {
    let name = text(raw, "name")?;
    let kind = &find(alone, name)?.kind;
    let values = read(kind, raw).map_err(|why| format!("`{name}`: {why}"))?;
    Ok(values
        .map(|values| [(name.to_owned(), values)].into())
        .into_iter()
        .collect())
}

fn typed(kind: &Kind, value: &Value) -> Result<Value, String> {
    kind.typed(value)
        .ok_or_else(|| format!("expected {}, found {value}", kind.describe()))
}

fn find<'a>(alone: &'a SearchSpace, name: &str) -> Result<&'a shared::Hyperparameter, String> {
    alone
        .find(name)
        .ok_or_else(|| format!("there is no hyperparameter `{name}`"))
}

/// Two combinations at once; `None` where they never are.
fn together(a: &Clause, b: &Clause) -> Option<Clause> {
    let mut both = a.clone();
    for (name, values) in b {
        let values = match both.get(name) {
            Some(before) => intersection(before, values)?,
            None => values.clone(),
        };
        both.insert(name.clone(), values);
    }
    Some(both)
}

fn intersection(a: &Values, b: &Values) -> Option<Values> {
    let listed = |values: &Values| match values {
        Values::One(value) => Some(vec![value.clone()]),
        Values::Several(values) => Some(values.clone()),
        Values::Range(_) => None,
    };
    let is_in = |value: &Value, range: &ValueRange| {
        let end = |end: &Option<Value>| end.as_ref().and_then(Value::as_f64);
        value.as_f64().is_some_and(|x| {
            end(&range.min).is_none_or(|min| x >= min) && end(&range.max).is_none_or(|max| x <= max)
        })
    };
    let values = match (listed(a), listed(b), a, b) {
        (Some(a), Some(b), _, _) => common(&a, &b),
        (Some(list), None, _, Values::Range(range))
        | (None, Some(list), Values::Range(range), _) => list
            .into_iter()
            .filter(|value| is_in(value, range))
            .collect(),
        (_, _, Values::Range(a), Values::Range(b)) => {
            let tighter = |a: &Option<Value>, b: &Option<Value>, is_min: bool| {
                let (Some(x), Some(y)) = (a, b) else {
                    return a.clone().or_else(|| b.clone());
                };
                let is_a = (x.as_f64() >= y.as_f64()) == is_min;
                Some(if is_a { x.clone() } else { y.clone() })
            };
            let range = ValueRange {
                min: tighter(&a.min, &b.min, true),
                max: tighter(&a.max, &b.max, false),
            };
            let is_empty = match (&range.min, &range.max) {
                (Some(min), Some(max)) => min.as_f64() > max.as_f64(),
                _ => false,
            };
            return (!is_empty).then_some(Values::Range(range));
        }
        _ => Vec::new(), // every pair is one of those above
    };
    (!values.is_empty()).then_some(Values::Several(values))
}

/// On which side of a value, and whether the value is among them.
#[derive(Clone, Copy)]
struct Side {
    is_above: bool,
    is_inclusive: bool,
}

impl Side {
    fn new(name: &str) -> Option<Self> {
        let (is_above, is_inclusive) = match name {
            "LT" => (false, false),
            "LE" => (false, true),
            "GT" => (true, false),
            "GE" => (true, true),
            _ => return None,
        };
        Some(Self {
            is_above,
            is_inclusive,
        })
    }

    /// The side on which the second of two values lies, seen from the first, where the relation holds.
    fn turned(self) -> Self {
        Self {
            is_above: !self.is_above,
            ..self
        }
    }

    fn holds(self, order: std::cmp::Ordering) -> bool {
        if order.is_eq() {
            self.is_inclusive
        } else {
            order.is_gt() == self.is_above
        }
    }

    /// The values of a hyperparameter on this side of one of its own; `None` where there are none.
    fn of(self, kind: &Kind, value: &Value) -> Result<Option<Values>, String> {
        let value = typed(kind, value)?;
        match kind {
            Kind::Float { .. } | Kind::Integer { .. } => {
                let x = value.as_f64().unwrap_or_default(); // of a number it is one
                Ok(self.range(kind, x))
            }
            Kind::Ordinal { sequence } => {
                let place = |value: &Value| sequence.iter().position(|v| v.same(value));
                let own = place(&value);
                let there = sequence.iter().filter(|v| self.holds(place(v).cmp(&own)));
                Ok(several(there.cloned().collect()))
            }
            Kind::Categorical { .. } | Kind::Constant { .. } => {
                Err("it has no order, so nothing is above or below".into())
            }
        }
    }

    /// The numbers of a range on this side of any number.
    fn range(self, kind: &Kind, x: f64) -> Option<Values> {
        let (lower, upper, is_whole) = match kind {
            Kind::Float { lower, upper, .. } => (*lower, *upper, false),
            Kind::Integer { lower, upper, .. } => (*lower as f64, *upper as f64, true),
            _ => return None,
        };
        let first = match (self.is_above, self.is_inclusive, is_whole) {
            (true, true, true) => x.ceil(),
            (true, false, true) => x.floor() + 1.0,
            (false, true, true) => x.floor(),
            (false, false, true) => x.ceil() - 1.0,
            (_, true, false) => x,
            (true, false, false) => x.next_up(),
            (false, false, false) => x.next_down(),
        };
        let end = |x: f64| {
            if is_whole {
                Value::Float(x).as_i64().map(Value::Integer)
            } else {
                Some(Value::Float(x))
            }
        };
        let range = if self.is_above {
            ValueRange {
                min: end(first.max(lower)),
                max: end(upper),
            }
        } else {
            ValueRange {
                min: end(lower),
                max: end(first.min(upper)),
            }
        };
        let is_empty = if self.is_above {
            first > upper
        } else {
            first < lower
        };
        (!is_empty).then_some(Values::Range(range))
    }
}

/// The values that both lists have.
fn common(a: &[Value], b: &[Value]) -> Vec<Value> {
    let both = a.iter().filter(|value| b.iter().any(|v| v.same(value)));
    both.cloned().collect()
}

fn several(values: Vec<Value>) -> Option<Values> {
    (!values.is_empty()).then_some(Values::Several(values))
}

/// A relation of two hyperparameters: for each value of the one with fewer, what of the other stands to it so.
fn relation(raw: &Json, name: &str, alone: &SearchSpace) -> Result<Vec<Clause>, String> {
    let (left, right) = (text(raw, "left")?, text(raw, "right")?);
    if left == right {
        return Err(format!("it compares `{left}` with itself"));
    }
    let kinds = (&find(alone, left)?.kind, &find(alone, right)?.kind);
    let side = match name {
        "EQ" => None,
        _ => Some(Side::new(name).ok_or_else(|| {
            format!("a relation `{name}` of `{left}` and `{right}` is not supported")
        })?),
    };
    let few = |kind: &Kind| {
        all_values(kind)
            .ok()
            .filter(|values| values.len() <= MOST_CLAUSES)
    };
    let (listed, listed_name, other, other_name, side) = match (few(kinds.0), few(kinds.1)) {
        (Some(a), b) if b.as_ref().is_none_or(|b| a.len() <= b.len()) => {
            (a, left, kinds.1, right, side.map(Side::turned))
        }
        (_, Some(b)) => (b, right, kinds.0, left, side),
        _ => {
            return Err(format!(
                "a relation of `{left}` and `{right}`: one of them must have at most {MOST_CLAUSES} values, as an \
                 integer, an ordinal or a category has"
            ));
        }
    };
    let mut all = Vec::new();
    for value in listed {
        if let Some(values) = related(&value, other, side)? {
            let clause = [
                (listed_name.to_owned(), Values::One(value)),
                (other_name.to_owned(), values),
            ];
            all.push(clause.into());
        }
    }
    Ok(all)
}

/// The values of `other` on a side of a value, or equal to it.
fn related(value: &Value, other: &Kind, side: Option<Side>) -> Result<Option<Values>, String> {
    let number = |value: &Value| match value {
        Value::Boolean(b) => Some(f64::from(*b)),
        value => value.as_f64(),
    };
    if let (Kind::Float { .. } | Kind::Integer { .. }, Some(x)) = (other, number(value)) {
        return Ok(match side {
            Some(side) => side.range(other, x),
            None => other.typed(&Value::Float(x)).map(Values::One),
        });
    }
    let compare = |theirs: &Value| match (number(theirs), number(value), theirs, value) {
        (Some(a), Some(b), _, _) => Ok(a.total_cmp(&b)),
        (_, _, Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        _ => Err(format!("{theirs} and {value} cannot be compared")),
    };
    let mut there = Vec::new();
    for theirs in all_values(other)? {
        let holds = match side {
            None => theirs.same(value),
            Some(side) => side.holds(compare(&theirs)?),
        };
        if holds {
            there.push(theirs);
        }
    }
    Ok(several(there))
}
