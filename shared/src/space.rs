//! Search spaces: what may vary, architecture choices included.
//!
//! A space is validated when it is made; after that every part of the project may rely on it. Numbers for models come
//! from [`encode`](SearchSpace::encode) alone.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Complaints, Invalid};
use crate::format::Record;
use crate::value::{Configuration, Value};

mod clause;
mod condition;
mod diagram;
mod encode;
mod fix;
mod forbidden;
mod user_prior;
mod values;

pub use user_prior::{Confidence, UserPrior};

pub use condition::{Condition, ConditionFile};
pub use forbidden::ForbiddenFile;
pub use values::{ValueRange, Values};

use clause::Clause;
use diagram::Diagram;

/// A space as a person writes it: `data/spaces/*.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// 1.0: first. 1.1: `forbidden`, `prior`, `confidence`. 1.2: `null` among values. 1.3: conditions
    /// with `min`, `max`, `all` and `any`.
    const VERSION: [u32; 2] = [1, 3];
    const IS_WRITTEN_BY_PEOPLE: bool = true;

    fn complaints(&self) -> Vec<Invalid> {
        SearchSpace::check(self)
            .err()
            .into_iter()
            .flatten()
            .collect()
    }
}

/// A hyperparameter as a person writes it. Which fields apply depends on `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub active_when: Option<ConditionFile>,
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

/// One thing that may vary.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameter {
    /// Unique in its space.
    pub name: String,
    /// What it may be.
    pub kind: Kind,
    /// When it is active; `None` for always.
    pub condition: Option<Condition>,
    /// What the user believes to be about the best value of it.
    pub user_prior: Option<UserPrior>,
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
    /// Checks a space as written; the first thing that is wrong, with its place below the space.
    pub fn new(file: &SpaceFile) -> Result<Self, Invalid> {
        Self::check(file).map_err(Complaints::into_first)
    }

    /// Checks a space as written; everything that is wrong, but what follows from something else that is.
    pub fn check(file: &SpaceFile) -> Result<Self, Complaints> {
        let mut space = Self {
            hyperparameters: Vec::new(),
            dimensions: Vec::new(),
            forbidden: Vec::new(),
            allowed: Vec::new(),
            diagram: None,
        };
        if file.hyperparameters.is_empty() {
            let expected = "at least one hyperparameter";
            return Err(Invalid::new("hyperparameters", expected, "none").into());
        }
        let mut wrong: Vec<Invalid> = Vec::new();
        // Names whose range is not known: what is said about them cannot be judged.
        let mut unknown: BTreeSet<&str> = BTreeSet::new();
        for (index, raw) in file.hyperparameters.iter().enumerate() {
            let mut own = Vec::new();
            let hyperparameter = space.check_one(raw, &unknown, &mut own);
            let within = |invalid: Invalid| invalid.within(&format!("hyperparameters[{index}]"));
            wrong.extend(own.into_iter().map(within));
            let Some(hyperparameter) = hyperparameter else {
                unknown.insert(&raw.name);
                continue;
            };
            if !matches!(hyperparameter.kind, Kind::Constant { .. }) {
                space.dimensions.push(space.hyperparameters.len());
            }
            space.hyperparameters.push(hyperparameter);
        }
        space.forbid(&file.forbidden, &unknown, &mut wrong);
        if let Some(complaints) = Complaints::new(wrong) {
            return Err(complaints);
        }
        space.find_allowed()?;
        Ok(space)
    }

    /// The space as the first revision of the methods knows it: draws that are forbidden a hundred times are repaired, and
    /// nothing is counted.
    #[must_use]
    pub(crate) fn without_exact_draws(mut self) -> Self {
        self.diagram = None;
        self
    }

    /// The space as a person would write it; read back, it is the same space.
    pub fn to_file(&self) -> SpaceFile {
        let file = |h: &Hyperparameter| {
            let condition = h.condition.as_ref();
            HyperparameterFile {
                active_when: condition.map(|c| c.to_file(&self.hyperparameters)),
                prior: h.user_prior.as_ref().map(|prior| prior.value.clone()),
                confidence: h.user_prior.as_ref().map(|prior| prior.confidence),
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
        for name in raw.0.keys() {
            if self.find(name).is_none() {
                return Err(Invalid::new(
                    name,
                    format!("one of {}", self.names().join(", ")),
                    format!("`{name}`"),
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
                        .ok_or_else(|| Invalid::new(name, kind.describe(), value.quoted()))?;
                    checked.set(name, value);
                }
                (None, true, Kind::Constant { value }) => checked.set(name, value.clone()),
                (None, true, kind) => return Err(Invalid::new(name, kind.describe(), "nothing")),
                (Some(value), false, _) => {
                    return Err(Invalid::new(
                        name,
                        "nothing, since it is inactive here",
                        value.quoted(),
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
        // An inactive parent has no value, so its children are inactive too.
        let value = |index: usize| above.get(&self.hyperparameters[index].name);
        let condition = hyperparameter.condition.as_ref();
        condition.is_none_or(|condition| condition.is_met(&value))
    }

    fn names(&self) -> Vec<&str> {
        self.hyperparameters
            .iter()
            .map(|hyperparameter| hyperparameter.name.as_str())
            .collect()
    }

    /// A hyperparameter, or `None` if its range is wrong, and what is wrong with it.
    fn check_one(
        &self,
        raw: &HyperparameterFile,
        unknown: &BTreeSet<&str>,
        wrong: &mut Vec<Invalid>,
    ) -> Option<Hyperparameter> {
        if raw.name.is_empty() {
            wrong.push(Invalid::new("name", "a name", "an empty string"));
        }
        if self.find(&raw.name).is_some() || unknown.contains(raw.name.as_str()) {
            let found = Value::from(raw.name.as_str());
            wrong.push(Invalid::new(
                "name",
                "a name not used above",
                found.quoted(),
            ));
        }
        let condition = raw
            .active_when
            .as_ref()
            .filter(|condition| !condition.names().iter().any(|name| unknown.contains(name)))
            .map(|condition| Condition::check(condition, &self.hyperparameters))
            .transpose()
            .map_err(|e| wrong.push(e.within("active_when")));
        let kind = Kind::new(raw, wrong)?;
        let user_prior = UserPrior::new(raw, &kind).map_err(|e| wrong.push(e));
        Some(Hyperparameter {
            name: raw.name.clone(),
            kind,
            condition: condition.ok().flatten(),
            user_prior: user_prior.ok().flatten(),
        })
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

    /// The range as written, or `None`; and what is wrong with it.
    fn new(raw: &HyperparameterFile, wrong: &mut Vec<Invalid>) -> Option<Self> {
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
                condition(r#"{"hyperparameter":"n"}"#),
                condition(r#"{"hyperparameter":"n","in":[]}"#),
                condition(r#"{"hyperparameter":"n","in":[1],"min":1}"#),
                condition(r#"{"hyperparameter":"n","min":2.5}"#),
                condition(r#"{"hyperparameter":"n","min":3,"max":2}"#),
                condition(r#"{"hyperparameter":"w","min":3}"#),
                condition(r#"{"in":[1]}"#),
                condition("{}"),
                condition(r#"{"all":[]}"#),
                condition(r#"{"hyperparameter":"n","min":1,"any":[]}"#),
                condition(r#"{"any":[{"hyperparameter":"n","min":1},{"all":[{"hyperparameter":"n","max":9}]}]}"#),
                condition(r#"{"any":[{"hyperparameter":"n","min":1},{"all":[{"hyperparameter":"x","max":9}]}]}"#),
                space(r#"{"hyperparameters":[]}"#).unwrap_err().to_string(),
            ]
            .join("\n")
        );
    }

    fn condition(json: &str) -> String {
        refused(&format!(
            r#"{{"name":"n","type":"integer","lower":1,"upper":4}},{{"name":"w","type":"ordinal","sequence":[3,4]}},
               {{"name":"a","type":"constant","value":1,"active_when":{json}}}"#
        ))
    }

    #[test]
    fn conditions_on_several_others_and_on_ranges_hold_where_they_say() {
        let space = space(
            r#"{"hyperparameters":[
                {"name":"optimizer","type":"categorical","choices":["sgd","adam"]},
                {"name":"layers","type":"integer","lower":1,"upper":9},
                {"name":"rate","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"optimizer","in":["sgd"]}},
                {"name":"both","type":"constant","value":1,"active_when":{"all":[
                    {"hyperparameter":"optimizer","in":["sgd"]},{"hyperparameter":"layers","min":3,"max":5}]}},
                {"name":"either","type":"constant","value":1,"active_when":{"any":[
                    {"hyperparameter":"rate","min":0.5},{"all":[{"hyperparameter":"layers","max":2},{"hyperparameter":"optimizer","in":["adam"]}]}]}},
                {"name":"below","type":"constant","value":1,"active_when":{"hyperparameter":"either","in":[1]}}]}"#,
        )
        .unwrap();
        let active = |json: &str| {
            let checked = space.check_configuration(&serde_json::from_str(json).unwrap());
            let checked = checked.unwrap();
            let names = ["both", "either", "below"].into_iter();
            names
                .filter(|name| checked.get(name).is_some())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            active(r#"{"optimizer":"sgd","layers":3,"rate":0.4}"#),
            "both"
        );
        assert_eq!(
            active(r#"{"optimizer":"sgd","layers":5,"rate":0.5}"#),
            "both either below"
        );
        assert_eq!(active(r#"{"optimizer":"sgd","layers":6,"rate":0.4}"#), "");
        assert_eq!(active(r#"{"optimizer":"adam","layers":4}"#), "");
        assert_eq!(active(r#"{"optimizer":"adam","layers":2}"#), "either below");
        assert_eq!(SearchSpace::new(&space.to_file()).unwrap(), space);
        // What is left with some values fixed says the same of the others.
        let fixed = |json: &str| {
            let fixed = space.fix(&serde_json::from_str(json).unwrap()).unwrap();
            let conditions = fixed.to_file().hyperparameters.into_iter();
            let conditions =
                conditions.filter(|h| h.kind == KindName::Constant && h.name != "optimizer");
            let conditions = conditions.map(|h| {
                format!(
                    "{} {}",
                    h.name,
                    serde_json::to_string(&h.active_when).unwrap()
                )
            });
            conditions.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!([
            fixed(r#"{"optimizer":"sgd"}"#),
            fixed(r#"{"optimizer":"adam"}"#),
            fixed(r#"{"optimizer":"sgd","rate":0.9}"#),
            fixed(r#"{"rate":0.9}"#),
        ].join("\n\n"), @r#"
        both {"hyperparameter":"layers","min":3,"max":5}
        either {"hyperparameter":"rate","min":0.5}
        below {"hyperparameter":"either","in":[1]}

        either {"hyperparameter":"layers","max":2}
        below {"hyperparameter":"either","in":[1]}

        rate null
        both {"hyperparameter":"layers","min":3,"max":5}
        either null
        below null

        rate {"hyperparameter":"optimizer","in":["sgd"]}
        both {"all":[{"hyperparameter":"optimizer","in":["sgd"]},{"hyperparameter":"layers","min":3,"max":5}]}
        either {"any":[{"hyperparameter":"rate","in":[0.9]},{"all":[{"hyperparameter":"layers","max":2},{"hyperparameter":"optimizer","in":["adam"]}]}]}
        below {"hyperparameter":"either","in":[1]}
        "#);
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
