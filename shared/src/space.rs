//! Search spaces: what may vary, architecture choices included.
//!
//! A space is validated when it is made; after that every part of the project may rely on it. Numbers for models come
//! from [`encode`](SearchSpace::encode) alone.

use std::collections::BTreeSet;
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
mod kind;
mod user_prior;
mod values;

pub use user_prior::{Confidence, UserPrior};

pub use condition::{Condition, ConditionFile};
pub use forbidden::ForbiddenFile;
pub use kind::{Kind, KindName};
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

#[cfg(test)]
mod tests;
