//! When a hyperparameter is active: what others, above it in the space, have to be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clause::Term;
use super::values::{ValueRange, Values};
use super::{Hyperparameter, Kind};
use crate::error::Invalid;
use crate::value::Value;

/// A condition as a person writes it: a hyperparameter is active and has one of some values (`hyperparameter` with `in`,
/// or with `min`, `max` or both), `all` of several conditions are met, or `any` of them is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionFile {
    /// The other hyperparameter; it stands above in the space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyperparameter: Option<String>,
    /// The values of it that activate.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// The smallest value that activates (float, integer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// The largest value that activates (float, integer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// Conditions that have to be met together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<ConditionFile>>,
    /// Conditions of which one has to be met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<ConditionFile>>,
}

impl ConditionFile {
    /// A hyperparameter has one of these values.
    pub fn has(hyperparameter: impl Into<String>, values: Values) -> Self {
        let mut file = Self {
            hyperparameter: Some(hyperparameter.into()),
            ..Self::default()
        };
        match values {
            Values::One(value) => file.values = Some(vec![value]),
            Values::Several(values) => file.values = Some(values),
            Values::Range(ValueRange { min, max }) => (file.min, file.max) = (min, max),
        }
        file
    }

    /// All of these are met.
    pub fn all(conditions: Vec<Self>) -> Self {
        Self {
            all: Some(conditions),
            ..Self::default()
        }
    }

    /// One of these is met.
    pub fn any(conditions: Vec<Self>) -> Self {
        Self {
            any: Some(conditions),
            ..Self::default()
        }
    }

    /// The conditions on single hyperparameters that it is made of.
    pub fn single(&self) -> Vec<&Self> {
        let within: Vec<&Self> = self.all.iter().chain(&self.any).flatten().collect();
        if within.is_empty() {
            return vec![self];
        }
        within.into_iter().flat_map(Self::single).collect()
    }

    /// The hyperparameters that it names.
    pub fn names(&self) -> Vec<&str> {
        let single = self.single().into_iter();
        single.filter_map(|c| c.hyperparameter.as_deref()).collect()
    }

    /// The values that activate, where it is about one hyperparameter.
    fn values(&self) -> Option<Values> {
        let range = || {
            (self.min.is_some() || self.max.is_some()).then(|| {
                Values::Range(ValueRange {
                    min: self.min.clone(),
                    max: self.max.clone(),
                })
            })
        };
        match &self.values {
            Some(values) if self.min.is_none() && self.max.is_none() => {
                Some(Values::Several(values.clone()))
            }
            Some(_) => None,
            None => range(),
        }
    }

    /// The names of the fields that are there.
    fn fields(&self) -> String {
        let fields = [
            ("hyperparameter", self.hyperparameter.is_some()),
            ("in", self.values.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("all", self.all.is_some()),
            ("any", self.any.is_some()),
        ];
        let given: Vec<String> = fields
            .iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if given.is_empty() {
            "none of them".to_owned()
        } else {
            given.join(", ")
        }
    }
}

/// A checked condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Has(Term),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

/// What is left of a condition where some hyperparameters have become constants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Remaining {
    /// It is always met.
    Always,
    /// It is never met.
    Never,
    /// It depends on the others.
    Condition(Condition),
}

impl Condition {
    /// Checks a condition on some of the hyperparameters above.
    pub(super) fn check(file: &ConditionFile, above: &[Hyperparameter]) -> Result<Self, Invalid> {
        let several = |files: &[ConditionFile], field: &str| {
            if files.is_empty() {
                return Err(Invalid::new(field, "at least one condition", "none"));
            }
            let conditions = files.iter().enumerate().map(|(index, file)| {
                Self::check(file, above).map_err(|e| e.within(&format!("{field}[{index}]")))
            });
            conditions.collect::<Result<Vec<_>, _>>()
        };
        let is_single = file.values.is_none() && file.min.is_none() && file.max.is_none();
        match (&file.hyperparameter, &file.all, &file.any) {
            (None, Some(all), None) if is_single => Ok(Self(Node::All(several(all, "all")?))),
            (None, None, Some(any)) if is_single => Ok(Self(Node::Any(several(any, "any")?))),
            (Some(name), None, None) => match file.values() {
                Some(values) => Self::has(name, values, above),
                None if is_single => Err(Invalid::new("in", "a list of values", "nothing")),
                None => Err(Invalid::new(
                    "",
                    "`in`, or `min`, `max` or both",
                    file.fields(),
                )),
            },
            _ => Err(Invalid::new(
                "",
                "`hyperparameter` with `in`, `min` or `max`, or one of `all` and `any` alone",
                file.fields(),
            )),
        }
    }

    fn has(name: &str, written: Values, above: &[Hyperparameter]) -> Result<Self, Invalid> {
        let index = above.iter().position(|h| h.name == name).ok_or_else(|| {
            let expected = "the name of a hyperparameter above";
            Invalid::new("hyperparameter", expected, Value::from(name).quoted())
        })?;
        let kind = above[index].kind.clone();
        let at = match &written {
            Values::Range(_) => "",
            Values::One(_) | Values::Several(_) => "in",
        };
        let set = written.check(at, &kind)?;
        Ok(Self(Node::Has(Term {
            index,
            written,
            kind,
            set,
        })))
    }

    /// The condition as a person would write it.
    pub fn to_file(&self, hyperparameters: &[Hyperparameter]) -> ConditionFile {
        let files = |conditions: &[Self]| {
            let files = conditions.iter().map(|c| c.to_file(hyperparameters));
            files.collect()
        };
        match &self.0 {
            Node::Has(term) => ConditionFile::has(
                hyperparameters[term.index].name.as_str(),
                term.written.clone(),
            ),
            Node::All(all) => ConditionFile::all(files(all)),
            Node::Any(any) => ConditionFile::any(files(any)),
        }
    }

    /// Whether it is met; `value` is that of a hyperparameter by index, and `None` where that is inactive.
    pub(super) fn is_met<'a>(&self, value: &impl Fn(usize) -> Option<&'a Value>) -> bool {
        match &self.0 {
            Node::Has(term) => value(term.index).is_some_and(|value| term.contains(value)),
            Node::All(all) => all.iter().all(|condition| condition.is_met(value)),
            Node::Any(any) => any.iter().any(|condition| condition.is_met(value)),
        }
    }

    /// What it says of single hyperparameters.
    pub(super) fn terms(&self) -> Vec<&Term> {
        match &self.0 {
            Node::Has(term) => vec![term],
            Node::All(several) | Node::Any(several) => {
                several.iter().flat_map(Self::terms).collect()
            }
        }
    }

    /// Whether it is met where some of its [`terms`](Self::terms) hold, by their number.
    pub(super) fn is_met_by(&self, holds: impl Fn(usize) -> bool) -> bool {
        fn is_met(condition: &Condition, next: &mut usize, holds: &impl Fn(usize) -> bool) -> bool {
            match &condition.0 {
                Node::Has(_) => {
                    *next += 1;
                    holds(*next - 1)
                }
                Node::All(several) | Node::Any(several) => {
                    // All of them, since each term has its number.
                    let met: Vec<bool> = several.iter().map(|c| is_met(c, next, holds)).collect();
                    match condition.0 {
                        Node::All(_) => met.iter().all(|is_met| *is_met),
                        _ => met.iter().any(|is_met| *is_met),
                    }
                }
            }
        }
        is_met(self, &mut 0, &holds)
    }

    /// What is left of it in a space of which some hyperparameters are constants and some are gone; `places` says where
    /// each of those that it may name is now.
    pub(super) fn remaining(
        &self,
        places: &[Option<usize>],
        hyperparameters: &[Hyperparameter],
    ) -> Remaining {
        let rest = |several: &[Self]| -> Vec<Remaining> {
            let rest = several.iter().map(|c| c.remaining(places, hyperparameters));
            rest.collect()
        };
        match &self.0 {
            Node::Has(term) => {
                let Some(place) = places[term.index] else {
                    return Remaining::Never;
                };
                let parent = &hyperparameters[place];
                match &parent.kind {
                    Kind::Constant { value } if !term.contains(value) => Remaining::Never,
                    Kind::Constant { .. } if parent.condition.is_none() => Remaining::Always,
                    Kind::Constant { value } => Remaining::Condition(Self(Node::Has(Term {
                        written: Values::Several(vec![value.clone()]),
                        ..Term::of_constant(place, value)
                    }))),
                    _ => Remaining::Condition(Self(Node::Has(term.at(place)))),
                }
            }
            Node::All(all) => {
                Self::joined(rest(all), &Remaining::Never, &Remaining::Always, Node::All)
            }
            Node::Any(any) => {
                Self::joined(rest(any), &Remaining::Always, &Remaining::Never, Node::Any)
            }
        }
    }

    /// Several joined to one: `decisive` decides alone, `idle` adds nothing.
    fn joined(
        rest: Vec<Remaining>,
        decisive: &Remaining,
        idle: &Remaining,
        join: impl Fn(Vec<Self>) -> Node,
    ) -> Remaining {
        if rest.contains(decisive) {
            return decisive.clone();
        }
        let left = rest.into_iter().filter_map(|remaining| match remaining {
            Remaining::Condition(condition) => Some(condition),
            Remaining::Always | Remaining::Never => None,
        });
        let mut left: Vec<Self> = left.collect();
        match left.len() {
            0 => idle.clone(),
            1 => Remaining::Condition(left.remove(0)),
            _ => Remaining::Condition(Self(join(left))),
        }
    }
}
