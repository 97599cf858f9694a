//! Several objectives as one: another one for each proposal, so that all methods come to know the whole front.
//!
//! ```text
//! score = max_i w_i u_i + 0.05 Σ_i w_i u_i        augmented Chebyshev
//! u_i: the share of all results that is better in objective i, equal ones counting half
//! w:   even over the weights that sum to 1, drawn from the proposal's own seed
//! ```
//! With the maximum every point of the front is the best for some weights, also where the front is not convex; with the sum
//! nothing that is dominated is. Shares of results are used where `ParEGO` has shares of the range: objectives such as numbers of
//! parameters span magnitudes, and a single loss that is far off would hide all differences.
//!
//! Range of validity: two objectives or more; results without values (failures, broken constraints) keep their scores.
//!
//! # Source
//! Knowles 2006, `ParEGO`.

use rand::RngExt as _;
use shared::{Score, Search, Seed};

use crate::history::History;

/// The share of the sum beside the maximum.
const AUGMENTATION: f64 = 0.05;

/// What a proposal's weights make of several objectives.
#[derive(Debug)]
pub(crate) struct Scalarised {
    /// The history by the one objective that they make.
    pub(crate) history: History,
    weights: Vec<f64>,
}

impl Scalarised {
    /// For the proposal with a seed.
    pub(crate) fn new(search: &Search, history: &History, seed: Seed) -> Self {
        let weights = draw(search.objectives.len(), seed);
        let mut sorted: Vec<Vec<f64>> = vec![Vec::new(); weights.len()];
        let points = history.arrivals().iter().filter_map(|r| r.score.point());
        for point in points {
            for (values, value) in sorted.iter_mut().zip(point.values()) {
                values.push(*value);
            }
        }
        for values in &mut sorted {
            values.sort_unstable_by(f64::total_cmp);
        }
        let score = |score: Score| match score.point() {
            None => score,
            Some(point) => {
                let values = point.values().iter().zip(&sorted);
                let shares = values.map(|(value, sorted)| share_better(sorted, *value));
                Score::Loss(chebyshev(&weights, shares))
            }
        };
        Self {
            history: history.rescored(score),
            weights,
        }
    }

    /// The weights in words.
    pub(crate) fn in_words(&self, search: &Search) -> String {
        let names = search.objectives.iter().zip(&self.weights);
        let words: Vec<String> = names.map(|(name, w)| format!("{name} {w:.2}")).collect();
        format!("with the weights {}", words.join(", "))
    }
}

fn draw(number: usize, seed: Seed) -> Vec<f64> {
    let mut rng = seed.child("weights", "").rng();
    // Exponential draws, divided by their sum.
    let drawn: Vec<f64> = (0..number)
        .map(|_| -libm::log1p(-rng.random::<f64>()))
        .collect();
    let sum: f64 = drawn.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    drawn.iter().map(|x| x / sum).collect()
}

fn share_better(sorted: &[f64], value: f64) -> f64 {
    let better = sorted.partition_point(|other| *other < value);
    let no_worse = sorted.partition_point(|other| *other <= value);
    (better + no_worse) as f64 / 2.0 / sorted.len() as f64
}

fn chebyshev(weights: &[f64], shares: impl Iterator<Item = f64>) -> f64 {
    let (mut largest, mut sum) = (0.0, 0.0);
    for (weight, share) in weights.iter().zip(shares) {
        largest = f64::max(largest, weight * share);
        sum += weight * share;
    }
    largest + AUGMENTATION * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_even_over_those_that_sum_to_one_and_what_is_dominated_scores_worse() {
        for number in 2..=4 {
            let mut mean = vec![0.0; number];
            for seed in 0..2000 {
                let weights = draw(number, Seed::new(seed));
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                mean.iter_mut()
                    .zip(&weights)
                    .for_each(|(m, w)| *m += w / 2000.0);
                let of = |shares: &[f64]| chebyshev(&weights, shares.iter().copied());
                assert!(
                    of(&vec![0.5; number]) > of(&[&[0.4][..], &vec![0.5; number - 1]].concat())
                );
            }
            let even = 1.0 / number as f64;
            assert!(mean.iter().all(|m| (m - even).abs() < 0.03), "{mean:?}");
        }
        assert!((share_better(&[1.0, 2.0, 2.0, 3.0], 2.0) - 0.5).abs() < 1e-12);
    }
}
