//! Forbidden combinations, checked: sets of values, one for each hyperparameter that a combination names.

use std::collections::BTreeSet;

use super::Kind;
use super::values::Values;
use crate::value::Value;

/// A checked combination.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Clause {
    pub(super) terms: Vec<Term>,
}

/// One hyperparameter of a combination.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    /// Index in the space.
    pub(super) index: usize,
    pub(super) written: Values,
    /// The kind of the hyperparameter, which the set is about.
    pub(super) kind: Kind,
    pub(super) set: Set,
}

impl Clause {
    pub(super) fn terms(&self) -> &[Term] {
        &self.terms
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub(super) fn push(&mut self, term: Term) {
        self.terms.push(term);
    }
}

impl Term {
    /// Which hyperparameter of the space it is about.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Its values.
    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    pub(super) fn contains(&self, value: &Value) -> bool {
        self.set.contains(&self.kind, value)
    }

    /// The same where the hyperparameter stands elsewhere.
    pub(super) fn at(&self, index: usize) -> Self {
        Self {
            index,
            ..self.clone()
        }
    }

    /// A constant has its value.
    pub(super) fn of_constant(index: usize, value: &Value) -> Self {
        let kind = Kind::Constant {
            value: value.clone(),
        };
        Self {
            index,
            written: Values::One(value.clone()),
            set: Set::of(&kind, std::slice::from_ref(value)),
            kind,
        }
    }
}

/// Some values of a hyperparameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Set {
    /// Numbers, as intervals with both ends.
    Intervals(Vec<(f64, f64)>),
    /// Levels, by their number.
    Levels(BTreeSet<usize>),
}

impl Set {
    /// Some of the values of a kind; each is a value of it.
    pub(super) fn of(kind: &Kind, values: &[Value]) -> Self {
        match kind {
            Kind::Float { .. } | Kind::Integer { .. } => {
                let numbers = values.iter().filter_map(Value::as_f64);
                Self::Intervals(numbers.map(|x| (x, x)).collect())
            }
            Kind::Ordinal { .. } | Kind::Categorical { .. } | Kind::Constant { .. } => {
                Self::Levels(values.iter().filter_map(|v| level(kind, v)).collect())
            }
        }
    }

    /// Its numbers, as intervals with both ends.
    pub(super) fn intervals(&self) -> &[(f64, f64)] {
        match self {
            Self::Intervals(intervals) => intervals,
            Self::Levels(_) => &[],
        }
    }

    /// Whether it has a level.
    pub(super) fn has_level(&self, level: usize) -> bool {
        match self {
            Self::Intervals(_) => false,
            Self::Levels(levels) => levels.contains(&level),
        }
    }

    pub(super) fn contains(&self, kind: &Kind, value: &Value) -> bool {
        match self {
            Self::Intervals(intervals) => value
                .as_f64()
                .is_some_and(|x| intervals.iter().any(|(a, b)| (*a..=*b).contains(&x))),
            Self::Levels(levels) => level(kind, value).is_some_and(|l| levels.contains(&l)),
        }
    }

    /// The values nearest to one of these that are not among these, or all of them where there is no order.
    pub(super) fn leave(&self, kind: &Kind, value: &Value) -> Vec<Value> {
        match (self, kind) {
            (Self::Intervals(intervals), _) => {
                let Some(x) = value.as_f64() else {
                    return Vec::new();
                };
                [true, false]
                    .into_iter()
                    .filter_map(|is_upwards| beyond(intervals, kind, x, is_upwards))
                    .collect()
            }
            (Self::Levels(levels), Kind::Ordinal { sequence }) => {
                let Some(from) = level(kind, value) else {
                    return Vec::new();
                };
                let is_free = |l: &usize| !levels.contains(l);
                let (below, above) = (
                    (0..from).rev().find(is_free),
                    (from..sequence.len()).find(is_free),
                );
                [below, above]
                    .into_iter()
                    .flatten()
                    .map(|l| sequence[l].clone())
                    .collect()
            }
            (Self::Levels(levels), Kind::Categorical { choices }) => (0..choices.len())
                .filter(|l| !levels.contains(l))
                .map(|l| choices[l].clone())
                .collect(),
            (
                Self::Levels(_),
                Kind::Constant { .. } | Kind::Float { .. } | Kind::Integer { .. },
            ) => Vec::new(),
        }
    }
}

/// The number of a level.
fn level(kind: &Kind, value: &Value) -> Option<usize> {
    match kind {
        Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels } => {
            levels.iter().position(|level| level.same(value))
        }
        Kind::Constant { value: only } => only.same(value).then_some(0),
        Kind::Float { .. } | Kind::Integer { .. } => None,
    }
}

/// The nearest number outside all intervals on one side; `None` where the range ends before.
fn beyond(intervals: &[(f64, f64)], kind: &Kind, mut x: f64, is_upwards: bool) -> Option<Value> {
    while let Some((a, b)) = intervals.iter().find(|(a, b)| (*a..=*b).contains(&x)) {
        x = match (kind, is_upwards) {
            (Kind::Integer { .. }, true) => b.floor() + 1.0,
            (Kind::Integer { .. }, false) => a.ceil() - 1.0,
            (_, true) => b.next_up(),
            (_, false) => a.next_down(),
        };
    }
    kind.typed(&Value::Float(x))
}
