//! Method `reinforce`: a controller that learns to choose by policy gradient, at the largest budget.
//!
//! A number is one of [`BINS`] equal bins and a uniform value within, all else a level. After each [`BATCH`] results the
//! controller takes [`PASSES`] steps of proximal policy optimisation (Schulman et al. 2017) on them,
//!
//! ```text
//! maximise  mean over choices of  min(q A, clip(q, 1 ± 0.2) A) + 0.02 entropy
//! q = probability of the choice now / before these steps
//! A = R - b,  R = share of the earlier results that are worse,  b = moving average of R
//! ```
//! R takes the ranks, not the losses, so it does not depend on their scale. Failures have R = 0.
//!
//! Range of validity: any space; an inactive dimension learns nothing from a result. Before the first batch: draws from
//! the prior.
//!
//! # Source
//! Zoph et al. 2018, Learning Transferable Architectures for Scalable Image Recognition: an LSTM that chooses one after
//! the other, trained by this rule; with 24 units for 100, and steps that are larger, since a search here has hundreds of
//! trainings and not 20,000. Searches of the first two revisions have the [`independent`] policy.

mod controller;
pub(super) mod independent;

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::{Ranked, Seed};

use self::controller::{Choices, Controller};
use crate::history::History;
use crate::kde::Dimension;
use crate::method::{Ask, Method, Suggestion, random};

/// Bins of a number.
const BINS: usize = 8;
/// Results that are learnt from together.
const BATCH: usize = 5;
/// Steps on each batch.
const PASSES: usize = 8;
/// How far the probability of a choice moves before nothing is gained by moving it further.
const CLIP: f64 = 0.2;
/// Weight of the entropy.
const ENTROPY: f64 = 0.02;
/// What the baseline keeps of itself at each result.
const BASELINE_DECAY: f64 = 0.9;

/// The controller, and what it has learnt from.
#[derive(Debug)]
pub struct Reinforce {
    dimensions: Vec<Dimension>,
    controller: Controller,
    baseline: f64,
    /// Results seen, best first.
    seen: Vec<Ranked>,
    /// What was chosen and its advantage, for results not learnt from yet.
    batch: Vec<(Choices, f64)>,
}

impl Reinforce {
    /// The controller that draws from the prior.
    pub fn new(dimensions: Vec<Dimension>, seed: Seed) -> Self {
        let choices = dimensions.iter().map(|k| k.levels().unwrap_or(BINS));
        let mut rng = seed.child("controller", "").rng();
        Self {
            controller: Controller::new(choices.collect(), &mut rng),
            dimensions,
            baseline: 0.5,
            seen: Vec::new(),
            batch: Vec::new(),
        }
    }

    fn learn(&mut self, result: Ranked, vector: &[f64]) {
        let reward = insert(&mut self.seen, result);
        let choices = self.dimensions.iter().zip(vector);
        let choices = choices.map(|(dimension, x)| (!x.is_nan()).then(|| choice(*dimension, *x)));
        self.batch.push((choices.collect(), reward - self.baseline));
        self.baseline = BASELINE_DECAY * self.baseline + (1.0 - BASELINE_DECAY) * reward;
        if self.batch.len() == BATCH {
            let batch = std::mem::take(&mut self.batch);
            improve(&mut self.controller, &batch);
        }
    }

    fn draw(&self, rng: &mut ChaCha12Rng) -> Vec<f64> {
        let drawn = self.controller.draw(rng);
        let drawn = drawn.into_iter().zip(&self.dimensions);
        drawn
            .map(|(drawn, dimension)| coordinate(*dimension, drawn, rng))
            .collect()
    }
}

impl Method for Reinforce {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let results = history.arrivals();
        for result in &results[self.seen.len()..] {
            self.learn(*result, history.vector(result.job.configuration));
        }
        let mut rng = ask.seed.rng();
        let num_learnt = self.seen.len() - self.batch.len();
        if num_learnt == 0 {
            let reason = format!("the controller learns from {BATCH} results at once");
            return random::draw(history, &mut rng, reason);
        }
        let vector = history
            .space()
            .first_allowed(&mut rng, |rng| self.draw(rng));
        Suggestion {
            vector,
            source: "policy",
            reason: format!(
                "drawn by the controller, one hyperparameter after the other, after {num_learnt} results"
            ),
            model: None,
        }
    }
}

/// Puts a result in its place; returns its reward, the share of the earlier ones that are worse.
fn insert(seen: &mut Vec<Ranked>, result: Ranked) -> f64 {
    let place = seen.partition_point(|other| other.score <= result.score);
    let num_worse = seen.len() - place;
    let reward = if result.score.loss().is_none() {
        0.0
    } else {
        (num_worse as f64 + 0.5) / (seen.len() as f64 + 1.0)
    };
    seen.insert(place, result);
    reward
}

/// Some steps of proximal policy optimisation on a batch of choices and their advantages.
fn improve(controller: &mut Controller, batch: &[(Choices, f64)]) {
    let before: Vec<Vec<Vec<f64>>> = batch
        .iter()
        .map(|(choices, _)| controller.probabilities(choices))
        .collect();
    let num_choices = batch
        .iter()
        .flat_map(|(choices, _)| choices)
        .flatten()
        .count();
    for _ in 0..PASSES {
        let mut gradient = vec![0.0; controller.num_weights()];
        for ((choices, advantage), before) in batch.iter().zip(&before) {
            let slopes = |j: usize, now: &[f64]| match choices[j] {
                Some(chosen) => slopes(chosen, *advantage, now, &before[j], num_choices),
                None => vec![0.0; now.len()],
            };
            controller.add_gradient(choices, slopes, &mut gradient);
        }
        controller.descend(&gradient);
    }
}

/// The slopes along one choice's logits of minus the mean that is maximised.
fn slopes(chosen: usize, advantage: f64, now: &[f64], before: &[f64], number: usize) -> Vec<f64> {
    let quotient = now[chosen] / before[chosen];
    let is_clipped =
        (advantage > 0.0 && quotient > 1.0 + CLIP) || (advantage < 0.0 && quotient < 1.0 - CLIP);
    let gain = if is_clipped {
        0.0
    } else {
        advantage * quotient
    };
    let entropy: f64 = now.iter().map(|p| -p * ln(*p)).sum();
    let along = |(i, p): (usize, &f64)| {
        let indicator = f64::from(u8::from(i == chosen));
        let of_entropy = -p * (ln(*p) + entropy);
        -(gain * (indicator - p) + ENTROPY * of_entropy) / number as f64
    };
    now.iter().enumerate().map(along).collect()
}

/// The logarithm, finite for a probability that has vanished.
fn ln(probability: f64) -> f64 {
    libm::log(probability.max(f64::MIN_POSITIVE))
}

/// A coordinate of one of a dimension's choices.
fn coordinate(dimension: Dimension, choice: usize, rng: &mut ChaCha12Rng) -> f64 {
    match dimension {
        Dimension::Continuous => (choice as f64 + rng.random::<f64>()) / BINS as f64,
        Dimension::Unordered { .. } | Dimension::Ordered { .. } => choice as f64,
    }
}

/// Which of a dimension's choices a coordinate is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "coordinates are not negative, and the cast saturates"
)]
fn choice(dimension: Dimension, x: f64) -> usize {
    match dimension {
        Dimension::Continuous => ((x * BINS as f64) as usize).min(BINS - 1),
        Dimension::Unordered { levels } | Dimension::Ordered { levels } => {
            (x.round() as usize).min(levels - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::{ConfigurationId, Score};

    use super::*;

    /// Teaches a controller results of which every pair of choices is as frequent, and the equal ones are good.
    fn taught(number: u32) -> Reinforce {
        let mut method = Reinforce::new(vec![Dimension::Unordered { levels: 3 }; 2], Seed::new(4));
        let mut rng = Seed::new(5).rng();
        for id in 0..number {
            let vector = [0, 1].map(|_| f64::from(rng.random_range(0..3_u8)));
            let is_pair = (vector[0] - vector[1]).abs() < 0.5;
            let result = Ranked {
                score: Score::Loss(f64::from(u8::from(!is_pair)) + 0.1 * rng.random::<f64>()),
                job: ConfigurationId(id).job(0),
            };
            method.learn(result, &vector);
        }
        method
    }

    #[test]
    fn the_controller_learns_that_two_choices_belong_together() {
        // Neither choice is better than the others alone: independent policies learn nothing here.
        let method = taught(200);
        for first in 0..3 {
            let of_second = &method.controller.probabilities(&vec![Some(first), None])[1];
            assert!(of_second[first] > 0.8, "after {first}: {of_second:?}");
        }
    }

    #[test]
    fn it_learns_from_whole_batches_only() {
        let probabilities = |number| taught(number).controller.probabilities(&vec![None, None]);
        assert_eq!(probabilities(4), probabilities(0));
        assert_ne!(probabilities(5), probabilities(0));
        assert_eq!(probabilities(9), probabilities(5));
    }

    #[test]
    fn nothing_is_gained_beyond_the_clip() {
        let before = [0.5, 0.5];
        let entropy_only = |chosen, advantage, now: [f64; 2]| {
            let clipped = slopes(chosen, advantage, &now, &before, 1);
            let without = slopes(chosen, 0.0, &now, &before, 1);
            clipped == without
        };
        assert!(entropy_only(0, 1.0, [0.61, 0.39]) && !entropy_only(0, 1.0, [0.59, 0.41]));
        assert!(entropy_only(0, -1.0, [0.39, 0.61]) && !entropy_only(0, -1.0, [0.41, 0.59]));
        // What was bad and has become likelier is not left alone.
        assert!(!entropy_only(0, -1.0, [0.7, 0.3]));
    }

    #[test]
    fn entropy_draws_towards_equal_shares() {
        let slopes = slopes(0, 0.0, &[0.9, 0.1], &[0.9, 0.1], 1);
        // Descending against them makes the likelier one less so.
        assert!(slopes[0] > 0.0 && slopes[1] < 0.0, "{slopes:?}");
    }
}
