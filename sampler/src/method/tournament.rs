//! Method `tournament`: evolution by tournament selection, at the largest budget.
//!
//! The population are all results; nobody ever leaves it. A proposal draws [`SHARE`] of them and mutates the best: one
//! hyperparameter that is active takes one step of its own. Whole numbers and ordinals go to a neighbouring value,
//! categories to any other one, other numbers by a normal step.
//!
//! Range of validity: any space. Fewer than [`POPULATION`] results: draws from the prior. Failures take part and lose every
//! tournament against a loss; equal results: the older job wins.
//!
//! # Source
//! Liu et al. 2018, Hierarchical Representations for Efficient Architecture Search: tournaments of 5 % of a population that
//! only grows. Theirs starts with 200 genotypes and mutates edges of a graph; here it starts with 20, since a search has
//! hundreds of trainings and not 7,000, and mutates values. `evolution` is the regularised form, in which the oldest leaves.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::space::Kind;
use shared::{SearchSpace, Value};

use crate::history::History;
use crate::method::{Ask, Method, Suggestion, random};
use crate::normal;

/// Results before the first tournament.
const POPULATION: usize = 20;
/// Share of the population that enters a tournament; two at least.
const SHARE: f64 = 0.05;
/// Standard deviation of the step of a number that is not whole, as a share of its range.
const STEP: f64 = 0.2;

/// Mutates the best of a few.
#[derive(Debug)]
pub struct Tournament;

impl Method for Tournament {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        let population = history.arrivals();
        if population.len() < POPULATION || history.space().num_dimensions() == 0 {
            let reason = format!("the population needs {POPULATION} results");
            return random::draw(history, &mut rng, reason);
        }
        let entrants = num_entrants(population.len());
        let parent = (0..entrants)
            .map(|_| population[rng.random_range(0..population.len())])
            .min()
            .expect("a tournament has entrants");
        let parent = parent.job.configuration;
        let known = history.vector(parent);
        let space = history.space();
        let vector = space.first_allowed(&mut rng, |rng| mutate(space, known, rng));
        Suggestion {
            vector,
            source: "mutation",
            reason: format!(
                "{parent} won a tournament of {entrants} of {} results; one hyperparameter goes one step",
                population.len()
            ),
            model: None,
        }
    }
}

/// How many enter a tournament.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of what is in memory"
)]
fn num_entrants(population: usize) -> usize {
    ((population as f64 * SHARE).round() as usize).max(2)
}

/// The configuration with one step in one of its active dimensions.
fn mutate(space: &SearchSpace, known: &[f64], rng: &mut ChaCha12Rng) -> Vec<f64> {
    // Dimensions that become active by the mutation need a value: that of a draw.
    let mut vector = space.sample(rng);
    let active: Vec<usize> = (0..known.len()).filter(|j| !known[*j].is_nan()).collect();
    for j in &active {
        vector[*j] = known[*j];
    }
    let j = active[rng.random_range(0..active.len())];
    if let Some(hyperparameter) = space.dimensions().nth(j) {
        vector[j] = step(&hyperparameter.kind, vector[j], rng);
    }
    vector
}

/// A coordinate one step away.
fn step(kind: &Kind, x: f64, rng: &mut ChaCha12Rng) -> f64 {
    let is_up = rng.random::<bool>();
    // At an end there is one neighbour only.
    let neighbour = |number: i64, lower: i64, upper: i64| match (number > lower, number < upper) {
        (true, true) => number + if is_up { 1 } else { -1 },
        (true, false) => number - 1,
        (false, true) => number + 1,
        (false, false) => number,
    };
    match kind {
        Kind::Integer { lower, upper, .. } => {
            let Value::Integer(number) = kind.decode(x) else {
                return x;
            };
            let value = Value::Integer(neighbour(number, *lower, *upper));
            kind.encode(&value).unwrap_or(x)
        }
        Kind::Ordinal { sequence } => {
            let last = sequence.len().saturating_sub(1) as f64;
            match (x > 0.0, x < last) {
                (true, true) => x + if is_up { 1.0 } else { -1.0 },
                (true, false) => x - 1.0,
                (false, true) => x + 1.0,
                (false, false) => x,
            }
        }
        Kind::Categorical { choices } if choices.len() > 1 => {
            let other = rng.random_range(0..choices.len() - 1) as f64;
            other + f64::from(u8::from(other >= x))
        }
        Kind::Float { .. } => normal::draw_in_unit_interval(x, STEP, rng),
        Kind::Categorical { .. } | Kind::Constant { .. } => x,
    }
}

#[cfg(test)]
mod tests {
    use shared::space::SpaceFile;
    use shared::{Configuration, Seed};

    use super::*;

    const SPACE: &str = r#"{"hyperparameters":[
        {"name":"blocks","type":"integer","lower":1,"upper":16,"log":true},
        {"name":"size","type":"ordinal","sequence":[8,16,32,64]},
        {"name":"kind","type":"categorical","choices":["a","b","c"]},
        {"name":"rate","type":"float","lower":0,"upper":1}]}"#;

    #[test]
    fn a_mutation_is_one_step_in_one_hyperparameter() {
        let space = SearchSpace::new(&serde_json::from_str::<SpaceFile>(SPACE).unwrap()).unwrap();
        let parent = r#"{"blocks":5,"size":8,"kind":"b","rate":0.5}"#;
        let parent: Configuration = serde_json::from_str(parent).unwrap();
        let mut rng = Seed::new(1).rng();
        let (mut blocks, mut kinds) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            let child = space.decode(&mutate(&space, &space.encode(&parent), &mut rng));
            let changed = |(name, value): &(&str, &Value)| parent.get(name) != Some(value);
            let changes: Vec<(&str, &Value)> = child.iter().filter(changed).collect();
            let [(name, value)] = changes.as_slice() else {
                panic!("{changes:?}");
            };
            match *name {
                "blocks" => blocks.extend(value.as_i64()),
                "size" => assert_eq!(value.as_i64(), Some(16), "8 has one neighbour"),
                "kind" => kinds.push(value.to_string()),
                _ => {}
            }
        }
        blocks.sort_unstable();
        blocks.dedup();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(blocks, [4, 6]);
        assert_eq!(kinds, ["a", "c"]);
    }

    #[test]
    fn tournaments_grow_with_the_population() {
        assert_eq!([20, 40, 100, 1000].map(num_entrants), [2, 2, 5, 50]);
    }
}
