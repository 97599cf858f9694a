//! From a forbidden configuration to an allowed one by the shortest way.
//!
//! A best-first search over single changes that end a clause that holds: a number goes to the nearest value beyond
//! those forbidden, up or down; a level to any other one (ordinal: the nearest ones); or a hyperparameter above makes
//! one of the clause inactive (or, where that takes several changes, is one of them). The distance is the sum over the dimensions of differences in the encoding (ordinals over
//! their range, categories 1). To it is added what has to be changed at least: the smallest changes that end clauses
//! that have no hyperparameter in common. Some nearest configuration is reached by such changes alone, none of which
//! leads away from it, and the estimate is never too large, so the first allowed configuration found is a nearest one;
//! of several, the one that was reached first.
//!
//! Whether anything is allowed at all is a question that no program answers fast for all clauses, so the search ends
//! after [`MOST_STEPS`] steps. It is then done again with the estimate counted tenfold, which finds an allowed
//! configuration sooner, near but perhaps not nearest. If that fails too, a space is refused, and a suggestion is
//! replaced by the allowed configuration that was found when the space was checked.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::super::clause::{Clause, Term};
use super::super::{Condition, Hyperparameter, Kind, SearchSpace};
use crate::value::Value;

/// Assignments looked at before a search is given up.
const MOST_STEPS: usize = 1000;
/// How much the estimate counts in the first search, and in the second.
const ESTIMATE_FACTORS: [f64; 2] = [1.0, 10.0];

/// Why no allowed assignment was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoneAllowed {
    /// There is none.
    Nowhere,
    /// There may be one, but the search for it takes too long.
    GivenUp,
}

/// The allowed assignment nearest to this one, or one near it.
pub(super) fn nearest_allowed(
    space: &SearchSpace,
    from: &[Value],
) -> Result<Vec<Value>, NoneAllowed> {
    let mut last = NoneAllowed::Nowhere;
    for factor in ESTIMATE_FACTORS {
        match search(space, from, factor) {
            Err(NoneAllowed::GivenUp) => last = NoneAllowed::GivenUp,
            done => return done,
        }
    }
    Err(last)
}

fn search(space: &SearchSpace, from: &[Value], factor: f64) -> Result<Vec<Value>, NoneAllowed> {
    let mut queue = BinaryHeap::new();
    let mut seen = BTreeSet::new();
    let mut add = |queue: &mut BinaryHeap<_>, changes: BTreeMap<usize, Value>| {
        let key: Vec<(usize, String)> = changes
            .iter()
            .map(|(index, value)| (*index, value.to_string()))
            .collect();
        let number = seen.len();
        if !seen.insert(key) {
            return;
        }
        let mut values = from.to_vec();
        for (index, value) in &changes {
            values[*index] = value.clone();
        }
        let distances = changes
            .iter()
            .map(|(index, value)| distance(&space.hyperparameters[*index], &from[*index], value));
        let done: f64 = distances.sum();
        let left = estimate(space, &values);
        // Infinite where a clause cannot be ended: nothing behind it is allowed.
        if left.is_finite() {
            queue.push(Reverse(Step {
                length: done + factor * left,
                number,
                changes,
                values,
            }));
        }
    };
    add(&mut queue, BTreeMap::new());
    for _ in 0..MOST_STEPS {
        let Some(Reverse(step)) = queue.pop() else {
            return Err(NoneAllowed::Nowhere);
        };
        let is_active = space.activity(&step.values);
        let Some(clause) = holding(space, &step.values, &is_active).next() else {
            return Ok(step.values);
        };
        for (index, value) in ways_out(space, clause, &step.values) {
            let mut changes = step.changes.clone();
            if value == from[index] {
                changes.remove(&index);
            } else {
                changes.insert(index, value);
            }
            add(&mut queue, changes);
        }
    }
    Err(NoneAllowed::GivenUp)
}

/// The clauses that hold.
pub(super) fn holding<'a>(
    space: &'a SearchSpace,
    values: &[Value],
    is_active: &[bool],
) -> impl Iterator<Item = &'a Clause> {
    space.forbidden.iter().filter(|clause| {
        clause
            .terms
            .iter()
            .all(|term| is_active[term.index] && term.contains(&values[term.index]))
    })
}

/// What has to be changed at least; infinite where a clause cannot be ended.
fn estimate(space: &SearchSpace, values: &[Value]) -> f64 {
    let mut touched = vec![false; values.len()];
    let mut sum = 0.0;
    let is_active = space.activity(values);
    for clause in holding(space, values, &is_active) {
        let involved: Vec<usize> = clause
            .terms
            .iter()
            .flat_map(|term| with_ancestors(space, term.index))
            .collect();
        if involved.iter().any(|index| touched[*index]) {
            continue;
        }
        for index in involved {
            touched[index] = true;
        }
        let smallest = ways_out(space, clause, values)
            .into_iter()
            .map(|(index, value)| distance(&space.hyperparameters[index], &values[index], &value))
            .fold(f64::INFINITY, f64::min);
        sum += smallest;
    }
    sum
}

/// A hyperparameter and those that it depends on, each once, the nearest first.
fn with_ancestors(space: &SearchSpace, index: usize) -> Vec<usize> {
    let mut found = vec![index];
    let mut next = 0;
    while let Some(index) = found.get(next) {
        let condition = space.hyperparameters[*index].condition.as_ref();
        for term in condition.into_iter().flat_map(Condition::terms) {
            if !found.contains(&term.index) {
                found.push(term.index);
            }
        }
        next += 1;
    }
    found
}

/// Single changes after which a clause that holds need not hold any more, or is nearer to that.
fn ways_out(space: &SearchSpace, clause: &Clause, values: &[Value]) -> Vec<(usize, Value)> {
    let mut ways = Vec::new();
    let mut leave = |term: &Term| {
        let others = term.set.leave(&term.kind, &values[term.index]);
        ways.extend(others.into_iter().map(|value| (term.index, value)));
    };
    for term in &clause.terms {
        leave(term);
        // Or it becomes inactive.
        for child in with_ancestors(space, term.index) {
            let condition = space.hyperparameters[child].condition.as_ref();
            let terms = condition.into_iter().flat_map(Condition::terms);
            for term in terms.filter(|term| term.contains(&values[term.index])) {
                leave(term);
            }
        }
    }
    ways
}

/// How far two values of a hyperparameter are apart.
pub(super) fn distance(hyperparameter: &Hyperparameter, a: &Value, b: &Value) -> f64 {
    if a == b {
        return 0.0;
    }
    let kind = &hyperparameter.kind;
    let encoded = kind.encode(a).zip(kind.encode(b));
    let difference = encoded.map_or(1.0, |(a, b)| (a - b).abs());
    match kind {
        Kind::Ordinal { sequence } => difference / (sequence.len() - 1).max(1) as f64,
        Kind::Categorical { .. } | Kind::Constant { .. } => 1.0,
        Kind::Float { .. } | Kind::Integer { .. } => difference,
    }
}

/// An assignment on the way, ordered by the length of the way and then by when it was reached.
#[derive(Debug)]
struct Step {
    length: f64,
    number: usize,
    /// What is not as it was, by index.
    changes: BTreeMap<usize, Value>,
    values: Vec<Value>,
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        self.length
            .total_cmp(&other.length)
            .then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Step {}
