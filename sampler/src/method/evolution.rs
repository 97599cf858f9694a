//! Method `evolution`: regularised evolution, at the largest budget.
//!
//! The population are the [`POPULATION`] newest results. A proposal draws [`TOURNAMENT`] of them and mutates the best:
//! one hyperparameter that is active, a number by a normal step, a level to any other one. The oldest leaves when a new
//! result comes, however good it is.
//!
//! Range of validity: any space. Fewer results than the population needs: draws from the prior. Failures take part and
//! lose every tournament against a loss; equal results: the older job wins.
//!
//! # Source
//! Real et al. 2018, Regularized Evolution for Image Classifier Architecture Search, algorithm 1, with a population of
//! 20 for 100 and tournaments of 5 for 25, since a search here has hundreds of trainings and not 20,000.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use crate::history::History;
use crate::kde::Dimension;
use crate::method::{Ask, Method, Suggestion, random};
use crate::normal;

/// P in the paper.
const POPULATION: usize = 20;
/// S in the paper.
const TOURNAMENT: usize = 5;
/// Standard deviation of a number's step, as a share of its range.
const STEP: f64 = 0.2;

/// Mutates the best of a few of the newest.
#[derive(Debug)]
pub struct Evolution {
    dimensions: Vec<Dimension>,
}

impl Evolution {
    /// For the dimensions of a space.
    pub fn new(dimensions: Vec<Dimension>) -> Self {
        Self { dimensions }
    }
}

impl Evolution {
    fn mutate(&self, history: &History, known: &[f64], rng: &mut ChaCha12Rng) -> Vec<f64> {
        // Dimensions that become active by the mutation need a value: that of a draw.
        let mut vector = history.space().sample(rng);
        let active: Vec<usize> = (0..known.len()).filter(|j| !known[*j].is_nan()).collect();
        for j in &active {
            vector[*j] = known[*j];
        }
        let j = active[rng.random_range(0..active.len())];
        vector[j] = match self.dimensions[j].levels() {
            None => normal::draw_in_unit_interval(vector[j], STEP, rng),
            Some(levels) if levels > 1 => {
                let other = rng.random_range(0..levels - 1) as f64;
                if other >= vector[j] {
                    other + 1.0
                } else {
                    other
                }
            }
            Some(_) => vector[j],
        };
        vector
    }
}

impl Method for Evolution {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        let results = history.arrivals();
        if results.len() < POPULATION || self.dimensions.is_empty() {
            let reason = format!("the population needs {POPULATION} results");
            return random::draw(history, &mut rng, reason);
        }
        let population = &results[results.len() - POPULATION..];
        let parent = (0..TOURNAMENT)
            .map(|_| population[rng.random_range(0..POPULATION)])
            .min()
            .expect("a tournament has entrants");
        let parent = parent.job.configuration;
        let known = history.vector(parent);
        let vector = history
            .space()
            .first_allowed(&mut rng, |rng| self.mutate(history, known, rng));
        Suggestion {
            vector,
            source: "mutation",
            reason: format!(
                "{parent} won a tournament of {TOURNAMENT}; one hyperparameter is changed"
            ),
            model: None,
        }
    }
}
