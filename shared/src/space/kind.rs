//! What a hyperparameter may be: its kind, and how that is read from a file and written to one.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HyperparameterFile;
use crate::error::Invalid;
use crate::value::Value;

/// The kinds of hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindName {
    /// A real number in an interval.
    Float,
    /// A whole number in an interval.
    Integer,
    /// One of several values that have an order.
    Ordinal,
    /// One of several values without an order.
    Categorical,
    /// Always the same value; no dimension of the space.
    Constant,
}

/// The range of a hyperparameter, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A real number in `[lower, upper]`.
    Float {
        /// Smallest value.
        lower: f64,
        /// Largest value, above `lower`.
        upper: f64,
        /// Logarithmic scale; `lower` is positive.
        log: bool,
    },
    /// A whole number in `lower..=upper`.
    Integer {
        /// Smallest value.
        lower: i64,
        /// Largest value, at least `lower`.
        upper: i64,
        /// Logarithmic scale; `lower` is at least 1.
        log: bool,
    },
    /// One of at least one ordered values.
    Ordinal {
        /// From smallest to largest.
        sequence: Vec<Value>,
    },
    /// One of at least one values.
    Categorical {
        /// In the file's order.
        choices: Vec<Value>,
    },
    /// Always this.
    Constant {
        /// The value.
        value: Value,
    },
}

impl Kind {
    /// Number of levels of a discrete, unordered or ordered kind; `None` for numbers.
    pub fn num_levels(&self) -> Option<usize> {
        match self {
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => {
                Some(levels.len())
            }
            Self::Constant { .. } => Some(1),
            Self::Float { .. } | Self::Integer { .. } => None,
        }
    }

    /// What a value of this kind is, for error messages.
    pub fn describe(&self) -> String {
        let list = |levels: &[Value]| {
            levels
                .iter()
                .map(Value::quoted)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self {
            Self::Float { lower, upper, .. } => format!("a number from {lower} to {upper}"),
            Self::Integer { lower, upper, .. } => format!("a whole number from {lower} to {upper}"),
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => {
                format!("one of {}", list(levels))
            }
            Self::Constant { value } => value.quoted(),
        }
    }

    pub(super) fn to_file(&self, name: &str) -> HyperparameterFile {
        let mut file = HyperparameterFile::new(name, KindName::Constant);
        match self {
            Self::Float { lower, upper, log } => {
                file.kind = KindName::Float;
                file.lower = Some(Value::Float(*lower));
                file.upper = Some(Value::Float(*upper));
                file.log = Some(*log);
            }
            Self::Integer { lower, upper, log } => {
                file.kind = KindName::Integer;
                file.lower = Some(Value::Integer(*lower));
                file.upper = Some(Value::Integer(*upper));
                file.log = Some(*log);
            }
            Self::Ordinal { sequence } => {
                file.kind = KindName::Ordinal;
                file.sequence = Some(sequence.clone());
            }
            Self::Categorical { choices } => {
                file.kind = KindName::Categorical;
                file.choices = Some(choices.clone());
            }
            Self::Constant { value } => file.value = Some(value.clone()),
        }
        file
    }

    /// The value in this kind's own type, if it lies in the range.
    pub fn typed(&self, value: &Value) -> Option<Value> {
        let level = |levels: &[Value]| levels.iter().find(|level| level.same(value)).cloned();
        match self {
            Self::Float { lower, upper, .. } => value
                .as_f64()
                .filter(|x| (lower..=upper).contains(&x))
                .map(Value::Float),
            Self::Integer { lower, upper, .. } => value
                .as_i64()
                .filter(|x| (lower..=upper).contains(&x))
                .map(Value::Integer),
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => {
                level(levels)
            }
            Self::Constant { value: only } => only.same(value).then(|| only.clone()),
        }
    }

    /// The range as written, or `None`; and what is wrong with it.
    pub(super) fn new(raw: &HyperparameterFile, wrong: &mut Vec<Invalid>) -> Option<Self> {
        wrong.extend(foreign_fields(raw));
        let log = raw.log.unwrap_or(false);
        match raw.kind {
            KindName::Float => {
                let ends = (
                    number(raw.lower.as_ref(), "lower"),
                    number(raw.upper.as_ref(), "upper"),
                );
                let (lower, upper) = both(ends, wrong)?;
                let order = at_least("upper", "more than `lower`", upper, lower, upper > lower);
                let least = (!log || lower > 0.0)
                    .then_some(())
                    .ok_or_else(|| needs_log("more than 0", raw.lower.as_ref()));
                both((order, least), wrong)?;
                Some(Self::Float { lower, upper, log })
            }
            KindName::Integer => {
                let ends = (
                    whole(raw.lower.as_ref(), "lower"),
                    whole(raw.upper.as_ref(), "upper"),
                );
                let (lower, upper) = both(ends, wrong)?;
                let order = at_least("upper", "at least `lower`", upper, lower, upper >= lower);
                let least = (!log || lower >= 1)
                    .then_some(())
                    .ok_or_else(|| needs_log("at least 1", raw.lower.as_ref()));
                both((order, least), wrong)?;
                if lower.unsigned_abs().max(upper.unsigned_abs()) > 1 << 52 {
                    wrong.push(Invalid::new("upper", "magnitudes of at most 2^52", upper));
                    return None;
                }
                Some(Self::Integer { lower, upper, log })
            }
            KindName::Ordinal => {
                let levels = levels(raw.sequence.as_ref(), "sequence", wrong)?;
                Some(Self::Ordinal { sequence: levels })
            }
            KindName::Categorical => {
                let levels = levels(raw.choices.as_ref(), "choices", wrong)?;
                Some(Self::Categorical { choices: levels })
            }
            KindName::Constant => {
                let Some(value) = raw.value.clone() else {
                    wrong.push(Invalid::new("value", "a value", "nothing"));
                    return None;
                };
                Some(Self::Constant { value })
            }
        }
    }
}

/// Fields that do not apply to the type are errors: they would be ignored without a word.
fn foreign_fields(raw: &HyperparameterFile) -> Vec<Invalid> {
    let is_number = matches!(raw.kind, KindName::Float | KindName::Integer);
    let given = [
        ("lower", raw.lower.is_some() && !is_number),
        ("upper", raw.upper.is_some() && !is_number),
        ("log", raw.log.is_some() && !is_number),
        (
            "sequence",
            raw.sequence.is_some() && raw.kind != KindName::Ordinal,
        ),
        (
            "choices",
            raw.choices.is_some() && raw.kind != KindName::Categorical,
        ),
        (
            "value",
            raw.value.is_some() && raw.kind != KindName::Constant,
        ),
        (
            "prior",
            raw.prior.is_some() && raw.kind == KindName::Constant,
        ),
    ];
    let foreign = given.into_iter().filter(|(_, is_foreign)| *is_foreign);
    foreign
        .map(|(field, _)| {
            Invalid::new(field, "no such field for this `type`", format!("`{field}`"))
        })
        .collect()
}

/// Two values, or what is wrong with them.
fn both<A, B>(
    (a, b): (Result<A, Invalid>, Result<B, Invalid>),
    wrong: &mut Vec<Invalid>,
) -> Option<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Some((a, b)),
        (a, b) => {
            wrong.extend(a.err().into_iter().chain(b.err()));
            None
        }
    }
}

fn at_least<T: fmt::Display>(
    field: &str,
    expected: &str,
    found: T,
    lower: T,
    is_right: bool,
) -> Result<(), Invalid> {
    if is_right {
        return Ok(());
    }
    Err(Invalid::new(field, format!("{expected} ({lower})"), found))
}

fn needs_log(expected: &str, lower: Option<&Value>) -> Invalid {
    let expected = format!("{expected}, because `log` is true");
    Invalid::new("lower", expected, found(lower))
}

/// What stands there, as JSON.
fn found(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::quoted)
}

fn number(value: Option<&Value>, field: &str) -> Result<f64, Invalid> {
    let number = value.and_then(Value::as_f64);
    number.ok_or_else(|| Invalid::new(field, "a number", found(value)))
}

fn whole(value: Option<&Value>, field: &str) -> Result<i64, Invalid> {
    let number = value.and_then(Value::as_i64);
    number.ok_or_else(|| Invalid::new(field, "a whole number", found(value)))
}

fn levels(
    values: Option<&Vec<Value>>,
    field: &str,
    wrong: &mut Vec<Invalid>,
) -> Option<Vec<Value>> {
    let Some(values) = values else {
        wrong.push(Invalid::new(field, "a list of values", "nothing"));
        return None;
    };
    if values.is_empty() {
        wrong.push(Invalid::new(field, "at least one value", "none"));
        return None;
    }
    let before = wrong.len();
    for (index, value) in values.iter().enumerate() {
        // 1 and 1.0 are the same level.
        if values[..index].iter().any(|other| other.same(value)) {
            let at = format!("{field}[{index}]");
            let expected = "a value not listed before";
            wrong.push(Invalid::new(at, expected, value.quoted()));
        }
    }
    (wrong.len() == before).then(|| values.clone())
}
