//! Search spaces: what may vary, architecture choices included.
//!
//! A space is validated when it is made; after that every part of the project may rely on it. Numbers for models come
//! from [`encode`](SearchSpace::encode) alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::format::Record;
use crate::value::{Configuration, Value};

mod belief;
mod diagram;
mod encode;
mod fix;
mod forbidden;

pub use belief::{Belief, Confidence};

pub use forbidden::{ForbiddenFile, ForbiddenRange, ForbiddenValues};

use diagram::Diagram;
use forbidden::Clause;

/// A space as a person writes it: `data/spaces/*.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceFile {
    /// The hyperparameters; a condition may name only those above it.
    pub hyperparameters: Vec<HyperparameterFile>,
    /// Combinations that must not occur.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<ForbiddenFile>,
}

impl Record for SpaceFile {
    const FORMAT: &'static str = "space";
    /// 1.0: first. 1.1: `forbidden`, `prior`, `confidence`.
    const VERSION: [u32; 2] = [1, 1];
}

/// A hyperparameter as a person writes it. Which fields apply depends on `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperparameterFile {
    /// Its name, unique in the space.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: KindName,
    /// Smallest value (float, integer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<Value>,
    /// Largest value (float, integer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<Value>,
    /// Whether it varies on a logarithmic scale (float, integer); else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
    /// The values from smallest to largest (ordinal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Vec<Value>>,
    /// The values in no order (categorical).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// The only value (constant).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// When it is active; absent for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_when: Option<Condition>,
    /// The value that is believed to be about the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Value>,
    /// How firmly `prior` is believed; absent for medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
}

impl HyperparameterFile {
    /// A hyperparameter of a kind with no other field filled in.
    pub fn new(name: impl Into<String>, kind: KindName) -> Self {
        Self {
            name: name.into(),
            kind,
            lower: None,
            upper: None,
            log: None,
            sequence: None,
            choices: None,
            value: None,
            active_when: None,
            prior: None,
            confidence: None,
        }
    }
}

/// The kinds of hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// A hyperparameter is active when another one is, and has one of these values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The other hyperparameter; it stands above in the space.
    pub hyperparameter: String,
    /// The values that activate.
    #[serde(rename = "in")]
    pub values: Vec<Value>,
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

/// One thing that may vary.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameter {
    /// Unique in its space.
    pub name: String,
    /// What it may be.
    pub kind: Kind,
    /// When it is active: the index of the parent in the space, and the values of it that activate.
    pub condition: Option<(usize, Vec<Value>)>,
    /// What the user believes to be about the best value of it.
    pub belief: Option<Belief>,
}

/// A checked search space.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    hyperparameters: Vec<Hyperparameter>,
    /// Indices of the hyperparameters that are dimensions, that is, not constant.
    dimensions: Vec<usize>,
    forbidden: Vec<Clause>,
    /// The values of an allowed configuration, active or not; empty where nothing is forbidden.
    allowed: Vec<Value>,
    /// What is allowed, for exact draws and counts; `None` where it is too large, or not to be used.
    diagram: Option<Arc<Diagram>>,
}

impl SearchSpace {
    /// Checks a space as written; complaints name the place below the space.
    pub fn new(file: &SpaceFile) -> Result<Self, Invalid> {
        let mut space = Self {
            hyperparameters: Vec::new(),
            dimensions: Vec::new(),
            forbidden: Vec::new(),
            allowed: Vec::new(),
            diagram: None,
        };
        if file.hyperparameters.is_empty() {
            return Err(Invalid::new(
                "hyperparameters",
                "at least one hyperparameter",
                "none",
            ));
        }
        for (index, raw) in file.hyperparameters.iter().enumerate() {
            let hyperparameter = space
                .check(raw)
                .map_err(|error| error.within(&format!("hyperparameters[{index}]")))?;
            if !matches!(hyperparameter.kind, Kind::Constant { .. }) {
                space.dimensions.push(index);
            }
            space.hyperparameters.push(hyperparameter);
        }
        space.forbid(&file.forbidden)?;
        Ok(space)
    }

    /// The space as the first revision of the methods knows it: draws that are forbidden a hundred times are repaired, and
    /// nothing is counted.
    #[must_use]
    pub fn without_exact_draws(mut self) -> Self {
        self.diagram = None;
        self
    }

    /// The space as a person would write it; read back, it is the same space.
    pub fn to_file(&self) -> SpaceFile {
        let file = |h: &Hyperparameter| {
            let condition = h.condition.as_ref().map(|(parent, values)| Condition {
                hyperparameter: self.hyperparameters[*parent].name.clone(),
                values: values.clone(),
            });
            HyperparameterFile {
                active_when: condition,
                prior: h.belief.as_ref().map(|belief| belief.value.clone()),
                confidence: h.belief.as_ref().map(|belief| belief.confidence),
                ..h.kind.to_file(&h.name)
            }
        };
        SpaceFile {
            hyperparameters: self.hyperparameters.iter().map(file).collect(),
            forbidden: self.forbidden_file(),
        }
    }

    /// All hyperparameters, constants too, parents before children.
    pub fn hyperparameters(&self) -> &[Hyperparameter] {
        &self.hyperparameters
    }

    /// The hyperparameters that vary, in the order of the encoding.
    pub fn dimensions(&self) -> impl Iterator<Item = &Hyperparameter> {
        self.dimensions
            .iter()
            .map(|&index| &self.hyperparameters[index])
    }

    /// How many hyperparameters vary: d.
    pub fn num_dimensions(&self) -> usize {
        self.dimensions.len()
    }

    /// Whether nothing depends on anything: no conditions, nothing forbidden.
    pub fn is_plain(&self) -> bool {
        self.forbidden.is_empty() && self.hyperparameters.iter().all(|h| h.condition.is_none())
    }

    /// The hyperparameter of that name.
    pub fn find(&self, name: &str) -> Option<&Hyperparameter> {
        self.hyperparameters
            .iter()
            .find(|hyperparameter| hyperparameter.name == name)
    }

    /// Checks a configuration that a person or another program wrote, and gives every value the type of its
    /// hyperparameter (1 becomes 1.0 for a float).
    ///
    /// Constants may be left out. Every active hyperparameter must be there, no inactive or unknown one may, and no
    /// combination may be forbidden.
    pub fn check_configuration(&self, raw: &Configuration) -> Result<Configuration, Invalid> {
        for (name, value) in raw.iter() {
            if self.find(name).is_none() {
                return Err(Invalid::new(
                    name,
                    format!("one of {}", self.names().join(", ")),
                    value,
                ));
            }
        }
        let mut checked = Configuration::default();
        for hyperparameter in &self.hyperparameters {
            let name = hyperparameter.name.as_str();
            let is_active = self.is_active(hyperparameter, &checked);
            match (raw.get(name), is_active, &hyperparameter.kind) {
                (Some(value), true, kind) => {
                    let value = kind
                        .typed(value)
                        .ok_or_else(|| Invalid::new(name, kind.describe(), value))?;
                    checked.set(name, value);
                }
                (None, true, Kind::Constant { value }) => checked.set(name, value.clone()),
                (None, true, kind) => return Err(Invalid::new(name, kind.describe(), "nothing")),
                (Some(value), false, _) => {
                    return Err(Invalid::new(
                        name,
                        "nothing, since it is inactive here",
                        value,
                    ));
                }
                (None, false, _) => {}
            }
        }
        self.refuse_forbidden(&checked)?;
        Ok(checked)
    }

    /// Whether a hyperparameter is active, given the values of those above it.
    pub fn is_active(&self, hyperparameter: &Hyperparameter, above: &Configuration) -> bool {
        let Some((parent, values)) = &hyperparameter.condition else {
            return true;
        };
        let parent = &self.hyperparameters[*parent];
        // An inactive parent has no value, so its children are inactive too.
        above
            .get(&parent.name)
            .is_some_and(|value| values.iter().any(|v| v.same(value)))
    }

    fn names(&self) -> Vec<&str> {
        self.hyperparameters
            .iter()
            .map(|hyperparameter| hyperparameter.name.as_str())
            .collect()
    }

    fn check(&self, raw: &HyperparameterFile) -> Result<Hyperparameter, Invalid> {
        if raw.name.is_empty() {
            return Err(Invalid::new("name", "a name", "an empty string"));
        }
        if self.find(&raw.name).is_some() {
            return Err(Invalid::new("name", "a name not used above", &raw.name));
        }
        let kind = Kind::new(raw)?;
        let condition = match &raw.active_when {
            None => None,
            Some(condition) => Some(
                self.check_condition(condition)
                    .map_err(|e| e.within("active_when"))?,
            ),
        };
        Ok(Hyperparameter {
            name: raw.name.clone(),
            belief: Belief::new(raw, &kind)?,
            kind,
            condition,
        })
    }

    fn check_condition(&self, condition: &Condition) -> Result<(usize, Vec<Value>), Invalid> {
        let parent = self
            .hyperparameters
            .iter()
            .position(|h| h.name == condition.hyperparameter)
            .ok_or_else(|| {
                Invalid::new(
                    "hyperparameter",
                    "the name of a hyperparameter above",
                    &condition.hyperparameter,
                )
            })?;
        if condition.values.is_empty() {
            return Err(Invalid::new("in", "at least one value", "none"));
        }
        let kind = &self.hyperparameters[parent].kind;
        let typed = condition.values.iter().enumerate().map(|(index, value)| {
            kind.typed(value)
                .ok_or_else(|| Invalid::new(format!("in[{index}]"), kind.describe(), value))
        });
        Ok((parent, typed.collect::<Result<_, _>>()?))
    }
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
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self {
            Self::Float { lower, upper, .. } => format!("a number from {lower} to {upper}"),
            Self::Integer { lower, upper, .. } => format!("a whole number from {lower} to {upper}"),
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => {
                format!("one of {}", list(levels))
            }
            Self::Constant { value } => value.to_string(),
        }
    }

    fn to_file(&self, name: &str) -> HyperparameterFile {
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

    fn new(raw: &HyperparameterFile) -> Result<Self, Invalid> {
        let log = raw.log.unwrap_or(false);
        let kind = match raw.kind {
            KindName::Float => {
                let lower = number(raw.lower.as_ref(), "lower")?;
                let upper = number(raw.upper.as_ref(), "upper")?;
                if upper <= lower {
                    return Err(Invalid::new(
                        "upper",
                        format!("more than `lower` ({lower})"),
                        upper,
                    ));
                }
                if log && lower <= 0.0 {
                    return Err(Invalid::new(
                        "lower",
                        "more than 0, because `log` is true",
                        lower,
                    ));
                }
                Self::Float { lower, upper, log }
            }
            KindName::Integer => {
                let lower = whole(raw.lower.as_ref(), "lower")?;
                let upper = whole(raw.upper.as_ref(), "upper")?;
                if upper < lower {
                    return Err(Invalid::new(
                        "upper",
                        format!("at least `lower` ({lower})"),
                        upper,
                    ));
                }
                if log && lower < 1 {
                    return Err(Invalid::new(
                        "lower",
                        "at least 1, because `log` is true",
                        lower,
                    ));
                }
                if lower.unsigned_abs().max(upper.unsigned_abs()) > 1 << 52 {
                    return Err(Invalid::new("upper", "magnitudes of at most 2^52", upper));
                }
                Self::Integer { lower, upper, log }
            }
            KindName::Ordinal => Self::Ordinal {
                sequence: levels(raw.sequence.as_ref(), "sequence")?,
            },
            KindName::Categorical => Self::Categorical {
                choices: levels(raw.choices.as_ref(), "choices")?,
            },
            KindName::Constant => Self::Constant {
                value: raw
                    .value
                    .clone()
                    .ok_or_else(|| Invalid::new("value", "a value", "nothing"))?,
            },
        };
        kind.refuse_foreign_fields(raw)?;
        Ok(kind)
    }

    /// A field that does not apply to the type is an error: it would be ignored without a word.
    fn refuse_foreign_fields(&self, raw: &HyperparameterFile) -> Result<(), Invalid> {
        let is_number = matches!(self, Self::Float { .. } | Self::Integer { .. });
        let given = [
            ("lower", raw.lower.is_some() && !is_number),
            ("upper", raw.upper.is_some() && !is_number),
            ("log", raw.log.is_some() && !is_number),
            (
                "sequence",
                raw.sequence.is_some() && !matches!(self, Self::Ordinal { .. }),
            ),
            (
                "choices",
                raw.choices.is_some() && !matches!(self, Self::Categorical { .. }),
            ),
            (
                "value",
                raw.value.is_some() && !matches!(self, Self::Constant { .. }),
            ),
            (
                "prior",
                raw.prior.is_some() && matches!(self, Self::Constant { .. }),
            ),
        ];
        match given.iter().find(|(_, is_foreign)| *is_foreign) {
            Some((field, _)) => Err(Invalid::new(
                *field,
                "no such field for this `type`",
                format!("`{field}`"),
            )),
            None => Ok(()),
        }
    }
}

fn number(value: Option<&Value>, field: &str) -> Result<f64, Invalid> {
    let value = value.ok_or_else(|| Invalid::new(field, "a number", "nothing"))?;
    value
        .as_f64()
        .ok_or_else(|| Invalid::new(field, "a number", value))
}

fn whole(value: Option<&Value>, field: &str) -> Result<i64, Invalid> {
    let value = value.ok_or_else(|| Invalid::new(field, "a whole number", "nothing"))?;
    value
        .as_i64()
        .ok_or_else(|| Invalid::new(field, "a whole number", value))
}

fn levels(values: Option<&Vec<Value>>, field: &str) -> Result<Vec<Value>, Invalid> {
    let values = values.ok_or_else(|| Invalid::new(field, "a list of values", "nothing"))?;
    if values.is_empty() {
        return Err(Invalid::new(field, "at least one value", "none"));
    }
    let mut seen = BTreeSet::new();
    for (index, value) in values.iter().enumerate() {
        // 1 and 1.0 are the same level.
        let key = value
            .as_f64()
            .map_or_else(|| format!("{value:?}"), |x| format!("{x:?}"));
        if !seen.insert(key) {
            return Err(Invalid::new(
                format!("{field}[{index}]"),
                "a value not listed before",
                value,
            ));
        }
    }
    Ok(values.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(json: &str) -> Result<SearchSpace, Invalid> {
        SearchSpace::new(&serde_json::from_str(json).unwrap())
    }

    fn refused(hyperparameter: &str) -> String {
        space(&format!(r#"{{"hyperparameters":[{hyperparameter}]}}"#))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn complaints_name_place_expectation_and_finding() {
        insta::assert_snapshot!(
            [
                refused(r#"{"name":"a","type":"float","lower":2,"upper":1}"#),
                refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"log":true}"#),
                refused(r#"{"name":"a","type":"integer","lower":0,"upper":4,"log":true}"#),
                refused(r#"{"name":"a","type":"integer","lower":0.5,"upper":4}"#),
                refused(r#"{"name":"a","type":"float","upper":1}"#),
                refused(r#"{"name":"a","type":"categorical","choices":[]}"#),
                refused(r#"{"name":"a","type":"ordinal","sequence":[1,2,1.0]}"#),
                refused(r#"{"name":"a","type":"categorical","choices":["x"],"log":true}"#),
                refused(r#"{"name":"a","type":"constant"}"#),
                refused(r#"{"name":"a","type":"constant","value":1,"prior":1}"#),
                refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"prior":2}"#),
                refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"confidence":"low"}"#),
                refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"prior":1,"confidence":0}"#),
                refused(r#"{"name":"","type":"constant","value":1}"#),
                refused(r#"{"name":"a","type":"constant","value":1},{"name":"a","type":"constant","value":1}"#),
                refused(
                    r#"{"name":"a","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"b","in":[1]}}"#
                ),
                refused(
                    r#"{"name":"b","type":"integer","lower":0,"upper":1},{"name":"a","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"b","in":[0,2]}}"#
                ),
                space(r#"{"hyperparameters":[]}"#).unwrap_err().to_string(),
            ]
            .join("\n")
        );
    }

    #[test]
    fn configurations_are_checked_and_typed() {
        let space = space(
            r#"{"hyperparameters":[
                {"name":"optimizer","type":"categorical","choices":["sgd","adam"]},
                {"name":"rate","type":"float","lower":0,"upper":1},
                {"name":"momentum","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"optimizer","in":["sgd"]}},
                {"name":"nesterov","type":"categorical","choices":[true,false],"active_when":{"hyperparameter":"momentum","in":[1]}},
                {"name":"version","type":"constant","value":3}]}"#,
        )
        .unwrap();
        let check = |json: &str| space.check_configuration(&serde_json::from_str(json).unwrap());
        let checked = check(r#"{"optimizer":"adam","rate":1}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&checked).unwrap(),
            r#"{"optimizer":"adam","rate":1.0,"version":3}"#
        );
        assert_eq!(
            check(r#"{"optimizer":"sgd","rate":1,"momentum":1,"nesterov":true}"#)
                .unwrap()
                .0
                .len(),
            5
        );
        let place = |json: &str| check(json).unwrap_err().at;
        assert_eq!(place(r#"{"optimizer":"adam","rate":2}"#), "rate");
        assert_eq!(place(r#"{"optimizer":"adam"}"#), "rate");
        assert_eq!(
            place(r#"{"optimizer":"adam","rate":1,"momentum":0.5}"#),
            "momentum"
        );
        assert_eq!(place(r#"{"optimizer":"sgd","rate":1}"#), "momentum");
        assert_eq!(place(r#"{"optimizer":"adam","rate":1,"x":0}"#), "x");
        // An inactive parent makes its children inactive.
        assert_eq!(
            place(r#"{"optimizer":"adam","rate":1,"nesterov":true}"#),
            "nesterov"
        );
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = r#"{"hyperparameters":[{"name":"a","type":"float","lower":0,"upper":1,"q":1}]}"#;
        assert!(
            serde_json::from_str::<SpaceFile>(json)
                .unwrap_err()
                .to_string()
                .contains("unknown field `q`")
        );
    }
}
